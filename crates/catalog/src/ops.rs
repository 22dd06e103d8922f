//! What each operation does. All of them decide first and change rows afterwards: whoever is refused has
//! changed nothing.

mod bucket;
mod cluster;
mod complete;
mod copy;
mod object;
mod upload;

use types::command::Op;
use types::fact::Fact;
use types::object::Body;
use types::state::Table;
use types::{OrderKey, Outcome, Refusal, Timestamp};

use types::limits::PLACEMENT_AGE_NS_MAX;

use crate::draft::Draft;
use crate::execute::{Run, Stop};
use crate::rows::{BodyAt, BucketRow, body_key, key};

/// Applies a checked command. `fact` describes it; the operation adds what it finds.
pub(crate) fn apply(run: &mut Run<'_>, fact: &mut Fact) -> Result<Outcome, Stop> {
    let command = run.command;
    match &command.op {
        Op::Genesis(op) => cluster::genesis(run, op),
        Op::CreateBucket(op) => bucket::create(run, op),
        Op::DeleteBucket(op) => bucket::delete(run, op),
        Op::SetVersioning(op) => bucket::set_versioning(run, op),
        Op::PutObject(op) => object::put(run, op, fact),
        Op::DeleteObjects(op) => object::delete(run, op, fact),
        Op::CopyObject(op) => copy::copy(run, op, fact),
        Op::CreateUpload(op) => upload::create(run, op),
        Op::UploadPart(op) => upload::part(run, op, fact),
        Op::CompleteUpload(op) => complete::complete(run, op, fact),
        Op::AbortUpload(op) => upload::abort(run, op),
        Op::PutAccessKey(op) => cluster::put_access_key(run, op),
        Op::DeleteAccessKey(op) => cluster::delete_access_key(run, op),
        Op::PutNode(op) => cluster::put_node(run, op),
        Op::AdmitNode(op) => cluster::admit_node(run, op, fact),
        Op::BeginEpoch(op) => cluster::begin_epoch(run, op),
        Op::Barrier => Ok(Outcome::Done),
        Op::PutZone(op) => cluster::put_zone(run, op),
    }
}

/// The bucket, or the refusal that there is none.
fn bucket_row(draft: &Draft<'_>, name: &str) -> Result<BucketRow, Stop> {
    Ok(draft.row(&key::bucket(name))?.ok_or(Refusal::NoSuchBucket)?)
}

/// A body must have been placed so recently that collection cannot have taken it: it takes nothing younger
/// than twice that age. A placing clock far ahead would void that bound, so it is refused alike.
fn check_age(body: &Body, now: Timestamp) -> Result<(), Refusal> {
    let Body::Placed(placement) = body else { return Ok(()) };
    let fresh = placement.placed_at >= now.minus_ns(PLACEMENT_AGE_NS_MAX)
        && placement.placed_at <= now.plus_ns(PLACEMENT_AGE_NS_MAX);
    if fresh { Ok(()) } else { Err(Refusal::PlacementTooOld) }
}

/// Keeps the bytes of a body, or a reference to them, for what `order` writes.
fn attach(draft: &mut Draft<'_>, body: &Body, order: OrderKey, number: u16) -> BodyAt {
    match body {
        Body::Inline(bytes) if bytes.is_empty() => BodyAt::Nothing,
        Body::Inline(bytes) => {
            draft.put(Table::Bodies, body_key(order, number).to_vec(), bytes.clone());
            BodyAt::Inline
        }
        Body::Placed(placement) => {
            draft.put(Table::Catalog, key::reference(placement.id, order, number), bytes::Bytes::new());
            BodyAt::Placed(placement.clone())
        }
    }
}

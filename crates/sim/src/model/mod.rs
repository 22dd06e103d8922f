//! What the node must answer: a plain model of buckets, objects, uploads and retries, written without a look
//! at rows, slots or blocks. Given the commands in their order it gives the outcomes, down to the last field.

mod objects;
mod uploads;

use std::collections::BTreeMap;

use bytes::Bytes;
use types::command::{Command, Op, Versioning};
use types::object::Body;
use types::{CommandId, OrderKey, Outcome, Refusal, Timestamp};

pub use objects::{Content, Version};
pub use uploads::{Part, Upload};

/// Everything that the node should hold.
#[derive(Clone, Default, Debug)]
pub struct Model {
    /// The buckets by name.
    pub buckets: BTreeMap<String, Bucket>,
    /// Sealed secrets by access key id.
    pub access_keys: BTreeMap<String, Bytes>,
    /// The genesis was executed.
    pub founded: bool,
    /// Ledger entries told so far, without those of blocks.
    pub facts: u64,
    /// Outcomes kept for retries: what shares a window, newest last.
    windows: BTreeMap<String, Vec<Kept>>,
    /// Completions kept by bucket, key and upload.
    completed: BTreeMap<(String, String, OrderKey), Completion>,
}

/// A bucket.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// Who made it.
    pub owner: String,
    /// When.
    pub created: OrderKey,
    /// Its versioning.
    pub versioning: Versioning,
    /// The versions of each key, oldest first; never none.
    pub keys: BTreeMap<String, Vec<Version>>,
    /// Uploads in progress.
    pub uploads: BTreeMap<OrderKey, Upload>,
}

#[derive(Clone, Debug)]
struct Kept {
    at: Timestamp,
    principal: String,
    operation: u8,
    id: String,
    digest: [u8; 32],
    outcome: Outcome,
}

/// A completed upload: when, the parts that were listed, and what it gave.
type Completion = (Timestamp, Vec<(u16, String)>, Outcome);

/// Outcomes that a window keeps, and for how long: 15 minutes.
const WINDOW: usize = 16;
const WINDOW_NS: u64 = 15 * 60 * 1_000_000_000;
/// How old, or how far ahead, the placement of a body may be: 1 hour.
const PLACEMENT_NS: u64 = 60 * 60 * 1_000_000_000;

/// The command being executed, and its place.
#[derive(Clone, Copy)]
struct Place<'a> {
    command: &'a Command,
    timestamp: Timestamp,
    id: CommandId,
}

impl Place<'_> {
    fn order(&self, item: usize) -> OrderKey {
        OrderKey { timestamp: self.timestamp, id: self.id, item: u32::try_from(item).expect("few items") }
    }
}

impl Model {
    /// Executes the next command.
    pub fn execute(&mut self, timestamp: Timestamp, id: CommandId, command: &Command) -> Outcome {
        let place = Place { command, timestamp, id };
        self.facts += 1;
        let Some(token) = &command.request else { return self.apply(place) };
        let (operation, window) = window(&command.op);
        let kept = self.windows.entry(window.clone()).or_default();
        kept.retain(|kept| timestamp.0 - kept.at.0 < WINDOW_NS);
        let same =
            |kept: &&Kept| kept.id == token.id && kept.operation == operation && kept.principal == command.principal;
        if let Some(kept) = kept.iter().find(same) {
            return if kept.digest == token.digest {
                kept.outcome.clone()
            } else {
                Outcome::Refused(Refusal::RequestIdReused)
            };
        }
        let outcome = self.apply(place);
        if !matches!(outcome, Outcome::Refused(Refusal::NoSuchBucket | Refusal::PlacementTooOld)) {
            let kept = Kept {
                at: timestamp,
                principal: command.principal.clone(),
                operation,
                id: token.id.clone(),
                digest: token.digest,
                outcome: outcome.clone(),
            };
            let all = self.windows.entry(window).or_default();
            all.push(kept);
            if all.len() > WINDOW {
                all.remove(0);
            }
        }
        outcome
    }

    fn apply(&mut self, place: Place<'_>) -> Outcome {
        let done = match &place.command.op {
            Op::Genesis(_) => {
                self.founded = true;
                Ok(Outcome::Done)
            }
            Op::CreateBucket(op) => self.create_bucket(place, &op.bucket),
            Op::DeleteBucket(op) => self.delete_bucket(&op.bucket),
            Op::SetVersioning(op) => self.bucket(&op.bucket).map(|bucket| {
                bucket.versioning = op.versioning;
                Outcome::Done
            }),
            Op::PutObject(op) => self.put(place, op),
            Op::DeleteObjects(op) => self.delete(place, op),
            Op::CopyObject(op) => self.copy(place, op),
            Op::CreateUpload(op) => self.create_upload(place, op),
            Op::UploadPart(op) => self.upload_part(place, op),
            Op::CompleteUpload(op) => self.complete(place, op),
            Op::AbortUpload(op) => self.abort(op),
            Op::PutAccessKey(op) => {
                self.access_keys.insert(op.access_key.clone(), op.sealed.clone());
                Ok(Outcome::Done)
            }
            Op::DeleteAccessKey(op) => self.delete_access_key(&op.access_key),
            Op::PutNode(_) | Op::BeginEpoch(_) | Op::PutZone(_) | Op::Barrier => Ok(Outcome::Done),
            Op::AdmitNode(_) => unreachable!("the workload takes no nodes in"),
        };
        done.unwrap_or_else(Outcome::Refused)
    }

    /// Whether the body was placed recently enough that collection cannot have taken it.
    fn fresh(timestamp: Timestamp, body: &Body) -> Result<(), Refusal> {
        match body {
            Body::Placed(placement) if placement.placed_at.0.abs_diff(timestamp.0) > PLACEMENT_NS => {
                Err(Refusal::PlacementTooOld)
            }
            _ => Ok(()),
        }
    }

    fn bucket(&mut self, name: &str) -> Result<&mut Bucket, Refusal> {
        self.buckets.get_mut(name).ok_or(Refusal::NoSuchBucket)
    }

    fn create_bucket(&mut self, place: Place<'_>, name: &str) -> Result<Outcome, Refusal> {
        let owner = place.command.principal.clone();
        if let Some(bucket) = self.buckets.get(name) {
            let own = bucket.owner == owner;
            return Err(if own { Refusal::BucketAlreadyOwnedByYou } else { Refusal::BucketAlreadyExists });
        }
        let bucket = Bucket {
            owner,
            created: place.order(0),
            versioning: Versioning::Off,
            keys: BTreeMap::new(),
            uploads: BTreeMap::new(),
        };
        self.buckets.insert(name.to_owned(), bucket);
        Ok(Outcome::Done)
    }

    fn delete_bucket(&mut self, name: &str) -> Result<Outcome, Refusal> {
        if !self.bucket(name)?.keys.is_empty() {
            return Err(Refusal::BucketNotEmpty);
        }
        self.buckets.remove(name);
        Ok(Outcome::Done)
    }

    fn delete_access_key(&mut self, id: &str) -> Result<Outcome, Refusal> {
        match (self.access_keys.contains_key(id), self.access_keys.len()) {
            (false, _) => Err(Refusal::NoSuchAccessKey),
            (true, 1) => Err(Refusal::LastAccessKey),
            (true, _) => {
                self.access_keys.remove(id);
                Ok(Outcome::Done)
            }
        }
    }
}

/// The number of an operation and what names its window: retries are recognised per key, or per what a
/// command on all keys names.
fn window(op: &Op) -> (u8, String) {
    let key = |bucket: &str, key: &str| format!("object {bucket}/{key}");
    let bucket = |bucket: &str| format!("bucket {bucket}");
    let access_key = |id: &str| format!("access key {id}");
    match op {
        Op::Genesis(_) => (0, "genesis".to_owned()),
        Op::CreateBucket(op) => (1, bucket(&op.bucket)),
        Op::DeleteBucket(op) => (2, bucket(&op.bucket)),
        Op::SetVersioning(op) => (3, bucket(&op.bucket)),
        Op::PutObject(op) => (4, key(&op.bucket, &op.key)),
        Op::DeleteObjects(op) => (5, key(&op.bucket, op.items.first().map_or("", |item| &item.key))),
        Op::CopyObject(op) => (6, key(&op.bucket, &op.key)),
        Op::CreateUpload(op) => (7, key(&op.bucket, &op.key)),
        Op::UploadPart(op) => (8, key(&op.bucket, &op.key)),
        Op::CompleteUpload(op) => (9, key(&op.bucket, &op.key)),
        Op::AbortUpload(op) => (10, key(&op.bucket, &op.key)),
        Op::PutAccessKey(op) => (11, access_key(&op.access_key)),
        Op::DeleteAccessKey(op) => (12, access_key(&op.access_key)),
        Op::PutNode(op) => (13, format!("node {}", op.member.replica)),
        Op::Barrier => (17, "barrier".to_owned()),
        Op::AdmitNode(op) => (16, format!("node {}", op.label)),
        Op::BeginEpoch(_) => (14, "epoch".to_owned()),
        Op::PutZone(op) => (15, format!("zone {}", op.zone)),
    }
}

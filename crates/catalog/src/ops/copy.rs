//! Copying objects. The chunks of a body are never copied: the new version refers to the same placement, and
//! has a reference row of its own. Inline bytes are copied.

use types::command::{CopyObject, Source};
use types::fact::Fact;
use types::limits::PUT_LEN_MAX;
use types::state::{ReadError, StateRead, Table};
use types::{OrderKey, Outcome, Refusal};

use crate::draft::Draft;
use crate::execute::{Run, Stop};
use crate::rows::{BodyAt, ObjectRow, PartIndexRow, body_key, key};
use crate::versions::{self, Name};
use crate::{check, condition};

/// Writes an object from another one.
pub(super) fn copy(run: &mut Run<'_>, op: &CopyObject, fact: &mut Fact) -> Result<Outcome, Stop> {
    super::bucket_row(&run.draft, &op.source.bucket)?;
    let bucket = super::bucket_row(&run.draft, &op.bucket)?;
    let source = source(&run.draft, &op.source)?;
    fact.detail.version = Some(source.order);
    fact.detail.len = Some(source.len);
    fact.detail.digest = Some(source.digest);
    fact.detail.etag = Some(source.etag());
    condition::judge_source(&op.source.condition, &source).map_err(Stop::Condition)?;
    check::ensure(source.len <= PUT_LEN_MAX, "the source of a copy is over 5 GiB: copy it in parts")?;
    if op.expect.is_some_and(|digest| digest != source.digest) {
        return Err(Refusal::SourceChanged.into());
    }

    let name = Name { bucket: &op.bucket, key: &op.key };
    let current = versions::current(&run.draft, name)?;
    fact.detail.predecessor = current.as_ref().map(|row| row.order);
    let same_key = op.source.bucket == op.bucket && op.source.key == op.key;
    let onto_itself = same_key && current.as_ref().is_some_and(|row| row.order == source.order);
    if onto_itself && op.metadata.is_none() && op.checksum.is_none() {
        return Err(Refusal::CopyOntoItself.into());
    }
    condition::judge(&op.condition, current.as_ref()).map_err(Stop::Condition)?;

    let order = run.order(0);
    let row = ObjectRow {
        order,
        null: false,
        marker: false,
        checksum: op.checksum.clone().or_else(|| source.checksum.clone()),
        metadata: op.metadata.clone().unwrap_or_else(|| source.metadata.clone()),
        body: share(&mut run.draft, &source, order)?,
        null_below: None,
        ..source.clone()
    };
    let mut written = super::object::written(&bucket, &row);
    written.source_version = source.version_id();
    versions::write(&mut run.draft, name, bucket.versioning, current, row)?;
    Ok(Outcome::Written(written))
}

fn source(draft: &Draft<'_>, source: &Source) -> Result<ObjectRow, Stop> {
    let name = Name { bucket: &source.bucket, key: &source.key };
    let current = versions::current(draft, name)?;
    let row = match source.version {
        None => current.filter(|row| !row.marker).ok_or(Refusal::NoSuchKey)?,
        Some(version) => versions::named(draft, name, current.as_ref(), version)?.ok_or(Refusal::NoSuchVersion)?,
    };
    if row.marker { Err(Refusal::DeleteMarker.into()) } else { Ok(row) }
}

/// Gives `order` a body of its own with the bytes of `source`.
fn share(draft: &mut Draft<'_>, source: &ObjectRow, order: OrderKey) -> Result<BodyAt, ReadError> {
    let BodyAt::Parts(holder) = source.body else {
        return share_one(draft, &source.body, (source.order, 0), (order, 0));
    };
    for (number, mut part) in versions::parts(draft, holder)? {
        part.body = share_one(draft, &part.body, (part.order, number), (order, number))?;
        part.order = order;
        draft.put_row(key::part(order, number), &part);
    }
    let index: PartIndexRow = draft.row(&key::part_index(holder))?.ok_or_else(|| lost("part index"))?;
    draft.put_row(key::part_index(order), &index);
    Ok(BodyAt::Parts(order))
}

fn share_one(
    draft: &mut Draft<'_>,
    body: &BodyAt,
    from: (OrderKey, u16),
    to: (OrderKey, u16),
) -> Result<BodyAt, ReadError> {
    match body {
        BodyAt::Inline => {
            let bytes = draft.get(Table::Bodies, &body_key(from.0, from.1))?.ok_or_else(|| lost("body"))?;
            draft.put(Table::Bodies, body_key(to.0, to.1).to_vec(), bytes);
        }
        BodyAt::Placed(placement) => {
            draft.put(Table::Catalog, key::reference(placement.id, to.0, to.1), bytes::Bytes::new());
        }
        BodyAt::Nothing | BodyAt::Parts(_) => {}
    }
    Ok(body.clone())
}

/// A row refers to another one that is not there: the state is broken.
fn lost(what: &str) -> ReadError {
    ReadError(format!("the {what} of an object is missing"))
}

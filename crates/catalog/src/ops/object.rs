//! Writing and deleting objects.

use types::command::{DeleteItem, DeleteObjects, PutObject, Versioning};
use types::fact::Fact;
use types::limits::COMMAND_ROWS_MAX;
use types::outcome::{DeleteResult, Written};
use types::{OrderKey, Outcome, Refusal};

use crate::execute::{Run, Stop};
use crate::rows::{BodyAt, BucketRow, ObjectRow};
use crate::versions::{self, Name};
use crate::{check, condition, fact};

/// Writes an object.
pub(super) fn put(run: &mut Run<'_>, op: &PutObject, fact: &mut Fact) -> Result<Outcome, Stop> {
    let bucket = super::bucket_row(&run.draft, &op.bucket)?;
    super::check_age(&op.body, run.timestamp)?;
    let name = Name { bucket: &op.bucket, key: &op.key };
    let current = versions::current(&run.draft, name)?;
    fact.detail.predecessor = current.as_ref().map(|row| row.order);
    condition::judge(&op.condition, current.as_ref()).map_err(Stop::Condition)?;
    let order = run.order(0);
    let row = ObjectRow {
        order,
        null: false,
        marker: false,
        len: op.len,
        digest: op.digest,
        md5: op.md5,
        parts: 0,
        checksum: op.checksum.clone(),
        metadata: op.metadata.clone(),
        body: super::attach(&mut run.draft, &op.body, order, 0),
        null_below: None,
    };
    let written = written(&bucket, &row);
    versions::write(&mut run.draft, name, bucket.versioning, current, row)?;
    Ok(Outcome::Written(written))
}

/// What the client is told of a row that is about to be written.
pub(super) fn written(bucket: &BucketRow, row: &ObjectRow) -> Written {
    Written {
        order: row.order,
        version: (bucket.versioning == Versioning::Enabled).then_some(row.order),
        null_version: bucket.versioning == Versioning::Suspended,
        etag: row.etag(),
        checksum: row.checksum.clone(),
        modified_ms: row.modified_ms(),
        source_version: None,
        parts: row.parts,
        len: row.len,
    }
}

/// Deletes objects or versions: items are independent, and each sees what those before it did.
pub(super) fn delete(run: &mut Run<'_>, op: &DeleteObjects, whole: &Fact) -> Result<Outcome, Stop> {
    let bucket = super::bucket_row(&run.draft, &op.bucket)?;
    let mut results = Vec::with_capacity(op.items.len());
    for (index, item) in op.items.iter().enumerate() {
        let order = run.order(index);
        let mut told = fact::of_item(whole, order, item);
        let none = DeleteResult {
            order,
            refused: None,
            marker: None,
            removed: None,
            removed_marker: false,
            null_version: false,
        };
        let result = match delete_one(run, &bucket, &op.bucket, item, &mut told, none.clone()) {
            Ok(result) => result,
            Err(Stop::Refused(refusal)) => {
                fact::refuse(&mut told, &refusal);
                DeleteResult { refused: Some(refusal), ..none }
            }
            Err(Stop::Condition(refusal)) => {
                fact::fail(&mut told, &refusal);
                DeleteResult { refused: Some(refusal), ..none }
            }
            Err(stop) => return Err(stop),
        };
        run.facts.push(told);
        results.push(result);
    }
    Ok(Outcome::Deleted(results))
}

fn delete_one(
    run: &mut Run<'_>,
    bucket: &BucketRow,
    bucket_name: &str,
    item: &DeleteItem,
    told: &mut Fact,
    result: DeleteResult,
) -> Result<DeleteResult, Stop> {
    check::delete_item(item)?;
    if run.draft.changed() >= COMMAND_ROWS_MAX {
        return Err(Refusal::TooManyRows.into());
    }
    let name = Name { bucket: bucket_name, key: &item.key };
    let current = versions::current(&run.draft, name)?;
    told.detail.predecessor = current.as_ref().map(|row| row.order);
    condition::judge(&item.condition, current.as_ref()).map_err(Stop::Condition)?;
    let Some(selector) = item.version else {
        return delete_current(run, bucket, name, current, told, result);
    };
    let version = versions::named(&run.draft, name, current.as_ref(), selector)?;
    // Deleting what is not there succeeds, as in S3.
    let (Some(current), Some(version)) = (current, version) else { return Ok(result) };
    told.detail.version = Some(version.order);
    versions::remove(&mut run.draft, name, current, version.order)?;
    Ok(DeleteResult {
        removed: version.version_id(),
        removed_marker: version.marker,
        null_version: version.null,
        ..result
    })
}

/// A deletion that names no version: removes the object, or lays a delete marker over it.
fn delete_current(
    run: &mut Run<'_>,
    bucket: &BucketRow,
    name: Name<'_>,
    current: Option<ObjectRow>,
    told: &mut Fact,
    result: DeleteResult,
) -> Result<DeleteResult, Stop> {
    if bucket.versioning == Versioning::Off {
        if let Some(current) = current {
            let order = current.order;
            told.detail.version = Some(order);
            versions::remove(&mut run.draft, name, current, order)?;
        }
        return Ok(result);
    }
    told.detail.marker = true;
    let marker = marker(result.order);
    versions::write(&mut run.draft, name, bucket.versioning, current, marker)?;
    let null_version = bucket.versioning == Versioning::Suspended;
    Ok(DeleteResult { marker: Some(result.order), null_version, ..result })
}

fn marker(order: OrderKey) -> ObjectRow {
    ObjectRow {
        order,
        null: false,
        marker: true,
        len: 0,
        digest: [0; 32],
        md5: [0; 16],
        parts: 0,
        checksum: None,
        metadata: types::object::Metadata::default(),
        body: BodyAt::Nothing,
        null_below: None,
    }
}

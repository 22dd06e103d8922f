//! `*` Buckets.

use core::ops::ControlFlow;

use types::command::{CreateBucket, DeleteBucket, SetVersioning, Versioning};
use types::limits::{BUCKETS_MAX, COMMAND_ROWS_MAX};
use types::state::Table;
use types::{OrderKey, Outcome, Refusal};

use crate::draft::Draft;
use crate::execute::{Run, Stop};
use crate::rows::{BucketRow, key};
use crate::versions;

/// Makes a bucket, with versioning off.
pub(super) fn create(run: &mut Run<'_>, op: &CreateBucket) -> Result<Outcome, Stop> {
    let place = key::bucket(&op.bucket);
    let principal = &run.command.principal;
    if let Some(row) = run.draft.row::<BucketRow>(&place)? {
        let own = row.owner == *principal;
        return Err(if own { Refusal::BucketAlreadyOwnedByYou } else { Refusal::BucketAlreadyExists }.into());
    }
    if super::cluster::count(&run.draft, &key::all_buckets(), BUCKETS_MAX)? >= BUCKETS_MAX {
        return Err(Refusal::TooManyBuckets.into());
    }
    let row = BucketRow {
        created: run.order(0),
        owner: principal.clone(),
        region: op.region.clone(),
        versioning: Versioning::Off,
    };
    run.draft.put_row(place, &row);
    Ok(Outcome::Done)
}

/// Removes a bucket without objects, versions and delete markers. As in AWS, uploads in progress do not
/// keep it: they go with it, unless they are more than one command can drop.
pub(super) fn delete(run: &mut Run<'_>, op: &DeleteBucket) -> Result<Outcome, Stop> {
    super::bucket_row(&run.draft, &op.bucket)?;
    let objects = run.draft.any(Table::Catalog, &key::objects(&op.bucket, ""))?;
    if objects || run.draft.any(Table::Catalog, &key::versions(&op.bucket, ""))? {
        return Err(Refusal::BucketNotEmpty.into());
    }
    for (place, upload) in uploads(&run.draft, &op.bucket)? {
        for (number, part) in versions::parts(&run.draft, upload)? {
            versions::remove_part(&mut run.draft, upload, number, &part);
        }
        run.draft.delete(Table::Catalog, place);
        if run.draft.changed() > COMMAND_ROWS_MAX {
            // What is drafted so far is discarded with the refusal.
            return Err(Refusal::BucketNotEmpty.into());
        }
    }
    run.draft.delete(Table::Catalog, key::bucket(&op.bucket));
    Ok(Outcome::Done)
}

/// The uploads of a bucket, up to one more than a command can drop.
fn uploads(draft: &Draft<'_>, bucket: &str) -> Result<Vec<(Vec<u8>, OrderKey)>, Stop> {
    let mut places = Vec::new();
    draft.scan_prefix(Table::Catalog, &key::uploads(bucket, ""), &mut |place, _| {
        places.push(place.to_vec());
        if places.len() <= COMMAND_ROWS_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    let named = |place: Vec<u8>| Ok(key::read_upload(&place).map(|(_, _, upload)| (place, upload))?);
    places.into_iter().map(named).collect()
}

/// Turns versioning on or suspends it.
pub(super) fn set_versioning(run: &mut Run<'_>, op: &SetVersioning) -> Result<Outcome, Stop> {
    let mut row = super::bucket_row(&run.draft, &op.bucket)?;
    row.versioning = op.versioning;
    run.draft.put_row(key::bucket(&op.bucket), &row);
    Ok(Outcome::Done)
}

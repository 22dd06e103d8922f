//! Multipart uploads: starting one, storing parts, dropping one. An upload and its parts live in the slot of
//! their key: parts are found only through the upload's row.

use types::command::{AbortUpload, CreateUpload, UploadPart};
use types::fact::Fact;
use types::{OrderKey, Outcome, Refusal};

use types::state::Table;

use crate::draft::Draft;
use crate::execute::{Run, Stop};
use crate::rows::{PartRow, UploadRow, hex, key};
use crate::versions;

/// Starts an upload. Its id is the order key of the command.
pub(super) fn create(run: &mut Run<'_>, op: &CreateUpload) -> Result<Outcome, Stop> {
    super::bucket_row(&run.draft, &op.bucket)?;
    let upload = run.order(0);
    let row =
        UploadRow { principal: run.command.principal.clone(), metadata: op.metadata.clone(), checksum: op.checksum };
    run.draft.put_row(key::upload(&op.bucket, &op.key, upload), &row);
    Ok(Outcome::UploadCreated(upload))
}

/// The upload of this key, or the refusal that there is none.
pub(super) fn row(draft: &Draft<'_>, bucket: &str, object: &str, upload: OrderKey) -> Result<UploadRow, Stop> {
    Ok(draft.row(&key::upload(bucket, object, upload))?.ok_or(Refusal::NoSuchUpload)?)
}

/// Adds or replaces a part.
pub(super) fn part(run: &mut Run<'_>, op: &UploadPart, fact: &mut Fact) -> Result<Outcome, Stop> {
    super::bucket_row(&run.draft, &op.bucket)?;
    super::check_age(&op.body, run.timestamp)?;
    row(&run.draft, &op.bucket, &op.key, op.upload)?;
    let place = key::part(op.upload, op.number);
    if let Some(replaced) = run.draft.row::<PartRow>(&place)? {
        fact.detail.predecessor = Some(replaced.order);
        versions::remove_part(&mut run.draft, op.upload, op.number, &replaced);
    }
    let order = run.order(0);
    let part = PartRow {
        order,
        len: op.len,
        digest: op.digest,
        md5: op.md5,
        checksum: op.checksum.clone(),
        body: super::attach(&mut run.draft, &op.body, order, op.number),
    };
    run.draft.put_row(place, &part);
    Ok(Outcome::PartStored(hex(&op.md5)))
}

/// Drops an upload and its parts.
pub(super) fn abort(run: &mut Run<'_>, op: &AbortUpload) -> Result<Outcome, Stop> {
    super::bucket_row(&run.draft, &op.bucket)?;
    row(&run.draft, &op.bucket, &op.key, op.upload)?;
    for (number, part) in versions::parts(&run.draft, op.upload)? {
        versions::remove_part(&mut run.draft, op.upload, number, &part);
    }
    run.draft.delete(Table::Catalog, key::upload(&op.bucket, &op.key, op.upload));
    Ok(Outcome::Done)
}

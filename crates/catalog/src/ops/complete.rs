//! Completing a multipart upload. The parts stay where they are: the object refers to them by the upload's
//! id, so completing writes a handful of rows, however many parts there are.

use types::command::{CompleteUpload, CompletedPart};
use types::fact::Fact;
use types::limits::PART_LEN_MIN;
use types::object::{Checksum, Chunk};
use types::state::Table;
use types::{Outcome, Refusal};

use crate::execute::{Run, Stop};
use crate::retry::{self, WindowItem};
use crate::rows::{BodyAt, IndexedPart, ObjectRow, PartIndexRow, PartRow, UploadRow, key};
use crate::versions::{self, Name};
use crate::{check, condition, content};

/// Operation number of a completion, as in the encoding of `Op`.
const OPERATION: u8 = 9;

/// Makes an object of the parts.
pub(super) fn complete(run: &mut Run<'_>, op: &CompleteUpload, fact: &mut Fact) -> Result<Outcome, Stop> {
    let bucket = super::bucket_row(&run.draft, &op.bucket)?;
    let completed = key::completed(&op.bucket, &op.key, op.upload);
    let asked = digest_of(&op.parts);
    let upload = match super::upload::row(&run.draft, &op.bucket, &op.key, op.upload) {
        Err(Stop::Refused(Refusal::NoSuchUpload)) => {
            let before = retry::recall_completion(&run.draft, &completed, &asked, run.timestamp)?;
            return Err(before.map_or(Stop::Refused(Refusal::NoSuchUpload), |item| Stop::Replay(Box::new(item))));
        }
        upload => upload?,
    };
    let stored = versions::parts(&run.draft, op.upload)?;
    let chosen = choose(&op.parts, &stored)?;
    let row = assemble(run, op, &upload, &chosen)?;
    fact.detail.len = Some(row.len);
    fact.detail.digest = Some(row.digest);
    fact.detail.etag = Some(row.etag());
    let name = Name { bucket: &op.bucket, key: &op.key };
    let current = versions::current(&run.draft, name)?;
    fact.detail.predecessor = current.as_ref().map(|row| row.order);
    condition::judge(&op.condition, current.as_ref()).map_err(Stop::Condition)?;

    let indexed =
        |part: &(u16, &PartRow)| IndexedPart { number: part.0, len: part.1.len, checksum: part.1.checksum.clone() };
    run.draft.put_row(key::part_index(op.upload), &PartIndexRow { parts: chosen.iter().map(indexed).collect() });
    for (number, part) in &stored {
        if chosen.binary_search_by_key(number, |(chosen, _)| *chosen).is_err() {
            versions::remove_part(&mut run.draft, op.upload, *number, part);
        }
    }
    run.draft.delete(Table::Catalog, key::upload(&op.bucket, &op.key, op.upload));
    let outcome = Outcome::Written(super::object::written(&bucket, &row));
    let marker = WindowItem {
        order: row.order,
        principal: run.command.principal.clone(),
        operation: OPERATION,
        id: String::new(),
        digest: asked,
        outcome: outcome.clone(),
    };
    retry::remember_completion(&mut run.draft, completed, marker);
    versions::write(&mut run.draft, name, bucket.versioning, current, row)?;
    Ok(outcome)
}

/// The parts as the client listed them, found among those stored, or what is wrong with them.
fn choose<'p>(listed: &[CompletedPart], stored: &'p [(u16, PartRow)]) -> Result<Vec<(u16, &'p PartRow)>, Refusal> {
    if !listed.is_sorted_by(|a, b| a.number < b.number) {
        return Err(Refusal::InvalidPartOrder);
    }
    let mut chosen = Vec::with_capacity(listed.len());
    for part in listed {
        let missing = || Refusal::InvalidPart(part.number);
        let at = stored.binary_search_by_key(&part.number, |(number, _)| *number).map_err(|_| missing())?;
        let (number, row) = &stored[at];
        let same_checksum = match (&part.checksum, &row.checksum) {
            (None, _) => true,
            // How a client labels the kind of a part's checksum says nothing: it is of the whole part.
            (Some(named), Some(kept)) => named.algorithm == kept.algorithm && named.value == kept.value,
            (Some(_), None) => false,
        };
        if !part.etag.eq_ignore_ascii_case(&row.etag()) || !same_checksum {
            return Err(missing());
        }
        chosen.push((*number, row));
    }
    let before_last = &chosen[..chosen.len().saturating_sub(1)];
    match before_last.iter().find(|(_, row)| row.len < PART_LEN_MIN) {
        Some((number, _)) => Err(Refusal::EntityTooSmall(*number)),
        None => Ok(chosen),
    }
}

/// The object that the parts make.
fn assemble(
    run: &Run<'_>,
    op: &CompleteUpload,
    upload: &UploadRow,
    chosen: &[(u16, &PartRow)],
) -> Result<ObjectRow, Refusal> {
    let len = chosen.iter().map(|(_, part)| part.len).sum();
    if op.len.is_some_and(|expected| expected != len) {
        return Err(Refusal::BadDigest);
    }
    let parts = u16::try_from(chosen.len()).expect("a command lists at most 10,000 parts");
    Ok(ObjectRow {
        order: run.order(0),
        null: false,
        marker: false,
        len,
        digest: content::digest(chosen.iter().flat_map(|(_, part)| chunks(part))),
        md5: content::md5_of(chosen.iter().map(|(_, part)| part.md5)),
        parts,
        checksum: checksum(op.checksum.as_ref(), upload, chosen)?,
        metadata: upload.metadata.clone(),
        body: BodyAt::Parts(op.upload),
        null_below: None,
    })
}

/// The chunks of a part; bytes that are not in the vaults count as one chunk.
fn chunks(part: &PartRow) -> Vec<Chunk> {
    match &part.body {
        BodyAt::Placed(placement) => placement.chunks.clone(),
        BodyAt::Nothing | BodyAt::Inline | BodyAt::Parts(_) => {
            let len = u32::try_from(part.len).expect("an inline part is at most 128 KiB long");
            vec![Chunk { len, digest: part.digest }]
        }
    }
}

/// The checksum that the object gets: of the algorithm and kind that the upload was started with, or else
/// that the client names now. It must be what the client expects, if it says so.
fn checksum(
    expected: Option<&Checksum>,
    upload: &UploadRow,
    chosen: &[(u16, &PartRow)],
) -> Result<Option<Checksum>, Refusal> {
    let named = expected.map(|checksum| (checksum.algorithm, checksum.kind));
    let Some((algorithm, kind)) = upload.checksum.or(named) else { return Ok(None) };
    check::multipart_checksum(algorithm, kind)?;
    let same = named.is_none_or(|named| named == (algorithm, kind));
    check::ensure(same, "the upload was started with another checksum")?;
    let value = |(number, part): &(u16, &PartRow)| match &part.checksum {
        Some(checksum) if checksum.algorithm == algorithm => Ok((part.len, checksum.value.clone())),
        _ => Err(Refusal::InvalidPart(*number)),
    };
    let values = chosen.iter().map(value).collect::<Result<Vec<_>, _>>()?;
    let whole = content::combined(algorithm, kind, values.iter().map(|(len, value)| (*len, value.as_ref())));
    match (expected, &whole) {
        (Some(expected), Some(whole)) if expected.value != whole.value => Err(Refusal::BadDigest),
        _ => Ok(whole),
    }
}

/// What binds a completion to the parts that it listed: BLAKE3 over the number and tag of each.
fn digest_of(parts: &[CompletedPart]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"entangle/completion/v1\n");
    for part in parts {
        hasher.update(&part.number.to_be_bytes());
        hasher.update(&u32::try_from(part.etag.len()).unwrap_or(u32::MAX).to_be_bytes());
        hasher.update(part.etag.to_ascii_lowercase().as_bytes());
    }
    *hasher.finalize().as_bytes()
}

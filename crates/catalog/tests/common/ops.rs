//! Short ways to write commands.

use bytes::Bytes;
use types::command::*;
use types::object::*;
use types::{OrderKey, Timestamp};

use md5::{Digest as _, Md5};

use super::BUCKET;

/// 5 MiB: the least that a part but the last may have.
pub const MIB5: u64 = 5 * 1024 * 1024;

pub fn create_bucket(bucket: &str) -> Op {
    Op::CreateBucket(CreateBucket { bucket: bucket.to_owned(), region: None })
}

pub fn delete_bucket(bucket: &str) -> Op {
    Op::DeleteBucket(DeleteBucket { bucket: bucket.to_owned() })
}

pub fn enable(bucket: &str) -> Op {
    Op::SetVersioning(SetVersioning { bucket: bucket.to_owned(), versioning: Versioning::Enabled })
}

pub fn suspend(bucket: &str) -> Op {
    Op::SetVersioning(SetVersioning { bucket: bucket.to_owned(), versioning: Versioning::Suspended })
}

pub fn md5_of(body: &[u8]) -> [u8; 16] {
    Md5::digest(body).into()
}

pub fn etag_of(body: &str) -> String {
    md5_of(body.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn put_object(bucket: &str, key: &str, body: &str) -> PutObject {
    PutObject {
        bucket: bucket.to_owned(),
        key: key.to_owned(),
        body: Body::Inline(Bytes::copy_from_slice(body.as_bytes())),
        len: body.len() as u64,
        digest: *blake3::hash(body.as_bytes()).as_bytes(),
        md5: md5_of(body.as_bytes()),
        checksum: None,
        metadata: Metadata::default(),
        condition: Condition::default(),
    }
}

pub fn put(key: &str, body: &str) -> Op {
    Op::PutObject(put_object(BUCKET, key, body))
}

pub fn put_if(key: &str, body: &str, condition: Condition) -> Op {
    Op::PutObject(PutObject { condition, ..put_object(BUCKET, key, body) })
}

/// A placement of `len` bytes whose chunks all have this digest.
pub fn placement(id: u8, len: u64, placed_at: Timestamp) -> Placement {
    let mut chunks = Vec::new();
    let mut left = len;
    while left > 0 {
        let len = left.min(4 * 1024 * 1024);
        chunks.push(Chunk { len: u32::try_from(len).unwrap(), digest: [id; 32] });
        left -= len;
    }
    Placement { id: PlacementId([id; 16]), placed_at, chunks }
}

/// The content digest, written down anew from the format document.
pub fn content_digest(chunks: &[Chunk]) -> [u8; 32] {
    if let [one] = chunks {
        return one.digest;
    }
    let mut input = b"entangle/content/v1\n".to_vec();
    for chunk in chunks {
        input.extend(chunk.len.to_be_bytes());
        input.extend(chunk.digest);
    }
    *blake3::hash(&input).as_bytes()
}

pub fn put_placed(key: &str, id: u8, len: u64, placed_at: Timestamp) -> Op {
    let placement = placement(id, len, placed_at);
    Op::PutObject(PutObject {
        len,
        digest: content_digest(&placement.chunks),
        body: Body::Placed(placement),
        md5: [id; 16],
        ..put_object(BUCKET, key, "")
    })
}

pub fn item(key: &str, version: Option<VersionSelector>) -> DeleteItem {
    DeleteItem { key: key.to_owned(), version, condition: Condition::default() }
}

pub fn delete(bucket: &str, key: &str, version: Option<VersionSelector>) -> Op {
    delete_all(bucket, vec![item(key, version)])
}

pub fn delete_all(bucket: &str, items: Vec<DeleteItem>) -> Op {
    Op::DeleteObjects(DeleteObjects { bucket: bucket.to_owned(), items })
}

pub fn copy_object(from: &str, to: &str) -> CopyObject {
    CopyObject {
        source: Source {
            bucket: BUCKET.to_owned(),
            key: from.to_owned(),
            version: None,
            condition: Condition::default(),
        },
        bucket: BUCKET.to_owned(),
        key: to.to_owned(),
        metadata: None,
        condition: Condition::default(),
        checksum: None,
        expect: None,
    }
}

pub fn create_upload(key: &str, checksum: Option<(ChecksumAlgorithm, ChecksumKind)>) -> Op {
    Op::CreateUpload(CreateUpload {
        bucket: BUCKET.to_owned(),
        key: key.to_owned(),
        metadata: Metadata::default(),
        checksum,
    })
}

/// A part in the vaults; its MD5 is 16 times `id`.
pub fn part(key: &str, upload: OrderKey, number: u16, id: u8, len: u64, placed_at: Timestamp) -> UploadPart {
    let placement = placement(id, len, placed_at);
    UploadPart {
        bucket: BUCKET.to_owned(),
        key: key.to_owned(),
        upload,
        number,
        len,
        digest: content_digest(&placement.chunks),
        body: Body::Placed(placement),
        md5: [id; 16],
        checksum: None,
    }
}

/// A part that travels in its command.
pub fn small_part(key: &str, upload: OrderKey, number: u16, body: &str) -> UploadPart {
    UploadPart {
        bucket: BUCKET.to_owned(),
        key: key.to_owned(),
        upload,
        number,
        len: body.len() as u64,
        digest: *blake3::hash(body.as_bytes()).as_bytes(),
        body: Body::Inline(Bytes::copy_from_slice(body.as_bytes())),
        md5: md5_of(body.as_bytes()),
        checksum: None,
    }
}

/// The part that [`part`] or [`small_part`] stored, as a completion lists it.
pub fn listed(part: &UploadPart) -> CompletedPart {
    let etag = part.md5.iter().map(|byte| format!("{byte:02x}")).collect();
    CompletedPart { number: part.number, etag, checksum: None }
}

pub fn complete(key: &str, upload: OrderKey, parts: Vec<CompletedPart>) -> CompleteUpload {
    CompleteUpload {
        bucket: BUCKET.to_owned(),
        key: key.to_owned(),
        upload,
        parts,
        condition: Condition::default(),
        checksum: None,
        len: None,
    }
}

pub fn abort(key: &str, upload: OrderKey) -> Op {
    Op::AbortUpload(AbortUpload { bucket: BUCKET.to_owned(), key: key.to_owned(), upload })
}

pub fn put_key(id: &str) -> Op {
    Op::PutAccessKey(PutAccessKey {
        access_key: id.to_owned(),
        sealed: Bytes::from_static(b"sealed"),
        description: String::new(),
    })
}

pub fn delete_key(id: &str) -> Op {
    Op::DeleteAccessKey(DeleteAccessKey { access_key: id.to_owned() })
}

pub fn if_match(etag: &str) -> Condition {
    Condition { if_match: Some(EtagMatch::OneOf(vec![etag.to_owned()])), ..Condition::default() }
}

pub fn if_exists() -> Condition {
    Condition { if_match: Some(EtagMatch::Any), ..Condition::default() }
}

pub fn if_absent() -> Condition {
    Condition { if_none_match: Some(EtagMatch::Any), ..Condition::default() }
}

pub fn checksum(algorithm: ChecksumAlgorithm, kind: ChecksumKind, value: &[u8]) -> Checksum {
    Checksum { algorithm, kind, value: Bytes::copy_from_slice(value) }
}

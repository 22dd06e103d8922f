//! Whether a command keeps the rules that need no state. Commands come from other nodes, so whatever a
//! gateway has checked is checked again; what fails is refused as [`Refusal::Invalid`] and changes nothing.

use types::Refusal;
use types::command::{
    AdmitNode, Command, CompleteUpload, Condition, CopyObject, EtagMatch, Genesis, Holders, Op, PutNode, PutZone,
    Versioning,
};
use types::limits::{
    ACCESS_KEY_LEN_MAX, BUCKET_NAME_LEN_MAX, CHUNK_LEN, DELETE_ITEMS_MAX, EPOCH_LEN_MAX, ETAG_LEN_MAX, ETAGS_MAX,
    INLINE_BODY_LEN_MAX, KEY_LEN_MAX, MEMBERS_MAX, PARTS_MAX, PUT_LEN_MAX, REQUEST_ID_LEN_MAX, SEALED_LEN_MAX,
    SYSTEM_METADATA_LEN_MAX, TEXT_LEN_MAX, USER_METADATA_LEN_MAX, ZONE_LEN_MAX,
};
use types::object::{Body, Checksum, ChecksumAlgorithm, ChecksumKind, Metadata, Placement};

use crate::content;

type Checked = Result<(), Refusal>;

/// The rule, or the refusal that names it.
pub(crate) fn ensure(holds: bool, rule: &str) -> Checked {
    if holds { Ok(()) } else { Err(Refusal::Invalid(rule.to_owned())) }
}

/// Checks all but the items of a `DeleteObjects`, which stand or fall one by one ([`delete_item`]).
pub(crate) fn command(command: &Command) -> Checked {
    ensure(command.principal.len() <= ACCESS_KEY_LEN_MAX, "the principal is too long")?;
    if let Some(request) = &command.request {
        ensure((1..=REQUEST_ID_LEN_MAX).contains(&request.id.len()), "the request id is empty or too long")?;
    }
    match &command.op {
        Op::Genesis(genesis) => first_configuration(genesis),
        Op::CreateBucket(create) => {
            bucket_name(&create.bucket)?;
            ensure(create.region.as_ref().is_none_or(|region| region.len() <= TEXT_LEN_MAX), "the region is too long")
        }
        Op::DeleteBucket(_) => Ok(()),
        Op::SetVersioning(set) => ensure(set.versioning != Versioning::Off, "versioning cannot be turned off again"),
        Op::PutObject(put) => {
            key(&put.key)?;
            body(&put.body, put.len, &put.digest)?;
            whole_checksum(put.checksum.as_ref())?;
            metadata(&put.metadata)?;
            condition(&put.condition)
        }
        Op::DeleteObjects(delete) => ensure(
            (1..=DELETE_ITEMS_MAX).contains(&delete.items.len()),
            "between 1 and 1000 keys can be deleted at once",
        ),
        Op::CopyObject(request) => copy(request),
        Op::CreateUpload(create) => {
            key(&create.key)?;
            metadata(&create.metadata)?;
            create.checksum.map_or(Ok(()), |(algorithm, kind)| multipart_checksum(algorithm, kind))
        }
        Op::UploadPart(part) => {
            key(&part.key)?;
            part_number(part.number)?;
            body(&part.body, part.len, &part.digest)?;
            whole_checksum(part.checksum.as_ref())
        }
        Op::CompleteUpload(request) => complete(request),
        Op::AbortUpload(abort) => key(&abort.key),
        Op::PutAccessKey(put) => {
            access_key(&put.access_key)?;
            ensure((1..=SEALED_LEN_MAX).contains(&put.sealed.len()), "the sealed secret is empty or too long")?;
            ensure(put.description.len() <= TEXT_LEN_MAX, "the description is too long")
        }
        Op::DeleteAccessKey(delete) => access_key(&delete.access_key),
        Op::PutNode(put) => node(put),
        Op::AdmitNode(admit) => newcomer(admit),
        Op::Barrier => Ok(()),
        Op::BeginEpoch(begin) => {
            ensure((1..=EPOCH_LEN_MAX).contains(&begin.membership.len()), "the epoch is empty or too long")?;
            ensure((1..=MEMBERS_MAX).contains(&begin.members.len()), "a group has between 1 and 32 members")
        }
        Op::PutZone(put) => zone(put),
    }
}

/// Checks one item of a `DeleteObjects`.
pub(crate) fn delete_item(item: &types::command::DeleteItem) -> Checked {
    key(&item.key)?;
    condition(&item.condition)
}

fn first_configuration(genesis: &Genesis) -> Checked {
    ensure((1..=TEXT_LEN_MAX).contains(&genesis.origin.len()), "the origin is empty or too long")?;
    ensure((1..=MEMBERS_MAX).contains(&genesis.members.len()), "a group has between 1 and 32 members")?;
    ensure(genesis.members.is_sorted_by(|a, b| a.replica < b.replica), "the members are not in rising order")?;
    let named = genesis.members.iter().all(|member| (1..=TEXT_LEN_MAX).contains(&member.name.len()));
    ensure(named, "the name of a member is empty or too long")?;
    let quorum = usize::try_from(genesis.quorum).unwrap_or(usize::MAX);
    ensure((1..=genesis.members.len()).contains(&quorum), "the quorum is not between 1 and the number of members")
}

fn node(put: &PutNode) -> Checked {
    ensure(put.member.replica.0 > 0, "nodes are numbered from 1")?;
    ensure((1..=TEXT_LEN_MAX).contains(&put.member.name.len()), "the name of the node is empty or too long")?;
    ensure(put.region.len() <= TEXT_LEN_MAX, "the region is too long")?;
    ensure(put.mesh.len() <= TEXT_LEN_MAX, "the address is too long")?;
    ensure(put.label.len() <= TEXT_LEN_MAX, "what the node is called is too long")
}

fn zone(put: &PutZone) -> Checked {
    ensure(put.zone.len() <= ZONE_LEN_MAX, "a zone has at most 1088 bytes")?;
    ensure(put.home.is_none_or(|home| home.0 > 0), "nodes are numbered from 1")?;
    let Holders::These(these) = &put.holders else { return Ok(()) };
    ensure((1..=MEMBERS_MAX).contains(&these.len()), "between 1 and 32 members hold a lease, or nobody, or everyone")?;
    ensure(these.is_sorted_by(|a, b| a < b), "the holders are not in rising order")
}

fn newcomer(admit: &AdmitNode) -> Checked {
    ensure(admit.region.len() <= TEXT_LEN_MAX, "the region is too long")?;
    ensure(admit.mesh.len() <= TEXT_LEN_MAX, "the address is too long")?;
    ensure((1..=TEXT_LEN_MAX).contains(&admit.label.len()), "what the node is called is empty or too long")
}

/// What any name must keep, so that rows cannot be confused; AWS's further rules are the gateway's.
fn bucket_name(name: &str) -> Checked {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'.' || byte == b'-';
    ensure(
        (3..=BUCKET_NAME_LEN_MAX).contains(&name.len()) && name.bytes().all(allowed),
        "a bucket name has 3 to 63 lower-case letters, digits, dots and hyphens",
    )
}

/// Whether rows may be looked up by this name at all: no bucket has another.
pub(crate) fn is_bucket_name(name: &str) -> bool {
    bucket_name(name).is_ok()
}

pub(crate) fn key(key: &str) -> Checked {
    ensure((1..=KEY_LEN_MAX).contains(&key.len()), "a key has 1 to 1024 bytes")
}

fn access_key(id: &str) -> Checked {
    let plain = id.bytes().all(|byte| byte.is_ascii_graphic());
    ensure((1..=ACCESS_KEY_LEN_MAX).contains(&id.len()) && plain, "an access key id has 1 to 128 visible characters")
}

/// Whether an access key could have this id at all.
pub(crate) fn is_access_key(id: &str) -> bool {
    access_key(id).is_ok()
}

fn part_number(number: u16) -> Checked {
    ensure((1..=PARTS_MAX).contains(&number), "a part number is between 1 and 10000")
}

/// Length and digest must be those of the bytes, or of the chunks.
fn body(body: &Body, len: u64, digest: &[u8; 32]) -> Checked {
    match body {
        Body::Inline(bytes) => {
            ensure(bytes.len() <= INLINE_BODY_LEN_MAX, "the inline body is too long")?;
            ensure(bytes.len() as u64 == len, "the length is not that of the body")?;
            ensure(blake3::hash(bytes).as_bytes() == digest, "the digest is not that of the body")
        }
        Body::Placed(placement) => {
            chunks(placement)?;
            ensure(placement.len() == len, "the length is not that of the chunks")?;
            ensure(len <= PUT_LEN_MAX, "the body is over 5 GiB")?;
            ensure(content::digest(placement.chunks.iter().copied()) == *digest, "the digest is not that of the chunks")
        }
    }
}

fn chunks(placement: &Placement) -> Checked {
    let full = |len: u32| usize::try_from(len).is_ok_and(|len| len == CHUNK_LEN);
    let Some((last, before)) = placement.chunks.split_last() else {
        return Err(Refusal::Invalid("a placed body has no chunk".to_owned()));
    };
    let fits = (1..=CHUNK_LEN).contains(&usize::try_from(last.len).unwrap_or(usize::MAX));
    ensure(fits && before.iter().all(|chunk| full(chunk.len)), "a chunk has a wrong length")
}

fn checksum_value(checksum: &Checksum) -> Checked {
    ensure(checksum.value.len() == checksum.algorithm.value_len(), "a checksum has a wrong length")
}

fn whole_checksum(checksum: Option<&Checksum>) -> Checked {
    let Some(checksum) = checksum else { return Ok(()) };
    ensure(checksum.kind == ChecksumKind::FullObject, "only a multipart object has a composite checksum")?;
    checksum_value(checksum)
}

/// AWS: a CRC of parts can be combined into that of the whole, a SHA cannot; CRC-64 is of the whole only.
pub(crate) fn multipart_checksum(algorithm: ChecksumAlgorithm, kind: ChecksumKind) -> Checked {
    use ChecksumAlgorithm::{Crc64Nvme, Sha1, Sha256};
    let fits = match kind {
        ChecksumKind::FullObject => !matches!(algorithm, Sha1 | Sha256),
        ChecksumKind::Composite => algorithm != Crc64Nvme,
    };
    ensure(fits, "this checksum algorithm is not of this kind in a multipart upload")
}

fn metadata(metadata: &Metadata) -> Checked {
    let system = [
        &metadata.content_type,
        &metadata.content_encoding,
        &metadata.content_disposition,
        &metadata.content_language,
        &metadata.cache_control,
        &metadata.expires,
        &metadata.website_redirect,
    ];
    let system = || system.into_iter().flatten();
    let user = || metadata.user.iter().flat_map(|(name, value)| [name, value]);
    ensure(system().map(String::len).sum::<usize>() <= SYSTEM_METADATA_LEN_MAX, "the headers are too long")?;
    ensure(user().map(String::len).sum::<usize>() <= USER_METADATA_LEN_MAX, "the user metadata is too long")?;
    // A line break would let a stored header forge others in the answer.
    let clean = |text: &String| !text.chars().any(|c| c.is_control() && c != '\t');
    ensure(system().all(clean) && user().all(clean), "a header holds a control character")?;
    ensure(metadata.user.iter().all(|(name, _)| !name.is_empty()), "a user metadata name is empty")?;
    ensure(metadata.user.is_sorted_by(|a, b| a.0 < b.0), "user metadata names are not strictly rising")
}

/// On what is written: times of the copy source have no place in it, and would be ignored silently.
fn condition(condition: &Condition) -> Checked {
    let no_times = condition.if_modified_since.is_none() && condition.if_unmodified_since.is_none();
    ensure(no_times, "a write has no condition on when its key was modified")?;
    tags(condition)
}

fn source_condition(condition: &Condition) -> Checked {
    let no_others = condition.if_size.is_none() && condition.if_modified_at.is_none();
    ensure(no_others, "the source of a copy has conditions on tags and times only")?;
    tags(condition)
}

fn tags(condition: &Condition) -> Checked {
    for tags in [&condition.if_match, &condition.if_none_match].into_iter().flatten() {
        if let EtagMatch::OneOf(tags) = tags {
            ensure((1..=ETAGS_MAX).contains(&tags.len()), "a condition names between 1 and 64 entity tags")?;
            ensure(tags.iter().all(|tag| tag.len() <= ETAG_LEN_MAX), "an entity tag is too long")?;
        }
    }
    Ok(())
}

fn copy(copy: &CopyObject) -> Checked {
    key(&copy.key)?;
    key(&copy.source.key)?;
    copy.metadata.as_ref().map_or(Ok(()), metadata)?;
    condition(&copy.condition)?;
    source_condition(&copy.source.condition)?;
    whole_checksum(copy.checksum.as_ref())?;
    ensure(copy.checksum.is_none() || copy.expect.is_some(), "a computed checksum names the content it is of")
}

fn complete(complete: &CompleteUpload) -> Checked {
    key(&complete.key)?;
    condition(&complete.condition)?;
    ensure((1..=usize::from(PARTS_MAX)).contains(&complete.parts.len()), "an upload has between 1 and 10000 parts")?;
    for part in &complete.parts {
        part_number(part.number)?;
        ensure(part.etag.len() <= ETAG_LEN_MAX, "an entity tag is too long")?;
        part.checksum.as_ref().map_or(Ok(()), checksum_value)?;
    }
    complete.checksum.as_ref().map_or(Ok(()), checksum_value)
}

//! Facts: what the ledger is told of a command. Names and words are cut to what a side record can hold; only
//! a command that is refused for its length has any that are longer.

use types::command::{Command, Op};
use types::fact::{Fact, FactDetail, FactKind, FactOutcome};
use types::limits::{ACCESS_KEY_LEN_MAX, BUCKET_NAME_LEN_MAX, ETAG_LEN_MAX, KEY_LEN_MAX};
use types::{OrderKey, Refusal};

use crate::{condition, rows};

/// The fact of a whole command, as if it were applied; execution adds what it finds. For a multi-delete it
/// speaks of the first key, and counts only when nothing is deleted ([`of_item`] makes the others).
pub(crate) fn of(command: &Command, order: OrderKey) -> Fact {
    let mut fact = Fact {
        order,
        kind: kind(&command.op),
        outcome: FactOutcome::Applied,
        salt: command.salt,
        bucket: String::new(),
        key: String::new(),
        detail: FactDetail { principal: clip(&command.principal, ACCESS_KEY_LEN_MAX), ..FactDetail::default() },
    };
    describe(&mut fact, command);
    fact
}

/// The fact of one item of a multi-delete.
pub(crate) fn of_item(whole: &Fact, order: OrderKey, item: &types::command::DeleteItem) -> Fact {
    let mut fact = Fact { order, key: clip(&item.key, KEY_LEN_MAX), ..whole.clone() };
    fact.detail.condition = condition::words(&item.condition, "");
    fact
}

/// Marks a fact as refused.
pub(crate) fn refuse(fact: &mut Fact, refusal: &Refusal) {
    fact.outcome = FactOutcome::Refused;
    fact.detail.refusal = Some(refusal_words(refusal));
}

/// Marks a fact as refused because a condition does not hold.
pub(crate) fn fail(fact: &mut Fact, refusal: &Refusal) {
    refuse(fact, refusal);
    fact.outcome = FactOutcome::PreconditionFailed;
}

/// Marks a fact as a retry.
pub(crate) fn replay(fact: &mut Fact, original: OrderKey) {
    fact.outcome = FactOutcome::Replayed;
    fact.detail.original = Some(original);
}

fn kind(op: &Op) -> FactKind {
    match op {
        Op::Genesis(_) => FactKind::Genesis,
        Op::CreateBucket(_) => FactKind::BucketCreate,
        Op::DeleteBucket(_) => FactKind::BucketDelete,
        Op::SetVersioning(_) => FactKind::BucketConfigure,
        Op::PutObject(_) => FactKind::Put,
        Op::DeleteObjects(_) => FactKind::Delete,
        Op::CopyObject(_) => FactKind::Copy,
        Op::CreateUpload(_) => FactKind::UploadCreate,
        Op::UploadPart(_) => FactKind::UploadPart,
        Op::CompleteUpload(_) => FactKind::Complete,
        Op::AbortUpload(_) => FactKind::UploadAbort,
        Op::PutAccessKey(_) => FactKind::KeyPut,
        Op::DeleteAccessKey(_) => FactKind::KeyDelete,
        Op::PutNode(_) | Op::AdmitNode(_) => FactKind::NodePut,
        Op::BeginEpoch(_) => FactKind::EpochBegin,
        Op::Barrier => FactKind::Barrier,
        Op::PutZone(_) => FactKind::ZonePut,
    }
}

fn describe(fact: &mut Fact, command: &Command) {
    let Fact { bucket, key, detail, .. } = fact;
    match &command.op {
        Op::Genesis(_) => detail.configuration = configuration(command),
        Op::CreateBucket(op) => {
            *bucket = clip(&op.bucket, BUCKET_NAME_LEN_MAX);
            detail.configuration = configuration(command);
        }
        Op::DeleteBucket(op) => *bucket = clip(&op.bucket, BUCKET_NAME_LEN_MAX),
        Op::SetVersioning(op) => {
            *bucket = clip(&op.bucket, BUCKET_NAME_LEN_MAX);
            detail.configuration = configuration(command);
        }
        Op::PutObject(op) => {
            (*bucket, *key) = names(&op.bucket, &op.key);
            detail.len = Some(op.len);
            detail.digest = Some(op.digest);
            detail.etag = Some(rows::hex(&op.md5));
            detail.condition = condition::words(&op.condition, "");
        }
        Op::DeleteObjects(op) => {
            (*bucket, *key) = names(&op.bucket, op.items.first().map_or("", |item| item.key.as_str()));
        }
        Op::CopyObject(op) => {
            (*bucket, *key) = names(&op.bucket, &op.key);
            detail.source = Some(names(&op.source.bucket, &op.source.key));
            let conditions =
                [condition::words(&op.condition, ""), condition::words(&op.source.condition, "copy-source-")];
            detail.condition = conditions.into_iter().flatten().reduce(|all, next| format!("{all}; {next}"));
        }
        Op::CreateUpload(op) => {
            (*bucket, *key) = names(&op.bucket, &op.key);
            detail.upload = Some(fact.order);
        }
        Op::UploadPart(op) => {
            (*bucket, *key) = names(&op.bucket, &op.key);
            detail.upload = Some(op.upload);
            detail.part = Some(op.number);
            detail.len = Some(op.len);
            detail.digest = Some(op.digest);
            detail.etag = Some(rows::hex(&op.md5));
        }
        Op::CompleteUpload(op) => {
            (*bucket, *key) = names(&op.bucket, &op.key);
            detail.upload = Some(op.upload);
            detail.condition = condition::words(&op.condition, "");
        }
        Op::AbortUpload(op) => {
            (*bucket, *key) = names(&op.bucket, &op.key);
            detail.upload = Some(op.upload);
        }
        Op::PutAccessKey(op) => *key = clip(&op.access_key, ACCESS_KEY_LEN_MAX),
        Op::DeleteAccessKey(op) => *key = clip(&op.access_key, ACCESS_KEY_LEN_MAX),
        Op::PutNode(op) => {
            *key = op.member.replica.to_string();
            detail.configuration = configuration(command);
        }
        Op::Barrier => {}
        // Execution finds the number of a node.
        Op::AdmitNode(_) | Op::BeginEpoch(_) => detail.configuration = configuration(command),
        Op::PutZone(op) => {
            *key = clip(&op.zone, KEY_LEN_MAX);
            detail.configuration = configuration(command);
        }
    }
}

/// The encoded command, if it is short enough to be told: it is, unless it is refused for its length. A
/// command that carries a secret, sealed or not, is never told.
fn configuration(command: &Command) -> Option<Vec<u8>> {
    const LEN_MAX: usize = 12 * 1024;
    command.to_bytes().ok().filter(|bytes| bytes.len() <= LEN_MAX)
}

fn names(bucket: &str, key: &str) -> (String, String) {
    (clip(bucket, BUCKET_NAME_LEN_MAX), clip(key, KEY_LEN_MAX))
}

fn clip(text: &str, len_max: usize) -> String {
    text[..text.floor_char_boundary(len_max)].to_owned()
}

/// Why a command was refused, in words.
fn refusal_words(refusal: &Refusal) -> String {
    match refusal {
        Refusal::InvalidPart(number) => format!("part {number} does not exist, or its tag or checksum differs"),
        Refusal::EntityTooSmall(number) => format!("part {number} is under 5 MiB and not the last"),
        Refusal::Invalid(rule) => format!("invalid: {}", clip(rule, ETAG_LEN_MAX)),
        Refusal::NoSuchBucket => "no such bucket".to_owned(),
        Refusal::BucketAlreadyOwnedByYou => "the bucket exists and is the asker's".to_owned(),
        Refusal::BucketAlreadyExists => "the bucket exists".to_owned(),
        Refusal::BucketNotEmpty => "the bucket is not empty".to_owned(),
        Refusal::TooManyBuckets => "too many buckets".to_owned(),
        Refusal::NoSuchKey => "no such key".to_owned(),
        Refusal::NoSuchVersion => "no such version".to_owned(),
        Refusal::PreconditionFailed => "a condition does not hold".to_owned(),
        Refusal::SourcePreconditionFailed => "a condition on the source does not hold".to_owned(),
        Refusal::NoSuchUpload => "no such upload".to_owned(),
        Refusal::InvalidPartOrder => "the parts are not in rising order".to_owned(),
        Refusal::BadDigest => "the checksum or the length of the whole is another".to_owned(),
        Refusal::RequestIdReused => "the request id was used for something else".to_owned(),
        Refusal::PlacementTooOld => "the body was placed too long ago".to_owned(),
        Refusal::SourceChanged => "the source changed".to_owned(),
        Refusal::DeleteMarker => "a delete marker was named".to_owned(),
        Refusal::CopyOntoItself => "a copy onto itself that changes nothing".to_owned(),
        Refusal::TooManyAccessKeys => "too many access keys".to_owned(),
        Refusal::NoSuchAccessKey => "no such access key".to_owned(),
        Refusal::LastAccessKey => "the last access key".to_owned(),
        Refusal::TokenUsed => "the join token was used before".to_owned(),
        Refusal::TokenExpired => "the join token has expired".to_owned(),
        Refusal::NameTaken(replica) => format!("node {replica} has this name"),
        Refusal::TooManyRows => "the command has changed as many rows as one may".to_owned(),
    }
}

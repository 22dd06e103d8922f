//! Zones: which keys a lease or a preference is about. A zone is a literal prefix of `bucket/key`: `photos/` is a bucket,
//! `photos/2026/` a part of it, and the empty zone is everything. No bucket's name holds a `/`, so that a zone with one
//! names its bucket whole. Zones may overlap.
//!
//! Zones are policy: nothing here takes part in execution.

use types::command::{Command, Op};

/// Whether `bucket/key` lies in `zone`.
#[must_use]
pub fn holds_key(zone: &[u8], bucket: &str, key: &str) -> bool {
    let bucket = bucket.as_bytes();
    match zone.strip_prefix(bucket) {
        Some([]) => true,
        Some([b'/', prefix @ ..]) => key.as_bytes().starts_with(prefix),
        Some(_) => false,
        None => bucket.starts_with(zone),
    }
}

/// Whether every key that a bucket has or could have lies in `zone`.
#[must_use]
pub fn holds_bucket(zone: &[u8], bucket: &str) -> bool {
    holds_key(zone, bucket, "")
}

/// Whether a command reads or writes a key of `zone`. What changes that which keys share is in every zone.
#[must_use]
pub fn touches(zone: &[u8], command: &Command) -> bool {
    let holds = |bucket: &str, key: &str| holds_key(zone, bucket, key);
    match &command.op {
        Op::Genesis(_)
        | Op::CreateBucket(_)
        | Op::DeleteBucket(_)
        | Op::SetVersioning(_)
        | Op::PutAccessKey(_)
        | Op::DeleteAccessKey(_)
        | Op::PutNode(_)
        | Op::AdmitNode(_)
        | Op::Barrier
        | Op::BeginEpoch(_)
        | Op::PutZone(_) => true,
        Op::PutObject(put) => holds(&put.bucket, &put.key),
        Op::DeleteObjects(delete) => delete.items.iter().any(|item| holds(&delete.bucket, &item.key)),
        Op::CopyObject(copy) => holds(&copy.bucket, &copy.key) || holds(&copy.source.bucket, &copy.source.key),
        Op::CreateUpload(upload) => holds(&upload.bucket, &upload.key),
        Op::UploadPart(part) => holds(&part.bucket, &part.key),
        Op::CompleteUpload(complete) => holds(&complete.bucket, &complete.key),
        Op::AbortUpload(abort) => holds(&abort.bucket, &abort.key),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use types::command::{Condition, CopyObject, DeleteBucket, DeleteItem, DeleteObjects, Source};

    use super::*;

    fn command(op: Op) -> Command {
        Command { salt: [0; 32], principal: String::new(), request: None, op }
    }

    #[test]
    fn a_zone_is_a_prefix_of_bucket_and_key() {
        for (zone, bucket, key, holds) in [
            ("", "photos", "a", true),
            ("pho", "photos", "a", true),
            ("photos", "photos", "a", true),
            ("photos", "photos2", "a", true),
            ("photos/", "photos", "", true),
            ("photos/", "photos2", "a", false),
            ("photos/2026/", "photos", "2026/may", true),
            ("photos/2026/", "photos", "2025/may", false),
            ("photos/2026/", "photos", "2026", false),
            ("photos/2026/", "photo", "s/2026/", false),
            ("photosx", "photos", "x", false),
        ] {
            assert_eq!(holds_key(zone.as_bytes(), bucket, key), holds, "{bucket}/{key} in {zone}");
        }
        assert!(holds_bucket(b"photos/", "photos") && holds_bucket(b"ph", "photos"));
        assert!(!holds_bucket(b"photos/2026/", "photos"), "a listing shows more than that");
    }

    #[test]
    fn a_command_is_in_the_zones_of_all_its_keys() {
        let source =
            Source { bucket: "a".to_owned(), key: "from".to_owned(), version: None, condition: Condition::default() };
        let copy = command(Op::CopyObject(CopyObject {
            source,
            bucket: "b".to_owned(),
            key: "to".to_owned(),
            metadata: None,
            condition: Condition::default(),
            checksum: None,
            expect: None,
        }));
        assert!(touches(b"a/", &copy) && touches(b"b/t", &copy) && !touches(b"b/f", &copy) && !touches(b"c/", &copy));
        let item = |key: &str| DeleteItem { key: key.to_owned(), version: None, condition: Condition::default() };
        let delete = DeleteObjects { bucket: "b".to_owned(), items: vec![item("x1"), item("y1")] };
        let delete = command(Op::DeleteObjects(delete));
        assert!(touches(b"b/x", &delete) && touches(b"b/y", &delete) && !touches(b"b/z", &delete));
        let star = command(Op::DeleteBucket(DeleteBucket { bucket: "b".to_owned() }));
        assert!(touches(b"elsewhere/", &star), "what keys share is in every zone");
    }

    proptest! {
        #[test]
        fn holding_is_the_prefix_of_the_joined_name(
            zone in "[ab/]{0,5}", bucket in "[ab]{1,3}", key in "[ab/]{0,4}",
        ) {
            let name = format!("{bucket}/{key}");
            prop_assert_eq!(holds_key(zone.as_bytes(), &bucket, &key), name.starts_with(&zone));
        }
    }
}

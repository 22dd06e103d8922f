//! Copies: the body is shared by reference, never by chunk.

use catalog::query;
use types::command::{CopyObject, VersionSelector};
use types::object::{ChecksumAlgorithm, ChecksumKind, Metadata, PlacementId};
use types::{Op, Refusal};

use crate::common::World;
use crate::common::ops::*;

fn metadata(content_type: &str) -> Metadata {
    Metadata { content_type: Some(content_type.to_owned()), ..Metadata::default() }
}

#[test]
fn a_shared_placement_lives_as_long_as_any_copy() {
    let mut world = World::new();
    let placement = PlacementId([5; 16]);
    world.written(put_placed("from", 5, 9_000_000, world.now));
    world.written(Op::CopyObject(copy_object("from", "to")));
    world.delete("from", None);
    assert!(query::body_referenced(&world.state, placement).unwrap());
    assert_eq!(world.read("to").unwrap(), "<placed 5>");
    world.delete("to", None);
    assert!(!query::body_referenced(&world.state, placement).unwrap());
}

#[test]
fn inline_bytes_are_copied() {
    let mut world = World::new();
    let source = world.written(put("from", "bytes"));
    let copy = world.written(Op::CopyObject(copy_object("from", "to")));
    assert_eq!((copy.etag, copy.source_version), (source.etag, None));
    world.delete("from", None);
    assert_eq!(world.read("to").unwrap(), "bytes");
}

#[test]
fn a_copy_of_parts_keeps_them_after_the_source_has_gone() {
    let mut world = World::new();
    let upload = world.upload("from");
    let (one, two) = (part("from", upload, 3, 1, MIB5, world.now), small_part("from", upload, 8, "tail"));
    world.run(Op::UploadPart(one.clone()));
    world.run(Op::UploadPart(two.clone()));
    let source = world.written(Op::CompleteUpload(complete("from", upload, vec![listed(&one), listed(&two)])));
    let copy = world.written(Op::CopyObject(copy_object("from", "to")));
    assert_eq!((copy.etag, copy.parts), (source.etag, 2));
    world.delete("from", None);
    assert_eq!(world.read("to").unwrap(), "<placed 1>tail");
    assert!(query::body_referenced(&world.state, PlacementId([1; 16])).unwrap());
    world.written(put("to", "other"));
    assert!(!query::body_referenced(&world.state, PlacementId([1; 16])).unwrap());
}

#[test]
fn headers_are_copied_or_replaced() {
    let mut world = World::new();
    let mut from = put_object("bucket", "from", "x");
    from.metadata = metadata("text/plain");
    world.written(Op::PutObject(from));
    let content_type =
        |world: &World| query::object(&world.state, "bucket", "to", None).unwrap().unwrap().metadata.content_type;
    world.written(Op::CopyObject(copy_object("from", "to")));
    assert_eq!(content_type(&world).as_deref(), Some("text/plain"));
    let replaced = CopyObject { metadata: Some(metadata("text/html")), ..copy_object("from", "to") };
    world.written(Op::CopyObject(replaced));
    assert_eq!(content_type(&world).as_deref(), Some("text/html"));
}

#[test]
fn a_copy_onto_itself_must_change_something() {
    let mut world = World::new();
    world.written(put("key", "x"));
    let itself = copy_object("key", "key");
    assert_eq!(world.refused(Op::CopyObject(itself.clone())), Refusal::CopyOntoItself);
    let replaced = CopyObject { metadata: Some(metadata("text/html")), ..itself };
    world.written(Op::CopyObject(replaced));
    assert_eq!(world.read("key").unwrap(), "x");
}

#[test]
fn an_old_version_is_restored_by_a_copy_onto_its_own_key() {
    let mut world = World::versioned();
    let old = world.written(put("key", "old"));
    world.written(put("key", "new"));
    let mut restore = copy_object("key", "key");
    restore.source.version = Some(VersionSelector::Id(old.order));
    let restored = world.written(Op::CopyObject(restore));
    assert_eq!(restored.source_version, Some(old.order));
    assert_eq!(world.read("key").unwrap(), "old");
}

#[test]
fn what_cannot_be_a_source_says_why() {
    let mut world = World::versioned();
    let copy = |version| {
        let mut copy = copy_object("from", "to");
        copy.source.version = version;
        Op::CopyObject(copy)
    };
    assert_eq!(world.refused(copy(None)), Refusal::NoSuchKey);
    assert_eq!(world.refused(copy(Some(VersionSelector::Null))), Refusal::NoSuchVersion);
    let marker = world.delete("from", None);
    assert_eq!(world.refused(copy(None)), Refusal::NoSuchKey);
    assert_eq!(world.refused(copy(Some(VersionSelector::Id(marker.order)))), Refusal::DeleteMarker);
    let mut nowhere = copy_object("from", "to");
    nowhere.source.bucket = "nowhere".to_owned();
    assert_eq!(world.refused(Op::CopyObject(nowhere)), Refusal::NoSuchBucket);
}

#[test]
fn a_checksum_computed_from_the_source_is_void_when_the_source_changed() {
    let mut world = World::new();
    world.written(put("from", "one"));
    let seen = *blake3::hash(b"one").as_bytes();
    let sum = checksum(ChecksumAlgorithm::Sha256, ChecksumKind::FullObject, &[1; 32]);
    let copy = CopyObject { checksum: Some(sum.clone()), expect: Some(seen), ..copy_object("from", "to") };
    assert_eq!(world.written(Op::CopyObject(copy.clone())).checksum, Some(sum.clone()));
    world.written(put("from", "two"));
    assert_eq!(world.refused(Op::CopyObject(copy)), Refusal::SourceChanged);
    let unbound = CopyObject { checksum: Some(sum), ..copy_object("from", "to") };
    assert!(matches!(world.refused(Op::CopyObject(unbound)), Refusal::Invalid(_)));
}

#[test]
fn a_source_over_five_gib_is_copied_in_parts_only() {
    let mut world = World::new();
    let upload = world.upload("from");
    let gib5 = 5 * 1024 * 1024 * 1024;
    let (one, two) = (part("from", upload, 1, 1, gib5, world.now), small_part("from", upload, 2, "tail"));
    world.run(Op::UploadPart(one.clone()));
    world.run(Op::UploadPart(two.clone()));
    world.written(Op::CompleteUpload(complete("from", upload, vec![listed(&one), listed(&two)])));
    assert!(matches!(world.refused(Op::CopyObject(copy_object("from", "to"))), Refusal::Invalid(_)));
}

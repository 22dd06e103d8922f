//! Rules that a gateway has checked already: checked again, since commands come from other nodes.

use types::command::{CompleteUpload, CompletedPart, Condition, EtagMatch, PutObject, RequestToken};
use types::object::{Body, ChecksumAlgorithm, ChecksumKind, Metadata};
use types::{Op, OrderKey, Outcome, Refusal};

use crate::common::World;
use crate::common::ops::*;

fn is_invalid(op: Op) -> bool {
    let mut world = World::new();
    world.written(put("key", "x"));
    matches!(world.refused(op), Refusal::Invalid(_))
}

#[test]
fn a_header_cannot_smuggle_another() {
    let with = |metadata| is_invalid(Op::PutObject(PutObject { metadata, ..put_object("bucket", "key", "x") }));
    let user = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert!(with(Metadata { content_type: Some("a\r\nb: c".to_owned()), ..Metadata::default() }));
    assert!(with(Metadata { user: vec![user("a", "b\nc")], ..Metadata::default() }));
    assert!(with(Metadata { user: vec![user("", "x")], ..Metadata::default() }));
    assert!(with(Metadata { user: vec![user("b", "x"), user("a", "x")], ..Metadata::default() }));
    assert!(with(Metadata { user: vec![user("a", "x"), user("a", "y")], ..Metadata::default() }));
    assert!(with(Metadata { user: vec![user("a", &"x".repeat(2048))], ..Metadata::default() }));
    assert!(with(Metadata { expires: Some("x".repeat(8193)), ..Metadata::default() }));
    assert!(!{
        let mut world = World::new();
        let metadata = Metadata { user: vec![user("a", "ü\t")], ..Metadata::default() };
        let put = PutObject { metadata, ..put_object("bucket", "key", "x") };
        !matches!(world.run(Op::PutObject(put)), Outcome::Written(_))
    });
}

#[test]
fn a_checksum_has_the_length_of_its_algorithm() {
    let with = |checksum| {
        is_invalid(Op::PutObject(PutObject { checksum: Some(checksum), ..put_object("bucket", "key", "x") }))
    };
    assert!(with(checksum(ChecksumAlgorithm::Crc32, ChecksumKind::FullObject, &[0; 5])));
    assert!(with(checksum(ChecksumAlgorithm::Crc32, ChecksumKind::Composite, &[0; 4])));
}

#[test]
fn conditions_are_bounded() {
    let with = |tags| {
        let condition = Condition { if_none_match: Some(EtagMatch::OneOf(tags)), ..Condition::default() };
        is_invalid(put_if("key", "x", condition))
    };
    assert!(with(Vec::new()));
    assert!(with(vec!["x".to_owned(); 65]));
    assert!(with(vec!["x".repeat(129)]));
}

#[test]
fn a_placed_body_over_five_gib_is_refused() {
    let mut world = World::new();
    let op = put_placed("key", 1, 5 * 1024 * 1024 * 1024 + 1, world.now);
    assert!(matches!(world.refused(op), Refusal::Invalid(_)));
}

#[test]
fn lists_are_bounded() {
    assert!(is_invalid(delete_all("bucket", Vec::new())));
    assert!(is_invalid(delete_all("bucket", (0..1001).map(|n| item(&n.to_string(), None)).collect())));
    let part = |number| CompletedPart { number, etag: String::new(), checksum: None };
    let complete =
        |parts| Op::CompleteUpload(CompleteUpload { parts, ..complete("key", OrderKey::default(), Vec::new()) });
    assert!(is_invalid(complete((0..10_001).map(|_| part(1)).collect())));
    assert!(is_invalid(complete(vec![part(0)])));
}

#[test]
fn a_request_id_is_bounded() {
    let mut world = World::new();
    for id in [String::new(), "x".repeat(129)] {
        let token = RequestToken { id, digest: [0; 32] };
        assert!(matches!(world.call(put("key", "x"), Some(token)), Outcome::Refused(Refusal::Invalid(_))));
    }
    world.principal = "p".repeat(129);
    assert!(matches!(world.run(put("key", "x")), Outcome::Refused(Refusal::Invalid(_))));
}

#[test]
fn a_length_that_overflows_is_refused() {
    let mut put = put_object("bucket", "key", "x");
    put.len = u64::MAX;
    assert!(is_invalid(Op::PutObject(put.clone())));
    put.body = Body::Placed(types::object::Placement {
        chunks: vec![types::object::Chunk { len: u32::MAX, digest: [0; 32] }; 9],
        ..placement(1, 1, types::Timestamp(0))
    });
    assert!(is_invalid(Op::PutObject(put)));
}

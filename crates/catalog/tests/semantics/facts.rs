//! Facts: what the ledger is told.

use types::fact::{Fact, FactKind, FactOutcome};
use types::limits::SIDE_LEN_MAX;
use types::{Op, Outcome};

use crate::common::World;
use crate::common::ops::*;

fn fact(world: &World) -> &Fact {
    let facts = &world.last.as_ref().unwrap().facts;
    assert_eq!(facts.len(), 1);
    &facts[0]
}

#[test]
fn a_put_names_what_it_wrote_and_what_it_followed() {
    let mut world = World::new();
    let one = world.written(put("key", "one"));
    let told = fact(&world);
    assert_eq!((told.kind, told.outcome, told.order), (FactKind::Put, FactOutcome::Applied, one.order));
    assert_eq!((told.bucket.as_str(), told.key.as_str(), told.salt), ("bucket", "key", [3; 32]));
    assert_eq!(told.detail.principal, "alice");
    assert_eq!((told.detail.len, told.detail.etag.clone()), (Some(3), Some(etag_of("one"))));
    assert_eq!(told.detail.digest, Some(*blake3::hash(b"one").as_bytes()));
    assert_eq!(told.detail.predecessor, None);
    world.written(put("key", "two"));
    assert_eq!(fact(&world).detail.predecessor, Some(one.order));
}

#[test]
fn a_failed_condition_is_told_in_words() {
    let mut world = World::new();
    let one = world.written(put("key", "one"));
    world.refused(put_if("key", "two", if_match("tag")));
    let told = fact(&world);
    assert_eq!(told.outcome, FactOutcome::PreconditionFailed);
    assert_eq!(told.detail.condition.as_deref(), Some("if-match: \"tag\""));
    assert_eq!(told.detail.refusal.as_deref(), Some("a condition does not hold"));
    assert_eq!(told.detail.predecessor, Some(one.order), "the write that the condition was judged on");
}

#[test]
fn a_refusal_is_no_failed_condition() {
    let mut world = World::empty();
    world.refused(put("key", "x"));
    assert_eq!(fact(&world).outcome, FactOutcome::Refused);
    assert_eq!(fact(&world).detail.refusal.as_deref(), Some("no such bucket"));
}

#[test]
fn a_multi_delete_tells_one_fact_per_item() {
    let mut world = World::versioned();
    let one = world.written(put("a", "one"));
    let items = vec![
        item("a", Some(types::command::VersionSelector::Id(one.order))),
        types::command::DeleteItem { condition: if_exists(), ..item("b", None) },
        item("c", None),
    ];
    world.run(delete_all("bucket", items));
    let facts = &world.last.as_ref().unwrap().facts;
    let told: Vec<_> = facts.iter().map(|fact| (fact.order.item, fact.key.as_str(), fact.outcome)).collect();
    assert_eq!(
        told,
        [(0, "a", FactOutcome::Applied), (1, "b", FactOutcome::PreconditionFailed), (2, "c", FactOutcome::Applied)]
    );
    assert_eq!(facts[0].detail.version, Some(one.order));
    assert_eq!(facts.iter().map(|fact| fact.detail.marker).collect::<Vec<_>>(), [false, false, true]);
    assert_eq!(facts[1].detail.condition.as_deref(), Some("if-match: *"));
}

#[test]
fn a_copy_names_its_source_and_a_completion_its_upload() {
    let mut world = World::versioned();
    let from = world.written(put("from", "one"));
    world.written(Op::CopyObject(copy_object("from", "to")));
    let told = fact(&world);
    assert_eq!(told.detail.source, Some(("bucket".to_owned(), "from".to_owned())));
    assert_eq!((told.kind, told.detail.version, told.detail.len), (FactKind::Copy, Some(from.order), Some(3)));

    let upload = world.upload("key");
    assert_eq!((fact(&world).kind, fact(&world).detail.upload), (FactKind::UploadCreate, Some(upload)));
    let part = small_part("key", upload, 7, "tail");
    world.run(Op::UploadPart(part.clone()));
    assert_eq!((fact(&world).kind, fact(&world).detail.part), (FactKind::UploadPart, Some(7)));
    let written = world.written(Op::CompleteUpload(complete("key", upload, vec![listed(&part)])));
    let told = fact(&world);
    assert_eq!((told.kind, told.detail.upload), (FactKind::Complete, Some(upload)));
    assert_eq!((told.detail.etag.clone(), told.detail.len), (Some(written.etag), Some(4)));
}

#[test]
fn whatever_is_asked_a_side_record_holds_its_detail() {
    let mut world = World::new();
    let long = "é".repeat(1 << 19);
    let mut condition = if_match(&"x".repeat(128));
    condition.if_none_match = Some(types::command::EtagMatch::OneOf((0..64).map(|_| "\u{1}".repeat(128)).collect()));
    let mut commands = vec![
        put(&long, "x"),
        put_if("key", "x", condition),
        create_bucket(&long),
        put_key(&long),
        Op::PutObject(put_object(&long, "key", "x")),
        delete("bucket", &long, None),
    ];
    let mut copy = copy_object(&long, &long);
    copy.source.bucket = long;
    commands.push(Op::CopyObject(copy));
    world.principal = "bob".to_owned();
    for op in commands {
        let outcome = world.run(op);
        for fact in &world.last.as_ref().unwrap().facts {
            let len = minicbor::to_vec(&fact.detail).unwrap().len() + fact.bucket.len() + fact.key.len();
            assert!(len < SIDE_LEN_MAX - 1024, "{len} bytes for {outcome:?}");
        }
        assert!(!matches!(outcome, Outcome::Written(_)));
    }
}

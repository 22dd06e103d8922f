//! Conditions: judged at execution, against the current version only.

use types::command::{Condition, CopyObject, EtagMatch};
use types::fact::FactOutcome;
use types::{Op, Outcome, Refusal};

use crate::common::World;
use crate::common::ops::*;

#[test]
fn if_none_match_star_writes_once() {
    let mut world = World::new();
    world.written(put_if("key", "one", if_absent()));
    assert_eq!(world.refused(put_if("key", "two", if_absent())), Refusal::PreconditionFailed);
    assert_eq!(world.read("key").unwrap(), "one");
}

#[test]
fn if_match_on_a_missing_key_is_no_such_key_not_a_failed_precondition() {
    let mut world = World::new();
    assert_eq!(world.refused(put_if("key", "x", if_match("tag"))), Refusal::NoSuchKey);
    assert_eq!(world.refused(put_if("key", "x", if_exists())), Refusal::NoSuchKey);
    // The ledger calls it what it is: a condition that did not hold.
    assert_eq!(world.last.as_ref().unwrap().facts[0].outcome, FactOutcome::PreconditionFailed);
}

#[test]
fn if_match_with_another_tag_fails_and_with_the_right_one_holds() {
    let mut world = World::new();
    world.written(put("key", "one"));
    assert_eq!(world.refused(put_if("key", "two", if_match("other"))), Refusal::PreconditionFailed);
    world.written(put_if("key", "two", if_match(&etag_of("one"))));
    assert_eq!(world.read("key").unwrap(), "two");
    world.written(put_if("key", "three", if_exists()));
}

#[test]
fn one_tag_of_several_is_enough() {
    let mut world = World::new();
    world.written(put("key", "one"));
    let tags = EtagMatch::OneOf(vec!["no".to_owned(), etag_of("one")]);
    let any = Condition { if_match: Some(tags.clone()), ..Condition::default() };
    world.written(put_if("key", "one", any));
    let none = Condition { if_none_match: Some(tags), ..Condition::default() };
    assert_eq!(world.refused(put_if("key", "two", none)), Refusal::PreconditionFailed);
}

#[test]
fn a_current_delete_marker_counts_as_missing() {
    let mut world = World::versioned();
    world.written(put("key", "one"));
    world.delete("key", None);
    assert_eq!(world.refused(put_if("key", "two", if_match(&etag_of("one")))), Refusal::NoSuchKey);
    world.written(put_if("key", "two", if_absent()));
}

#[test]
fn a_noncurrent_version_is_not_looked_at() {
    let mut world = World::versioned();
    world.written(put("key", "one"));
    world.written(put("key", "two"));
    assert_eq!(world.refused(put_if("key", "three", if_match(&etag_of("one")))), Refusal::PreconditionFailed);
}

#[test]
fn a_conditional_delete_sees_the_current_version() {
    let mut world = World::new();
    let delete_if = |condition| {
        let item = types::command::DeleteItem { condition, ..item("key", None) };
        delete_all("bucket", vec![item])
    };
    let refusal = |outcome: Outcome| match outcome {
        Outcome::Deleted(results) => results[0].refused.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(refusal(world.run(delete_if(if_match("tag")))), Some(Refusal::NoSuchKey));
    world.written(put("key", "one"));
    assert_eq!(refusal(world.run(delete_if(if_match("tag")))), Some(Refusal::PreconditionFailed));
    let size = |size| Condition { if_size: Some(size), ..Condition::default() };
    assert_eq!(refusal(world.run(delete_if(size(4)))), Some(Refusal::PreconditionFailed));
    let secs = world.written(put("key", "one")).modified_ms / 1000;
    let at = |secs| Condition { if_modified_at: Some(secs), ..Condition::default() };
    assert_eq!(refusal(world.run(delete_if(at(secs - 1)))), Some(Refusal::PreconditionFailed));
    let all = Condition { if_size: Some(3), if_modified_at: Some(secs), ..if_match(&etag_of("one")) };
    assert_eq!(refusal(world.run(delete_if(all))), None);
    assert_eq!(world.read("key"), None);
}

#[test]
fn a_time_on_the_destination_is_refused_not_ignored() {
    let mut world = World::new();
    let condition = Condition { if_unmodified_since: Some(0), ..Condition::default() };
    assert!(matches!(world.refused(put_if("key", "x", condition)), Refusal::Invalid(_)));
}

fn copy_if(condition: Condition) -> Op {
    let mut copy = copy_object("from", "to");
    copy.source.condition = condition;
    Op::CopyObject(copy)
}

#[test]
fn on_a_copy_source_a_tag_outweighs_the_time_of_the_same_sense() {
    let mut world = World::new();
    let written = world.written(put("from", "one"));
    let (tag, secs) = (written.etag, written.modified_ms / 1000);
    // True tag, false time: the copy is made (AWS, CopyObject).
    world.written(copy_if(Condition { if_unmodified_since: Some(secs - 1), ..if_match(&tag) }));
    // The tag is the one not wanted, and the time would do: 412.
    let none = Some(EtagMatch::OneOf(vec![tag]));
    let failing = Condition { if_none_match: none, if_modified_since: Some(secs - 1), ..Condition::default() };
    assert_eq!(world.refused(copy_if(failing)), Refusal::SourcePreconditionFailed);
}

#[test]
fn the_times_of_a_copy_source_count_whole_seconds() {
    let mut world = World::new();
    let secs = world.written(put("from", "one")).modified_ms / 1000;
    let modified = |since| Condition { if_modified_since: Some(since), ..Condition::default() };
    let unmodified = |since| Condition { if_unmodified_since: Some(since), ..Condition::default() };
    world.written(copy_if(modified(secs - 1)));
    assert_eq!(world.refused(copy_if(modified(secs))), Refusal::SourcePreconditionFailed);
    world.written(copy_if(unmodified(secs)));
    assert_eq!(world.refused(copy_if(unmodified(secs - 1))), Refusal::SourcePreconditionFailed);
    assert_eq!(world.refused(copy_if(if_match("other"))), Refusal::SourcePreconditionFailed);
}

#[test]
fn a_copy_has_conditions_on_its_destination_too() {
    let mut world = World::new();
    world.written(put("from", "one"));
    let copy = |condition| Op::CopyObject(CopyObject { condition, ..copy_object("from", "to") });
    assert_eq!(world.refused(copy(if_exists())), Refusal::NoSuchKey);
    world.written(copy(if_absent()));
    assert_eq!(world.refused(copy(if_absent())), Refusal::PreconditionFailed);
}

#[test]
fn a_completion_has_conditions_at_its_own_time() {
    let mut world = World::new();
    let upload = world.upload("key");
    let one = small_part("key", upload, 1, "parts");
    world.run(Op::UploadPart(one.clone()));
    world.written(put("key", "came between"));
    let mut request = complete("key", upload, vec![listed(&one)]);
    request.condition = if_absent();
    assert_eq!(world.refused(Op::CompleteUpload(request.clone())), Refusal::PreconditionFailed);
    // The upload is still there, and can be completed otherwise.
    request.condition = Condition::default();
    world.written(Op::CompleteUpload(request));
    assert_eq!(world.read("key").unwrap(), "parts");
}

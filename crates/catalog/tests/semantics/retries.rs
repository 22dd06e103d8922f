//! The retry window: a retry after a lost answer gets the first answer.

use types::fact::FactOutcome;
use types::limits::{RETRY_WINDOW_ITEMS, RETRY_WINDOW_NS};
use types::state::Table;
use types::{Op, Outcome, Refusal};

use crate::common::ops::*;
use crate::common::{World, token};

#[test]
fn a_retried_conditional_put_does_not_turn_success_into_412() {
    let mut world = World::new();
    let first = world.call(put_if("key", "one", if_absent()), token("call", 1));
    assert!(matches!(first, Outcome::Written(_)));
    assert_eq!(world.call(put_if("key", "one", if_absent()), token("call", 1)), first);
    let done = world.last.as_ref().unwrap();
    assert_eq!(done.facts[0].outcome, FactOutcome::Replayed);
    let Outcome::Written(written) = first else { unreachable!() };
    assert_eq!(done.original(), Some(written.order));
    assert_eq!(done.writes, [], "a replay changes nothing");
}

#[test]
fn a_failed_condition_is_replayed_too() {
    let mut world = World::new();
    world.written(put("key", "one"));
    let refused = world.call(put_if("key", "two", if_absent()), token("call", 1));
    assert_eq!(refused, Outcome::Refused(Refusal::PreconditionFailed));
    world.delete("key", None);
    assert_eq!(world.call(put_if("key", "two", if_absent()), token("call", 1)), refused);
}

#[test]
fn an_id_used_for_something_else_is_refused() {
    let mut world = World::new();
    world.call(put("key", "one"), token("call", 1));
    assert_eq!(world.call(put("key", "two"), token("call", 2)), Outcome::Refused(Refusal::RequestIdReused));
    assert_eq!(world.read("key").unwrap(), "one");
    // The first is still remembered.
    assert!(matches!(world.call(put("key", "one"), token("call", 1)), Outcome::Written(_)));
    assert!(world.last.as_ref().unwrap().original().is_some());
}

#[test]
fn an_id_means_nothing_beyond_its_asker_operation_and_key() {
    let mut world = World::new();
    let is_fresh = |world: &mut World, op, digest| {
        let outcome = world.call(op, token("call", digest));
        assert!(!matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
        world.last.as_ref().unwrap().original().is_none()
    };
    assert!(is_fresh(&mut world, put("key", "one"), 1));
    assert!(is_fresh(&mut world, put("other", "one"), 2));
    assert!(is_fresh(&mut world, delete("bucket", "key", None), 3));
    world.principal = "bob".to_owned();
    assert!(is_fresh(&mut world, put("key", "one"), 4));
    assert!(!is_fresh(&mut world, put("key", "one"), 4));
}

#[test]
fn an_outcome_past_its_time_is_invisible() {
    let mut world = World::new();
    world.call(put("key", "one"), token("call", 1));
    let first = world.now;
    world.now = first.plus_ns(RETRY_WINDOW_NS - 1_000_000_001);
    world.call(put("key", "one"), token("call", 1));
    assert!(world.last.as_ref().unwrap().original().is_some(), "one nanosecond before its end");
    world.now = first.plus_ns(RETRY_WINDOW_NS - 1_000_000_000);
    world.call(put("key", "one"), token("call", 1));
    assert_eq!(world.last.as_ref().unwrap().original(), None, "at its end");
}

#[test]
fn it_makes_no_difference_whether_an_expired_row_was_removed() {
    let mut world = World::new();
    world.call(put("key", "one"), token("call", 1));
    world.now = world.now.plus_ns(RETRY_WINDOW_NS);
    let (key, value) = world.state.rows[&Table::Retry].iter().next().map(|(k, v)| (k.clone(), v.clone())).unwrap();
    assert!(catalog::retry_is_expired(&value, world.now));
    assert!(!catalog::retry_is_expired(&value, world.now.minus_ns(1)));
    let mut swept = World { state: world.state.clone(), principal: "alice".to_owned(), last: None, ..World::empty() };
    (swept.now, swept.counter) = (world.now, world.counter);
    swept.state.rows.get_mut(&Table::Retry).unwrap().remove(&key);
    for world in [&mut world, &mut swept] {
        world.call(put("key", "two"), token("call", 1));
    }
    assert_eq!(world.last, swept.last);
    assert_eq!(world.state, swept.state);
}

#[test]
fn a_key_keeps_its_last_outcomes_and_forgets_the_oldest() {
    let mut world = World::new();
    for n in 0..=RETRY_WINDOW_ITEMS {
        world.call(put("key", "x"), token(&n.to_string(), 1));
    }
    world.call(put("key", "x"), token("1", 1));
    assert!(world.last.as_ref().unwrap().original().is_some(), "the second is there");
    world.call(put("key", "x"), token("0", 1));
    assert_eq!(world.last.as_ref().unwrap().original(), None, "the first has made room");
    assert_eq!(world.state.count(Table::Retry), 1);
}

#[test]
fn what_is_to_be_tried_again_is_not_replayed() {
    let mut world = World::new();
    let stale = put_placed("key", 1, 300_000, world.now.minus_ns(2 * 3_600_000_000_000));
    assert_eq!(world.call(stale, token("call", 1)), Outcome::Refused(Refusal::PlacementTooOld));
    let fresh = put_placed("key", 2, 300_000, world.now);
    assert!(matches!(world.call(fresh, token("call", 1)), Outcome::Written(_)));
    assert_eq!(world.last.as_ref().unwrap().original(), None);
}

#[test]
fn a_multi_delete_is_replayed_as_a_whole() {
    let mut world = World::versioned();
    let items = || vec![item("a", None), item("b", None)];
    let first = world.call(delete_all("bucket", items()), token("call", 1));
    let rows = world.state.count(Table::Catalog);
    assert_eq!(world.call(delete_all("bucket", items()), token("call", 1)), first);
    assert_eq!(world.state.count(Table::Catalog), rows, "no second pair of markers");
    assert_eq!(world.last.as_ref().unwrap().facts.len(), 1);
}

#[test]
fn a_window_of_large_outcomes_keeps_fewer() {
    use types::limits::{DELETE_ITEMS_MAX, RETRY_WINDOW_LEN_MAX};
    let mut world = World::versioned();
    for n in 0..8 {
        let items = (0..DELETE_ITEMS_MAX).map(|_| item("key", None)).collect();
        world.now = world.now.plus_ns(1_000_000_000);
        world.counter += 1;
        let command = types::Command {
            salt: [0; 32],
            principal: "alice".to_owned(),
            request: token(&n.to_string(), 1),
            op: delete_all("bucket", items),
        };
        let id = crate::common::command_id(world.counter);
        let done = catalog::execute(&world.state, world.now, id, &command).unwrap();
        world.state.apply(&done.writes.into_iter().filter(|write| write.table == Table::Retry).collect::<Vec<_>>());
    }
    let value = world.state.rows[&Table::Retry].values().next().unwrap();
    assert!(value.len() <= RETRY_WINDOW_LEN_MAX && value.len() > RETRY_WINDOW_LEN_MAX / 2, "{} bytes", value.len());
}

#[test]
fn a_key_that_is_none_has_no_window() {
    let mut world = World::new();
    let items = vec![item(&"k".repeat(5000), None), item("b", None)];
    world.call(delete_all("bucket", items), token("call", 1));
    assert_eq!(world.state.count(Table::Retry), 0);
}

#[test]
fn commands_on_what_is_shared_have_a_window_of_their_own() {
    let mut world = World::empty();
    assert_eq!(world.call(create_bucket("bucket"), token("call", 1)), Outcome::Done);
    assert_eq!(world.call(create_bucket("bucket"), token("call", 1)), Outcome::Done);
    assert!(world.last.as_ref().unwrap().original().is_some());
    assert_eq!(
        world.call(create_bucket("bucket"), token("again", 1)),
        Outcome::Refused(Refusal::BucketAlreadyOwnedByYou)
    );
    // A bucket and an access key of one name do not share a window.
    assert_eq!(world.call(put_key("bucket"), token("call", 1)), Outcome::Done);
    assert_eq!(world.last.as_ref().unwrap().original(), None);
}

#[test]
fn a_started_upload_is_not_started_twice() {
    let mut world = World::new();
    let Outcome::UploadCreated(upload) = world.call(create_upload("key", None), token("call", 1)) else { panic!() };
    assert_eq!(world.call(create_upload("key", None), token("call", 1)), Outcome::UploadCreated(upload));
    assert!(matches!(world.run(Op::UploadPart(small_part("key", upload, 1, "x"))), Outcome::PartStored(_)));
}

//! Versions, delete markers, and the version `null`.

use catalog::query;
use types::command::VersionSelector;
use types::outcome::Written;
use types::state::Table;

use crate::common::World;
use crate::common::ops::*;

const NULL: Option<VersionSelector> = Some(VersionSelector::Null);

fn id(written: &Written) -> Option<VersionSelector> {
    Some(VersionSelector::Id(written.order))
}

#[test]
fn every_put_is_a_version_and_the_newest_is_current() {
    let mut world = World::versioned();
    let one = world.written(put("key", "one"));
    let two = world.written(put("key", "two"));
    assert_eq!((one.version, one.null_version), (Some(one.order), false));
    assert_eq!(world.read("key").unwrap(), "two");
    assert_eq!(world.read_version("key", id(&one)).unwrap(), "one");
    assert_eq!(world.read_version("key", id(&two)).unwrap(), "two");
    assert_eq!(world.read_version("key", NULL), None);
}

#[test]
fn a_delete_hides_and_deleting_the_marker_brings_back() {
    let mut world = World::versioned();
    let one = world.written(put("key", "one"));
    let marker = world.delete("key", None);
    assert_eq!((marker.marker, marker.null_version), (Some(marker.order), false));
    assert_eq!(world.read("key"), None);
    assert_eq!(world.read_version("key", id(&one)).unwrap(), "one");
    let row = query::object(&world.state, "bucket", "key", None).unwrap().unwrap();
    assert!(row.marker);
    let undone = world.delete("key", Some(VersionSelector::Id(marker.order)));
    assert_eq!((undone.removed, undone.removed_marker), (Some(marker.order), true));
    assert_eq!(world.read("key").unwrap(), "one");
}

#[test]
fn deleting_a_missing_key_writes_a_marker_and_a_second_delete_another() {
    let mut world = World::versioned();
    let first = world.delete("key", None);
    let second = world.delete("key", None);
    assert_ne!(first.marker, second.marker);
    assert_eq!(world.delete("key", Some(VersionSelector::Id(second.order))).removed, Some(second.order));
    assert_eq!(world.delete("key", Some(VersionSelector::Id(first.order))).removed, Some(first.order));
    assert!(query::object(&world.state, "bucket", "key", None).unwrap().is_none());
}

#[test]
fn removing_the_current_version_promotes_the_one_below() {
    let mut world = World::versioned();
    let one = world.written(put("key", "one"));
    let two = world.written(put("key", "two"));
    let three = world.written(put("key", "three"));
    world.delete("key", id(&two));
    assert_eq!(world.read("key").unwrap(), "three");
    world.delete("key", id(&three));
    assert_eq!(world.read("key").unwrap(), "one");
    world.delete("key", id(&one));
    assert_eq!(world.state.count(Table::Catalog), 1, "the bucket alone is left");
    assert_eq!(world.state.count(Table::Bodies), 0);
}

#[test]
fn what_was_written_before_versioning_is_the_version_null() {
    let mut world = World::new();
    let before = world.written(put("key", "before"));
    world.run(enable("bucket"));
    let after = world.written(put("key", "after"));
    assert_eq!(world.read_version("key", NULL).unwrap(), "before");
    assert_eq!(world.read_version("key", id(&before)), None, "null is the only name that it has");
    let removed = world.delete("key", NULL);
    assert_eq!((removed.removed, removed.null_version), (None, true));
    assert_eq!(world.read_version("key", NULL), None);
    world.delete("key", id(&after));
    assert!(query::object(&world.state, "bucket", "key", None).unwrap().is_none());
}

#[test]
fn a_suspended_bucket_replaces_null_and_keeps_the_versions_with_an_id() {
    let mut world = World::new();
    world.written(put("key", "null one"));
    world.run(enable("bucket"));
    let kept = world.written(put("key", "kept"));
    world.run(suspend("bucket"));
    let null = world.written(put("key", "null two"));
    assert_eq!((null.version, null.null_version), (None, true));
    assert_eq!(world.read("key").unwrap(), "null two");
    assert_eq!(world.read_version("key", NULL).unwrap(), "null two");
    assert_eq!(world.read_version("key", id(&kept)).unwrap(), "kept");
    world.written(put("key", "null three"));
    assert_eq!(world.state.count(Table::Bodies), 2, "no null version piles up");
    // The version null goes down, and is found there.
    world.run(enable("bucket"));
    world.written(put("key", "newest"));
    assert_eq!(world.read_version("key", NULL).unwrap(), "null three");
}

#[test]
fn a_delete_in_a_suspended_bucket_writes_a_null_marker_over_null() {
    let mut world = World::versioned();
    let kept = world.written(put("key", "kept"));
    world.run(suspend("bucket"));
    world.written(put("key", "null"));
    let marker = world.delete("key", None);
    assert_eq!((marker.marker, marker.null_version), (Some(marker.order), true));
    assert_eq!(world.read_version("key", NULL), None, "the marker took its place");
    assert_eq!(world.read_version("key", id(&kept)).unwrap(), "kept");
    let undone = world.delete("key", NULL);
    assert_eq!((undone.removed_marker, undone.null_version), (true, true));
    assert_eq!(world.read("key").unwrap(), "kept");
}

#[test]
fn promoting_the_version_null_makes_it_the_current_null() {
    let mut world = World::new();
    world.written(put("key", "null"));
    world.run(enable("bucket"));
    let one = world.written(put("key", "one"));
    let two = world.written(put("key", "two"));
    world.delete("key", id(&two));
    world.delete("key", id(&one));
    assert_eq!(world.read("key").unwrap(), "null");
    world.run(suspend("bucket"));
    world.written(put("key", "again"));
    assert_eq!(world.state.count(Table::Bodies), 1);
}

#[test]
fn deleting_a_version_that_is_not_there_succeeds_and_does_nothing() {
    let mut world = World::versioned();
    let one = world.written(put("key", "one"));
    let mut other = one.order;
    other.item += 1;
    let before = world.state.digest.clone();
    let result = world.delete("key", Some(VersionSelector::Id(other)));
    assert_eq!((result.refused, result.removed, result.marker), (None, None, None));
    world.delete("key", NULL);
    assert_eq!(before, world.state.digest);
}

#[test]
fn all_versions_go_in_one_multi_delete() {
    let mut world = World::new();
    world.written(put("key", "null"));
    world.run(enable("bucket"));
    let one = world.written(put("key", "one"));
    let two = world.written(put("key", "two"));
    let items = vec![item("key", id(&two)), item("key", id(&one)), item("key", NULL)];
    world.run(delete_all("bucket", items));
    assert_eq!(world.state.count(Table::Catalog), 1);
}

//! Buckets.

use catalog::query;
use types::command::Versioning;
use types::state::Table;
use types::{Outcome, Refusal};

use crate::common::World;
use crate::common::ops::*;

#[test]
fn creating_ones_own_bucket_again_is_told_apart_from_taking_anothers() {
    let mut world = World::new();
    assert_eq!(world.refused(create_bucket("bucket")), Refusal::BucketAlreadyOwnedByYou);
    world.principal = "bob".to_owned();
    assert_eq!(world.refused(create_bucket("bucket")), Refusal::BucketAlreadyExists);
}

#[test]
fn a_bucket_with_an_object_stays() {
    let mut world = World::new();
    world.written(put("key", "body"));
    assert_eq!(world.refused(delete_bucket("bucket")), Refusal::BucketNotEmpty);
    world.delete("key", None);
    assert_eq!(world.run(delete_bucket("bucket")), Outcome::Done);
    assert_eq!(world.refused(delete_bucket("bucket")), Refusal::NoSuchBucket);
    assert_eq!(world.state.count(Table::Catalog), 0);
}

#[test]
fn a_bucket_with_nothing_but_a_delete_marker_stays() {
    let mut world = World::versioned();
    world.delete("key", None);
    assert_eq!(world.refused(delete_bucket("bucket")), Refusal::BucketNotEmpty);
}

#[test]
fn a_bucket_whose_name_starts_with_anothers_does_not_keep_it() {
    let mut world = World::new();
    world.run(create_bucket("bucket2"));
    world.run(create_bucket("bucket-2"));
    assert!(matches!(world.run(types::Op::PutObject(put_object("bucket2", "key", "x"))), Outcome::Written(_)));
    assert!(matches!(world.run(types::Op::PutObject(put_object("bucket-2", "key", "x"))), Outcome::Written(_)));
    assert_eq!(world.run(delete_bucket("bucket")), Outcome::Done);
    assert_eq!(query::buckets(&world.state).unwrap().len(), 2);
}

#[test]
fn uploads_in_progress_go_with_their_bucket() {
    let mut world = World::new();
    let upload = world.upload("key");
    world.run(types::Op::UploadPart(part("key", upload, 1, 7, MIB5, world.now)));
    world.run(types::Op::UploadPart(small_part("key", upload, 2, "tail")));
    assert_eq!(world.run(delete_bucket("bucket")), Outcome::Done);
    assert_eq!(world.state.count(Table::Catalog), 0, "nothing of the uploads is left");
    assert_eq!(world.state.count(Table::Bodies), 0);
    world.run(create_bucket("bucket"));
    assert_eq!(world.refused(abort("key", upload)), Refusal::NoSuchUpload);
}

#[test]
fn versioning_cannot_be_turned_off_again() {
    let mut world = World::versioned();
    let off = types::command::SetVersioning { bucket: "bucket".to_owned(), versioning: Versioning::Off };
    assert!(matches!(world.refused(types::Op::SetVersioning(off)), Refusal::Invalid(_)));
    assert_eq!(world.run(suspend("bucket")), Outcome::Done);
    assert_eq!(query::bucket(&world.state, "bucket").unwrap().unwrap().versioning, Versioning::Suspended);
    assert_eq!(world.refused(enable("nowhere")), Refusal::NoSuchBucket);
}

#[test]
fn a_name_that_could_blur_row_keys_is_no_bucket() {
    let mut world = World::new();
    for name in ["", "ab", "bucket\0x", "Bucket", "b/cket", &"b".repeat(64)] {
        assert!(matches!(world.refused(create_bucket(name)), Refusal::Invalid(_)), "{name:?}");
        assert_eq!(world.refused(types::Op::PutObject(put_object(name, "key", "x"))), Refusal::NoSuchBucket);
        assert_eq!(query::bucket(&world.state, name).unwrap(), None);
        assert_eq!(query::object(&world.state, name, "key", None).unwrap(), None);
    }
}

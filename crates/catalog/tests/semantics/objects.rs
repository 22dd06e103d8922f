//! Putting and deleting in buckets without versioning.

use catalog::query;
use types::command::PutObject;
use types::object::Body;
use types::state::Table;
use types::{Op, Outcome, Refusal};

use crate::common::ops::*;
use crate::common::{World, bytes};

#[test]
fn an_unversioned_bucket_answers_no_version_id() {
    let mut world = World::new();
    let written = world.written(put("key", "body"));
    assert_eq!((written.version, written.null_version), (None, false));
    assert_eq!((written.etag, written.len), (etag_of("body"), 4));
    let row = query::object(&world.state, "bucket", "key", None).unwrap().unwrap();
    assert_eq!(row.version_text(), "null");
    assert_eq!(row.modified_ms(), world.now.unix_ms());
}

#[test]
fn an_overwrite_takes_the_bytes_of_the_old_one_with_it() {
    let mut world = World::new();
    world.written(put("key", "one"));
    world.written(put("key", "two"));
    assert_eq!(world.state.count(Table::Bodies), 1);
    world.written(put_placed("key", 9, 300_000, world.now));
    assert_eq!(world.state.count(Table::Bodies), 0);
    assert!(query::body_referenced(&world.state, types::object::PlacementId([9; 16])).unwrap());
    world.written(put("key", "three"));
    assert!(!query::body_referenced(&world.state, types::object::PlacementId([9; 16])).unwrap());
}

#[test]
fn an_empty_object_is_an_object() {
    let mut world = World::new();
    world.written(put("key", ""));
    assert_eq!(world.read("key").unwrap(), "");
    assert_eq!(world.state.count(Table::Bodies), 0);
}

#[test]
fn deleting_what_is_not_there_succeeds() {
    let mut world = World::new();
    let result = world.delete("key", None);
    assert_eq!((result.refused, result.marker, result.removed), (None, None, None));
    assert_eq!(world.run(delete("nowhere", "key", None)), Outcome::Refused(Refusal::NoSuchBucket));
}

#[test]
fn items_of_a_multi_delete_stand_alone_and_see_those_before() {
    let mut world = World::new();
    world.written(put("a", "one"));
    world.written(put("b", "two"));
    let conditional =
        |key: &str, etag: &str| types::command::DeleteItem { condition: if_match(etag), ..item(key, None) };
    let items = vec![
        item("a", None),
        conditional("a", &etag_of("one")), // gone by now
        conditional("b", "other"),
        item(&"k".repeat(1025), None),
        item("b", None),
    ];
    let Outcome::Deleted(results) = world.run(delete_all("bucket", items)) else { panic!() };
    assert_eq!(results[0].refused, None);
    assert_eq!(results[1].refused, Some(Refusal::NoSuchKey));
    assert_eq!(results[2].refused, Some(Refusal::PreconditionFailed));
    assert!(matches!(results[3].refused, Some(Refusal::Invalid(_))));
    assert_eq!(results[4].refused, None);
    assert_eq!(results.iter().map(|result| result.order.item).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert_eq!((world.read("a"), world.read("b")), (None, None));
}

#[test]
fn a_body_placed_too_long_ago_may_have_been_collected() {
    let mut world = World::new();
    let hour = 3_600_000_000_000;
    // `run` moves the clock by a second before it executes.
    let second = 1_000_000_000;
    let placed = world.now.plus_ns(second).minus_ns(hour);
    world.written(put_placed("key", 1, 300_000, placed));
    assert_eq!(world.refused(put_placed("key", 2, 300_000, world.now.minus_ns(hour))), Refusal::PlacementTooOld);
    // A clock far ahead would make a body look young for ever.
    let ahead = world.now.plus_ns(hour + 2 * second);
    assert_eq!(world.refused(put_placed("key", 3, 300_000, ahead)), Refusal::PlacementTooOld);
}

#[test]
fn length_and_digest_must_be_those_of_the_body() {
    let mut world = World::new();
    let good = put_object("bucket", "key", "body");
    let wrong = [
        PutObject { len: 5, ..good.clone() },
        PutObject { digest: [0; 32], ..good.clone() },
        PutObject { body: Body::Inline(bytes(&"x".repeat(128 * 1024 + 1))), len: 128 * 1024 + 1, ..good.clone() },
        PutObject { key: String::new(), ..good.clone() },
        PutObject { key: "k".repeat(1025), ..good },
    ];
    for put in wrong {
        assert!(matches!(world.refused(Op::PutObject(put)), Refusal::Invalid(_)));
    }
}

#[test]
fn chunks_must_be_full_but_the_last() {
    let mut world = World::new();
    let mib4 = 4 * 1024 * 1024;
    let put = |lens: &[u32], len: u64| {
        let mut placement = placement(1, 1, world.now);
        placement.chunks = lens.iter().map(|&len| types::object::Chunk { len, digest: [1; 32] }).collect();
        let digest = if lens.is_empty() { [0; 32] } else { content_digest(&placement.chunks) };
        Op::PutObject(PutObject { len, digest, body: Body::Placed(placement), ..put_object("bucket", "key", "") })
    };
    let full = u32::try_from(mib4).unwrap();
    let good = [put(&[full, 1], mib4 + 1), put(&[full, full], 2 * mib4), put(&[1], 1)];
    let wrong = [put(&[], 0), put(&[1, full], mib4 + 1), put(&[full, 0], mib4), put(&[full, 1], mib4)];
    let too_long = put(&[full + 1], mib4 + 1);
    for op in good {
        world.written(op);
    }
    for op in wrong.into_iter().chain([too_long]) {
        assert!(matches!(world.refused(op), Refusal::Invalid(_)));
    }
}

#[test]
fn a_multi_delete_stops_at_its_share_of_rows() {
    use types::limits::{COMMAND_ROWS_MAX, PARTS_MAX};
    let mut world = World::new();
    // Objects of many parts: each deletion changes at least 10,000 rows.
    let (state, keys) = many_parts(&mut world, PARTS_MAX);
    let items = keys.iter().map(|key| item(key, None)).collect();
    let command =
        types::Command { salt: [0; 32], principal: String::new(), request: None, op: delete_all("bucket", items) };
    let done = catalog::execute(&state, world.now, crate::common::command_id(1 << 40), &command).unwrap();
    let Outcome::Deleted(results) = done.outcome else { panic!() };
    let refused: Vec<_> = results.iter().map(|result| result.refused.clone()).collect();
    assert_eq!(refused.first(), Some(&None));
    assert_eq!(refused.last(), Some(&Some(Refusal::TooManyRows)));
    assert!(done.writes.len() < COMMAND_ROWS_MAX + 50_000, "{} rows", done.writes.len());
}

/// Objects of so many one-chunk parts, written as rows: uploading them would take minutes.
fn many_parts(world: &mut World, parts: u16) -> (catalog::testing::MemoryState, Vec<String>) {
    use catalog::rows::body_key;
    use types::state::Write;
    let upload = world.upload("key-0");
    let part = small_part("key-0", upload, 1, "x");
    world.run(Op::UploadPart(part.clone()));
    world.written(Op::CompleteUpload(complete("key-0", upload, vec![listed(&part)])));
    let mut state = world.state.clone();
    let keys: Vec<String> = (0..16).map(|n| format!("key-{n:x}")).collect();
    let of = |prefix: u8| {
        let row = state.rows[&Table::Catalog].iter().find(|(key, _)| key[0] == prefix).unwrap();
        (row.0.to_vec(), row.1.clone())
    };
    let (part_key, part_value) = of(b'p');
    let (object_key, object_value) = of(b'o');
    let mut writes = Vec::new();
    for (n, name) in keys.iter().enumerate() {
        // The same rows under another holder: the holder's bytes stand in the keys, and in the object row.
        let mut holder = upload;
        holder.id.counter = 100 + n as u64;
        let mut row = query::object(&state, "bucket", "key-0", None).unwrap().unwrap();
        row.body = catalog::rows::BodyAt::Parts(holder);
        let mut value = vec![catalog::rows::ROW_VERSION];
        value.extend(minicbor::to_vec(&row).unwrap());
        let mut key = object_key[..object_key.len() - 1].to_vec();
        key.push(name.as_bytes()[name.len() - 1]);
        writes.push(Write { table: Table::Catalog, key: key.into(), value: Some(value.into()) });
        for number in 1..=parts {
            let mut key = part_key[..1].to_vec();
            key.extend_from_slice(&body_key(holder, number));
            writes.push(Write { table: Table::Catalog, key: key.into(), value: Some(part_value.clone()) });
        }
    }
    assert!(!object_value.is_empty());
    state.apply(&writes);
    (state, keys)
}

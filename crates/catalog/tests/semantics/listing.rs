//! Listings.

use std::collections::BTreeSet;

use catalog::query::{self, ListObjects, ListUploads, ListVersions};
use types::command::VersionSelector;
use types::{Op, OrderKey};

use crate::common::World;
use crate::common::ops::*;

fn with_keys(keys: &[&str]) -> World {
    let mut world = World::new();
    for key in keys {
        world.written(put(key, "x"));
    }
    world
}

fn list<'a>(prefix: &'a str, delimiter: &'a str, after: Option<&'a str>, max: usize) -> ListObjects<'a> {
    ListObjects { bucket: "bucket", prefix, delimiter, after, max }
}

/// Keys, then common prefixes, then where to go on.
fn page(world: &World, list: &ListObjects<'_>) -> (Vec<String>, Vec<String>, Option<String>) {
    let page = query::list_objects(&world.state, list).unwrap();
    (page.objects.into_iter().map(|(key, _)| key).collect(), page.prefixes, page.next)
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

#[test]
fn keys_stand_in_utf8_byte_order() {
    // UTF-16 order would put U+10000 before U+FFFD.
    let world = with_keys(&["a", "\u{10000}", "\u{fffd}", "B", "a\0b", "a\u{1}", "ä"]);
    let (keys, ..) = page(&world, &list("", "", None, 1000));
    assert_eq!(keys, ["B", "a", "a\0b", "a\u{1}", "ä", "\u{fffd}", "\u{10000}"]);
}

#[test]
fn common_prefixes_count_towards_the_page() {
    let world = with_keys(&["a/1", "a/2", "b", "c/1", "d"]);
    assert_eq!(page(&world, &list("", "/", None, 1000)), (strings(&["b", "d"]), strings(&["a/", "c/"]), None));
    let (keys, prefixes, next) = page(&world, &list("", "/", None, 3));
    assert_eq!((keys, prefixes), (strings(&["b"]), strings(&["a/", "c/"])));
    let rest = page(&world, &list("", "/", next.as_deref(), 3));
    assert_eq!(rest, (strings(&["d"]), Vec::new(), None));
}

#[test]
fn going_on_after_a_common_prefix_does_not_list_it_again() {
    let world = with_keys(&["a/1", "a/2", "b/1"]);
    let (_, prefixes, next) = page(&world, &list("", "/", None, 1));
    assert_eq!((prefixes, next.as_deref()), (strings(&["a/"]), Some("a/")));
    assert_eq!(page(&world, &list("", "/", Some("a/"), 1)), (Vec::new(), strings(&["b/"]), None));
    // A marker inside of it does: there are keys after the marker.
    assert_eq!(page(&world, &list("", "/", Some("a/1"), 1)).1, strings(&["a/"]));
    // Without the delimiter "a/" is a key like any other.
    assert_eq!(page(&world, &list("", "", Some("a/"), 1)).0, strings(&["a/1"]));
}

#[test]
fn a_full_last_page_is_not_truncated() {
    let world = with_keys(&["a", "b"]);
    assert_eq!(page(&world, &list("", "", None, 2)), (strings(&["a", "b"]), Vec::new(), None));
    assert_eq!(page(&world, &list("", "", None, 1)), (strings(&["a"]), Vec::new(), Some("a".to_owned())));
    assert_eq!(page(&world, &list("", "", None, 0)), (Vec::new(), Vec::new(), None));
    assert_eq!(page(&world, &list("", "", Some("zzz"), 10)), (Vec::new(), Vec::new(), None));
}

#[test]
fn a_prefix_ends_where_it_ends() {
    let world = with_keys(&["a", "ab", "ab/c", "b", "\u{7f}", "\u{80}"]);
    assert_eq!(page(&world, &list("ab", "", None, 10)).0, strings(&["ab", "ab/c"]));
    assert_eq!(page(&world, &list("ab/", "/", None, 10)).0, strings(&["ab/c"]));
    assert_eq!(page(&world, &list("\u{7f}", "", None, 10)).0, strings(&["\u{7f}"]));
    assert_eq!(page(&world, &list("b", "", Some("a"), 10)).0, strings(&["b"]), "a marker before the prefix");
}

#[test]
fn a_delimiter_may_be_long_or_stand_at_the_end() {
    let world = with_keys(&["a--1", "a--2", "a-b", "dir/"]);
    assert_eq!(page(&world, &list("", "--", None, 10)).1, strings(&["a--"]));
    assert_eq!(page(&world, &list("dir/", "/", None, 10)).0, strings(&["dir/"]), "the folder's own key");
    assert_eq!(page(&world, &list("", "/", None, 10)).1, strings(&["dir/"]));
}

#[test]
fn a_delete_marker_hides_its_key_and_its_prefix() {
    let mut world = World::versioned();
    world.written(put("a/1", "x"));
    world.written(put("b", "x"));
    world.delete("a/1", None);
    assert_eq!(page(&world, &list("", "/", None, 10)), (strings(&["b"]), Vec::new(), None));
    assert_eq!(page(&world, &list("", "/", None, 1)), (strings(&["b"]), Vec::new(), None));
}

#[test]
fn other_buckets_do_not_show() {
    let mut world = with_keys(&["a"]);
    world.run(create_bucket("bucket.a"));
    world.run(Op::PutObject(put_object("bucket.a", "other", "x")));
    assert_eq!(page(&world, &list("", "", None, 10)).0, strings(&["a"]));
}

/// Every page size gives the same listing as a plain filter over all keys.
#[test]
fn pages_of_any_size_make_up_the_whole() {
    let keys: Vec<String> =
        (0..200).map(|n| format!("{}/{}", n % 7, if n % 3 == 0 { format!("x/{n}") } else { n.to_string() })).collect();
    let world = with_keys(&keys.iter().map(String::as_str).collect::<Vec<_>>());
    for prefix in ["", "1", "3/", "3/x"] {
        let expected: BTreeSet<String> = keys
            .iter()
            .filter_map(|key| {
                let rest = key.strip_prefix(prefix)?;
                Some(rest.find('/').map_or(key.clone(), |at| key[..=prefix.len() + at].to_owned()))
            })
            .collect();
        for max in [1, 2, 3, 7, 1000] {
            let mut found = Vec::new();
            let mut after: Option<String> = None;
            loop {
                let (keys, prefixes, next) = page(&world, &list(prefix, "/", after.as_deref(), max));
                assert!(keys.len() + prefixes.len() <= max);
                let mut entries = [keys, prefixes].concat();
                entries.sort();
                found.extend(entries);
                match next {
                    Some(next) => after = Some(next),
                    None => break,
                }
            }
            assert_eq!(found, expected.iter().cloned().collect::<Vec<_>>(), "{prefix:?} in pages of {max}");
        }
    }
}

type Versions = Vec<(String, OrderKey, bool)>;

fn versions(world: &World, list: &ListVersions<'_>) -> (Versions, Option<query::VersionMarker>) {
    let page = query::list_versions(&world.state, list).unwrap();
    (page.versions.into_iter().map(|entry| (entry.key, entry.row.order, entry.is_latest)).collect(), page.next)
}

#[test]
fn versions_stand_newest_first_with_markers_among_them() {
    let mut world = World::new();
    let null = world.written(put("b", "null")).order;
    world.run(enable("bucket"));
    let one = world.written(put("b", "one")).order;
    let marker = world.delete("b", None).order;
    let other = world.written(put("a\0", "x")).order;
    let all = vec![
        ("a\0".to_owned(), other, true),
        ("b".to_owned(), marker, true),
        ("b".to_owned(), one, false),
        ("b".to_owned(), null, false),
    ];
    let whole = ListVersions { bucket: "bucket", max: 1000, ..Default::default() };
    assert_eq!(versions(&world, &whole), (all.clone(), None));
    for max in 1..=4 {
        let mut found = Vec::new();
        let mut next: Option<query::VersionMarker> = None;
        loop {
            let (key_after, version_after) =
                next.as_ref().map_or((None, None), |next| (Some(next.key.as_str()), next.version));
            let (page, more) = versions(&world, &ListVersions { max, key_after, version_after, ..whole });
            found.extend(page);
            next = more;
            if next.is_none() {
                break;
            }
        }
        assert_eq!(found, all, "pages of {max}");
    }
    let after_key = ListVersions { key_after: Some("a\0"), ..whole };
    assert_eq!(versions(&world, &after_key).0, all[1..]);
}

#[test]
fn a_marker_whose_version_has_gone_loses_no_version() {
    let mut world = World::versioned();
    let orders: Vec<OrderKey> = (0..3).map(|_| world.written(put("key", "x")).order).collect();
    let whole = ListVersions { bucket: "bucket", max: 1000, ..Default::default() };
    let after =
        |order| ListVersions { key_after: Some("key"), version_after: Some(VersionSelector::Id(order)), ..whole };
    world.delete("key", Some(VersionSelector::Id(orders[2])));
    let left = versions(&world, &after(orders[2])).0;
    assert_eq!(left.iter().map(|(_, order, _)| *order).collect::<Vec<_>>(), [orders[1], orders[0]]);
    world.delete("key", Some(VersionSelector::Id(orders[1])));
    assert_eq!(versions(&world, &after(orders[1])).0, [("key".to_owned(), orders[0], true)]);
}

#[test]
fn versions_roll_up_under_common_prefixes() {
    let mut world = World::versioned();
    for key in ["a/1", "a/1", "a/2", "b"] {
        world.written(put(key, "x"));
    }
    let list = ListVersions { bucket: "bucket", delimiter: "/", max: 1, ..Default::default() };
    let first = query::list_versions(&world.state, &list).unwrap();
    assert_eq!((first.prefixes, first.versions.len()), (strings(&["a/"]), 0));
    let next = first.next.unwrap();
    assert_eq!(next.version, None);
    let rest = query::list_versions(&world.state, &ListVersions { key_after: Some(&next.key), ..list }).unwrap();
    assert_eq!((rest.versions.len(), rest.next), (1, None));
}

#[test]
fn uploads_are_listed_by_key_and_age() {
    let mut world = World::new();
    let second = world.upload("b");
    let third = world.upload("b");
    let first = world.upload("a\0");
    let nested = world.upload("c/d");
    let whole = ListUploads { bucket: "bucket", max: 1000, ..Default::default() };
    let ids = |list: &ListUploads<'_>| {
        let page = query::list_uploads(&world.state, list).unwrap();
        (page.uploads.iter().map(|entry| entry.upload).collect::<Vec<_>>(), page.prefixes, page.next)
    };
    assert_eq!(ids(&whole), (vec![first, second, third, nested], Vec::new(), None));
    let (page, _, next) = ids(&ListUploads { max: 2, ..whole });
    assert_eq!((page, &next), (vec![first, second], &Some(("b".to_owned(), Some(second)))));
    let on = ListUploads { key_after: Some("b"), upload_after: Some(second), delimiter: "/", ..whole };
    assert_eq!(ids(&on), (vec![third], strings(&["c/"]), None));
    assert_eq!(ids(&ListUploads { key_after: Some("b"), ..whole }).0, [nested]);
    let past = ListUploads { key_after: Some("c/"), delimiter: "/", ..whole };
    assert_eq!(ids(&past), (Vec::new(), Vec::new(), None));
}

#[test]
fn parts_are_listed_in_pages() {
    let mut world = World::new();
    let upload = world.upload("key");
    for number in [1, 5, 10_000] {
        world.run(Op::UploadPart(small_part("key", upload, number, "x")));
    }
    let page = |after, max| {
        let page = query::list_parts(&world.state, "bucket", "key", upload, after, max).unwrap().unwrap();
        (page.parts.iter().map(|(number, _)| *number).collect::<Vec<_>>(), page.next)
    };
    assert_eq!(page(0, 2), (vec![1, 5], Some(5)));
    assert_eq!(page(5, 2), (vec![10_000], None));
    assert_eq!(page(0, 3), (vec![1, 5, 10_000], None));
    assert_eq!(page(0, 0), (vec![], None));
    assert_eq!(page(u16::MAX, 5), (vec![], None));
}

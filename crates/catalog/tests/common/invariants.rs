//! What holds of every state, whatever commands made it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use catalog::digest::StateDigest;
use catalog::query;
use catalog::rows::{BodyAt, ObjectRow, body_key};
use catalog::testing::MemoryState;
use types::OrderKey;
use types::object::PlacementId;
use types::state::{StateRead, Table};

type References = BTreeSet<(PlacementId, OrderKey, u16)>;

/// Panics when the state could not have come about by a correct state machine.
pub fn check(state: &MemoryState) {
    let mut bodies = BTreeMap::new();
    let mut references = References::new();
    let mut holders = BTreeSet::new();
    let mut versions: BTreeMap<(String, String), Vec<(bool, ObjectRow)>> = BTreeMap::new();
    query::each_object(state, |place, row| {
        let is_latest = place.is_latest;
        attach(&row.body, row.order, 0, row.digest, &mut bodies, &mut references);
        if let BodyAt::Parts(holder) = row.body {
            assert!(holders.insert(holder), "two objects share part rows");
            check_parts(state, &row);
        }
        versions.entry((place.bucket, place.key)).or_default().push((is_latest, row));
        ControlFlow::Continue(())
    })
    .unwrap();
    versions.into_iter().for_each(|((bucket, key), rows)| {
        assert!(query::bucket(state, &bucket).unwrap().is_some(), "{bucket}/{key} outlives its bucket");
        check_versions(&key, &rows);
    });
    for (bucket, _) in query::buckets(state).unwrap() {
        let list = query::ListUploads { bucket: &bucket, max: 1000, ..Default::default() };
        holders.extend(query::list_uploads(state, &list).unwrap().uploads.into_iter().map(|entry| entry.upload));
    }
    query::each_part(state, |holder, number, row| {
        assert!(holders.contains(&holder), "part {number} has no upload and no object");
        attach(&row.body, row.order, number, row.digest, &mut bodies, &mut references);
        ControlFlow::Continue(())
    })
    .unwrap();

    let mut kept = References::new();
    query::each_placement(state, |placement, order, number| {
        kept.insert((placement, order, number));
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(kept, references, "references and placed bodies differ");
    check_bodies(state, &bodies);
    for (table, rows) in &state.rows {
        // Stores bound their keys: names are checked before they become part of one.
        assert!(rows.keys().all(|key| key.len() < 2304), "{table:?} has an over-long key");
    }
    check_digest(state);
}

fn attach(
    body: &BodyAt,
    order: OrderKey,
    number: u16,
    digest: [u8; 32],
    bodies: &mut BTreeMap<Vec<u8>, [u8; 32]>,
    references: &mut References,
) {
    match body {
        BodyAt::Inline => {
            assert!(bodies.insert(body_key(order, number).to_vec(), digest).is_none(), "a body belongs to two");
        }
        BodyAt::Placed(placement) => assert!(references.insert((placement.id, order, number))),
        BodyAt::Nothing | BodyAt::Parts(_) => {}
    }
}

fn check_parts(state: &MemoryState, row: &ObjectRow) {
    let index = query::parts(state, row).unwrap().unwrap();
    assert_eq!(index.parts.len(), usize::from(row.parts));
    assert_eq!(index.parts.iter().map(|part| part.len).sum::<u64>(), row.len);
    assert!(index.parts.is_sorted_by(|a, b| a.number < b.number));
    let BodyAt::Parts(holder) = row.body else { unreachable!() };
    let mut numbers = Vec::new();
    query::each_part(state, |of, number, _| {
        numbers.extend((of == holder).then_some(number));
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(numbers, index.parts.iter().map(|part| part.number).collect::<Vec<_>>());
}

/// One current row, the newest; `null` at most once, and known to the current row.
fn check_versions(key: &str, rows: &[(bool, ObjectRow)]) {
    let current: Vec<_> = rows.iter().filter(|(is_latest, _)| *is_latest).collect();
    assert_eq!(current.len(), 1, "{key:?} has {} current rows", current.len());
    let current = &current[0].1;
    assert!(rows.iter().all(|(is_latest, row)| *is_latest || row.order < current.order), "{key:?}: not the newest");
    assert!(rows.iter().all(|(is_latest, row)| *is_latest || row.null_below.is_none()));
    let null: Vec<_> = rows.iter().filter(|(_, row)| row.null).collect();
    assert!(null.len() <= 1, "{key:?} has {} versions null", null.len());
    let below = null.first().filter(|(is_latest, _)| !is_latest).map(|(_, row)| row.order);
    assert_eq!(current.null_below, below, "{key:?}: where the version null is");
}

fn check_bodies(state: &MemoryState, bodies: &BTreeMap<Vec<u8>, [u8; 32]>) {
    let mut kept = BTreeMap::new();
    state
        .scan(Table::Bodies, &[], &[], &mut |key, value| {
            assert!(!value.is_empty(), "empty bodies have no row");
            kept.insert(key.to_vec(), *blake3::hash(value).as_bytes());
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(&kept, bodies, "inline bodies and their rows differ");
}

fn check_digest(state: &MemoryState) {
    let mut digest = StateDigest::new();
    state
        .scan(Table::Catalog, &[], &[], &mut |key, value| {
            digest.add(key, value);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(digest, state.digest, "the digest that was kept is not that of the rows");
}

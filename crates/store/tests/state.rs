//! One property for both states: the same operations give the same answers.
#![allow(clippy::unwrap_used)]

use std::ops::ControlFlow;

use bytes::Bytes;
use proptest::prelude::*;
use store::state::{FjallOptions, FjallState, MemState, Snapshot, State, StateBatch, StateError};
use types::state::{StateRead, Table, Write};

#[derive(Clone, Debug)]
enum Step {
    Apply(Vec<(u8, u8, Option<u16>)>),
    Sync,
    Snapshot,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let write = (0u8..4, any::<u8>(), proptest::option::of(0u16..9000));
    prop_oneof![
        8 => proptest::collection::vec(write, 0..12).prop_map(Step::Apply),
        1 => Just(Step::Sync),
        1 => Just(Step::Snapshot),
        1 => Just(Step::Reopen),
    ]
}

/// Keys that are prefixes of one another, and an empty one.
fn key(number: u8) -> Bytes {
    Bytes::from(vec![number % 5; usize::from(number % 4) + 1])
}

fn batch(writes: &[(u8, u8, Option<u16>)], applied: u32) -> StateBatch {
    let writes = writes.iter().map(|(table, number, value)| Write {
        table: Table::ALL[usize::from(*table)],
        key: key(*number),
        value: value.map(|len| Bytes::from(vec![*number; usize::from(len)])),
    });
    StateBatch { writes: writes.collect(), applied: applied.to_be_bytes().to_vec() }
}

type Rows = Vec<(Vec<u8>, Vec<u8>)>;

fn scan(state: &dyn StateRead, table: Table, start: &[u8], end: &[u8], limit: usize) -> Rows {
    let mut rows = Vec::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        rows.push((key.to_vec(), value.to_vec()));
        if rows.len() == limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    state.scan(table, start, end, &mut visit).unwrap();
    rows
}

fn assert_same(a: &dyn StateRead, b: &dyn StateRead) {
    for table in Table::ALL {
        for (start, end, limit) in
            [(&[][..], &[][..], 999), (&[1], &[3], 999), (&[2, 2], &[], 3), (&[3], &[1], 999), (&[1, 1], &[1, 1, 1], 9)]
        {
            assert_eq!(
                scan(a, table, start, end, limit),
                scan(b, table, start, end, limit),
                "{table:?} {start:?} {end:?}"
            );
        }
        for number in 0..20 {
            assert_eq!(a.get(table, &key(number)).unwrap(), b.get(table, &key(number)).unwrap());
        }
    }
}

fn options() -> FjallOptions {
    FjallOptions { cache_len: 1 << 20, write_buffer_len: 1 << 20, workers: 1, ..FjallOptions::default() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn the_model_and_the_disk_agree(steps in proptest::collection::vec(step(), 1..30)) {
        let folder = tempfile::tempdir().unwrap();
        let mut real = FjallState::open(folder.path().join("state"), options()).unwrap();
        let model = MemState::new();
        let mut snapshots: Vec<(Snapshot, Snapshot)> = Vec::new();
        for (number, step) in (1..).zip(&steps) {
            match step {
                Step::Apply(writes) => {
                    real.apply(batch(writes, number)).unwrap();
                    model.apply(batch(writes, number)).unwrap();
                }
                Step::Sync => {
                    real.sync().unwrap();
                    model.sync().unwrap();
                }
                Step::Snapshot => snapshots.push((real.snapshot(), model.snapshot())),
                Step::Reopen => {
                    snapshots.clear();
                    drop(real);
                    real = FjallState::open(folder.path().join("state"), options()).unwrap();
                }
            }
            prop_assert_eq!(real.applied().unwrap(), model.applied().unwrap());
        }
        assert_same(&real, &model);
        for (real, model) in &snapshots {
            assert_same(&**real, &**model);
        }
    }
}

#[test]
fn a_crash_of_the_model_loses_a_suffix_of_whole_batches_and_nothing_synced() {
    for seed in 0..500 {
        let state = MemState::new();
        let model: Vec<MemState> = (0..8)
            .map(|upto| {
                let model = MemState::new();
                (0..upto).for_each(|number| {
                    model
                        .apply(batch(&[(0, number, Some(3)), (1, 1, Some(u16::from(number)))], number.into()))
                        .unwrap();
                });
                model
            })
            .collect();
        for number in 0..7 {
            state.apply(batch(&[(0, number, Some(3)), (1, 1, Some(u16::from(number)))], number.into())).unwrap();
            if number == 3 {
                state.sync().unwrap();
            }
        }
        state.crash(seed);
        let applied = state.applied().unwrap().unwrap();
        let survived = usize::from(applied[3]) + 1;
        assert!(survived >= 4, "seed {seed}");
        assert_same(&state, &model[survived]);
    }
}

#[test]
fn a_state_in_use_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let state = FjallState::open(&path, options()).unwrap();
    let error = FjallState::open(&path, options()).err().unwrap();
    assert!(matches!(error, StateError::Locked(_)), "{error}");
    assert!(error.to_string().contains("in use by another process"));
    drop(state);
    FjallState::open(&path, options()).unwrap();
}

#[test]
fn a_state_of_another_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    drop(FjallState::open(&path, options()).unwrap());
    {
        let database = fjall::Database::builder(&path).open().unwrap();
        let meta = database.keyspace("meta", fjall::KeyspaceCreateOptions::default).unwrap();
        meta.insert("format", "2").unwrap();
        database.persist(fjall::PersistMode::SyncAll).unwrap();
    }
    let error = FjallState::open(&path, options()).err().unwrap();
    assert!(matches!(&error, StateError::Version { found, .. } if found == "2"), "{error}");
    std::fs::write(path.join("version"), [0; 4]).unwrap();
    let error = FjallState::open(&path, options()).err().unwrap();
    assert!(matches!(&error, StateError::Version { .. } | StateError::Damaged { .. }), "{error}");
}

/// What `kill -9` leaves: the files as they are while the database is open and was never synced.
#[test]
fn a_killed_process_loses_no_batch() {
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = (folder.path().join("state"), folder.path().join("copy"));
    let state = FjallState::open(&path, options()).unwrap();
    for number in 0..100u8 {
        state.apply(batch(&[(0, number, Some(50)), (1, number, Some(8000))], number.into())).unwrap();
    }
    copy_folder(&path, &copy);
    let found = FjallState::open(&copy, options()).unwrap();
    assert_eq!(found.applied().unwrap().unwrap(), 99u32.to_be_bytes());
    assert_same(&found, &state);
    assert!(state.disk_len().unwrap() > 0);
}

fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

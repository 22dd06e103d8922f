//! Random lives of a journal on a disk that loses, tears and refuses: what was reported durable is there after
//! every crash, and what was not is there whole or not at all.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;

use bytes::Bytes;
use store::disk::MemDisk;
use store::disk::mem::Lie;
use store::journal::{AppendError, Base, Journal, Kept, KeptKind, Record};
use support::{Dice, base, batch, dump, open, record};
use types::GroupId;

const SEGMENT: u64 = 8 * 1024;
const GROUPS: [GroupId; 2] = [GroupId(1), GroupId(2)];
/// `ENTANGLE_SEEDS` asks for more.
const SEEDS: u64 = 2000;

/// What the journal owes.
#[derive(Clone, Default)]
struct Model {
    /// Per group, the durable records by position: the body, or none once erased.
    records: BTreeMap<GroupId, BTreeMap<u64, Option<Bytes>>>,
    bases: BTreeMap<GroupId, Base>,
    head: Option<Bytes>,
}

/// What was under way when the power went.
#[derive(Clone)]
enum Attempt {
    Nothing,
    Append { group: GroupId, said: Vec<Record>, head: Option<Bytes> },
    Trim { group: GroupId, base: Base },
    Erase { group: GroupId, position: u64 },
}

impl Model {
    fn next(&self, group: GroupId) -> u64 {
        self.records.get(&group).and_then(|records| records.last_key_value()).map_or(1, |(position, _)| position + 1)
    }

    fn apply(&mut self, attempt: Attempt) {
        match attempt {
            Attempt::Nothing => {}
            Attempt::Append { group, said, head } => {
                let records = self.records.entry(group).or_default();
                records.extend(said.into_iter().map(|record| (record.header.position, Some(record.body))));
                self.head = head.or(self.head.take());
            }
            Attempt::Trim { group, base } => {
                self.bases.insert(group, base);
            }
            Attempt::Erase { group, position } => {
                if let Some(body) = self.records.entry(group).or_default().get_mut(&position) {
                    *body = body.take().filter(Bytes::is_empty);
                }
            }
        }
    }

    /// Whether the journal says exactly this.
    fn matches(&self, journal: &Journal) -> bool {
        GROUPS.iter().all(|group| {
            let first = journal.reader().first_position(*group);
            let below = self.bases.get(group).map_or(1, |base| base.below);
            let owed = self.records.get(group).cloned().unwrap_or_default();
            let expected: Vec<_> = owed.range(first..).map(|(position, body)| (*position, body.clone())).collect();
            let found: Vec<_> = dump(journal, *group).into_iter().map(|(h, body)| (h.position, body)).collect();
            first <= below.max(1)
                && found == expected
                && journal.next_position(*group) == self.next(*group)
                && journal.base(*group) == self.bases.get(group).cloned()
        }) && journal.kept(GROUPS[0], KeptKind::TREE_HEAD) == self.head
    }
}

/// Chooses something to do.
fn choose(dice: &mut Dice, model: &Model) -> Attempt {
    let group = GROUPS[dice.roll(2) as usize];
    let next = model.next(group);
    match dice.roll(20) {
        0 => {
            let below = model.bases.get(&group).map_or(1, |base| base.below);
            Attempt::Trim { group, base: base(below + dice.roll(next - below + 1)) }
        }
        1 if next > 1 => Attempt::Erase { group, position: 1 + dice.roll(next - 1) },
        _ => {
            let count = 1 + dice.roll(4);
            let mut said = Vec::new();
            for at in next..next + count {
                said.push(record(at, (dice.roll(3) * dice.roll(400)) as usize, at));
            }
            let head = (dice.roll(4) == 0).then(|| Bytes::from(format!("head {}", dice.roll(1000))));
            Attempt::Append { group, said, head }
        }
    }
}

/// Does it; false when the journal has failed.
fn perform(journal: &mut Journal, attempt: &Attempt, seed: u64) -> bool {
    match attempt {
        Attempt::Nothing => true,
        Attempt::Append { group, said, head } => {
            let head = head.clone().map(|bytes| Kept { group: GROUPS[0], kind: KeptKind::TREE_HEAD, bytes });
            match journal.append(&[batch(*group, said)], head.as_slice()) {
                Ok(_) => true,
                Err(AppendError::Io { .. } | AppendError::Poisoned) => false,
                Err(error) => panic!("seed {seed}: {error}"),
            }
        }
        Attempt::Trim { group, base } => journal.trim(*group, base).is_ok(),
        Attempt::Erase { group, position } => {
            if *position < journal.reader().first_position(*group) {
                return true;
            }
            journal.erase(*group, *position).is_ok()
        }
    }
}

/// Lives one seed through; says what was owed and not there.
fn live(seed: u64, lie: Lie) -> Result<(), String> {
    let mut dice = Dice::new(seed);
    let disk = MemDisk::new();
    disk.set_lie(lie);
    let mut model = Model::default();
    let mut attempt = Attempt::Nothing;
    for life in 0..4 {
        let (mut journal, _) = open(&disk, SEGMENT).map_err(|error| format!("life {life}: {error}"))?;
        let mut done = model.clone();
        done.apply(attempt.clone());
        if !model.matches(&journal) {
            if !done.matches(&journal) {
                return Err(format!("life {life}: neither with nor without the last call"));
            }
            model = done;
        }
        attempt = Attempt::Nothing;
        match dice.roll(3) {
            0 => disk.fail_sync_after(dice.roll(30), dice.roll(u64::MAX)),
            _ => disk.power_off_after(dice.roll(120)),
        }
        for _ in 0..40 {
            if dice.roll(5) == 0 {
                journal.prepare();
            }
            let next = choose(&mut dice, &model);
            if !perform(&mut journal, &next, seed) {
                attempt = next;
                break;
            }
            model.apply(next);
        }
        // Now and then opening itself is cut short.
        disk.crash(dice.roll(u64::MAX));
        while dice.roll(3) == 0 {
            disk.power_off_after(dice.roll(12));
            let _ = open(&disk, SEGMENT);
            disk.crash(dice.roll(u64::MAX));
        }
    }
    drop(open(&disk, SEGMENT).map_err(|error| format!("the end: {error}"))?);
    disk.crash(dice.roll(u64::MAX));
    let (journal, report) = open(&disk, SEGMENT).map_err(|error| format!("the end, again: {error}"))?;
    if (report.torn, report.erasures_completed) != (None, 0) {
        return Err("opening does not mend for good".to_owned());
    }
    let mut done = model.clone();
    done.apply(attempt);
    if model.matches(&journal) || done.matches(&journal) { Ok(()) } else { Err("the end".to_owned()) }
}

#[test]
fn nothing_durable_is_lost_over_thousands_of_crashes() {
    let seeds = std::env::var("ENTANGLE_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(SEEDS);
    for seed in 0..seeds {
        live(seed, Lie::No).unwrap_or_else(|lost| panic!("seed {seed}: {lost}"));
    }
}

/// The test above has teeth: a flush that is not one is noticed.
#[test]
fn a_flush_left_out_would_be_noticed() {
    for lie in [Lie::Files, Lie::Folder] {
        let noticed = (0..40).filter(|seed| live(*seed, lie).is_err()).count();
        assert!(noticed > 20, "{lie:?}: noticed in {noticed} of 40 lives");
    }
}

#[test]
fn a_seed_gives_the_same_disk_twice() {
    let run = || {
        let disk = MemDisk::new();
        let (mut journal, _) = open(&disk, SEGMENT).unwrap();
        let mut model = Model::default();
        let mut dice = Dice::new(11);
        for _ in 0..30 {
            let next = choose(&mut dice, &model);
            perform(&mut journal, &next, 11);
            model.apply(next);
        }
        disk.crash(4);
        disk.bytes("segment-0000000000000002")
    };
    let first = run();
    assert!(first.is_some());
    assert_eq!(first, run());
}

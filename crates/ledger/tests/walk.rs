//! Walking a log: a good one verifies, and each way of spoiling it is found at its index.
#![allow(clippy::unwrap_used)]

mod common;

use common::{ORIGIN, TestSigner, fact, log, members, order};
use ledger::block::{BlockError, build};
use ledger::checkpoint::{Checkpoint, SignedCheckpoint};
use ledger::side::{SideRecord, opens};
use ledger::verify::{DefectKind, Leaf, LogError, Summary, Walker, verify_log};
use ledger::{Block, Cut, Entry, Frontier, Policy};
use types::fact::FactKind;
use types::{Epoch, GroupId, Timestamp};

fn leaves(blocks: &[Block]) -> Vec<Leaf> {
    blocks
        .iter()
        .flat_map(|block| block.entries.iter().zip(&block.sides))
        .map(|(entry, side)| Leaf { entry: *entry, side: Some(side.clone()) })
        .collect()
}

fn policy() -> Policy {
    Policy::of_group(ORIGIN, &members(1), 1).unwrap()
}

fn checkpoint(blocks: &[Block]) -> String {
    let last = blocks.last().unwrap();
    let signer = TestSigner::new(1);
    let mut signed = SignedCheckpoint::sign(Checkpoint::new(ORIGIN, last.frontier.size(), last.root), &signer).unwrap();
    signed.cosign("node-1.example", &signer, 1_700_000_000);
    signed.to_string()
}

fn verify(leaves: Vec<Leaf>, checkpoint: &str) -> Result<Summary, LogError<()>> {
    verify_log(leaves.into_iter().map(Ok), checkpoint.as_bytes(), &policy(), None).map(|(_, summary)| summary)
}

fn defect(leaves: Vec<Leaf>, checkpoint: &str) -> (u64, DefectKind) {
    match verify(leaves, checkpoint) {
        Err(LogError::Defect(defect)) => (defect.index, defect.kind),
        other => panic!("wanted a defect: {other:?}"),
    }
}

#[test]
fn a_good_log_verifies() {
    let (blocks, _) = log(20);
    let summary = verify(leaves(&blocks), &checkpoint(&blocks)).unwrap();
    assert_eq!((summary.entries, summary.blocks), (81, 20));
    assert_eq!((summary.open_sides, summary.erased_sides, summary.absent_sides), (61, 0, 0));
    assert_eq!(summary.root, blocks.last().unwrap().root);
    let mut walker = Walker::new(Vec::new());
    for leaf in leaves(&blocks) {
        walker.push(&leaf.entry, leaf.side.as_deref(), |_| {}).unwrap();
    }
    assert!(walker.clone().finish(Some(&[19; 32])).is_ok());
    assert!(matches!(walker.finish(Some(&[18; 32])).unwrap_err().kind, DefectKind::State));
}

#[test]
fn erasure_leaves_a_log_valid() {
    let (blocks, _) = log(3);
    let mut leaves = leaves(&blocks);
    let side = SideRecord::from_bytes(leaves[1].side.as_ref().unwrap()).unwrap();
    leaves[1].side = Some(side.without_readable().to_bytes());
    leaves[2].side = Some(SideRecord::from_bytes(leaves[2].side.as_ref().unwrap()).unwrap().erased().to_bytes());
    leaves[3].side = None;
    let summary = verify(leaves.clone(), &checkpoint(&blocks)).unwrap();
    assert_eq!((summary.open_sides, summary.erased_sides, summary.absent_sides), (7, 2, 1));
    let needle = b"cat-0.jpg";
    let bytes = leaves[1].side.as_ref().unwrap();
    assert!(!bytes.windows(needle.len()).any(|window| window == needle), "the name is gone");
    let entry = Entry::from_bytes(&leaves[1].entry).unwrap();
    let opened = opens(&entry, &SideRecord::from_bytes(bytes).unwrap()).unwrap();
    assert_eq!((opened.readable, opened.predecessor), (None, Some(None)));
}

/// Every bit of every entry and of every side record counts.
#[test]
fn every_flipped_bit_is_found() {
    let (blocks, _) = log(2);
    let good = leaves(&blocks);
    let checkpoint = checkpoint(&blocks);
    for index in 0..good.len() {
        for bit in 0..Entry::LEN * 8 {
            let mut bad = good.clone();
            bad[index].entry[bit / 8] ^= 1 << (bit % 8);
            assert!(verify(bad, &checkpoint).is_err(), "bit {bit} of entry {index}");
        }
        for bit in 0..good[index].side.as_ref().unwrap().len() * 8 {
            let mut bad = good.clone();
            bad[index].side.as_mut().unwrap()[bit / 8] ^= 1 << (bit % 8);
            let found = defect(bad, &checkpoint);
            assert_eq!(found.0, index as u64, "bit {bit} of side record {index}");
        }
    }
    for byte in 0..checkpoint.len() {
        let mut bad = checkpoint.clone().into_bytes();
        bad[byte] ^= 1;
        let result: Result<_, LogError<()>> = verify_log(good.iter().cloned().map(Ok), &bad, &policy(), None);
        assert!(result.is_err(), "byte {byte} of the checkpoint");
    }
}

#[test]
fn spoiled_logs_are_found_at_their_index() {
    use DefectKind as K;
    let (blocks, _) = log(4);
    let good = leaves(&blocks);
    let checkpoint = checkpoint(&blocks);
    let spoil = |change: &dyn Fn(&mut Vec<Leaf>)| {
        let mut bad = good.clone();
        change(&mut bad);
        defect(bad, &checkpoint)
    };
    assert!(matches!(spoil(&|bad| bad.swap(1, 2)), (2, K::Order)));
    assert!(matches!(spoil(&|bad| drop(bad.remove(0))), (0, K::Genesis)));
    assert!(matches!(spoil(&|bad| drop(bad.remove(6))), (7, K::Block)));
    assert!(matches!(spoil(&|bad| drop(bad.remove(4))), (7, K::Block)));
    assert!(matches!(spoil(&|bad| drop(bad.drain(5..9))), (13, K::Short(17))));
    assert!(matches!(spoil(&|bad| drop(bad.pop())), (16, K::Short(17))));
    assert!(matches!(spoil(&|bad| bad.insert(3, bad[2].clone())), (3, K::Order)));
    assert!(matches!(spoil(&|bad| bad[2].side = bad[3].side.clone()), (2, K::Open(_))));
    assert!(matches!(spoil(&|bad| bad[4].side = bad[3].side.clone()), (4, K::Open(_))));
    assert!(matches!(spoil(&|bad| bad[3].side = Some(vec![0x83])), (3, K::Side(_))));
    let forged = |entry: Entry| entry.to_bytes();
    let parsed = Entry::from_bytes(&good[6].entry).unwrap();
    assert!(matches!(
        spoil(&|bad| bad[6].entry = forged(Entry { group: GroupId(2), ..parsed })),
        (6, K::Group(GroupId(2)))
    ));
    assert!(matches!(
        spoil(&|bad| bad[6].entry = forged(Entry { epoch: Epoch(0), ..parsed })),
        (6, K::Epoch(Epoch(0)))
    ));
    assert!(matches!(
        spoil(&|bad| bad[6].entry = forged(Entry { kind: FactKind::Genesis, ..parsed })),
        (6, K::Genesis)
    ));
    // A well-formed forgery of what only the root protects.
    let block = Entry::from_bytes(&good[8].entry).unwrap();
    assert!(matches!(spoil(&|bad| bad[8].entry = forged(Entry { name: [9; 32], ..block })), (16, K::Root(17))));
    // Entries beyond the head are checked too, and must close their block.
    let (more, _) = log(5);
    let more = leaves(&more);
    assert!(verify(more.clone(), &checkpoint).is_ok());
    assert!(matches!(defect(more[..20].to_vec(), &checkpoint), (20, K::Unclosed)));
}

#[test]
fn an_entry_behind_its_cut_is_found() {
    let cut = |previous, at| Cut {
        previous: Timestamp(previous),
        at: Timestamp(at),
        epoch: Epoch(1),
        group: GroupId(1),
        state_digest: [0; 32],
    };
    let first = build(&Frontier::new(), &cut(0, 100), &[fact(FactKind::Genesis, order(1, 1, 0), "")]).unwrap();
    let mut walker = Walker::new(Vec::new());
    for (entry, side) in first.entries.iter().zip(&first.sides) {
        walker.push(entry, Some(side), |_| {}).unwrap();
    }
    // The largest command id at the cut itself stands below the block entry; one above it cannot be expressed.
    let late = Entry::from_fact(&fact(FactKind::Put, order(100, 9, 0), "late"), Epoch(1), GroupId(1)).0;
    assert!(matches!(walker.push(&late.to_bytes(), None, |_| {}).unwrap_err().kind, DefectKind::Order));
}

#[test]
fn blocks_refuse_what_is_out_of_place() {
    let cut =
        Cut { previous: Timestamp(10), at: Timestamp(20), epoch: Epoch(1), group: GroupId(1), state_digest: [0; 32] };
    let put = |timestamp, counter| fact(FactKind::Put, order(timestamp, counter, 0), "k");
    let build = |facts: &[types::fact::Fact]| build(&Frontier::new(), &cut, facts).unwrap_err();
    assert_eq!(build(&[]), BlockError::Empty);
    assert_eq!(build(&[put(10, 1)]), BlockError::Outside(order(10, 1, 0)));
    assert_eq!(build(&[put(21, 1)]), BlockError::Outside(order(21, 1, 0)));
    assert_eq!(build(&[put(12, 1), put(12, 1)]), BlockError::Order(order(12, 1, 0)));
    assert_eq!(build(&[put(12, 2), put(12, 1)]), BlockError::Order(order(12, 1, 0)));
    let block = fact(FactKind::Block, order(12, 1, 0), "");
    assert_eq!(build(&[block]), BlockError::Kind(order(12, 1, 0)));
}

#[test]
fn building_is_deterministic_and_splits_nowhere() {
    let (one, stored) = log(30);
    let (two, _) = log(30);
    assert_eq!(one, two);
    let root = ledger::tree::root_at(&stored, one.last().unwrap().frontier.size()).unwrap();
    assert_eq!(root, one.last().unwrap().root);
}

//! Properties over random values, and the fuzz entry points over random and over nearly right bytes.
#![allow(clippy::unwrap_used)]

mod common;

use common::{ORIGIN, Stored, TestSigner, fact, members, order};
use ledger::checkpoint::{Checkpoint, SignedCheckpoint};
use ledger::proof::TlogProof;
use ledger::receipt::{Proof, Receipt, ReceiptFile};
use ledger::side::opens;
use ledger::tile::{TileKind, TilePath};
use ledger::tree::{consistency_proof, inclusion_proof, leaf_hash, root_at, verify_consistency, verify_inclusion};
use ledger::{Entry, Frontier, Policy, fuzz};
use proptest::prelude::*;
use types::fact::{FactKind, FactOutcome};
use types::{Epoch, GroupId, Timestamp};

fn kinds() -> impl Strategy<Value = FactKind> {
    prop_oneof![Just(FactKind::Put), Just(FactKind::Delete), Just(FactKind::Genesis), Just(FactKind::KeyDelete)]
}

/// Good bytes of every format.
fn seeds() -> Vec<Vec<u8>> {
    let (entry, side) = Entry::from_fact(&fact(FactKind::Put, order(5, 1, 0), "cat.jpg"), Epoch(1), GroupId(1));
    let signer = TestSigner::new(1);
    let policy = Policy::of_group(ORIGIN, &members(3), 2).unwrap();
    let leaf = entry.leaf_hash();
    let (stored, frontier) = Stored::of(&[leaf, [1; 32], [2; 32]]);
    let mut signed = SignedCheckpoint::sign(Checkpoint::new(ORIGIN, 3, frontier.root()), &signer).unwrap();
    signed.cosign("node-1.example", &signer, 1);
    let hashes = inclusion_proof(&stored, 0, 3).unwrap();
    let proof = TlogProof::of_entry(&entry.to_bytes(), 0, hashes, signed.to_string());
    let receipt = Receipt { proof: Proof::Included(proof.clone()), name: None, side: Some(side.clone()) };
    let file = ReceiptFile { receipt: receipt.clone(), untrusted_policy: Some(policy.clone()) };
    vec![
        entry.to_bytes().to_vec(),
        side.to_bytes(),
        frontier.to_bytes(),
        policy.to_string().into_bytes(),
        policy.logs()[0].key.to_string().into_bytes(),
        signed.to_string().into_bytes(),
        signed.checkpoint().to_string().into_bytes(),
        proof.to_string().into_bytes(),
        receipt.to_bytes().unwrap(),
        file.to_text().unwrap().into_bytes(),
        b"tile/entries/x001/x234/067.p/1".to_vec(),
        ledger::tile::bundle([&entry.to_bytes()[..]]).unwrap(),
    ]
}

#[test]
fn seeds_are_taken() {
    seeds().iter().for_each(|seed| fuzz::all(seed));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        fuzz::all(&bytes);
    }

    #[test]
    fn nearly_right_bytes(
        edits in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>(), 0..4_u8), 1..4),
    ) {
        for mut bytes in seeds() {
            for (at, byte, how) in &edits {
                if bytes.is_empty() {
                    continue;
                }
                let at = at.index(bytes.len());
                match how {
                    0 => bytes[at] = *byte,
                    1 => bytes.insert(at, *byte),
                    2 => drop(bytes.remove(at)),
                    _ => bytes.truncate(at),
                }
            }
            fuzz::all(&bytes);
        }
    }

    #[test]
    fn entries_open_their_side_records(
        kind in kinds(), timestamp in any::<u64>(), counter in 0..u64::MAX, item in any::<u32>(),
        bucket in ".{0,300}", key in ".{0,1100}", salt in any::<[u8; 32]>(), refused in any::<bool>(),
    ) {
        let mut fact = fact(kind, order(timestamp, counter, item), &key);
        fact.bucket = bucket;
        fact.salt = salt;
        fact.outcome = if refused { FactOutcome::Refused } else { FactOutcome::Applied };
        let (entry, side) = Entry::from_fact(&fact, Epoch(3), GroupId(9));
        prop_assert_eq!(Entry::from_bytes(&entry.to_bytes()), Ok(entry));
        for form in [side.clone(), side.without_readable(), side.without_predecessor(), side.erased()] {
            let read = ledger::SideRecord::from_bytes(&form.to_bytes()).unwrap();
            prop_assert_eq!(&read, &form);
            let opened = opens(&entry, &read).unwrap();
            if let Some(readable) = opened.readable {
                readable.name().check(&entry).unwrap();
                prop_assert!(readable.shortened || (readable.key == fact.key && readable.bucket == fact.bucket));
            }
        }
    }

    #[test]
    fn block_entries_round_trip(cut in any::<u64>(), state in any::<[u8; 32]>(), entries in any::<u64>()) {
        let entry = Entry::block(Timestamp(cut), Epoch(1), GroupId(1), state, entries, entries / 2);
        prop_assert_eq!(Entry::from_bytes(&entry.to_bytes()), Ok(entry));
        prop_assert!(entry.is_block());
    }

    #[test]
    fn tile_paths_round_trip(level in 0..=63_u8, index in 0..1_u64 << 56, width in 1..=256_u16, entries in any::<bool>()) {
        let kind = if entries { TileKind::Entries } else { TileKind::Hashes(level) };
        let path = TilePath::new(kind, index, width).unwrap();
        prop_assert_eq!(TilePath::from_text(&path.to_string()), Ok(path));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn trees_grow_consistently(size in 1..3_000_u64, pick in any::<proptest::sample::Index>()) {
        let leaves: Vec<_> = (0..size).map(|n| leaf_hash(&n.to_be_bytes())).collect();
        let (stored, frontier) = Stored::of(&leaves);
        let older = 1 + pick.index(leaves.len()) as u64;
        let index = older - 1;
        let root = frontier.root();
        prop_assert_eq!(Frontier::from_bytes(&frontier.to_bytes()), Ok(frontier));
        let proof = inclusion_proof(&stored, index, size).unwrap();
        prop_assert_eq!(verify_inclusion(index, size, &leaves[index as usize], &proof, &root), Ok(()));
        let proof = consistency_proof(&stored, older, size).unwrap();
        let before = root_at(&stored, older).unwrap();
        prop_assert_eq!(verify_consistency(older, size, &proof, &before, &root), Ok(()));
    }
}

//! Trees against the definition in RFC 6962, exhaustively to 300 leaves; every single mutation of a proof fails.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;

use common::Stored;
use ledger::tree::{
    Frontier, FrontierError, Hash, ProofError, ProveError, SmallTree, consistency_proof, empty_root, inclusion_proof,
    leaf_hash, node_hash, root_at, root_of, root_of_hashes, verify_consistency, verify_inclusion,
};

const SIZE_MAX: usize = 300;

fn leaves(count: usize) -> Vec<Hash> {
    (0..count).map(|i| leaf_hash(&(i as u64).to_be_bytes())).collect()
}

/// The definition, word for word: MTH, PATH and PROOF of RFC 6962, section 2.1. Roots are remembered by start and
/// length, so that exhaustive tests end.
struct Definition {
    leaves: Vec<Hash>,
    roots: BTreeMap<(usize, usize), Hash>,
}

impl Definition {
    fn split(count: usize) -> usize {
        count.next_power_of_two() / 2
    }

    fn root(&mut self, start: usize, count: usize) -> Hash {
        if count == 0 {
            return empty_root();
        }
        if count == 1 {
            return self.leaves[start];
        }
        if let Some(root) = self.roots.get(&(start, count)) {
            return *root;
        }
        let k = Self::split(count);
        let root = node_hash(&self.root(start, k), &self.root(start + k, count - k));
        self.roots.insert((start, count), root);
        root
    }

    fn path(&mut self, m: usize, start: usize, count: usize) -> Vec<Hash> {
        if count == 1 {
            return Vec::new();
        }
        let k = Self::split(count);
        let (mut path, sibling) = if m < k {
            (self.path(m, start, k), self.root(start + k, count - k))
        } else {
            (self.path(m - k, start + k, count - k), self.root(start, k))
        };
        path.push(sibling);
        path
    }

    fn proof(&mut self, m: usize, start: usize, count: usize, complete: bool) -> Vec<Hash> {
        if m == count {
            return if complete { Vec::new() } else { vec![self.root(start, count)] };
        }
        let k = Self::split(count);
        let (mut out, sibling) = if m <= k {
            (self.proof(m, start, k, complete), self.root(start + k, count - k))
        } else {
            (self.proof(m - k, start + k, count - k, false), self.root(start, k))
        };
        out.push(sibling);
        out
    }
}

#[test]
fn every_tree_to_300_leaves() {
    let all = leaves(SIZE_MAX);
    let (stored, _) = Stored::of(&all);
    let mut definition = Definition { leaves: all.clone(), roots: BTreeMap::new() };
    let mut frontier = Frontier::new();
    for size in 0..=SIZE_MAX {
        let tree = &all[..size];
        let root = definition.root(0, size);
        assert_eq!(frontier.root(), root);
        assert_eq!(root_of_hashes(tree.iter().copied()), root);
        assert_eq!(root_at(&stored, size as u64), Ok(root));
        let small = SmallTree::new(tree.to_vec());
        assert_eq!(small.root(), root);
        assert_eq!(small.inclusion(size), None);
        let back = Frontier::from_bytes(&frontier.to_bytes()).unwrap();
        assert_eq!(back, frontier);
        assert_eq!(back.root(), root);
        for (index, leaf) in tree.iter().enumerate() {
            let proof = inclusion_proof(&stored, index as u64, size as u64).unwrap();
            assert_eq!(proof, definition.path(index, 0, size), "leaf {index} of {size}");
            assert_eq!(small.inclusion(index), Some(proof.clone()));
            assert_eq!(verify_inclusion(index as u64, size as u64, leaf, &proof, &root), Ok(()));
        }
        for older in 1..=size {
            let proof = consistency_proof(&stored, older as u64, size as u64).unwrap();
            assert_eq!(proof, definition.proof(older, 0, size, true), "{older} of {size}");
            let before = definition.root(0, older);
            assert_eq!(verify_consistency(older as u64, size as u64, &proof, &before, &root), Ok(()));
        }
        if size < SIZE_MAX {
            frontier.append(all[size]);
        }
    }
}

/// Every way in which a proof differs in one place from a good one.
fn mutations(proof: &[Hash]) -> Vec<Vec<Hash>> {
    let mut out = Vec::new();
    for i in 0..proof.len() {
        for bit in 0..256 {
            let mut flipped = proof.to_vec();
            flipped[i][bit / 8] ^= 1 << (bit % 8);
            out.push(flipped);
        }
        let mut shorter = proof.to_vec();
        shorter.remove(i);
        out.push(shorter);
        if i + 1 < proof.len() {
            let mut swapped = proof.to_vec();
            swapped.swap(i, i + 1);
            out.push(swapped);
        }
    }
    for i in 0..=proof.len() {
        for extra in [[0; 32], empty_root()].into_iter().chain(proof.first().copied()) {
            let mut longer = proof.to_vec();
            longer.insert(i, extra);
            out.push(longer);
        }
    }
    out
}

#[test]
fn every_mutation_fails() {
    let all = leaves(40);
    let (stored, _) = Stored::of(&all);
    for size in [1_u64, 2, 3, 5, 7, 8, 11, 16, 21, 33, 40] {
        let root = root_at(&stored, size).unwrap();
        for index in 0..size {
            let leaf = &all[index as usize];
            let proof = inclusion_proof(&stored, index, size).unwrap();
            for mutant in mutations(&proof) {
                assert!(verify_inclusion(index, size, leaf, &mutant, &root).is_err(), "{index} of {size}");
            }
            for other in (0..size).filter(|other| *other != index) {
                assert!(verify_inclusion(other, size, leaf, &proof, &root).is_err());
                assert!(verify_inclusion(index, size, &all[other as usize], &proof, &root).is_err());
            }
        }
        for older in 1..=size {
            let before = root_at(&stored, older).unwrap();
            let proof = consistency_proof(&stored, older, size).unwrap();
            for mutant in mutations(&proof) {
                assert!(verify_consistency(older, size, &mutant, &before, &root).is_err(), "{older} of {size}");
            }
            for other in (1..=size).filter(|other| *other != older) {
                assert!(verify_consistency(older, size, &proof, &root_at(&stored, other).unwrap(), &root).is_err());
            }
        }
    }
}

#[test]
fn numbers_at_the_edge_are_refused() {
    let hash = [7; 32];
    let range = |a, b| Err(ProofError::Range(a, b));
    assert_eq!(verify_inclusion(0, 0, &hash, &[], &hash), range(0, 0));
    assert_eq!(verify_inclusion(u64::MAX, u64::MAX, &hash, &[], &hash), range(u64::MAX, u64::MAX));
    assert_eq!(verify_consistency(2, 1, &[], &hash, &hash), range(2, 1));
    assert_eq!(verify_consistency(0, 1, &[], &hash, &hash), range(0, 1));
    assert_eq!(verify_consistency(0, 0, &[], &hash, &hash), range(0, 0));
    assert!(matches!(
        verify_inclusion(u64::MAX - 1, u64::MAX, &hash, &[hash; 3], &hash),
        Err(ProofError::Length { wanted: 63, found: 3 })
    ));
    assert!(verify_inclusion(0, u64::MAX, &hash, &[hash; 64], &hash).is_err());
    assert!(verify_consistency(u64::MAX - 1, u64::MAX, &[hash; 64], &hash, &hash).is_err());
    assert!(verify_consistency(1 << 63, u64::MAX, &[hash; 63], &hash, &hash).is_err());
    let (stored, _) = Stored::of(&leaves(3));
    assert_eq!(inclusion_proof(&stored, 3, 3), Err(ProveError::Range(3, 3)));
    assert_eq!(consistency_proof(&stored, 0, 3), Err(ProveError::Range(0, 3)));
    assert_eq!(consistency_proof(&stored, 4, 3), Err(ProveError::Range(4, 3)));
    assert!(matches!(inclusion_proof(&stored, 0, 9), Err(ProveError::Read(_))));
}

#[test]
fn frontiers_of_wrong_length_are_refused() {
    let (_, frontier) = Stored::of(&leaves(5));
    let bytes = frontier.to_bytes();
    assert_eq!(bytes.len(), 8 + 2 * 32);
    for len in 0..bytes.len() {
        assert_eq!(Frontier::from_bytes(&bytes[..len]), Err(FrontierError::Length(len)));
    }
    assert!(Frontier::from_bytes(&[bytes, vec![0; 32]].concat()).is_err());
}

/// A tree of more than two levels of tiles: 256^2 leaves and some.
#[test]
fn proofs_reach_over_three_levels_of_tiles() {
    let all = leaves(66_000);
    let (stored, frontier) = Stored::of(&all);
    assert_eq!(stored.0.iter().map(Vec::len).collect::<Vec<_>>(), [66_000, 257, 1]);
    let root = frontier.root();
    for index in [0_u64, 255, 256, 65_535, 65_536, 65_791, 65_999] {
        let proof = inclusion_proof(&stored, index, 66_000).unwrap();
        assert_eq!(verify_inclusion(index, 66_000, &all[index as usize], &proof, &root), Ok(()));
    }
    for older in [1_u64, 256, 257, 65_536, 65_537, 65_999, 66_000] {
        let proof = consistency_proof(&stored, older, 66_000).unwrap();
        let before = root_at(&stored, older).unwrap();
        assert_eq!(verify_consistency(older, 66_000, &proof, &before, &root), Ok(()));
    }
    assert_eq!(root_of((0..66_000_u64).map(u64::to_be_bytes)), root);
}

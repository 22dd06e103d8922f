//! Public vectors: Merkle proofs and their mutations, a log in tlog-tiles form, a signed note.
#![allow(clippy::unwrap_used)]

mod common;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::Stored;
use ledger::note::{Note, VerifierKey};
use ledger::tile::{TileKind, TilePath, unbundle};
use ledger::tree::{Frontier, hashes_from_bytes, leaf_hash, verify_consistency, verify_inclusion};
use ledger::tree::{consistency_proof, inclusion_proof};
use ledger::{Hash, Policy, SignedCheckpoint};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

fn cases(text: &str) -> Vec<Value> {
    serde_json::from_str(text).unwrap()
}

/// Hashes of another length than 32 cannot even be expressed; such a case counts as refused.
fn hash(value: &Value) -> Option<Hash> {
    STANDARD.decode(value.as_str().unwrap_or("")).unwrap().try_into().ok()
}

/// Some cases have roots that are no hashes and only compare them: what stands for such a root is its digest.
fn root(value: &Value) -> Hash {
    let raw = STANDARD.decode(value.as_str().unwrap_or("")).unwrap();
    raw.as_slice().try_into().unwrap_or_else(|_| Sha256::digest(&raw).into())
}

fn proof(value: &Value) -> Option<Vec<Hash>> {
    value.as_array().map_or(Some(Vec::new()), |hashes| hashes.iter().map(hash).collect())
}

fn judge(case: &Value, holds: bool, tally: &mut [usize; 2]) {
    let wanted = !case["wantErr"].as_bool().unwrap();
    assert_eq!(holds, wanted, "{}: {}", case["name"], case["desc"]);
    tally[usize::from(wanted)] += 1;
}

#[test]
fn inclusion_cases() {
    let mut tally = [0; 2];
    for case in cases(include_str!("vectors/inclusion.json")) {
        let (index, size) = (case["leafIdx"].as_u64().unwrap(), case["treeSize"].as_u64().unwrap());
        let holds = || {
            let (leaf, root) = (hash(&case["leafHash"])?, hash(&case["root"])?);
            verify_inclusion(index, size, &leaf, &proof(&case["proof"])?, &root).ok()
        };
        judge(&case, holds().is_some(), &mut tally);
    }
    assert_eq!(tally, [92, 6]);
}

#[test]
fn consistency_cases() {
    let mut tally = [0; 2];
    for case in cases(include_str!("vectors/consistency.json")) {
        let (older, newer) = (case["size1"].as_u64().unwrap(), case["size2"].as_u64().unwrap());
        let holds = || {
            let (one, two) = (root(&case["root1"]), root(&case["root2"]));
            verify_consistency(older, newer, &proof(&case["proof"])?, &one, &two).ok()
        };
        judge(&case, holds().is_some(), &mut tally);
    }
    assert_eq!(tally, [92, 6]);
}

const LOG_KEY: &str = "example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx";

/// The log's tiles and bundles under its checkpoints, at every size.
#[test]
fn tiled_log() {
    let log: Value = serde_json::from_str(include_str!("vectors/log.json")).unwrap();
    let policy = Policy::from_bytes(format!("log {LOG_KEY}\nquorum none\n").as_bytes()).unwrap();
    let checkpoints: Vec<_> =
        log["checkpoints"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    assert_eq!(checkpoints.len(), 16);
    let heads: Vec<_> = checkpoints.iter().map(|text| policy.check(text.as_bytes()).unwrap().checkpoint).collect();
    assert_eq!(heads[0].root, ledger::tree::empty_root());
    let all = STANDARD.decode(log["bundles"]["tile/entries/000.p/15"].as_str().unwrap()).unwrap();
    let entries = unbundle(&all).unwrap();
    let leaves: Vec<Hash> = entries.iter().map(|entry| leaf_hash(entry)).collect();
    let mut frontier = Frontier::new();
    for size in 1..=15_u64 {
        frontier.append(leaves[size as usize - 1]);
        let head = &heads[size as usize];
        assert_eq!((frontier.size(), frontier.root()), (head.size, head.root));
        let tile: Vec<_> = TilePath::all_of(TileKind::Hashes(0), size).collect();
        let bundle: Vec<_> = TilePath::all_of(TileKind::Entries, size).collect();
        let (tile, bundle) = (tile[0].to_string(), bundle[0].to_string());
        let tile = hashes_from_bytes(&STANDARD.decode(log["tiles"][tile].as_str().unwrap()).unwrap()).unwrap();
        assert_eq!(tile, leaves[..size as usize]);
        let bundle = STANDARD.decode(log["bundles"][bundle].as_str().unwrap()).unwrap();
        assert_eq!(unbundle(&bundle).unwrap(), entries[..size as usize]);
        for older in 1..=size {
            let (stored, _) = Stored::of(&leaves);
            let proof = consistency_proof(&stored, older, size).unwrap();
            verify_consistency(older, size, &proof, &heads[older as usize].root, &head.root).unwrap();
            let proof = inclusion_proof(&stored, older - 1, size).unwrap();
            verify_inclusion(older - 1, size, &leaves[older as usize - 1], &proof, &head.root).unwrap();
        }
    }
    for text in checkpoints {
        let tampered = text.replacen("\n\n", "\nextension\n\n", 1);
        assert!(policy.check(tampered.as_bytes()).is_err());
        assert_eq!(SignedCheckpoint::from_bytes(text.as_bytes()).unwrap().to_string(), text);
    }
}

/// The example of golang.org/x/mod/sumdb/note.
#[test]
fn signed_note() {
    let key = VerifierKey::from_text("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW").unwrap();
    let text = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n\
        — PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
    let note = Note::from_bytes(text.as_bytes()).unwrap();
    assert!(key.is_of(&note.signatures()[0]));
    key.check(note.text(), &note.signatures()[0]).unwrap();
    key.check("something else\n", &note.signatures()[0]).unwrap_err();
    assert_eq!(note.to_string(), text);
}

//! Figures, not tests: `cargo test --release -p ledger --test speed -- --ignored --nocapture`.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods)]

mod common;

use std::hint::black_box;
use std::time::{Duration, Instant};

use common::{ORIGIN, Stored, TestSigner, fact, members, order};
use ledger::block::build;
use ledger::checkpoint::{Checkpoint, SignedCheckpoint};
use ledger::tree::{inclusion_proof, leaf_hash, node_hash, verify_inclusion};
use ledger::{Cut, Frontier, Policy};
use types::fact::FactKind;
use types::{Epoch, GroupId, Timestamp};

/// Calls a second of what takes the number of the call.
fn rate(name: &str, calls: u64, mut call: impl FnMut(u64)) {
    let start = Instant::now();
    (0..calls).for_each(&mut call);
    let took = start.elapsed().max(Duration::from_nanos(1));
    println!(
        "{name}: {:.0} /s ({:.0} ns each)",
        calls as f64 / took.as_secs_f64(),
        took.as_nanos() as f64 / calls as f64
    );
}

#[test]
#[ignore = "measures; run it in release"]
fn figures() {
    let mut hash = [1; 32];
    rate("node hashes", 2_000_000, |_| hash = node_hash(&hash, &hash));
    rate("leaf hashes of entries", 2_000_000, |n| hash[0] ^= leaf_hash(&[n as u8; 128])[0]);
    let mut frontier = Frontier::new();
    rate("leaves appended to a frontier", 2_000_000, |_| frontier.append(black_box(hash)));

    let facts: Vec<_> = (0..1_000).map(|n| fact(FactKind::Put, order(n + 1, n, 0), "photos/2024/cat.jpg")).collect();
    let cut = Cut {
        previous: Timestamp(0),
        at: Timestamp(1_000_000),
        epoch: Epoch(1),
        group: GroupId(1),
        state_digest: [0; 32],
    };
    let mut edge = Frontier::new();
    let start = Instant::now();
    for _ in 0..300 {
        edge = build(&edge, &cut, &facts).unwrap().frontier;
    }
    println!("entries built and appended: {:.0} /s", 300_000.0 / start.elapsed().as_secs_f64());

    let leaves: Vec<_> = (0..1_000_000_u64).map(|n| leaf_hash(&n.to_be_bytes())).collect();
    let (stored, frontier) = Stored::of(&leaves);
    let (root, size) = (frontier.root(), frontier.size());
    let spread = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % size;
    let proofs: Vec<_> = (0..1_000).map(|n| (spread(n), inclusion_proof(&stored, spread(n), size).unwrap())).collect();
    rate("inclusion proofs made (log of 1M, no cache)", 20_000, |n| {
        black_box(inclusion_proof(&stored, spread(n), size).unwrap());
    });
    rate("inclusion proofs verified (log of 1M)", 500_000, |n| {
        let (index, proof) = &proofs[(n % 1_000) as usize];
        verify_inclusion(*index, size, &leaves[*index as usize], proof, &root).unwrap();
    });

    let signer = TestSigner::new(1);
    let policy = Policy::of_group(ORIGIN, &members(1), 1).unwrap();
    let mut signed = SignedCheckpoint::sign(Checkpoint::new(ORIGIN, size, root), &signer).unwrap();
    signed.cosign("node-1.example", &signer, 1);
    let text = signed.to_string();
    rate("checkpoints checked (two signatures)", 10_000, |_| drop(policy.check(text.as_bytes()).unwrap()));
}

//! What the tests share: a deterministic signer, facts, and a small log.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use ed25519_dalek::{Signer as _, SigningKey};
use ledger::block::{Cut, build};
use ledger::tree::{HashReadError, HashReader};
use ledger::{Block, Frontier, Hash};
use types::command::Member;
use types::fact::{Fact, FactDetail, FactKind, FactOutcome};
use types::sign::Signer;
use types::{CommandId, Epoch, GroupId, Incarnation, OrderKey, ReplicaId, Timestamp};

pub const ORIGIN: &str = "entangle.example/log/1";

/// A signer whose private key is the same byte 32 times.
pub struct TestSigner(SigningKey);

impl TestSigner {
    pub fn new(seed: u8) -> Self {
        Self(SigningKey::from_bytes(&[seed; 32]))
    }
}

impl Signer for TestSigner {
    fn public_key(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

pub fn members(count: u32) -> Vec<Member> {
    (1..=count)
        .map(|n| Member {
            replica: ReplicaId(n),
            name: format!("node-{n}.example"),
            key: TestSigner::new(u8::try_from(n).unwrap()).public_key(),
        })
        .collect()
}

pub fn order(timestamp: u64, counter: u64, item: u32) -> OrderKey {
    let id = CommandId { replica: ReplicaId(1), incarnation: Incarnation(2), counter };
    OrderKey { timestamp: Timestamp(timestamp), id, item }
}

pub fn fact(kind: FactKind, order: OrderKey, key: &str) -> Fact {
    Fact {
        order,
        kind,
        outcome: FactOutcome::Applied,
        salt: [u8::try_from(order.id.counter % 251).unwrap(); 32],
        bucket: "photos".to_owned(),
        key: key.to_owned(),
        detail: FactDetail {
            principal: "AKIAEXAMPLE".to_owned(),
            len: Some(5),
            digest: Some([0xd1; 32]),
            etag: Some("5d41402abc4b2a76b9719d911017c592".to_owned()),
            ..FactDetail::default()
        },
    }
}

/// All stored hashes in memory.
#[derive(Default)]
pub struct Stored(pub Vec<Vec<Hash>>);

impl Stored {
    pub fn put(&mut self, stored: ledger::tree::StoredHash) {
        let level = usize::from(stored.level);
        if self.0.len() <= level {
            self.0.resize_with(level + 1, Vec::new);
        }
        assert_eq!(self.0[level].len() as u64, stored.index, "stored hashes come in order");
        self.0[level].push(stored.hash);
    }

    pub fn of(leaves: &[Hash]) -> (Self, Frontier) {
        let mut stored = Self::default();
        let mut frontier = Frontier::new();
        for leaf in leaves {
            frontier.append_with(*leaf, |hash| stored.put(hash));
        }
        (stored, frontier)
    }
}

impl HashReader for Stored {
    fn read_hashes(&self, level: u8, first: u64, out: &mut [Hash]) -> Result<(), HashReadError> {
        let missing = || HashReadError(format!("{} hashes of level {level} from {first}", out.len()));
        assert!(out.len() <= 128 && first / 256 == (first + out.len() as u64 - 1) / 256, "within a tile");
        let hashes = self.0.get(usize::from(level)).ok_or_else(missing)?;
        let start = usize::try_from(first).unwrap();
        out.copy_from_slice(hashes.get(start..start + out.len()).ok_or_else(missing)?);
        Ok(())
    }
}

/// A log of `blocks` blocks of two commands each, one of which makes two entries; the first holds the genesis too.
pub fn log(blocks: u64) -> (Vec<Block>, Stored) {
    let mut stored = Stored::default();
    let mut frontier = Frontier::new();
    let mut out = Vec::new();
    for block in 0..blocks {
        let base = block * 10_000_000;
        let mut facts = vec![
            fact(FactKind::Put, order(base + 5, 3 * block + 2, 0), &format!("cat-{block}.jpg")),
            fact(FactKind::Delete, order(base + 7, 3 * block + 3, 0), "dog.jpg"),
            fact(FactKind::Delete, order(base + 7, 3 * block + 3, 1), "fox.jpg"),
        ];
        facts[2].detail.predecessor = Some(order(base + 5, 1, 0));
        if block == 0 {
            facts.insert(0, fact(FactKind::Genesis, order(1, 1, 0), ""));
        }
        let cut = Cut {
            previous: Timestamp(base),
            at: Timestamp(base + 10_000_000),
            epoch: Epoch(1),
            group: GroupId(1),
            state_digest: [u8::try_from(block % 251).unwrap(); 32],
        };
        let block = build(&frontier, &cut, &facts).unwrap();
        let leaves = block.leaf_hashes.iter().zip(block.first..);
        for (hash, index) in leaves {
            stored.put(ledger::tree::StoredHash { level: 0, index, hash: *hash });
        }
        block.stored.iter().for_each(|hash| stored.put(*hash));
        frontier = block.frontier.clone();
        out.push(block);
    }
    (out, stored)
}

pub fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

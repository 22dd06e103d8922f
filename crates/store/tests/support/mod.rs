//! What the tests of the journal share: a signer, records, and a dump of all that a journal says.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test file uses a part of it")]

use std::sync::Arc;

use bytes::Bytes;
use ed25519_dalek::{Signer as _, SigningKey};
use store::disk::MemDisk;
use store::journal::{
    Base, Batch, Journal, JournalOptions, Kept, KeptKind, OpenError, OpenReport, Record, StoredBody, verify,
};
use types::journal::{RecordHeader, RecordKind, body_hash};
use types::sign::Signer;
use types::{ClusterId, CommandId, Epoch, GroupId, Incarnation, ReplicaId, Timestamp};

pub const CLUSTER: ClusterId = ClusterId([7; 16]);
pub const REPLICA: ReplicaId = ReplicaId(1);
pub const GROUP: GroupId = GroupId(1);

/// Signs with a fixed key.
pub struct TestSigner(SigningKey);

impl TestSigner {
    pub fn new() -> Arc<Self> {
        Arc::new(Self(SigningKey::from_bytes(&[3; 32])))
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

/// A signer for tests that open a journal thousands of times: fast, and not a signature.
pub struct FastSigner;

impl Signer for FastSigner {
    fn public_key(&self) -> [u8; 32] {
        [0; 32]
    }

    fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut out = [0; 64];
        out[..32].copy_from_slice(blake3::hash(message).as_bytes());
        out
    }
}

pub fn options(segment_len: u64) -> JournalOptions {
    JournalOptions { cluster: CLUSTER, replica: REPLICA, segment_len, fill_spare: false }
}

pub fn open(disk: &MemDisk, segment_len: u64) -> Result<(Journal, OpenReport), OpenError> {
    Journal::open(Arc::new(disk.clone()), options(segment_len), Arc::new(FastSigner))
}

pub fn open_signed(disk: &MemDisk, segment_len: u64) -> (Journal, OpenReport) {
    Journal::open(Arc::new(disk.clone()), options(segment_len), TestSigner::new()).unwrap()
}

pub fn verify_signed(disk: &MemDisk) -> Result<store::journal::Verified, OpenError> {
    verify(disk, CLUSTER, REPLICA, &TestSigner::new().public_key(), &mut |_| {})
}

/// A record with a body of this length (none for 0), all of it a function of the position and `seed`.
pub fn record(position: u64, body_len: usize, seed: u64) -> Record {
    let mut body = vec![0; body_len];
    let mut reader = blake3::Hasher::new().update(&position.to_be_bytes()).update(&seed.to_be_bytes()).finalize_xof();
    reader.fill(&mut body);
    let salt = *blake3::hash(&position.to_be_bytes()).as_bytes();
    let header = RecordHeader {
        kind: RecordKind::Propose,
        flags: 0,
        epoch: Epoch(1),
        position,
        id: CommandId { replica: REPLICA, incarnation: Incarnation(1), counter: position },
        timestamp: Timestamp(seed),
        ballot: 0,
        aux: 1,
        body_len: u32::try_from(body_len).unwrap(),
        body_hash: if body_len == 0 { [0; 32] } else { body_hash(&salt, &body) },
    };
    Record { header, salt, body: body.into() }
}

pub fn records(from: u64, count: u64, body_len: usize) -> Vec<Record> {
    (from..from + count).map(|position| record(position, body_len, 0)).collect()
}

pub fn batch(group: GroupId, records: &[Record]) -> Batch<'_> {
    Batch { group, incarnation: Incarnation(1), records }
}

/// Appends `count` records with bodies of `body_len` in one flush.
pub fn append(journal: &mut Journal, count: u64, body_len: usize) {
    let said = records(journal.next_position(GROUP), count, body_len);
    journal.append(&[batch(GROUP, &said)], &[]).unwrap();
}

pub fn kept(kind: KeptKind, bytes: &'static [u8]) -> Kept {
    Kept { group: GROUP, kind, bytes: Bytes::from_static(bytes) }
}

pub fn base(below: u64) -> Base {
    Base { below, bytes: Bytes::from(format!("base below {below}")) }
}

/// Everything that a group's journal says from its first position on.
pub fn dump(journal: &Journal, group: GroupId) -> Vec<(RecordHeader, Option<Bytes>)> {
    let reader = journal.reader();
    let records = reader.read_from(group, reader.first_position(group)).unwrap();
    records
        .map(|record| {
            let record = record.unwrap();
            let body = match record.body {
                StoredBody::None => Some(Bytes::new()),
                StoredBody::Present { bytes, .. } => Some(bytes),
                StoredBody::Erased => None,
            };
            (record.header, body)
        })
        .collect()
}

/// A deterministic stream of numbers for choosing what a test does.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0x9e37_79b9)
    }

    pub fn roll(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end.max(1)
    }
}

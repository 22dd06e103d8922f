//! The test vectors of `docs/formats/journal.md`: the document and the code must say the same.

use std::sync::Arc;

use bytes::Bytes;
use ed25519_dalek::{Signer as _, SigningKey};
use sha2::{Digest as _, Sha256};
use types::journal::{RecordHeader, RecordKind, body_hash};
use types::sign::Signer;
use types::{ClusterId, CommandId, Epoch, GroupId, Incarnation, ReplicaId, Timestamp};

use super::{Batch, Flushed, Journal, JournalOptions, Kept, KeptKind, Record};
use crate::disk::MemDisk;

const DOCUMENT: &str = include_str!("../../../../docs/formats/journal.md");

struct Key(SigningKey);

impl Signer for Key {
    fn public_key(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

/// Signs with a fixed key.
pub(super) fn signer() -> Arc<dyn Signer> {
    Arc::new(Key(SigningKey::from_bytes(&[7; 32])))
}

/// The journal of the document: its disk, and its only flush.
fn journal_of_the_document() -> (MemDisk, Flushed) {
    let mut cluster = ClusterId::default();
    for (byte, value) in cluster.0.iter_mut().zip(0..) {
        *byte = value;
    }
    let (salt, body) = ([9; 32], Bytes::from_static(b"entangle"));
    let header = RecordHeader {
        kind: RecordKind::Open,
        flags: 0,
        epoch: Epoch(1),
        position: 1,
        id: CommandId::default(),
        timestamp: Timestamp::ZERO,
        ballot: 0,
        aux: 0,
        body_len: 8,
        body_hash: body_hash(&salt, &body),
    };
    let disk = MemDisk::new();
    let options = JournalOptions { cluster, replica: ReplicaId(1), segment_len: 65_536, fill_spare: false };
    let (mut journal, _) = Journal::open(Arc::new(disk.clone()), options, signer()).expect("an empty disk opens");
    let records = [Record { header, salt, body }];
    let batch = Batch { group: GroupId(1), incarnation: Incarnation(1), records: &records };
    let kept = Kept { group: GroupId(1), kind: KeptKind::TREE_HEAD, bytes: Bytes::from_static(b"head") };
    let flushed = journal.append(&[batch], &[kept]).expect("there is room");
    (disk, flushed)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_document_says_what_is_written() {
    let (disk, flushed) = journal_of_the_document();
    let bytes = disk.bytes("segment-0000000000000001").expect("the first segment");
    let sealed = &flushed.batches[0];
    assert_eq!(flushed.len, 512);
    let vectors = [
        ("segment header", hex(&bytes[..104])),
        ("nonce", hex(&bytes[64..80])),
        ("root", hex(&sealed.head.root)),
        ("hash of the head", hex(&sealed.head.hash())),
        ("frame header", hex(&bytes[512..544])),
        ("kept item", hex(&bytes[512 + 32 + 280..512 + 32 + 280 + 24])),
        ("body slot", hex(&bytes[512 + 32 + 304..512 + 32 + 304 + 48])),
        ("SHA-256 of the segment's first 1024 bytes", hex(&Sha256::digest(&bytes[..1024]))),
    ];
    let missing: Vec<_> = vectors
        .iter()
        .map(|(what, value)| format!("| {what} | `{value}` |"))
        .filter(|line| !DOCUMENT.contains(line.as_str()))
        .collect();
    assert!(missing.is_empty(), "docs/formats/journal.md lacks:\n{}", missing.join("\n"));
    assert!(bytes[1024..].iter().all(|byte| *byte == 0));
}

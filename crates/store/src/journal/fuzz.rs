//! The door for fuzzing: arbitrary bytes in the place of a journal.

use std::sync::Arc;

use types::sign::Signer;
use types::{ClusterId, GroupId, ReplicaId};

use super::layout::{Crc, Frame, FrameHeader, Nonce};
use super::segment::{SegmentHeader, segment_name};
use super::{Journal, JournalOptions};
use crate::disk::MemDisk;

/// Reads `bytes` as a frame, as a segment's header and as a whole journal of one segment. Never panics; what it
/// reads must not depend on more than the bytes.
pub fn fuzz_journal(bytes: &[u8]) {
    let crc = Crc::new(&Nonce::default());
    if let Some(header) = FrameHeader::decode(bytes, &crc) {
        let _ = Frame::decode(bytes, &header, &crc);
    }
    let Ok(header) = SegmentHeader::decode(bytes) else { return };
    let disk = MemDisk::new();
    disk.put(&segment_name(header.sequence), bytes.to_vec());
    let options =
        JournalOptions { cluster: header.cluster, replica: header.replica, segment_len: 4096, fill_spare: false };
    read_all(&disk, options);
}

fn read_all(disk: &MemDisk, options: JournalOptions) {
    let (cluster, replica): (ClusterId, ReplicaId) = (options.cluster, options.replica);
    let _ = super::verify(disk, cluster, replica, &[0; 32], &mut |_| {});
    let Ok((journal, _)) = Journal::open(Arc::new(disk.clone()), options, Arc::new(NoSigner)) else { return };
    let reader = journal.reader();
    for group in journal.groups() {
        let Ok(records) = reader.read_from(group, reader.first_position(group)) else { continue };
        records.for_each(drop);
    }
    let _ = journal.base(GroupId(1));
}

/// Fuzzing signs nothing that anyone would check.
struct NoSigner;

impl Signer for NoSigner {
    fn public_key(&self) -> [u8; 32] {
        [0; 32]
    }

    fn sign(&self, _: &[u8]) -> [u8; 64] {
        [0; 64]
    }
}

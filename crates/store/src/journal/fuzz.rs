//! The door for fuzzing: arbitrary bytes in the place of a journal.

use std::collections::BTreeMap;
use std::sync::Arc;

use types::sign::Signer;
use types::{ClusterId, GroupId, ReplicaId};

use super::layout::{Crc, FRAME_HEADER_LEN, Nonce, pad, seal_frame};
use super::segment::{Carried, SegmentHeader, segment_name};
use super::{Journal, JournalOptions};
use crate::disk::MemDisk;

/// Reads `bytes` as a journal of one segment, and as the inside of frames whose checksums are right, so that
/// fuzzing gets behind them. Never panics.
pub fn fuzz_journal(bytes: &[u8]) {
    let options = |cluster, replica| JournalOptions { cluster, replica, segment_len: 4096, fill_spare: false };
    if let Ok(header) = SegmentHeader::decode(bytes) {
        let disk = MemDisk::new();
        disk.put(&segment_name(header.sequence), bytes.to_vec());
        read_all(&disk, options(header.cluster, header.replica));
    }
    let (cluster, replica) = (ClusterId::default(), ReplicaId::default());
    let disk = MemDisk::new();
    disk.put(&segment_name(1), wrap(bytes, cluster, replica));
    read_all(&disk, options(cluster, replica));
}

/// A segment of one sound frame around `bytes`: the first says how much of the rest is core.
fn wrap(bytes: &[u8], cluster: ClusterId, replica: ReplicaId) -> Vec<u8> {
    let (split, content) = bytes.split_first().map_or((0, bytes), |(split, content)| (usize::from(*split), content));
    let (core, bodies) = content.split_at((split * 8).min(content.len()));
    let mut frame = vec![0; FRAME_HEADER_LEN];
    frame.extend_from_slice(core);
    pad(&mut frame, 8);
    let core_end = frame.len();
    frame.extend_from_slice(bodies);
    pad(&mut frame, 8);
    let nonce = Nonce::default();
    seal_frame(&mut frame, &Crc::new(&nonce), 1, core_end);
    let mut header = SegmentHeader {
        cluster,
        replica,
        sequence: 1,
        number: 1,
        len: 0,
        nonce,
        groups: BTreeMap::new(),
        carried: Carried::new(),
    };
    header.len = (header.encode().len() + frame.len()) as u64;
    let mut segment = header.encode();
    segment.extend_from_slice(&frame);
    segment
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

//! Verification of a whole journal, for `ledger verify`: reads every byte, changes none.

use ed25519_dalek::{Signature, VerifyingKey};
use ledger::tree::root_of;
use types::journal::body_hash;
use types::{ClusterId, ReplicaId};

use super::error::OpenError;
use super::layout::SLOT_HEADER_LEN;
use super::open::Torn;
use super::scan::{Passed, scan};
use crate::disk::Disk;

/// What a journal that verifies holds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Verified {
    /// Segments.
    pub segments: usize,
    /// Flushes.
    pub frames: u64,
    /// Signed batches; every signature was checked.
    pub batches: u64,
    /// Said records.
    pub records: u64,
    /// Bodies of which the hash was checked.
    pub bodies: u64,
    /// Bodies that were erased.
    pub erased: u64,
    /// Kept records.
    pub kept: u64,
    /// A flush that a crash cut short and that the next start will remove.
    pub torn: Option<Torn>,
}

/// Checks all checksums, the chain, every root, every signature against `public_key` and the hash of every body
/// that is there. `progress` is called with the bytes of each frame.
pub fn verify(
    disk: &dyn Disk,
    cluster: ClusterId,
    replica: ReplicaId,
    public_key: &[u8; 32],
    progress: &mut dyn FnMut(usize),
) -> Result<Verified, OpenError> {
    let mut verified = Verified::default();
    let key = VerifyingKey::from_bytes(public_key).ok();
    let scan = scan(disk, cluster, replica, &mut |passed| {
        verified.frames += 1;
        verified.kept += passed.frame.kept.len() as u64;
        progress(passed.bytes.len());
        let checked = verify_frame(passed, key.as_ref(), &mut verified);
        checked.map_err(|reason| OpenError::Damaged { file: passed.place.to_owned(), offset: passed.offset, reason })
    })?;
    verified.segments = scan.segments.len();
    verified.torn = scan.torn;
    Ok(verified)
}

fn verify_frame(passed: &Passed<'_>, key: Option<&VerifyingKey>, verified: &mut Verified) -> Result<(), String> {
    for batch in &passed.frame.batches {
        let head = &batch.head;
        let at = format!("group {}, batch at position {}", head.group, head.position);
        if root_of(batch.records.iter().map(|record| record.header.to_bytes())) != head.root {
            return Err(format!("{at}: the root does not match the records"));
        }
        let signature = Signature::from_bytes(&batch.signature);
        let valid = key.is_some_and(|key| key.verify_strict(&head.signed_message(), &signature).is_ok());
        if !valid {
            return Err(format!("{at}: the signature is not of this node's key"));
        }
        verified.batches += 1;
        verified.records += batch.records.len() as u64;
        for record in batch.records.iter().filter(|record| record.slot != 0) {
            if record.erased {
                verified.erased += 1;
                continue;
            }
            let start = record.slot + SLOT_HEADER_LEN;
            let mut salt = [0; 32];
            salt.copy_from_slice(&passed.bytes[start - 32..start]);
            let body = &passed.bytes[start..start + record.header.body_len as usize];
            if body_hash(&salt, body) != record.header.body_hash {
                return Err(format!(
                    "group {}, position {}: the body does not match",
                    head.group, record.header.position
                ));
            }
            verified.bodies += 1;
        }
    }
    Ok(())
}

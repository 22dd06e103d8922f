//! Entry points for fuzzing: each takes any bytes, parses them, and asserts that what was parsed prints and parses back
//! to the same. Not part of the API.

#![allow(missing_docs)]

use types::limits::RECEIPT_LEN_MAX;

use crate::checkpoint::{Checkpoint, SignedCheckpoint};
use crate::entry::Entry;
use crate::note::{Note, VerifierKey};
use crate::policy::Policy;
use crate::proof::TlogProof;
use crate::receipt::{Receipt, ReceiptFile};
use crate::side::SideRecord;
use crate::tile::{TilePath, bundle, unbundle};
use crate::tree::Frontier;

/// Every parser on the same bytes.
pub fn all(bytes: &[u8]) {
    note(bytes);
    checkpoint(bytes);
    key(bytes);
    policy(bytes);
    proof(bytes);
    receipt(bytes);
    receipt_file(bytes);
    entry(bytes);
    side(bytes);
    tile_path(bytes);
    entry_bundle(bytes);
    frontier(bytes);
}

pub fn note(bytes: &[u8]) {
    if let Ok(note) = Note::from_bytes(bytes) {
        assert_eq!(note.to_string().as_bytes(), bytes, "a note has one form");
    }
}

pub fn checkpoint(bytes: &[u8]) {
    if let Ok(signed) = SignedCheckpoint::from_bytes(bytes) {
        assert_eq!(signed.to_string().as_bytes(), bytes, "a checkpoint has one form");
        assert_eq!(signed.checkpoint().to_string(), signed.note().text());
    }
    if let Ok(text) = str::from_utf8(bytes)
        && let Ok(checkpoint) = Checkpoint::from_text(text)
    {
        assert_eq!(checkpoint.to_string(), text, "a checkpoint has one form");
    }
}

pub fn key(bytes: &[u8]) {
    if let Ok(text) = str::from_utf8(bytes)
        && let Ok(key) = VerifierKey::from_text(text)
    {
        assert_eq!(key.to_string(), text, "a key has one form");
    }
}

pub fn policy(bytes: &[u8]) {
    if let Ok(policy) = Policy::from_bytes(bytes) {
        let printed = policy.to_string();
        assert_eq!(Policy::from_bytes(printed.as_bytes()).as_ref(), Ok(&policy));
        let everybody = policy.is_reached(|_| true);
        assert!(everybody, "a quorum can be reached");
    }
}

pub fn proof(bytes: &[u8]) {
    if let Ok(proof) = TlogProof::from_bytes(bytes) {
        assert_eq!(proof.to_string().as_bytes(), bytes, "a proof has one form");
    }
}

pub fn receipt(bytes: &[u8]) {
    let Ok(receipt) = Receipt::from_bytes(bytes) else { return };
    let _ = receipt.verify(&nobody());
    // Optional fields that were left out are written out, which may take a few bytes more.
    if bytes.len() < RECEIPT_LEN_MAX - 1024 {
        let printed = receipt.to_bytes().expect("within the limit");
        assert_eq!(Receipt::from_bytes(&printed).expect("what was printed parses"), receipt);
    }
}

pub fn receipt_file(bytes: &[u8]) {
    let Ok(file) = ReceiptFile::from_bytes(bytes) else { return };
    if bytes.len() < RECEIPT_LEN_MAX - 1024 {
        let printed = file.to_text().expect("within the limit");
        assert_eq!(ReceiptFile::from_bytes(printed.as_bytes()).expect("what was printed parses"), file);
    }
}

pub fn entry(bytes: &[u8]) {
    if let Some(bytes) = bytes.first_chunk::<{ Entry::LEN }>()
        && let Ok(entry) = Entry::from_bytes(bytes)
    {
        assert_eq!(&entry.to_bytes(), bytes, "an entry has one form");
    }
}

pub fn side(bytes: &[u8]) {
    if let Ok(side) = SideRecord::from_bytes(bytes) {
        let _ = side.open();
        assert_eq!(side.erased().digest(), side.digest());
        assert_eq!(SideRecord::from_bytes(&side.to_bytes()).ok().as_ref(), Some(&side));
    }
}

pub fn tile_path(bytes: &[u8]) {
    if let Ok(text) = str::from_utf8(bytes)
        && let Ok(path) = TilePath::from_text(text)
    {
        assert_eq!(path.to_string(), text, "a path has one form");
        assert_eq!(path.range().count(), usize::from(path.width()));
    }
}

pub fn entry_bundle(bytes: &[u8]) {
    if let Ok(entries) = unbundle(bytes) {
        assert_eq!(bundle(entries).as_deref(), Ok(bytes), "a bundle has one form");
    }
}

pub fn frontier(bytes: &[u8]) {
    if let Ok(frontier) = Frontier::from_bytes(bytes) {
        assert_eq!(frontier.to_bytes(), bytes, "a frontier has one form");
        let _ = frontier.root();
    }
}

/// A policy that knows nobody.
fn nobody() -> Policy {
    Policy::from_bytes(b"quorum none\n").expect("a policy")
}

//! C2SP `tlog-cosignature`, the Ed25519 form (`0x04`): a timestamped signature of a node or witness under a
//! checkpoint. The ML-DSA-44 form (`0x06`) will stand beside it here: its message is another structure, which needs the
//! checkpoint parsed and leaves extension lines out.

use types::sign::Signer;

use crate::note::{KeyKind, NoteSignature, key_id};

/// The latest time that the specification allows.
pub const TIME_MAX: u64 = i64::MAX as u64;

/// The message under a cosignature: a header line, the time in unix seconds, and the whole text of the checkpoint.
#[must_use]
pub fn message(text: &str, time: u64) -> String {
    format!("cosignature/v1\ntime {time}\n{text}")
}

/// Cosigns the text of a checkpoint: says that at `time` (unix seconds, at most [`TIME_MAX`]) it was the largest
/// consistent head that the signer had seen of this log. The caller has made sure of that, durably, before.
#[must_use]
pub fn sign(text: &str, name: &str, signer: &dyn Signer, time: u64) -> NoteSignature {
    let time = time.min(TIME_MAX);
    let mut signature = time.to_be_bytes().to_vec();
    signature.extend_from_slice(&signer.sign(message(text, time).as_bytes()));
    NoteSignature { name: name.to_owned(), key_id: key_id(name, KeyKind::Cosignature, &signer.public_key()), signature }
}

/// Time and signature of a `timestamped_signature`.
pub(crate) fn split(raw: &[u8]) -> Option<(u64, &[u8; 64])> {
    let (time, signature) = raw.split_first_chunk::<8>()?;
    let time = u64::from_be_bytes(*time);
    if time > TIME_MAX { None } else { Some((time, signature.try_into().ok()?)) }
}

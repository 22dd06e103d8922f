//! C2SP `tlog-proof`: index, inclusion proof and signed checkpoint in one text, for verification offline.

use core::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use types::limits::{NOTE_LEN_MAX, RECEIPT_LEN_MAX};

use crate::checkpoint::{decimal, hash_from_base64};
use crate::entry::Entry;
use crate::policy::{Accepted, CheckError, Policy};
use crate::tree::{Hash, PROOF_LEN_MAX, ProofError, leaf_hash, verify_inclusion};

/// The first line.
const HEADER: &str = "c2sp.org/tlog-proof@v1";

/// A proof that an entry is in a log. Entangle puts the 128 bytes of the entry into `extra`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlogProof {
    /// Opaque and not authenticated by itself; never empty.
    pub extra: Option<Vec<u8>>,
    /// The index of the entry.
    pub index: u64,
    /// From the leaf's sibling up to the root's child.
    pub hashes: Vec<Hash>,
    /// The signed checkpoint, verbatim.
    pub checkpoint: String,
}

/// Why a text is not a proof.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProofTextError {
    /// More than [`RECEIPT_LEN_MAX`] bytes, or a checkpoint of more than [`NOTE_LEN_MAX`].
    #[error("proof of {0} bytes is over the limit")]
    TooLong(usize),
    /// Not UTF-8.
    #[error("the proof is not UTF-8 text")]
    Characters,
    /// Another first line.
    #[error("the first line is not {HEADER}")]
    Header,
    /// A malformed `extra` line.
    #[error("malformed extra data")]
    Extra,
    /// A malformed or missing `index` line.
    #[error("malformed index")]
    Index,
    /// A line that is not the base64 of a hash, or too many.
    #[error("malformed inclusion proof")]
    Hashes,
    /// Nothing stands after the hashes.
    #[error("the checkpoint is missing")]
    Checkpoint,
}

/// Why a proof is not accepted.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProofCheckError {
    /// The checkpoint is not accepted.
    #[error(transparent)]
    Checkpoint(#[from] CheckError),
    /// The inclusion proof does not hold.
    #[error("the entry is not in the log: {0}")]
    Inclusion(#[from] ProofError),
}

impl TlogProof {
    /// The proof of an entry of Entangle.
    #[must_use]
    pub fn of_entry(entry: &[u8; Entry::LEN], index: u64, hashes: Vec<Hash>, checkpoint: String) -> Self {
        Self { extra: Some(entry.to_vec()), index, hashes, checkpoint }
    }

    /// Reads a proof. Never panics, whatever the bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ProofTextError> {
        use ProofTextError as E;
        if bytes.len() > RECEIPT_LEN_MAX {
            return Err(E::TooLong(bytes.len()));
        }
        let text = str::from_utf8(bytes).map_err(|_| E::Characters)?;
        let text = text.strip_prefix(HEADER).and_then(|text| text.strip_prefix('\n')).ok_or(E::Header)?;
        let (extra, text) = match text.strip_prefix("extra ") {
            None => (None, text),
            Some(text) => {
                let (line, text) = text.split_once('\n').ok_or(E::Extra)?;
                let extra = STANDARD.decode(line).ok().filter(|extra| !extra.is_empty()).ok_or(E::Extra)?;
                (Some(extra), text)
            }
        };
        let text = text.strip_prefix("index ").ok_or(E::Index)?;
        let (index, mut text) = text.split_once('\n').ok_or(E::Index)?;
        let index = decimal(index).ok_or(E::Index)?;
        let mut hashes = Vec::new();
        loop {
            let (line, rest) = text.split_once('\n').ok_or(E::Hashes)?;
            text = rest;
            if line.is_empty() {
                break;
            }
            if hashes.len() == PROOF_LEN_MAX {
                return Err(E::Hashes);
            }
            hashes.push(hash_from_base64(line).ok_or(E::Hashes)?);
        }
        match text.len() {
            0 => Err(E::Checkpoint),
            len if len > NOTE_LEN_MAX => Err(E::TooLong(len)),
            _ => Ok(Self { extra, index, hashes, checkpoint: text.to_owned() }),
        }
    }

    /// Checks that the policy accepts the checkpoint and that `leaf` (the bytes of the entry) stands at the index.
    pub fn verify(&self, leaf: &[u8], policy: &Policy) -> Result<Accepted, ProofCheckError> {
        let accepted = policy.check(self.checkpoint.as_bytes())?;
        let head = &accepted.checkpoint;
        verify_inclusion(self.index, head.size, &leaf_hash(leaf), &self.hashes, &head.root)?;
        Ok(accepted)
    }
}

impl fmt::Display for TlogProof {
    /// The inverse of [`TlogProof::from_bytes`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}")?;
        if let Some(extra) = &self.extra {
            writeln!(f, "extra {}", STANDARD.encode(extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        self.hashes.iter().try_for_each(|hash| writeln!(f, "{}", STANDARD.encode(hash)))?;
        write!(f, "\n{}", self.checkpoint)
    }
}

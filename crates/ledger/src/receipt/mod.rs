//! Receipts: what a client keeps, and anyone verifies offline. `docs/formats/receipt.md` is their document.
//!
//! R0 ([`CommitReceipt`]) comes with the answer; R1 is a C2SP `tlog-proof`. Either may disclose the name, or the side
//! record, of its entry.

mod commit;
mod file;
mod sentence;

pub use commit::{
    BatchMismatch, BatchProver, CommitError, CommitReceipt, Committed, RecordProof, STATEMENT_DOMAIN, Speaker,
    Statement, Statements, VOUCHER_RECORDS_MAX, VOUCHERS_MAX, Voucher, statement_message,
};
pub use file::{FILE_LEN_MAX, FileError, ReceiptFile};

use minicbor::{Decode, Encode};
use types::limits::RECEIPT_LEN_MAX;
use types::{ClusterId, OrderKey};

use crate::entry::{Entry, EntryError};
use crate::policy::Policy;
use crate::proof::{ProofCheckError, ProofTextError, TlogProof};
use crate::side::{NameOpening, OpenError, Readable, SideError, SideRecord, opens};

/// A receipt, with what it discloses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Receipt {
    /// What is proved.
    pub proof: Proof,
    /// Bucket and key, if disclosed without the side record.
    pub name: Option<NameOpening>,
    /// The side record, if disclosed; its parts may be erased.
    pub side: Option<SideRecord>,
}

/// The two levels.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(clippy::large_enum_variant, reason = "made one at a time and encoded at once")]
pub enum Proof {
    /// R0: nodes of the quorum vouch for the command, and the serving node states the outcome.
    Commit(CommitReceipt),
    /// R1: the entry is in the log. The proof's extra data is the entry.
    Included(TlogProof),
}

/// The encoded form.
#[derive(Encode, Decode)]
struct Wire {
    #[n(0)]
    version: u8,
    #[n(1)]
    proof: WireProof,
    #[n(2)]
    name: Option<NameOpening>,
    #[cbor(n(3), with = "minicbor::bytes")]
    side: Option<Vec<u8>>,
}

#[derive(Encode, Decode)]
#[expect(clippy::large_enum_variant, reason = "lives only while it is encoded or decoded")]
enum WireProof {
    #[n(0)]
    Commit(#[n(0)] CommitReceipt),
    #[n(1)]
    Included(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>),
}

/// Why bytes are not a receipt.
#[derive(Debug, thiserror::Error)]
pub enum ReceiptError {
    /// More than [`RECEIPT_LEN_MAX`] bytes.
    #[error("receipt of {0} bytes is over the limit of {RECEIPT_LEN_MAX}")]
    TooLong(usize),
    /// A version that this build does not know.
    #[error("receipt version {0} is not known to this build")]
    Version(u8),
    /// Not the CBOR of a receipt.
    #[error("malformed receipt: {0}")]
    Malformed(#[from] minicbor::decode::Error),
    /// Bytes are left after the receipt.
    #[error("{0} bytes are left over after the receipt")]
    Trailing(usize),
    /// The proof of inclusion is malformed.
    #[error("malformed proof of inclusion: {0}")]
    Proof(#[from] ProofTextError),
    /// The disclosed side record is malformed.
    #[error(transparent)]
    Side(#[from] SideError),
}

/// Why a receipt is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The commit receipt does not hold.
    #[error("the commit receipt does not hold: {0}")]
    Commit(#[from] CommitError),
    /// The proof of inclusion does not hold.
    #[error("the proof of inclusion does not hold: {0}")]
    Included(#[from] ProofCheckError),
    /// The proof carries no entry, or a malformed one.
    #[error("the entry is missing or malformed: {0}")]
    Entry(EntryError),
    /// The proof's extra data is not an entry.
    #[error("the proof does not carry the 128 bytes of an entry")]
    NoEntry,
    /// What is disclosed is not what the entry commits to.
    #[error("what the receipt discloses is false: {0}")]
    Disclosure(#[from] OpenError),
}

/// What a receipt proves, after verification.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verified {
    /// The entry: kind, outcome, order key.
    pub entry: Entry,
    /// How it is proved.
    pub level: Level,
    /// Bucket and key, if disclosed.
    pub name: Option<(String, String)>,
    /// The readable part of the side record, if disclosed.
    pub readable: Option<Readable>,
    /// The write of the same key that this one follows (`Some(None)`: none), if disclosed.
    pub predecessor: Option<Option<OrderKey>>,
}

/// How an entry is proved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Level {
    /// R0.
    Commit {
        /// The cluster whose journals vouch.
        cluster: ClusterId,
        /// The key names of the nodes that vouch.
        vouched_by: Vec<String>,
        /// The key name of the node that states the outcome.
        stated_by: String,
    },
    /// R1.
    Included {
        /// The log.
        origin: String,
        /// The index of the entry.
        index: u64,
        /// The size of the log under the signed head.
        size: u64,
        /// The key names of those that cosigned the head, each with its time in unix seconds.
        cosigned: Vec<(String, u64)>,
    },
}

impl Receipt {
    /// The version of the encoding.
    pub const VERSION: u8 = 1;

    /// A receipt that discloses nothing.
    #[must_use]
    pub fn new(proof: Proof) -> Self {
        Self { proof, name: None, side: None }
    }

    /// The binary form: CBOR with numbered fields.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ReceiptError> {
        let proof = match &self.proof {
            Proof::Commit(receipt) => WireProof::Commit(receipt.clone()),
            Proof::Included(proof) => WireProof::Included(proof.to_string().into_bytes()),
        };
        let side = self.side.as_ref().map(SideRecord::to_bytes);
        let wire = Wire { version: Self::VERSION, proof, name: self.name.clone(), side };
        let bytes = minicbor::to_vec(wire).expect("encoding into a vector cannot fail");
        if bytes.len() > RECEIPT_LEN_MAX { Err(ReceiptError::TooLong(bytes.len())) } else { Ok(bytes) }
    }

    /// The inverse of [`Receipt::to_bytes`]. Never panics, whatever the bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ReceiptError> {
        if bytes.len() > RECEIPT_LEN_MAX {
            return Err(ReceiptError::TooLong(bytes.len()));
        }
        // The version stands first, so that another one is named and not called malformed.
        let mut peek = minicbor::Decoder::new(bytes);
        peek.array()?;
        let version = peek.u8()?;
        if version != Self::VERSION {
            return Err(ReceiptError::Version(version));
        }
        let mut decoder = minicbor::Decoder::new(bytes);
        let wire: Wire = decoder.decode()?;
        if decoder.position() != bytes.len() {
            return Err(ReceiptError::Trailing(bytes.len() - decoder.position()));
        }
        let proof = match wire.proof {
            WireProof::Commit(receipt) => Proof::Commit(receipt),
            WireProof::Included(text) => Proof::Included(TlogProof::from_bytes(&text)?),
        };
        let side = wire.side.map(|side| SideRecord::from_bytes(&side)).transpose()?;
        Ok(Self { proof, name: wire.name, side })
    }

    /// Checks everything that the receipt says, with the keys and the quorum of `policy`.
    pub fn verify(&self, policy: &Policy) -> Result<Verified, VerifyError> {
        let (entry, level) = match &self.proof {
            Proof::Commit(receipt) => {
                let committed = receipt.verify(policy)?;
                let vouched_by = committed.vouchers.into_iter().map(|(_, name)| name).collect();
                (committed.entry, Level::Commit { cluster: committed.cluster, vouched_by, stated_by: committed.server })
            }
            Proof::Included(proof) => {
                let leaf = proof.extra.as_deref().ok_or(VerifyError::NoEntry)?;
                let leaf: &[u8; Entry::LEN] = leaf.try_into().map_err(|_| VerifyError::NoEntry)?;
                let entry = Entry::from_bytes(leaf).map_err(VerifyError::Entry)?;
                let accepted = proof.verify(leaf, policy)?;
                let (origin, size) = (accepted.checkpoint.origin, accepted.checkpoint.size);
                (entry, Level::Included { origin, index: proof.index, size, cosigned: accepted.cosigned })
            }
        };
        let mut verified = Verified { entry, level, name: None, readable: None, predecessor: None };
        if let Some(name) = &self.name {
            name.check(&entry)?;
            verified.name = Some((name.bucket.clone(), name.key.clone()));
        }
        if let Some(side) = &self.side {
            let opened = opens(&entry, side)?;
            if let Some(readable) = &opened.readable {
                verified.name = Some((readable.bucket.clone(), readable.key.clone()));
            }
            verified.readable = opened.readable;
            verified.predecessor = opened.predecessor;
        }
        Ok(verified)
    }
}

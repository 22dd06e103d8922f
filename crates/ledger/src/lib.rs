//! The ledger: entries, the Merkle tree over them, tiles, signed checkpoints, receipts, and the verification
//! of all of these.
//!
//! Standard formats wherever there is one: RFC 6962 trees with SHA-256 and C2SP `tlog-tiles`, `signed-note`,
//! `tlog-checkpoint`, `tlog-cosignature`, `tlog-policy`, `tlog-proof`. What is Entangle's own (the 128-byte
//! entry, the side record, the receipt) is described byte for byte in `docs/formats/ledger.md` and
//! `docs/formats/receipt.md`.
//!
//! This crate does no IO, reads no clock, draws no random number and holds no private key: signing goes through
//! [`types::sign::Signer`], and reading of stored hashes through [`tree::HashReader`]. No input makes it panic.

pub mod block;
pub mod checkpoint;
pub mod cosignature;
pub mod entry;
#[doc(hidden)]
pub mod fuzz;
pub mod note;
pub mod policy;
pub mod proof;
pub mod receipt;
pub mod side;
pub mod tile;
pub mod tree;
pub mod verify;

pub use block::{Block, Cut};
pub use checkpoint::{Checkpoint, SignedCheckpoint};
pub use entry::Entry;
pub use policy::Policy;
pub use proof::TlogProof;
pub use receipt::{Receipt, ReceiptFile};
pub use side::SideRecord;
pub use tree::{Frontier, Hash};

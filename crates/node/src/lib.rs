//! One replica of Entangle. It joins the consensus core, the state machine, the ledger and the store, which do
//! not know one another, and is the only place that does.
//!
//! [`Node`] is the handle: [`Node::write`] orders, executes and acknowledges commands (`write/`, one file per
//! step), [`Node::object`] and [`Node::read`] read (`read/`). [`replica::Replica`] and [`replica::Sealer`] are
//! the same without threads and IO, for the simulator.

pub mod backup;
mod change;
pub mod clock;
mod collect;
pub mod config;
mod engine;
mod epochs;
pub mod error;
#[cfg(feature = "faults")]
pub mod faults;
mod folder;
mod housekeeping;
pub mod keys;
pub mod metrics;
mod node;
pub mod peer;
pub mod progress;
mod proofs;
mod read;
mod recover;
pub mod replica;
mod space;
mod start;
mod status;
pub mod verify;
mod write;

/// Without the feature, nothing is broken on purpose.
#[cfg(not(feature = "faults"))]
mod faults {
    pub(crate) const fn clock_offset_ns() -> i64 {
        0
    }

    pub(crate) const fn is_without(_: dace::Mutant) -> bool {
        false
    }

    pub(crate) const fn break_core(_: &mut dace::Core) {}
}

pub use change::{Change, ChangeError, ZoneState};
pub use config::{GroupConfig, NodeConfig, keys_beside};
pub use engine::REMOVED;
pub use error::{BodyError, StartError, WriteError};
pub use keys::Secret;
pub use node::Node;
pub use proofs::{Inclusion, ProofError};
pub use read::{BodyStream, CachedObject, ReadView};
pub use start::name_of;
pub use status::NodeStatus;
pub use write::accept::{Wait, WriteRequest};
pub use write::ack::Written;
pub use write::place::{BodyWriter, PlacedBody, content_digest, inline};

//! The engine that orders commands: the driver of the consensus core.
//!
//! Three threads: the *loop* runs the replica and is the only one to touch it; the journal's *writer* groups
//! what the loop appends and flushes it; the *sealer* turns blocks into ledger and stored state, behind the
//! answers. Reads pass through none of them.

pub(crate) mod inbox;
mod run;
mod sealing;

use std::sync::Arc;

use store::journal::{Flushed, Kept};
use types::Timestamp;

pub(crate) use run::Loop;
pub(crate) use sealing::{Sealing, SealingMessage};

/// What the loop is told, beside submissions.
pub(crate) enum Event {
    /// A batch of the journal is durable.
    Durable(Arc<Flushed>),
    /// The journal failed: nothing can be acknowledged any more.
    JournalFailed(String),
    /// State and log are durable up to this cut: make the base that lets the journal be trimmed.
    Trim(Timestamp),
    /// Keep this head of the log: with the next records, or soon.
    Keep(Kept),
    /// The sealer ended by a failure, which it has reported.
    SealingFailed,
    /// End after what is in flight.
    Stop,
}

//! What a node keeps on disk, and nothing of what it means:
//!
//! - [`disk`]: the small door to files, real or simulated, that the rest of the crate goes through;
//! - [`journal`]: the segment log, the only authority on durability;
//! - [`state`]: the rows of the replicated state, which the journal can rebuild;
//! - [`vault`]: bodies too large to travel inside commands;
//! - [`log`]: the flat files of the ledger.
//!
//! Every byte written here is described in `docs/formats/`.

pub mod disk;
#[cfg(feature = "faults")]
pub mod faults;
pub mod journal;
pub mod log;
pub mod state;
pub mod vault;

/// Without the feature, a disk has the faults that it has.
#[cfg(not(feature = "faults"))]
mod faults {
    use std::time::Duration;

    pub(crate) const HELD: Duration = Duration::ZERO;

    pub(crate) const fn flush_delay() -> Duration {
        Duration::ZERO
    }

    pub(crate) const fn answers_early() -> bool {
        false
    }
}
mod random;

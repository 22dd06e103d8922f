//! What the core tells of itself, for people and metrics.

use types::{CommandId, Incarnation, Timestamp};

use crate::core::Core;

/// How far a core's life has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// From [`Core::new`] to [`Core::handle_start`]: takes records of its journal.
    Restoring,
    /// Until its `Open` record is durable: takes no submission, so that an incarnation which no journal
    /// remembers has named nothing.
    Opening {
        /// The position of the `Open` record.
        position: u64,
    },
    /// From then on.
    Running,
}

/// A snapshot of where the core stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Status {
    /// How far its life has come.
    pub phase: Phase,
    /// The current incarnation; before the start, the last one restored.
    pub incarnation: Incarnation,
    /// The counter of the last command named in it; 0 before the first.
    pub counter: u64,
    /// The last position handed out.
    pub appended: u64,
    /// The last position reported durable.
    pub durable: u64,
    /// Commands proposed and not executed.
    pub in_flight: usize,
    /// Bytes of their bodies.
    pub in_flight_len: usize,
    /// The last command executed, or covered by the restored state.
    pub executed: Option<(Timestamp, CommandId)>,
    /// The last cut put out, or the one at which the restored state stands.
    pub cut: Timestamp,
    /// What the hybrid clock showed when a handler last ran.
    pub clock: Timestamp,
    /// Nothing will be attached at or below it.
    pub promise: Timestamp,
    /// The durable ceiling of the promise.
    pub ceiling: Timestamp,
}

impl Core {
    /// Where the core stands.
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            phase: self.phase,
            incarnation: self.incarnation,
            counter: self.counter,
            appended: self.appended,
            durable: self.durable,
            in_flight: self.commands.count(),
            in_flight_len: self.commands.len(),
            executed: self.commands.last(),
            cut: self.cuts.last(),
            clock: self.clock.reading(),
            promise: self.clock.promised(),
            ceiling: self.clock.ceiling_durable(),
        }
    }
}

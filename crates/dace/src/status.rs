//! What the core tells of itself, for people and metrics.

use types::{CommandId, Incarnation, ReplicaId, Timestamp};

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

/// How often each rule was met, since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Decisions on the fast path.
    pub fast: u64,
    /// Slow paths because the acks differed.
    pub slow: u64,
    /// Slow paths on any `n - f` acks, a member of `Q` given up.
    pub slow_given_up: u64,
    /// Recoveries begun.
    pub prepares: u64,
    /// Recoveries by the rule that chose the value, 1 to 4.
    pub rules: [u64; 4],
    /// Own ballots given up for a higher one.
    pub duels: u64,
    /// `Raise` records said.
    pub raises: u64,
    /// Proposals held because they were too far ahead of the clock.
    pub held: u64,
    /// Recoveries not begun because the clock may not speak.
    pub muted: u64,
    /// Peers' tails dropped when a stream was resumed.
    pub tails_dropped: u64,
    /// Commands asked for by id.
    pub fetches: u64,
    /// Votes refused because the id is settled.
    pub settled_answers: u64,
    /// Reads of several slots that found no quiet instant.
    pub contended_reads: u64,
    /// Snapshots installed.
    pub snapshots: u64,
    /// Own commands whose outcome is not known here, since an installed state covers them.
    pub covered: u64,
    /// Reconfigs executed.
    pub epochs_ended: u64,
    /// Own commands that a Reconfig made void.
    pub voided: u64,
    /// Lease grants given.
    pub grants: u64,
    /// Requests not granted, because something was held back on the holder's account.
    pub grants_refused: u64,
    /// Grants received for own requests.
    pub activations: u64,
    /// Grants received that waited for a command which their grantor had attached before.
    pub activations_waited: u64,
    /// Votes held back for a lease holder.
    pub withheld: u64,
    /// Held-back votes that were given because the grant had ended.
    pub outwaited: u64,
    /// Leased reads answered.
    pub leased_reads: u64,
    /// Leased reads that waited for a pending write.
    pub leased_reads_waited: u64,
    /// What a peer said and cannot be, seen only when it was durable: the peer is refused.
    pub contradictions: u64,
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
    /// Commands whose votes are kept, of all coordinators.
    pub known: usize,
    /// Decided and not executed.
    pub committed: usize,
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
            in_flight: self.commands.in_flight(),
            in_flight_len: self.commands.in_flight_len(),
            executed: self.commands.last,
            cut: self.cuts.last(),
            clock: self.clock.reading(),
            promise: self.clock.promised(),
            ceiling: self.clock.ceiling_durable(),
            known: self.commands.count(),
            committed: self.committed.count(),
        }
    }

    /// What an operator asks when nothing moves: per journal its promise and the smallest command that it attached
    /// and that is not known to be decided.
    pub fn blocking(&self) -> impl Iterator<Item = (ReplicaId, Timestamp, Option<(Timestamp, CommandId)>)> + '_ {
        let journals = self.config.members.iter().zip(&self.journals);
        journals.map(|(replica, journal)| (*replica, journal.promise, journal.blocks.first()))
    }

    /// How often each rule was met.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The position up to which a peer's journal was read, and up to which it is known durable; `None` for
    /// who is not a member.
    #[must_use]
    pub fn read_of(&self, replica: ReplicaId) -> Option<(u64, u64)> {
        let journal = &self.journals[self.config.member(replica)?];
        Some((journal.read, journal.durable))
    }
}

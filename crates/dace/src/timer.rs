//! What the core waits for by time. Time-outs serve progress only; safety never depends on them.

use std::collections::BTreeSet;

use types::CommandId;

use crate::core::Core;

/// The time-outs of a replica, in ns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timing {
    /// A coordinator gives up on the members of `Q` whose acks are missing.
    pub give_up_ns: u64,
    /// A replica recovers a command that it knows and that is not decided. Staggered by replica.
    pub recover_ns: u64,
    /// A replica asks others for a command that it knows by its id only.
    pub fetch_ns: u64,
    /// A reader asks those again that did not answer.
    pub read_ns: u64,
}

impl Default for Timing {
    fn default() -> Self {
        const MS: u64 = 1_000_000;
        Self { give_up_ns: 500 * MS, recover_ns: 2_000 * MS, fetch_ns: 200 * MS, read_ns: 300 * MS }
    }
}

/// What is due.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Timer {
    /// A held proposal may have come near enough to the clock.
    Held,
    /// See [`Timing::give_up_ns`].
    GiveUp(CommandId),
    /// See [`Timing::recover_ns`].
    Recover(CommandId),
    /// See [`Timing::fetch_ns`].
    Fetch(CommandId),
    /// A recoverer has waited for further reports.
    Choose(CommandId),
    /// See [`Timing::read_ns`].
    Read(u64),
    /// The leases wanted are asked for again.
    Renew,
    /// A grant given has ended.
    GrantEnds,
}

/// Timers by time. One that has become pointless is passed over when it fires.
#[derive(Clone, Default)]
pub(crate) struct Timers {
    queue: BTreeSet<(u64, Timer)>,
}

impl Timers {
    pub(crate) fn arm(&mut self, mono_ns: u64, timer: Timer) {
        self.queue.insert((mono_ns, timer));
    }

    fn disarm(&mut self, mono_ns: u64, timer: Timer) {
        self.queue.remove(&(mono_ns, timer));
    }

    /// When the next one fires.
    pub(crate) fn next(&self) -> Option<u64> {
        self.queue.first().map(|(at, _)| *at)
    }

    fn take_due(&mut self, mono_ns: u64) -> Option<Timer> {
        let (at, timer) = *self.queue.first()?;
        if at > mono_ns {
            return None;
        }
        self.queue.pop_first();
        Some(timer)
    }
}

impl Core {
    /// Arms `timer` to fire in `ns`.
    pub(crate) fn arm(&mut self, ns: u64, timer: Timer) {
        self.timers.arm(self.clock.mono_ns().saturating_add(ns), timer);
    }

    /// Arms the recovery timer of a command to fire at `mono_ns`, or when it fires already if that is sooner. There is
    /// one per command: suspicions come and go, and must not add to them.
    pub(crate) fn arm_recovery(&mut self, mono_ns: u64, id: CommandId) {
        let Some(known) = self.commands.at_mut(id) else { return };
        let armed = known.recovers_at;
        if armed.is_some_and(|at| at <= mono_ns) {
            return;
        }
        known.recovers_at = Some(mono_ns);
        if let Some(at) = armed {
            self.timers.disarm(at, Timer::Recover(id));
        }
        self.timers.arm(mono_ns, Timer::Recover(id));
    }

    /// Does what is due.
    pub(crate) fn fire_timers(&mut self) {
        while let Some(timer) = self.timers.take_due(self.clock.mono_ns()) {
            match timer {
                Timer::Held => self.release_held(),
                Timer::GiveUp(id) => self.give_up(id),
                Timer::Recover(id) => self.recover(id),
                Timer::Fetch(id) => self.fetch(id),
                Timer::Choose(id) => self.choose(id, true),
                Timer::Read(read) => self.ask_again(read),
                Timer::Renew => self.renew_leases(),
                Timer::GrantEnds => self.grant_ends(),
            }
        }
    }
}

//! The run loop: handlers in, outputs out, and the state between them.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use types::journal::RecordKind;
use types::limits::AHEAD_NS_MAX;
use types::{CommandId, Incarnation, Now, ReplicaId, Timestamp};

use crate::base::{BaseState, Marks};
use crate::clock::Clock;
use crate::command::Commands;
use crate::config::{Config, ConfigError, Member, Restore};
use crate::cut::Cuts;
use crate::epoch::Span;
use crate::execute::Frontier;
use crate::floors::Floors;
use crate::grant::Grants;
use crate::index::{Place, SlotIndex};
use crate::journal::{Journal, Opened, Stream};
use crate::lease::{LeaseTiming, Leases, Zones, everywhere};
use crate::output::{Output, Record};
use crate::read::Reads;
use crate::readings::{Readings, Verdict};
use crate::settled::Settled;
use crate::status::{Counters, Phase};
use crate::timer::{Timers, Timing};
use crate::vouch::Vouched;

/// The consensus core of one replica of one group.
#[derive(Clone)]
pub struct Core {
    pub(crate) config: Config,
    /// This replica's place among the members.
    pub(crate) me: Member,
    pub(crate) phase: Phase,
    /// Where its epoch begins and ends.
    pub(crate) span: Span,
    pub(crate) clock: Clock,
    pub(crate) readings: Readings,
    /// What is promised by own attaches, durable or not.
    pub(crate) floors: Floors,
    /// Per member, what was read of its journal; the own one included.
    pub(crate) journals: Vec<Journal>,
    pub(crate) commands: Commands,
    /// Decided and not executed, by decided timestamp.
    pub(crate) committed: SlotIndex,
    /// Those of them that may have become executable.
    pub(crate) wake: BTreeSet<Place>,
    pub(crate) frontier: Frontier,
    pub(crate) settled: Settled,
    pub(crate) cuts: Cuts,
    pub(crate) marks: Marks,
    pub(crate) timers: Timers,
    pub(crate) timing: Timing,
    pub(crate) reads: Reads,
    pub(crate) leases: Leases,
    pub(crate) grants: Grants,
    pub(crate) lease_timing: LeaseTiming,
    pub(crate) zones: Arc<dyn Zones>,
    /// Whether pending writes and deadlines are put out, for readers beside the loop.
    pub(crate) publishes: bool,
    /// The other members, those that fast quorums prefer first.
    pub(crate) preference: Vec<Member>,
    /// Members under suspicion, as a mask.
    pub(crate) suspects: u64,
    /// How far the promise stays behind the clock, in ns.
    pub(crate) promise_lag_ns: u64,
    /// How far ahead of the clock a proposal begins in slots that this replica has to itself, in ns.
    pub(crate) ahead_ns: u64,
    /// Proposals too far ahead of the clock, by their `t0`.
    pub(crate) held: BTreeSet<Place>,
    /// The current incarnation, or the last one restored; 0 before the first.
    pub(crate) incarnation: Incarnation,
    /// Its `Open`.
    pub(crate) opened: Opened,
    /// The last counter given in it.
    pub(crate) counter: u64,
    /// The last position handed out.
    pub(crate) appended: u64,
    /// The last position known durable.
    pub(crate) durable: u64,
    /// Where the restored state stands: what lies at or below is not executed again.
    pub(crate) executed_cut: Timestamp,
    /// The last own command that was proposed before the state here was taken from elsewhere, or restored: up to it, what is
    /// not known to be decided may be in the state.
    pub(crate) stated_from: CommandId,
    /// Others that vouch for the restored journal, as a mask.
    pub(crate) vouchers: u64,
    /// The position of the base: records at or below it are passed over when they are restored.
    pub(crate) base_position: u64,
    /// The cut of the base.
    pub(crate) base_cut: Timestamp,
    /// Every settled id is executed in the state at this cut.
    pub(crate) settled_cut: Timestamp,
    /// Commands that peers have settled, by the cut that the state here must reach first. Bounded by the commands
    /// known: one is told once in a recovery.
    pub(crate) told_settled: BTreeSet<Place>,
    /// The incarnation open at its position, and where that opened.
    pub(crate) base_opened: (Incarnation, Opened),
    /// The last position passed over because the base covers it.
    pub(crate) passed_over: Option<u64>,
    pub(crate) outputs: VecDeque<Output>,
    pub(crate) counters: Counters,
    #[cfg(feature = "mutants")]
    pub(crate) mutant: Option<crate::Mutant>,
}

/// Why a core cannot start on what it was restored from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StartError {
    /// The state is ahead of the journal: the journal, or its end, was lost or replaced by an older copy.
    #[error(
        "the stored state is at cut {cut}, but the journal vouches only up to {ceiling}: \
         the journal was lost or rolled back; restore both from one backup"
    )]
    JournalBehindState {
        /// The state's cut.
        cut: Timestamp,
        /// The highest ceiling of the journal.
        ceiling: Timestamp,
    },
    /// The journal ends before its own base.
    #[error(
        "the journal ends at position {position}, but was trimmed at {base}: its end was lost; restore it from a backup"
    )]
    JournalBehindBase {
        /// The last position restored.
        position: u64,
        /// The position of the base.
        base: u64,
    },
    /// The state is at a cut above a command that the journal does not decide.
    #[error(
        "the stored state is at cut {cut}, but the journal does not decide {id} at {timestamp}: the journal was cut short"
    )]
    Undecided {
        /// The state's cut.
        cut: Timestamp,
        /// The command.
        id: CommandId,
        /// Where it was proposed.
        timestamp: Timestamp,
    },
    /// Too few others have vouched for the journal.
    #[error("only {0} others have vouched for the journal: reach more of the members")]
    Unvouched(u32),
}

impl Core {
    /// A core that waits for its journal ([`Core::restore_record`]) and its start.
    pub fn new(config: Config, restore: Restore) -> Result<Self, ConfigError> {
        config.check()?;
        let n = config.n();
        let me = config.member(config.replica).expect("check() found this replica among the members");
        let mut core = Self {
            me,
            phase: Phase::Restoring,
            span: Span::new(),
            clock: Clock::new(n == 1),
            readings: Readings::new(n),
            floors: Floors::new(),
            journals: (0..n).map(|_| Journal::new()).collect(),
            commands: Commands::new(n),
            committed: SlotIndex::new(),
            wake: BTreeSet::new(),
            frontier: Frontier::new(),
            settled: Settled::default(),
            cuts: Cuts::new(restore.executed_cut),
            marks: Marks::new(),
            timers: Timers::default(),
            timing: Timing::default(),
            reads: Reads::default(),
            leases: Leases::default(),
            grants: Grants::default(),
            lease_timing: LeaseTiming::default(),
            zones: everywhere(),
            publishes: false,
            preference: (0..n).filter(|member| *member != me).collect(),
            suspects: 0,
            promise_lag_ns: 0,
            ahead_ns: 0,
            held: BTreeSet::new(),
            incarnation: Incarnation(0),
            opened: Opened::default(),
            counter: 0,
            appended: 0,
            durable: 0,
            executed_cut: restore.executed_cut,
            stated_from: CommandId::default(),
            vouchers: 0,
            base_position: 0,
            base_cut: Timestamp::ZERO,
            settled_cut: Timestamp::ZERO,
            told_settled: BTreeSet::new(),
            base_opened: (Incarnation(0), Opened::default()),
            passed_over: None,
            outputs: VecDeque::new(),
            counters: Counters::default(),
            config,
            #[cfg(feature = "mutants")]
            mutant: None,
        };
        core.journals[me].stream = Stream::Open;
        core.frontier.raise_all(restore.executed_cut);
        if let Some(bytes) = restore.base {
            let base = BaseState::from_bytes(&bytes)?;
            base.check(&core.config)?;
            if base.cut > restore.executed_cut {
                return Err(ConfigError::StateBehindBase { state: restore.executed_cut, base: base.cut });
            }
            core.restore_base(&base);
        }
        Ok(core)
    }

    /// Starts: opens an incarnation above everything restored, decides what the last one left undecided, and
    /// puts out what is durable and above the executed cut. Submissions are taken once the `Open` record is
    /// durable.
    ///
    /// In a group of more than one replica the journal must be vouched for ([`Core::vouched`]).
    ///
    /// Panics when called twice.
    pub fn handle_start(&mut self, now: Now) -> Result<(), StartError> {
        assert_eq!(self.phase, Phase::Restoring, "a core starts once");
        if let Some(position) = self.passed_over.filter(|last| *last < self.base_position) {
            return Err(StartError::JournalBehindBase { position, base: self.base_position });
        }
        if self.vouched() == Vouched::Lacking {
            return Err(StartError::Unvouched(self.vouchers.count_ones()));
        }
        let ceiling = self.clock.ceiling_durable();
        if self.is_alone() && self.ended().is_none() {
            if self.executed_cut > ceiling {
                return Err(StartError::JournalBehindState { cut: self.executed_cut, ceiling });
            }
            if let Some((timestamp, id)) = self.blocks().first().filter(|(t, _)| *t <= self.executed_cut) {
                return Err(StartError::Undecided { cut: self.executed_cut, id, timestamp });
            }
        }
        if self.is_alone() {
            self.clock.observe(self.floors.highest());
        }
        self.clock.start(now);
        if !self.is_alone() && !self.mutates(crate::Mutant::RestartBelowCeiling) {
            // What was promised before the restart lies at or below the ceiling. A lone replica's clock begins
            // above it.
            self.clock.promise_restored(ceiling);
            self.journals[self.me].promise = ceiling;
        }
        if self.executed_cut > Timestamp::ZERO {
            self.doubt_proposed();
        }
        self.incarnation =
            Incarnation(self.incarnation.0.checked_add(1).expect("a replica starts fewer than 2^32 times"));
        self.counter = 0;
        self.reads.begin(self.incarnation);
        self.leases.begin(self.incarnation);
        self.restart_grants();
        let position = self.next_position();
        let id = CommandId { replica: self.config.replica, incarnation: self.incarnation, counter: 0 };
        self.append(Record::bare(RecordKind::Open, self.config.epoch, position, id, self.clock.reading()));
        self.opened = Opened { position, at: self.clock.reading() };
        self.phase = Phase::Opening { position };
        self.enter();
        self.pend_restored();
        if self.is_alone() {
            self.decide_leftovers();
        } else {
            self.resume_commands();
        }
        self.advance();
        Ok(())
    }

    /// Every record up to `position` is durable, and every kept one handed out before that. Positions may be
    /// reported late, at once, or twice.
    ///
    /// Panics on a position that was never handed out.
    pub fn handle_durable(&mut self, now: Now, position: u64) {
        assert!(position <= self.appended, "position {position} is durable before it was handed out");
        if position <= self.durable || self.phase == Phase::Restoring {
            return;
        }
        self.durable = position;
        self.clock.advance(now);
        self.clock.handle_durable(position);
        if matches!(self.phase, Phase::Opening { position: open } if open <= position) {
            self.phase = Phase::Running;
            self.request_wanted();
        }
        self.act_up_to(self.me, position);
        self.advance();
    }

    /// Time has passed: due when [`Core::deadline`] is reached, harmless at any other time.
    pub fn handle_tick(&mut self, now: Now) {
        if self.phase == Phase::Restoring {
            return;
        }
        self.clock.advance(now);
        self.fire_timers();
        self.advance();
    }

    /// The next thing to do; `None` when there is nothing until the next handler runs.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Core::handle_tick`] is wanted, in ns of the monotonic clock; `None`: not before another handler
    /// has run. May be asked anew after every handler.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        if self.phase == Phase::Restoring {
            return None;
        }
        let timer = self.timers.next();
        let cut = self.cut_deadline();
        timer.into_iter().chain(cut).min()
    }

    /// The other members in the order in which fast quorums shall prefer them, the nearest first. Replicas
    /// that are not named keep their order behind those that are; unknown ones are passed over.
    pub fn prefer(&mut self, nearest_first: &[ReplicaId]) {
        let mut order: Vec<Member> = Vec::with_capacity(self.preference.len());
        let named = nearest_first.iter().filter_map(|replica| self.config.member(*replica));
        for member in named.chain(self.preference.iter().copied()) {
            if member != self.me && !order.contains(&member) {
                order.push(member);
            }
        }
        self.preference = order;
    }

    /// A hint that `replica` does not answer, or does again. Never needed for safety.
    pub fn suspect(&mut self, now: Now, replica: ReplicaId, suspected: bool) {
        let Some(member) = self.config.member(replica).filter(|member| *member != self.me) else { return };
        let mask = crate::command::bit(member);
        if suspected == (self.suspects & mask != 0) || self.phase == Phase::Restoring {
            return;
        }
        self.suspects ^= mask;
        self.clock.advance(now);
        if suspected {
            self.hasten(member);
        }
        self.advance();
    }

    /// Sets the time-outs.
    pub fn set_timing(&mut self, timing: Timing) {
        self.timing = timing;
    }

    /// How far the clock promise stays behind the clock, in ns: 0 for `f = 1`, else the one-way delay from the
    /// coordinators that count on this replica.
    pub fn set_promise_lag(&mut self, ns: u64) {
        self.promise_lag_ns = ns;
    }

    /// How far ahead of the clock a proposal begins while this replica is the only one that is busy in its slots, in
    /// ns: the one-way delay to the farthest member of its fast quorum. At most [`AHEAD_NS_MAX`] is taken. A matter
    /// of latency only.
    pub fn set_ahead(&mut self, ns: u64) {
        self.ahead_ns = ns.min(AHEAD_NS_MAX);
    }

    /// Takes a rule out.
    #[cfg(feature = "mutants")]
    pub fn set_mutant(&mut self, mutant: crate::Mutant) {
        self.mutant = Some(mutant);
    }

    #[cfg(feature = "mutants")]
    pub(crate) fn mutates(&self, mutant: crate::Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    #[cfg(not(feature = "mutants"))]
    #[allow(clippy::unused_self, reason = "the same call with and without mutants")]
    pub(crate) fn mutates(&self, _: crate::Mutant) -> bool {
        false
    }

    /// How many members the epoch has.
    #[must_use]
    pub fn members(&self) -> usize {
        self.config.n()
    }

    /// Whether the group is this replica alone.
    pub(crate) fn is_alone(&self) -> bool {
        self.config.n() == 1
    }

    /// Whether the own clock may propose, promise and recover.
    pub(crate) fn verdict(&self) -> Verdict {
        self.readings.judge(self.me, self.clock.reading(), self.clock.mono_ns(), self.config.f())
    }

    /// What this replica attached and what is not known to be decided.
    pub(crate) fn blocks(&self) -> &SlotIndex {
        &self.journals[self.me].blocks
    }

    /// Puts out all that became possible. A cut goes before the commands above it.
    pub(crate) fn advance(&mut self) {
        self.activate_leases();
        while (self.may_cut() && self.cut_next()) || (self.may_execute() && self.execute_next()) {}
        debug_assert!(!self.may_execute() || self.has_woken_all(), "what may be executed was woken");
        self.finish_reads();
        self.finish_leased_reads();
    }

    /// The position of the next record.
    pub(crate) fn next_position(&self) -> u64 {
        self.appended + 1
    }

    /// Hands a record to the driver.
    pub(crate) fn append(&mut self, record: Record) {
        assert_eq!(record.header.position, self.next_position(), "positions are dense");
        self.appended = record.header.position;
        self.outputs.push_back(Output::Append(record.clone()));
        self.note(self.me, record);
    }
}

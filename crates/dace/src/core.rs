//! The run loop: handlers in, outputs out, and the state between them.

use std::collections::VecDeque;

use types::journal::RecordKind;
use types::{CommandId, Incarnation, Now, Timestamp};

use crate::base::{BaseState, Marks};
use crate::clock::Clock;
use crate::config::{Config, ConfigError, Restore};
use crate::cut::Cuts;
use crate::execute::Commands;
use crate::floors::Floors;
use crate::output::{Output, Record};
use crate::status::Phase;

/// The consensus core of one replica of one group.
pub struct Core {
    pub(crate) config: Config,
    pub(crate) phase: Phase,
    pub(crate) clock: Clock,
    pub(crate) floors: Floors,
    pub(crate) commands: Commands,
    pub(crate) cuts: Cuts,
    pub(crate) marks: Marks,
    /// The current incarnation, or the last one restored; 0 before the first.
    pub(crate) incarnation: Incarnation,
    /// The last counter given in it.
    pub(crate) counter: u64,
    /// The last position handed out.
    pub(crate) appended: u64,
    /// The last position known durable.
    pub(crate) durable: u64,
    /// Where the restored state stands: what lies at or below is not executed again.
    pub(crate) executed_cut: Timestamp,
    /// The position of the base: records at or below it are passed over when they are restored.
    pub(crate) base_position: u64,
    /// The last position passed over because the base covers it.
    pub(crate) passed_over: Option<u64>,
    pub(crate) outputs: VecDeque<Output>,
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
}

impl Core {
    /// A core that waits for its journal ([`Core::restore_record`]) and its start.
    pub fn new(config: Config, restore: Restore) -> Result<Self, ConfigError> {
        config.check()?;
        let mut core = Self {
            config,
            phase: Phase::Restoring,
            clock: Clock::new(),
            floors: Floors::new(),
            commands: Commands::new(),
            cuts: Cuts::new(restore.executed_cut),
            marks: Marks::new(),
            incarnation: Incarnation(0),
            counter: 0,
            appended: 0,
            durable: 0,
            executed_cut: restore.executed_cut,
            base_position: 0,
            passed_over: None,
            outputs: VecDeque::new(),
        };
        core.commands.restored(restore.executed_cut);
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
    /// Panics when called twice.
    pub fn handle_start(&mut self, now: Now) -> Result<(), StartError> {
        assert_eq!(self.phase, Phase::Restoring, "a core starts once");
        if let Some(position) = self.passed_over.filter(|last| *last < self.base_position) {
            return Err(StartError::JournalBehindBase { position, base: self.base_position });
        }
        let ceiling = self.clock.ceiling_durable();
        if self.executed_cut > ceiling {
            return Err(StartError::JournalBehindState { cut: self.executed_cut, ceiling });
        }
        if let Some((timestamp, id)) = self.commands.undecided().find(|(t, _)| *t <= self.executed_cut) {
            return Err(StartError::Undecided { cut: self.executed_cut, id, timestamp });
        }
        self.clock.observe(self.floors.highest());
        self.clock.start(now);
        assert!(self.clock.reading() > ceiling, "an incarnation begins above the durable ceiling");
        self.incarnation =
            Incarnation(self.incarnation.0.checked_add(1).expect("a replica starts fewer than 2^32 times"));
        self.counter = 0;
        let position = self.next_position();
        let id = CommandId { replica: self.config.replica, incarnation: self.incarnation, counter: 0 };
        self.append(Record::bare(RecordKind::Open, self.config.epoch, position, id, self.clock.reading()));
        self.phase = Phase::Opening { position };
        self.decide_leftovers();
        self.advance();
        Ok(())
    }

    /// Every record up to `position` is durable. Positions may be reported late, at once, or twice.
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
        }
        self.advance();
    }

    /// Time has passed: due when [`Core::deadline`] is reached, harmless at any other time.
    pub fn handle_tick(&mut self, now: Now) {
        if self.phase == Phase::Restoring {
            return;
        }
        self.clock.advance(now);
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
        self.cut_deadline()
    }

    /// Puts out all that became possible. A cut goes before the commands above it.
    pub(crate) fn advance(&mut self) {
        while self.cut_next() || self.execute_next() {}
    }

    /// The position of the next record.
    pub(crate) fn next_position(&self) -> u64 {
        self.appended + 1
    }

    /// Hands a record to the driver.
    pub(crate) fn append(&mut self, record: Record) {
        assert_eq!(record.header.position, self.next_position(), "positions are dense");
        self.appended = record.header.position;
        self.outputs.push_back(Output::Append(record));
    }
}

//! A replica over the epochs of its group (`consensus.md`, section 8): one core, with a journal of its own, for each
//! epoch that is still needed.
//!
//! Like a core it does no IO: `handle_*` in, [`Replica::poll_output`] out. What a core puts out is tagged with its
//! epoch; [`ReplicaOutput`] says what the driver owes beside the contract of [`Core`]. A driver of one
//! epoch for ever needs none of this.
//!
//! | part | file |
//! | --- | --- |
//! | epochs begin and end, the state goes from one to the next | this one |
//! | what replicas tell each other of epochs, and when an epoch is over | `notice.rs` |
//! | which core a call goes to | `route.rs` |
//! | what a restart has vouched for | `vouch.rs` |

mod notice;
mod route;
mod vouch;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use types::{Epoch, GroupId, Incarnation, Now, ReplicaId, Timestamp};

use crate::config::{ConfigError, Restore};
use crate::core::{Core, StartError};
use crate::epoch::State;
use crate::lease::Zone;
use crate::mutant::Mutant;
use crate::output::{Kept, Output, Record};
use crate::reconfig::{Entry, Membership, Reconfig};
use crate::restore::RestoreError;
use crate::status::Phase;
use crate::timer::Timing;

pub use self::notice::{Notice, Standing};
pub use self::route::{HelloError, ReconfigError};
pub use self::vouch::{Claims, EpochClaim, Vouch};

/// Makes a fresh core what the driver wants: time-outs, leases, zones. Called once for each core, before it starts.
pub type SetUp = Arc<dyn Fn(&mut Core) + Send + Sync>;

/// How long the state at the beginning of an epoch is awaited from the epoch before, before it is asked for, in ns.
const AWAITED_NS_MAX: u64 = 3_000_000_000;

/// Where the stored state of a replica stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stored {
    /// The cut.
    pub cut: Timestamp,
    /// The epoch at that cut: of a cut at a Reconfig, the epoch that the Reconfig made. The state itself tells.
    pub membership: Membership,
}

/// The journal of an epoch, as a restart finds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EpochJournal {
    /// What [`ReplicaOutput::Begin`] said.
    pub membership: Membership,
    /// The newest base that was kept, if the journal was ever trimmed.
    pub base: Option<Vec<u8>>,
}

/// What a restart finds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Remains {
    /// Where the stored state stands. A member of a new group has an empty state at cut zero of the first epoch, and no
    /// journal; one that is to join a group has neither.
    pub stored: Option<Stored>,
    /// The journals that are there, rising.
    pub journals: Vec<EpochJournal>,
    /// What [`ReplicaOutput::Over`] said last; 0: nothing.
    pub over: Epoch,
}

/// What the driver is to do next. Drained with [`Replica::poll_output`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReplicaOutput {
    /// Of the core of an epoch: to its journal, to its peers' cores of the same epoch, or to the state. Commands and
    /// cuts come in one order over all epochs. [`Output::WantSnapshot`]: a state at that cut or above, of this epoch or a
    /// later one, for [`Replica::handle_snapshot`]. Several may be wanted; one that only the lowest cut asked for helps, too.
    Core {
        /// The epoch.
        epoch: Epoch,
        /// What its core puts out.
        output: Output,
    },
    /// An epoch begins here: make a journal for it. What is said here must be durable in it, and named to
    /// [`Replica::new`] after a restart, before its first record is.
    Begin {
        /// The epoch.
        membership: Membership,
    },
    /// Nobody needs this epoch, and those before it, any more. To be durable, for [`Remains::over`], before the next
    /// output is taken: who would have to say so again may be gone then.
    Over {
        /// The epoch.
        epoch: Epoch,
    },
    /// This replica serves the epoch no more: its journal may be deleted.
    Closed {
        /// The epoch.
        epoch: Epoch,
    },
    /// This replica is not a member any more, and nobody needs it: it may stop for good.
    Removed,
}

/// An epoch that this replica serves.
#[derive(Clone)]
struct Served {
    membership: Membership,
    core: Core,
    /// A snapshot was asked for, because no core below can lead to the state, or has not for long.
    wants: bool,
    /// Since when it waits for the state, in ns of the monotonic clock.
    since: u64,
}

impl Served {
    /// Whether its core was never started, because the epoch was over by then: it says nothing, and needs no state.
    fn is_silent(&self) -> bool {
        self.core.status().phase == Phase::Restoring
    }
}

/// See the file's documentation.
#[derive(Clone)]
pub struct Replica {
    group: GroupId,
    replica: ReplicaId,
    set_up: SetUp,
    started: bool,
    now: Now,
    /// By number. At most a few: a Reconfig is proposed only when the epoch before is over.
    served: BTreeMap<Epoch, Served>,
    /// Epochs that are not over, as far as it is known here: a Reconfig that was executed made each of them.
    known: BTreeMap<Epoch, Membership>,
    /// Who has the state at the beginning of an epoch durably, and who has entered it.
    haves: BTreeMap<Epoch, BTreeSet<ReplicaId>>,
    enters: BTreeMap<Epoch, BTreeSet<ReplicaId>>,
    /// This epoch and those before it are not needed by anybody; 0: none.
    over: Epoch,
    /// The same, as others told it before the start: the cores of these epochs stay silent.
    told_over: Epoch,
    /// What else was told before the start.
    heard: BTreeMap<ReplicaId, Notice>,
    /// The epoch that the state here is of; 0: there is none.
    state: Epoch,
    /// It was a member of an epoch: before that, it waits to be one.
    joined: bool,
    removed: bool,
    /// Where the stored state stood at the restart, until the start.
    stored: Option<Stored>,
    preference: Vec<ReplicaId>,
    suspects: BTreeSet<ReplicaId>,
    zones: BTreeMap<Zone, [u8; 32]>,
    /// Time-outs that were set after the cores were made.
    timing: Option<Timing>,
    outputs: VecDeque<ReplicaOutput>,
}

impl Replica {
    /// A replica that waits for its journals ([`Replica::restore_record`]) and its start.
    pub fn new(group: GroupId, replica: ReplicaId, remains: Remains, set_up: SetUp) -> Result<Self, ConfigError> {
        let Remains { stored, journals, over } = remains;
        let mut new = Self {
            group,
            replica,
            set_up,
            started: false,
            now: Now::default(),
            served: BTreeMap::new(),
            known: BTreeMap::new(),
            haves: BTreeMap::new(),
            enters: BTreeMap::new(),
            over,
            told_over: over,
            heard: BTreeMap::new(),
            state: stored.as_ref().map_or(Epoch(0), |stored| stored.membership.epoch),
            joined: stored.is_some() || !journals.is_empty(),
            removed: false,
            stored,
            preference: Vec::new(),
            suspects: BTreeSet::new(),
            zones: BTreeMap::new(),
            timing: None,
            outputs: VecDeque::new(),
        };
        let stored = new.stored.iter().map(|stored| &stored.membership);
        let known: Vec<Membership> =
            journals.iter().map(|journal| &journal.membership).chain(stored).cloned().collect();
        new.known.extend(known.into_iter().map(|membership| (membership.epoch, membership)));
        for EpochJournal { membership, base } in journals {
            let core = new.core_for(&membership, base)?;
            new.served.insert(membership.epoch, Served { membership, core, wants: false, since: 0 });
        }
        let unserved = |stored: &&Stored| {
            let Stored { cut, membership } = stored;
            let served = new.served.contains_key(&membership.epoch) || membership.epoch <= over;
            // A later epoch may have been entered in vain before its journal was durable; the first begins once.
            membership.has(replica) && !served && (membership.entry.is_some() || *cut == Timestamp::ZERO)
        };
        if let Some(membership) = new.stored.as_ref().filter(unserved).map(|stored| stored.membership.clone()) {
            let core = new.core_for(&membership, None)?;
            new.outputs.push_back(ReplicaOutput::Begin { membership: membership.clone() });
            new.served.insert(membership.epoch, Served { membership, core, wants: false, since: 0 });
        }
        Ok(new)
    }

    /// A core of an epoch, as it stands to the state.
    fn core_for(&self, membership: &Membership, base: Option<Vec<u8>>) -> Result<Core, ConfigError> {
        let begins = membership.entry.map_or(Timestamp::ZERO, |entry| entry.at);
        let (state, executed_cut) = match &self.stored {
            Some(stored) if stored.membership.epoch > membership.epoch => {
                // The one after it ended it; of an older one nobody asks where.
                let next = self.known.get(&Epoch(membership.epoch.0 + 1)).unwrap_or(&stored.membership);
                let entry = next.entry.expect("a later epoch has a beginning");
                (State::Behind((entry.at, entry.reconfig)), entry.at)
            }
            Some(stored) if stored.membership.epoch == membership.epoch => (State::Within, stored.cut.max(begins)),
            _ => (State::Awaited, Timestamp::ZERO),
        };
        let mut core = Core::new(membership.config(self.group, self.replica), Restore { base, executed_cut })?;
        (self.set_up)(&mut core);
        self.timing.into_iter().for_each(|timing| core.set_timing(timing));
        match membership.entry {
            Some(entry) => core.begin_epoch(entry, state),
            None => core.span.state = state,
        }
        Ok(core)
    }

    /// Takes the next record of a journal, in order ([`Core::restore_record`]); epochs in any order.
    ///
    /// Panics on an epoch of which no journal was named.
    pub fn restore_record(&mut self, epoch: Epoch, record: Record) -> Result<(), RestoreError> {
        self.restoring(epoch).restore_record(record)
    }

    /// Takes a kept record of a journal ([`Core::restore_kept`]).
    ///
    /// Panics on an epoch of which no journal was named.
    pub fn restore_kept(&mut self, epoch: Epoch, kept: &Kept) -> Result<(), RestoreError> {
        self.restoring(epoch).restore_kept(kept)
    }

    fn restoring(&mut self, epoch: Epoch) -> &mut Core {
        &mut self.served.get_mut(&epoch).expect("a journal of this epoch was named").core
    }

    /// Starts the cores, oldest first, once their journals are vouched for ([`Replica::vouched`]). One of an epoch that is over
    /// says nothing any more.
    ///
    /// Panics when called twice.
    pub fn handle_start(&mut self, now: Now) -> Result<(), StartError> {
        assert!(!self.started, "a replica starts once");
        self.started = true;
        self.now = now;
        self.served.values_mut().for_each(|served| served.since = now.mono_ns);
        let epochs: Vec<Epoch> = self.served.keys().copied().collect();
        let stored = self.stored.take();
        for epoch in epochs.into_iter().filter(|epoch| *epoch > self.told_over) {
            let first = self.next_incarnation();
            let core = &mut self.served.get_mut(&epoch).expect("it was just listed").core;
            core.number_from(first);
            core.handle_start(now)?;
            if let Some(stored) = stored.as_ref().filter(|stored| stored.membership.epoch == epoch) {
                core.handle_stored(stored.cut);
            }
        }
        self.note_over(self.told_over);
        self.settle();
        for (from, notice) in core::mem::take(&mut self.heard) {
            self.handle_notice(now, from, &notice);
        }
        Ok(())
    }

    /// Above every incarnation that a core of this replica has had.
    fn next_incarnation(&self) -> Incarnation {
        let last = self.served.values().map(|served| served.core.incarnation).max().unwrap_or(Incarnation(0));
        Incarnation(last.0.checked_add(1).expect("a replica starts fewer than 2^32 times"))
    }

    /// The next thing to do; `None` when there is nothing until the next handler runs.
    pub fn poll_output(&mut self) -> Option<ReplicaOutput> {
        if !self.started {
            self.collect();
        }
        self.outputs.pop_front()
    }

    /// Does what became possible over the epochs. Runs behind every handler.
    fn settle(&mut self) {
        loop {
            self.collect();
            self.enter_known();
            self.hand_over();
            let quiet = self.served.values().all(|served| served.core.outputs.is_empty());
            if quiet {
                break;
            }
        }
        self.finish_epochs();
        self.ask_for_state();
        self.collect();
    }

    /// Takes what the cores put out, the oldest first: what an epoch executes comes before what the next one does.
    fn collect(&mut self) {
        let epochs: Vec<Epoch> = self.served.keys().copied().collect();
        for epoch in epochs {
            while let Some(output) = self.served.get_mut(&epoch).and_then(|served| served.core.poll_output()) {
                match output {
                    Output::Ended { entry, next } => self.handle_ended(epoch, entry, next),
                    output => self.outputs.push_back(ReplicaOutput::Core { epoch, output }),
                }
            }
        }
    }

    /// The Reconfig of an epoch is executed here: the next epoch is real, and the state here is its first.
    fn handle_ended(&mut self, epoch: Epoch, entry: Entry, next: Reconfig) {
        let next = Membership::after(epoch, entry, next);
        let core = &self.served[&epoch].core;
        if core.ended().is_some() {
            self.state = self.state.max(next.epoch);
        } else {
            debug_assert!(core.mutates(Mutant::EntersOnDecided));
        }
        self.known.entry(next.epoch).or_insert(next);
    }

    /// Enters every epoch that is known to be real and names this replica.
    fn enter_known(&mut self) {
        if !self.started || self.removed {
            return;
        }
        let missing: Vec<Membership> = self
            .known
            .values()
            .filter(|known| known.epoch > self.over && known.has(self.replica))
            // Who was in the first epoch has a journal of it: without one its disk was replaced.
            .filter(|known| known.entry.is_some())
            .filter(|known| known.epoch >= self.state && !self.served.contains_key(&known.epoch))
            .cloned()
            .collect();
        for membership in missing {
            let first = self.next_incarnation();
            let mut core = self.core_for(&membership, None).expect("a real epoch is one of a sound group");
            core.number_from(first);
            core.take_on_trust();
            core.handle_start(self.now).expect("an empty journal contradicts no state");
            if let Some((_, before)) = self.served.range(..membership.epoch).next_back() {
                core.inherit_readings(&before.core);
            }
            for replica in &self.suspects {
                core.suspect(self.now, *replica, true);
            }
            core.prefer(&self.preference);
            for (zone, salt) in &self.zones {
                core.want_lease(self.now, zone, *salt).expect("the core before took them");
            }
            self.joined = true;
            self.outputs.push_back(ReplicaOutput::Begin { membership: membership.clone() });
            let since = self.now.mono_ns;
            self.served.insert(membership.epoch, Served { membership, core, wants: false, since });
        }
    }

    /// Gives the state to the core of the epoch that it is of, when the one before has got there.
    fn hand_over(&mut self) {
        let held_up = self.served.range(..self.state).next_back().is_some_and(|(_, before)| {
            let core = &before.core;
            core.mutates(Mutant::VoidBlocks) && (core.blocks().count() > 0 || core.committed.count() > 0)
        });
        let now = self.now;
        let state = self.served.get_mut(&self.state).filter(|served| !served.is_silent());
        let Some(served) = state.filter(|_| self.started && !held_up) else { return };
        if !served.core.has_state() {
            served.core.begin_with_state(now);
        }
    }

    /// Asks for a snapshot where no core leads to the state.
    fn ask_for_state(&mut self) {
        let over = self.over;
        let mut before = Epoch(0);
        for (epoch, served) in &mut self.served {
            // The core before gets there by the journals of its epoch while others serve it. They may have stopped, and with
            // them whoever knew that it is over.
            let leads = before.0 + 1 == epoch.0 && before > over && self.now.mono_ns < served.since + AWAITED_NS_MAX;
            before = *epoch;
            let at = served.membership.entry.map(|entry| entry.at);
            if let Some(cut) = at.filter(|_| !served.core.has_state() && !served.wants && !leads && *epoch > over) {
                served.wants = true;
                self.outputs.push_back(ReplicaOutput::Core { epoch: *epoch, output: Output::WantSnapshot { cut } });
            }
        }
    }
}

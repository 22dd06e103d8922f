//! The beginning and the end of an epoch, as its core sees them (`consensus.md`, section 8).
//!
//! A core is of one epoch. It begins with `Enter`: its floors and its promise stand above the Reconfig that made
//! the epoch, and it votes at once; it executes when it has the state at that Reconfig. It ends where a Reconfig of its
//! own is executed: nothing more is, and what was not is void. It goes on voting after that, because others may need
//! its votes to get there. What holds the cores of a replica together is [`crate::Replica`].

use types::journal::{RecordHeader, RecordKind};
use types::{CommandId, Incarnation, Timestamp};

use crate::command::{Payload, bit};
use crate::config::Member;
use crate::core::Core;
use crate::index::Place;
use crate::mutant::Mutant;
use crate::output::Output;
use crate::reconfig::{Entry, Reconfig, is_reconfig};
use crate::status::Phase;

/// Where the state stands, in relation to the epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// The state at the beginning of the epoch is not here. From the start of a core that enters ahead of it; left when
    /// it comes from the core before, or by a snapshot.
    Awaited,
    /// It is within the epoch: decided commands are executed.
    Within,
    /// At or behind the Reconfig that ended the epoch, which was here. Never left.
    Behind(Place),
}

/// What a core knows of the beginning and the end of its epoch.
#[derive(Clone)]
pub(crate) struct Span {
    pub(crate) state: State,
    /// How the epoch began; `None`: it is the first.
    entry: Option<Entry>,
    /// The own `Enter` is said, and the own `Have`.
    said_enter: bool,
    said_have: bool,
    /// Members whose `Enter` is durable, and whose `Have` is, as a mask.
    entered: u64,
    haves: u64,
}

impl Span {
    /// The first epoch: nothing went before it.
    pub(crate) fn new() -> Self {
        Self { state: State::Within, entry: None, said_enter: false, said_have: false, entered: 0, haves: 0 }
    }

    /// Whether this is the first epoch of the group.
    pub(crate) fn is_first(&self) -> bool {
        self.entry.is_none()
    }

    /// Where the epoch begins: every state of it is at this cut or above.
    pub(crate) fn begins(&self) -> Timestamp {
        self.entry.map_or(Timestamp::ZERO, |entry| entry.at)
    }

    /// A peer's journal begins behind a base: its state is durable, so it has entered, and has it.
    pub(crate) fn based(&mut self, member: Member) {
        if self.entry.is_some() {
            self.entered |= bit(member);
            self.haves |= bit(member);
        }
    }

    /// What is wrong with an `Enter` or a `Have`.
    pub(crate) fn fault_of(&self, header: &RecordHeader) -> Option<&'static str> {
        let Some(entry) = self.entry else { return Some("a word about the beginning of the first epoch") };
        let fits = match header.kind {
            RecordKind::Enter => header.timestamp == entry.at,
            _ => header.timestamp >= entry.at,
        };
        (header.id != entry.reconfig || !fits).then_some("another beginning of the epoch")
    }
}

impl Core {
    /// Makes this the core of an epoch that began with `entry`: nothing is attached at or below it. To be called before
    /// anything is restored.
    pub(crate) fn begin_epoch(&mut self, entry: Entry, state: State) {
        assert_eq!(self.phase, Phase::Restoring, "an epoch begins before its core starts");
        self.span.entry = Some(entry);
        self.span.state = state;
        if self.base_position > 0 {
            (self.span.said_enter, self.span.said_have) = (true, true);
            self.span.based(self.me);
        }
        if self.mutates(Mutant::EnterWithoutFloors) {
            return;
        }
        self.floors.raise_all(entry.at);
        self.journals[self.me].floors.raise_all(entry.at);
        self.clock.observe(entry.at);
        // A tick's cut stands below the ceiling; so does that of the tick in which the epoch began.
        self.clock.ceiling_restored(entry.at.tick_end());
    }

    /// In a journal without a record, incarnations begin with this one: ids are not given twice by the cores of a replica.
    pub(crate) fn number_from(&mut self, first: Incarnation) {
        if self.incarnation == Incarnation(0) {
            self.incarnation = Incarnation(first.0.checked_sub(1).expect("incarnations begin with 1"));
        }
    }

    /// The clocks of those who were members of the epoch before are known: writes need not wait until they are read anew.
    pub(crate) fn inherit_readings(&mut self, before: &Self) {
        for member in 0..self.config.n() {
            if let Some(other) = before.config.member(self.config.members[member]) {
                self.readings.inherit(member, &before.readings, other);
            }
        }
    }

    /// Says that this replica is in the epoch from now on, if its journal does not say so yet.
    pub(crate) fn enter(&mut self) {
        let Some(entry) = self.span.entry.filter(|_| !self.span.said_enter) else { return };
        self.span.said_enter = true;
        self.say(RecordKind::Enter, entry.reconfig, entry.at, |_| {});
    }

    /// Whether the own `Enter` is durable; of the first epoch, always.
    pub(crate) fn has_entered(&self) -> bool {
        self.span.is_first() || self.span.entered & bit(self.me) != 0
    }

    /// Says that the state at the beginning of the epoch is durable here, if it is and was not said.
    pub(crate) fn say_have(&mut self) {
        let Some(entry) = self.span.entry else { return };
        let early = self.mutates(Mutant::HaveNotDurable) && self.span.state != State::Awaited;
        let stored = self.journals[self.me].stored.max(if early { entry.at } else { Timestamp::ZERO });
        if self.span.said_have || stored < entry.at || self.phase == Phase::Restoring {
            return;
        }
        self.span.said_have = true;
        self.say(RecordKind::Have, entry.reconfig, stored, |_| {});
    }

    /// A durable `Enter` or `Have`, the own ones included.
    pub(crate) fn handle_epoch_record(&mut self, member: Member, header: &RecordHeader) {
        let mine = member == self.me;
        match header.kind {
            RecordKind::Enter => {
                self.span.entered |= bit(member);
                self.span.said_enter |= mine;
            }
            _ => {
                self.span.haves |= bit(member);
                self.span.said_have |= mine;
            }
        }
    }

    /// Members that have the state at the beginning of the epoch durably, as far as their journals are read.
    pub(crate) fn haves(&self) -> impl Iterator<Item = types::ReplicaId> + '_ {
        let members = self.config.members.iter().enumerate();
        members.filter(|(member, _)| self.span.haves & bit(*member) != 0).map(|(_, replica)| *replica)
    }

    /// Members whose `Enter` is read.
    pub(crate) fn enters(&self) -> impl Iterator<Item = types::ReplicaId> + '_ {
        let members = self.config.members.iter().enumerate();
        members.filter(|(member, _)| self.span.entered & bit(*member) != 0).map(|(_, replica)| *replica)
    }

    /// Whether decided commands may be executed here.
    pub(crate) fn may_execute(&self) -> bool {
        match self.span.state {
            State::Within => true,
            State::Awaited => self.mutates(Mutant::ExecutesBeforeState),
            State::Behind(_) => self.mutates(Mutant::NothingVoid),
        }
    }

    /// Whether cuts may be taken here.
    pub(crate) fn may_cut(&self) -> bool {
        self.may_execute() || (self.ended().is_some() && self.mutates(Mutant::CutNotForced))
    }

    /// Whether the state at the beginning of the epoch is here.
    pub(crate) fn has_state(&self) -> bool {
        self.span.state != State::Awaited
    }

    /// Where the Reconfig stands that ended the epoch, if it is executed here.
    pub(crate) fn ended(&self) -> Option<Place> {
        match self.span.state {
            State::Behind(place) => Some(place),
            _ => None,
        }
    }

    /// Whether a Reconfig is attached here, or known to be decided: nothing more is proposed in the epoch, granted, or
    /// read under a lease.
    pub(crate) fn is_sealed(&self) -> bool {
        let everywhere = self.blocks().everywhere().chain(self.committed.everywhere());
        self.ended().is_some()
            || everywhere.filter_map(|(_, id)| self.payload_of(id)).any(|payload| is_reconfig(&payload.body))
    }

    /// Whether a vote on a command is refused because a Reconfig is attached. It never is: to refuse would stop the
    /// Reconfig itself.
    pub(crate) fn refuses(&self, id: CommandId) -> bool {
        self.mutates(Mutant::SealedRefuses)
            && self.is_sealed()
            && !self.payload_of(id).is_some_and(|payload| is_reconfig(&payload.body))
    }

    /// A rule taken out: a decided Reconfig makes an epoch, void or not.
    pub(crate) fn enter_on_decided(&mut self, id: CommandId, at: Timestamp) {
        if !self.mutates(Mutant::EntersOnDecided) || self.ended().is_some() {
            return;
        }
        if let Some(next) = self.payload_of(id).and_then(|payload| Reconfig::from_body(&payload.body)) {
            self.outputs.push_back(Output::Ended { entry: Entry { reconfig: id, at }, next });
        }
    }

    fn payload_of(&self, id: CommandId) -> Option<&Payload> {
        self.commands.at(id).and_then(|known| known.payload.as_ref())
    }

    /// The Reconfig of this epoch is about to be executed: the ticks before it are complete.
    pub(crate) fn close_ticks(&mut self, place: Place) {
        while let Some(cut) = self.cuts.due().filter(|cut| *cut < place.0) {
            self.cuts.take(cut);
            self.outputs.push_back(Output::Cut { timestamp: cut });
        }
    }

    /// The Reconfig of this epoch was executed: that is the end of it, and the last cut. Everything ordered before it
    /// is executed here, so everything else is void everywhere.
    pub(crate) fn end_epoch(&mut self, place: Place, next: Reconfig) {
        assert!(self.ended().is_none(), "an epoch ends once");
        if !self.mutates(Mutant::CutNotForced) {
            self.cuts.force(place.0);
            self.outputs.push_back(Output::Cut { timestamp: place.0 });
        }
        self.span.state = State::Behind(place);
        self.counters.epochs_ended += 1;
        self.end_leases();
        for id in self.own_in_flight() {
            let is_void = self.is_void(id);
            self.drop_in_flight(id);
            if is_void {
                self.counters.voided += 1;
                self.outputs.push_back(Output::Void { id });
            } else {
                self.cover(id);
            }
        }
        self.end_reads();
        let entry = Entry { reconfig: place.1, at: place.0 };
        self.outputs.push_back(Output::Ended { entry, next });
    }

    /// A state beyond this epoch is here. What became of the own commands that are not executed is in it.
    pub(crate) fn pass(&mut self, place: Place) {
        if self.ended().is_some() {
            return;
        }
        self.span.state = State::Behind(place);
        self.cuts.stop();
        self.end_leases();
        for id in self.own_in_flight() {
            self.drop_in_flight(id);
            self.cover(id);
        }
        self.end_reads();
    }

    /// The core of the epoch before has executed its Reconfig: this is the state at the beginning of this epoch.
    pub(crate) fn begin_with_state(&mut self, now: types::Now) {
        let entry = self.span.entry.expect("the first epoch begins without a state");
        assert_eq!(self.span.state, State::Awaited, "an epoch begins once");
        self.clock.advance(now);
        let stated_from = self.stated_from;
        self.take_state(entry.at);
        // That state holds no command of this epoch.
        self.stated_from = stated_from;
        self.say_have();
        self.advance();
    }

    /// Whether an own command that is not executed here has no effect anywhere, now that the epoch has ended here. One that was
    /// proposed before the state was restored, or installed, may be in that state, decided by another: at any timestamp,
    /// since a recovery may decide one below what its coordinator proposed.
    fn is_void(&self, id: CommandId) -> bool {
        id > self.stated_from || self.commands.at(id).is_some_and(|known| known.decision.is_some())
    }

    /// The state here may hold what was proposed up to now.
    pub(crate) fn doubt_proposed(&mut self) {
        let (replica, incarnation, counter) = (self.config.replica, self.incarnation, self.counter);
        self.stated_from = CommandId { replica, incarnation, counter };
    }

    fn own_in_flight(&self) -> Vec<CommandId> {
        self.commands.iter().filter(|(_, known)| known.flying.is_some()).map(|(id, _)| id).collect()
    }

    fn drop_in_flight(&mut self, id: CommandId) {
        let flying = self.commands.at_mut(id).and_then(|known| known.flying.take());
        self.commands.leaves_flight(flying);
    }

    /// Reads of this epoch are asked anew in the next one, and nobody waits for its commands.
    fn end_reads(&mut self) {
        let mut reads = self.reads.end();
        if self.mutates(Mutant::LeasedReadAfterSeal) {
            // They were to wait for the Reconfig, as for any other write.
            let leased = self.leases.end_reads();
            self.outputs.extend(leased.into_iter().map(|read| Output::LeasedReady { read }));
        } else {
            reads.extend(self.leases.end_reads());
        }
        self.outputs.extend(reads.into_iter().map(|read| Output::ReadAgain { read }));
        let pended: Vec<CommandId> =
            self.commands.iter().filter(|(_, known)| known.pended.is_some()).map(|(id, _)| id).collect();
        for id in pended {
            let slots = self.commands.at_mut(id).and_then(|known| known.pended.take());
            self.settles(id, slots);
        }
    }
}

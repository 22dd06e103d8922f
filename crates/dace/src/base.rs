//! Bases: what stands in for a trimmed journal prefix.
//!
//! A base is taken at a *mark*: a place in the journal before the first command of a new tick. Everything
//! before a mark lies at or below the cut of the tick before, and everything behind it above, so that a
//! base needs to list no command.
//!
//! In a larger group a mark serves once everything that the replica said before it is about commands that
//! are settled: all that it said of others then stands behind the base, and again no command need be
//! listed. One command that is never decided would pin the journal, but it would pin the cut as well. There
//! marks are taken before records about leases, too: they are about no command.

use std::collections::VecDeque;

use minicbor::{Decode, Encode};
use types::limits::SLOTS;
use types::{CommandId, Epoch, GroupId, Incarnation, ReplicaId, Timestamp};

use crate::clock::TIMESTAMP_MAX;
use crate::command::Stage;
use crate::config::Config;
use crate::core::Core;
use crate::journal::Opened;

/// The version byte that opens an encoded base.
const VERSION: u8 = 1;
/// No journal grows longer than this.
pub(crate) const POSITION_MAX: u64 = u64::MAX / 2;
/// Marks remembered. When there are more, every second one is forgotten: the next base then trims a little
/// less than it could.
const MARKS_MAX: usize = 4096;
/// Records between two marks of which no command begins a tick.
const LEASE_RECORDS_PER_MARK: u64 = 16;

/// What replaces a journal prefix.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Base {
    /// Records at or below this position may be trimmed once `bytes` are kept durably.
    pub position: u64,
    /// The cut that the base stands for: at most the one asked for.
    pub cut: Timestamp,
    /// What [`crate::Restore::base`] takes.
    pub bytes: Vec<u8>,
}

/// Why bytes are not a base of this replica.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BaseError {
    /// No bytes.
    #[error("it is empty")]
    Empty,
    /// A version that this build does not know.
    #[error("version {0} is not known to this build")]
    Version(u8),
    /// Not the CBOR of a base.
    #[error("malformed: {0}")]
    Malformed(String),
    /// Bytes are left after the base.
    #[error("{0} bytes are left over")]
    Trailing(usize),
    /// A base of another group, replica, epoch, number of slots or member list.
    #[error("its {0} is not that of this replica")]
    Foreign(&'static str),
    /// Fields that contradict each other.
    #[error("contradictory: {0}")]
    Contradiction(&'static str),
}

/// The content of a base (`docs/formats/consensus.md`).
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub(crate) struct BaseState {
    #[n(0)]
    pub(crate) group: GroupId,
    #[n(1)]
    pub(crate) replica: ReplicaId,
    #[n(2)]
    pub(crate) epoch: Epoch,
    #[n(3)]
    pub(crate) members: Vec<ReplicaId>,
    /// Number of slots of the group.
    #[n(4)]
    pub(crate) slots: u16,
    /// Every command of the prefix lies at or below; also the floor of every slot.
    #[n(5)]
    pub(crate) cut: Timestamp,
    /// The last position of the prefix.
    #[n(6)]
    pub(crate) position: u64,
    /// The highest clock ceiling of the prefix.
    #[n(7)]
    pub(crate) ceiling: Timestamp,
    /// The executed watermark: per replica and incarnation the highest counter, strictly rising. In a group
    /// of one: that of the last incarnation, since all the earlier ones are settled.
    #[n(8)]
    pub(crate) executed: Vec<CommandId>,
    /// What a group of more than one needs beside.
    #[n(9)]
    pub(crate) more: Option<GroupBase>,
}

/// What a base says in a group of more than one replica.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub(crate) struct GroupBase {
    /// Settled ids above the executed watermark, rising.
    #[n(0)]
    pub(crate) above: Vec<CommandId>,
    /// The writer's incarnation at the end of the prefix.
    #[n(1)]
    pub(crate) incarnation: Incarnation,
    /// The last counter given in it.
    #[n(2)]
    pub(crate) counter: u64,
    /// The position of its `Open`.
    #[n(3)]
    pub(crate) opened: u64,
    /// The timestamp of its `Open`.
    #[n(4)]
    pub(crate) opened_at: Timestamp,
    /// The grants that ran when the base was made; none if there were none.
    #[n(5)]
    pub(crate) grants: Option<Vec<GrantBase>>,
}

/// A grant that runs: after a restart, for a whole term again.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub(crate) struct GrantBase {
    /// The holder.
    #[n(0)]
    pub(crate) to: ReplicaId,
    /// The zone.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub(crate) zone: Vec<u8>,
    /// Its length in ns.
    #[n(2)]
    pub(crate) len_ns: u64,
    /// Hides the zone behind its hash.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub(crate) salt: [u8; 32],
}

impl BaseState {
    /// The base of this replica for a prefix: its last position, its cut, its highest ceiling.
    fn of(
        config: &Config,
        (position, cut, ceiling): (u64, Timestamp, Timestamp),
        executed: Vec<CommandId>,
        more: Option<GroupBase>,
    ) -> Self {
        Self {
            group: config.group,
            replica: config.replica,
            epoch: config.epoch,
            members: config.members.clone(),
            slots: SLOTS,
            cut,
            position,
            ceiling,
            executed,
            more,
        }
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        minicbor::encode(self, &mut bytes).expect("encoding into a vector cannot fail");
        bytes
    }

    /// Never panics, whatever the bytes.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, BaseError> {
        let (version, cbor) = bytes.split_first().ok_or(BaseError::Empty)?;
        if *version != VERSION {
            return Err(BaseError::Version(*version));
        }
        let mut decoder = minicbor::Decoder::new(cbor);
        let base: Self = decoder.decode().map_err(|error| BaseError::Malformed(error.to_string()))?;
        match cbor.len() - decoder.position() {
            0 => Ok(base),
            left => Err(BaseError::Trailing(left)),
        }
    }

    /// Whether it is a base of this replica, and one that a core can have made.
    pub(crate) fn check(&self, config: &Config) -> Result<(), BaseError> {
        let foreign = [
            (self.group == config.group, "group"),
            (self.replica == config.replica, "replica"),
            (self.epoch == config.epoch, "epoch"),
            (self.members == config.members, "member list"),
            (self.slots == SLOTS, "number of slots"),
        ];
        if let Some((_, what)) = foreign.into_iter().find(|(same, _)| !same) {
            return Err(BaseError::Foreign(what));
        }
        if self.position == 0 || self.position > POSITION_MAX || self.ceiling > TIMESTAMP_MAX {
            return Err(BaseError::Contradiction("a position or its ceiling is out of range"));
        }
        match (&self.more, config.n()) {
            (None, 1) => self.check_alone(),
            (Some(more), 2..) => self.check_group(more),
            _ => Err(BaseError::Contradiction("it is of a group of another size")),
        }
    }

    fn check_alone(&self) -> Result<(), BaseError> {
        let [executed] = self.executed[..] else {
            return Err(BaseError::Contradiction("a group of one has one executed watermark"));
        };
        if executed.replica != self.replica || executed.incarnation == Incarnation(0) {
            return Err(BaseError::Contradiction("the executed watermark is not of this replica"));
        }
        if executed.counter > POSITION_MAX {
            return Err(BaseError::Contradiction("a counter is out of range"));
        }
        if self.ceiling < self.cut {
            return Err(BaseError::Contradiction("its ceiling does not cover its cut"));
        }
        Ok(())
    }

    fn check_group(&self, more: &GroupBase) -> Result<(), BaseError> {
        let members = |ids: &[CommandId]| ids.iter().all(|id| self.members.contains(&id.replica));
        let rising = |ids: &[CommandId]| ids.windows(2).all(|pair| pair[0] < pair[1]);
        for ids in [&self.executed, &more.above] {
            if !members(ids) || !rising(ids) {
                return Err(BaseError::Contradiction("settled ids are of members, and rise"));
            }
        }
        if more.opened > self.position || more.counter > POSITION_MAX {
            return Err(BaseError::Contradiction("an incarnation opens within the prefix"));
        }
        Ok(())
    }
}

/// A place in the journal at which a base can be taken, and what it must say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mark {
    cut: Timestamp,
    position: u64,
    ceiling: Timestamp,
    incarnation: Incarnation,
    counter: u64,
    opened: Opened,
}

/// The marks of the journal that is left, rising.
#[derive(Clone)]
pub(crate) struct Marks {
    marks: VecDeque<Mark>,
    /// The position of the base that was restored: a mark there has nothing to trim.
    trimmed: u64,
}

impl Marks {
    pub(crate) fn new() -> Self {
        Self { marks: VecDeque::new(), trimmed: 0 }
    }

    /// The journal begins behind `position`.
    pub(crate) fn restored(&mut self, position: u64) {
        self.trimmed = position;
    }

    /// A command is about to be attached at `timestamp`, right behind `mark`.
    pub(crate) fn handle_attach(&mut self, timestamp: Timestamp, mark: Mark) {
        // Within a tick there is no cut, and before the first command nothing to trim.
        if mark.cut == Timestamp::ZERO || mark.position == self.trimmed || timestamp <= mark.cut {
            return;
        }
        self.push(mark);
    }

    fn push(&mut self, mark: Mark) {
        if self.marks.len() == MARKS_MAX {
            let mut keep = false;
            self.marks.retain(|_| {
                keep = !keep;
                keep
            });
        }
        self.marks.push_back(mark);
    }

    /// A record about no command comes next, in a larger group: there the cut of a mark binds nothing, and an idle group
    /// that renews its leases has no other marks.
    fn handle_lease(&mut self, mark: Mark) {
        let last = self.marks.back().map_or(self.trimmed, |last| last.position);
        if mark.cut > Timestamp::ZERO && mark.position >= last + LEASE_RECORDS_PER_MARK {
            self.push(mark);
        }
    }

    /// The last mark at or below `cut`; forgets those before it.
    fn take_up_to(&mut self, cut: Timestamp) -> Option<Mark> {
        let count = self.marks.partition_point(|mark| mark.cut <= cut);
        self.marks.drain(..count.checked_sub(1)?);
        self.marks.front().copied()
    }

    /// The last mark at or below `position`; forgets those before it.
    fn take_behind(&mut self, position: u64) -> Option<Mark> {
        let count = self.marks.partition_point(|mark| mark.position <= position);
        self.marks.drain(..count.checked_sub(1)?);
        self.marks.front().copied()
    }
}

/// Where a journal goes on that replaces one which is not at hand: what a backup keeps of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Predecessor {
    /// Its last position.
    pub position: u64,
    /// The cut of the stored state; every command of the journal lies at or below it.
    pub cut: Timestamp,
    /// Its highest clock ceiling; at least the cut.
    pub ceiling: Timestamp,
    /// The last incarnation that may have named commands; at least 1.
    pub incarnation: Incarnation,
}

impl Base {
    /// The base that stands for a whole journal: with it, an empty journal behind the predecessor's last
    /// position restores to a core that attaches, names and appends above everything the predecessor said.
    pub fn succeeding(config: &Config, predecessor: &Predecessor) -> Result<Self, BaseError> {
        let executed = CommandId { replica: config.replica, incarnation: predecessor.incarnation, counter: 0 };
        let prefix = (predecessor.position, predecessor.cut, predecessor.ceiling);
        let state = BaseState::of(config, prefix, vec![executed], None);
        state.check(config)?;
        Ok(Self { position: state.position, cut: state.cut, bytes: state.to_bytes() })
    }
}

impl Core {
    /// What replaces the journal prefix up to `cut`, a cut whose block is sealed and durable (in a larger group
    /// also at `n - f` members: [`Core::trimmable`]); `None` when there is nothing to trim. Asked with rising
    /// cuts. In a larger group the votes on what is executed at or below the cut are forgotten.
    ///
    /// Panics on a cut that was not put out: the commands of the prefix would be lost.
    pub fn base(&mut self, cut: Timestamp) -> Option<Base> {
        assert!(cut <= self.cuts.last(), "only what is cut is trimmed");
        if self.span.begins() > cut {
            // A base says that its writer holds the state at the beginning of the epoch durably.
            return None;
        }
        if self.is_alone() {
            return self.lone_base(cut);
        }
        assert!(cut <= self.trimmable(), "only what n - f members hold is trimmed");
        if cut < self.settled_cut {
            // A peer that knows of more stored states has said that ids above `cut` are settled. A reader whose state
            // is at `cut` still needs what was attached of them.
            return None;
        }
        let unsettled = self.commands.iter().filter(|(_, known)| {
            let settled =
                known.stage == Stage::Executed && known.decision.is_some_and(|decision| decision.timestamp <= cut);
            known.first_mention > 0 && !settled
        });
        let pinned = unsettled.map(|(_, known)| known.first_mention - 1).min().unwrap_or(self.durable);
        let mark = self.marks.take_behind(pinned.min(self.durable))?;
        if mark.position <= self.base_position {
            return None;
        }
        self.settle(cut);
        let more = GroupBase {
            above: self.settled.above().collect(),
            incarnation: mark.incarnation,
            counter: mark.counter,
            opened: mark.opened.position,
            opened_at: mark.opened.at,
            grants: self.running_grants(),
        };
        let prefix = (mark.position, cut, mark.ceiling);
        let state = BaseState::of(&self.config, prefix, self.settled.prefixes().collect(), Some(more));
        debug_assert_eq!(state.check(&self.config), Ok(()));
        self.base_position = state.position;
        self.base_cut = cut;
        self.settled_cut = self.settled_cut.max(cut);
        self.base_opened = (mark.incarnation, mark.opened);
        Some(Base { position: state.position, cut, bytes: state.to_bytes() })
    }

    fn running_grants(&self) -> Option<Vec<GrantBase>> {
        let running = self.grants.running(self.clock.mono_ns());
        let grants: Vec<GrantBase> = running
            .map(|(to, zone, len_ns, salt)| GrantBase {
                to: self.config.members[to],
                zone: zone.0.to_vec(),
                len_ns,
                salt,
            })
            .collect();
        (!grants.is_empty()).then_some(grants)
    }

    fn lone_base(&mut self, cut: Timestamp) -> Option<Base> {
        let mark = self.marks.take_up_to(cut)?;
        assert!(mark.position <= self.durable, "what is cut is durable");
        assert!(mark.ceiling >= mark.cut, "the ceiling covers every cut");
        let executed = CommandId { replica: self.config.replica, incarnation: mark.incarnation, counter: mark.counter };
        let prefix = (mark.position, mark.cut, mark.ceiling);
        let state = BaseState::of(&self.config, prefix, vec![executed], None);
        debug_assert_eq!(state.check(&self.config), Ok(()));
        Some(Base { position: mark.position, cut: mark.cut, bytes: state.to_bytes() })
    }

    /// Notes the mark before an attach at `timestamp`, if it begins a tick.
    pub(crate) fn note_mark(&mut self, timestamp: Timestamp) {
        let mark = self.mark();
        self.marks.handle_attach(timestamp, mark);
    }

    /// Notes a mark before a record about a lease, now and then.
    pub(crate) fn note_lease_mark(&mut self) {
        let mark = self.mark();
        self.marks.handle_lease(mark);
    }

    /// The mark that the journal's end would be, if a command of a new tick came next.
    fn mark(&self) -> Mark {
        Mark {
            cut: self.floors.highest().tick_end(),
            position: self.appended,
            ceiling: self.clock.ceiling(),
            incarnation: self.incarnation,
            counter: self.counter,
            opened: self.opened,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn config() -> Config {
        Config { group: GroupId(1), replica: ReplicaId(1), members: vec![ReplicaId(1)], f: 0, epoch: Epoch(1) }
    }

    fn state() -> BaseState {
        BaseState {
            group: GroupId(1),
            replica: ReplicaId(1),
            epoch: Epoch(1),
            members: vec![ReplicaId(1)],
            slots: SLOTS,
            cut: Timestamp(1_700_000_000_010_000_000),
            position: 6,
            ceiling: Timestamp(1_700_000_002_000_000_001),
            executed: vec![CommandId { replica: ReplicaId(1), incarnation: Incarnation(1), counter: 2 }],
            more: None,
        }
    }

    /// The test vector of `docs/formats/consensus.md`.
    const VECTOR: [u8; 34] = [
        0x01, 0x89, 0x01, 0x01, 0x01, 0x81, 0x01, 0x19, 0x10, 0x00, 0x1b, 0x17, 0x97, 0x9c, 0xfe, 0x36, 0xc2, 0x96,
        0x80, 0x06, 0x1b, 0x17, 0x97, 0x9c, 0xfe, 0xad, 0x5f, 0x94, 0x01, 0x81, 0x83, 0x01, 0x01, 0x02,
    ];

    #[test]
    fn the_documented_vector_holds() {
        let bytes = state().to_bytes();
        assert_eq!(bytes, VECTOR, "{bytes:02x?}");
        assert_eq!(BaseState::from_bytes(&VECTOR), Ok(state()));
        assert_eq!(state().check(&config()), Ok(()));
    }

    #[test]
    fn what_is_not_a_base_of_this_replica_is_named() {
        assert_eq!(BaseState::from_bytes(&[]), Err(BaseError::Empty));
        assert_eq!(BaseState::from_bytes(&[2, 0x80]), Err(BaseError::Version(2)));
        assert!(matches!(BaseState::from_bytes(&VECTOR[..20]), Err(BaseError::Malformed(_))));
        let longer = [&VECTOR[..], &[0]].concat();
        assert_eq!(BaseState::from_bytes(&longer), Err(BaseError::Trailing(1)));
        let check = |change: fn(&mut BaseState)| {
            let mut base = state();
            change(&mut base);
            base.check(&config()).unwrap_err()
        };
        assert_eq!(check(|base| base.group.0 = 2), BaseError::Foreign("group"));
        assert_eq!(check(|base| base.replica.0 = 2), BaseError::Foreign("replica"));
        assert_eq!(check(|base| base.slots = 8), BaseError::Foreign("number of slots"));
        assert_eq!(check(|base| base.members.clear()), BaseError::Foreign("member list"));
        assert!(matches!(check(|base| base.executed.clear()), BaseError::Contradiction(_)));
        assert!(matches!(check(|base| base.executed[0].replica.0 = 3), BaseError::Contradiction(_)));
        assert!(matches!(check(|base| base.ceiling.0 = 1), BaseError::Contradiction(_)));
        assert!(matches!(check(|base| base.ceiling.0 = u64::MAX), BaseError::Contradiction(_)));
        assert!(matches!(check(|base| base.position = 0), BaseError::Contradiction(_)));
        assert!(matches!(check(|base| base.position = u64::MAX), BaseError::Contradiction(_)));
    }

    #[test]
    fn marks_are_bounded_and_stay_right() {
        let mark = |n: u64| Mark {
            cut: Timestamp(n * 10),
            position: n,
            ceiling: Timestamp(n * 100),
            incarnation: Incarnation(1),
            counter: n,
            opened: Opened::default(),
        };
        let mut marks = Marks::new();
        for n in 1..=10_000 {
            marks.handle_attach(Timestamp(n * 10 + 1), mark(n));
        }
        assert!(marks.marks.len() <= MARKS_MAX);
        let found = marks.take_up_to(Timestamp(90_005)).unwrap();
        assert!(found.cut <= Timestamp(90_005) && found.cut >= Timestamp(80_000), "{found:?}");
        assert_eq!(marks.take_up_to(Timestamp(90_005)), Some(found), "asking again is harmless");
        assert_eq!(marks.take_up_to(Timestamp(5)), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..80), flips in prop::collection::vec((0_usize..34, any::<u8>()), 0..4)) {
            if let Ok(base) = BaseState::from_bytes(&bytes) {
                let _ = base.check(&config());
            }
            let mut near = VECTOR;
            for (at, byte) in flips {
                near[at] = byte;
            }
            if let Ok(base) = BaseState::from_bytes(&near) {
                let _ = base.check(&config());
            }
        }
    }
}

//! The commands that a replica knows, and how far each has come.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use types::{CommandId, SlotSet, Timestamp};

use crate::config::Member;
use crate::index::Place;

/// How a replica attached a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum By {
    /// By `Ack`, or as the coordinator by its `Propose`: the attach is a vote at ballot 0.
    Ack,
    /// By `Report`: it will never ack.
    Report,
}

/// One member's attach of a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Attach {
    pub(crate) timestamp: Timestamp,
    pub(crate) by: By,
    /// Whether it counts as a vote; until then it only blocks.
    pub(crate) durable: bool,
}

/// The command itself, as its coordinator proposed it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Payload {
    /// Shared: it is looked at with every word about the command.
    pub(crate) slots: Arc<SlotSet>,
    pub(crate) salt: [u8; 32],
    pub(crate) body: Bytes,
    pub(crate) body_hash: [u8; 32],
}

/// What a member reported to a recovery.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Said {
    /// It attached at this timestamp, and accepted nothing.
    Attached(Timestamp, By),
    /// It accepted this timestamp at this ballot.
    Accepted(u64, Timestamp),
    /// It knows the decision.
    Committed(Timestamp),
}

/// What this replica does to have a command decided.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Lead {
    /// Nothing: another coordinates it, or it is decided.
    None,
    /// As the first coordinator: waits for the acks of all of `Q`. Entered by the proposal; left to
    /// `Accepting` (unequal acks, or a member given up), or by the decision.
    Collecting,
    /// Recovery: a `Prepare` at `ballot` is out. Left to `Accepting`, by the decision, or by a higher ballot.
    Preparing {
        /// The ballot.
        ballot: u64,
        /// The durable reports so far.
        reports: Vec<(Member, Said)>,
        /// Whether one time-out was waited for further reports, because the choice was far ahead.
        waited: bool,
    },
    /// Phase two at `ballot`. Left by the decision or by a higher ballot.
    Accepting {
        /// The ballot.
        ballot: u64,
        /// The value.
        timestamp: Timestamp,
        /// Who accepted durably, as a mask.
        accepted: u64,
    },
}

/// A decision.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Decision {
    pub(crate) timestamp: Timestamp,
    /// The position of the own `Commit`; 0 if another replica said it.
    pub(crate) position: u64,
}

/// How far a command has come here.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Stage {
    /// From the first word of it on; left when a decision counts.
    Undecided,
    /// Entered when a decision counts: it is durable, or stands behind `f + 1` durable `Accepted`. Left when
    /// it is executed, which needs stability and the command itself.
    Committed,
    /// Entered when it was put out as `Execute`, or when the restored state holds it. Left when its votes are
    /// forgotten.
    Executed,
}

/// A known command.
#[derive(Clone)]
pub(crate) struct Known {
    pub(crate) payload: Option<Payload>,
    /// The coordinator's timestamp; zero while it is not known.
    pub(crate) t0: Timestamp,
    /// The fast quorum as a mask; zero while it is not known.
    pub(crate) quorum: u64,
    /// Whether something durable stands behind the payload: it may be attached, and recovered.
    pub(crate) endorsed: bool,
    pub(crate) attaches: Box<[Option<Attach>]>,
    /// The own attach is said (appended).
    pub(crate) attached: Option<(Timestamp, By)>,
    /// The highest ballot joined here.
    pub(crate) joined: u64,
    /// The highest ballot at which a value was accepted here, and the value.
    pub(crate) accepted: Option<(u64, Timestamp)>,
    pub(crate) lead: Lead,
    /// Set when the own `Commit` is appended, or when one counts.
    pub(crate) decision: Option<Decision>,
    pub(crate) stage: Stage,
    /// The first own record that speaks of it; 0: none.
    pub(crate) first_mention: u64,
    /// The coordinator gave up on a member of `Q`.
    pub(crate) gave_up: bool,
    /// The coordinator waits no longer for acks that are less far ahead.
    pub(crate) impatient: bool,
    /// The length of its body while it counts as an own command that is not executed.
    pub(crate) flying: Option<usize>,
    /// How often a recovery was due here, or another's ballot was joined.
    pub(crate) attempts: u32,
    /// The slots in which readers beside the loop wait for it.
    pub(crate) pended: Option<SlotSet>,
    /// How often it was asked for by its id.
    pub(crate) fetches: u32,
    /// The highest ballot that anybody speaks of.
    pub(crate) heard: u64,
    /// Until when (ns of the monotonic clock) whoever began the ballot joined last is given time.
    pub(crate) yields_until: u64,
    /// When (ns of the monotonic clock) its one recovery timer fires; `None` when none is armed.
    pub(crate) recovers_at: Option<u64>,
}

impl Known {
    pub(crate) fn new(n: usize) -> Self {
        Self {
            payload: None,
            t0: Timestamp::ZERO,
            quorum: 0,
            endorsed: false,
            attaches: vec![None; n].into_boxed_slice(),
            attached: None,
            joined: 0,
            accepted: None,
            lead: Lead::None,
            decision: None,
            stage: Stage::Undecided,
            first_mention: 0,
            gave_up: false,
            impatient: false,
            flying: None,
            attempts: 0,
            pended: None,
            fetches: 0,
            heard: 0,
            yields_until: 0,
            recovers_at: None,
        }
    }

    /// The slots, if the command itself is known.
    pub(crate) fn slots(&self) -> Option<&SlotSet> {
        self.payload.as_ref().map(|payload| &*payload.slots)
    }

    /// The same, to be kept.
    pub(crate) fn shared_slots(&self) -> Option<Arc<SlotSet>> {
        self.payload.as_ref().map(|payload| Arc::clone(&payload.slots))
    }

    /// The durable ballot-0 attaches of the members of `mask`.
    pub(crate) fn acks(&self, mask: u64) -> impl Iterator<Item = (Member, Timestamp)> + '_ {
        self.attaches.iter().enumerate().filter_map(move |(member, attach)| {
            let attach = attach.filter(|attach| attach.durable && attach.by == By::Ack)?;
            (mask & bit(member) != 0).then_some((member, attach.timestamp))
        })
    }

    /// Nothing that counts was said of it.
    pub(crate) fn is_forlorn(&self) -> bool {
        !self.endorsed
            && self.decision.is_none()
            && self.attached.is_none()
            && self.attaches.iter().all(Option::is_none)
    }
}

/// A member as a mask.
pub(crate) fn bit(member: Member) -> u64 {
    1 << member
}

/// The known commands, by id.
#[derive(Clone)]
pub(crate) struct Commands {
    known: BTreeMap<CommandId, Known>,
    n: usize,
    /// Own commands that are not executed, and the bytes of their bodies.
    in_flight: usize,
    in_flight_len: usize,
    /// The last command executed (or covered by the restored state).
    pub(crate) last: Option<Place>,
}

impl Commands {
    pub(crate) fn new(n: usize) -> Self {
        Self { known: BTreeMap::new(), n, in_flight: 0, in_flight_len: 0, last: None }
    }

    pub(crate) fn at(&self, id: CommandId) -> Option<&Known> {
        self.known.get(&id)
    }

    pub(crate) fn at_mut(&mut self, id: CommandId) -> Option<&mut Known> {
        self.known.get_mut(&id)
    }

    /// The command, known from now on.
    pub(crate) fn entry(&mut self, id: CommandId) -> &mut Known {
        let n = self.n;
        self.known.entry(id).or_insert_with(|| Known::new(n))
    }

    pub(crate) fn remove(&mut self, id: CommandId) -> Option<Known> {
        self.known.remove(&id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (CommandId, &Known)> {
        self.known.iter().map(|(id, known)| (*id, known))
    }

    /// Number of known commands.
    pub(crate) fn count(&self) -> usize {
        self.known.len()
    }

    /// Own commands that are not executed.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Bytes of their bodies.
    pub(crate) fn in_flight_len(&self) -> usize {
        self.in_flight_len
    }

    /// An own command was proposed, or is to be executed again.
    pub(crate) fn enters_flight(&mut self, id: CommandId) {
        let Some(known) = self.known.get_mut(&id) else { return };
        let len = known.payload.as_ref().map_or(0, |payload| payload.body.len());
        if known.flying.replace(len).is_none() {
            self.in_flight += 1;
            self.in_flight_len += len;
        }
    }

    /// A command is executed: if it was in flight, its length is given.
    pub(crate) fn leaves_flight(&mut self, flying: Option<usize>) {
        if let Some(len) = flying {
            self.in_flight = self.in_flight.checked_sub(1).expect("what leaves has entered");
            self.in_flight_len = self.in_flight_len.checked_sub(len).expect("what leaves has entered");
        }
    }
}

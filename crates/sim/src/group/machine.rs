//! A machine of the group: what survives its process, and the process.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use dace::{Core, Membership, Notice, Replica};
use types::{CommandId, Epoch, Timestamp};

use super::clock::Clock;
use super::disk::Disk;
use super::event::Event;
use super::lease::Leased;
use super::queue::Instant;
use super::state::{Done, Image, Place, Rows};

/// How a machine fares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// It works, or will again.
    Well,
    /// Gone for good: never started again.
    Gone,
    /// Its disk was rolled back and a peer has noticed: it must never speak again.
    Refused,
    /// It is no member any more, and nobody needs it.
    Removed,
}

/// A machine.
pub(crate) struct Machine {
    pub(crate) disk: Disk,
    pub(crate) clock: Clock,
    pub(crate) life: Option<Life>,
    /// Lives so far.
    pub(crate) lives: u64,
    pub(crate) fate: Fate,
    pub(crate) is_paused: bool,
    /// What came while the process was paused.
    pub(crate) inbox: VecDeque<Event>,
    /// An older copy of the disk, for a roll-back to come.
    pub(crate) backup: Option<Disk>,
    /// The disk was rolled back and nobody has noticed yet.
    pub(crate) is_rolled_back: bool,
    /// What was left of its journals then.
    pub(crate) rolled_back_to: BTreeMap<Epoch, u64>,
    /// The first life on what was left.
    pub(crate) rolled_back_in: u64,
    /// Hears nothing until then.
    pub(crate) deaf_until: Instant,
}

impl Machine {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            disk: Disk::new(),
            clock,
            life: None,
            lives: 0,
            fate: Fate::Well,
            is_paused: false,
            inbox: VecDeque::new(),
            backup: None,
            is_rolled_back: false,
            rolled_back_to: BTreeMap::new(),
            rolled_back_in: u64::MAX,
            deaf_until: 0,
        }
    }

    /// Whether it is heard and will never hear again.
    pub(crate) fn is_deaf_for_good(&self) -> bool {
        self.deaf_until == Instant::MAX
    }

    /// Whether that life is there and waits to be vouched for.
    pub(crate) fn waits_in(&self, number: u64) -> bool {
        self.life.as_ref().is_some_and(|life| life.number == number && life.waits_since.is_some())
    }

    /// What is left of its journal of an epoch, as far as it was rolled back.
    pub(crate) fn left(&self, epoch: Epoch) -> u64 {
        let gone = if self.is_rolled_back { 0 } else { u64::MAX };
        self.rolled_back_to.get(&epoch).copied().unwrap_or(gone)
    }

    /// Whether it will never work again.
    pub(crate) fn is_lost(&self) -> bool {
        matches!(self.fate, Fate::Gone | Fate::Refused) || self.is_rolled_back
    }

    /// Whether a process is there and takes its turns.
    pub(crate) fn is_awake(&self) -> bool {
        self.life.is_some() && !self.is_paused
    }
}

/// Names an attempt to carry the stream of an epoch over a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Session {
    /// Of the link: ends with the connection.
    pub(crate) link: u64,
    /// Of all hellos.
    pub(crate) attempt: u64,
}

/// The stream to a reader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stream {
    /// A hello was sent in this session.
    Asked { session: Session },
    /// Records above `next` go out in this session.
    Open { session: Session, next: u64 },
}

/// A running process.
pub(crate) struct Life {
    pub(crate) number: u64,
    pub(crate) replica: Replica,
    /// Since when it waits to be vouched for; `None` once it has started.
    pub(crate) waits_since: Option<Instant>,
    /// The rows as they are now.
    pub(crate) live: Rows,
    /// The state at the last cut.
    pub(crate) image: Arc<Image>,
    /// Executed and in no block yet.
    pub(crate) unsealed: BTreeMap<Place, Done>,
    /// Clients to be answered, and what they asked for, by command.
    pub(crate) waiting: BTreeMap<CommandId, (usize, usize)>,
    /// The same, by read.
    pub(crate) reads: BTreeMap<(Epoch, u64), (usize, usize)>,
    /// What the end of an epoch has overtaken, to be asked again in the next one.
    pub(crate) again: Vec<(usize, usize)>,
    /// The epoch that the last executed command has made, until it is cut.
    pub(crate) next: Option<Membership>,
    /// Listings that found no quiet instant, to be ordered as soon as the core has nothing more to say.
    pub(crate) contended: Vec<(usize, usize)>,
    /// The same, by the command that orders them.
    pub(crate) ordered: BTreeMap<CommandId, (usize, usize)>,
    /// What leases are about.
    pub(crate) leased: Leased,
    pub(crate) tick_at: Option<Instant>,
    pub(crate) is_shipping: bool,
    /// Appended and durable position when it last shipped.
    pub(crate) shipped: (u64, u64),
    pub(crate) shipped_at: Instant,
    /// To each peer that reads the journal of an epoch.
    pub(crate) streams: BTreeMap<(Epoch, usize), Stream>,
    /// In which session each peer's is heard.
    pub(crate) hears: BTreeMap<(Epoch, usize), Session>,
    /// When each peer was heard last.
    pub(crate) heard: Vec<Instant>,
    /// The durable position counted of each peer's journals in this life.
    pub(crate) counted: BTreeMap<(Epoch, usize), u64>,
    /// What the others were told of epochs last.
    pub(crate) told: Option<Notice>,
    /// There may be more to tell.
    pub(crate) may_tell: bool,
    /// It may stop for good.
    pub(crate) is_removed: bool,
    /// A checkpoint of at least each of these cuts is needed: the core of an old epoch may need less than that of the next.
    pub(crate) wants: BTreeSet<Timestamp>,
    pub(crate) is_installing: bool,
    pub(crate) is_checkpointing: bool,
    /// The base that is being written, by epoch.
    pub(crate) trimming: BTreeMap<Epoch, Timestamp>,
    pub(crate) trimmed: BTreeMap<Epoch, Timestamp>,
}

impl Life {
    pub(crate) fn new(number: u64, replica: Replica, image: Arc<Image>, nodes: usize, now: Instant) -> Self {
        Self {
            number,
            replica,
            waits_since: Some(now),
            live: image.rows.clone(),
            image,
            unsealed: BTreeMap::new(),
            waiting: BTreeMap::new(),
            reads: BTreeMap::new(),
            again: Vec::new(),
            next: None,
            contended: Vec::new(),
            ordered: BTreeMap::new(),
            leased: Leased::default(),
            tick_at: None,
            is_shipping: false,
            shipped: (0, 0),
            shipped_at: 0,
            streams: BTreeMap::new(),
            hears: BTreeMap::new(),
            heard: vec![now; nodes],
            counted: BTreeMap::new(),
            told: None,
            may_tell: true,
            is_removed: false,
            wants: BTreeSet::new(),
            is_installing: false,
            is_checkpointing: false,
            trimming: BTreeMap::new(),
            trimmed: BTreeMap::new(),
        }
    }

    /// Whether it owes nobody an answer.
    pub(crate) fn is_idle(&self) -> bool {
        let owes_none = self.waiting.is_empty() && self.reads.is_empty() && self.leased.is_idle();
        owes_none
            && self.waits_since.is_none()
            && self.contended.is_empty()
            && self.ordered.is_empty()
            && self.again.is_empty()
            && self.in_flight() == 0
    }

    /// The core of the newest epoch that is served here.
    pub(crate) fn core(&self) -> Option<&Core> {
        self.cores().last()
    }

    /// The cores, the oldest first.
    pub(crate) fn cores(&self) -> impl Iterator<Item = &Core> {
        self.replica.epochs().filter_map(|membership| self.replica.core(membership.epoch))
    }

    /// Commands proposed and not executed.
    pub(crate) fn in_flight(&self) -> usize {
        self.cores().map(|core| core.status().in_flight).sum()
    }

    /// Whether it takes part in the newest epoch that it knows.
    pub(crate) fn is_member(&self) -> bool {
        let newest = self.replica.newest().map(|newest| newest.epoch);
        newest.is_some() && newest == self.replica.epochs().last().map(|served| served.epoch)
    }

    /// The durable position counted of a peer's journal of an epoch.
    pub(crate) fn counted(&self, epoch: Epoch, peer: usize) -> u64 {
        self.counted.get(&(epoch, peer)).copied().unwrap_or(0)
    }
}

//! A machine of the group: what survives its process, and the process.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use dace::Core;
use types::{CommandId, Timestamp};

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
    /// What was left of its journal then.
    pub(crate) rolled_back_to: u64,
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
            rolled_back_to: u64::MAX,
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

    /// Whether a process is there and takes its turns.
    pub(crate) fn is_awake(&self) -> bool {
        self.life.is_some() && !self.is_paused
    }
}

/// The stream to a reader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stream {
    /// Nothing was sent.
    Closed,
    /// A hello was sent in this session.
    Asked { session: u64 },
    /// Records above `next` go out in this session.
    Open { session: u64, next: u64 },
}

/// A running process.
pub(crate) struct Life {
    pub(crate) number: u64,
    pub(crate) core: Core,
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
    pub(crate) reads: BTreeMap<u64, (usize, usize)>,
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
    pub(crate) streams: Vec<Stream>,
    /// The session in which each peer is heard.
    pub(crate) hears: Vec<Option<u64>>,
    /// When each peer was heard last.
    pub(crate) heard: Vec<Instant>,
    /// The durable position counted of each peer in this life.
    pub(crate) counted: Vec<u64>,
    /// A checkpoint of at least this cut is needed.
    pub(crate) wants: Option<Timestamp>,
    pub(crate) is_installing: bool,
    pub(crate) is_checkpointing: bool,
    pub(crate) is_trimming: bool,
    pub(crate) trimmed: Timestamp,
}

impl Life {
    pub(crate) fn new(number: u64, core: Core, image: Arc<Image>, nodes: usize, now: Instant) -> Self {
        Self {
            number,
            core,
            waits_since: Some(now),
            live: image.rows.clone(),
            image,
            unsealed: BTreeMap::new(),
            waiting: BTreeMap::new(),
            reads: BTreeMap::new(),
            contended: Vec::new(),
            ordered: BTreeMap::new(),
            leased: Leased::default(),
            tick_at: None,
            is_shipping: false,
            shipped: (0, 0),
            shipped_at: 0,
            streams: vec![Stream::Closed; nodes],
            hears: vec![None; nodes],
            heard: vec![now; nodes],
            counted: vec![0; nodes],
            wants: None,
            is_installing: false,
            is_checkpointing: false,
            is_trimming: false,
            trimmed: Timestamp::ZERO,
        }
    }

    /// Whether it owes nobody an answer.
    pub(crate) fn is_idle(&self) -> bool {
        let owes_none = self.waiting.is_empty() && self.reads.is_empty() && self.leased.is_idle();
        owes_none
            && self.waits_since.is_none()
            && self.contended.is_empty()
            && self.ordered.is_empty()
            && self.core.status().in_flight == 0
    }
}

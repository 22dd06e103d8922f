//! What this replica has read of one member's journal, its own included.
//!
//! A record passes twice: when it is *read*, its attach begins to block; when it is known to be durable, it
//! is acted on. The promise of a beat counts when it is read, since every attach before it blocks by then.

use std::collections::{BTreeMap, VecDeque};

use types::{CommandId, Incarnation, Timestamp};

use crate::floors::Floors;
use crate::index::SlotIndex;
use crate::output::Record;

/// How the stream of a journal stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stream {
    /// Entered at the start and when an attempt to resume failed; nothing may be read. The own journal never
    /// is.
    Closed,
    /// The writer has trimmed what comes next: its base is awaited.
    Behind,
    /// Records are taken from [`Journal::read`] on.
    Open,
    /// The writer lost its disk, or contradicts itself: nothing more is read of it. Never left; a restart of this
    /// replica forgets it.
    Refused,
}

/// The `Open` of an incarnation: where it stands, and its timestamp.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Opened {
    pub(crate) position: u64,
    pub(crate) at: Timestamp,
}

/// See the file's documentation.
#[derive(Clone)]
pub(crate) struct Journal {
    pub(crate) stream: Stream,
    /// The last position read.
    pub(crate) read: u64,
    /// The last position known durable and acted on.
    pub(crate) durable: u64,
    /// Read and not known durable. Bounded by what the writer appends between two flushes.
    pub(crate) pending: VecDeque<Record>,
    /// Attaches read above the durable position before the writer restarted: they go on blocking, because the
    /// promises read behind them go on counting, until they come again or an `Open` shows that they are lost.
    pub(crate) doubtful: BTreeMap<CommandId, Timestamp>,
    /// The incarnation whose `Open` was read last, and where that stands.
    pub(crate) incarnation: Incarnation,
    pub(crate) opened: Opened,
    /// The last life that is over, by the claim of a later one that was vouched for here.
    pub(crate) over: Incarnation,
    /// `T_j`: nothing will be attached at or below it, beyond what was read.
    pub(crate) promise: Timestamp,
    /// `floor_j`: what its durable records promise per slot.
    pub(crate) floors: Floors,
    /// What it attached and what is not known to be decided, durable or not.
    pub(crate) blocks: SlotIndex,
    /// The cut at which its durable state stands.
    pub(crate) stored: Timestamp,
}

impl Journal {
    pub(crate) fn new() -> Self {
        Self {
            stream: Stream::Closed,
            read: 0,
            durable: 0,
            pending: VecDeque::new(),
            doubtful: BTreeMap::new(),
            incarnation: Incarnation(0),
            opened: Opened::default(),
            over: Incarnation(0),
            promise: Timestamp::ZERO,
            floors: Floors::new(),
            blocks: SlotIndex::new(),
            stored: Timestamp::ZERO,
        }
    }

    /// The next record that became durable and was not acted on.
    pub(crate) fn take_durable(&mut self, position: u64) -> Option<Record> {
        let record = self.pending.pop_front_if(|record| record.header.position <= position)?;
        self.durable = record.header.position;
        Some(record)
    }
}

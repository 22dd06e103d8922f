//! What can happen to machines, and what they tell each other.

use std::sync::Arc;

use dace::{Beat, Claims, Entry, Hello, Message, Notice, PeerBase, Record, Vouch};
use types::{Epoch, Timestamp};

use super::machine::Session;
use super::state::Image;

/// A piece of a stream.
#[derive(Clone)]
pub(crate) struct Parcel {
    pub(crate) epoch: Epoch,
    pub(crate) session: Session,
    pub(crate) base: Option<PeerBase>,
    pub(crate) records: Vec<Record>,
    pub(crate) beat: Beat,
}

/// A message outside the streams.
#[derive(Clone)]
pub(crate) enum Note {
    /// A life that is about to start asks to be vouched for.
    Claims { life: u64, claims: Claims },
    /// The claims of that life hold.
    Vouch { life: u64, vouch: Vouch },
    /// They do not hold.
    Doubt { life: u64 },
    /// The writer wants to open the stream of an epoch.
    Hello { session: Session, epoch: Epoch, entry: Option<Entry>, hello: Hello },
    /// The reader wants what is behind `position`.
    Want { session: Session, epoch: Epoch, position: u64 },
    /// What the sender knows of epochs.
    Notice(Notice),
    /// The reader will not have this writer: its disk was rolled back.
    Refused,
    /// Of the core of an epoch.
    Message(Epoch, Message),
    /// Asks for a checkpoint of at least this cut.
    AskSnapshot { cut: Timestamp },
    /// A checkpoint.
    Snapshot { image: Arc<Image> },
}

/// A timer of a process, or something that it waits for.
#[derive(Clone)]
pub(crate) enum Turn {
    /// The flush in progress ends.
    Flushed,
    /// The core's deadline.
    Tick,
    /// Sends what is new to the peers.
    Ship,
    /// Time for a beat.
    Beat,
    /// Suspicions and preferences.
    Hints,
    /// Opens streams that are closed.
    Connect,
    /// Starts a checkpoint.
    Checkpoint,
    /// A checkpoint is durable.
    Stored { image: Arc<Image> },
    /// A snapshot is durable.
    Installed { image: Arc<Image> },
    /// A reader beside the loop goes on.
    Look { number: u64 },
}

/// Something that happens.
#[derive(Clone)]
pub(crate) enum Event {
    /// A piece of a stream arrives.
    Parcel { from: usize, to: usize, parcel: Box<Parcel> },
    /// A message arrives.
    Note { from: usize, to: usize, note: Note },
    /// A process has a turn.
    Turn { at: usize, life: u64, turn: Turn },
    /// A client has a turn.
    Client { client: usize, turn: u64 },
    /// A paused process goes on.
    Resume { at: usize, life: u64 },
    /// A machine starts its process.
    Restart { at: usize, lives: u64 },
    /// Something breaks.
    Fault,
    /// Whoever says who wants which lease says something else.
    Leases,
    /// A holder is besieged.
    Siege,
    /// Whoever runs the group changes its members.
    Reconfig,
    /// A process ends in the midst of a change of members.
    Trap { at: usize, life: u64 },
}

impl Event {
    /// The machine whose process takes it.
    pub(crate) fn machine(&self) -> Option<usize> {
        match self {
            Self::Parcel { to, .. } | Self::Note { to, .. } => Some(*to),
            Self::Turn { at, .. } => Some(*at),
            Self::Client { .. }
            | Self::Resume { .. }
            | Self::Restart { .. }
            | Self::Fault
            | Self::Leases
            | Self::Siege
            | Self::Reconfig
            | Self::Trap { .. } => None,
        }
    }
}

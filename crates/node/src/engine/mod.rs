//! The engine that orders commands: the driver of the consensus core.
//!
//! Three threads: the *loop* runs the replica and is the only one to touch it; the journal's *writer* groups
//! what the loop appends and flushes it; the *sealer* turns blocks into ledger and stored state, behind the
//! answers. Reads pass through none of them.

mod barriers;
pub(crate) mod inbox;
pub(crate) mod install;
pub(crate) mod journals;
mod peers;
mod run;
mod sealing;
mod waiting;
pub(crate) mod zones;

use std::sync::Arc;

use dace::{Reconfig, Zone};
use store::journal::{Flushed, Kept};
use tokio::sync::oneshot;
use types::{CommandId, Epoch, ReplicaId, SlotSet, Timestamp};

use crate::change::ChangeError;
use crate::error::WriteError;
use crate::peer::Heard;
use crate::peer::intake::Incoming;
use crate::replica::overlay::View;
use crate::write::propose::Proposal;

pub(crate) use peers::Neighbours;
pub use run::REMOVED;
pub(crate) use run::{Loop, refused};
pub(crate) use sealing::{Sealing, SealingMessage};
pub(crate) use waiting::Waiting;

/// What the loop is asked to do.
pub(crate) enum Submitted {
    /// Order and execute a command.
    Write(Box<Proposal>),
    /// Say when the state here may be read.
    Read(Reading),
    /// Change the members of the group.
    Change(Changing),
}

impl Submitted {
    /// Answers with an error.
    pub(crate) fn refuse(self, error: WriteError) {
        // The receiver may be gone: its client went away.
        match self {
            Self::Write(proposal) => drop(proposal.answer.send(Err(error))),
            Self::Read(reading) => drop(reading.answer.send(Err(error))),
            Self::Change(changing) => drop(changing.answer.send(Err(ChangeError::Refused(error)))),
        }
    }
}

/// A read that waits until the state here has all that it must see.
pub(crate) struct Reading {
    /// Its slots.
    pub(crate) slots: SlotSet,
    /// The zone under whose lease it may be answered, if that is held.
    pub(crate) zone: Option<Zone>,
    /// Whether it is of more than one slot, and so needs the state of one instant.
    pub(crate) whole: bool,
    /// Rounds that found no quiet instant.
    pub(crate) contended: u32,
    /// When it was asked for, in ns of the monotonic clock.
    pub(crate) since_ns: u64,
    pub(crate) answer: oneshot::Sender<Result<Option<View>, WriteError>>,
}

/// A change of members, and who waits for it.
pub(crate) struct Changing {
    pub(crate) next: Reconfig,
    pub(crate) answer: oneshot::Sender<Result<(Epoch, CommandId), ChangeError>>,
}

/// What the loop is told, beside what is submitted.
pub(crate) enum Event {
    /// A batch of the journal of an epoch is durable.
    Durable(Epoch, Arc<Flushed>),
    /// The journal failed: nothing can be acknowledged any more.
    JournalFailed(String),
    /// State and log are durable up to this cut: make the base that lets the journal be trimmed.
    Trim(Timestamp),
    /// Keep this head of the log: with the next records, or soon.
    Keep(Kept),
    /// Something came of another node.
    Peer(ReplicaId, Heard),
    /// The state of another member was fetched, or could not be.
    Fetched(Option<Box<Incoming>>),
    /// The sealer ended by a failure, which it has reported.
    SealingFailed,
    /// End after what is in flight.
    Stop,
}

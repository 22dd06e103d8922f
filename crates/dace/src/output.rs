//! What the core hands to its driver: records for the journal, commands to execute, cuts.

use bytes::Bytes;
use types::journal::{RecordHeader, RecordKind};
use types::{CommandId, Epoch, ReplicaId, SlotSet, Timestamp};

use crate::lease::Zone;
use crate::message::Message;
use crate::reconfig::{Entry, Reconfig};

/// A said record, as it goes to the journal and comes back from it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// What is said; its position is assigned.
    pub header: RecordHeader,
    /// Hides the body behind its hash; all zero when there is no body.
    pub salt: [u8; 32],
    /// Empty when there is none.
    pub body: Bytes,
}

impl Record {
    /// A record of `kind` without a body and with every field by kind zero.
    pub(crate) fn bare(kind: RecordKind, epoch: Epoch, position: u64, id: CommandId, timestamp: Timestamp) -> Self {
        let header = RecordHeader {
            kind,
            flags: 0,
            epoch,
            position,
            id,
            timestamp,
            ballot: 0,
            aux: 0,
            body_len: 0,
            body_hash: [0; 32],
        };
        Self { header, salt: [0; 32], body: Bytes::new() }
    }
}

/// A kept record: this replica's own copy of a peer's command. Local, never streamed to peers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kept {
    /// The header of the coordinator's `Propose`; its position is 0, its timestamp and fast quorum are zero
    /// where they are not known.
    pub header: RecordHeader,
    /// Hides the body behind its hash.
    pub salt: [u8; 32],
    /// Slots and payload.
    pub body: Bytes,
}

/// What the driver is to do next. Drained with [`crate::Core::poll_output`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Append this to the journal. Positions rise by one from output to output.
    Append(Record),
    /// Append this to the journal as a kept record, in the same order: it is durable when the said record
    /// behind it is.
    Keep(Kept),
    /// Execute this command now. In each slot commands come in rising `(timestamp, id)`; in a group of one,
    /// all of them do.
    Execute {
        /// The decided timestamp.
        timestamp: Timestamp,
        /// The command.
        id: CommandId,
        /// Its proposal body: slots and payload (`types::journal::decode_proposal`).
        body: Bytes,
        /// The position that had to be durable first; it was reported before this was put out.
        durable: u64,
    },
    /// Every command at or below `timestamp` has been put out as [`Output::Execute`], and nothing more
    /// will be decided at or below it. In a group of one, every command above it comes later; larger groups mix.
    Cut {
        /// The end of a tick that holds commands.
        timestamp: Timestamp,
    },
    /// Give this to the driver of a peer. It may be lost.
    Send {
        /// The peer.
        to: ReplicaId,
        /// What to give.
        message: Message,
    },
    /// The local state may be read for this read ([`crate::Core::handle_read`]): now, before the next output
    /// is taken.
    ReadReady {
        /// The read.
        read: u64,
    },
    /// A read of several slots found no quiet instant: order it as a `*` command.
    ReadContended {
        /// The read.
        read: u64,
    },
    /// The local state may be read for this leased read ([`crate::Core::handle_leased_read`]): now, before the next
    /// output is taken.
    LeasedReady {
        /// The read.
        read: u64,
    },
    /// A leased read of several slots found no quiet instant, or the lease has ended: order it as a `*` command.
    LeasedContended {
        /// The read.
        read: u64,
    },
    /// For readers beside the loop ([`crate::Core::publish_pending`]): a write of these slots is pending from now on. To
    /// be published before the next output is taken.
    Pends {
        /// The command.
        id: CommandId,
        /// Its slots.
        slots: SlotSet,
    },
    /// For readers beside the loop: that write is in the state.
    Settles {
        /// The command.
        id: CommandId,
        /// The slots that [`Output::Pends`] named.
        slots: SlotSet,
    },
    /// For readers beside the loop: the lease of a zone is held until then.
    Lease {
        /// The zone.
        zone: Zone,
        /// In ns of the monotonic clock; 0: not held.
        until: u64,
    },
    /// An own command of the epoch that has ended, not executed before its Reconfig: it has no effect at any replica. To
    /// be tried again in the next epoch, under a new id.
    Void {
        /// The command.
        id: CommandId,
    },
    /// An own command that will not be put out as [`Output::Execute`]: an installed state holds its effect, or lies in a
    /// later epoch and holds it if it was executed before the end of its own. Its outcome is not known here. Who waits for
    /// it is to be told so, and may ask again under the same token.
    ///
    /// After an earlier [`Output::Execute`] of it, of which the installed state was not yet, nobody waits any more.
    Covered {
        /// The command.
        id: CommandId,
    },
    /// A read, leased or not, that the end of the epoch overtook: to be asked anew in the next one.
    ReadAgain {
        /// The read.
        read: u64,
    },
    /// The Reconfig that was put out last as [`Output::Execute`], and cut, has ended the epoch. For [`crate::Replica`].
    Ended {
        /// The Reconfig.
        entry: Entry,
        /// What it says.
        next: Reconfig,
    },
    /// The state here is too old to go on by journals: fetch a peer's stored state at this cut or above, and
    /// install it ([`crate::Core::handle_snapshot`]).
    WantSnapshot {
        /// The cut.
        cut: Timestamp,
    },
}

//! The journals of the epochs that this replica serves: each with its writer, and with what peers read of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};

use dace::Membership;
use store::disk::RealDisk;
use store::journal::{Append, Journal, JournalOptions, Refused, Writer, WriterOptions};
use types::Epoch;

use super::Event;
use crate::epochs::EpochFolders;
use crate::error::StartError;
use crate::node::Shared;
use crate::peer::tail::Tail;

/// The journal of one epoch.
pub(crate) struct EpochJournal {
    pub(crate) membership: Membership,
    pub(crate) writer: Arc<Writer>,
    /// What peers read of it.
    pub(crate) tail: Arc<Tail>,
    /// What the writer's queue had no room for; bounded by what the core lets be in flight.
    backlog: VecDeque<Append>,
    /// Appended and durable position of the last beat.
    pub(crate) told: (u64, u64),
}

impl EpochJournal {
    pub(crate) fn queue(&mut self, append: Append) {
        self.backlog.push_back(append);
    }

    /// Gives the writer what its queue has room for; the rest follows when something was flushed.
    pub(crate) fn append_backlog(&mut self) -> Result<(), String> {
        while let Some(append) = self.backlog.pop_front() {
            match self.writer.append(append) {
                Ok(()) => {}
                Err(Refused::Full(append)) => {
                    self.backlog.push_front(append);
                    return Ok(());
                }
                Err(refused) => return Err(refused.to_string()),
            }
        }
        Ok(())
    }
}

/// Makes journals, and starts their writers.
pub(crate) struct Opener {
    pub(crate) folders: EpochFolders,
    pub(crate) options: JournalOptions,
    pub(crate) shared: Weak<Shared>,
}

impl Opener {
    /// Opens what there is of the journal of an epoch whose folder is there.
    pub(crate) fn open(&self, epoch: Epoch, signer: Arc<dyn types::sign::Signer>) -> Result<Journal, StartError> {
        open(&self.folders, epoch, self.options, signer)
    }

    /// Starts a journal's writer.
    pub(crate) fn start(&self, membership: Membership, journal: Journal) -> Result<EpochJournal, StartError> {
        let epoch = membership.epoch;
        let stopped = || StartError::Journal("the node is stopping".to_owned());
        let shared = self.shared.upgrade().ok_or_else(stopped)?;
        let told = shared.inbox.clone();
        let options = WriterOptions { flush_delay: shared.config.flush_delay };
        let writer = Writer::start(journal, options, move |event| match event {
            store::journal::Event::Flushed(flushed, _) => told.tell(Event::Durable(epoch, flushed)),
            store::journal::Event::Stalled => tracing::error!("the disk is full; delete objects or add space"),
            store::journal::Event::Failed(error) => told.tell(Event::JournalFailed(error.to_string())),
        })
        .map_err(|source| StartError::Io { path: self.folders.journal(epoch), source })?;
        let writer = Arc::new(writer);
        shared.writers.lock().begin(&writer);
        Ok(EpochJournal { membership, writer, tail: Arc::new(Tail::new()), backlog: VecDeque::new(), told: (0, 0) })
    }
}

/// Opens the journal of an epoch.
pub(crate) fn open(
    folders: &EpochFolders,
    epoch: Epoch,
    options: JournalOptions,
    signer: Arc<dyn types::sign::Signer>,
) -> Result<Journal, StartError> {
    let path = folders.journal(epoch);
    let disk = RealDisk::open(&path).map_err(|source| StartError::Io { path, source })?;
    let (journal, report) =
        Journal::open(Arc::new(disk), options, signer).map_err(|error| StartError::Journal(error.to_string()))?;
    if let Some(torn) = &report.torn {
        tracing::info!(file = %torn.file, offset = torn.offset, "removed a flush that a crash cut short; it was never acknowledged");
    }
    Ok(journal)
}

/// The journals by epoch.
pub(crate) struct Journals {
    pub(crate) opener: Opener,
    pub(crate) by_epoch: BTreeMap<Epoch, EpochJournal>,
}

impl Journals {
    /// The newest.
    pub(crate) fn newest(&mut self) -> Option<&mut EpochJournal> {
        self.by_epoch.values_mut().next_back()
    }

    /// An epoch begins here: its journal is there, and named, when this returns.
    pub(crate) fn begin(&mut self, membership: Membership) -> Result<(), StartError> {
        let epoch = membership.epoch;
        if self.by_epoch.contains_key(&epoch) {
            return Ok(());
        }
        self.opener.folders.begin(&membership)?;
        let stopped = || StartError::Journal("the node is stopping".to_owned());
        let signer = self.opener.shared.upgrade().ok_or_else(stopped)?.keys.node.clone();
        let journal = self.opener.open(epoch, signer)?;
        let started = self.opener.start(membership, journal)?;
        self.by_epoch.insert(epoch, started);
        Ok(())
    }

    /// An epoch is not served any more: its journal is deleted.
    pub(crate) fn end(&mut self, epoch: Epoch) -> Result<(), StartError> {
        let Some(ended) = self.by_epoch.remove(&epoch) else { return Ok(()) };
        if let Some(shared) = self.opener.shared.upgrade() {
            shared.writers.lock().end(&ended.writer);
        }
        drop(ended);
        self.opener.folders.end(epoch)
    }
}

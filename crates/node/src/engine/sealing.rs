//! The sealer's thread: seals blocks, signs heads once they are durable, checkpoints and asks for trims.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};

use bytes::Bytes;
use store::journal::{Kept, KeptKind};
use store::state::FjallState;

use super::inbox::Inbox;
use super::{Event, Submitted};
use crate::folder::StateFolder;
use crate::node::Shared;
use crate::replica::Block;
use crate::write::seal::{Head, Sealer};

/// At most this long between two checkpoints while something is sealed.
const CHECKPOINT_AFTER: Duration = Duration::from_secs(60);

/// What the sealer is told.
pub(crate) enum SealingMessage {
    /// Seal this block.
    Block(Block),
    /// Make what is sealed durable now: an epoch that began waits for it.
    Checkpoint,
    /// Have the newest head made durable once more, in the newest journal.
    KeepHead,
    /// Seal on from the state of another member. The answer is given when no block is sealed into the old one any more.
    Install(Arc<FjallState>, StateFolder, SyncSender<Result<(), String>>),
    /// The kept records of so many more heads are durable: these may be signed.
    HeadsDurable(usize),
    /// End.
    Stop,
}

/// The sealer's thread and what only it touches.
pub(crate) struct Sealing {
    pub(crate) sealer: Sealer<FjallState>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) inbox: Arc<Inbox<Submitted, Event>>,
    pub(crate) messages: Receiver<SealingMessage>,
    /// Heads whose kept records are on their way to the disk, oldest first.
    pub(crate) keeping: VecDeque<Head>,
    /// The last head that was made durable before the start: no smaller one is signed, and the one of its size must be it.
    /// A member of a larger group may begin below it, until it has heard from others what it had sealed.
    pub(crate) signed: Option<Head>,
}

impl Sealing {
    pub(crate) fn run(mut self) {
        let outcome = self.serve();
        if let Err(reason) = &outcome {
            tracing::error!(%reason, "the ledger stops");
            self.shared.fail(reason);
            self.inbox.tell(Event::SealingFailed);
        }
        if let Err(error) = self.sealer.checkpoint() {
            tracing::warn!(%error, "the last checkpoint failed; the journal stands in for it");
        }
    }

    fn serve(&mut self) -> Result<(), String> {
        let mut journal_len = self.shared.journal_statistics().len;
        let mut checkpointed = Instant::now();
        let mut sealed_since = false;
        loop {
            let mut is_wanted = false;
            match self.messages.recv() {
                Ok(SealingMessage::Block(block)) => {
                    self.seal(&block)?;
                    sealed_since = true;
                }
                Ok(SealingMessage::Checkpoint) => is_wanted = true,
                Ok(SealingMessage::KeepHead) => {
                    let head = self.sealer.head();
                    if self.shared.config.ledger && head.size > 0 {
                        self.keep(head);
                    }
                }
                Ok(SealingMessage::Install(state, folder, done)) => {
                    // The loop waits for it, or has ended.
                    let _ = done.send(self.install(state, &folder));
                }
                Ok(SealingMessage::HeadsDurable(count)) => self.publish(count),
                Ok(SealingMessage::Stop) | Err(_) => return Ok(()),
            }
            let grown = self.shared.journal_statistics().len.saturating_sub(journal_len);
            let is_due = grown >= self.shared.config.checkpoint_len || checkpointed.elapsed() >= CHECKPOINT_AFTER;
            if is_wanted || (sealed_since && is_due) {
                let cut = self.sealer.checkpoint().map_err(|error| error.to_string())?;
                self.inbox.tell(Event::Trim(cut));
                journal_len = self.shared.journal_statistics().len;
                checkpointed = Instant::now();
                sealed_since = false;
            }
        }
    }

    /// The log is brought to where the state stands; then that is the stored one, after a crash too.
    fn install(&mut self, state: Arc<FjallState>, folder: &StateFolder) -> Result<(), String> {
        let (shared, ledger) = (&self.shared, self.shared.config.ledger);
        let sealer = Sealer::resume(shared.group, state, shared.log.clone(), shared.overlay.clone(), ledger)
            .map_err(|error| error.to_string())?;
        shared.log.sync().map_err(|error| error.to_string())?;
        folder.take_over().map_err(|error| format!("the state of another member cannot take over: {error}"))?;
        self.sealer = sealer;
        let head = self.sealer.head();
        if let Some(signed) = self.signed.filter(|signed| signed.contradicts(&head)) {
            return Err(contradicted(signed.size));
        }
        if ledger && head.size > 0 && self.signed.is_none_or(|signed| head.size >= signed.size) {
            self.keep(head);
        }
        Ok(())
    }

    fn seal(&mut self, block: &Block) -> Result<(), String> {
        let head = self.sealer.seal(block).map_err(|error| error.to_string())?;
        if !self.shared.config.ledger {
            return Ok(());
        }
        self.shared.metrics.sealed(head.size);
        if let Some(signed) = self.signed {
            if signed.contradicts(&head) {
                return Err(contradicted(head.size));
            }
            if head.size < signed.size {
                return Ok(());
            }
        }
        self.keep(head);
        Ok(())
    }

    /// Has a head made durable, so that it may be signed.
    pub(crate) fn keep(&mut self, head: Head) {
        let bytes = Bytes::copy_from_slice(&head.to_bytes());
        self.keeping.push_back(head);
        self.inbox.tell(Event::Keep(Kept { group: self.shared.group, kind: KeptKind::TREE_HEAD, bytes }));
    }

    fn publish(&mut self, count: usize) {
        let durable = self.keeping.drain(..count.min(self.keeping.len())).next_back();
        if let Some(head) = durable
            && head.size > self.shared.head().size
        {
            self.shared.publish(head);
        }
    }
}

fn contradicted(size: u64) -> String {
    format!(
        "at size {size} the ledger does not have the root that this node signed before; keep the folder for \
         examination and replace this node"
    )
}

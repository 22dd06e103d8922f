//! The sealer's thread: seals blocks, signs heads once they are durable, checkpoints and asks for trims.

use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use bytes::Bytes;
use store::journal::{Append, Kept, WriterHandle};
use store::state::FjallState;

use super::Event;
use super::inbox::Inbox;
use crate::node::{KeptKind, Shared};
use crate::replica::Block;
use crate::write::propose::Proposal;
use crate::write::seal::{Head, Sealer};

/// At most this long between two checkpoints while something is sealed.
const CHECKPOINT_AFTER: Duration = Duration::from_secs(60);

/// What the sealer is told.
pub(crate) enum SealingMessage {
    /// Seal this block.
    Block(Block),
    /// This head's kept record is durable: it may be signed.
    HeadDurable(Bytes),
    /// End.
    Stop,
}

/// The sealer's thread and what only it touches.
pub(crate) struct Sealing {
    pub(crate) sealer: Sealer<FjallState>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) inbox: Arc<Inbox<Proposal, Event>>,
    pub(crate) journal: WriterHandle,
    pub(crate) messages: Receiver<SealingMessage>,
    /// Heads that were durable before the start: what is sealed again must agree with them.
    pub(crate) signed: Vec<Head>,
}

impl Sealing {
    pub(crate) fn run(mut self) {
        let outcome = self.serve();
        if let Err(reason) = &outcome {
            tracing::error!(%reason, "the ledger stops");
            self.shared.fail(reason);
            self.inbox.tell(Event::Stop);
        }
        if let Err(error) = self.sealer.checkpoint() {
            tracing::warn!(%error, "the last checkpoint failed; the journal stands in for it");
        }
    }

    fn serve(&mut self) -> Result<(), String> {
        let mut journal_len = self.journal.stats().bytes;
        let mut checkpointed = Instant::now();
        let mut sealed_since = false;
        loop {
            match self.messages.recv() {
                Ok(SealingMessage::Block(block)) => {
                    self.seal(&block)?;
                    sealed_since = true;
                }
                Ok(SealingMessage::HeadDurable(body)) => self.publish(&body)?,
                Ok(SealingMessage::Stop) | Err(_) => return Ok(()),
            }
            let grown = self.journal.stats().bytes.saturating_sub(journal_len);
            if sealed_since && (grown >= self.shared.config.checkpoint_len || checkpointed.elapsed() >= CHECKPOINT_AFTER)
            {
                let cut = self.sealer.checkpoint().map_err(|error| error.to_string())?;
                self.inbox.tell(Event::Trim(cut));
                journal_len = self.journal.stats().bytes;
                checkpointed = Instant::now();
                sealed_since = false;
            }
        }
    }

    fn seal(&mut self, block: &Block) -> Result<(), String> {
        let head = self.sealer.seal(block).map_err(|error| error.to_string())?;
        if !self.shared.config.ledger {
            return Ok(());
        }
        self.agree(head)?;
        self.shared.metrics.sealed(head.size);
        let kept =
            Kept { kind: KeptKind::Head as u8, group: self.shared.group, body: Bytes::copy_from_slice(&head.to_bytes()) };
        // Refused only when the journal has failed, which the loop reports.
        let _ = self.journal.append(Append { said: Vec::new(), kept: vec![kept] });
        Ok(())
    }

    /// A head that was made durable before must come out the same again.
    fn agree(&mut self, head: Head) -> Result<(), String> {
        for earlier in &self.signed {
            if earlier.size == head.size && earlier.root != head.root || earlier.cut == head.cut && earlier.size != head.size {
                return Err(format!(
                    "the ledger at size {} does not have the root that this node signed before a restart; \
                     stop here, keep the data folder for examination and restore a backup",
                    head.size
                ));
            }
        }
        self.signed.retain(|earlier| earlier.size > head.size);
        Ok(())
    }

    fn publish(&self, body: &Bytes) -> Result<(), String> {
        let head = Head::from_bytes(body).ok_or("a kept head came back from the journal malformed")?;
        if head.size > self.shared.head().size {
            self.shared.publish(head);
        }
        Ok(())
    }
}

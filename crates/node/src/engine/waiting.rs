//! Clients that wait for their commands, and the flushes over which they get their receipts.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use store::journal::Flushed;
use tokio::sync::oneshot;
use types::journal::RecordKind;
use types::{CommandId, Epoch};

use crate::error::WriteError;
use crate::write::ack::{Answer, AnswerBatch};
use crate::write::apply::Executed;

type Reply = oneshot::Sender<Result<Answer, WriteError>>;

/// Flushes remembered: an answer whose commit is older has no receipt.
const FLUSHES_MAX: usize = 512;

struct Waits {
    epoch: Epoch,
    reply: Reply,
    /// Where this replica says that the command is decided.
    commit: Option<u64>,
    executed: Option<Arc<Executed>>,
}

/// The last flushes of a journal, by their last position.
type Flushes = VecDeque<(u64, Arc<Flushed>)>;

/// See the file's documentation. Bounded by what the core lets be in flight.
#[derive(Default)]
pub(crate) struct Waiting {
    clients: HashMap<CommandId, Waits>,
    /// Executed, and not answered before the commit is durable.
    executed: Vec<CommandId>,
    flushes: BTreeMap<Epoch, Flushes>,
}

impl Waiting {
    pub(crate) fn insert(&mut self, epoch: Epoch, id: CommandId, reply: Reply) {
        self.clients.insert(id, Waits { epoch, reply, commit: None, executed: None });
    }

    /// A command came to nothing with its epoch, and goes on under another id.
    pub(crate) fn rename(&mut self, id: CommandId, epoch: Epoch, new: CommandId) {
        if let Some(waits) = self.clients.remove(&id) {
            self.insert(epoch, new, waits.reply);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// Drops who waits; they are told by the end of the channel.
    pub(crate) fn clear(&mut self) {
        self.clients.clear();
        self.executed.clear();
    }

    /// An epoch is not served any more. Of its commands, those that were executed are done: the state at its end, with them
    /// in it, is durable at enough members of the next one, which is what ended it. Those that are
    /// `void` go on in the next epoch. What came of others is not known here.
    pub(crate) fn close(&mut self, epoch: Epoch, void: &HashSet<CommandId>) {
        self.flushes.remove(&epoch);
        let done =
            self.clients.values().filter(|waits| waits.epoch == epoch).filter_map(|waits| waits.executed.clone());
        let done = done.collect();
        self.answer(done, None);
        for (_, waits) in self.clients.extract_if(|id, waits| waits.epoch == epoch && !void.contains(id)) {
            // The receiver may be gone: its client went away.
            let _ = waits.reply.send(Err(WriteError::TimedOut));
        }
    }

    /// Answers who waits for a command with an error.
    pub(crate) fn refuse(&mut self, id: CommandId, error: WriteError) {
        if let Some(waits) = self.clients.remove(&id) {
            // The receiver may be gone: its client went away.
            let _ = waits.reply.send(Err(error));
        }
    }

    /// The journal goes on with this record.
    pub(crate) fn said(&mut self, record: &dace::Record) {
        if record.header.kind == RecordKind::Commit
            && let Some(waits) = self.clients.get_mut(&record.header.id)
        {
            waits.commit = Some(record.header.position);
        }
    }

    /// Everything of an epoch's journal up to `last` is durable.
    pub(crate) fn flushed(&mut self, epoch: Epoch, last: u64, flushed: &Arc<Flushed>) {
        let flushes = self.flushes.entry(epoch).or_default();
        flushes.push_back((last, flushed.clone()));
        if flushes.len() > FLUSHES_MAX {
            flushes.pop_front();
        }
    }

    /// Commands were executed: those who wait for them are answered, in a larger group once the commit of this replica
    /// is durable. Alone, `flushed` decided them all.
    pub(crate) fn executed(&mut self, executed: Vec<Arc<Executed>>, flushed: Option<&Arc<Flushed>>, is_alone: bool) {
        if is_alone && self.executed.is_empty() {
            return self.answer(executed, flushed.cloned());
        }
        for executed in executed {
            if let Some(waits) = self.clients.get_mut(&executed.id) {
                self.executed.push(executed.id);
                waits.executed = Some(executed);
            }
        }
        let none = Flushes::new();
        let mut ready: BTreeMap<(Epoch, u64), Vec<Arc<Executed>>> = BTreeMap::new();
        let (clients, by_epoch) = (&self.clients, &self.flushes);
        self.executed.retain(|id| {
            let Some(waits) = clients.get(id) else { return false };
            let flushes = by_epoch.get(&waits.epoch).unwrap_or(&none);
            let durable = flushes.back().map_or(0, |(last, _)| *last);
            // Decided by another: nothing is waited for.
            let commit = waits.commit.unwrap_or(0);
            let Some(executed) = waits.executed.as_ref().filter(|_| commit <= durable) else { return true };
            let flush = flushes.partition_point(|(last, _)| *last < commit);
            let is_there = commit > 0 && (flush > 0 || flushes.len() < FLUSHES_MAX);
            let last = flushes.get(flush).filter(|_| is_there).map_or(0, |(last, _)| *last);
            ready.entry((waits.epoch, last)).or_default().push(executed.clone());
            false
        });
        for ((epoch, last), executed) in ready {
            let flushes = self.flushes.get(&epoch).unwrap_or(&none);
            let flush = flushes.binary_search_by_key(&last, |(last, _)| *last).ok();
            let flushed = flush.map(|flush| flushes[flush].1.clone());
            self.answer(executed, flushed);
        }
    }

    fn answer(&mut self, executed: Vec<Arc<Executed>>, flushed: Option<Arc<Flushed>>) {
        let replies: Vec<_> = executed.iter().map(|executed| self.clients.remove(&executed.id)).collect();
        if replies.iter().all(Option::is_none) {
            return;
        }
        let batch = Arc::new(AnswerBatch::new(executed, flushed));
        for (index, waits) in replies.into_iter().enumerate() {
            if let Some(waits) = waits {
                // The receiver may be gone: its client went away. The write stands all the same.
                let _ = waits.reply.send(Ok(Answer::new(batch.clone(), index)));
            }
        }
    }
}

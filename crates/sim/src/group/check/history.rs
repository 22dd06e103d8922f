//! What clients asked, when, and what they were told.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use types::command::Op;
use types::{Command, CommandId, Epoch, OrderKey, Outcome, SlotSet};

use crate::group::queue::Instant;

/// What a client asks for.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    /// A command.
    Write(Box<Command>),
    /// The current version of a key.
    Get {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
    },
    /// All keys of a bucket.
    List {
        /// The bucket.
        bucket: String,
    },
}

/// What a read gave.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// The current version, if there is one: order and ETag.
    Object(Option<(OrderKey, String)>),
    /// Keys and their current versions.
    Objects(Vec<(String, OrderKey)>),
}

/// Where a read stands: how many commands of each chain had been executed.
pub(crate) struct Reading {
    pub(crate) at: Vec<usize>,
}

impl Reading {
    /// The position in a chain; one that did not exist yet held no commands but those on all slots.
    pub(crate) fn in_chain(&self, chain: usize) -> usize {
        self.at.get(chain).copied().unwrap_or(self.at[0])
    }
}

/// An answered read.
pub(crate) struct Read {
    pub(crate) answered: Instant,
    pub(crate) reading: Reading,
    pub(crate) answer: Answer,
}

/// One thing that a client wanted.
pub(crate) struct Operation {
    pub(crate) ask: Ask,
    pub(crate) slots: SlotSet,
    pub(crate) invoked: Instant,
    /// Of a put: the ETag that it gives.
    pub(crate) etag: String,
    /// Of a write: the ids under which it was submitted, more than one after retries.
    pub(crate) ids: Vec<CommandId>,
    /// Of a write: when and what it was answered.
    pub(crate) outcome: Option<(Instant, Outcome)>,
    /// Of a read.
    pub(crate) read: Option<Read>,
    /// It was answered under a lease of keys, not of slots: what stands in its slots and changes none of its keys it may
    /// have missed.
    pub(crate) is_leased: bool,
}

/// A command that was submitted.
pub(crate) struct Submitted {
    pub(crate) operation: usize,
    /// In which epoch.
    pub(crate) epoch: Epoch,
    pub(crate) invoked: Instant,
    pub(crate) answered: Option<Instant>,
    body: Bytes,
}

/// All that clients did.
pub(crate) struct History {
    pub(crate) operations: Vec<Operation>,
    pub(crate) submitted: BTreeMap<CommandId, Submitted>,
}

impl History {
    pub(crate) fn new() -> Self {
        Self { operations: Vec::new(), submitted: BTreeMap::new() }
    }

    /// A client begins something.
    pub(crate) fn begin(&mut self, invoked: Instant, ask: Ask, slots: SlotSet) -> usize {
        let etag = match &ask {
            Ask::Write(command) => put_etag(command),
            Ask::Get { .. } | Ask::List { .. } => String::new(),
        };
        let (ids, outcome, read, is_leased) = (Vec::new(), None, None, false);
        self.operations.push(Operation { ask, slots, invoked, etag, ids, outcome, read, is_leased });
        self.operations.len() - 1
    }

    /// A replica took the command under an id. False when the id was given before.
    #[must_use]
    pub(crate) fn submitted(
        &mut self,
        now: Instant,
        operation: usize,
        (epoch, id): (Epoch, CommandId),
        body: Bytes,
    ) -> bool {
        self.operations[operation].ids.push(id);
        let submitted = Submitted { operation, epoch, invoked: now, answered: None, body };
        self.submitted.insert(id, submitted).is_none()
    }

    pub(crate) fn knows(&self, id: CommandId) -> bool {
        self.submitted.contains_key(&id)
    }

    /// The body submitted under an id.
    pub(crate) fn body(&self, id: CommandId) -> &[u8] {
        self.submitted.get(&id).map_or(&[], |submitted| &submitted.body)
    }

    /// The command submitted under an id.
    pub(crate) fn command(&self, id: CommandId) -> Option<&Command> {
        match &self.operations[self.submitted.get(&id)?.operation].ask {
            Ask::Write(command) => Some(command),
            Ask::Get { .. } | Ask::List { .. } => None,
        }
    }

    /// Reads of every key that was written, and of every bucket, without an order of importance: the ones put first
    /// change with what was written.
    pub(crate) fn reads_of_all(&self) -> Vec<Ask> {
        let mut keys = BTreeSet::new();
        for operation in &self.operations {
            let Ask::Write(command) = &operation.ask else { continue };
            for (bucket, key) in super::search::written(command) {
                keys.insert((blake3::hash(key.as_bytes()).as_bytes()[0], bucket.to_owned(), key.to_owned()));
            }
        }
        let buckets: BTreeSet<String> = keys.iter().map(|(_, bucket, _)| bucket.clone()).collect();
        let listings = buckets.into_iter().map(|bucket| Ask::List { bucket });
        listings.chain(keys.into_iter().map(|(_, bucket, key)| Ask::Get { bucket, key })).collect()
    }

    pub(crate) fn answered_write(&mut self, now: Instant, id: CommandId, outcome: &Outcome) {
        let submitted = self.submitted.get_mut(&id).expect("what is answered was submitted");
        submitted.answered = Some(now);
        let operation = &mut self.operations[submitted.operation];
        operation.outcome.get_or_insert_with(|| (now, outcome.clone()));
    }

    pub(crate) fn answered_read(&mut self, now: Instant, operation: usize, reading: Reading, answer: Answer) {
        self.operations[operation].read = Some(Read { answered: now, reading, answer });
    }
}

fn put_etag(command: &Command) -> String {
    match &command.op {
        Op::PutObject(put) => put.md5.iter().map(|byte| format!("{byte:02x}")).collect(),
        _ => String::new(),
    }
}

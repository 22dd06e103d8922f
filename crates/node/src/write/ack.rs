//! Step *ack*: the answer, with its receipt. What costs hashing or a signature is made once per flush, by
//! whoever of its clients comes first, outside the core's loop.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ledger::entry::Entry;
use ledger::receipt::{BatchProver, CommitReceipt, Proof, Receipt, Speaker, Statements};
use store::journal::Flushed;
use types::journal::RecordHeader;
use types::{OrderKey, Outcome};

use super::accept::Wait;
use super::apply::Executed;
use crate::error::WriteError;
use crate::node::Shared;
use crate::proofs::wait_included;

/// How long an answer without a commit receipt waits for one of the log.
const INCLUDED_WITHIN: Duration = Duration::from_secs(2);

/// What a client gets.
#[derive(Clone, Debug)]
pub struct Written {
    /// What the command gave.
    pub outcome: Outcome,
    /// The order key of its first entry.
    pub order: OrderKey,
    /// The commit receipt, in binary form, or one of inclusion where another member decided the command; absent when receipts
    /// are turned off, or the log is far behind.
    pub receipt: Option<Vec<u8>>,
}

/// The commands that one flush made possible, and what their receipts share.
pub(crate) struct AnswerBatch {
    executed: Vec<Arc<Executed>>,
    flushed: Option<Arc<Flushed>>,
    shared: OnceLock<Option<Provers>>,
}

struct Provers {
    batch: BatchProver,
    statements: Statements,
    /// Index among the statements of each command's first entry.
    first: Vec<u32>,
    entries: Vec<[u8; Entry::LEN]>,
}

impl AnswerBatch {
    pub(crate) fn new(executed: Vec<Arc<Executed>>, flushed: Option<Arc<Flushed>>) -> Self {
        Self { executed, flushed, shared: OnceLock::new() }
    }

    fn provers(&self, shared: &Shared) -> Option<&Provers> {
        self.shared.get_or_init(|| self.prove(shared)).as_ref()
    }

    fn prove(&self, shared: &Shared) -> Option<Provers> {
        let flushed = self.flushed.as_ref()?;
        let sealed = flushed.batches.iter().rfind(|batch| batch.head.group == shared.group)?;
        let headers = sealed.headers.iter().map(RecordHeader::from_bytes).collect::<Result<Vec<_>, _>>().ok()?;
        let batch = BatchProver::with_tree(sealed.head, sealed.signature, headers, sealed.tree.clone()).ok()?;
        let mut first = Vec::with_capacity(self.executed.len());
        let mut entries = Vec::with_capacity(self.executed.len());
        for executed in &self.executed {
            first.push(u32::try_from(entries.len()).ok()?);
            for fact in &executed.facts {
                entries.push(Entry::from_fact(fact, executed.epoch, shared.group).0.to_bytes());
            }
        }
        let statements = Statements::sign(Speaker::after(&sealed.head), &entries, shared.keys.node.as_ref())?;
        Some(Provers { batch, statements, first, entries })
    }
}

/// One command's share in a batch of answers.
pub(crate) struct Answer {
    batch: Arc<AnswerBatch>,
    index: usize,
}

impl Answer {
    pub(crate) fn new(batch: Arc<AnswerBatch>, index: usize) -> Self {
        Self { batch, index }
    }

    fn executed(&self) -> &Executed {
        &self.batch.executed[self.index]
    }

    /// The commit receipt over the command's first entry.
    fn receipt(&self, shared: &Shared) -> Option<Vec<u8>> {
        let provers = self.batch.provers(shared)?;
        let first = provers.first[self.index];
        let commit = CommitReceipt {
            entry: *provers.entries.get(first as usize)?,
            vouchers: vec![provers.batch.voucher(self.executed().id)?],
            statement: provers.statements.statement(first)?,
        };
        Receipt::new(Proof::Commit(commit)).to_bytes().ok()
    }
}

pub(crate) async fn ack(shared: &Shared, answer: Answer, wait: Wait) -> Result<Written, WriteError> {
    let executed = answer.executed();
    let order = OrderKey { timestamp: executed.timestamp, id: executed.id, item: 0 };
    let commit = if shared.config.receipts { answer.receipt(shared) } else { None };
    wait_for(shared, wait, order).await?;
    let receipt = match commit {
        None if shared.config.receipts && shared.config.ledger => included(shared, order).await,
        commit => commit,
    };
    Ok(Written { outcome: answer.executed().outcome.clone(), order, receipt })
}

/// Another member decided the command, so that this one's journal alone does not say that it is: then the log has to,
/// which it does about a message and a tick later. Nothing where that takes long: the command is done all the same.
async fn included(shared: &Shared, order: OrderKey) -> Option<Vec<u8>> {
    tokio::time::timeout(INCLUDED_WITHIN, wait_included(shared, order)).await.ok()?;
    let inclusion = shared.inclusion(order).ok()?;
    Receipt::new(Proof::Included(inclusion.proof)).to_bytes().ok()
}

/// Waits for what the client wants to wait for.
pub(crate) async fn wait_for(shared: &Shared, wait: Wait, order: OrderKey) -> Result<(), WriteError> {
    match wait {
        Wait::Commit => Ok(()),
        Wait::Included => tokio::time::timeout(shared.config.write_timeout, wait_included(shared, order))
            .await
            .map_err(|_| WriteError::TimedOut),
    }
}

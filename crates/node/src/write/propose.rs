//! Step *propose*: the command goes to the core's loop, which gives it a timestamp and its journal entry.

use tokio::sync::oneshot;
use types::Command;

use super::accept::Accepted;
use super::ack::Answer;
use crate::engine::Submitted;
use crate::engine::inbox::Rejected;
use crate::error::WriteError;
use crate::node::Shared;

/// A command on its way into the loop, and who waits for it.
pub(crate) struct Proposal {
    pub(crate) command: Command,
    pub(crate) submission: dace::Submission,
    pub(crate) answer: oneshot::Sender<Result<Answer, WriteError>>,
}

pub(crate) fn propose(
    shared: &Shared,
    accepted: Accepted,
) -> Result<oneshot::Receiver<Result<Answer, WriteError>>, WriteError> {
    let (answer, answered) = oneshot::channel();
    let proposal = Proposal { command: accepted.command, submission: accepted.submission, answer };
    match shared.inbox.submit(Submitted::Write(Box::new(proposal))) {
        Ok(()) => Ok(answered),
        Err(Rejected::Full) => Err(WriteError::SlowDown("its queue of commands is full")),
        Err(Rejected::Closed) => Err(shared.running().err().unwrap_or(WriteError::Stopping)),
    }
}

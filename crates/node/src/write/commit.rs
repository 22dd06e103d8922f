//! Step *commit*: wait until the command is decided, durable at its quorum, and executed.

use tokio::sync::oneshot;

use super::ack::Answer;
use crate::error::WriteError;
use crate::node::Shared;

pub(crate) async fn commit(
    shared: &Shared,
    answered: oneshot::Receiver<Result<Answer, WriteError>>,
) -> Result<Answer, WriteError> {
    match tokio::time::timeout(shared.config.write_timeout, answered).await {
        Ok(Ok(answer)) => answer,
        // The loop dropped the sender: it ended before it could answer.
        Ok(Err(_)) => Err(match shared.running() {
            Err(WriteError::Failed(reason)) => WriteError::Failed(reason),
            _ => WriteError::Failed("it stopped before the answer".to_owned()),
        }),
        Err(_) => Err(WriteError::TimedOut),
    }
}

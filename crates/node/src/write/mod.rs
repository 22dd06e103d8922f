//! The write path, one file per step:
//!
//! ```text
//! accept    is there room, does it make a command within the limits
//! place     large body -> vault, chunk by chunk; small body inline (before the command exists)
//! propose   command -> core's loop -> journal entry (forward: of the member that is the home of its zone)
//! commit    durable at its quorum, decided
//! apply     the catalog executes it in order
//! seal      block -> ledger entries, stored state
//! ack       receipt, answer
//! ```

pub(crate) mod accept;
pub(crate) mod ack;
pub(crate) mod apply;
pub(crate) mod commit;
pub(crate) mod forward;
pub(crate) mod place;
pub(crate) mod propose;
pub(crate) mod seal;

use crate::error::WriteError;
use crate::node::Shared;
use accept::WriteRequest;
use ack::Written;

/// One write, from request to receipt. `apply` runs in the core's loop between `propose` and `commit`,
/// `seal` behind the answer.
pub(crate) async fn write(shared: &Shared, request: WriteRequest) -> Result<Written, WriteError> {
    let wait = request.wait;
    let accepted = accept::accept(shared, request)?;
    if let Some(home) = forward::home(shared, &accepted.command)
        && let Some(written) = forward::forward(shared, home, &accepted).await?
    {
        ack::wait_for(shared, wait, written.order).await?;
        return Ok(written);
    }
    let answered = propose::propose(shared, accepted)?;
    let answer = commit::commit(shared, answered).await?;
    ack::ack(shared, answer, wait).await
}

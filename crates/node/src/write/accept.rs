//! Step *accept*: is the node in a state to take this write, and does it make a command within the limits?

use bytes::Bytes;
use types::command::RequestToken;
use types::journal::{body_hash, encode_proposal};
use types::limits::{COMMAND_LEN_MAX, OVERLAY_LEN_MAX};
use types::{Command, Op};

use crate::error::WriteError;
use crate::keys::random;
use crate::node::Shared;

/// When a write is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Wait {
    /// Once it is durable at its quorum and executed.
    #[default]
    Commit,
    /// Once its entry is in the log under a durable, signed head.
    Included,
}

/// What a client asks to have written.
#[derive(Clone, Debug)]
pub struct WriteRequest {
    /// The access key id that asks; empty for the node itself.
    pub principal: String,
    /// What makes a retry recognisable.
    pub request: Option<RequestToken>,
    /// What to do.
    pub op: Op,
    /// When to answer.
    pub wait: Wait,
}

/// A command that may be proposed, with the parts that are costly to make, made outside the loop.
pub(crate) struct Accepted {
    pub(crate) command: Command,
    pub(crate) submission: dace::Submission,
}

/// Whether an operation frees space, and so is taken even when the disk is full.
fn frees_space(op: &Op) -> bool {
    matches!(op, Op::DeleteObjects(_) | Op::DeleteBucket(_) | Op::AbortUpload(_) | Op::DeleteAccessKey(_))
}

pub(crate) fn accept(shared: &Shared, request: WriteRequest) -> Result<Accepted, WriteError> {
    shared.ready()?;
    if !frees_space(&request.op) {
        shared.has_space()?;
    }
    if shared.overlay.len() > OVERLAY_LEN_MAX {
        return Err(WriteError::SlowDown("changes wait to be sealed"));
    }
    let command = Command { salt: random(), principal: request.principal, request: request.request, op: request.op };
    let submission = submission(&command)?;
    Ok(Accepted { command, submission })
}

/// Encodes and hashes a command for the core.
pub(crate) fn submission(command: &Command) -> Result<dace::Submission, WriteError> {
    let payload = command.to_bytes().map_err(|error| match error {
        types::command::CodecError::TooLong(len) => WriteError::TooLarge { len, max: COMMAND_LEN_MAX },
        other => WriteError::Failed(other.to_string()),
    })?;
    let slots = command.slots();
    let body = Bytes::from(encode_proposal(&slots, &payload));
    let salt = random();
    let body_hash = body_hash(&salt, &body);
    Ok(dace::Submission { slots, salt, body, body_hash })
}

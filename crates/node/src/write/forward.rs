//! Step *propose*, elsewhere: the writes of a zone that has a home go to it, so that one coordinator orders them without
//! getting in the way of others.
//!
//! A command that was handed over is not proposed here, too, unless the home says that it has not proposed it: it would be
//! executed twice, perhaps with another write of the key in between. If the answer is lost, the outcome is not known.
//!
//! A home is a preference: what is too long for a request, or one too many, is proposed here.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};
use types::journal::decode_proposal;
use types::limits::MESH_REQUEST_LEN_MAX;
use types::{Command, OrderKey, Outcome, ReplicaId};

use super::{accept, ack, commit, propose};
use crate::error::WriteError;
use crate::node::Shared;
use crate::peer::Link;
use crate::peer::requests::{Request, decode, encode};
use crate::write::accept::{Accepted, Wait};
use crate::write::ack::Written;

/// Bytes of an answer: an outcome of a multi-delete is the longest.
const ANSWER_LEN_MAX: usize = 4 << 20;
/// Between two looks whether the home is still there.
const LOOK: Duration = Duration::from_millis(20);

/// What the home of a zone says of a command that it was handed.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub(crate) enum Forwarded {
    /// Executed: outcome, order key of its first entry, commit receipt.
    #[n(0)]
    Done(#[n(0)] Box<Outcome>, #[n(1)] OrderKey, #[n(2)] Option<ByteVec>),
    /// It has not proposed it, and will not.
    #[n(1)]
    Declined(#[n(0)] String),
    /// It has proposed it, and cannot tell what came of it.
    #[n(2)]
    Unknown(#[n(0)] String),
}

/// The home of what a command writes, if that is another member which can be reached.
pub(crate) fn home(shared: &Shared, command: &Command) -> Option<(ReplicaId, Arc<dyn Link>)> {
    let (bucket, key) = command.op.first_key()?;
    let home = shared.leased.home(bucket, key).filter(|home| *home != shared.replica)?;
    let is_there = shared.membership().has(home) && !shared.suspects.load().contains(&home);
    let link = shared.peers.link_to(home).filter(|_| is_there)?;
    Some((home, link))
}

/// Hands a command to the home of its zone. `None`: it is to be proposed here.
pub(crate) async fn forward(
    shared: &Shared,
    (home, link): (ReplicaId, Arc<dyn Link>),
    accepted: &Accepted,
) -> Result<Option<Written>, WriteError> {
    let body = &accepted.submission.body;
    let (_, at) = decode_proposal(body).map_err(|error| WriteError::Failed(error.to_string()))?;
    let request = Request::Propose(ByteVec::from(body[at..].to_vec())).to_bytes();
    if request.len() > MESH_REQUEST_LEN_MAX {
        return Ok(None);
    }
    // Requests wait for one another, and what waits for long has no outcome to tell.
    let Ok(_permit) = shared.forwards.try_acquire() else { return Ok(None) };
    let asked = link.request(request, ANSWER_LEN_MAX);
    let answer = tokio::select! {
        answer = asked => answer,
        () = lost(shared, home) => return Err(WriteError::TimedOut),
        () = tokio::time::sleep(shared.config.write_timeout) => return Err(WriteError::TimedOut),
    };
    // Whether a link that broke had delivered the command is not known.
    let answer = answer.map_err(|_| WriteError::TimedOut)?;
    match decode::<Forwarded>(&answer).map_err(|error| WriteError::Failed(error.to_string()))? {
        Forwarded::Done(outcome, order, receipt) => {
            shared.metrics.forwarded();
            Ok(Some(Written { outcome: *outcome, order, receipt: receipt.map(Vec::from) }))
        }
        Forwarded::Declined(reason) => {
            tracing::debug!(%home, %reason, "the home of a zone did not take a write");
            Ok(None)
        }
        Forwarded::Unknown(_) => Err(WriteError::TimedOut),
    }
}

/// Returns when the home is suspected, or the link to it is down.
async fn lost(shared: &Shared, home: ReplicaId) {
    while !shared.suspects.load().contains(&home) && shared.peers.link_to(home).is_some() {
        tokio::time::sleep(LOOK).await;
    }
}

/// Another member hands over a command of a zone that this one is the home of.
pub(crate) async fn take(shared: &Shared, bytes: &[u8]) -> Bytes {
    encode(&match propose_for(shared, bytes).await {
        Ok(written) => Forwarded::Done(Box::new(written.outcome), written.order, written.receipt.map(ByteVec::from)),
        Err(answer) => answer,
    })
}

async fn propose_for(shared: &Shared, bytes: &[u8]) -> Result<Written, Forwarded> {
    let declined = |error: WriteError| Forwarded::Declined(error.to_string());
    shared.ready().map_err(declined)?;
    let command = Command::from_bytes(bytes).map_err(|error| Forwarded::Declined(error.to_string()))?;
    // What is about no key has no home. Above all an epoch begins by a Reconfig only: members stop at anything else.
    if command.op.first_key().is_none() {
        return Err(Forwarded::Declined("it writes no key".to_owned()));
    }
    let submission = accept::submission(&command).map_err(declined)?;
    let answered = propose::propose(shared, Accepted { command, submission }).map_err(declined)?;
    let unknown = |error: WriteError| match error {
        // The loop refused it before it was proposed.
        WriteError::SlowDown(_) | WriteError::NotReady(_) | WriteError::NoQuorum { .. } => declined(error),
        other => Forwarded::Unknown(other.to_string()),
    };
    let answer = commit::commit(shared, answered).await.map_err(unknown)?;
    ack::ack(shared, answer, Wait::Commit).await.map_err(|error| Forwarded::Unknown(error.to_string()))
}

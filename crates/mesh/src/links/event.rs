//! What an endpoint tells its user.

use core::fmt;
use core::ops::Deref;
use std::net::SocketAddr;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use types::ReplicaId;

use super::link::Link;
use super::refusal::Refusal;
use super::request::Responder;

/// Something that happened. Of one peer, everything comes in order: `Up`, then what arrived over that link, then `Down`,
/// before the next `Up`.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// A link to a peer is up.
    Up {
        /// The peer.
        peer: ReplicaId,
        /// The link; it works until `Down`.
        link: Link,
    },
    /// The link to a peer is down. It is dialled again without being told.
    Down {
        /// The peer.
        peer: ReplicaId,
        /// Why.
        reason: DownReason,
    },
    /// An urgent message.
    Urgent {
        /// From whom.
        peer: ReplicaId,
        /// The message.
        bytes: Received,
    },
    /// A frame of the peer's journal stream.
    Journal {
        /// From whom.
        peer: ReplicaId,
        /// The frame.
        bytes: Received,
    },
    /// A peer asks for something.
    Request {
        /// Who asks.
        peer: ReplicaId,
        /// The request.
        bytes: Bytes,
        /// Takes the answer.
        responder: Responder,
    },
    /// Two nodes would not talk to each other. Said once per peer until the reason changes or a link comes up, and only
    /// when there is room: [`super::Endpoint::peers`] keeps it.
    Refused {
        /// The peer, where it is known.
        peer: Option<ReplicaId>,
        /// Its address.
        address: SocketAddr,
        /// Why.
        refusal: Refusal,
    },
    /// A newcomer used a join token here and was given a certificate.
    Joined {
        /// The replica id that the token was made for.
        replica: ReplicaId,
        /// How the newcomer calls itself.
        name: String,
        /// Where it came from.
        address: SocketAddr,
        /// What it said of itself ([`super::identity::join`]).
        introduction: Bytes,
    },
    /// This node's certificate was renewed.
    Renewed {
        /// When the new one expires, in seconds since the Unix epoch.
        expires_s: u64,
    },
}

/// Why a link went down.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DownReason {
    /// Nothing came for the idle time-out, or the peer lost its memory of the connection.
    #[error("nothing was heard from the peer: {0}")]
    Lost(String),
    /// One side closed it, for a reason.
    #[error(transparent)]
    Refused(Refusal),
    /// A new connection took its place: the peer was restarted, or both had dialled.
    #[error("a new connection took its place")]
    Replaced,
    /// The peer is no longer among those of [`super::Endpoint::set_peers`].
    #[error("it is no longer a peer")]
    Removed,
    /// This endpoint was closed.
    #[error("this endpoint was closed")]
    Closed,
}

/// Bytes that arrived. While they live they count against what the peer may have unread here: hold on to them, and the peer
/// is made to wait.
pub struct Received {
    bytes: Bytes,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Received {
    pub(super) fn new(bytes: Bytes, permit: Option<OwnedSemaphorePermit>) -> Self {
        Self { bytes, _permit: permit }
    }

    /// The bytes; from now on they no longer hold the peer back.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }
}

impl Deref for Received {
    type Target = Bytes;

    fn deref(&self) -> &Bytes {
        &self.bytes
    }
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Received({} bytes)", self.bytes.len())
    }
}

/// The events of an endpoint. It is bounded: whoever does not read it makes the peers wait, each for itself.
#[derive(Debug)]
pub struct Events {
    receiver: mpsc::Receiver<Event>,
}

impl Events {
    pub(super) fn new(receiver: mpsc::Receiver<Event>) -> Self {
        Self { receiver }
    }

    /// The next event; `None` once the endpoint is closed and everything was read. May be dropped while it waits.
    pub async fn next(&mut self) -> Option<Event> {
        self.receiver.recv().await
    }
}

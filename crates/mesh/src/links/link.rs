//! A link to one peer: the handle through which its user sends.

use bytes::Bytes;
use types::ReplicaId;

use super::probe::Observation;
use super::request::{RequestError, Response};

/// A link to a peer, while it is up. Clones are the same link.
#[derive(Clone)]
pub struct Link {}

/// Why something was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The link is down: wait for the next one.
    #[error("the link is down")]
    Down,
    /// More bytes than this class carries at once.
    #[error("the message is too long: {len} bytes, of {max} at most")]
    TooLong {
        /// Its length.
        len: usize,
        /// What `types::limits` allows.
        max: usize,
    },
}

impl Link {
    /// The peer.
    #[must_use]
    pub fn peer(&self) -> ReplicaId {
        todo!()
    }

    /// The protocol version that both use.
    #[must_use]
    pub fn version(&self) -> u16 {
        todo!()
    }

    /// Whether the link is up; once it is not, it never is again.
    #[must_use]
    pub fn is_up(&self) -> bool {
        todo!()
    }

    /// Sends a small message ahead of everything else. Never waits: where too many wait already, the oldest is dropped, and
    /// counted in [`Observation::urgent_dropped`].
    ///
    /// # Errors
    /// When the link is down or the message longer than [`types::limits::MESH_URGENT_LEN_MAX`].
    pub fn send_urgent(&self, _bytes: Bytes) -> Result<(), SendError> {
        todo!()
    }

    /// Sends an urgent message that says how things stand now: it takes the place of an earlier one with the same `slot`
    /// that still waits, and goes to the end of the queue.
    ///
    /// # Errors
    /// As [`Link::send_urgent`].
    pub fn send_beat(&self, _slot: u8, _bytes: Bytes) -> Result<(), SendError> {
        todo!()
    }

    /// Sends a frame of the journal stream, after those before it; waits while the queue is full. A frame that the queue
    /// has taken is lost if the link goes down; if this is dropped while it waits, the frame was not taken.
    ///
    /// # Errors
    /// When the link is down or the frame longer than [`types::limits::MESH_JOURNAL_FRAME_LEN_MAX`].
    pub async fn send_journal(&self, _bytes: Bytes) -> Result<(), SendError> {
        todo!()
    }

    /// Asks the peer for something. Waits while [`types::limits::MESH_REQUESTS_MAX`] requests are open.
    ///
    /// # Errors
    /// When the link is down or goes down, or the request is longer than [`types::limits::MESH_REQUEST_LEN_MAX`].
    pub async fn request(&self, _bytes: Bytes) -> Result<Response, RequestError> {
        todo!()
    }

    /// How the link does.
    #[must_use]
    pub fn observation(&self) -> Observation {
        todo!()
    }
}

impl core::fmt::Debug for Link {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Link(..)")
    }
}

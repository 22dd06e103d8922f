//! Requests: a question, and an answer of any length, each pair on a stream of its own.

use bytes::Bytes;

use super::link::SendError;

/// Why a request got no answer, or not all of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The request was not sent.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The peer says that it cannot answer.
    #[error("the peer cannot answer: {0}")]
    Failed(String),
    /// The peer dropped the request, or the link went down before the end.
    #[error("the answer broke off")]
    BrokenOff,
    /// The answer is longer than whoever collects it allows.
    #[error("the answer is longer than {max} bytes")]
    TooLong {
        /// What was allowed.
        max: usize,
    },
}

/// An answer as it comes in. Dropped before its end, it tells the peer to stop.
#[derive(Debug)]
pub struct Response {}

impl Response {
    /// The next piece, of up to [`types::limits::MESH_ANSWER_FRAME_LEN_MAX`] bytes; `None` at the end. An answer is
    /// complete only if `None` came. Not to be dropped while it waits, unless the whole response is.
    ///
    /// # Errors
    /// When the peer fails or the link goes down.
    pub async fn next(&mut self) -> Result<Option<Bytes>, RequestError> {
        todo!()
    }

    /// All of it, up to `len_max` bytes.
    ///
    /// # Errors
    /// As [`Response::next`], and when it is longer.
    pub async fn collect(self, _len_max: usize) -> Result<Bytes, RequestError> {
        todo!()
    }
}

/// Takes the answer to a peer's request. Dropped before [`Responder::finish`], it breaks the answer off, and the peer knows.
#[derive(Debug)]
pub struct Responder {}

impl Responder {
    /// Sends a piece of the answer, of any length; waits while the peer does not read.
    ///
    /// # Errors
    /// When the link is down or the peer has lost interest.
    pub async fn send(&mut self, _bytes: Bytes) -> Result<(), SendError> {
        todo!()
    }

    /// Says that the answer is complete.
    ///
    /// # Errors
    /// As [`Responder::send`].
    pub async fn finish(self) -> Result<(), SendError> {
        todo!()
    }

    /// Says that there is no answer, or no more of it, and why: at most [`types::limits::MESH_REASON_LEN_MAX`] bytes, cut
    /// there.
    ///
    /// # Errors
    /// As [`Responder::send`].
    pub async fn fail(self, _reason: &str) -> Result<(), SendError> {
        todo!()
    }
}

//! Requests: a question, and an answer of any length, each pair on a stream of its own.

use core::fmt;

use bytes::{Bytes, BytesMut};
use tokio::sync::OwnedSemaphorePermit;
use types::limits::MESH_ANSWER_FRAME_LEN_MAX;

use super::frame::{Kind, Reader};
use super::link::{Link, SendError};
use super::stream::{Incoming, Outgoing, StreamError, frames};
use super::transport;

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
pub struct Response {
    link: Link,
    stream: Reader<Incoming>,
    ended: bool,
    _slot: OwnedSemaphorePermit,
}

impl Response {
    pub(super) fn new(link: Link, stream: quinn::RecvStream, slot: OwnedSemaphorePermit) -> Self {
        Self { link, stream: frames(stream), ended: false, _slot: slot }
    }

    /// The next piece, of up to [`types::limits::MESH_ANSWER_FRAME_LEN_MAX`] bytes; `None` at the end. An answer is
    /// complete only if `None` came. May be dropped while it waits, and asked again.
    ///
    /// # Errors
    /// When the peer fails or the link goes down.
    pub async fn next(&mut self) -> Result<Option<Bytes>, RequestError> {
        if self.ended {
            return Ok(None);
        }
        match self.stream.expect(&[Kind::Answer, Kind::AnswerEnd, Kind::AnswerFailed]).await {
            Ok((Kind::Answer, bytes)) => Ok(Some(bytes)),
            Ok((Kind::AnswerFailed, reason)) => {
                Err(RequestError::Failed(String::from_utf8_lossy(&reason).into_owned()))
            }
            Ok(_) => {
                self.ended = true;
                Ok(None)
            }
            Err(StreamError::Frame(garbage)) => {
                self.link.inner.refuse_garbage(&garbage);
                Err(RequestError::BrokenOff)
            }
            Err(StreamError::GivenUp | StreamError::Connection(_)) => Err(RequestError::BrokenOff),
        }
    }

    /// All of it, up to `len_max` bytes.
    ///
    /// # Errors
    /// As [`Response::next`], and when it is longer.
    pub async fn collect(mut self, len_max: usize) -> Result<Bytes, RequestError> {
        let mut all = BytesMut::new();
        while let Some(piece) = self.next().await? {
            if all.len() + piece.len() > len_max {
                return Err(RequestError::TooLong { max: len_max });
            }
            all.extend_from_slice(&piece);
        }
        Ok(all.freeze())
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Response(from {})", self.link.peer())
    }
}

/// Takes the answer to a peer's request. Dropped before [`Responder::finish`], it breaks the answer off, and the peer knows.
pub struct Responder {
    stream: Outgoing,
    ended: bool,
}

impl Responder {
    pub(super) fn new(stream: Outgoing) -> Self {
        Self { stream, ended: false }
    }

    /// Sends a piece of the answer, of any length; waits while the peer does not read.
    ///
    /// # Errors
    /// When the link is down or the peer has lost interest.
    pub async fn send(&mut self, mut bytes: Bytes) -> Result<(), SendError> {
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(MESH_ANSWER_FRAME_LEN_MAX));
            self.stream.write(Kind::Answer, piece).await.map_err(|_| SendError::Down)?;
        }
        Ok(())
    }

    /// Says that the answer is complete.
    ///
    /// # Errors
    /// As [`Responder::send`].
    pub async fn finish(self) -> Result<(), SendError> {
        self.end(Kind::AnswerEnd, Bytes::new()).await
    }

    /// Says that there is no answer, or no more of it, and why: at most [`types::limits::MESH_REASON_LEN_MAX`] bytes, cut
    /// there.
    ///
    /// # Errors
    /// As [`Responder::send`].
    pub async fn fail(self, reason: &str) -> Result<(), SendError> {
        self.end(Kind::AnswerFailed, Bytes::copy_from_slice(transport::cut(reason).as_bytes())).await
    }

    async fn end(mut self, kind: Kind, payload: Bytes) -> Result<(), SendError> {
        self.stream.write(kind, payload).await.map_err(|_| SendError::Down)?;
        self.ended = true;
        self.stream.finish().map_err(|_| SendError::Down)
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if !self.ended {
            self.stream.abandon();
        }
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Responder(..)")
    }
}

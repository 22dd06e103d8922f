//! Streams of a connection as things that frames are read from and written to.

use bytes::Bytes;
use quinn::{ConnectionError, ReadError, RecvStream, SendStream, WriteError};

use super::frame::{FrameError, Header, Kind, Reader, Source};

/// Why a stream came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum StreamError {
    /// The connection is gone.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The other side gave up on this stream.
    #[error("the peer gave up on a stream")]
    GivenUp,
    /// What came is not what the protocol allows.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// The receiving half.
pub(super) struct Incoming(RecvStream);

/// Reads the frames of a stream.
pub(super) fn frames(stream: RecvStream) -> Reader<Incoming> {
    Reader::new(Incoming(stream))
}

impl Source for Incoming {
    type Error = StreamError;

    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, StreamError> {
        match self.0.read(buffer).await {
            Ok(len) => Ok(len.unwrap_or(0)),
            Err(ReadError::ConnectionLost(error)) => Err(error.into()),
            Err(_) => Err(StreamError::GivenUp),
        }
    }
}

/// The sending half. Dropped without [`Outgoing::finish`], it is finished too, by the library: whoever reads must know the
/// end by its frames.
pub(super) struct Outgoing(SendStream);

impl Outgoing {
    pub(super) fn new(stream: SendStream) -> Self {
        Self(stream)
    }

    /// A stream whose data goes before that of streams with a lower number.
    pub(super) fn with_priority(stream: SendStream, priority: i32) -> Self {
        // a stream that is closed already says so at the first write
        let _ = stream.set_priority(priority);
        Self(stream)
    }

    /// Writes one frame; waits while the other side does not read. The caller has checked the length.
    pub(super) async fn write(&mut self, kind: Kind, payload: Bytes) -> Result<(), StreamError> {
        let header = Header { kind, len: payload.len() }.encode();
        let mut chunks = [Bytes::copy_from_slice(&header), payload];
        self.0.write_all_chunks(&mut chunks).await.map_err(|error| match error {
            WriteError::ConnectionLost(error) => error.into(),
            WriteError::Stopped(_) | WriteError::ClosedStream | WriteError::ZeroRttRejected => StreamError::GivenUp,
        })
    }

    /// Says that nothing more comes.
    pub(super) fn finish(&mut self) -> Result<(), StreamError> {
        self.0.finish().map_err(|_| StreamError::GivenUp)
    }

    /// Says that what should have come does not.
    pub(super) fn abandon(&mut self) {
        let _ = self.0.reset(quinn::VarInt::from_u32(0));
    }
}

//! Frames: what every stream of the mesh is made of. `docs/formats/mesh.md`, frames.

use bytes::{Bytes, BytesMut};
use types::limits::{
    MESH_ANSWER_FRAME_LEN_MAX, MESH_CERTIFICATE_LEN_MAX, MESH_JOURNAL_FRAME_LEN_MAX, MESH_REASON_LEN_MAX,
    MESH_REQUEST_LEN_MAX, MESH_URGENT_LEN_MAX, MESH_WELCOME_LEN_MAX,
};

/// Version of the frame header.
const VERSION: u8 = 1;
/// Bytes of the frame header.
pub(super) const HEADER_LEN: usize = 8;
/// Payload bytes that are read, and room made for, at a time: no length is believed before its bytes are there.
const PIECE_LEN: usize = 64 * 1024;
/// Bytes of a greeting that this or a later version may send.
const GREETING_LEN_MAX: usize = 256;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// The dialler's greeting.
    Hello = 1,
    /// The answer to it.
    Welcome = 2,
    /// An urgent message.
    Urgent = 16,
    /// The sender's renewed certificate, on its urgent stream.
    Certificate = 17,
    /// A frame of the journal stream.
    Journal = 32,
    /// A request of the user.
    Request = 48,
    /// A piece of an answer.
    Answer = 49,
    /// The end of a complete answer.
    AnswerEnd = 50,
    /// The end of an answer that is not complete, with the reason.
    AnswerFailed = 51,
    /// A request for a new certificate.
    Renew = 64,
    /// The new certificate.
    Renewed = 65,
    /// A newcomer's request.
    Join = 80,
    /// The answer to it.
    Joined = 81,
}

impl Kind {
    /// All of them.
    pub(super) const ALL: [Self; 13] = [
        Self::Hello,
        Self::Welcome,
        Self::Urgent,
        Self::Certificate,
        Self::Journal,
        Self::Request,
        Self::Answer,
        Self::AnswerEnd,
        Self::AnswerFailed,
        Self::Renew,
        Self::Renewed,
        Self::Join,
        Self::Joined,
    ];

    /// The longest payload.
    pub(super) const fn len_max(self) -> usize {
        match self {
            Self::Hello | Self::Welcome => GREETING_LEN_MAX,
            Self::Urgent => MESH_URGENT_LEN_MAX,
            Self::Journal => MESH_JOURNAL_FRAME_LEN_MAX,
            Self::Request => MESH_REQUEST_LEN_MAX,
            Self::Answer => MESH_ANSWER_FRAME_LEN_MAX,
            Self::AnswerEnd | Self::Renew => 0,
            Self::AnswerFailed => MESH_REASON_LEN_MAX,
            Self::Certificate | Self::Renewed => MESH_CERTIFICATE_LEN_MAX,
            Self::Join => MESH_WELCOME_LEN_MAX + 1024,
            Self::Joined => MESH_WELCOME_LEN_MAX + 2 * MESH_CERTIFICATE_LEN_MAX + 1024,
        }
    }
}

/// Why bytes are not a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    /// The header's version is not ours.
    #[error("a frame of version {0}, where version {VERSION} is spoken")]
    Version(u8),
    /// The kind is not known.
    #[error("a frame of unknown kind {0}")]
    Kind(u8),
    /// A kind that does not belong here.
    #[error("a frame of kind {0:?} where it does not belong")]
    Misplaced(Kind),
    /// Reserved bytes are not zero.
    #[error("a frame with reserved bytes set")]
    Reserved,
    /// More than the kind may have.
    #[error("a {kind:?} frame of {len} bytes, of {max} at most", max = kind.len_max())]
    TooLong {
        /// The kind.
        kind: Kind,
        /// The length that it claims.
        len: usize,
    },
    /// The stream ended inside a frame.
    #[error("the stream ended inside a frame")]
    Torn,
    /// The payload is not what the kind says.
    #[error("a {0:?} frame that cannot be read")]
    Content(Kind),
}

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) len: usize,
}

impl Header {
    /// Reads a header, and believes its length only within the kind's limit.
    pub(super) fn decode(bytes: [u8; HEADER_LEN]) -> Result<Self, FrameError> {
        let [version, kind, reserved @ .., a, b, c, d] = bytes;
        if version != VERSION {
            return Err(FrameError::Version(version));
        }
        let kind = Kind::ALL.into_iter().find(|known| *known as u8 == kind).ok_or(FrameError::Kind(kind))?;
        if reserved != [0; 2] {
            return Err(FrameError::Reserved);
        }
        let len = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        if len > kind.len_max() {
            return Err(FrameError::TooLong { kind, len });
        }
        Ok(Self { kind, len })
    }

    /// The header of a payload, whose length the caller has checked.
    pub(super) fn encode(self) -> [u8; HEADER_LEN] {
        let len = u32::try_from(self.len).expect("the longest payload of any kind is far below 4 GiB");
        let [a, b, c, d] = len.to_be_bytes();
        [VERSION, self.kind as u8, 0, 0, a, b, c, d]
    }
}

/// A whole frame in one buffer.
#[cfg(test)]
pub(super) fn encode(kind: Kind, payload: &[u8]) -> Bytes {
    [&Header { kind, len: payload.len() }.encode()[..], payload].concat().into()
}

/// Where frames are read from. A stream of the connection, or bytes in memory when fuzzed.
pub(super) trait Source {
    /// What can go wrong besides the frames.
    type Error: From<FrameError>;

    /// Puts what is there into the buffer, and says how much; waits for something; 0 at the end. May be dropped while it
    /// waits: nothing is lost then.
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Self::Error>;
}

/// Reads one frame after the other. Each of its futures may be dropped while it waits: the next one goes on where it was.
pub(super) struct Reader<S> {
    source: S,
    head: [u8; HEADER_LEN],
    head_filled: usize,
    /// The frame whose header was read: its payload as far as there is room for it, and how much of that has come.
    begun: Option<(Header, BytesMut, usize)>,
}

impl<S: Source> Reader<S> {
    pub(super) fn new(source: S) -> Self {
        Self { source, head: [0; HEADER_LEN], head_filled: 0, begun: None }
    }

    /// The header of the next frame, of which nothing is passed over; `None` where the stream ends between frames.
    pub(super) async fn header(&mut self) -> Result<Option<Header>, S::Error> {
        if let Some((header, _, _)) = &self.begun {
            return Ok(Some(*header));
        }
        while self.head_filled < HEADER_LEN {
            match self.source.read(&mut self.head[self.head_filled..]).await? {
                0 if self.head_filled == 0 => return Ok(None),
                0 => return Err(FrameError::Torn.into()),
                len => self.head_filled += len,
            }
        }
        let header = Header::decode(self.head)?;
        self.head_filled = 0;
        self.begun = Some((header, BytesMut::new(), 0));
        Ok(Some(header))
    }

    /// The next frame, which must be of one of these kinds; `None` where the stream ends between frames.
    pub(super) async fn next(&mut self, kinds: &[Kind]) -> Result<Option<(Kind, Bytes)>, S::Error> {
        let Some(header) = self.header().await? else { return Ok(None) };
        if !kinds.contains(&header.kind) {
            return Err(FrameError::Misplaced(header.kind).into());
        }
        if let Some((_, payload, filled)) = &mut self.begun {
            while *filled < header.len {
                if *filled == payload.len() {
                    // room is made as the bytes come
                    payload.resize(header.len.min(*filled + PIECE_LEN), 0);
                }
                match self.source.read(&mut payload[*filled..]).await? {
                    0 => return Err(FrameError::Torn.into()),
                    len => *filled += len,
                }
            }
        }
        let payload = self.begun.take().map(|(_, payload, _)| payload.freeze()).unwrap_or_default();
        Ok(Some((header.kind, payload)))
    }

    /// As [`Reader::next`], where the stream must not end.
    pub(super) async fn expect(&mut self, kinds: &[Kind]) -> Result<(Kind, Bytes), S::Error> {
        Ok(self.next(kinds).await?.ok_or(FrameError::Torn)?)
    }
}

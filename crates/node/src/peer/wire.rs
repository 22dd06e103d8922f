//! The bytes of what replicas of a group say to each other (`docs/formats/peer.md`). Who carries them is no matter here:
//! see [`super::Link`].

use bytes::Bytes;
use dace::{
    Beat, Claim, Claims, Entry, EpochClaim, Fetched, Hello, Membership, Message, Notice, PeerBase, Record, Standing,
    Vouch, Watermark,
};
use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};
use types::journal::RecordHeader;
use types::limits::{PEER_FRAME_LEN_MAX, SLOTS};
use types::{CommandId, Epoch, Incarnation, Slot, SlotSet, Timestamp};

/// The version byte that opens every frame.
pub(crate) const VERSION: u8 = 2;

/// Why bytes are not a frame.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FrameError {
    /// No bytes, or more than a frame may have.
    #[error("a frame of {0} bytes")]
    Len(usize),
    /// A version that this build does not know.
    #[error("frame version {0} is not known to this build")]
    Version(u8),
    /// Not the CBOR of a frame, or fields that make no sense.
    #[error("malformed frame: {0}")]
    Malformed(String),
}

/// What one replica sends to another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Frame {
    /// The writer offers its journal of an epoch, which began so.
    Hello { epoch: Epoch, entry: Option<Entry>, session: u64, hello: Hello },
    /// The answer: its records behind `position` are wanted.
    Want { session: u64, position: u64 },
    /// The next piece of the journal.
    Piece(Piece),
    /// The reader cannot go on in this session: the writer may say hello again.
    Stop { session: u64 },
    /// The reader will not read this replica's journal again: its disk was rolled back or replaced.
    Refused { session: u64, reason: String },
    /// A message of the core of an epoch.
    Message(Epoch, Message),
    /// A replica that starts asks to be vouched for.
    Claims { life: u64, claims: Claims },
    /// The sender vouches for the claims of these epochs.
    Vouch { life: u64, vouch: Vouch },
    /// The sender has counted more than the claims say.
    Unvouched { life: u64, reason: String },
    /// Which epochs there are, and how far the sender has come with each.
    Notice(Notice),
}

/// Records of a journal in order, and what holds of it behind them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Piece {
    pub(crate) session: u64,
    /// The records begin behind this base.
    pub(crate) base: Option<PeerBase>,
    pub(crate) records: Vec<Record>,
    /// Absent while the reader is far behind.
    pub(crate) beat: Option<Beat>,
}

#[derive(Encode, Decode)]
enum Wire {
    #[n(0)]
    Hello(#[n(0)] Epoch, #[n(1)] Option<Entry>, #[n(2)] u64, #[n(3)] WireHello),
    #[n(1)]
    Want(#[n(0)] u64, #[n(1)] u64),
    #[n(2)]
    Piece(#[n(0)] WirePiece),
    #[n(3)]
    Stop(#[n(0)] u64),
    #[n(4)]
    Refused(#[n(0)] u64, #[n(1)] String),
    #[n(5)]
    Message(#[n(0)] Epoch, #[n(1)] WireMessage),
    #[n(6)]
    Claims(#[n(0)] u64, #[n(1)] Vec<WireClaim>, #[n(2)] Epoch),
    #[n(7)]
    Vouch(#[n(0)] u64, #[n(1)] Vec<Epoch>, #[n(2)] Epoch),
    #[n(8)]
    Unvouched(#[n(0)] u64, #[n(1)] String),
    #[n(9)]
    Notice(#[n(0)] Vec<WireStanding>, #[n(1)] Epoch),
}

#[derive(Encode, Decode)]
struct WireClaim {
    #[n(0)]
    epoch: Epoch,
    #[n(1)]
    entry: Option<Entry>,
    #[n(2)]
    last: WireHello,
    #[n(3)]
    position: u64,
}

#[derive(Encode, Decode)]
struct WireStanding {
    #[n(0)]
    membership: Membership,
    #[n(1)]
    entered: bool,
    #[n(2)]
    have: bool,
}

#[derive(Encode, Decode)]
struct WireHello {
    #[n(0)]
    incarnation: Incarnation,
    #[n(1)]
    opened: u64,
    #[n(2)]
    opened_at: Timestamp,
}

#[derive(Encode, Decode)]
struct WirePiece {
    #[n(0)]
    session: u64,
    #[n(1)]
    base: Option<WireBase>,
    #[n(2)]
    records: Vec<WireRecord>,
    #[n(3)]
    beat: Option<WireBeat>,
}

#[derive(Encode, Decode)]
struct WireBase {
    #[n(0)]
    position: u64,
    #[n(1)]
    cut: Timestamp,
    #[n(2)]
    opened: WireHello,
}

#[derive(Encode, Decode)]
struct WireBeat {
    #[n(0)]
    appended: u64,
    #[n(1)]
    durable: u64,
    #[n(2)]
    promise: Timestamp,
    #[n(3)]
    reading: Timestamp,
    #[n(4)]
    stored: Timestamp,
}

#[derive(Encode, Decode)]
struct WireRecord {
    #[cbor(n(0), with = "minicbor::bytes")]
    header: [u8; RecordHeader::LEN],
    /// Salt and body; absent where the record has no body.
    #[n(1)]
    body: Option<WireBody>,
}

#[derive(Encode, Decode)]
struct WireBody {
    #[cbor(n(0), with = "minicbor::bytes")]
    salt: [u8; 32],
    #[n(1)]
    bytes: ByteVec,
}

#[derive(Encode, Decode)]
enum WireMessage {
    #[n(0)]
    Fetch(#[n(0)] CommandId),
    #[n(1)]
    Fetched(#[n(0)] WireFetched),
    #[n(2)]
    Settled(#[n(0)] CommandId, #[n(1)] Timestamp),
    #[n(3)]
    Ask(#[n(0)] u64, #[n(1)] Vec<u16>),
    #[n(4)]
    Answer(#[n(0)] WireAnswer),
}

#[derive(Encode, Decode)]
struct WireFetched {
    #[n(0)]
    id: CommandId,
    #[n(1)]
    t0: Timestamp,
    #[n(2)]
    quorum: u64,
    #[n(3)]
    body: WireBody,
    #[cbor(n(4), with = "minicbor::bytes")]
    body_hash: [u8; 32],
    #[n(5)]
    decision: Option<Timestamp>,
}

#[derive(Encode, Decode)]
struct WireAnswer {
    #[n(0)]
    read: u64,
    #[n(1)]
    by: WireHello,
    #[n(2)]
    pending: Vec<CommandId>,
    /// The last place executed in each slot that was asked for; absent: all at or below `cut`.
    #[n(3)]
    slots: Option<Vec<WirePlace>>,
    #[n(4)]
    cut: Option<Timestamp>,
}

#[derive(Encode, Decode)]
struct WirePlace(#[n(0)] Timestamp, #[n(1)] CommandId);

impl Frame {
    /// The frame's bytes.
    pub(crate) fn to_bytes(&self) -> Bytes {
        encode(&match self {
            Self::Hello { epoch, entry, session, hello } => Wire::Hello(*epoch, *entry, *session, (*hello).into()),
            Self::Want { session, position } => Wire::Want(*session, *position),
            Self::Piece(piece) => Wire::Piece(piece.into()),
            Self::Stop { session } => Wire::Stop(*session),
            Self::Refused { session, reason } => Wire::Refused(*session, reason.clone()),
            Self::Message(epoch, message) => Wire::Message(*epoch, message.into()),
            Self::Claims { life, claims } => {
                Wire::Claims(*life, claims.epochs.iter().copied().map(Into::into).collect(), claims.over)
            }
            Self::Vouch { life, vouch } => Wire::Vouch(*life, vouch.epochs.clone(), vouch.over),
            Self::Unvouched { life, reason } => Wire::Unvouched(*life, reason.clone()),
            Self::Notice(notice) => Wire::Notice(notice.epochs.iter().cloned().map(Into::into).collect(), notice.over),
        })
    }

    /// The inverse of [`Frame::to_bytes`].
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, FrameError> {
        let malformed = |error: &dyn core::fmt::Display| FrameError::Malformed(error.to_string());
        let (version, rest) = bytes.split_first().ok_or(FrameError::Len(0))?;
        if bytes.len() > PEER_FRAME_LEN_MAX {
            return Err(FrameError::Len(bytes.len()));
        }
        if *version != VERSION {
            return Err(FrameError::Version(*version));
        }
        let mut decoder = minicbor::Decoder::new(rest);
        let wire: Wire = decoder.decode().map_err(|error| malformed(&error))?;
        if decoder.position() != rest.len() {
            return Err(malformed(&"bytes are left over"));
        }
        Ok(match wire {
            Wire::Hello(epoch, entry, session, hello) => Self::Hello { epoch, entry, session, hello: hello.into() },
            Wire::Want(session, position) => Self::Want { session, position },
            Wire::Piece(piece) => Self::Piece(piece.try_into()?),
            Wire::Stop(session) => Self::Stop { session },
            Wire::Refused(session, reason) => Self::Refused { session, reason },
            Wire::Message(epoch, message) => Self::Message(epoch, message.try_into()?),
            Wire::Claims(life, epochs, over) => {
                Self::Claims { life, claims: Claims { epochs: epochs.into_iter().map(Into::into).collect(), over } }
            }
            Wire::Vouch(life, epochs, over) => Self::Vouch { life, vouch: Vouch { epochs, over } },
            Wire::Unvouched(life, reason) => Self::Unvouched { life, reason },
            Wire::Notice(epochs, over) => {
                Self::Notice(Notice { epochs: epochs.into_iter().map(Into::into).collect(), over })
            }
        })
    }
}

fn encode(wire: &Wire) -> Bytes {
    let mut out = vec![VERSION];
    minicbor::encode(wire, &mut out).expect("writing to a vector cannot fail");
    out.into()
}

impl From<EpochClaim> for WireClaim {
    fn from(claim: EpochClaim) -> Self {
        let EpochClaim { epoch, entry, claim: Claim { last, position } } = claim;
        Self { epoch, entry, last: last.into(), position }
    }
}

impl From<WireClaim> for EpochClaim {
    fn from(claim: WireClaim) -> Self {
        let WireClaim { epoch, entry, last, position } = claim;
        Self { epoch, entry, claim: Claim { last: last.into(), position } }
    }
}

impl From<Standing> for WireStanding {
    fn from(standing: Standing) -> Self {
        let Standing { membership, entered, have } = standing;
        Self { membership, entered, have }
    }
}

impl From<WireStanding> for Standing {
    fn from(standing: WireStanding) -> Self {
        let WireStanding { membership, entered, have } = standing;
        Self { membership, entered, have }
    }
}

impl From<Hello> for WireHello {
    fn from(hello: Hello) -> Self {
        Self { incarnation: hello.incarnation, opened: hello.opened, opened_at: hello.opened_at }
    }
}

impl From<WireHello> for Hello {
    fn from(hello: WireHello) -> Self {
        Self { incarnation: hello.incarnation, opened: hello.opened, opened_at: hello.opened_at }
    }
}

impl From<&Piece> for WirePiece {
    fn from(piece: &Piece) -> Self {
        Self {
            session: piece.session,
            base: piece.base.map(Into::into),
            records: piece.records.iter().map(Into::into).collect(),
            beat: piece.beat.map(Into::into),
        }
    }
}

impl TryFrom<WirePiece> for Piece {
    type Error = FrameError;

    fn try_from(piece: WirePiece) -> Result<Self, FrameError> {
        Ok(Self {
            session: piece.session,
            base: piece.base.map(Into::into),
            records: piece.records.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            beat: piece.beat.map(Into::into),
        })
    }
}

impl From<PeerBase> for WireBase {
    fn from(base: PeerBase) -> Self {
        let opened = WireHello { incarnation: base.incarnation, opened: base.opened, opened_at: base.opened_at };
        Self { position: base.position, cut: base.cut, opened }
    }
}

impl From<WireBase> for PeerBase {
    fn from(base: WireBase) -> Self {
        let WireBase { position, cut, opened: WireHello { incarnation, opened, opened_at } } = base;
        Self { position, cut, incarnation, opened, opened_at }
    }
}

impl From<Beat> for WireBeat {
    fn from(beat: Beat) -> Self {
        let Beat { appended, durable, promise, reading, stored } = beat;
        Self { appended, durable, promise, reading, stored }
    }
}

impl From<WireBeat> for Beat {
    fn from(beat: WireBeat) -> Self {
        let WireBeat { appended, durable, promise, reading, stored } = beat;
        Self { appended, durable, promise, reading, stored }
    }
}

impl From<&Record> for WireRecord {
    fn from(record: &Record) -> Self {
        let body = WireBody { salt: record.salt, bytes: record.body.to_vec().into() };
        Self { header: record.header.to_bytes(), body: (!record.body.is_empty()).then_some(body) }
    }
}

impl TryFrom<WireRecord> for Record {
    type Error = FrameError;

    /// A body must be as long as the header says, and the one that it names.
    fn try_from(record: WireRecord) -> Result<Self, FrameError> {
        let malformed = |reason: &dyn core::fmt::Display| FrameError::Malformed(reason.to_string());
        let header = RecordHeader::from_bytes(&record.header).map_err(|error| malformed(&error))?;
        let (salt, body) = match record.body {
            Some(body) => (body.salt, Bytes::from(Vec::from(body.bytes))),
            None => ([0; 32], Bytes::new()),
        };
        if !body.is_empty() {
            let is_its =
                body.len() == header.body_len as usize && types::journal::body_hash(&salt, &body) == header.body_hash;
            if !is_its {
                return Err(malformed(&format_args!("the body of record {} is another one", header.position)));
            }
        }
        Ok(Self { header, salt, body })
    }
}

impl From<&Message> for WireMessage {
    fn from(message: &Message) -> Self {
        match message {
            Message::Fetch { id } => Self::Fetch(*id),
            Message::Fetched(fetched) => Self::Fetched(WireFetched {
                id: fetched.id,
                t0: fetched.t0,
                quorum: fetched.quorum,
                body: WireBody { salt: fetched.salt, bytes: fetched.body.to_vec().into() },
                body_hash: fetched.body_hash,
                decision: fetched.decision,
            }),
            Message::Settled { id, cut } => Self::Settled(*id, *cut),
            Message::Ask { read, slots } => Self::Ask(*read, from_slots(slots)),
            Message::Answer { read, by, pending, watermark } => {
                let (slots, cut) = match watermark {
                    Watermark::Slots(places) => {
                        (Some(places.iter().map(|(timestamp, id)| WirePlace(*timestamp, *id)).collect()), None)
                    }
                    Watermark::Cut(cut) => (None, Some(*cut)),
                };
                Self::Answer(WireAnswer { read: *read, by: (*by).into(), pending: pending.clone(), slots, cut })
            }
        }
    }
}

impl TryFrom<WireMessage> for Message {
    type Error = FrameError;

    fn try_from(message: WireMessage) -> Result<Self, FrameError> {
        Ok(match message {
            WireMessage::Fetch(id) => Self::Fetch { id },
            WireMessage::Fetched(fetched) => Self::Fetched(Fetched {
                id: fetched.id,
                t0: fetched.t0,
                quorum: fetched.quorum,
                salt: fetched.body.salt,
                body: Bytes::from(Vec::from(fetched.body.bytes)),
                body_hash: fetched.body_hash,
                decision: fetched.decision,
            }),
            WireMessage::Settled(id, cut) => Self::Settled { id, cut },
            WireMessage::Ask(read, slots) => Self::Ask { read, slots: to_slots(slots)? },
            WireMessage::Answer(answer) => {
                let watermark = match (answer.slots, answer.cut) {
                    (Some(places), None) => {
                        Watermark::Slots(places.into_iter().map(|place| (place.0, place.1)).collect())
                    }
                    (None, Some(cut)) => Watermark::Cut(cut),
                    _ => return Err(FrameError::Malformed("a watermark is by slots or by a cut".to_owned())),
                };
                Self::Answer { read: answer.read, by: answer.by.into(), pending: answer.pending, watermark }
            }
        })
    }
}

/// Slots as numbers; none stands for all.
fn from_slots(slots: &SlotSet) -> Vec<u16> {
    match slots {
        SlotSet::All => Vec::new(),
        SlotSet::Some(slots) => slots.iter().map(|slot| slot.0).collect(),
    }
}

fn to_slots(slots: Vec<u16>) -> Result<SlotSet, FrameError> {
    if slots.is_empty() {
        return Ok(SlotSet::All);
    }
    let rise = slots.windows(2).all(|pair| pair[0] < pair[1]);
    if !rise || slots.iter().any(|slot| *slot >= SLOTS) {
        return Err(FrameError::Malformed("slots rise and are in range".to_owned()));
    }
    Ok(SlotSet::Some(slots.into_iter().map(Slot).collect()))
}

#[cfg(test)]
mod tests;

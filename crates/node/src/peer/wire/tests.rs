//! Frames come back from their bytes, and have the documented ones.

#![allow(clippy::unwrap_used)]

use super::*;
use types::journal::{RecordKind, body_hash};
use types::{Epoch, ReplicaId};

fn hello() -> Hello {
    Hello { incarnation: Incarnation(2), opened: 7, opened_at: Timestamp(1_000) }
}

fn entry() -> Entry {
    Entry { reconfig: id(7), at: Timestamp(500) }
}

fn id(counter: u64) -> CommandId {
    CommandId { replica: ReplicaId(3), incarnation: Incarnation(2), counter }
}

fn record(position: u64, body: &'static [u8]) -> Record {
    let salt = [9; 32];
    let header = RecordHeader {
        kind: RecordKind::Ack,
        flags: 0,
        epoch: Epoch(1),
        position,
        id: id(1),
        timestamp: Timestamp(5),
        ballot: 0,
        aux: 0,
        body_len: u32::try_from(body.len()).unwrap(),
        body_hash: if body.is_empty() { [0; 32] } else { body_hash(&salt, body) },
    };
    Record { header, salt: if body.is_empty() { [0; 32] } else { salt }, body: Bytes::from_static(body) }
}

fn base() -> PeerBase {
    PeerBase { position: 5, cut: Timestamp(4), incarnation: Incarnation(1), opened: 1, opened_at: Timestamp(3) }
}

fn beat() -> Beat {
    let [promise, reading, stored] = [30, 40, 20].map(Timestamp);
    Beat { appended: 8, durable: 7, promise, reading, stored }
}

fn frames() -> Vec<Frame> {
    let fetched = Fetched {
        id: id(1),
        t0: Timestamp(4),
        quorum: 3,
        salt: [9; 32],
        body: Bytes::from_static(b"body"),
        body_hash: body_hash(&[9; 32], b"body"),
        decision: Some(Timestamp(6)),
    };
    let claim = EpochClaim { epoch: Epoch(2), entry: Some(entry()), claim: Claim { last: hello(), position: 9 } };
    let members = [1, 2, 4].map(ReplicaId).to_vec();
    let membership = Membership { epoch: Epoch(2), members, f: 1, logic: 1, entry: Some(entry()) };
    let standing = Standing { membership, entered: true, have: false };
    let message = |message| Frame::Message(Epoch(1), message);
    let answer = |watermark| Message::Answer { read: 1, by: hello(), pending: vec![id(1), id(2)], watermark };
    vec![
        Frame::Hello { epoch: Epoch(1), entry: None, session: 1, hello: hello() },
        Frame::Hello { epoch: Epoch(2), entry: Some(entry()), session: 1, hello: hello() },
        Frame::Want { session: 1, position: 6 },
        Frame::Piece(Piece { session: 1, base: None, records: vec![], beat: Some(beat()) }),
        Frame::Piece(Piece {
            session: 2,
            base: Some(base()),
            records: vec![record(6, b""), record(7, b"entangle")],
            beat: None,
        }),
        Frame::Stop { session: 1 },
        Frame::Refused { session: 1, reason: "rolled back".to_owned() },
        message(Message::Fetch { id: id(1) }),
        message(Message::Fetched(fetched)),
        message(Message::Settled { id: id(1), cut: Timestamp(9) }),
        message(Message::Ask { read: 1, slots: SlotSet::All }),
        message(Message::Ask { read: 1, slots: SlotSet::of(vec![Slot(1), Slot(4095)]) }),
        message(answer(Watermark::Cut(Timestamp(8)))),
        message(answer(Watermark::Slots(vec![(Timestamp(8), id(1))]))),
        Frame::Claims { life: 5, claims: Claims { epochs: vec![claim], over: Epoch(1) } },
        Frame::Vouch { life: 5, vouch: Vouch { epochs: vec![Epoch(2)], over: Epoch(1) } },
        Frame::Unvouched { life: 5, reason: "short".to_owned() },
        Frame::Notice(Notice { epochs: vec![standing], over: Epoch(1) }),
    ]
}

#[test]
fn every_frame_comes_back_from_its_bytes() {
    for frame in frames() {
        let bytes = frame.to_bytes();
        assert_eq!(Frame::from_bytes(&bytes).as_ref(), Ok(&frame));
        for end in 0..bytes.len() {
            assert!(Frame::from_bytes(&bytes[..end]).is_err(), "{frame:?} cut at {end}");
        }
        assert!(Frame::from_bytes(&[&bytes[..], &[0]].concat()).is_err(), "{frame:?} and a byte more");
    }
    assert_eq!(Frame::from_bytes(&[1, 0]), Err(FrameError::Version(1)));
}

/// The vectors of `docs/formats/peer.md`.
#[test]
fn frames_have_the_documented_bytes() {
    let document = include_str!("../../../../../docs/formats/peer.md");
    let documented: Vec<&str> = document
        .lines()
        .skip_while(|line| !line.starts_with("## Test vectors"))
        .filter_map(|line| line.strip_suffix("` |")?.rsplit_once('`').map(|(_, hex)| hex))
        .collect();
    let made: Vec<String> =
        frames().iter().map(|frame| frame.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect()).collect();
    assert_eq!(documented, made);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let piece = |record| Frame::Piece(Piece { records: vec![record], ..Piece::default() }).to_bytes();
    let mut other = record(1, b"entangle");
    other.body = Bytes::from_static(b"entangl_");
    assert!(matches!(Frame::from_bytes(&piece(other)), Err(FrameError::Malformed(_))));
    let mut longer = record(1, b"entangle");
    longer.header.body_len += 1;
    assert!(matches!(Frame::from_bytes(&piece(longer)), Err(FrameError::Malformed(_))));
    for slots in [vec![1, 1], vec![2, 1], vec![4096]] {
        assert!(to_slots(slots).is_err());
    }
}

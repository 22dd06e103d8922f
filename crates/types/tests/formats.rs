//! The vectors of `docs/formats.md`, computed and compared: document and code cannot drift apart.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};
use types::journal::{
    BatchHead, RecordHeader, RecordKind, body_hash, decode_proposal, encode_proposal, encode_reconfig, reconfig_of,
};
use types::{ClusterId, CommandId, Epoch, GroupId, Incarnation, OrderKey, ReplicaId, Slot, SlotSet, Timestamp};

const DOCUMENT: &str = include_str!("../../../docs/formats.md");

const ID: CommandId = CommandId { replica: ReplicaId(1), incarnation: Incarnation(2), counter: 3 };
const TIMESTAMP: Timestamp = Timestamp(1_700_000_000_000_000_123);
const ORDER: OrderKey = OrderKey { timestamp: TIMESTAMP, id: ID, item: 4 };
const SALT: [u8; 32] = [0x5a; 32];

fn proposal() -> Vec<u8> {
    encode_proposal(&SlotSet::of(vec![Slot(4095), Slot(1), Slot(4095)]), b"payload")
}

fn header() -> RecordHeader {
    let body = proposal();
    RecordHeader {
        kind: RecordKind::Propose,
        flags: 0,
        epoch: Epoch(1),
        position: 5,
        id: ID,
        timestamp: TIMESTAMP,
        ballot: 0,
        aux: 1,
        body_len: u32::try_from(body.len()).unwrap(),
        body_hash: body_hash(&SALT, &body),
    }
}

fn leaf() -> [u8; 32] {
    Sha256::new().chain_update([0]).chain_update(header().to_bytes()).finalize().into()
}

fn head() -> BatchHead {
    BatchHead {
        cluster: ClusterId([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]),
        group: GroupId(1),
        epoch: Epoch(1),
        replica: ReplicaId(1),
        incarnation: Incarnation(2),
        position: 5,
        count: 1,
        previous: [0x11; 32],
        root: leaf(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the code says of a vector of this name.
fn computed(name: &str) -> Option<String> {
    if let Some(path) = name.strip_prefix("slot ") {
        let (bucket, key) = path.split_once('/')?;
        return Some(hex(&Slot::of(bucket, key).0.to_be_bytes()));
    }
    Some(match name {
        "command-id" => hex(&ID.to_bytes()),
        "order-key" => hex(&ORDER.to_bytes()),
        "order-key-block" => hex(&OrderKey::block(TIMESTAMP.tick_end()).to_bytes()),
        "proposal-all" => hex(&encode_proposal(&SlotSet::All, b"payload")),
        "proposal-reconfig" => hex(&encode_reconfig(b"payload")),
        "proposal-some" => hex(&proposal()),
        "body-hash" => hex(&header().body_hash),
        "record-header" => hex(&header().to_bytes()),
        "leaf" => hex(&leaf()),
        "batch-head" => hex(&head().to_bytes()),
        "batch-head-hash" => hex(&head().hash()),
        _ => return None,
    })
}

/// Name and hex of every line in a block fenced as `vectors`. Indented lines continue the line before.
fn documented() -> BTreeMap<String, String> {
    let mut vectors = BTreeMap::new();
    let mut inside = false;
    let mut last = String::new();
    for line in DOCUMENT.lines() {
        if line.starts_with("```") {
            inside = line == "```vectors";
        } else if inside && line.starts_with(' ') {
            let value: &mut String = vectors.get_mut(&last).expect("a continued line follows a vector");
            value.push_str(&line.replace(' ', ""));
        } else if inside {
            let (name, value) = line.split_once("  ").expect("two blanks between name and value");
            name.clone_into(&mut last);
            assert!(vectors.insert(last.clone(), value.replace(' ', "")).is_none(), "{name} stands there twice");
        }
    }
    vectors
}

#[test]
fn the_document_and_the_code_agree() {
    let documented = documented();
    assert!(documented.len() >= 14, "only {} vectors found", documented.len());
    for (name, value) in documented {
        let computed = computed(&name).unwrap_or_else(|| panic!("the test does not know the vector {name}"));
        assert_eq!(computed, value, "{name}");
    }
}

#[test]
fn what_is_encoded_is_decoded() {
    assert_eq!(CommandId::from_bytes(&ID.to_bytes()), ID);
    assert_eq!(OrderKey::from_bytes(&ORDER.to_bytes()), ORDER);
    assert_eq!(OrderKey::from_hex(&ORDER.to_hex()), Some(ORDER));
    assert_eq!(OrderKey::from_hex(&ORDER.to_hex().to_uppercase()), None);
    assert_eq!(RecordHeader::from_bytes(&header().to_bytes()), Ok(header()));
    assert_eq!(BatchHead::from_bytes(&head().to_bytes()), Ok(head()));
    let (slots, start) = decode_proposal(&proposal()).unwrap();
    assert_eq!(slots, SlotSet::Some(vec![Slot(1), Slot(4095)]));
    assert_eq!(&proposal()[start..], b"payload");
}

#[test]
fn a_block_stands_above_its_commands_and_below_the_next() {
    let cut = TIMESTAMP.tick_end();
    let last = OrderKey { timestamp: cut, id: ID, item: 4 };
    let next = OrderKey { timestamp: cut.next(), id: CommandId::default(), item: 0 };
    let block = OrderKey::block(cut);
    assert!(last.to_bytes() < block.to_bytes() && last < block);
    assert!(block.to_bytes() < next.to_bytes() && block < next);
}

#[test]
fn a_set_reserved_byte_or_an_unknown_version_is_refused() {
    for at in 60..64 {
        let mut bytes = header().to_bytes();
        bytes[at] = 1;
        assert!(RecordHeader::from_bytes(&bytes).is_err());
    }
    for at in 44..48 {
        let mut bytes = head().to_bytes();
        bytes[at] = 1;
        assert!(BatchHead::from_bytes(&bytes).is_err());
    }
    for (at, value) in [(0, 0), (0, 2), (1, 0), (1, 15)] {
        let mut bytes = header().to_bytes();
        bytes[at] = value;
        assert!(RecordHeader::from_bytes(&bytes).is_err());
    }
}

#[test]
fn a_reconfig_touches_every_slot_and_is_told_apart() {
    let body = encode_reconfig(b"payload");
    assert_eq!(decode_proposal(&body), Ok((SlotSet::All, 2)));
    assert_eq!(reconfig_of(&body), Some(&b"payload"[..]));
    assert_eq!(reconfig_of(&encode_proposal(&SlotSet::All, b"payload")), None);
}

#[test]
fn malformed_proposals_are_refused() {
    let malformed: [&[u8]; 7] = [
        b"",
        b"\x00",
        b"\x00\x00payload",          // no slot
        b"\x00\x02\x00\x01",         // cut short
        b"\x00\x02\x00\x01\x00\x01", // double
        b"\x00\x02\x00\x02\x00\x01", // falling
        b"\x00\x01\x10\x00",         // slot 4096
    ];
    for body in malformed {
        assert!(decode_proposal(body).is_err(), "{body:?}");
    }
}

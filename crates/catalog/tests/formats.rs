//! The vectors of `docs/formats/commands.md` and `docs/formats/catalog.md`, computed and compared: documents
//! and code cannot drift apart.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;

use catalog::digest::StateDigest;
use catalog::rows::body_key;
use catalog::testing::MemoryState;
use catalog::{execute, query};
use common::ops;
use types::command::*;
use types::object::*;
use types::state::Table;
use types::{CommandId, Incarnation, Op, OrderKey, Outcome, Refusal, ReplicaId, Timestamp};

const COMMANDS: &str = include_str!("../../../docs/formats/commands.md");
const CATALOG: &str = include_str!("../../../docs/formats/catalog.md");

const NOW: Timestamp = Timestamp(1_700_000_000_000_000_123);

fn command(op: Op) -> Command {
    let request = Some(RequestToken { id: "call-1".to_owned(), digest: [0x22; 32] });
    Command { salt: [0x11; 32], principal: "AKIA".to_owned(), request, op }
}

fn put() -> PutObject {
    PutObject {
        checksum: Some(ops::checksum(ChecksumAlgorithm::Crc32, ChecksumKind::FullObject, &[1, 2, 3, 4])),
        metadata: Metadata {
            content_type: Some("text/plain".to_owned()),
            user: vec![("a".to_owned(), "b".to_owned())],
            ..Metadata::default()
        },
        condition: ops::if_absent(),
        ..ops::put_object("photos", "a\0b", "hello")
    }
}

fn copy() -> CopyObject {
    let mut copy = ops::copy_object("from", "to");
    copy.source.version = Some(VersionSelector::Null);
    copy
}

fn order(counter: u64) -> OrderKey {
    let id = CommandId { replica: ReplicaId(1), incarnation: Incarnation(2), counter };
    OrderKey { timestamp: NOW.plus_ns(counter), id, item: 0 }
}

fn chunks() -> Vec<Chunk> {
    vec![Chunk { len: 4_194_304, digest: [0x33; 32] }, Chunk { len: 1, digest: [0x44; 32] }]
}

fn upload_ops(upload: OrderKey) -> [Op; 4] {
    let key = |op: Op| match op {
        Op::CreateUpload(op) => Op::CreateUpload(CreateUpload { bucket: "photos".to_owned(), ..op }),
        other => other,
    };
    let placement = Placement { id: PlacementId([0x55; 16]), placed_at: NOW, chunks: chunks() };
    let mut part = ops::small_part("key", upload, 1, "");
    part.bucket = "photos".to_owned();
    part.len = placement.len();
    part.digest = ops::content_digest(&placement.chunks);
    part.body = Body::Placed(placement);
    let mut tail = ops::small_part("key", upload, 2, "tail");
    tail.bucket = "photos".to_owned();
    let mut complete = ops::complete("key", upload, vec![ops::listed(&part)]);
    complete.bucket = "photos".to_owned();
    [key(ops::create_upload("key", None)), Op::UploadPart(part), Op::UploadPart(tail), Op::CompleteUpload(complete)]
}

/// A state with a row of every kind; counters of commands are those in the document.
fn state() -> MemoryState {
    let mut state = MemoryState::default();
    let genesis = Genesis {
        cluster: types::ClusterId([0x66; 16]),
        origin: "example.org/log".to_owned(),
        members: vec![Member { replica: ReplicaId(1), name: "node-1".to_owned(), key: [0x77; 32] }],
        quorum: 1,
    };
    let mut ops = vec![
        Op::Genesis(genesis),
        ops::create_bucket("photos"),
        ops::enable("photos"),
        Op::PutObject(put()),
        Op::PutObject(PutObject { condition: Condition::default(), ..put() }),
        ops::put_key("AKIA"),
    ];
    ops.extend(upload_ops(order(7)));
    ops.extend(upload_ops(order(11)).into_iter().take(1));
    for (counter, op) in (1..).zip(ops) {
        let mut command = command(op);
        command.request = (counter == 5).then(|| command.request.unwrap());
        let at = order(counter);
        let done = execute(&state, at.timestamp, at.id, &command).unwrap();
        assert!(!matches!(done.outcome, Outcome::Refused(_)), "{counter}: {:?}", done.outcome);
        state.apply(&done.writes);
    }
    state
}

/// The row of a table whose key starts so.
fn row(table: Table, tag: &str) -> (String, String) {
    let state = state();
    let (key, value) = state.rows[&table].iter().find(|(key, _)| key.starts_with(tag.as_bytes())).unwrap();
    (hex(key), hex(value))
}

fn digest() -> StateDigest {
    let mut digest = StateDigest::new();
    digest.add(b"key", b"value");
    digest.add(b"ke", b"yvalue");
    digest
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the code says of a vector of this name.
fn computed(name: &str) -> Option<String> {
    let encoded = |op| hex(&command(op).to_bytes().unwrap());
    if let Some((table, tag)) = name.strip_prefix("key ").map(|tag| (Table::Catalog, tag)) {
        return Some(row(table, tag).0);
    }
    if let Some(tag) = name.strip_prefix("value ") {
        return Some(row(Table::Catalog, tag).1);
    }
    if let Some(tag) = name.strip_prefix("retry-key ") {
        return Some(row(Table::Retry, tag).0);
    }
    if let Some(tag) = name.strip_prefix("retry-value ") {
        return Some(row(Table::Retry, tag).1);
    }
    Some(match name {
        "put-object" => encoded(Op::PutObject(put())),
        "barrier" => encoded(Op::Barrier),
        "admit-node" => encoded(Op::AdmitNode(AdmitNode {
            token: [0x55; 32],
            expires_s: 1_800_003_600,
            identity: [0x66; 32],
            key: [0x77; 32],
            region: "us-east4".to_owned(),
            mesh: "a.example:9700".to_owned(),
            label: "node-a".to_owned(),
        })),
        "create-bucket" => encoded(ops::create_bucket("photos")),
        "delete-objects" => encoded(ops::delete("photos", "key", Some(VersionSelector::Id(order(4))))),
        "copy-object" => encoded(Op::CopyObject(copy())),
        "upload-part" => encoded(upload_ops(order(7))[1].clone()),
        "complete-upload" => encoded(upload_ops(order(7))[3].clone()),
        "put-zone" => {
            let (zone, holders) = ("photos/".to_owned(), Holders::These(vec![ReplicaId(1), ReplicaId(3)]));
            encoded(Op::PutZone(PutZone { zone, holders, home: Some(ReplicaId(2)) }))
        }
        "outcome-done" => hex(&minicbor::to_vec(Outcome::Done).unwrap()),
        "outcome-refused" => hex(&minicbor::to_vec(Outcome::Refused(Refusal::InvalidPart(7))).unwrap()),
        "outcome-admit" => hex(&minicbor::to_vec(Outcome::Admitted(ReplicaId(4))).unwrap()),
        "outcome-upload" => hex(&minicbor::to_vec(Outcome::UploadCreated(order(7))).unwrap()),
        "content-empty" => hex(blake3::hash(b"").as_bytes()),
        "content-inline" => hex(&put().digest),
        "content-one-chunk" => hex(&ops::content_digest(&chunks()[..1])),
        "content-two-chunks" => hex(&ops::content_digest(&chunks())),
        "body-key" => hex(&body_key(order(9), 2)),
        "digest-empty" => hex(&StateDigest::new().sha256()),
        "digest-lanes" => hex(&digest().to_bytes()[..32]),
        "digest" => hex(&digest().sha256()),
        "digest-of-state" => hex(&state().digest.sha256()),
        _ => return None,
    })
}

/// Name and hex of every line in a block fenced as `vectors`. Indented lines continue the line before.
fn documented(document: &str) -> BTreeMap<String, String> {
    let mut vectors = BTreeMap::new();
    let mut inside = false;
    let mut last = String::new();
    for line in document.lines() {
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

fn check(document: &str, at_least: usize) {
    let documented = documented(document);
    assert!(documented.len() >= at_least, "only {} vectors found", documented.len());
    let mut wrong = String::new();
    for (name, value) in documented {
        let computed = computed(&name).unwrap_or_else(|| panic!("the test does not know the vector {name}"));
        if computed != value {
            wrong.push_str(&format!("{name}  {computed}\n"));
        }
    }
    assert!(wrong.is_empty(), "the code says:\n{wrong}");
}

#[test]
fn the_commands_document_and_the_code_agree() {
    check(COMMANDS, 13);
}

#[test]
fn the_catalog_document_and_the_code_agree() {
    check(CATALOG, 22);
}

/// What the code itself computes of several chunks is what the document says of them.
#[test]
fn the_content_digest_of_two_chunks_is_accepted() {
    let state = state();
    let holder = query::object(&state, "photos", "key", None).unwrap().unwrap();
    assert_eq!(holder.digest, ops::content_digest(&chunks()));
}

#[test]
fn rows_of_another_version_or_with_bytes_left_over_are_refused() {
    let good = state();
    let (key, value) = good.rows[&Table::Catalog].iter().find(|(key, _)| key.starts_with(b"bphotos")).unwrap();
    let broken = |value: Vec<u8>| {
        let mut state = good.clone();
        let write = types::state::Write { table: Table::Catalog, key: key.clone(), value: Some(value.into()) };
        state.apply(&[write]);
        query::bucket(&state, "photos").is_err()
    };
    let mut other = value.to_vec();
    other[0] = 2;
    assert!(broken(other));
    assert!(broken([value.as_ref(), &[0]].concat()));
    assert!(broken(value[..value.len() - 1].to_vec()));
    assert!(broken(Vec::new()));
    assert!(!broken(value.to_vec()));
}

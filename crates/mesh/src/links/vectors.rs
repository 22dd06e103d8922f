//! The vectors of `docs/formats/mesh.md`, computed and compared: document and code cannot drift apart.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use bytes::Bytes;
use types::{ClusterId, ReplicaId};

use super::config::Versions;
use super::frame::{self, Kind};
use super::greeting::{Hello, Welcome};
use super::identity::{self, JoinRequest};
use super::probe::Datagram;
use super::refusal::RefusalKind;

const DOCUMENT: &str = include_str!("../../../../docs/formats/mesh.md");

/// Name and hex of every line in a block fenced as `vectors`. Indented lines continue the line before.
fn documented() -> BTreeMap<String, String> {
    let mut vectors: BTreeMap<String, String> = BTreeMap::new();
    let (mut inside, mut last) = (false, String::new());
    for line in DOCUMENT.lines() {
        if line.starts_with("```") {
            inside = line == "```vectors";
        } else if inside {
            let (name, value) =
                if line.starts_with(' ') { (last.as_str(), line) } else { line.split_once(' ').unwrap() };
            last = name.to_owned();
            vectors.entry(last.clone()).or_default().push_str(&value.replace(' ', ""));
        }
    }
    vectors
}

fn computed() -> BTreeMap<String, String> {
    let cluster = ClusterId(core::array::from_fn(|at| at as u8));
    let versions = Versions { min: 1, max: 3 };
    let (from, to) = (ReplicaId(2), ReplicaId(7));
    let (instance, link, ended) = (0x1111_1111_1111_1111, 0x2222_2222_2222_2222, 0x3333_3333_3333_3333);
    let hello = Hello { versions, cluster, from, to, instance, link, ended }.encode();
    let welcome = Welcome { version: 1, from: to, instance: 0x4444_4444_4444_4444 }.encode();
    assert_eq!(Hello::decode(&hello).map(|hello| hello.encode()), Some(hello.clone()));
    assert_eq!(Welcome::decode(&welcome).map(|welcome| welcome.encode()), Some(welcome.clone()));
    let (pin, token, ticket, name) = identity::example_token(cluster);
    assert!(DOCUMENT.lines().any(|line| line == token.0), "{}", token.0);
    let join = JoinRequest {
        versions: Versions { min: 1, max: 1 },
        ticket,
        name: "tokyo-1".to_owned(),
        introduction: Bytes::from_static(b"hi"),
    };
    assert_eq!(JoinRequest::decode(join.encode()), Some(join.clone()));
    [
        ("hello", hello),
        ("welcome", welcome),
        ("urgent", frame::encode(Kind::Urgent, b"now")),
        ("probe", Datagram::Probe(5).encode()),
        ("echo", Datagram::Echo(5).encode()),
        ("pin", Bytes::copy_from_slice(&pin)),
        ("token", Bytes::from(token.1)),
        ("token-name", Bytes::copy_from_slice(&name)),
        ("join", join.encode()),
    ]
    .into_iter()
    .map(|(name, bytes)| (name.to_owned(), hex::encode(bytes)))
    .collect()
}

#[test]
fn the_document_and_the_code_agree() {
    assert_eq!(documented(), computed());
}

/// The tables of kinds and codes.
#[test]
fn every_kind_and_code_is_documented() {
    for kind in Kind::ALL {
        let entry = format!("{} `{kind:?}`", kind as u8);
        assert!(DOCUMENT.contains(&entry), "{entry}");
    }
    for code in 1..=63 {
        let kind = RefusalKind::from_code(code);
        let documented = DOCUMENT.contains(&format!("| {code} | "));
        assert_eq!(documented, kind != RefusalKind::Other || code == 63, "code {code}");
        assert!(kind == RefusalKind::Other || u64::from(kind.code()) == code);
    }
}

//! Keys, notes, checkpoints, cosignatures, policies, tile paths and side records, taken apart by hand.
#![allow(clippy::unwrap_used)]

mod common;

use common::{ORIGIN, TestSigner, fact, members, order};
use ledger::checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint, is_origin};
use ledger::note::{KeyError, KeyKind, Note, NoteError, VerifierKey};
use ledger::policy::{CheckError, PolicyError};
use ledger::proof::{ProofTextError, TlogProof};
use ledger::side::{NameOpening, OpenError, SideError, SideRecord, opens, shortened};
use ledger::tile::{BundleError, TileError, TileKind, TilePath, bundle, unbundle};
use ledger::{Entry, Policy};
use types::fact::FactKind;
use types::limits::SIDE_LEN_MAX;
use types::sign::Signer as _;
use types::{Epoch, GroupId};

fn key(name: &str, kind: KeyKind, seed: u8) -> VerifierKey {
    VerifierKey::new(name, kind, &TestSigner::new(seed).public_key()).unwrap()
}

fn witnesses(count: u8) -> String {
    (1..=count)
        .map(|n| format!("witness w{n} {}\n", key(&format!("w{n}.example"), KeyKind::Cosignature, n + 10)))
        .collect()
}

fn policy(rules: &str) -> Result<Policy, PolicyError> {
    let log = key(ORIGIN, KeyKind::Ed25519, 1);
    Policy::from_bytes(format!("# a comment\nlog {log} https://log.example/\n\n{}{rules}", witnesses(6)).as_bytes())
}

fn checkpoint(cosigners: &[u8]) -> String {
    let head = Checkpoint::new(ORIGIN, 5, [9; 32]);
    let mut signed = SignedCheckpoint::sign(head, &TestSigner::new(1)).unwrap();
    for n in cosigners {
        signed.cosign(&format!("w{n}.example"), &TestSigner::new(n + 10), 1_700_000_000);
    }
    signed.to_string()
}

#[test]
fn quorums_of_groups() {
    let nested = "group x 2 w1 w2 w3\ngroup y any w4 w5\n \tgroup  z all x y w6 \nquorum z\n";
    let policy = policy(nested).unwrap();
    for (cosigners, reached) in [
        (&[][..], false),
        (&[1, 2, 4, 6], true),
        (&[1, 2, 4], false),
        (&[1, 4, 6], false),
        (&[1, 2, 3, 6], false),
        (&[2, 3, 5, 6], true),
        (&[1, 2, 3, 4, 5, 6], true),
    ] {
        let result = policy.check(checkpoint(cosigners).as_bytes());
        assert_eq!(result.is_ok(), reached, "{cosigners:?}: {result:?}");
        if let Ok(accepted) = result {
            assert_eq!(accepted.cosigned.len(), cosigners.len());
        } else {
            assert!(matches!(result, Err(CheckError::Quorum(signed)) if signed.len() == cosigners.len()));
        }
    }
    assert_eq!(Policy::from_bytes(policy.to_string().as_bytes()), Ok(policy));
}

#[test]
fn policies_that_are_refused() {
    use PolicyError as E;
    let name = |line, name: &str| E::Name(line, name.to_owned());
    for (rules, error) in [
        ("", E::Quorum),
        ("quorum w1\nquorum w2\n", E::Quorum),
        ("quorum w9\n", name(10, "w9")),
        ("group g all\nquorum g\n", E::Line(10)),
        ("group g any w1 w1\nquorum g\n", name(10, "w1")),
        ("group g any w1\ngroup h any w1\nquorum g\n", name(11, "w1")),
        ("group g any none\nquorum g\n", name(10, "none")),
        ("group g any h\ngroup h any w1\nquorum g\n", name(10, "h")),
        ("group g 0 w1\nquorum g\n", E::Threshold(10)),
        ("group g 2 w1\nquorum g\n", E::Threshold(10)),
        ("group g 01 w1\nquorum g\n", E::Threshold(10)),
        ("group w1 any w2\nquorum g\n", E::Taken(10)),
        ("group none any w2\nquorum g\n", E::Taken(10)),
        ("quorum w1 w2\n", E::Line(10)),
        ("witness a b+c\nquorum a\n", E::Key(10, KeyError::Shape)),
        ("quorum none\r\n", E::Characters),
        ("quorum none\u{7f}\n", E::Characters),
    ] {
        assert_eq!(policy(rules), Err(error), "{rules:?}");
    }
    let line = |line: String| policy(&format!("{line}\nquorum none\n")).unwrap_err();
    assert_eq!(line(format!("log {}", key("a", KeyKind::Cosignature, 50))), E::KeyKind(10));
    assert_eq!(line(format!("witness a {}", key("a", KeyKind::Ed25519, 50))), E::KeyKind(10));
    assert_eq!(line(format!("witness a {}", key("other", KeyKind::Cosignature, 11))), E::Taken(10));
    assert_eq!(line(format!("log {}", key("other", KeyKind::Ed25519, 1))), E::Taken(10));
    assert_eq!(Policy::of_group("entangle/log", &[], 0), Err(E::Origin));
    let mut twice = members(2);
    twice[1].key = twice[0].key;
    assert_eq!(Policy::of_group(ORIGIN, &twice, 1), Err(E::Taken(2)));
    assert_eq!(Policy::from_bytes(&vec![b'#'; 70_000]), Err(E::TooLong(70_000)));
    assert_eq!(policy("quorum none").unwrap(), policy("quorum none\n").unwrap());
}

#[test]
fn checkpoints_of_strangers_and_forgers() {
    let policy = policy("quorum w1\n").unwrap();
    let good = checkpoint(&[1, 2]);
    assert_eq!(policy.check(good.as_bytes()).unwrap().cosigned[0], ("w1.example".to_owned(), 1_700_000_000));
    // A signature of an unknown key is passed over; of a known key it must hold, even if it is not needed.
    let unknown = checkpoint(&[1, 7]);
    assert_eq!(policy.check(unknown.as_bytes()).unwrap().cosigned.len(), 1);
    let lines: Vec<&str> = good.lines().collect();
    let mixed = checkpoint(&[2]).replace("\n5\n", "\n6\n");
    let bad = format!("{}\n{}\n", lines[..6].join("\n"), mixed.lines().last().unwrap().replace('A', "B"));
    assert!(matches!(policy.check(bad.as_bytes()), Err(CheckError::Signature(_))), "{bad}");
    // Signed by a listed log's key under another origin.
    let other = SignedCheckpoint::sign(Checkpoint::new("other.example", 5, [9; 32]), &TestSigner::new(1)).unwrap();
    assert_eq!(policy.check(other.to_string().as_bytes()), Err(CheckError::Log("other.example".to_owned())));
    // A cosignature replaces the older one of its key.
    let mut signed = SignedCheckpoint::from_bytes(good.as_bytes()).unwrap();
    signed.cosign("w1.example", &TestSigner::new(11), 1_800_000_000);
    assert_eq!(signed.note().signatures().len(), 3);
    let times = policy.check(signed.to_string().as_bytes()).unwrap().cosigned;
    assert_eq!(times.iter().map(|(_, time)| *time).max(), Some(1_800_000_000));
}

#[test]
fn checkpoint_texts() {
    use CheckpointError as E;
    let root = "CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=";
    let good = format!("o\n5\n{root}\nextra\n");
    assert_eq!(Checkpoint::from_text(&good).unwrap().to_string(), good);
    for (text, error) in [
        (String::new(), E::Lines),
        (format!("o\n5\n{root}"), E::Lines),
        ("o\n5\n".to_owned(), E::Lines),
        (format!("\n5\n{root}\n"), E::Lines),
        (format!("o\n5\n{root}\n\n"), E::Lines),
        (format!("o\n05\n{root}\n"), E::Size),
        (format!("o\n+5\n{root}\n"), E::Size),
        (format!("o\n18446744073709551616\n{root}\n"), E::Size),
        (format!("o\n5\n{}\n", &root[..40]), E::Root),
        (format!("o\n5\n{}\n", root.replace("k=", "l=")), E::Root),
    ] {
        assert_eq!(Checkpoint::from_text(&text), Err(error), "{text:?}");
    }
    let sign = |head: Checkpoint| SignedCheckpoint::sign(head, &TestSigner::new(1)).map(|signed| signed.to_string());
    for origin in ["", "a b", "a+b", "entangle/journal-head/v1", "cosignature/v1", "a\nb"] {
        assert!(!is_origin(origin));
        assert_eq!(sign(Checkpoint::new(origin, 0, [0; 32])), Err(E::Origin));
    }
    let smuggled = Checkpoint { extensions: vec!["a\nb".to_owned()], ..Checkpoint::new("o", 1, [0; 32]) };
    assert_eq!(sign(smuggled), Err(E::Lines));
}

#[test]
fn notes_that_are_refused() {
    use NoteError as E;
    let sig = "— k AAAAAAA=";
    for (text, error) in [
        ("", E::Shape),
        ("text\n", E::Shape),
        ("text\n\n", E::Shape),
        ("text\n\n— k AAAAAAA=", E::Shape),
        ("text\n\n— k AAAAAA==\n", E::Line(1)),
        ("text\n\n— k AAAAAAA\n", E::Line(1)),
        ("text\n\n- k AAAAAAA=\n", E::Line(1)),
        ("text\n\n— a+b AAAAAAA=\n", E::Line(1)),
        ("text\n\n—  AAAAAAA=\n", E::Line(1)),
        ("te\txt\n\n— k AAAAAAA=\n", E::Characters),
    ] {
        assert_eq!(Note::from_bytes(text.as_bytes()), Err(error), "{text:?}");
    }
    let many = |count| format!("text\n\n{}", format!("{sig}\n").repeat(count));
    assert!(Note::from_bytes(many(64).as_bytes()).is_ok());
    assert_eq!(Note::from_bytes(many(65).as_bytes()), Err(E::Signatures));
    assert_eq!(Note::from_bytes(&[0xff; 20]), Err(E::Characters));
    assert_eq!(Note::from_bytes(&vec![b'a'; 20_000]), Err(E::TooLong(20_000)));
    // The text may hold blank lines: the last one parts it from the signatures.
    let note = Note::from_bytes(format!("a\n\nb\n\n{sig}\n").as_bytes()).unwrap();
    assert_eq!((note.text(), note.signatures().len()), ("a\n\nb\n", 1));
}

#[test]
fn keys_that_are_refused() {
    let good = key("k", KeyKind::Cosignature, 3).to_string();
    let parts: Vec<&str> = good.split('+').collect();
    assert_eq!(VerifierKey::from_text(&good).unwrap().to_string(), good);
    let with = |name: &str, id: &str, raw: &str| VerifierKey::from_text(&format!("{name}+{id}+{raw}")).unwrap_err();
    assert_eq!(with("other", parts[1], &parts[2..].join("+")), KeyError::Id);
    assert_eq!(
        with("k", &parts[1].to_uppercase().replace(|c: char| c.is_ascii_digit(), "A"), &parts[2..].join("+")),
        KeyError::Id
    );
    assert_eq!(with("a b", parts[1], &parts[2..].join("+")), KeyError::Name);
    assert_eq!(with("k", parts[1], "BgAA"), KeyError::Kind(6));
    assert_eq!(with("k", parts[1], "BAAA"), KeyError::Shape);
    assert_eq!(with("k", parts[1], ""), KeyError::Shape);
    let mut identity = [0; 32];
    identity[0] = 1;
    assert_eq!(VerifierKey::new("k", KeyKind::Ed25519, &identity), Err(KeyError::Point));
}

#[test]
fn tile_paths() {
    use TileKind as K;
    for (text, kind, index, width) in [
        ("tile/0/000", K::Hashes(0), 0, 256),
        ("tile/63/999.p/255", K::Hashes(63), 999, 255),
        ("tile/1/x001/000", K::Hashes(1), 1000, 256),
        ("tile/0/x001/x234/067", K::Hashes(0), 1_234_067, 256),
        ("tile/entries/x001/x234/067.p/1", K::Entries, 1_234_067, 1),
        ("tile/0/x072/x057/x594/x037/x927/935", K::Hashes(0), (1 << 56) - 1, 256),
    ] {
        let path = TilePath::new(kind, index, width).unwrap();
        assert_eq!(path.to_string(), text);
        assert_eq!(TilePath::from_text(text), Ok(path));
    }
    for bad in [
        "tile/0",
        "tile/0/",
        "tile/0/0",
        "tile/0/0000",
        "tile/0/x000/001",
        "tile/0/001/002",
        "tile/0/x001",
        "tile/00/000",
        "tile/+1/000",
        "tile/0/+01",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/000.p/",
        "/tile/0/000",
        "tile/0/000/",
        "tile/entry/000",
        "tile/-1/000",
        "tile/0/x001/x234/067.p/1/2",
        "tile/0/000.p/1.p/1",
        "tile/0/x1/000",
    ] {
        assert_eq!(TilePath::from_text(bad), Err(TileError::Path), "{bad}");
    }
    for bad in ["tile/64/000", "tile/0/x072/x057/x594/x037/x927/936", "tile/0/x999/x999/x999/x999/x999/x999/x999/999"] {
        assert_eq!(TilePath::from_text(bad), Err(TileError::Range), "{bad}");
    }
    // The example of the specification: 70,000 leaves.
    let all = |kind| TilePath::all_of(kind, 70_000).map(|path| path.width()).collect::<Vec<_>>();
    assert_eq!((all(K::Hashes(0)).len(), all(K::Hashes(0))[273]), (274, 112));
    assert_eq!(all(K::Hashes(1)), [256, 17]);
    assert_eq!(all(K::Hashes(2)), [1]);
    assert!(all(K::Hashes(3)).is_empty());
    assert_eq!(all(K::Entries).len(), 274);
    let last = TilePath::new(K::Hashes(0), 273, 112).unwrap();
    assert_eq!((last.range(), last.exists_at(70_000), last.exists_at(69_999)), (69_888..70_000, true, false));
}

#[test]
fn bundles() {
    let entries = [&[1_u8; 128][..], &[], &[2; 3]];
    let bytes = bundle(entries).unwrap();
    assert_eq!(unbundle(&bytes).unwrap(), entries);
    assert_eq!(unbundle(&bytes[..bytes.len() - 1]), Err(BundleError::Truncated));
    assert_eq!(unbundle(&[0]), Err(BundleError::Truncated));
    assert_eq!(bundle([[0; 70_000].as_slice()]), Err(BundleError::Entry(70_000)));
    assert!(unbundle(&[0; 512]).is_ok());
    assert_eq!(unbundle(&[0; 514]), Err(BundleError::Width));
    assert_eq!(bundle(vec![&[][..]; 257]), Err(BundleError::Width));
}

#[test]
fn proof_texts() {
    use ProofTextError as E;
    let note = checkpoint(&[1]);
    let proof = TlogProof { extra: Some(vec![1, 2]), index: 3, hashes: vec![[7; 32]; 2], checkpoint: note.clone() };
    let text = proof.to_string();
    assert_eq!(TlogProof::from_bytes(text.as_bytes()), Ok(proof));
    for (from, to, error) in [
        ("@v1", "@v2", E::Header),
        ("extra AQI=", "extra ", E::Extra),
        ("extra AQI=", "extra AQJ=", E::Extra),
        ("index 3", "index 03", E::Index),
        ("index 3\n", "", E::Index),
        ("Bwc=\n\n", "Bwc=\n", E::Hashes),
        ("BwcHBw", "Bwc", E::Hashes),
        (note.as_str(), "", E::Checkpoint),
    ] {
        assert_eq!(TlogProof::from_bytes(text.replacen(from, to, 1).as_bytes()), Err(error), "{from:?}");
    }
}

#[test]
fn side_records_never_grow_too_long() {
    let long = |n: usize| "ä".repeat(n);
    let mut fact = fact(FactKind::Put, order(1, 1, 0), &long(600_000));
    fact.bucket = long(1_000);
    fact.detail.principal = long(1_000);
    fact.detail.etag = Some(long(1_000));
    fact.detail.condition = Some(long(100_000));
    fact.detail.refusal = Some(long(100_000));
    fact.detail.source = Some((long(1_000), long(5_000)));
    fact.detail.upload = Some(order(u64::MAX, u64::MAX, u32::MAX));
    fact.detail.version = fact.detail.upload;
    fact.detail.original = fact.detail.upload;
    fact.detail.predecessor = fact.detail.upload;
    for configuration in [8 * 1024, 8 * 1024 + 1] {
        fact.detail.configuration = Some(vec![3; configuration]);
        let (entry, side) = Entry::from_fact(&fact, Epoch(1), GroupId(1));
        let bytes = side.to_bytes();
        assert!(bytes.len() <= SIDE_LEN_MAX, "{} bytes", bytes.len());
        let opened = opens(&entry, &SideRecord::from_bytes(&bytes).unwrap()).unwrap();
        let readable = opened.readable.unwrap();
        assert!(readable.shortened && readable.key.len() > 1024);
        assert_eq!(
            readable.detail.configuration.unwrap().len(),
            if configuration > 8 * 1024 { 32 } else { configuration }
        );
        assert_eq!(opened.predecessor, Some(fact.detail.upload));
    }
    // Different long keys stay different, and one at the limit is left alone.
    assert_ne!(shortened(&long(600), 1024).0, shortened(&long(601), 1024).0);
    assert_eq!(shortened(&long(512), 1024), (long(512).into(), false));
}

#[test]
fn side_records_that_are_refused() {
    let facts = [fact(FactKind::Put, order(1, 1, 0), "a"), fact(FactKind::Put, order(1, 1, 1), "a")];
    let [(one, side), (two, other)] = facts.map(|fact| Entry::from_fact(&fact, Epoch(1), GroupId(1)));
    assert_ne!(one.name, two.name, "the item salts the name");
    assert_ne!(one.side, two.side, "the item salts the side record");
    assert!(matches!(opens(&one, &other), Err(OpenError::Digest)));
    assert!(matches!(opens(&Entry { name: two.name, ..one }, &side), Err(OpenError::Name)));
    let bytes = side.to_bytes();
    assert!(matches!(SideRecord::from_bytes(&[&bytes[..], &[0]].concat()), Err(SideError::Trailing(1))));
    assert!(matches!(SideRecord::from_bytes(&vec![0; SIDE_LEN_MAX + 1]), Err(SideError::TooLong(_))));
    let mut newer = bytes;
    newer[1] = 2;
    assert!(matches!(SideRecord::from_bytes(&newer), Err(SideError::Version(2))));
    let name = side.open().unwrap().readable.unwrap().name();
    name.check(&one).unwrap();
    name.check(&two).unwrap_err();
    assert!(NameOpening { bucket: "photosa".to_owned(), key: String::new(), ..name }.check(&one).is_err());
}

//! `verify` calls a sound folder sound, whatever a crash left in it, names what is not, and changes nothing.
#![allow(clippy::unwrap_used)]

mod common;
mod filled;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use filled::{config, copy_folder, fill, fingerprint, go_on, keys, spread};
use node::progress::{Progress, Unit};
use node::verify::{VerifyError, VerifyReport, verify};
use node::{Node, StartError};
use tempfile::tempdir;

fn report(data: &Path, keys: &Path) -> VerifyReport {
    verify(data, keys, &mut |_| {}).unwrap()
}

/// Verifies the folder and demands that nothing is found and nothing changed.
fn sound(data: &Path) -> VerifyReport {
    let before = fingerprint(data);
    let report = report(data, &keys(data));
    assert_eq!(report.findings, []);
    assert_eq!(fingerprint(data), before, "verification changed the folder");
    report
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_folder_is_verified_and_stays_as_it_is() {
    let folder = tempdir().unwrap();
    let data = folder.path().join("data");
    fill(&data).await;
    let verified = sound(&data);
    // Both chunks of the part of an upload that was aborted.
    assert!(matches!(&verified.notes[..], [note] if note.what.starts_with("2 chunks")), "{verified:?}");
    assert!(verified.entries > 150 && verified.blocks > 0 && verified.side_records > 100, "{verified:?}");
    assert_eq!(verified.tree_size, verified.entries);
    // Nine of different sizes (one is empty), uploads, small ones and versions, one with a token, two copies.
    assert!(verified.objects > 90 && verified.bodies > 90, "{verified:?}");
    assert!(verified.body_bytes > 20_000_000, "{verified:?}");
    spread(&data).await;
    let spread = sound(&data);
    assert_eq!(
        (spread.root, spread.objects, spread.body_bytes),
        (verified.root, verified.objects, verified.body_bytes)
    );
    go_on(&data).await;
    assert_eq!(sound(&data).objects, verified.objects + 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_in_use_a_missing_one_and_missing_keys_are_refused() {
    let folder = tempdir().unwrap();
    let data = folder.path().join("data");
    assert!(matches!(verify(&data, &keys(&data), &mut |_| {}), Err(VerifyError::Start(StartError::Io { .. }))));
    let node = Node::start(config(&data)).unwrap();
    assert!(matches!(verify(&data, &keys(&data), &mut |_| {}), Err(VerifyError::Start(StartError::InUse { .. }))));
    node.shutdown().await;
    let none = folder.path().join("none");
    assert!(matches!(verify(&data, &none, &mut |_| {}), Err(VerifyError::Start(StartError::KeyMissing { .. }))));
    sound(&data);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_last_sync_did_not_cover_is_made_again_and_is_no_finding() {
    let folder = tempdir().unwrap();
    let data = folder.path().join("data");
    fill(&data).await;
    let whole = sound(&data);
    // The state as it was long ago, or not at all: the journal has everything.
    let behind = folder.path().join("behind");
    copy_folder(&data, &behind);
    copy_folder(&keys(&data), &keys(&behind));
    fs::remove_dir_all(behind.join("state")).unwrap();
    fs::create_dir(behind.join("state")).unwrap();
    let report = sound(&behind);
    assert_eq!((report.root, report.rows), (whole.root.clone(), whole.rows));
    // Bytes behind what was durable in the ledger's files.
    for name in ["entries", "hash-0", "side", "side-index"] {
        let path = data.join("ledger").join(name);
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend_from_slice(&[0x5a; 77]);
        fs::write(&path, bytes).unwrap();
    }
    assert_eq!(sound(&data).root, whole.root);
}

/// Both times: the start refuses again, and evidence is not cut off by it.
fn refused(data: &Path, part: &str) {
    let report = report(data, &keys(data));
    assert!(report.findings.iter().any(|finding| finding.place.starts_with(part)), "{:?}", report.findings);
    for _ in 0..2 {
        let error = Node::start(config(data)).err().expect("the start is refused").to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_journal_and_state_beside_a_newer_ledger_are_refused() {
    let folder = tempdir().unwrap();
    let data = folder.path().join("data");
    fill(&data).await;
    let old = folder.path().join("old");
    copy_folder(&data, &old);
    go_on(&data).await;
    let newer = folder.path().join("newer");
    fs::create_dir(&newer).unwrap();
    for part in ["journal", "state"] {
        copy_folder(&data.join(part), &newer.join(part));
        fs::remove_dir_all(data.join(part)).unwrap();
        copy_folder(&old.join(part), &data.join(part));
    }
    refused(&data, "ledger");
    for part in ["journal", "state"] {
        fs::remove_dir_all(data.join(part)).unwrap();
        copy_folder(&newer.join(part), &data.join(part));
    }
    sound(&data);
    Node::start(config(&data)).unwrap().shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_without_its_acknowledged_end_is_refused() {
    let folder = tempdir().unwrap();
    let data = folder.path().join("data");
    fill(&data).await;
    go_on(&data).await;
    let segments = filled::files(&data.join("journal"));
    let last = segments.iter().filter(|path| path.to_string_lossy().contains("segment")).max().unwrap();
    let mut bytes = fs::read(last).unwrap();
    let end = bytes.iter().rposition(|&byte| byte != 0).unwrap();
    bytes[end - 12_000..=end].fill(0);
    fs::write(last, bytes).unwrap();
    refused(&data, "journal");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_named() {
    let folder = tempdir().unwrap();
    let data = folder.path().join("data");
    fill(&data).await;
    go_on(&data).await;
    let keys = keys(&data);
    let damage = |what: &str, harm: &dyn Fn(&Path)| {
        let copy = folder.path().join(what);
        copy_folder(&data, &copy);
        harm(&copy);
        let report = verify(&copy, &keys, &mut |_| {}).unwrap();
        assert!(!report.findings.is_empty(), "{what} was not found");
        report.findings
    };
    let chunk =
        filled::files(&data.join("vault")).into_iter().find(|path| fs::metadata(path).unwrap().len() == 300_000);
    let chunk = chunk.unwrap().strip_prefix(&data).unwrap().to_owned();
    let found = damage("chunk", &|copy| fs::remove_file(copy.join(&chunk)).unwrap());
    assert!(found[0].place.contains("chunk") && found[0].what.contains("missing"), "{found:?}");
    damage("empty ledger", &|copy| {
        fs::remove_dir_all(copy.join("ledger")).and_then(|()| fs::create_dir(copy.join("ledger"))).unwrap();
    });
    damage("side", &|copy| fs::write(copy.join("ledger/side"), b"").unwrap());
    for part in ["journal", "state", "ledger", "vault"] {
        let found = damage(part, &|copy| fs::remove_dir_all(copy.join(part)).unwrap());
        assert!(found[0].place == part && found[0].what.contains("missing"), "{found:?}");
    }
    damage("cluster", &|copy| fs::write(copy.join("cluster"), "0123\n").unwrap());
    damage("empty journal", &|copy| {
        fs::remove_dir_all(copy.join("journal")).and_then(|()| fs::create_dir(copy.join("journal"))).unwrap();
    });
    // A stranger is a note.
    fs::write(data.join("notes.txt"), "mine").unwrap();
    let report = sound(&data);
    assert!(report.notes.iter().any(|note| note.place == "notes.txt"));
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_is_told() {
    let folder = tempdir().unwrap();
    let data = folder.path().join("data");
    fill(&data).await;
    let mut steps: Vec<Progress> = Vec::new();
    verify(&data, &keys(&data), &mut |step| steps.push(step)).unwrap();
    for phase in ["journal", "state", "ledger", "bodies"] {
        let last = steps.iter().rfind(|step| step.phase == phase).unwrap();
        assert!(last.done > 0, "{last:?}");
    }
    assert!(steps.iter().any(|step| step.phase == "bodies" && step.unit == Unit::Bytes));
}

/// Set in the process that is to be killed: the data folder.
const VICTIM: &str = "ENTANGLE_TEST_VICTIM";

/// Not a test of its own: writes for ever when it is started as the victim of the one below.
#[tokio::test(flavor = "multi_thread")]
async fn victim() {
    let Some(data) = std::env::var_os(VICTIM) else { return };
    let node = Node::start(config(Path::new(&data))).unwrap();
    common::create_bucket(&node, "b").await;
    for seed in 0.. {
        common::put(&node, "b", &format!("k{}", seed % 50), &common::bytes(seed, 3000)).await;
        fs::write(Path::new(&data).with_extension("count"), seed.to_string()).unwrap();
    }
}

#[test]
fn a_folder_of_a_killed_node_is_verified() {
    let folder = tempdir().unwrap();
    for round in 0..4u64 {
        let data = folder.path().join(format!("data{round}"));
        let count = data.with_extension("count");
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "victim"])
            .env(VICTIM, &data)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let wanted = 10 + round * 100;
        for _ in 0..2000 {
            std::thread::sleep(Duration::from_millis(10));
            if fs::read_to_string(&count).is_ok_and(|count| count.parse().is_ok_and(|count: u64| count >= wanted)) {
                break;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let verified = sound(&data);
        assert!(verified.entries > wanted, "{verified:?}");
    }
}

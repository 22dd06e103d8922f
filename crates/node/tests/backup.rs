//! Backup and restore: everything comes back, the log goes on, and what is not whole is refused.
#![allow(clippy::unwrap_used)]

mod common;
mod filled;

use std::fs;
use std::path::{Path, PathBuf};

use filled::{check_receipts, config, copy_folder, dump, dump_node, fill, fingerprint, go_on, keys};
use ledger::SignedCheckpoint;
use node::backup::{BackupError, backup, restore};
use node::verify::verify;
use node::{Node, StartError};
use tempfile::{TempDir, tempdir};

/// A filled folder and its backup.
struct Backed {
    folder: TempDir,
    data: PathBuf,
    file: PathBuf,
    receipts: Vec<Vec<u8>>,
}

async fn backed() -> Backed {
    let folder = tempdir().unwrap();
    let data = folder.path().join("data");
    let receipts = fill(&data).await;
    go_on(&data).await;
    let file = folder.path().join("backup.entangle");
    let before = fingerprint(&data);
    let made = backup(&data, &keys(&data), &file, &mut |_| {}).unwrap();
    assert_eq!(fingerprint(&data), before, "a backup changed the folder");
    assert_eq!(made.bytes, fs::metadata(&file).unwrap().len());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "data, keys, backup and nothing else");
    Backed { folder, data, file, receipts }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_comes_back_and_the_log_goes_on() {
    let Backed { folder, data, file, receipts } = backed().await;
    let expected = dump(&data).await.unwrap();
    let restored = folder.path().join("restored");
    let keys = keys(&data);
    let report = restore(&file, &restored, &keys, &mut |_| {}).unwrap();
    assert_eq!(report.tree_size, expected.head.0);
    let verified = verify(&restored, &keys, &mut |_| {}).unwrap();
    assert_eq!((verified.findings, verified.notes), (vec![], vec![]), "what nothing refers to is not restored");
    assert_eq!(verified.root, report.root);

    let settings = || node::NodeConfig { keys: keys.clone(), ..config(&restored) };
    let node = Node::start(settings()).unwrap();
    assert_eq!(dump_node(&node).await.unwrap(), expected);
    check_receipts(&node.policy(), &receipts);
    let old = SignedCheckpoint::from_bytes(&node.checkpoint()).unwrap().checkpoint().clone();
    let written = common::put(&node, "plain", "after", b"the restore").await;
    assert!(written.order.timestamp.0 > 0);
    node.included(written.order).await;
    let new = SignedCheckpoint::from_bytes(&node.checkpoint()).unwrap().checkpoint().clone();
    assert!(new.size > old.size);
    check_receipts(&node.policy(), &[written.receipt.unwrap()]);
    let incarnation = node.status().incarnation;
    assert!(incarnation > 1 << 16, "a restored node skips incarnations: {incarnation}");
    node.shutdown().await;
    drop(node);
    let node = Node::start(settings()).unwrap();
    assert_eq!(common::read(&node, "plain", "after").await.unwrap(), b"the restore");
    assert_eq!(node.status().incarnation, incarnation + 1);
    node.shutdown().await;
    assert_eq!(verify(&restored, &keys, &mut |_| {}).unwrap().findings, []);
    // A backup of what was restored restores too.
    let again = folder.path().join("again.entangle");
    backup(&restored, &keys, &again, &mut |_| {}).unwrap();
    restore(&again, &folder.path().join("twice"), &keys, &mut |_| {}).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_journal_holds_above_the_state_is_in_the_backup() {
    let folder = tempdir().unwrap();
    let data = folder.path().join("data");
    fill(&data).await;
    let expected = dump(&data).await.unwrap();
    // All of it is above a state that is gone.
    fs::remove_dir_all(data.join("state")).unwrap();
    fs::create_dir(data.join("state")).unwrap();
    let file = folder.path().join("backup");
    backup(&data, &keys(&data), &file, &mut |_| {}).unwrap();
    let restored = folder.path().join("restored");
    restore(&file, &restored, &keys(&data), &mut |_| {}).unwrap();
    copy_folder(&keys(&data), &keys(&restored));
    assert_eq!(dump(&restored).await.unwrap(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_not_whole_leaves_nothing_behind() {
    let Backed { folder, data, file, .. } = backed().await;
    let keys = keys(&data);
    let whole = fs::read(&file).unwrap();
    let target = folder.path().join("target");
    let refused = |bytes: &[u8], what: &str| {
        let changed = folder.path().join("changed");
        fs::write(&changed, bytes).unwrap();
        let error = restore(&changed, &target, &keys, &mut |_| {}).unwrap_err();
        assert!(matches!(error, BackupError::Refused { .. }), "{what}: {error}");
        assert!(!target.exists(), "{what} left something behind");
    };
    let mut random = blake3::Hasher::new().update(b"flips").finalize_xof();
    for _ in 0..40 {
        let mut word = [0; 8];
        random.fill(&mut word);
        let at = usize::try_from(u64::from_be_bytes(word) % whole.len() as u64).unwrap();
        let mut changed = whole.clone();
        changed[at] ^= 1 << (word[0] % 8);
        refused(&changed, &format!("a flip at {at}"));
    }
    for len in [0, 10, 16, 64, whole.len() / 2, whole.len() - 1] {
        refused(&whole[..len], &format!("a cut at {len}"));
    }
    refused(&[&whole[..], b"x"].concat(), "a byte behind the end");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_say_what_to_do() {
    let Backed { folder, data, file, .. } = backed().await;
    let keys = keys(&data);
    let error = backup(&data, &keys, &file, &mut |_| {}).unwrap_err();
    assert!(matches!(error, BackupError::Exists(_)), "{error}");
    let error = restore(&file, &data, &keys, &mut |_| {}).unwrap_err();
    assert!(matches!(error, BackupError::NotEmpty(_)), "{error}");

    // The keys of another node.
    let other = folder.path().join("other");
    Node::start(config(&other)).unwrap().shutdown().await;
    let error = restore(&file, &folder.path().join("x"), &filled::keys(&other), &mut |_| {}).unwrap_err();
    assert!(matches!(error, BackupError::Keys { .. }), "{error}");
    assert!(!folder.path().join("x").exists());

    // A damaged folder gives no backup.
    let chunk =
        filled::files(&data.join("vault")).into_iter().find(|path| fs::metadata(path).unwrap().len() == 300_000);
    let chunk = chunk.unwrap();
    let mut bytes = fs::read(&chunk).unwrap();
    bytes[100] ^= 1;
    fs::write(&chunk, bytes).unwrap();
    let to = folder.path().join("unsound");
    let error = backup(&data, &keys, &to, &mut |_| {}).unwrap_err();
    assert!(matches!(error, BackupError::Unsound(_)), "{error}");
    assert!(
        fs::read_dir(folder.path()).unwrap().all(|entry| !entry
            .unwrap()
            .file_name()
            .to_string_lossy()
            .contains("unsound"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_restored_folder_starts_no_node() {
    let Backed { folder, data, file, .. } = backed().await;
    let restored = folder.path().join("restored");
    restore(&file, &restored, &keys(&data), &mut |_| {}).unwrap();
    // What a power cut just before the end would leave.
    fs::remove_file(restored.join("format")).unwrap();
    copy_folder(&keys(&data), &keys(&restored));
    let refused = Node::start(config(&restored)).err().unwrap();
    assert!(matches!(refused, StartError::NotOurs { .. }), "{refused}");
    let error = restore(&file, &restored, &keys(&data), &mut |_| {}).unwrap_err();
    assert!(matches!(error, BackupError::NotEmpty(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_never_signs_below_the_backup() {
    let Backed { folder, data, file, .. } = backed().await;
    let restored = folder.path().join("restored");
    let keys = keys(&data);
    restore(&file, &restored, &keys, &mut |_| {}).unwrap();
    // State and ledger of an empty node under the restored journal: what was signed is missing.
    for part in ["state", "ledger"] {
        fs::remove_dir_all(restored.join(part)).unwrap();
        fs::create_dir(restored.join(part)).unwrap();
    }
    let settings = node::NodeConfig { keys, ..config(&restored) };
    assert!(Node::start(settings).is_err());
}

#[test]
fn nothing_is_backed_up_from_nothing() {
    let folder = tempdir().unwrap();
    let none = folder.path().join("none");
    let to = folder.path().join("to");
    assert!(matches!(backup(&none, &keys(&none), &to, &mut |_| {}), Err(BackupError::Start(_))));
    assert!(!to.exists() && !Path::new(&none).exists());
}

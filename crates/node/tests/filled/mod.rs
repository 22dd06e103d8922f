//! A data folder with some of everything in it, and a dump of everything that one answers and proves.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use catalog::query;
use futures::TryStreamExt as _;
use ledger::policy::Policy;
use ledger::receipt::Receipt;
use ledger::tile::{TileKind, TilePath, unbundle};
use ledger::{Entry, SignedCheckpoint};
use md5::{Digest as _, Md5};
use node::{Node, NodeConfig, Secret, Wait, WriteRequest};
use store::state::{FjallOptions, FjallState};
use types::command::{
    AbortUpload, CompleteUpload, CompletedPart, Condition, CopyObject, CreateUpload, PutObject, RequestToken,
    SetVersioning, Source, UploadPart, Versioning,
};
use types::object::Metadata;
use types::state::{StateRead as _, Table};
use types::{Op, OrderKey, Outcome};

use super::common::{bytes, create_bucket, delete, put, write};

pub fn config(data: &Path) -> NodeConfig {
    NodeConfig { reserve_len: 0, ..NodeConfig::new(data) }
}

pub fn keys(data: &Path) -> PathBuf {
    node::keys_beside(data)
}

/// Fills a new folder and stops the node. Gives the commit receipts of what was put.
pub async fn fill(data: &Path) -> Vec<Vec<u8>> {
    let node = Node::start(config(data)).unwrap();
    let mut receipts = Vec::new();
    for access_key in ["alpha", "beta"] {
        let secret = Secret::new(format!("secret of {access_key}"));
        node.put_access_key("", access_key, &secret, "made by a test").await.unwrap();
    }
    create_bucket(&node, "plain").await;
    create_bucket(&node, "versions").await;
    let versioning = SetVersioning { bucket: "versions".to_owned(), versioning: Versioning::Enabled };
    write(&node, Op::SetVersioning(versioning)).await;
    for (seed, size) in (0..).zip([0, 1, 700, 5_000, 100_000, 131_073, 300_000, 4_194_304, 5_000_000]) {
        let written = put(&node, "plain", &format!("size {size}"), &bytes(seed, size)).await;
        assert!(matches!(written.outcome, Outcome::Written(_)), "{:?}", written.outcome);
        receipts.push(written.receipt.unwrap());
    }
    upload(&node).await;
    node.shutdown().await;
    drop(node);
    let node = Node::start(config(data)).unwrap();
    for seed in 100..160 {
        receipts.push(put(&node, "plain", &format!("small {}", seed % 40), &bytes(seed, 40)).await.receipt.unwrap());
        put(&node, "versions", &format!("v {}", seed % 7), &bytes(seed, 50)).await;
    }
    for seed in 0..10 {
        delete(&node, "plain", &format!("small {}", 20 + seed)).await;
        delete(&node, "versions", &format!("v {}", seed % 3)).await;
    }
    with_token(&node).await;
    copy(&node, "size 300000", "copy of 300000").await;
    copy(&node, "parts", "copy of parts").await;
    node.shutdown().await;
    receipts
}

async fn copy(node: &Node, from: &str, to: &str) {
    let source =
        Source { bucket: "plain".to_owned(), key: from.to_owned(), version: None, condition: Condition::default() };
    let copy = CopyObject {
        source,
        bucket: "plain".to_owned(),
        key: to.to_owned(),
        metadata: None,
        condition: Condition::default(),
        checksum: None,
        expect: None,
    };
    let outcome = write(node, Op::CopyObject(copy)).await.outcome;
    assert!(matches!(outcome, Outcome::Written(_)), "{outcome:?}");
}

/// A write with a request id: leaves a row in the retry window.
async fn with_token(node: &Node) {
    let body = node::inline(Bytes::from_static(b"once"));
    let put = PutObject {
        bucket: "plain".to_owned(),
        key: "once".to_owned(),
        body: body.body,
        len: body.len,
        digest: body.digest,
        md5: Md5::digest(b"once").into(),
        checksum: None,
        metadata: Metadata::default(),
        condition: Condition::default(),
    };
    let request = Some(RequestToken { id: "call 1".to_owned(), digest: [1; 32] });
    let request = WriteRequest { principal: "tester".to_owned(), request, op: Op::PutObject(put), wait: Wait::Commit };
    node.write(request).await.unwrap();
}

/// One upload completed, one left open, one aborted.
async fn upload(node: &Node) {
    for key in ["parts", "open", "aborted"] {
        let create = CreateUpload {
            bucket: "plain".to_owned(),
            key: key.to_owned(),
            metadata: Metadata::default(),
            checksum: None,
        };
        let Outcome::UploadCreated(upload) = write(node, Op::CreateUpload(create)).await.outcome else {
            panic!("no upload")
        };
        let parts = [part(node, key, upload, 1, &bytes(50, 5 << 20)).await, part(node, key, upload, 2, b"rest").await];
        let (bucket, key) = ("plain".to_owned(), key.to_owned());
        let op = match key.as_str() {
            "open" => continue,
            "aborted" => Op::AbortUpload(AbortUpload { bucket, key, upload }),
            _ => {
                let parts = parts.to_vec();
                let condition = Condition::default();
                Op::CompleteUpload(CompleteUpload { bucket, key, upload, parts, condition, checksum: None, len: None })
            }
        };
        let outcome = write(node, op).await.outcome;
        assert!(!matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
    }
}

async fn part(node: &Node, key: &str, upload: OrderKey, number: u16, bytes: &[u8]) -> CompletedPart {
    let mut writer = node.place().unwrap();
    writer.write(Bytes::copy_from_slice(bytes)).await.unwrap();
    let placed = writer.finish().await.unwrap();
    let part = UploadPart {
        bucket: "plain".to_owned(),
        key: key.to_owned(),
        upload,
        number,
        body: placed.body,
        len: placed.len,
        digest: placed.digest,
        md5: Md5::digest(bytes).into(),
        checksum: None,
    };
    match write(node, Op::UploadPart(part)).await.outcome {
        Outcome::PartStored(etag) => CompletedPart { number, etag, checksum: None },
        other => panic!("{other:?}"),
    }
}

/// Drops the stored state of a stopped node, and has it made again from the journal with memory so small that rows
/// go to tables on disk.
pub async fn spread(data: &Path) {
    let state = data.join("state");
    fs::remove_dir_all(&state).unwrap();
    fs::create_dir(&state).unwrap();
    let options = FjallOptions { write_buffer_len: 16 << 10, ..FjallOptions::default() };
    drop(FjallState::open(&state, options).unwrap());
    let node = Node::start(config(data)).unwrap();
    node.shutdown().await;
}

/// Goes on with many checkpoints: the journal gets a base, and the log's files stand without rows beside them.
pub async fn go_on(data: &Path) {
    let node = Node::start(NodeConfig { checkpoint_len: 4 << 10, ..config(data) }).unwrap();
    for seed in 0..20 {
        let written = put(&node, "plain", &format!("later {seed}"), &bytes(seed, 2_000)).await;
        node.included(written.order).await;
    }
    node.shutdown().await;
}

/// Everything that a node answers and proves.
#[derive(PartialEq, Eq, Debug, Default)]
pub struct Dump {
    /// Catalog, bodies and retry window.
    pub rows: BTreeMap<(Table, Vec<u8>), Vec<u8>>,
    /// BLAKE3 of every version's bytes, as the node serves them.
    pub bodies: BTreeMap<String, String>,
    /// Entries and side records; each entry was proved under the newest checkpoint.
    pub entries: Vec<(Vec<u8>, Bytes)>,
    /// Size and root.
    pub head: (u64, [u8; 32]),
    pub secrets: Vec<(String, String)>,
}

/// Starts a node and asks it for everything; an error where it refuses to start or to answer.
pub async fn dump(data: &Path) -> Result<Dump, String> {
    let node = Node::start(config(data)).map_err(|error| error.to_string())?;
    let dumped = dump_node(&node).await;
    node.shutdown().await;
    dumped
}

pub async fn dump_node(node: &Node) -> Result<Dump, String> {
    let mut dump = Dump::default();
    let view = node.read();
    for table in [Table::Catalog, Table::Bodies, Table::Retry] {
        let scanned = view.scan(table, b"", b"", &mut |key, value| {
            dump.rows.insert((table, key.to_vec()), value.to_vec());
            ControlFlow::Continue(())
        });
        scanned.map_err(|error| error.to_string())?;
    }
    let mut versions = Vec::new();
    query::each_object(&view, |place, row| {
        versions.push((place, row.selector()));
        ControlFlow::Continue(())
    })
    .map_err(|error| error.to_string())?;
    for (place, selector) in versions {
        let name = format!("{}/{} {selector:?}", place.bucket, place.key);
        let found = node.object(&place.bucket, &place.key, Some(selector)).map_err(|error| error.to_string())?;
        let object = found.ok_or(format!("{name} is not found"))?;
        let pieces: Vec<Bytes> =
            node.body(&object, 0..object.row.len).try_collect().await.map_err(|error| error.to_string())?;
        dump.bodies.insert(name, blake3::hash(&pieces.concat()).to_hex().to_string());
    }
    for (access_key, _) in node.access_keys().map_err(|error| error.to_string())? {
        let secret = node.secret(&access_key).map_err(|error| error.to_string())?.unwrap();
        dump.secrets.push((access_key, secret.expose().to_owned()));
    }
    dump_ledger(node, &mut dump).await?;
    Ok(dump)
}

async fn dump_ledger(node: &Node, dump: &mut Dump) -> Result<(), String> {
    let text = |error: &dyn core::fmt::Display| error.to_string();
    let policy = Policy::from_bytes(node.policy().as_bytes()).map_err(|error| text(&error))?;
    let since = Instant::now();
    while node.checkpoint().is_empty() {
        if since.elapsed() > Duration::from_secs(20) {
            return Err("no checkpoint".to_owned());
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let checkpoint = node.checkpoint();
    policy.check(&checkpoint).map_err(|error| text(&error))?;
    let signed = SignedCheckpoint::from_bytes(&checkpoint).map_err(|error| text(&error))?;
    dump.head = (signed.checkpoint().size, signed.checkpoint().root);
    for tile in TilePath::all_of(TileKind::Entries, dump.head.0) {
        let bundle = node.tile(&tile.to_string()).map_err(|error| text(&error))?;
        for leaf in unbundle(&bundle).map_err(|error| text(&error))? {
            let entry = Entry::from_bytes(leaf.try_into().unwrap()).map_err(|error| text(&error))?;
            let inclusion = node.inclusion(entry.order).map_err(|error| text(&error))?;
            inclusion.proof.verify(&inclusion.entry, &policy).map_err(|error| text(&error))?;
            dump.entries.push((inclusion.entry.to_vec(), inclusion.side));
        }
    }
    Ok(())
}

/// Whether commit receipts given earlier verify under this node's policy.
pub fn check_receipts(policy: &str, receipts: &[Vec<u8>]) {
    let policy = Policy::from_bytes(policy.as_bytes()).unwrap();
    for receipt in receipts {
        Receipt::from_bytes(receipt).unwrap().verify(&policy).unwrap();
    }
}

/// Copies a folder with all that is in it.
pub fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else if entry.file_name() != "spare" {
            fs::copy(entry.path(), &target).unwrap();
        }
    }
}

/// All files below a folder, sorted.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// Names and contents of all files below a folder.
pub fn fingerprint(folder: &Path) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for path in files(folder) {
        hasher.update(path.as_os_str().as_encoded_bytes());
        hasher.update(blake3::hash(&fs::read(&path).unwrap()).as_bytes());
    }
    hasher.finalize()
}

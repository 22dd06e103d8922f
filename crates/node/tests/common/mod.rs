//! A node in a temporary folder, and short words for what tests ask of it.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

use bytes::Bytes;
use futures::TryStreamExt as _;
use md5::{Digest as _, Md5};
use node::{Node, NodeConfig, Wait, WriteError, WriteRequest, Written};
use tempfile::TempDir;
use types::command::{Condition, CreateBucket, DeleteItem, DeleteObjects, EtagMatch, PutObject};
use types::object::Metadata;
use types::{Op, OrderKey, Outcome};

pub fn config(folder: &TempDir) -> NodeConfig {
    NodeConfig { reserve_len: 0, ..NodeConfig::new(folder.path().join("data")) }
}

/// What a node refuses without having begun, because of what passes on a machine with much else to do (silence that is
/// taken for failure, clocks that were not heard of), is asked again.
pub async fn write(node: &Node, op: Op) -> Written {
    let began = std::time::Instant::now();
    loop {
        let request =
            WriteRequest { principal: "tester".to_owned(), request: None, op: op.clone(), wait: Wait::Commit };
        match node.write(request).await {
            Err(WriteError::NoQuorum { .. } | WriteError::NotReady(_)) if began.elapsed().as_secs() < 20 => {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            written => return written.unwrap(),
        }
    }
}

pub async fn create_bucket(node: &Node, bucket: &str) -> Outcome {
    write(node, Op::CreateBucket(CreateBucket { bucket: bucket.to_owned(), region: None })).await.outcome
}

pub async fn create_bucket_order(node: &Node, bucket: &str) -> OrderKey {
    write(node, Op::CreateBucket(CreateBucket { bucket: bucket.to_owned(), region: None })).await.order
}

/// The command that puts bytes; long ones go through the vault.
pub async fn put_op(node: &Node, bucket: &str, key: &str, bytes: &[u8], condition: Condition) -> Op {
    let mut writer = node.place().unwrap();
    writer.write(Bytes::copy_from_slice(bytes)).await.unwrap();
    let placed = writer.finish().await.unwrap();
    Op::PutObject(PutObject {
        bucket: bucket.to_owned(),
        key: key.to_owned(),
        body: placed.body,
        len: placed.len,
        digest: placed.digest,
        md5: Md5::digest(bytes).into(),
        checksum: None,
        metadata: Metadata::default(),
        condition,
    })
}

/// Puts bytes.
pub async fn put_if(node: &Node, bucket: &str, key: &str, bytes: &[u8], condition: Condition) -> Written {
    write(node, put_op(node, bucket, key, bytes, condition).await).await
}

pub async fn put(node: &Node, bucket: &str, key: &str, bytes: &[u8]) -> Written {
    put_if(node, bucket, key, bytes, Condition::default()).await
}

pub fn if_absent() -> Condition {
    Condition { if_none_match: Some(EtagMatch::Any), ..Condition::default() }
}

pub async fn delete(node: &Node, bucket: &str, key: &str) -> Written {
    let item = DeleteItem { key: key.to_owned(), version: None, condition: Condition::default() };
    write(node, Op::DeleteObjects(DeleteObjects { bucket: bucket.to_owned(), items: vec![item] })).await
}

pub async fn read(node: &Node, bucket: &str, key: &str) -> Option<Vec<u8>> {
    let object = node.object(bucket, key, None).unwrap().filter(|object| !object.row.marker)?;
    let len = object.row.len;
    let pieces: Vec<Bytes> = node.body(&object, 0..len).try_collect().await.unwrap();
    Some(pieces.concat())
}

/// Bytes that differ from seed to seed.
pub fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut reader = blake3::Hasher::new().update(&seed.to_be_bytes()).finalize_xof();
    let mut bytes = vec![0; len];
    reader.fill(&mut bytes);
    bytes
}

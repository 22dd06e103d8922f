//! A node through its public door: writes, reads, receipts, restarts, refusals.
#![allow(clippy::unwrap_used)]

mod common;

use common::{bytes, config, create_bucket, create_bucket_order, delete, if_absent, put, put_if, read};
use ledger::policy::Policy;
use ledger::receipt::Receipt;
use node::{Node, NodeConfig, StartError};
use tempfile::tempdir;
use types::limits::{BODY_CHUNKS_IN_FLIGHT_MAX, CHUNK_LEN};
use types::{Outcome, Refusal};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_put_is_read_before_and_after_a_restart() {
    let folder = tempdir().unwrap();
    let sizes = [0, 1, 1000, 128 * 1024, 128 * 1024 + 1, 5 << 20];
    let node = Node::start(config(&folder)).unwrap();
    assert_eq!(create_bucket(&node, "photos").await, Outcome::Done);
    for (seed, size) in (0..).zip(sizes) {
        put(&node, "photos", &format!("key {size}"), &bytes(seed, size)).await;
    }
    put(&node, "photos", "gone", b"soon").await;
    delete(&node, "photos", "gone").await;
    for (seed, size) in (0..).zip(sizes) {
        assert_eq!(read(&node, "photos", &format!("key {size}")).await.unwrap(), bytes(seed, size));
    }
    node.shutdown().await;
    drop(node);
    for _ in 0..3 {
        let node = Node::start(config(&folder)).unwrap();
        for (seed, size) in (0..).zip(sizes) {
            assert_eq!(read(&node, "photos", &format!("key {size}")).await.unwrap(), bytes(seed, size));
        }
        assert_eq!(read(&node, "photos", "gone").await, None);
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_that_is_gone_is_not_replaced_by_an_empty_one() {
    let folder = tempdir().unwrap();
    let node = Node::start(config(&folder)).unwrap();
    create_bucket(&node, "photos").await;
    put(&node, "photos", "large", &bytes(1, 300_000)).await;
    node.shutdown().await;
    drop(node);
    let vault = folder.path().join("data/vault");
    std::fs::rename(&vault, folder.path().join("elsewhere")).unwrap();
    for empty in [false, true] {
        if empty {
            std::fs::create_dir(&vault).unwrap();
        }
        let error = Node::start(config(&folder)).err().expect("the start is refused");
        assert!(matches!(&error, StartError::Vault(text) if text.contains("put back")), "{error}");
    }
    std::fs::remove_dir(&vault).and_then(|()| std::fs::rename(folder.path().join("elsewhere"), &vault)).unwrap();
    let node = Node::start(config(&folder)).unwrap();
    assert_eq!(read(&node, "photos", "large").await.unwrap(), bytes(1, 300_000));
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_key_that_opens_no_secret_is_refused() {
    let folder = tempdir().unwrap();
    let node = Node::start(config(&folder)).unwrap();
    node.put_access_key("", "alpha", &node::Secret::new("hush".to_owned()), "").await.unwrap();
    node.shutdown().await;
    drop(node);
    let path = config(&folder).keys.join("cluster.key");
    let key = std::fs::read_to_string(&path).unwrap();
    let (header, digits) = key.trim_end().split_once('\n').unwrap();
    std::fs::write(&path, format!("{header}\n{}\n", digits.chars().rev().collect::<String>())).unwrap();
    let error = Node::start(config(&folder)).err().expect("the start is refused");
    assert!(matches!(&error, StartError::Key { .. }), "{error}");
    std::fs::write(&path, key).unwrap();
    Node::start(config(&folder)).unwrap().shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cached_read_never_misses_an_answered_write() {
    let folder = tempdir().unwrap();
    let node = Node::start(config(&folder)).unwrap();
    create_bucket(&node, "bucket").await;
    for round in 0..200u64 {
        put(&node, "bucket", "k", &round.to_be_bytes()).await;
        for _ in 0..3 {
            assert_eq!(read(&node, "bucket", "k").await.unwrap(), round.to_be_bytes());
        }
    }
    let counters = node.status().counters;
    assert!(counters.cache_hits >= 200, "{counters:?}");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_creators_one_wins() {
    let folder = tempdir().unwrap();
    let node = Node::start(config(&folder)).unwrap();
    create_bucket(&node, "bucket").await;
    let mut tasks = Vec::new();
    for seed in 0..32u64 {
        let node = node.clone();
        tasks.push(tokio::spawn(async move {
            put_if(&node, "bucket", "k", &seed.to_be_bytes(), if_absent()).await.outcome
        }));
    }
    let mut winners = 0;
    for task in tasks {
        match task.await.unwrap() {
            Outcome::Written(_) => winners += 1,
            Outcome::Refused(Refusal::PreconditionFailed) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(winners, 1);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_verify_offline_and_a_changed_byte_does_not() {
    let folder = tempdir().unwrap();
    let node = Node::start(config(&folder)).unwrap();
    let policy = Policy::from_bytes(node.policy().as_bytes()).unwrap();
    create_bucket(&node, "bucket").await;
    let written = put(&node, "bucket", "k", b"bytes").await;
    let receipt = written.receipt.unwrap();
    assert!((300..1400).contains(&receipt.len()), "{} bytes", receipt.len());
    let verified = Receipt::from_bytes(&receipt).unwrap().verify(&policy).unwrap();
    assert_eq!(verified.entry.order, written.order);
    for at in 0..receipt.len() {
        let mut changed = receipt.clone();
        changed[at] ^= 1;
        let holds = Receipt::from_bytes(&changed).is_ok_and(|receipt| receipt.verify(&policy).is_ok());
        assert!(!holds, "byte {at}");
    }
    node.included(written.order).await;
    let inclusion = node.inclusion(written.order).unwrap();
    inclusion.proof.verify(&inclusion.entry, &policy).unwrap();
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_goes_on_over_restarts() {
    let folder = tempdir().unwrap();
    let mut size = 0;
    let mut orders = Vec::new();
    for round in 0..4 {
        let node = Node::start(config(&folder)).unwrap();
        if round == 0 {
            create_bucket(&node, "bucket").await;
        }
        for item in 0..10 {
            orders.push(put(&node, "bucket", &format!("{round}/{item}"), &bytes(item, 100)).await.order);
        }
        let last = *orders.last().unwrap();
        node.included(last).await;
        assert!(node.status().ledger.size > size);
        size = node.status().ledger.size;
        let policy = Policy::from_bytes(node.policy().as_bytes()).unwrap();
        for order in &orders {
            let inclusion = node.inclusion(*order).unwrap();
            inclusion.proof.verify(&inclusion.entry, &policy).unwrap();
        }
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_has_a_ledger_or_has_none() {
    let folder = tempdir().unwrap();
    let node = Node::start(NodeConfig { ledger: false, ..config(&folder) }).unwrap();
    create_bucket(&node, "bucket").await;
    put(&node, "bucket", "k", b"bytes").await;
    // Sealed once the counter of the state's batches has seen the block: the overlay is empty then.
    for _ in 0..1000 {
        if node.status().space.overlay_len == 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(node.status().space.overlay_len, 0);
    node.shutdown().await;
    drop(node);
    let refused = Node::start(config(&folder)).err().unwrap().to_string();
    assert!(refused.contains("holds no evidence"), "{refused}");

    let folder = tempdir().unwrap();
    let node = Node::start(config(&folder)).unwrap();
    let order = create_bucket_order(&node, "bucket").await;
    node.included(order).await;
    node.shutdown().await;
    drop(node);
    let refused = Node::start(NodeConfig { ledger: false, ..config(&folder) }).err().unwrap().to_string();
    assert!(refused.contains("has one"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_that_cannot_be_served_are_refused_with_a_sentence() {
    let folder = tempdir().unwrap();
    let node = Node::start(config(&folder)).unwrap();
    let second = Node::start(config(&folder)).err().unwrap();
    assert!(matches!(second, StartError::InUse { .. }), "{second}");
    node.shutdown().await;
    drop(node);

    let keys = config(&folder).keys;
    let hidden = folder.path().join("hidden");
    std::fs::rename(&keys, &hidden).unwrap();
    let missing = Node::start(config(&folder)).err().unwrap();
    assert!(matches!(missing, StartError::KeyMissing { .. }), "{missing}");
    std::fs::rename(&hidden, &keys).unwrap();

    let format = config(&folder).data.join("format");
    std::fs::write(&format, "entangle-data-v9\n").unwrap();
    let other = Node::start(config(&folder)).err().unwrap();
    assert!(matches!(other, StartError::Format { .. }), "{other}");

    let foreign = tempdir().unwrap();
    std::fs::create_dir(foreign.path().join("data")).unwrap();
    std::fs::write(foreign.path().join("data/diary.txt"), "dear").unwrap();
    let refused = Node::start(config(&foreign)).err().unwrap();
    assert!(matches!(refused, StartError::NotOurs { .. }), "{refused}");
}

/// More chunks than one body may have on their way at once, from several bodies, and a body that is given up.
#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_keep_their_order_and_abandoned_ones_leave_nothing() {
    let folder = tempdir().unwrap();
    let node = Node::start(config(&folder)).unwrap();
    create_bucket(&node, "logs").await;
    let len = (BODY_CHUNKS_IN_FLIGHT_MAX + 2) * CHUNK_LEN + 17;
    let bodies: Vec<Vec<u8>> = (0..3).map(|seed| bytes(seed, len)).collect();
    let puts = bodies.iter().enumerate().map(|(index, body)| {
        let (node, key) = (node.clone(), format!("k{index}"));
        async move { put(&node, "logs", &key, body).await }
    });
    futures::future::join_all(puts).await;
    for (index, body) in bodies.iter().enumerate() {
        assert!(read(&node, "logs", &format!("k{index}")).await.unwrap() == *body, "body {index}");
    }
    let placed = chunks(&folder);
    assert_eq!(placed, bodies.len() * len.div_ceil(CHUNK_LEN));

    for keep in [CHUNK_LEN, 3 * CHUNK_LEN, len] {
        let mut writer = node.place().unwrap();
        writer.write(bodies[0][..keep].to_vec().into()).await.unwrap();
        drop(writer);
    }
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while chunks(&folder) != placed {
        assert!(std::time::Instant::now() < deadline, "abandoned chunks stay");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    node.shutdown().await;
}

/// Files in the folders of the vault, half-written ones too.
fn chunks(folder: &tempfile::TempDir) -> usize {
    let shards = std::fs::read_dir(folder.path().join("data/vault")).unwrap().map(|shard| shard.unwrap().path());
    shards.filter(|shard| shard.is_dir()).map(|shard| std::fs::read_dir(shard).unwrap().count()).sum()
}

//! Members come, go, are replaced and fall far behind, while the group works.
#![allow(clippy::unwrap_used)]

mod cluster;
mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use cluster::{Group, within};
use common::{bytes, create_bucket, put, put_op};
use futures::StreamExt as _;
use node::{Change, ChangeError, Node, Wait, WriteError, WriteRequest};
use types::command::Condition;
use types::{Outcome, ReplicaId};

const PATIENCE: Duration = Duration::from_secs(30);

/// What a linearizable GET gives.
async fn read(node: &Node, key: &str) -> Option<Vec<u8>> {
    node.catch_up("photos", key).await.unwrap();
    common::read(node, "photos", key).await
}

/// Writes one key after the other at a node, until it is told to stop; gives how many.
fn write_on(node: &Node, prefix: &'static str) -> (Arc<AtomicBool>, Arc<AtomicU64>, tokio::task::JoinHandle<()>) {
    let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (node, told, counter) = (node.clone(), stop.clone(), written.clone());
    let task = tokio::spawn(async move {
        for round in 0.. {
            if told.load(Ordering::SeqCst) {
                return;
            }
            let done = put(&node, "photos", &format!("{prefix} {round}"), &bytes(round, 300)).await;
            assert!(!matches!(done.outcome, Outcome::Refused(_)), "{:?}", done.outcome);
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    (stop, written, task)
}

async fn change(node: &Node, change: Change) {
    let began = std::time::Instant::now();
    loop {
        match node.change(change).await {
            Ok(_) => return,
            // On a machine with much else to do, silence is taken for failure now and then.
            Err(
                ChangeError::Refused(WriteError::NoQuorum { .. } | WriteError::NotReady(_)) | ChangeError::Absent(_),
            ) if began.elapsed() < PATIENCE => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(error) => panic!("{change:?}: {error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_becomes_three_and_the_first_is_replaced_under_load() {
    let mut group = Group::start_with(4, 1, 0, Duration::from_millis(1)).await;
    create_bucket(group.node(1), "photos").await;
    put(group.node(1), "photos", "first", b"of all").await;
    assert!(group.node(2).ready().unwrap_err().to_string().contains("no member"));
    let unknown = group.node(1).change(Change::Add(ReplicaId(2))).await;
    assert!(matches!(unknown, Err(ChangeError::Unknown(ReplicaId(2)))), "{unknown:?}");
    for node in 2..=4 {
        assert_eq!(group.node(1).put_node("", group.entry_of(node)).await.unwrap(), Outcome::Done);
    }

    let large = bytes(7, 300_000);
    put(group.node(1), "photos", "large", &large).await;
    let (stop, written, writer) = write_on(group.node(1), "grow");
    for node in [2, 3] {
        change(group.node(1), Change::Add(ReplicaId(node))).await;
        group.is_ready(node).await;
        let before = written.load(Ordering::SeqCst);
        within(PATIENCE, async || (written.load(Ordering::SeqCst) > before + 20).then_some(())).await;
    }
    stop.store(true, Ordering::SeqCst);
    writer.await.unwrap();
    let total = written.load(Ordering::SeqCst);
    for node in 1..=3 {
        assert_eq!(read(group.node(node), "first").await, Some(b"of all".to_vec()));
        for round in [0, total / 2, total - 1] {
            assert_eq!(read(group.node(node), &format!("grow {round}")).await, Some(bytes(round, 300)), "at {node}");
        }
        assert_eq!(group.node(node).membership().members, [1, 2, 3].map(ReplicaId));
    }

    assert_eq!(read(group.node(3), "large").await, Some(large.clone()));
    let (stop, written, writer) = write_on(group.node(2), "replace");
    change(group.node(2), Change::Replace(ReplicaId(1), ReplicaId(4))).await;
    group.is_ready(4).await;
    let reason = tokio::time::timeout(PATIENCE, group.node(1).failed()).await.expect("it is removed");
    assert!(reason.contains("removed"), "{reason}");
    group.stop_node(1).await;
    let before = written.load(Ordering::SeqCst);
    within(PATIENCE, async || (written.load(Ordering::SeqCst) > before + 20).then_some(())).await;
    stop.store(true, Ordering::SeqCst);
    writer.await.unwrap();
    for node in 2..=4 {
        assert_eq!(read(group.node(node), "first").await, Some(b"of all".to_vec()), "at {node}");
        let last = written.load(Ordering::SeqCst) - 1;
        assert_eq!(read(group.node(node), &format!("replace {last}")).await, Some(bytes(last, 300)), "at {node}");
    }
    let again = group.node(2).change(Change::Add(ReplicaId(1))).await;
    assert!(matches!(again, Err(ChangeError::Spent(ReplicaId(1)))), "{again:?}");
    // Who had it first is gone.
    assert_eq!(read(group.node(4), "large").await, Some(large));
    group.have_one_ledger().await;

    for node in 2..=4 {
        group.stop_node(node).await;
    }
    for node in 2..=4 {
        group.start_node(node);
    }
    for node in 2..=4 {
        group.is_ready(node).await;
        assert_eq!(read(group.node(node), "first").await, Some(b"of all".to_vec()), "at {node}");
        assert_eq!(group.node(node).membership().members, [2, 3, 4].map(ReplicaId));
    }
    let later = group.node(3).change(Change::Remove(ReplicaId(9))).await;
    assert!(matches!(later, Err(ChangeError::NoMember(_))), "{later:?}");
    change(group.node(3), Change::Remove(ReplicaId(2))).await;
    group.stop_node(2).await;
    put(group.node(4), "photos", "two", b"are left").await;
    assert_eq!(read(group.node(3), "two").await, Some(b"are left".to_vec()));
    group.have_one_ledger().await;
    group.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_away_for_too_long_gets_the_state_of_another() {
    let mut group = Group::found(3, 1, Duration::ZERO);
    group.checkpoint_len = 1 << 20;
    for node in 1..=3 {
        group.start_node(node);
    }
    group.is_ready(1).await;
    create_bucket(group.node(1), "photos").await;
    put(group.node(1), "photos", "before", b"1").await;
    group.is_ready(3).await;
    assert_eq!(read(group.node(3), "before").await, Some(b"1".to_vec()));
    group.stop_node(3).await;
    // Several segments, of which the first ones are trimmed.
    for round in 0..1500u64 {
        put(group.node(1), "photos", &format!("key {}", round % 40), &bytes(round, 120_000)).await;
    }
    group.start_node(3);
    group.is_ready(3).await;
    within(PATIENCE, async || (group.node(3).status().counters.installed_states > 0).then_some(())).await;
    for round in 1460..1500u64 {
        assert_eq!(read(group.node(3), &format!("key {}", round % 40)).await, Some(bytes(round, 120_000)));
    }
    assert_eq!(read(group.node(3), "before").await, Some(b"1".to_vec()));
    put(group.node(3), "photos", "after", b"2").await;
    group.have_one_ledger().await;
    group.stop_node(3).await;
    group.start_node(3);
    group.is_ready(3).await;
    assert_eq!(read(group.node(3), "after").await, Some(b"2".to_vec()));
    group.have_one_ledger().await;
    group.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_one_of_five_is_replaced_and_ends() {
    let mut group = Group::start_with(10, 5, 2, Duration::from_millis(1)).await;
    create_bucket(group.node(1), "photos").await;
    for node in 6..=10 {
        assert_eq!(group.node(1).put_node("", group.entry_of(node)).await.unwrap(), Outcome::Done);
    }
    for old in 1..=5 {
        let new = old + 5;
        let at = if old == 1 { 2 } else { new - 1 };
        let (stop, written, writer) = write_on(group.node(at), "during");
        change(group.node(at), Change::Replace(ReplicaId(old), ReplicaId(new))).await;
        group.is_ready(new).await;
        let reason = tokio::time::timeout(PATIENCE, group.node(old).failed()).await.expect("it is removed");
        assert!(reason.contains("removed"), "{reason}");
        group.stop_node(old).await;
        let before = written.load(Ordering::SeqCst);
        within(PATIENCE, async || (written.load(Ordering::SeqCst) > before + 5).then_some(())).await;
        stop.store(true, Ordering::SeqCst);
        writer.await.unwrap();
    }
    group.have_one_ledger().await;
    group.stop().await;
}

/// The one member that stays hears that it is alone before it has executed what goes before: what it has is not all yet.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_member_does_not_read_alone_before_it_has_everything() {
    let mut group = Group::start_with(2, 1, 0, Duration::from_millis(100)).await;
    create_bucket(group.node(1), "photos").await;
    assert_eq!(group.node(1).put_node("", group.entry_of(2)).await.unwrap(), Outcome::Done);
    change(group.node(1), Change::Add(ReplicaId(2))).await;
    group.is_ready(2).await;
    let before = group.node(2).membership().epoch;
    // The newest of what the other one has answered, of many keys, while it is taken out of the group by itself.
    let answered: Vec<Arc<AtomicU64>> = (0..16).map(|_| Arc::default()).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..)
        .zip(&answered)
        .map(|(key, answered)| {
            let (node, answered, stop) = (group.node(2).clone(), answered.clone(), stop.clone());
            tokio::spawn(async move {
                for round in 1.. {
                    tokio::time::sleep(Duration::from_millis(key * 11)).await;
                    let (key, bytes) = (key.to_string(), round.to_string());
                    let op = put_op(&node, "photos", &key, bytes.as_bytes(), Condition::default()).await;
                    let request = WriteRequest { principal: String::new(), request: None, op, wait: Wait::Commit };
                    if stop.load(Ordering::SeqCst) || node.write(request).await.is_err() {
                        return;
                    }
                    answered.store(round, Ordering::SeqCst);
                }
            })
        })
        .collect();
    let leaver = group.node(2).clone();
    let leaves = tokio::spawn(async move { leaver.change(Change::Remove(ReplicaId(2))).await });
    within(PATIENCE, async || (group.node(2).membership().epoch > before).then_some(())).await;
    group.net.hold(2, 1, true);
    stop.store(true, Ordering::SeqCst);
    let seen: Vec<u64> = answered.iter().map(|answered| answered.load(Ordering::SeqCst)).collect();
    assert!(seen.iter().any(|round| *round > 0), "it has answered some of them");
    within(PATIENCE, async || (group.node(1).membership().epoch > before).then_some(())).await;
    let mut waits = 0;
    for (key, round) in seen.iter().enumerate().filter(|(_, round)| **round > 0) {
        let key = key.to_string();
        match tokio::time::timeout(Duration::from_millis(100), read(group.node(1), &key)).await {
            Ok(got) => {
                let got: u64 = got.map_or(0, |got| String::from_utf8(got).unwrap().parse().unwrap());
                assert!(got >= *round, "key {key}: {round} was answered, and then {got} was read");
            }
            Err(_) => waits += 1,
        }
    }
    assert!(waits > 0, "it has to wait for what the other one has said");
    group.net.hold(2, 1, false);
    for (key, round) in seen.iter().enumerate().filter(|(_, round)| **round > 0) {
        let got = read(group.node(1), &key.to_string()).await.unwrap();
        assert!(String::from_utf8(got).unwrap().parse::<u64>().unwrap() >= *round);
    }
    for writer in writers {
        writer.await.unwrap();
    }
    // Its answer may be lost with the node that gives it.
    let _ = leaves.await.unwrap();
    within(PATIENCE, async || group.node(1).ready().ok()).await;
    put(group.node(1), "photos", "alone", b"1").await;
    assert_eq!(read(group.node(1), "alone").await, Some(b"1".to_vec()));
    group.stop_node(1).await;
    group.start_node(1);
    group.is_ready(1).await;
    assert_eq!(read(group.node(1), "alone").await, Some(b"1".to_vec()));
    group.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_member_has_most_of_the_state_before_it_is_one() {
    const STATE_LEN: u64 = 12 << 20;
    let mut group = Group::start_with(4, 1, 0, Duration::from_millis(20)).await;
    create_bucket(group.node(1), "photos").await;
    for node in 2..=4 {
        assert_eq!(group.node(1).put_node("", group.entry_of(node)).await.unwrap(), Outcome::Done);
    }
    for node in [2, 3] {
        group.is_ready(1).await;
        change(group.node(1), Change::Add(ReplicaId(node))).await;
        group.is_ready(node).await;
    }
    let fill = futures::stream::iter(0..STATE_LEN / 100_000).map(|round| {
        let node = group.node(1 + u32::try_from(round % 3).unwrap()).clone();
        async move { put(&node, "photos", &format!("fill {round}"), &bytes(round, 100_000)).await }
    });
    fill.buffer_unordered(8).for_each(|_| async {}).await;
    let fetched = |node: u32| group.node(node).status().counters.fetched_state_bytes;
    let (stop, written, writer) = write_on(group.node(2), "meanwhile");
    let began = std::time::Instant::now();
    change(group.node(1), Change::Replace(ReplicaId(3), ReplicaId(4))).await;
    let (changed, before) = (began.elapsed(), written.load(Ordering::SeqCst));
    group.is_ready(4).await;
    let served = began.elapsed() - changed;
    assert_eq!(read(group.node(4), "fill 7").await, Some(bytes(7, 100_000)));
    // All of it once, and then a part of it: what changed meanwhile, and spans of rows around that.
    let all = fetched(4);
    assert!((STATE_LEN * 9 / 10..STATE_LEN * 3 / 2).contains(&all), "{all} bytes were fetched");
    assert!(served < Duration::from_secs(5), "it served {served:?} after the change");
    let more = written.load(Ordering::SeqCst);
    within(PATIENCE, async || (written.load(Ordering::SeqCst) > more + 20).then_some(())).await;
    stop.store(true, Ordering::SeqCst);
    writer.await.unwrap();
    assert!(before > 5, "writes went on: {before}");
    group.stop_node(3).await;
    group.have_one_ledger().await;
    group.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_gets_no_state_does_not_become_a_member() {
    let group = Group::start_with(3, 1, 0, Duration::ZERO).await;
    create_bucket(group.node(1), "photos").await;
    for node in 2..=3 {
        assert_eq!(group.node(1).put_node("", group.entry_of(node)).await.unwrap(), Outcome::Done);
    }
    // It is there and answers, and what it asks for does not come.
    group.net.cut(2, 1);
    let began = std::time::Instant::now();
    let refused = group.node(1).change(Change::Add(ReplicaId(2))).await.unwrap_err();
    assert!(matches!(refused, ChangeError::Stalled { node: ReplicaId(2), .. } | ChangeError::Absent(_)), "{refused}");
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    assert_eq!(group.node(1).membership().members, [ReplicaId(1)]);
    group.net.mend(2, 1);
    change(group.node(1), Change::Add(ReplicaId(2))).await;
    group.is_ready(2).await;
    group.stop().await;
}

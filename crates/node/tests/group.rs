//! Several nodes act as one store: through their public door, over links that are delayed and cut.
#![allow(clippy::unwrap_used)]

mod cluster;
mod common;

use std::time::Duration;

use cluster::{Group, within};
use common::{bytes, create_bucket, if_absent, put, put_if};
use node::{Change, Node, WriteError};
use types::{Outcome, Refusal};

const NO_DELAY: Duration = Duration::ZERO;
/// What must come comes within this, whatever else the machine does.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a linearizable GET gives.
async fn read(node: &Node, key: &str) -> Option<Vec<u8>> {
    node.catch_up("photos", key).await.unwrap();
    common::read(node, "photos", key).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_at_one_node_is_read_at_all_others_at_once() {
    let group = Group::start(3, 1, Duration::from_millis(5)).await;
    assert_eq!(create_bucket(group.node(1), "photos").await, Outcome::Done);
    for round in 0..10 {
        for writer in 1..=3 {
            let (key, value) = (format!("key {writer}"), bytes(round * 10 + u64::from(writer), 1000));
            let written = put(group.node(writer), "photos", &key, &value).await;
            assert!(written.receipt.is_some(), "an answer comes with its receipt");
            for reader in 1..=3 {
                assert_eq!(read(group.node(reader), &key).await, Some(value.clone()), "{key} at {reader}");
            }
        }
    }
    group.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_many_wins_who_create_a_key_at_different_nodes() {
    let group = Group::start(3, 1, Duration::from_millis(2)).await;
    create_bucket(group.node(1), "photos").await;
    for round in 0..20 {
        let key = format!("lock {round}");
        let tries = (1..=3).map(|at| {
            let (node, key) = (group.node(at).clone(), key.clone());
            tokio::spawn(async move { put_if(&node, "photos", &key, &bytes(at.into(), 10), if_absent()).await.outcome })
        });
        let mut won = 0;
        for outcome in futures::future::join_all(tries.collect::<Vec<_>>()).await {
            match outcome.unwrap() {
                Outcome::Refused(Refusal::PreconditionFailed) => {}
                Outcome::Refused(other) => panic!("{other:?}"),
                _ => won += 1,
            }
        }
        assert_eq!(won, 1, "{key}");
    }
    group.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_three_go_on_and_the_third_catches_up() {
    let mut group = Group::start(3, 1, NO_DELAY).await;
    create_bucket(group.node(1), "photos").await;
    put(group.node(3), "photos", "before", b"1").await;
    group.stop_node(3).await;
    for round in 0..50u64 {
        put(group.node(1 + (round % 2) as u32), "photos", &format!("key {round}"), &bytes(round, 5000)).await;
    }
    group.start_node(3);
    group.is_ready(3).await;
    for round in 0..50u64 {
        assert_eq!(read(group.node(3), &format!("key {round}")).await, Some(bytes(round, 5000)));
    }
    assert_eq!(read(group.node(3), "before").await, Some(b"1".to_vec()));
    put(group.node(3), "photos", "after", b"2").await;
    assert_eq!(read(group.node(2), "after").await, Some(b"2".to_vec()));
    group.have_one_ledger().await;
    group.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minority_says_why_it_takes_no_writes_and_comes_back_by_itself() {
    let group = Group::start(3, 1, NO_DELAY).await;
    create_bucket(group.node(1), "photos").await;
    put(group.node(1), "photos", "key", b"old").await;
    for other in [2, 3] {
        group.net.cut(1, other);
        group.net.cut(other, 1);
    }
    let refused = within(Duration::from_secs(20), async || group.node(1).ready().err()).await;
    assert!(
        matches!(refused, WriteError::NoQuorum { reachable: 1, members: 3, needed: 2 }),
        "a minority names what it can reach: {refused}"
    );
    put(group.node(2), "photos", "key", b"new").await;
    for other in [2, 3] {
        group.net.mend(1, other);
        group.net.mend(other, 1);
    }
    group.is_ready(1).await;
    assert_eq!(read(group.node(1), "key").await, Some(b"new".to_vec()));
    group.have_one_ledger().await;
    group.stop().await;
}

/// What a member thinks of another one.
fn thinks(node: &Node, of: u32) -> node::peer::PeerAccount {
    node.status().peers.into_iter().find(|account| account.replica == of).expect("it knows it")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_not_heard_is_suspected_and_writes_go_on_without_it() {
    let group = Group::start(3, 1, NO_DELAY).await;
    create_bucket(group.node(1), "photos").await;
    let before = thinks(group.node(1), 3);
    assert!(!before.suspected, "{before:?}");
    group.net.cut(3, 1);
    within(PATIENCE, async || thinks(group.node(1), 3).suspected.then_some(())).await;
    // With 3 in a fast quorum each of these would wait for the core to give up on it: 500 ms.
    let began = std::time::Instant::now();
    for round in 0..20 {
        put(group.node(1), "photos", &format!("key {round}"), b"1").await;
    }
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    group.net.mend(3, 1);
    let after = within(PATIENCE, async || {
        let account = thinks(group.node(1), 3);
        (!account.suspected).then_some(account)
    })
    .await;
    assert_eq!(after.false_suspicions, before.false_suspicions + 1, "it was there all the time");
    assert!(group.node(1).status().counters.false_suspicions > before.false_suspicions);
    group.stop().await;
}

/// It waits for no time-out: neither for that of a hello without an answer, nor for members that could not vouch for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_starts_again_serves_at_once() {
    let mut group = Group::start(3, 1, NO_DELAY).await;
    create_bucket(group.node(1), "photos").await;
    let mut quickest = Duration::MAX;
    for round in 0..3 {
        group.stop_node(3).await;
        put(group.node(1), "photos", &format!("key {round}"), b"1").await;
        group.start_node(3);
        let began = std::time::Instant::now();
        group.is_ready(3).await;
        put(group.node(3), "photos", &format!("mine {round}"), b"2").await;
        quickest = quickest.min(began.elapsed());
    }
    assert!(quickest < Duration::from_millis(1_500), "{quickest:?}");
    group.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_stop_and_start_again_and_nothing_is_lost() {
    let mut group = Group::start(3, 1, NO_DELAY).await;
    create_bucket(group.node(1), "photos").await;
    for round in 0..3u64 {
        for key in 0..10u64 {
            put(group.node(1 + (key % 3) as u32), "photos", &format!("{round}/{key}"), &bytes(round + key, 500)).await;
        }
        for replica in 1..=3 {
            group.stop_node(replica).await;
        }
        for replica in 1..=3 {
            group.start_node(replica);
        }
        for replica in 1..=3 {
            group.is_ready(replica).await;
        }
        for key in 0..10u64 {
            let found = read(group.node(1 + ((key + 1) % 3) as u32), &format!("{round}/{key}")).await;
            assert_eq!(found, Some(bytes(round + key, 500)), "{round}/{key}");
        }
    }
    group.have_one_ledger().await;
    group.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_body_outlives_the_node_that_took_it() {
    let mut group = Group::start(3, 1, NO_DELAY).await;
    create_bucket(group.node(1), "photos").await;
    let large = bytes(7, 9 << 20);
    put(group.node(1), "photos", "large", &large).await;
    group.stop_node(1).await;
    for reader in [2, 3] {
        assert_eq!(read(group.node(reader), "large").await.as_ref(), Some(&large), "at {reader}");
    }
    group.stop_node(3).await;
    let refused = group.node(2).place().err();
    assert!(matches!(refused, None | Some(WriteError::NoQuorum { .. })), "{refused:?}");
    group.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_nodes_survive_two() {
    let mut group = Group::start(5, 2, NO_DELAY).await;
    create_bucket(group.node(1), "photos").await;
    group.stop_node(4).await;
    group.stop_node(5).await;
    for round in 0..20u64 {
        put(group.node(1 + (round % 3) as u32), "photos", &format!("key {round}"), &bytes(round, 100)).await;
    }
    group.start_node(4);
    group.start_node(5);
    for replica in [4, 5] {
        group.is_ready(replica).await;
        assert_eq!(read(group.node(replica), "key 19").await, Some(bytes(19, 100)));
    }
    group.have_one_ledger().await;
    group.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_decided_has_a_receipt_too_and_any_nodes_policy_verifies_it() {
    let group = Group::start(3, 1, Duration::from_millis(1)).await;
    create_bucket(group.node(1), "photos").await;
    let policies: Vec<String> = (1..=3).map(|at| group.node(at).policy()).collect();
    assert!(policies.iter().all(|policy| *policy == policies[0]), "{policies:?}");
    let policy = ledger::policy::Policy::from_bytes(policies[0].as_bytes()).unwrap();
    // What the first node proposes arrives at the others, and what they say does not at it: they decide.
    group.net.cut(2, 1);
    group.net.cut(3, 1);
    let node = group.node(1).clone();
    let written = tokio::spawn(async move { put(&node, "photos", "cut off", b"a cat").await });
    let there = async || common::read(group.node(2), "photos", "cut off").await;
    within(Duration::from_secs(15), there).await;
    group.net.mend(2, 1);
    group.net.mend(3, 1);
    let mut receipts = vec![tokio::time::timeout(Duration::from_secs(15), written).await.unwrap().unwrap().receipt];
    for at in 1..=3 {
        // Silence is remembered for a moment.
        group.is_ready(at).await;
        receipts.push(put(group.node(at), "photos", "usual", b"a dog").await.receipt);
    }
    for receipt in receipts {
        let receipt =
            ledger::receipt::Receipt::from_bytes(&receipt.expect("an answer comes with its receipt")).unwrap();
        receipt.verify(&policy).unwrap();
    }
    group.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_under_writes_without_a_pause_is_ordered_among_them() {
    let group = Group::start(3, 1, Duration::from_millis(5)).await;
    group.node(1).change(Change::Upgrade).await.unwrap();
    create_bucket(group.node(1), "photos").await;
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    // Writers at all members, more at a time than a round takes: no instant is quiet. Each writes pairs, the second of
    // which is there only if the first is.
    let writers = (0..24u32).map(|writer| {
        let (node, stop) = (group.node(1 + writer % 3).clone(), stop.clone());
        tokio::spawn(async move {
            let mut round = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                put(&node, "photos", &format!("b {writer} {round}"), b"first").await;
                put(&node, "photos", &format!("a {writer} {round}"), b"second").await;
                round += 1;
            }
            round
        })
    });
    let writers: Vec<_> = writers.collect();
    let mut ordered = 0;
    for at in [1, 2, 3, 1, 2, 3] {
        tokio::time::sleep(Duration::from_millis(100)).await;
        put(group.node(at % 3 + 1), "photos", &format!("before {at}"), b"told").await;
        let view = tokio::time::timeout(Duration::from_secs(20), group.node(at).read_caught_up(None)).await;
        let view = view.expect("it answers").unwrap();
        let mut keys = std::collections::BTreeSet::new();
        catalog::query::each_object(&view, |place, _| {
            keys.insert(place.key);
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
        assert!(keys.contains(&format!("before {at}")), "what was told before is listed");
        for second in keys.iter().filter(|key| key.starts_with("a ")) {
            assert!(keys.contains(&second.replacen("a ", "b ", 1)), "{second} without what was written before it");
        }
        ordered += group.node(at).status().counters.ordered_reads;
    }
    assert!(ordered > 0, "some of them found no quiet instant");
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    for writer in writers {
        assert!(writer.await.unwrap() > 5);
    }
    group.have_one_ledger().await;
    group.stop().await;
}

//! Leases and homes of zones: reads that need nobody, and writes that one member coordinates for all.
#![allow(clippy::unwrap_used)]

mod cluster;
mod common;

use std::time::{Duration, Instant};

use cluster::{Group, within};
use common::{bytes, create_bucket, put};
use node::{Change, ChangeError, Node};
use types::command::{BeginEpoch, CreateBucket, DeleteItem, DeleteObjects, Holders, PutZone};
use types::{Command, Op, Outcome, ReplicaId};

const DELAY: Duration = Duration::from_millis(40);
const PATIENCE: Duration = Duration::from_secs(20);

async fn read(node: &Node, key: &str) -> Option<Vec<u8>> {
    node.catch_up("photos", key).await.unwrap();
    common::read(node, "photos", key).await
}

fn leased_by(holders: Holders) -> PutZone {
    PutZone { zone: "photos/".to_owned(), holders, home: None }
}

async fn say(node: &Node, zone: PutZone) {
    assert_eq!(node.put_zone("", zone).await.unwrap(), Outcome::Done);
}

/// Whether a node holds the only lease there is.
fn is_held(node: &Node) -> bool {
    node.zones().unwrap().iter().any(|zone| zone.is_held)
}

async fn holds(node: &Node) {
    within(PATIENCE, async || is_held(node).then_some(())).await;
}

/// Members that go by the newest logic, and their bucket.
async fn group(delay: Duration) -> Group {
    let group = Group::start(3, 1, delay).await;
    create_bucket(group.node(1), "photos").await;
    group.node(1).change(Change::Upgrade).await.unwrap();
    for replica in 1..=3 {
        let node = group.node(replica);
        within(PATIENCE, async || (node.membership().epoch.0 > 1 && node.ready().is_ok()).then_some(())).await;
    }
    group
}

#[tokio::test(flavor = "multi_thread")]
async fn who_holds_a_lease_reads_alone_and_sees_every_answered_write() {
    let group = group(DELAY).await;
    say(group.node(2), leased_by(Holders::Everyone)).await;
    for replica in 1..=3 {
        holds(group.node(replica)).await;
    }
    let before = group.node(3).status().counters;
    for round in 0..5u8 {
        for writer in 1..=3 {
            put(group.node(writer), "photos", "cat", &[round, writer as u8]).await;
            for reader in 1..=3 {
                // It may wait for a write that it knows, but asks nobody.
                assert_eq!(read(group.node(reader), "cat").await, Some(vec![round, writer as u8]));
            }
        }
    }
    let after = group.node(3).status().counters;
    assert!(after.leased_reads >= before.leased_reads + 15, "{after:?}");
    assert_eq!(after.quorum_reads, before.quorum_reads);
    // A listing, too.
    group.node(3).read_caught_up(Some("photos")).await.unwrap();
    assert_eq!(group.node(3).status().counters.quorum_reads, before.quorum_reads);
    // Of another bucket, and of all, nobody holds a lease.
    let since = Instant::now();
    group.node(3).catch_up("other", "cat").await.unwrap();
    assert!(since.elapsed() >= 2 * DELAY, "{:?}", since.elapsed());
    say(group.node(2), leased_by(Holders::Nobody)).await;
    assert!(group.node(2).zones().unwrap().is_empty());
    put(group.node(1), "photos", "cat", b"last").await;
    for reader in 1..=3 {
        assert_eq!(read(group.node(reader), "cat").await, Some(b"last".to_vec()));
    }
    group.have_one_ledger().await;
    group.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_is_cut_off_reads_on_until_its_lease_ends_and_no_write_passes_it_by() {
    let group = group(Duration::from_millis(2)).await;
    say(group.node(1), leased_by(Holders::These(vec![ReplicaId(3)]))).await;
    holds(group.node(3)).await;
    put(group.node(1), "photos", "cat", b"old").await;
    // It knows that this one is decided, else it would wait to hear of that.
    assert_eq!(read(group.node(3), "cat").await, Some(b"old".to_vec()));
    for other in [1, 2] {
        group.net.cut(other, 3);
        group.net.cut(3, other);
    }
    let cut = Instant::now();
    let writer = group.node(1).clone();
    let write = tokio::spawn(async move { put(&writer, "photos", "cat", b"new").await });
    // What the holder answers while it can is the truth: the new value is nowhere to be seen before.
    let mut reads = 0;
    while is_held(group.node(3)) {
        assert!(!write.is_finished(), "a write was answered that the holder of a lease does not know");
        let got = tokio::time::timeout(Duration::from_millis(50), read(group.node(3), "cat")).await;
        if let Ok(got) = got {
            assert_eq!(got, Some(b"old".to_vec()));
            reads += 1;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(reads > 0, "it read under its lease after it was cut off");
    write.await.unwrap();
    let waited = cut.elapsed();
    assert!(waited < Duration::from_secs(4), "a write waits for the end of a lease, no longer: {waited:?}");
    assert_eq!(read(group.node(2), "cat").await, Some(b"new".to_vec()));
    for other in [1, 2] {
        group.net.mend(other, 3);
        group.net.mend(3, other);
    }
    within(PATIENCE, async || group.node(3).ready().ok()).await;
    assert_eq!(read(group.node(3), "cat").await, Some(b"new".to_vec()));
    holds(group.node(3)).await;
    group.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_holder_holds_its_lease_again_and_a_new_epoch_has_new_leases() {
    let mut group = group(Duration::from_millis(2)).await;
    say(group.node(1), leased_by(Holders::Everyone)).await;
    holds(group.node(2)).await;
    group.stop_node(2).await;
    put(group.node(1), "photos", "cat", b"while away").await;
    group.start_node(2);
    group.is_ready(2).await;
    assert_eq!(read(group.node(2), "cat").await, Some(b"while away".to_vec()));
    holds(group.node(2)).await;
    let epoch = group.node(1).membership().epoch;
    group.node(1).change(Change::Faults(1)).await.unwrap();
    within(PATIENCE, async || (group.node(2).membership().epoch > epoch).then_some(())).await;
    put(group.node(3), "photos", "cat", b"in the next epoch").await;
    assert_eq!(read(group.node(2), "cat").await, Some(b"in the next epoch".to_vec()));
    holds(group.node(2)).await;
    let before = group.node(2).status().counters.leased_reads;
    assert_eq!(read(group.node(2), "cat").await, Some(b"in the next epoch".to_vec()));
    assert!(group.node(2).status().counters.leased_reads > before);
    group.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_home_of_a_zone_coordinates_its_writes_while_it_can_be_reached() {
    let mut group = group(Duration::from_millis(2)).await;
    let zone = PutZone { zone: "photos/hot".to_owned(), holders: Holders::Nobody, home: Some(ReplicaId(3)) };
    say(group.node(1), zone).await;
    within(PATIENCE, async || (group.node(2).zones().unwrap().len() == 1).then_some(())).await;
    let forwarded = |group: &Group| group.node(1).status().counters.forwarded_writes;
    let written = put(group.node(1), "photos", "hot/1", b"1").await;
    assert_eq!(written.order.id.replica, ReplicaId(3), "the home proposed it");
    assert!(written.receipt.is_some(), "with its receipt");
    assert_eq!(forwarded(&group), 1);
    let written = put(group.node(1), "photos", "cold", b"1").await;
    assert_eq!((written.order.id.replica, forwarded(&group)), (ReplicaId(1), 1));
    assert_eq!(read(group.node(2), "hot/1").await, Some(b"1".to_vec()));
    group.stop_node(3).await;
    let written = put(group.node(1), "photos", "hot/2", b"2").await;
    assert_eq!(written.order.id.replica, ReplicaId(1), "whoever is asked, while the home is away");
    assert_eq!(read(group.node(2), "hot/2").await, Some(b"2".to_vec()));
    group.stop().await;
}

fn at_home_in(home: u32) -> PutZone {
    PutZone { zone: "photos/".to_owned(), holders: Holders::Nobody, home: Some(ReplicaId(home)) }
}

/// A home is a preference: what does not fit into a request, and what is one too many, is coordinated where it came.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_long_or_too_much_for_the_home_of_a_zone_is_coordinated_where_it_came() {
    let group = group(Duration::from_millis(20)).await;
    say(group.node(1), at_home_in(3)).await;
    within(PATIENCE, async || (group.node(1).zones().unwrap().len() == 1).then_some(())).await;
    // Inline, and still more than a request holds.
    let long = bytes(1, 100_000);
    let written = put(group.node(1), "photos", "long", &long).await;
    assert_eq!(written.order.id.replica, ReplicaId(1));
    assert_eq!(read(group.node(2), "long").await, Some(long));
    let puts = (0..100u32).map(|round| {
        let node = group.node(1).clone();
        tokio::spawn(async move { put(&node, "photos", &format!("{round}"), b"1").await.order.id.replica.0 })
    });
    let coordinators = futures::future::try_join_all(puts).await.unwrap();
    let count = |of: u32| coordinators.iter().filter(|coordinator| **coordinator == of).count();
    assert_eq!(count(1) + count(3), 100);
    assert!(count(1) > 0 && count(3) > 0, "{coordinators:?}");
    assert_eq!(group.node(1).status().counters.forwarded_writes, count(3) as u64);
    group.have_one_ledger().await;
    group.stop().await;
}

/// What a peer asks to have proposed, as it goes over the wire (`docs/formats/peer.md`).
fn propose(command: &[u8]) -> Vec<u8> {
    let len = u16::try_from(command.len()).unwrap().to_be_bytes();
    [&[2, 0x82, 7, 0x81, 0x59], &len[..], command].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_has_nothing_proposed_that_would_stop_the_group() {
    let group = group(Duration::from_millis(1)).await;
    let answer = async |command: &[u8]| {
        let answer = group.node(3).peers().request(ReplicaId(1), &propose(command)).await.unwrap();
        assert_eq!(answer[..2], [2, 0x82]);
        answer[2]
    };
    let command =
        |op: Op| Command { salt: [7; 32], principal: "peer".to_owned(), request: None, op }.to_bytes().unwrap();
    const DONE: u8 = 0;
    const DECLINED: u8 = 1;
    let membership = group.node(3).membership();
    let begins = BeginEpoch { membership: membership.to_bytes(), members: membership.members.clone() };
    assert_eq!(answer(&command(Op::BeginEpoch(begins))).await, DECLINED);
    let create = CreateBucket { bucket: "of-a-peer".to_owned(), region: None };
    assert_eq!(answer(&command(Op::CreateBucket(create))).await, DECLINED, "it is about no key");
    assert_eq!(answer(b"no command").await, DECLINED);
    let item = DeleteItem { key: "cat".to_owned(), version: None, condition: Default::default() };
    let delete = DeleteObjects { bucket: "photos".to_owned(), items: vec![item] };
    assert_eq!(answer(&command(Op::DeleteObjects(delete))).await, DONE);
    let short = group.node(3).peers().request(ReplicaId(1), &propose(b"x")[..5]).await;
    assert!(short.is_err());
    put(group.node(1), "photos", "cat", b"alive").await;
    assert_eq!(read(group.node(3), "cat").await, Some(b"alive".to_vec()));
    group.have_one_ledger().await;
    group.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_goes_by_the_first_logic_knows_no_zones_before_it_is_upgraded() {
    let group = Group::start(1, 0, Duration::ZERO).await;
    let node = group.node(1);
    let refused = node.put_zone("", leased_by(Holders::Everyone)).await.unwrap_err();
    assert!(matches!(refused, ChangeError::Unready { has: 1, needed: 2 }), "{refused}");
    node.change(Change::Upgrade).await.unwrap();
    say(node, leased_by(Holders::Everyone)).await;
    let again = node.change(Change::Upgrade).await.unwrap_err();
    assert!(matches!(again, ChangeError::Upgraded(2)), "{again}");
    group.stop().await;
}

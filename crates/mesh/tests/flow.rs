//! The classes do not hold up each other, and a slow reader holds up only what it does not read.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use common::{Cluster, Node, eventually, pair, within};
use mesh::links::emulate::{Path, Sea};
use mesh::links::{Event, Link};
use types::ReplicaId;
use types::limits::{
    MESH_JOURNAL_QUEUE_LEN_MAX, MESH_JOURNAL_QUEUE_MAX, MESH_RECEIVED_LEN_MAX, MESH_RECEIVED_MAX, MESH_REQUESTS_MAX,
    MESH_STREAM_WINDOW_LEN, MESH_URGENT_QUEUE_MAX,
};

/// How long a sender must stand still to be taken for blocked.
const STILL: Duration = Duration::from_millis(400);

/// Sends frames of this length until the link takes no more, or `max` have gone; how many it took.
async fn fill_journal(link: &Link, len: usize, max: usize) -> usize {
    let mut taken = 0;
    while taken < max
        && let Ok(sent) = tokio::time::timeout(STILL, link.send_journal(Bytes::from(vec![0; len]))).await
    {
        sent.unwrap();
        taken += 1;
    }
    taken
}

/// Over a line of 30 MB/s, 64 MiB need over two seconds. An urgent message that is sent in the middle of it arrives before
/// another 3 MiB of it have: on the stream of the bulk it would come after all of what is on its way there, 4 MiB.
#[tokio::test]
async fn an_urgent_message_overtakes_bulk() {
    const BULK_LEN: usize = 64 * 1024 * 1024;
    let cluster = Cluster::new(1);
    let sea = Sea::new(1);
    let rate = Some(30_000_000);
    sea.set(1, 2, Path { rate, ..Path::default() });
    let (mut one, mut two) = (cluster.node(1), cluster.node(2));
    two.expect(&[1]);
    one.dial(&[(2, sea.route(1, 2, two.address()).await.unwrap())]);
    let (to_two, to_one) = (one.up(2).await, two.up(1).await);
    tokio::spawn(async move {
        let Event::Request { mut responder, .. } = one.next().await else { panic!("a request comes") };
        responder.send(Bytes::from(vec![5; BULK_LEN])).await.unwrap();
        responder.finish().await.unwrap();
        one.next().await
    });
    let mut answer = to_one.request(Bytes::from_static(b"bulk")).await.unwrap();
    let received = Arc::new(AtomicUsize::new(0));
    let reading = tokio::spawn({
        let received = received.clone();
        async move {
            while let Some(piece) = answer.next().await.unwrap() {
                received.fetch_add(piece.len(), Ordering::Relaxed);
            }
        }
    });
    let received = || received.load(Ordering::Relaxed);
    eventually(|| received() >= BULK_LEN / 32).await;
    let sent_at = received();
    to_two.send_urgent(Bytes::from_static(b"now")).unwrap();
    assert_eq!(two.urgent().await, "now");
    let overtaken = received() - sent_at;
    assert!(overtaken < 3 * 1024 * 1024, "{overtaken} bytes arrived in between");
    assert!(received() < BULK_LEN && !reading.is_finished(), "the rest of the bulk is still to come");
    reading.abort();
}
#[tokio::test]
async fn a_journal_that_is_not_read_stops_its_sender_within_bounds_and_nothing_else() {
    const FRAME_LEN: usize = 64 * 1024;
    let cluster = Cluster::new(1);
    let mut nodes = [cluster.node(1), cluster.node(2), cluster.node(3)];
    nodes[0].expect(&[2, 3]);
    nodes[1].dial(&[(1, nodes[0].address())]);
    nodes[2].dial(&[(1, nodes[0].address())]);
    let [reader, two, three] = &mut nodes;
    let (from_two, from_three) = (two.up(1).await, three.up(1).await);
    // the reader takes events, but does not let go of what replica 2 sent
    let sending = tokio::spawn({
        let link = from_two.clone();
        async move { fill_journal(&link, FRAME_LEN, 1000).await }
    });
    let mut held = Vec::new();
    let taken = loop {
        match tokio::time::timeout(STILL / 4, reader.events.next()).await {
            Ok(Some(Event::Journal { bytes, .. })) => held.push(bytes),
            Ok(_) => {}
            Err(_) if sending.is_finished() => break sending.await.unwrap() * FRAME_LEN,
            Err(_) => {}
        }
    };
    let held_len: usize = held.iter().map(|bytes| bytes.len()).sum();
    assert_eq!(held_len, MESH_RECEIVED_LEN_MAX, "what the reader may have in hand");
    let bound = MESH_JOURNAL_QUEUE_LEN_MAX + MESH_STREAM_WINDOW_LEN as usize + MESH_RECEIVED_LEN_MAX + 2 * FRAME_LEN;
    assert!(taken > held_len && taken <= bound, "{taken} bytes taken, at most {bound}");
    assert!(from_two.observation().journal_waiting_len > 0);
    // the other classes of that link, and the other link, go on
    from_two.send_urgent(Bytes::from_static(b"urgent")).unwrap();
    assert_eq!(reader.urgent().await, "urgent");
    from_three.send_journal(Bytes::from_static(b"of three")).await.unwrap();
    let other = reader
        .until(|event| match event {
            Event::Journal { peer: ReplicaId(3), bytes } => Some(bytes.into_bytes()),
            _ => None,
        })
        .await;
    assert_eq!(other, "of three");
    // let go, and it flows again, in order and without a gap
    drop(held);
    let mut rest = 0;
    while held_len + rest < taken {
        rest += reader.journal().await.len();
    }
    assert_eq!(held_len + rest, taken);
    eventually(|| from_two.observation().journal_waiting_len == 0).await;
}

#[tokio::test]
async fn many_small_frames_are_bounded_by_their_number() {
    let ((_one, to_two), (two, _to_one)) = pair(&Cluster::new(1)).await;
    let filled = fill_journal(&to_two, 0, 1_000_000).await;
    // each takes eight bytes of the stream's window, and what is in hand is counted by the message
    let bound = MESH_JOURNAL_QUEUE_MAX + MESH_STREAM_WINDOW_LEN as usize / 8 + MESH_RECEIVED_MAX + 2;
    assert!(filled > MESH_RECEIVED_MAX && filled <= bound, "{filled} taken, at most {bound}");
    drop(two);
}

/// A peer that is gone for a while costs the urgent class its oldest messages, and never makes the sender wait.
#[tokio::test]
async fn urgent_messages_that_cannot_leave_cost_the_oldest() {
    let ((_one, to_two), (mut two, _to_one)) = pair(&Cluster::new(1)).await;
    let text = vec![0; 60_000];
    for number in 0..1000_u32 {
        let mut bytes = text.clone();
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        to_two.send_urgent(bytes.into()).unwrap();
    }
    let seen = to_two.observation();
    assert!(seen.urgent_waiting <= MESH_URGENT_QUEUE_MAX);
    assert!(seen.urgent_dropped > 0, "60 MB do not fit into the queue");
    let mut last = None;
    while last != Some(999) {
        let bytes = two.urgent().await;
        let number = u32::from_be_bytes(bytes[..4].try_into().unwrap());
        assert!(last.is_none_or(|last| number > last), "in order: {number} after {last:?}");
        last = Some(number);
    }
}

#[tokio::test]
async fn requests_beyond_the_bound_wait_and_an_answer_nobody_reads_holds_up_no_other() {
    let ((_one, to_two), (mut two, _to_one)) = pair(&Cluster::new(1)).await;
    let mut open = Vec::new();
    for number in 0..MESH_REQUESTS_MAX {
        open.push(to_two.request(Bytes::from(number.to_string())).await.unwrap());
    }
    let one_more = to_two.request(Bytes::from_static(b"one more"));
    assert!(tokio::time::timeout(STILL, one_more).await.is_err(), "it waits");
    let mut responders = Vec::new();
    for _ in 0..MESH_REQUESTS_MAX {
        let Event::Request { responder, .. } = two.next().await else { panic!("requests come") };
        responders.push(responder);
    }
    // the first answer is long and is not read
    let mut first = responders.remove(0);
    let stuck = tokio::spawn(async move { first.send(Bytes::from(vec![0; 16 * 1024 * 1024])).await });
    responders.remove(0).finish().await.unwrap();
    let second = open.remove(1);
    assert_eq!(second.collect(10).await.unwrap(), "");
    let again = within(to_two.request(Bytes::from_static(b"again"))).await.unwrap();
    let Event::Request { bytes, responder, .. } = two.next().await else { panic!("a request comes") };
    assert_eq!(bytes, "again");
    responder.finish().await.unwrap();
    assert_eq!(again.collect(10).await.unwrap(), "");
    assert!(!stuck.is_finished());
    // whoever asked loses interest, and whoever answers is told
    drop(open);
    assert!(within(stuck).await.unwrap().is_err());
}

/// Loss costs time, not messages.
#[tokio::test]
async fn a_lossy_line_loses_no_frame() {
    let cluster = Cluster::new(1);
    let sea = Sea::new(7);
    let path = Path { delay: Duration::from_millis(5), loss: 0.05, ..Path::default() };
    sea.set(1, 2, path);
    sea.set(2, 1, path);
    let (mut one, mut two): (Node, Node) = (cluster.node(1), cluster.node(2));
    two.expect(&[1]);
    one.dial(&[(2, sea.route(1, 2, two.address()).await.unwrap())]);
    let link = one.up(2).await;
    let sending = tokio::spawn({
        let link = link.clone();
        async move {
            for number in 0..300_u32 {
                let mut frame = vec![0; 4000];
                frame[..4].copy_from_slice(&number.to_be_bytes());
                link.send_journal(frame.into()).await.unwrap();
            }
        }
    });
    for number in 0..300_u32 {
        assert_eq!(two.journal().await[..4], number.to_be_bytes());
    }
    sending.await.unwrap();
    let seen = link.observation();
    assert!(seen.packets_lost > 0 && seen.bytes_lost > 0, "{seen:?}");
}

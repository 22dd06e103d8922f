//! Links come up, carry, go down and come back, through the public door and over real sockets.
#![allow(clippy::unwrap_used)]

mod common;

use bytes::Bytes;
use common::{Cluster, Node, eventually, pair, within};
use mesh::links::emulate::{Path, Sea};
use mesh::links::{Config, DownReason, Event, RefusalKind, RequestError, SendError, Versions};
use types::ReplicaId;
use types::limits::{MESH_JOURNAL_FRAME_LEN_MAX, MESH_REQUEST_LEN_MAX, MESH_URGENT_LEN_MAX};

/// Waits until an address can be bound.
async fn free(address: std::net::SocketAddr) {
    eventually(|| std::net::UdpSocket::bind(address).is_ok()).await;
}

#[tokio::test]
async fn two_nodes_carry_all_classes_both_ways() {
    let ((mut one, to_two), (mut two, to_one)) = pair(&Cluster::new(1)).await;
    assert_eq!((to_two.peer(), to_one.peer()), (ReplicaId(2), ReplicaId(1)));
    to_two.send_urgent(Bytes::from_static(b"from one")).unwrap();
    to_one.send_urgent(Bytes::from(vec![7; MESH_URGENT_LEN_MAX])).unwrap();
    assert_eq!(two.urgent().await, "from one");
    assert_eq!(one.urgent().await, vec![7; MESH_URGENT_LEN_MAX]);
    for number in 0..100_u32 {
        to_two.send_journal(Bytes::copy_from_slice(&number.to_be_bytes())).await.unwrap();
    }
    let long = Bytes::from(vec![9; MESH_JOURNAL_FRAME_LEN_MAX]);
    to_two.send_journal(long.clone()).await.unwrap();
    to_one.send_journal(Bytes::new()).await.unwrap();
    for number in 0..100_u32 {
        assert_eq!(two.journal().await, &number.to_be_bytes()[..]);
    }
    assert!(two.journal().await == long);
    assert_eq!(one.journal().await, "");
}

#[tokio::test]
async fn requests_are_answered_in_pieces_or_refused_with_the_reason() {
    let ((_one, to_two), (mut two, _to_one)) = pair(&Cluster::new(1)).await;
    let server = tokio::spawn(async move {
        while let Some(event) = two.events.next().await {
            let Event::Request { bytes, mut responder, .. } = event else { continue };
            match &bytes[..] {
                b"much" => {
                    responder.send(Bytes::from(vec![1; 3_000_000])).await.unwrap();
                    responder.send(Bytes::from_static(b"end")).await.unwrap();
                    responder.finish().await.unwrap();
                }
                b"nothing" => responder.finish().await.unwrap(),
                b"drop" => {
                    responder.send(Bytes::from_static(b"half")).await.unwrap();
                    drop(responder);
                }
                _ => responder.fail("no such thing").await.unwrap(),
            }
        }
    });
    let ask = |what: &'static str| to_two.request(Bytes::from_static(what.as_bytes()));
    let much = ask("much").await.unwrap().collect(4_000_000).await.unwrap();
    assert_eq!((much.len(), &much[3_000_000..]), (3_000_003, &b"end"[..]));
    // waiting that is given up and taken up again loses nothing
    let (mut hasty, mut len) = (ask("much").await.unwrap(), 0);
    loop {
        match tokio::time::timeout(std::time::Duration::from_micros(50), hasty.next()).await {
            Ok(Ok(Some(piece))) => len += piece.len(),
            Ok(ended) => break assert_eq!(ended, Ok(None)),
            Err(_) => {}
        }
    }
    assert_eq!(len, 3_000_003);
    assert_eq!(ask("much").await.unwrap().collect(100).await, Err(RequestError::TooLong { max: 100 }));
    assert_eq!(ask("nothing").await.unwrap().collect(0).await.unwrap(), "");
    let failed = ask("else").await.unwrap().collect(100).await;
    assert_eq!(failed, Err(RequestError::Failed("no such thing".to_owned())));
    let broken = ask("drop").await.unwrap().collect(100).await;
    assert_eq!(broken, Err(RequestError::BrokenOff), "an answer without its end is not taken for whole");
    server.abort();
}

#[tokio::test]
async fn what_is_too_long_is_refused_at_the_door() {
    let ((_one, to_two), (_two, _to_one)) = pair(&Cluster::new(1)).await;
    let too_long = |max: usize| (Bytes::from(vec![0; max + 1]), SendError::TooLong { len: max + 1, max });
    let (bytes, error) = too_long(MESH_URGENT_LEN_MAX);
    assert_eq!(to_two.send_urgent(bytes), Err(error));
    let (bytes, error) = too_long(MESH_JOURNAL_FRAME_LEN_MAX);
    assert_eq!(to_two.send_journal(bytes).await, Err(error));
    let (bytes, error) = too_long(MESH_REQUEST_LEN_MAX);
    assert_eq!(to_two.request(bytes).await.err(), Some(error.into()));
}

#[tokio::test]
async fn three_nodes_that_all_dial_have_one_link_per_pair() {
    let cluster = Cluster::new(1);
    let mut nodes = [cluster.node(1), cluster.node(2), cluster.node(3)];
    let addresses: Vec<_> = nodes.iter().map(|node| (node.replica().0, node.address())).collect();
    nodes.iter().for_each(|node| node.dial(&addresses));
    for node in &nodes {
        eventually(|| node.endpoint.peers().iter().all(|peer| peer.link.is_some())).await;
        assert_eq!(node.endpoint.peers().len(), 2);
    }
    // whichever of both dials was dropped is gone, and what is left works in both directions
    for node in &nodes {
        eventually(|| node.endpoint.connections() == 2).await;
    }
    for from in 0..3 {
        for to in (0..3).filter(|to| *to != from) {
            let text = format!("{from} to {to}");
            let target = nodes[to].replica();
            within(async {
                while nodes[from].endpoint.link(target).unwrap().send_urgent(text.clone().into()).is_err() {
                    tokio::task::yield_now().await;
                }
            })
            .await;
            assert_eq!(nodes[to].urgent().await, text);
        }
    }
}

#[tokio::test]
async fn a_peer_that_restarts_on_the_same_address_is_linked_again() {
    let cluster = Cluster::new(1);
    let ((mut one, old), (two, _)) = pair(&cluster).await;
    let address = two.address();
    let identity = two.endpoint.identity();
    // stopped in order: it says so
    two.endpoint.close().await;
    drop(two);
    let reason = one.down(2).await;
    assert!(matches!(&reason, DownReason::Refused(refusal) if refusal.kind == RefusalKind::Closing), "{reason}");
    assert_eq!(old.send_urgent(Bytes::new()), Err(SendError::Down));
    assert_eq!(old.send_journal(Bytes::new()).await, Err(SendError::Down));
    assert_eq!(old.request(Bytes::new()).await.err(), Some(SendError::Down.into()));
    free(address).await;
    let mut two = Node::bind(Config { bind: address, ..cluster.config() }, identity);
    two.expect(&[1]);
    let (new, _) = (one.up(2).await, two.up(1).await);
    new.send_urgent(Bytes::from_static(b"again")).unwrap();
    assert_eq!(two.urgent().await, "again");
}

/// A node that is gone without a word and back at once: the peer still believes in the old connection.
#[tokio::test]
async fn a_restart_is_seen_before_the_old_connection_times_out() {
    let cluster = Cluster::new(1);
    let patient = || Config { idle_timeout: std::time::Duration::from_secs(60), ..cluster.config() };
    let sea = Sea::new(1);
    let mut one = Node::bind(patient(), cluster.identity(1));
    let mut two = Node::bind(patient(), cluster.identity(2));
    one.expect(&[2]);
    two.dial(&[(1, sea.route(2, 1, one.address()).await.unwrap())]);
    let (old, _) = (one.up(2).await, two.up(1).await);
    sea.set(2, 1, Path { cut: true, ..Path::default() });
    let identity = two.endpoint.identity();
    two.endpoint.close().await;
    let mut two = Node::bind(patient(), identity);
    assert!(old.is_up());
    two.dial(&[(1, sea.route(3, 1, one.address()).await.unwrap())]);
    assert_eq!(one.down(2).await, DownReason::Replaced);
    let (new, _) = (one.up(2).await, two.up(1).await);
    new.send_urgent(Bytes::from_static(b"again")).unwrap();
    assert_eq!(two.urgent().await, "again");
}

#[tokio::test]
async fn a_cut_takes_the_link_down_on_both_sides_and_its_end_brings_it_back() {
    let cluster = Cluster::new(1);
    let sea = Sea::new(1);
    let hasty = || Config { idle_timeout: std::time::Duration::from_millis(500), ..cluster.config() };
    let mut one = Node::bind(hasty(), cluster.identity(1));
    let mut two = Node::bind(hasty(), cluster.identity(2));
    two.expect(&[1]);
    one.dial(&[(2, sea.route(1, 2, two.address()).await.unwrap())]);
    for cuts in [&[(1, 2), (2, 1)][..], &[(1, 2)], &[(2, 1)]] {
        let (_, link) = (one.up(2).await, two.up(1).await);
        cuts.iter().for_each(|(from, to)| sea.set(*from, *to, Path { cut: true, ..Path::default() }));
        let (at_one, at_two) = tokio::join!(one.down(2), two.down(1));
        assert!(matches!(at_one, DownReason::Lost(_)), "{at_one}");
        // the other side may hear of it by the close of the one that noticed first
        assert!(!matches!(at_two, DownReason::Replaced | DownReason::Removed), "{at_two}");
        assert!(!link.is_up());
        assert!(one.endpoint.peers()[0].trouble.is_some());
        cuts.iter().for_each(|(from, to)| sea.set(*from, *to, Path::default()));
    }
    one.up(2).await.send_urgent(Bytes::from_static(b"healed")).unwrap();
    assert_eq!(two.urgent().await, "healed");
}

#[tokio::test]
async fn a_replica_that_is_no_peer_is_not_let_in_and_one_that_was_removed_is_let_go() {
    let cluster = Cluster::new(1);
    let (mut one, mut two) = (cluster.node(1), cluster.node(2));
    two.expect(&[3]);
    one.dial(&[(2, two.address())]);
    let (at_one, at_two) = (one.refusal().await, two.refusal().await);
    assert_eq!((at_one.kind, at_one.by_peer), (RefusalKind::NotAPeer, true));
    assert_eq!((at_two.kind, at_two.by_peer), (RefusalKind::NotAPeer, false));
    assert_eq!(at_one.reason, "replica 1 is not among the peers of replica 2");
    two.expect(&[1]);
    let _ = (one.up(2).await, two.up(1).await);
    two.expect(&[]);
    assert_eq!(two.down(1).await, DownReason::Removed);
    let reason = one.down(2).await;
    assert!(matches!(&reason, DownReason::Refused(refusal) if refusal.kind == RefusalKind::NotAPeer), "{reason}");
}

#[tokio::test]
async fn nodes_without_a_common_version_tell_each_other_and_others_use_the_highest() {
    let cluster = Cluster::new(1);
    let speaks = |min, max, replica| {
        Node::bind(Config { versions: Versions { min, max }, ..cluster.config() }, cluster.identity(replica))
    };
    let (mut old, mut new) = (speaks(1, 1, 1), speaks(2, 4, 2));
    new.expect(&[1, 3]);
    old.dial(&[(2, new.address())]);
    let (at_old, at_new) = (old.refusal().await, new.refusal().await);
    assert_eq!((at_old.kind, at_old.by_peer), (RefusalKind::Version, true));
    assert_eq!((at_new.kind, at_new.by_peer), (RefusalKind::Version, false));
    assert_eq!(at_old.reason, "replica 2 speaks version 2 to 4 of the mesh protocol, replica 1 version 1");
    assert!(old.endpoint.peers()[0].trouble.as_ref().unwrap().contains("version 2 to 4"));
    let mut middle = speaks(1, 3, 3);
    middle.dial(&[(2, new.address())]);
    assert_eq!((middle.up(2).await.version(), new.up(3).await.version()), (3, 3));
}

#[tokio::test]
async fn a_closed_endpoint_ends_its_events_and_frees_its_port() {
    let ((mut one, to_two), (two, _)) = pair(&Cluster::new(1)).await;
    let address = one.address();
    one.endpoint.close().await;
    assert!(!to_two.is_up());
    let mut last = None;
    while let Some(event) = within(one.events.next()).await {
        last = Some(event);
    }
    drop(one);
    assert!(matches!(last, Some(Event::Down { reason: DownReason::Closed, .. })), "{last:?}");
    free(address).await;
    drop((two, to_two));
}

#[tokio::test]
async fn an_observation_shows_delay_loss_bytes_and_the_key_exchange() {
    let cluster = Cluster::new(1);
    let sea = Sea::new(1);
    let delay = std::time::Duration::from_millis(20);
    sea.set(1, 2, Path { delay, ..Path::default() });
    sea.set(2, 1, Path { delay, ..Path::default() });
    let (mut one, mut two) = (cluster.node(1), cluster.node(2));
    two.expect(&[1]);
    one.dial(&[(2, sea.route(1, 2, two.address()).await.unwrap())]);
    let (link, back) = (one.up(2).await, two.up(1).await);
    for link in [&link, &back] {
        eventually(|| link.observation().round_trip.is_some_and(|trip| trip.samples >= 10)).await;
    }
    let seen = link.observation();
    let trip = seen.round_trip.unwrap();
    assert!(trip.min >= 2 * delay, "{trip:?}");
    assert!(trip.min <= trip.p50 && trip.p50 <= trip.p90 && trip.p90 <= trip.p99, "{trip:?}");
    assert_eq!((seen.peer, seen.name.as_str()), (ReplicaId(2), "node-2"));
    assert_eq!(seen.key_exchange, "X25519MLKEM768");
    assert_eq!(seen.certificate_days_left, 90);
    assert_eq!(seen.probe_loss, 0.0);
    assert!(seen.bytes_sent > 0 && seen.bytes_received > 0 && seen.packets_sent > 0 && seen.congestion_window > 0);
    // suspicion: low while the peer is heard, high in a silence that is shorter than the idle time-out
    eventually(|| link.observation().suspicion < 3.0).await;
    sea.set(2, 1, Path { cut: true, ..Path::default() });
    eventually(|| link.observation().suspicion > 8.0).await;
    assert!(link.is_up(), "suspected before it is down");
    sea.set(2, 1, Path { delay, loss: 0.3, ..Path::default() });
    eventually(|| link.observation().suspicion < 3.0).await;
}

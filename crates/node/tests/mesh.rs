//! Several nodes act as one store over the real mesh: QUIC on loopback, mutual TLS, the hybrid key exchange.
#![allow(clippy::unwrap_used)]

mod cluster;
mod common;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use cluster::Group;
use common::{bytes, create_bucket, put};
use mesh::links::identity::Authority;
use mesh::links::{Clock, Config, Endpoint};
use node::{Node, peer};
use types::ReplicaId;

async fn read(node: &Node, key: &str) -> Option<Vec<u8>> {
    node.catch_up("photos", key).await.unwrap();
    common::read(node, "photos", key).await
}

/// Binds an endpoint for a member, and carries what it hears.
fn join_mesh(group: &Group, authority: &Authority, replica: u32, bind: SocketAddr) -> Endpoint {
    let clock = Clock::system();
    let identity = authority.issue_identity(ReplicaId(replica), &format!("node-{replica}"), &clock).unwrap();
    let (endpoint, events) = Endpoint::bind(Config::new(bind), identity).unwrap();
    tokio::spawn(peer::links::carry(events, group.node(replica).peers().clone()));
    endpoint
}

fn name_peers(endpoints: &[Endpoint]) {
    let addresses: BTreeMap<ReplicaId, Vec<String>> = (1..)
        .zip(endpoints)
        .map(|(replica, endpoint)| (ReplicaId(replica), vec![endpoint.local_address().to_string()]))
        .collect();
    endpoints.iter().for_each(|endpoint| endpoint.set_peers(addresses.clone()));
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_act_as_one_over_quic() {
    let mut group = Group::found(3, 1, Duration::ZERO);
    let ca = group.folder().join("ca");
    let authority = Authority::init(&ca, cluster::cluster(), &Clock::system()).unwrap();
    let any = (Ipv4Addr::LOCALHOST, 0).into();
    let mut endpoints = Vec::new();
    for replica in 1..=3 {
        group.start_unlinked(replica);
        endpoints.push(join_mesh(&group, &authority, replica, any));
    }
    name_peers(&endpoints);
    for replica in 1..=3 {
        group.is_ready(replica).await;
    }
    create_bucket(group.node(1), "photos").await;
    let large = bytes(1, 5 << 20);
    put(group.node(2), "photos", "small", b"entangled").await;
    put(group.node(3), "photos", "large", &large).await;
    for replica in 1..=3 {
        assert_eq!(read(group.node(replica), "small").await, Some(b"entangled".to_vec()));
        assert_eq!(read(group.node(replica), "large").await.as_ref(), Some(&large));
    }
    for status in endpoints.iter().flat_map(Endpoint::peers) {
        let observed = status.link.expect("all are linked").observation();
        assert_eq!(observed.key_exchange, "X25519MLKEM768");
    }
    // One goes and comes back on the same address.
    let address = endpoints[2].local_address();
    group.stop_node(3).await;
    endpoints.remove(2).close().await;
    put(group.node(1), "photos", "meanwhile", b"1").await;
    group.start_unlinked(3);
    endpoints.push(join_mesh(&group, &authority, 3, address));
    name_peers(&endpoints);
    group.is_ready(3).await;
    assert_eq!(read(group.node(3), "meanwhile").await, Some(b"1".to_vec()));
    group.have_one_ledger().await;
    for endpoint in &endpoints {
        endpoint.close().await;
    }
    group.stop().await;
}

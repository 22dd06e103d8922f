//! The network between the nodes: a relay of UDP datagrams in front of every node's mesh, which can be cut and slowed
//! down for each direction of each pair.
//!
//! Others dial the relay of a node, which is where the node says that it is reached. A relay has one socket for each that
//! dials, so the node tells them apart; who dials is told by the port that it listens on, which is what it sends from.
//! Peers know each other by certificate, so they do not notice.

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use parking_lot::Mutex;
use tokio::net::UdpSocket;

use crate::random::Random;

/// The longest datagram.
const DATAGRAM_LEN_MAX: usize = 65_536;

/// What happens to datagrams of one direction of a pair.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Rule {
    /// None arrives.
    pub(super) cut: bool,
    /// Each takes this much longer, and up to as much again.
    pub(super) delay_ms: u64,
    /// So many of a hundred are lost.
    pub(super) loss_percent: u64,
}

impl Rule {
    /// Nothing arrives.
    pub(super) const CUT: Self = Self { cut: true, delay_ms: 0, loss_percent: 0 };
}

/// What is between the nodes.
#[derive(Clone)]
pub(super) struct Network {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    /// Which node listens on a port.
    ports: BTreeMap<u16, u32>,
    rules: BTreeMap<(u32, u32), Rule>,
    random: Random,
}

impl Network {
    pub(super) fn new(seed: u64) -> Self {
        let inner = Inner { ports: BTreeMap::new(), rules: BTreeMap::new(), random: Random::new(seed) };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    /// Opens the relay of a node that listens on `port`; gives the relay's own port. Ends with the runtime.
    pub(super) async fn relay(&self, node: u32, port: u16) -> anyhow::Result<u16> {
        let front = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.context("a relay")?;
        let own = front.local_addr()?.port();
        self.inner.lock().ports.insert(port, node);
        let target = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        tokio::spawn(forward(self.clone(), Arc::new(front), node, target));
        Ok(own)
    }

    /// Sets what happens from one node to another.
    pub(super) fn set(&self, from: u32, to: u32, rule: Rule) {
        self.inner.lock().rules.insert((from, to), rule);
    }

    /// Takes all rules away.
    pub(super) fn heal(&self) {
        self.inner.lock().rules.clear();
    }

    /// Whether a datagram arrives, and after how long.
    fn fate(&self, from: u32, to: u32) -> Option<Duration> {
        let mut inner = self.inner.lock();
        let rule = inner.rules.get(&(from, to)).copied().unwrap_or_default();
        if rule.cut || (rule.loss_percent > 0 && inner.random.chance(rule.loss_percent)) {
            return None;
        }
        let more = if rule.delay_ms > 0 { inner.random.below(rule.delay_ms) } else { 0 };
        Some(Duration::from_millis(rule.delay_ms + more))
    }

    /// Who sends from a port; 0 for a newcomer that has not come up yet.
    fn node_at(&self, port: u16) -> u32 {
        self.inner.lock().ports.get(&port).copied().unwrap_or(0)
    }

    /// Sends a datagram on, if it is to arrive. What cannot be sent is lost, as datagrams are.
    async fn pass(&self, (from, to): (u32, u32), socket: &Arc<UdpSocket>, target: SocketAddr, data: &[u8]) {
        match self.fate(from, to) {
            None => {}
            Some(Duration::ZERO) => drop(socket.send_to(data, target).await),
            Some(delay) => {
                let (socket, data) = (socket.clone(), data.to_vec());
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    drop(socket.send_to(&data, target).await);
                });
            }
        }
    }
}

/// From those who dial to the node.
async fn forward(network: Network, front: Arc<UdpSocket>, node: u32, target: SocketAddr) {
    let mut sockets: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut data = vec![0; DATAGRAM_LEN_MAX];
    loop {
        let Ok((len, source)) = front.recv_from(&mut data).await else { continue };
        let from = network.node_at(source.port());
        let socket = match sockets.get(&source) {
            Some(socket) => socket.clone(),
            None => {
                let Ok(socket) = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await else { continue };
                let socket = Arc::new(socket);
                sockets.insert(source, socket.clone());
                tokio::spawn(back(network.clone(), socket.clone(), front.clone(), (node, source)));
                socket
            }
        };
        network.pass((from, node), &socket, target, &data[..len]).await;
    }
}

/// From the node back to one of them.
async fn back(network: Network, socket: Arc<UdpSocket>, front: Arc<UdpSocket>, (node, source): (u32, SocketAddr)) {
    let mut data = vec![0; DATAGRAM_LEN_MAX];
    loop {
        let Ok((len, _)) = socket.recv_from(&mut data).await else { continue };
        let to = network.node_at(source.port());
        network.pass((node, to), &front, source, &data[..len]).await;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    async fn hears(socket: &UdpSocket) -> Option<(Vec<u8>, SocketAddr)> {
        let mut data = vec![0; 100];
        let heard = tokio::time::timeout(Duration::from_millis(300), socket.recv_from(&mut data)).await.ok()?.unwrap();
        data.truncate(heard.0);
        Some((data, heard.1))
    }

    #[tokio::test]
    async fn datagrams_go_both_ways_until_they_are_cut() {
        let (one, two) = (UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let network = Network::new(1);
        network.relay(1, one.local_addr().unwrap().port()).await.unwrap();
        let relay = network.relay(2, two.local_addr().unwrap().port()).await.unwrap();
        one.send_to(b"there", ("127.0.0.1", relay)).await.unwrap();
        let (data, from) = hears(&two).await.unwrap();
        assert_eq!(data, b"there");
        two.send_to(b"back", from).await.unwrap();
        assert_eq!(hears(&one).await.unwrap().0, b"back");
        network.set(1, 2, Rule::CUT);
        one.send_to(b"lost", ("127.0.0.1", relay)).await.unwrap();
        assert_eq!(hears(&two).await, None);
        two.send_to(b"still", from).await.unwrap();
        assert_eq!(hears(&one).await.unwrap().0, b"still", "one way only");
        network.heal();
        one.send_to(b"again", ("127.0.0.1", relay)).await.unwrap();
        assert_eq!(hears(&two).await.unwrap().0, b"again");
    }
}

//! A cluster on loopback, for tests.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "a module of tests, of which each file uses its part"
)]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use mesh::links::identity::{Authority, Identity};
use mesh::links::{Admitted, Clock, Config, DownReason, Endpoint, Event, Events, Link, Porter, Refusal, RefusalKind};
use types::{ClusterId, ReplicaId};

/// When the tests begin, by the clocks of certificates.
pub const START_S: u64 = 1_800_000_000;
/// The longest that anything may take: for a machine that has much else to do.
pub const LIMIT: Duration = Duration::from_secs(15);
/// A day, in seconds.
pub const DAY_S: u64 = 24 * 60 * 60;

/// A clock that a test sets.
#[derive(Clone, Default)]
pub struct Hands(Arc<AtomicU64>);

impl Hands {
    pub fn new() -> Self {
        Self(Arc::new(AtomicU64::new(START_S)))
    }

    pub fn clock(&self) -> Clock {
        let hands = self.0.clone();
        Clock::from_fn(move || hands.load(Ordering::Relaxed))
    }

    pub fn forward(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }
}

/// The authority of a cluster, and the folder that it lives in.
pub struct Cluster {
    pub folder: tempfile::TempDir,
    pub authority: Arc<Authority>,
    pub hands: Hands,
}

impl Cluster {
    pub fn new(id: u8) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let hands = Hands::new();
        let authority = Authority::init(folder.path(), ClusterId([id; 16]), &hands.clock()).unwrap();
        Self { folder, authority: Arc::new(authority), hands }
    }

    pub fn identity(&self, replica: u32) -> Identity {
        self.authority.issue_identity(ReplicaId(replica), &format!("node-{replica}"), &self.hands.clock()).unwrap()
    }

    pub fn config(&self) -> Config {
        Config { clock: self.hands.clock(), ..quick() }
    }

    pub fn node(&self, replica: u32) -> Node {
        Node::bind(self.config(), self.identity(replica))
    }
}

/// A configuration for loopback: what regions need seconds for happens in a fraction.
pub fn quick() -> Config {
    Config {
        idle_timeout: Duration::from_secs(2),
        probe_interval: Duration::from_millis(20),
        redial_after: Duration::from_millis(20),
        redial_after_max: Duration::from_millis(200),
        certificate_check_interval: Duration::from_millis(50),
        ..Config::new((Ipv4Addr::LOCALHOST, 0).into())
    }
}

/// Lets each in whose token was not used by another before, with numbers from 9 on, and says so; what nodes of a cluster
/// share.
pub fn porter() -> Porter {
    let used = Mutex::new(BTreeMap::<[u8; 32], ([u8; 32], u32)>::new());
    Porter::from_fn(move |newcomer| {
        let mut used = used.lock().unwrap();
        let next = 9 + u32::try_from(used.len()).unwrap();
        let (key, replica) = *used.entry(newcomer.token).or_insert((newcomer.key, next));
        if key != newcomer.key {
            return Err((RefusalKind::TokenUsed, RefusalKind::TokenUsed.to_string()));
        }
        Ok(Admitted { replica: ReplicaId(replica), welcome: Bytes::from_static(b"welcome aboard") })
    })
}

/// An endpoint and what it tells.
pub struct Node {
    pub endpoint: Endpoint,
    pub events: Events,
}

impl Node {
    pub fn bind(config: Config, identity: Identity) -> Self {
        let (endpoint, events) = Endpoint::bind(config, identity).unwrap();
        Self { endpoint, events }
    }

    pub fn replica(&self) -> ReplicaId {
        self.endpoint.identity().replica()
    }

    pub fn address(&self) -> SocketAddr {
        self.endpoint.local_address()
    }

    /// Sets the peers and their addresses.
    pub fn dial(&self, peers: &[(u32, SocketAddr)]) {
        let peers: BTreeMap<_, _> =
            peers.iter().map(|(replica, address)| (ReplicaId(*replica), vec![address.to_string()])).collect();
        self.endpoint.set_peers(peers);
    }

    /// Lets a peer in, without dialling it.
    pub fn expect(&self, peers: &[u32]) {
        self.endpoint.set_peers(peers.iter().map(|replica| (ReplicaId(*replica), Vec::new())).collect());
    }

    /// The next event.
    pub async fn next(&mut self) -> Event {
        within(self.events.next()).await.expect("the endpoint is open")
    }

    /// The first event that `wanted` takes; others are dropped.
    pub async fn until<T>(&mut self, wanted: impl Fn(Event) -> Option<T>) -> T {
        within(async {
            loop {
                let event = self.events.next().await.expect("the endpoint is open");
                if let Some(found) = wanted(event) {
                    return found;
                }
            }
        })
        .await
    }

    /// The next link to this peer.
    pub async fn up(&mut self, of: u32) -> Link {
        self.until(|event| match event {
            Event::Up { peer, link } if peer == ReplicaId(of) => Some(link),
            _ => None,
        })
        .await
    }

    /// Why the link to this peer went down.
    pub async fn down(&mut self, of: u32) -> DownReason {
        self.until(|event| match event {
            Event::Down { peer, reason } if peer == ReplicaId(of) => Some(reason),
            _ => None,
        })
        .await
    }

    /// The next refusal.
    pub async fn refusal(&mut self) -> Refusal {
        self.until(|event| match event {
            Event::Refused { refusal, .. } => Some(refusal),
            _ => None,
        })
        .await
    }

    /// The next urgent message.
    pub async fn urgent(&mut self) -> Bytes {
        self.until(|event| match event {
            Event::Urgent { bytes, .. } => Some(bytes.into_bytes()),
            _ => None,
        })
        .await
    }

    /// The next journal frame.
    pub async fn journal(&mut self) -> Bytes {
        self.until(|event| match event {
            Event::Journal { bytes, .. } => Some(bytes.into_bytes()),
            _ => None,
        })
        .await
    }
}

/// Two nodes of one cluster that are linked; the first dialled.
pub async fn pair(cluster: &Cluster) -> ((Node, Link), (Node, Link)) {
    let (mut one, mut two) = (cluster.node(1), cluster.node(2));
    two.expect(&[1]);
    one.dial(&[(2, two.address())]);
    let (to_two, to_one) = (one.up(2).await, two.up(1).await);
    ((one, to_two), (two, to_one))
}

/// Waits for it, but not for ever.
pub async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, work).await.expect("it happens in time")
}

/// Waits until the condition holds, but not for ever.
pub async fn eventually(mut condition: impl FnMut() -> bool) {
    within(async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

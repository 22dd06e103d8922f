//! A group of nodes in one process: real folders, real journals, and links that tests delay and cut.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt as _};
use node::keys::Keys;
use node::peer::{Link, LinkClosed, Peers, RequestFailed};
use node::{GroupConfig, Node, NodeConfig};
use tokio::sync::mpsc;
use types::command::Member;
use types::limits::MESH_REQUEST_LEN_MAX;
use types::sign::Signer as _;
use types::{ClusterId, ReplicaId};

/// One direction between two nodes.
#[derive(Default)]
struct Way {
    is_cut: AtomicBool,
    /// What is ordered waits, and what is urgent passes it.
    is_held: AtomicBool,
}

/// The links of a group.
pub struct Net {
    delay: Duration,
    ways: HashMap<(u32, u32), Arc<Way>>,
}

struct TestLink {
    ordered: mpsc::Sender<(tokio::time::Instant, Bytes)>,
    urgent: mpsc::Sender<Bytes>,
    delay: Duration,
    from: ReplicaId,
    target: Peers,
    way: Arc<Way>,
}

impl Link for TestLink {
    fn send(&self, frame: Bytes) -> BoxFuture<'_, Result<(), LinkClosed>> {
        async move { self.ordered.send((tokio::time::Instant::now(), frame)).await.map_err(|_| LinkClosed) }.boxed()
    }

    fn send_urgent(&self, frame: Bytes) {
        let _ = self.urgent.try_send(frame);
    }

    fn request(&self, request: Bytes, len_max: usize) -> BoxFuture<'_, Result<Bytes, RequestFailed>> {
        async move {
            if request.len() > MESH_REQUEST_LEN_MAX {
                return Err(RequestFailed("too long for a request".to_owned()));
            }
            tokio::time::sleep(self.delay).await;
            while self.way.is_cut.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let answer = self.target.request(self.from, &request).await.map_err(RequestFailed)?;
            tokio::time::sleep(self.delay).await;
            if answer.len() > len_max { Err(RequestFailed("too long".to_owned())) } else { Ok(answer) }
        }
        .boxed()
    }

    fn round_trip(&self) -> Option<Duration> {
        Some(2 * self.delay)
    }
}

impl Net {
    pub fn new(nodes: u32, delay: Duration) -> Self {
        let pairs = (1..=nodes).flat_map(|from| (1..=nodes).map(move |to| (from, to)));
        Self { delay, ways: pairs.map(|pair| (pair, Arc::default())).collect() }
    }

    /// Links two running nodes, both ways.
    pub fn link(&self, a: (u32, &Peers), b: (u32, &Peers)) {
        self.connect(a, b);
        self.connect(b, a);
    }

    /// From now on nothing comes from one to the other; what was sent is lost.
    pub fn cut(&self, from: u32, to: u32) {
        self.ways[&(from, to)].is_cut.store(true, Ordering::SeqCst);
    }

    pub fn mend(&self, from: u32, to: u32) {
        self.ways[&(from, to)].is_cut.store(false, Ordering::SeqCst);
    }

    /// From now on journals do not come from one to the other, and everything else does.
    pub fn hold(&self, from: u32, to: u32, is_held: bool) {
        self.ways[&(from, to)].is_held.store(is_held, Ordering::SeqCst);
    }

    fn connect(&self, (from, origin): (u32, &Peers), (to, target): (u32, &Peers)) {
        let (ordered, mut frames) = mpsc::channel::<(tokio::time::Instant, Bytes)>(1024);
        let (urgent, mut urgents) = mpsc::channel::<Bytes>(64);
        let delay = self.delay;
        let way = self.ways[&(from, to)].clone();
        let link = TestLink { ordered, urgent, delay, from: ReplicaId(from), target: target.clone(), way: way.clone() };
        origin.up(ReplicaId(to), Arc::new(link));
        let (peers, lossy) = (target.clone(), way.clone());
        tokio::spawn(async move {
            while let Some((sent, frame)) = frames.recv().await {
                // A cut link carries nothing, and loses nothing of what is ordered: it is carried when it is mended.
                tokio::time::sleep_until(sent + delay).await;
                while way.is_cut.load(Ordering::SeqCst) || way.is_held.load(Ordering::SeqCst) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                if peers.frame(ReplicaId(from), &frame).await.is_err() {
                    return;
                }
            }
        });
        let peers = target.clone();
        tokio::spawn(async move {
            while let Some(frame) = urgents.recv().await {
                if lossy.is_cut.load(Ordering::SeqCst) {
                    continue;
                }
                let peers = peers.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    let _ = peers.urgent(ReplicaId(from), &frame);
                });
            }
        });
    }
}

/// A group whose members can be stopped and started again.
pub struct Group {
    folder: tempfile::TempDir,
    pub net: Net,
    members: Vec<Member>,
    /// How many of them found the group; the others wait to be added.
    founders: usize,
    faults: u32,
    pub checkpoint_len: u64,
    pub nodes: Vec<Option<Node>>,
}

impl Group {
    /// Members that run and are linked, as soon as they take work.
    pub async fn start(nodes: u32, faults: u32, delay: Duration) -> Self {
        let mut group = Self::found(nodes, faults, delay);
        for replica in 1..=nodes {
            group.start_node(replica);
        }
        for replica in 1..=nodes {
            group.is_ready(replica).await;
        }
        group
    }

    /// Nodes that run and are linked, of which the first few are members.
    pub async fn start_with(nodes: u32, founders: u32, faults: u32, delay: Duration) -> Self {
        let mut group = Self::found(nodes, faults, delay);
        group.founders = founders as usize;
        for replica in 1..=nodes {
            group.start_node(replica);
        }
        for replica in 1..=founders {
            group.is_ready(replica).await;
        }
        group
    }

    /// What the directory is to say of a node.
    pub fn entry_of(&self, replica: u32) -> types::command::PutNode {
        let member = self.members[replica as usize - 1].clone();
        types::command::PutNode {
            member,
            region: "somewhere".to_owned(),
            mesh: format!("node-{replica}:7443"),
            label: format!("node-{replica}"),
        }
    }

    /// Folders and keys of members, of which none runs.
    pub fn found(nodes: u32, faults: u32, delay: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut members = Vec::new();
        for replica in 1..=nodes {
            let keys = folder.path().join(format!("{replica}-keys"));
            let opened = Keys::open(&keys, true).unwrap();
            if replica > 1 {
                // One cluster key for all.
                std::fs::copy(folder.path().join("1-keys/cluster.key"), keys.join("cluster.key")).unwrap();
            }
            let name = format!("{}.entangle/replica/{replica}", cluster());
            members.push(Member { replica: ReplicaId(replica), name, key: opened.node.public_key() });
        }
        let empty = (0..nodes).map(|_| None).collect();
        let founders = members.len();
        Self { folder, net: Net::new(nodes, delay), members, founders, faults, checkpoint_len: 256 << 20, nodes: empty }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn node(&self, replica: u32) -> &Node {
        self.nodes[replica as usize - 1].as_ref().expect("the node runs")
    }

    /// Starts a member and links it with those that run.
    pub fn start_node(&mut self, replica: u32) {
        self.start_unlinked(replica);
        let node = self.node(replica);
        for (other, running) in (1..).zip(&self.nodes).filter(|(other, _)| *other != replica) {
            if let Some(running) = running {
                self.net.link((replica, node.peers()), (other, running.peers()));
            }
        }
    }

    pub fn start_unlinked(&mut self, replica: u32) {
        let mut config = NodeConfig::new(self.folder.path().join(replica.to_string()));
        config.reserve_len = 0;
        config.checkpoint_len = self.checkpoint_len;
        config.write_timeout = Duration::from_secs(20);
        config.group = Some(GroupConfig {
            cluster: cluster(),
            replica: ReplicaId(replica),
            members: self.members[..self.founders].to_vec(),
            faults: self.faults,
        });
        self.nodes[replica as usize - 1] = Some(Node::start(config).unwrap());
    }

    pub async fn stop_node(&mut self, replica: u32) {
        let node = self.nodes[replica as usize - 1].take().expect("the node runs");
        for other in self.nodes.iter().flatten() {
            other.peers().down(ReplicaId(replica));
        }
        node.shutdown().await;
    }

    /// Waits until a member takes work.
    pub async fn is_ready(&self, replica: u32) {
        let node = self.node(replica);
        let ready = async {
            while node.ready().is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(30), ready).await.is_err() {
            panic!("replica {replica} is not ready: {:?}", node.ready());
        }
    }
}

pub fn cluster() -> ClusterId {
    ClusterId(*b"a test's cluster")
}

/// Asks again and again until there is an answer.
pub async fn within<T>(patience: Duration, ask: impl AsyncFn() -> Option<T>) -> T {
    let asked = async {
        loop {
            if let Some(found) = ask().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(patience, asked).await.expect("it comes in time")
}

impl Group {
    pub async fn stop(self) {
        for node in self.nodes.into_iter().flatten() {
            node.shutdown().await;
        }
    }

    /// Writes once more, waits until all have sealed that, and compares what they have signed.
    pub async fn have_one_ledger(&self) {
        let running: Vec<u32> = (1..).zip(&self.nodes).filter(|(_, node)| node.is_some()).map(|(at, _)| at).collect();
        self.have_one_ledger_of(&running).await;
    }

    /// The same, of these.
    pub async fn have_one_ledger_of(&self, nodes: &[u32]) {
        let nodes: Vec<&Node> = nodes.iter().map(|replica| self.node(*replica)).collect();
        let node = nodes[0];
        let order = crate::common::create_bucket_order(node, "the-last-one").await;
        for node in &nodes {
            tokio::time::timeout(Duration::from_secs(20), node.included(order)).await.expect("it is sealed everywhere");
        }
        let shown = |node: &Node| {
            let ledger = node.status().ledger;
            (ledger.size, ledger.root)
        };
        let first = shown(node);
        for node in nodes {
            assert_eq!(shown(node), first, "one log at every member");
        }
    }
}

//! The other members of the group: what is said to them and heard from them, whoever carries it.
//!
//! A *link* to a peer carries frames. Its ordered lane keeps their order and waits while the peer is behind: journals
//! go there. What goes on its urgent lane may be lost. [`Peers`] is where whoever runs the links tells the node of
//! them.
//!
//! | part | file |
//! | --- | --- |
//! | the bytes of frames | `wire.rs` |
//! | the newest records and the last beat, as the loop publishes them | `tail.rs` |
//! | what one asks another for: chunks, states | `requests.rs` |
//! | bodies in the vaults of several members | `chunks.rs`; where those change, `bodies.rs` |
//! | the state, given to a member whose own is too old, and to one that is to be | `snapshot.rs` |
//! | the same, taken | `intake.rs` |
//! | a node that is to become a member | `learner.rs` |
//! | one task a reader: feeds it the journal, from memory or from the disk | `feed.rs` |
//! | the mesh as the carrier | `links.rs` |
//! | what the loop does about peers | `engine/peers.rs` |

pub(crate) mod bodies;
pub(crate) mod chunks;
pub(crate) mod feed;
pub(crate) mod intake;
pub(crate) mod learner;
pub mod links;
pub(crate) mod requests;
pub(crate) mod snapshot;
pub(crate) mod tail;
pub(crate) mod wire;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use types::ReplicaId;
use types::limits::PEER_FRAMES_MAX;

pub use wire::FrameError;

use crate::engine::Event;
use crate::engine::Submitted;
use crate::engine::inbox::Inbox;
use crate::node::Shared;
use wire::Frame;

/// The link is closed: the peer is not there, or the node ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the link is closed")]
pub struct LinkClosed;

/// Why a request got no answer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a request to another member failed: {0}")]
pub struct RequestFailed(pub String);

/// A connection to a peer.
pub trait Link: Send + Sync {
    /// Sends on the ordered lane; waits while it is full.
    fn send(&self, frame: Bytes) -> BoxFuture<'_, Result<(), LinkClosed>>;

    /// Sends on the urgent lane, or loses it.
    fn send_urgent(&self, frame: Bytes);

    /// Asks for something and takes the whole answer, of up to `len_max` bytes.
    fn request(&self, request: Bytes, len_max: usize) -> BoxFuture<'_, Result<Bytes, RequestFailed>>;

    /// How long a message takes to the peer and back, if it was measured.
    fn round_trip(&self) -> Option<Duration>;
}

/// What the loop hears of a peer.
pub(crate) enum Heard {
    /// A link is up. One before it is not used any more.
    Up(Arc<dyn Link>),
    /// The link is down.
    Down,
    /// A frame came; the permit is room in the queue of this peer.
    Frame(Box<Frame>, OwnedSemaphorePermit),
}

/// What the node thinks of a peer: part of its status (`docs/cli.md`).
#[derive(Clone, PartialEq, Debug, serde::Serialize)]
pub struct PeerAccount {
    /// The peer.
    pub replica: u32,
    /// Whether it is taken for failed: its link is down, it has not started, or it is silent for too long. New commands are
    /// then decided by others.
    pub suspected: bool,
    /// φ of its silence, counted in what it says of its journal.
    pub suspicion: f64,
    /// The silence after which it is suspected, in milliseconds.
    pub suspected_after_ms: u64,
    /// How often it was suspected for its silence and heard again on the same link.
    pub false_suspicions: u64,
}

/// Where the links of a node bring what they have. Cheap to clone.
#[derive(Clone)]
pub struct Peers {
    inbox: Arc<Inbox<Submitted, Event>>,
    rooms: Arc<Mutex<BTreeMap<ReplicaId, Arc<Semaphore>>>>,
    links: Arc<Mutex<BTreeMap<ReplicaId, Arc<dyn Link>>>>,
    node: Arc<OnceLock<Weak<Shared>>>,
    accounts: Arc<Mutex<Vec<PeerAccount>>>,
}

impl Peers {
    pub(crate) fn new(inbox: Arc<Inbox<Submitted, Event>>) -> Self {
        Self { inbox, rooms: Arc::default(), links: Arc::default(), node: Arc::default(), accounts: Arc::default() }
    }

    /// Room in the queue of a peer. There are as many as the cluster has nodes: whoever carries frames knows the peer's name.
    fn room(&self, peer: ReplicaId) -> Arc<Semaphore> {
        self.rooms.lock().entry(peer).or_insert_with(|| Arc::new(Semaphore::new(PEER_FRAMES_MAX))).clone()
    }

    /// A link to a peer is up.
    pub fn up(&self, peer: ReplicaId, link: Arc<dyn Link>) {
        self.links.lock().insert(peer, link.clone());
        self.tell(peer, Heard::Up(link));
    }

    /// The link to a peer is down.
    pub fn down(&self, peer: ReplicaId) {
        self.links.lock().remove(&peer);
        self.tell(peer, Heard::Down);
    }

    /// A frame came on the ordered lane. Waits while the node is behind; who brings it reads no further meanwhile. On an
    /// error the link is to be closed.
    pub async fn frame(&self, peer: ReplicaId, bytes: &[u8]) -> Result<(), FrameError> {
        let frame = Frame::from_bytes(bytes)?;
        // Never closed.
        if let Ok(permit) = self.room(peer).acquire_owned().await {
            self.tell(peer, Heard::Frame(Box::new(frame), permit));
        }
        Ok(())
    }

    /// A frame came on the urgent lane. Dropped when too many wait.
    pub fn urgent(&self, peer: ReplicaId, bytes: &[u8]) -> Result<(), FrameError> {
        let frame = Frame::from_bytes(bytes)?;
        if let Ok(permit) = self.room(peer).try_acquire_owned() {
            self.tell(peer, Heard::Frame(Box::new(frame), permit));
        }
        Ok(())
    }

    /// A peer asks for something: gives the answer, or why there is none.
    pub async fn request(&self, peer: ReplicaId, bytes: &[u8]) -> Result<Bytes, String> {
        let node = self.node.get().and_then(Weak::upgrade).ok_or("the node is stopping")?;
        let link = self.links.lock().get(&peer).cloned();
        requests::answer(&node, link.as_deref(), bytes).await
    }

    /// The link to a node, if it is up.
    pub(crate) fn link_to(&self, node: ReplicaId) -> Option<Arc<dyn Link>> {
        self.links.lock().get(&node).cloned()
    }

    /// The links that are up, those to the nearest nodes first, those to suspects last.
    pub(crate) fn links(&self) -> Vec<Arc<dyn Link>> {
        self.links_where(|_| true)
    }

    /// Those of them that lead to these nodes.
    pub(crate) fn links_to(&self, nodes: &[ReplicaId]) -> Vec<Arc<dyn Link>> {
        self.links_where(|node| nodes.contains(&node))
    }

    fn links_where(&self, is_meant: impl Fn(ReplicaId) -> bool) -> Vec<Arc<dyn Link>> {
        let links = self.links.lock();
        let meant = links.iter().filter(|(node, _)| is_meant(**node));
        let mut links: Vec<_> = meant
            .map(|(node, link)| {
                let delay = link.round_trip();
                ((self.is_suspected(*node), delay.is_none(), delay), link.clone())
            })
            .collect();
        links.sort_by_key(|(rank, _)| *rank);
        links.into_iter().map(|(_, link)| link).collect()
    }

    /// What the loop thinks of the peers.
    pub(crate) fn note(&self, accounts: Vec<PeerAccount>) {
        *self.accounts.lock() = accounts;
    }

    /// What the node thinks of its peers, as of the last 100 ms.
    pub(crate) fn accounts(&self) -> Vec<PeerAccount> {
        self.accounts.lock().clone()
    }

    fn is_suspected(&self, peer: ReplicaId) -> bool {
        self.accounts.lock().iter().any(|account| account.replica == peer.0 && account.suspected)
    }

    /// Who answers requests.
    pub(crate) fn serve(&self, node: Weak<Shared>) {
        self.node.set(node).expect("a node is started once");
    }

    fn tell(&self, peer: ReplicaId, heard: Heard) {
        self.inbox.tell(Event::Peer(peer, heard));
    }
}

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
//! | one task a reader: feeds it the journal, from memory or from the disk | `feed.rs` |
//! | what the loop does about peers | `engine/peers.rs` |

pub(crate) mod feed;
pub(crate) mod tail;
pub(crate) mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use types::ReplicaId;
use types::limits::PEER_FRAMES_MAX;

pub use wire::FrameError;

use crate::engine::Event;
use crate::engine::inbox::Inbox;
use crate::engine::Submitted;
use wire::Frame;

/// The link is closed: the peer is not there, or the node ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the link is closed")]
pub struct LinkClosed;

/// A connection to a peer.
pub trait Link: Send + Sync {
    /// Sends on the ordered lane; waits while it is full.
    fn send(&self, frame: Bytes) -> BoxFuture<'_, Result<(), LinkClosed>>;

    /// Sends on the urgent lane, or loses it.
    fn send_urgent(&self, frame: Bytes);

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

/// Where the links of a node bring what they have. Cheap to clone.
#[derive(Clone)]
pub struct Peers {
    inbox: Arc<Inbox<Submitted, Event>>,
    rooms: Arc<BTreeMap<ReplicaId, Arc<Semaphore>>>,
}

impl Peers {
    pub(crate) fn new(inbox: Arc<Inbox<Submitted, Event>>, others: impl Iterator<Item = ReplicaId>) -> Self {
        let rooms = others.map(|peer| (peer, Arc::new(Semaphore::new(PEER_FRAMES_MAX)))).collect();
        Self { inbox, rooms: Arc::new(rooms) }
    }

    /// The other members.
    pub fn others(&self) -> impl Iterator<Item = ReplicaId> + '_ {
        self.rooms.keys().copied()
    }

    /// A link to a peer is up. One to a stranger is not used.
    pub fn up(&self, peer: ReplicaId, link: Arc<dyn Link>) {
        self.tell(peer, Heard::Up(link));
    }

    /// The link to a peer is down.
    pub fn down(&self, peer: ReplicaId) {
        self.tell(peer, Heard::Down);
    }

    /// A frame came on the ordered lane. Waits while the node is behind; who brings it reads no further meanwhile. On an
    /// error the link is to be closed.
    pub async fn frame(&self, peer: ReplicaId, bytes: &[u8]) -> Result<(), FrameError> {
        let Some(room) = self.rooms.get(&peer) else { return Ok(()) };
        let frame = Frame::from_bytes(bytes)?;
        // Never closed.
        if let Ok(permit) = room.clone().acquire_owned().await {
            self.tell(peer, Heard::Frame(Box::new(frame), permit));
        }
        Ok(())
    }

    /// A frame came on the urgent lane. Dropped when too many wait.
    pub fn urgent(&self, peer: ReplicaId, bytes: &[u8]) -> Result<(), FrameError> {
        let Some(room) = self.rooms.get(&peer) else { return Ok(()) };
        let frame = Frame::from_bytes(bytes)?;
        if let Ok(permit) = room.clone().try_acquire_owned() {
            self.tell(peer, Heard::Frame(Box::new(frame), permit));
        }
        Ok(())
    }

    fn tell(&self, peer: ReplicaId, heard: Heard) {
        if self.rooms.contains_key(&peer) {
            self.inbox.tell(Event::Peer(peer, heard));
        }
    }
}

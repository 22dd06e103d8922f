//! The mesh as the carrier of frames: each peer's events go to the node in order, and none waits for another peer's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt as _};
use mesh::links::{Event, Events, RefusalKind};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use types::ReplicaId;
use types::limits::MESH_URGENT_LEN_MAX;

use super::{Link, LinkClosed, Peers, RequestFailed};

/// Brings the node what the endpoint of these events hears, until the endpoint is closed. The caller names the peers to
/// the endpoint ([`mesh::links::Endpoint::set_peers`]).
pub async fn carry(mut events: Events, peers: Peers) {
    // Bounded by what the mesh lets a peer have unread: a frame counts until it is handed over.
    let mut lanes: BTreeMap<ReplicaId, UnboundedSender<Event>> = BTreeMap::new();
    let mut strangers = BTreeSet::new();
    while let Some(event) = events.next().await {
        let Some(peer) = peer_of(&event) else {
            note(&event, &mut strangers);
            continue;
        };
        let lane = lanes.entry(peer).or_insert_with(|| {
            let (lane, mut waiting) = unbounded_channel();
            let peers = peers.clone();
            tokio::spawn(async move {
                while let Some(event) = waiting.recv().await {
                    hand_over(&peers, event).await;
                }
            });
            lane
        });
        // The task lives as long as its lane.
        let _ = lane.send(event);
    }
}

fn peer_of(event: &Event) -> Option<ReplicaId> {
    match event {
        Event::Up { peer, .. }
        | Event::Down { peer, .. }
        | Event::Urgent { peer, .. }
        | Event::Journal { peer, .. }
        | Event::Request { peer, .. } => Some(*peer),
        _ => None,
    }
}

async fn hand_over(peers: &Peers, event: Event) {
    match event {
        Event::Up { peer, link } => peers.up(peer, Arc::new(MeshLink(link))),
        Event::Down { peer, reason } => {
            tracing::info!(%peer, %reason, "the link to a peer is down");
            peers.down(peer);
        }
        Event::Urgent { peer, bytes } => {
            if let Err(error) = peers.urgent(peer, &bytes) {
                tracing::warn!(%peer, %error, "a peer said what makes no sense");
            }
        }
        Event::Journal { peer, bytes } => {
            if let Err(error) = peers.frame(peer, &bytes).await {
                tracing::warn!(%peer, %error, "a peer said what makes no sense");
            }
        }
        Event::Request { peer, bytes, mut responder } => {
            let peers = peers.clone();
            tokio::spawn(async move {
                // Who asked may be gone: then nobody misses the answer.
                let _ = match peers.request(peer, &bytes).await {
                    Ok(answer) if answer.is_empty() => responder.finish().await,
                    Ok(answer) => match responder.send(answer).await {
                        Ok(()) => responder.finish().await,
                        Err(error) => Err(error),
                    },
                    Err(reason) => responder.fail(&reason).await,
                };
            });
        }
        _ => {}
    }
}

/// Nodes whose knocking is remembered, so that it is said once.
const STRANGERS_MAX: usize = 1024;

/// What is about no peer of the group.
fn note(event: &Event, strangers: &mut BTreeSet<(bool, ReplicaId)>) {
    match event {
        // A node that has joined knocks before all others have heard of it, and hears of all others before they do.
        Event::Refused { peer: Some(peer), address, refusal } if refusal.kind == RefusalKind::NotAPeer => {
            let is_news = strangers.insert((refusal.by_peer, *peer));
            if strangers.len() > STRANGERS_MAX {
                strangers.clear();
            }
            match refusal.by_peer {
                _ if !is_news => {}
                true => tracing::info!(%peer, %address, "another node does not know this one yet; trying again"),
                false => {
                    tracing::info!(%peer, %address, "a node of this cluster that is not known here yet asks for a link");
                }
            }
        }
        Event::Refused { peer, address, refusal } => {
            tracing::warn!(?peer, %address, %refusal, "two nodes would not talk to each other");
        }
        Event::Joined { replica, name, address, .. } => tracing::info!(%replica, name, %address, "a node has joined"),
        Event::Renewed { expires_s } => tracing::info!(expires_s, "the certificate of this node was renewed"),
        _ => {}
    }
}

struct MeshLink(mesh::links::Link);

impl Link for MeshLink {
    fn send(&self, frame: Bytes) -> BoxFuture<'_, Result<(), LinkClosed>> {
        async move { self.0.send_journal(frame).await.map_err(|_| LinkClosed) }.boxed()
    }

    fn send_urgent(&self, frame: Bytes) {
        if frame.len() <= MESH_URGENT_LEN_MAX {
            // A link that is down loses it, as it may.
            let _ = self.0.send_urgent(frame);
        } else if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let link = self.0.clone();
            runtime.spawn(async move { link.send_journal(frame).await });
        }
    }

    fn request(&self, request: Bytes, len_max: usize) -> BoxFuture<'_, Result<Bytes, RequestFailed>> {
        let failed = |error: mesh::links::RequestError| RequestFailed(error.to_string());
        async move { self.0.request(request).await.map_err(failed)?.collect(len_max).await.map_err(failed) }.boxed()
    }

    fn round_trip(&self) -> Option<Duration> {
        self.0.observation().round_trip.map(|measured| measured.p50)
    }
}

//! The endpoint: one UDP socket, and the links over it.

use core::fmt;
use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use types::ReplicaId;
use types::limits::{MESH_ADDRESSES_MAX, MESH_EVENTS_MAX};

use super::config::Config;
use super::event::{DownReason, Event, Events};
use super::identity::{self, Identity};
use super::link::{Inner, Link};
use super::refusal::{Refusal, RefusalKind};
use super::registry::{Greeting, Pair, Verdict};
use super::{accept, dial, renew, transport};

/// How long [`Endpoint::close`] waits for the peers to be told.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// One UDP socket, and the links over it. Clones are the same endpoint; when the last is dropped, it closes.
#[derive(Clone)]
pub struct Endpoint {
    handle: Arc<Handle>,
}

/// What the clones of an endpoint share; its end is the endpoint's.
struct Handle {
    shared: Arc<Shared>,
}

/// Why an endpoint cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address cannot be bound.
    #[error("cannot bind {address}: {source}")]
    Socket {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// The identity cannot be used.
    #[error("cannot use the node's certificate: {0}")]
    Identity(String),
}

/// How things stand with one peer of [`Endpoint::set_peers`].
#[derive(Debug, Clone)]
pub struct PeerStatus {
    /// The peer.
    pub peer: ReplicaId,
    /// The link, while there is one.
    pub link: Option<Link>,
    /// Why the last attempt to talk did not succeed; empty after one that did.
    pub trouble: Option<String>,
}

/// What the tasks of an endpoint share.
pub(super) struct Shared {
    pub(super) config: Config,
    /// Drawn anew at each bind: peers see by it that we were restarted.
    pub(super) instance: u64,
    pub(super) quinn: quinn::Endpoint,
    pub(super) closing: CancellationToken,
    pub(super) tasks: TaskTracker,
    own: RwLock<Own>,
    state: Mutex<State>,
    events: Mutex<Option<mpsc::Sender<Event>>>,
}

/// The identity, and what dialling makes of it.
struct Own {
    identity: Identity,
    client: quinn::ClientConfig,
}

#[derive(Default)]
struct State {
    peers: BTreeMap<ReplicaId, Peer>,
}

/// One peer, linked or not.
struct Peer {
    addresses: Vec<String>,
    /// What the addresses were looked up as: whoever comes from there is let to the handshake before strangers.
    expected: HashSet<IpAddr>,
    pair: Pair,
    link: Option<Link>,
    /// The end of the last link's events.
    finished: Option<CancellationToken>,
    trouble: Option<Trouble>,
    /// Cancelled when it is no peer any more.
    removed: CancellationToken,
    /// Wakes its dialler.
    wake: Arc<Notify>,
}

/// Why the last attempt came to nothing.
#[derive(Clone)]
struct Trouble {
    text: String,
    told: Option<(RefusalKind, bool)>,
}

/// Why a connection does not become a link.
pub(super) enum NoLink {
    NotAPeer,
    Duplicate,
}

impl Endpoint {
    /// Binds the socket and begins to listen. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the address cannot be had, or the identity is no good.
    pub fn bind(config: Config, identity: Identity) -> Result<(Self, Events), BindError> {
        let unusable = |error: &dyn fmt::Display| BindError::Identity(error.to_string());
        if config.authority.as_ref().is_some_and(|authority| authority.cluster() != identity.cluster()) {
            return Err(unusable(&"the authority kept here is another cluster's"));
        }
        let (server, client) = tls(&config, &identity).map_err(|error| unusable(&error))?;
        let socket = |source| BindError::Socket { address: config.bind, source };
        let quinn = transport::endpoint(config.bind, Some(server)).map_err(socket)?;
        let (events, receiver) = mpsc::channel(MESH_EVENTS_MAX);
        let shared = Arc::new(Shared {
            config,
            instance: u64::from_be_bytes(identity::random()),
            quinn,
            closing: CancellationToken::new(),
            tasks: TaskTracker::new(),
            own: RwLock::new(Own { identity, client }),
            state: Mutex::default(),
            events: Mutex::new(Some(events)),
        });
        shared.tasks.spawn(accept::run(shared.clone()));
        shared.tasks.spawn(renew::run(shared.clone()));
        tokio::spawn(end_events(shared.clone()));
        Ok((Self { handle: Arc::new(Handle { shared }) }, Events::new(receiver)))
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }

    /// The socket's address.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.shared().quinn.local_addr().unwrap_or(self.shared().config.bind)
    }

    /// Names the peers, with their addresses as `host:port` (names are looked up at each dial; of several addresses each is
    /// tried in turn). New ones are dialled; links to replicas that are not among them go down; no others are let in.
    /// Addresses beyond [`types::limits::MESH_ADDRESSES_MAX`] are ignored. The own replica is skipped.
    pub fn set_peers(&self, mut peers: BTreeMap<ReplicaId, Vec<String>>) {
        let shared = self.shared();
        let own = shared.identity().replica();
        peers.remove(&own);
        peers.values_mut().for_each(|addresses| addresses.truncate(MESH_ADDRESSES_MAX));
        if shared.closing.is_cancelled() {
            return;
        }
        let mut state = shared.state.lock();
        state.peers.retain(|replica, peer| {
            let stays = peers.contains_key(replica);
            if !stays {
                peer.removed.cancel();
                if let Some(link) = &peer.link {
                    link.inner.close(DownReason::Removed);
                }
            }
            stays
        });
        for (replica, addresses) in peers {
            match state.peers.get_mut(&replica) {
                Some(known) if known.addresses == addresses => {}
                Some(known) => {
                    known.addresses = addresses;
                    known.wake.notify_one();
                }
                None => {
                    let peer = Peer::new(own, replica, addresses);
                    let (removed, wake) = (peer.removed.clone(), peer.wake.clone());
                    state.peers.insert(replica, peer);
                    shared.tasks.spawn(dial::run(shared.clone(), replica, removed, wake));
                }
            }
        }
    }

    /// The link to a peer, while there is one.
    #[must_use]
    pub fn link(&self, peer: ReplicaId) -> Option<Link> {
        self.shared().link(peer)
    }

    /// Connections that are held in memory: links, and those of whom it is not known yet who they are.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared().quinn.open_connections()
    }

    /// All peers and how things stand with them, by replica.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerStatus> {
        let state = self.shared().state.lock();
        let status = |(replica, peer): (&ReplicaId, &Peer)| PeerStatus {
            peer: *replica,
            link: peer.link.clone(),
            trouble: peer.trouble.as_ref().map(|trouble| trouble.text.clone()),
        };
        state.peers.iter().map(status).collect()
    }

    /// The identity as it is now; renewals change it.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.shared().identity()
    }

    /// Closes all links and the socket, and waits until the peers were told, at most for a second. The socket's address is
    /// free soon after the endpoint, its clones and what still waits of its answers were dropped.
    pub async fn close(&self) {
        let shared = self.shared();
        shared.close();
        let _ = tokio::time::timeout(CLOSE_WAIT, async {
            shared.quinn.wait_idle().await;
            shared.tasks.wait().await;
        })
        .await;
    }
}

/// Ends the events once the endpoint is closed and all of its tasks have told theirs.
async fn end_events(shared: Arc<Shared>) {
    shared.closing.cancelled().await;
    shared.tasks.wait().await;
    *shared.events.lock() = None;
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint(at {})", self.local_address())
    }
}

impl Peer {
    fn new(own: ReplicaId, peer: ReplicaId, addresses: Vec<String>) -> Self {
        Self {
            addresses,
            expected: HashSet::new(),
            pair: Pair::new(own, peer),
            link: None,
            finished: None,
            trouble: None,
            removed: CancellationToken::new(),
            wake: Arc::default(),
        }
    }
}

fn tls(config: &Config, identity: &Identity) -> Result<(quinn::ServerConfig, quinn::ClientConfig), rustls::Error> {
    let server = identity::server(identity, &config.clock, config.authority.is_some())?;
    let client = identity::client(identity, &config.clock)?;
    let idle = config.idle_timeout;
    Ok((transport::server_config(server, idle), transport::client_config(client, idle)))
}

impl Shared {
    pub(super) fn identity(&self) -> Identity {
        self.own.read().identity.clone()
    }

    pub(super) fn client_config(&self) -> quinn::ClientConfig {
        self.own.read().client.clone()
    }

    pub(super) fn link(&self, peer: ReplicaId) -> Option<Link> {
        self.state.lock().peers.get(&peer)?.link.clone()
    }

    pub(super) fn links(&self) -> Vec<Link> {
        self.state.lock().peers.values().filter_map(|peer| peer.link.clone()).collect()
    }

    pub(super) fn addresses(&self, peer: ReplicaId) -> Vec<String> {
        self.state.lock().peers.get(&peer).map(|peer| peer.addresses.clone()).unwrap_or_default()
    }

    /// Remembers where a peer may come from.
    pub(super) fn expect(&self, peer: ReplicaId, from: IpAddr) {
        if let Some(peer) = self.state.lock().peers.get_mut(&peer) {
            if peer.expected.len() >= MESH_ADDRESSES_MAX {
                peer.expected.clear();
            }
            peer.expected.insert(from);
        }
    }

    pub(super) fn is_expected(&self, from: IpAddr) -> bool {
        self.state.lock().peers.values().any(|peer| peer.expected.contains(&from))
    }

    /// From now on this identity is used, in new handshakes.
    pub(super) fn replace_identity(&self, identity: Identity) -> Result<(), rustls::Error> {
        let (server, client) = tls(&self.config, &identity)?;
        self.quinn.set_server_config(Some(server));
        *self.own.write() = Own { identity, client };
        Ok(())
    }

    /// Gives the user an event; waits while it has too many. One that nobody will read is dropped.
    pub(super) async fn tell(&self, event: Event) {
        let events = self.events.lock().clone();
        if let Some(events) = events {
            let _ = events.send(event).await;
        }
    }

    fn try_tell(&self, event: Event) {
        if let Some(events) = self.events.lock().as_ref() {
            let _ = events.try_send(event);
        }
    }

    /// Asked before our greeting goes out: the last link that ended, or nothing where we have a link already.
    pub(super) fn greet(&self, peer: ReplicaId) -> Result<u64, NoLink> {
        let mut state = self.state.lock();
        state.peers.get_mut(&peer).ok_or(NoLink::NotAPeer)?.pair.greet().ok_or(NoLink::Duplicate)
    }

    pub(super) fn greeting_failed(&self, peer: ReplicaId) {
        if let Some(peer) = self.state.lock().peers.get_mut(&peer) {
            peer.pair.greeting_failed();
        }
    }

    /// Our greeting was answered: makes this the link. Gives the end of the one before.
    pub(super) fn answered(&self, link: &Link, instance: u64) -> Result<Option<CancellationToken>, NoLink> {
        self.settle(link, |pair| pair.greeting_answered(link.inner.id, instance))
    }

    /// The peer greeted us: makes this the link. Gives the end of the one before.
    pub(super) fn greeted(&self, link: &Link, greeting: Greeting) -> Result<Option<CancellationToken>, NoLink> {
        self.settle(link, |pair| pair.greeted(greeting))
    }

    fn settle(&self, link: &Link, ask: impl FnOnce(&mut Pair) -> Verdict) -> Result<Option<CancellationToken>, NoLink> {
        let mut state = self.state.lock();
        let peer = state.peers.get_mut(&link.peer()).ok_or(NoLink::NotAPeer)?;
        if ask(&mut peer.pair) == Verdict::Close {
            return Err(NoLink::Duplicate);
        }
        if let Some(before) = peer.link.replace(link.clone()) {
            before.inner.close(DownReason::Replaced);
        }
        peer.trouble = None;
        Ok(peer.finished.replace(link.inner.finished.clone()))
    }

    /// A link is down: its place is free.
    pub(super) fn ended(&self, inner: &Inner, reason: &DownReason) {
        let mut state = self.state.lock();
        if let Some(peer) = state.peers.get_mut(&inner.peer)
            && peer.pair.down(inner.id)
        {
            peer.link = None;
            peer.trouble = Some(Trouble { text: reason.to_string(), told: None });
        }
        inner.down.cancel();
    }

    /// Keeps why a peer cannot be talked to, and tells the user when that is news.
    pub(super) fn trouble(&self, peer: ReplicaId, text: String) {
        if let Some(peer) = self.state.lock().peers.get_mut(&peer)
            && peer.link.is_none()
        {
            let told = peer.trouble.as_ref().and_then(|trouble| trouble.told);
            peer.trouble = Some(Trouble { text, told });
        }
    }

    /// Keeps that someone was refused, or refused us, and tells the user when that is news.
    pub(super) fn refused(&self, peer: Option<ReplicaId>, address: SocketAddr, refusal: Refusal) {
        if matches!(refusal.kind, RefusalKind::Duplicate | RefusalKind::Closing) {
            return;
        }
        let mut state = self.state.lock();
        let known = peer.and_then(|peer| state.peers.get_mut(&peer));
        let is_news = known.is_none_or(|known| known.refused(&refusal));
        drop(state);
        if !is_news {
            return;
        }
        tracing::warn!(?peer, %address, %refusal, "no link");
        self.try_tell(Event::Refused { peer, address, refusal });
    }

    fn close(&self) {
        self.closing.cancel();
        let state = self.state.lock();
        for peer in state.peers.values() {
            peer.removed.cancel();
            if let Some(link) = &peer.link {
                link.inner.close(DownReason::Closed);
            }
        }
        drop(state);
        self.quinn.close(RefusalKind::Closing.wire_code(), RefusalKind::Closing.to_string().as_bytes());
        self.tasks.close();
    }
}

impl Peer {
    /// Whether this refusal is another one than the last.
    fn refused(&mut self, refusal: &Refusal) -> bool {
        let told = (refusal.kind, refusal.by_peer);
        let is_news = self.trouble.as_ref().and_then(|trouble| trouble.told) != Some(told);
        if self.link.is_none() {
            self.trouble = Some(Trouble { text: refusal.to_string(), told: Some(told) });
        }
        is_news
    }
}

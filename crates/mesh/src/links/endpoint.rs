//! The endpoint: one UDP socket, and the links over it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::Bytes;
use types::ReplicaId;

use super::config::Config;
use super::event::Events;
use super::identity::Identity;
use super::link::Link;

/// One UDP socket, and the links over it. Clones are the same endpoint; when the last is dropped, it closes.
#[derive(Clone)]
pub struct Endpoint {}

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

impl Endpoint {
    /// Binds the socket and begins to listen. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the address cannot be had, or the identity is no good.
    pub fn bind(_config: Config, _identity: Identity) -> Result<(Self, Events), BindError> {
        todo!()
    }

    /// The socket's address.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        todo!()
    }

    /// Names the peers, with their addresses as `host:port` (names are looked up at each dial; of several addresses each is
    /// tried in turn). New ones are dialled; links to replicas that are not among them go down; no others are let in.
    /// Addresses beyond [`types::limits::MESH_ADDRESSES_MAX`] are ignored. The own replica is skipped.
    pub fn set_peers(&self, _peers: BTreeMap<ReplicaId, Vec<String>>) {
        todo!()
    }

    /// Sets what a newcomer is told together with its certificate; at most [`types::limits::MESH_WELCOME_LEN_MAX`] bytes,
    /// else it is not taken.
    pub fn set_welcome(&self, _welcome: Bytes) -> bool {
        todo!()
    }

    /// The link to a peer, while there is one.
    #[must_use]
    pub fn link(&self, _peer: ReplicaId) -> Option<Link> {
        todo!()
    }

    /// All peers and how things stand with them, by replica.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerStatus> {
        todo!()
    }

    /// The identity as it is now; renewals change it.
    #[must_use]
    pub fn identity(&self) -> Identity {
        todo!()
    }

    /// Closes all links and the socket, and waits until the peers were told, at most for a second.
    pub async fn close(&self) {
        todo!()
    }
}

impl core::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Endpoint(..)")
    }
}

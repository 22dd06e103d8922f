//! Who may talk: the cluster's authority, the certificates that it gives to nodes, and the tokens with which they join.
//! `docs/formats/mesh.md`, identity.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use types::{ClusterId, ReplicaId};

use super::config::Clock;
use super::refusal::Refusal;

/// The cluster's certificate authority: a key, and the folder that remembers its tokens. Few nodes keep it; it lies beside
/// the node's keys, never in the data folder.
#[derive(Debug)]
pub struct Authority {}

/// What a token is to be made for.
#[derive(Debug, Clone)]
pub struct Grant {
    /// The replica id that the newcomer gets. Never used before: that is for the caller to see to.
    pub replica: ReplicaId,
    /// Where nodes that keep the authority listen, as `host:port`.
    pub addresses: Vec<String>,
    /// How long the token may be used, in seconds.
    pub valid_s: u64,
}

/// Why something of the identity cannot be made, read or kept.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file is there that must not be overwritten.
    #[error("{path} is there already; it is not overwritten")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A file does not hold what it should, or may be read by others.
    #[error("{path} {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A name, an address or a certificate cannot be used.
    #[error("{0}")]
    Unusable(String),
}

impl Authority {
    /// Makes the authority of a new cluster in this folder (made with mode 0700 if it is missing; the key has mode 0600).
    ///
    /// # Errors
    /// When there is one already, or the disk says no.
    pub fn init(_folder: &Path, _cluster: ClusterId, _clock: &Clock) -> Result<Self, IdentityError> {
        todo!()
    }

    /// Opens the authority of this folder.
    ///
    /// # Errors
    /// When there is none, or others may read it.
    pub fn open(_folder: &Path) -> Result<Self, IdentityError> {
        todo!()
    }

    /// Makes certificates live for this many seconds, instead of 90 days.
    #[must_use]
    pub fn with_lifetime(self, _lifetime_s: u64) -> Self {
        todo!()
    }

    /// The cluster.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        todo!()
    }

    /// The pin by which newcomers know the authority: a hash of its key.
    #[must_use]
    pub fn pin(&self) -> [u8; 32] {
        todo!()
    }

    /// Makes a join token, and remembers it durably. May be called by another process than the node that will take it.
    ///
    /// # Errors
    /// When an address is unusable, or the disk says no.
    pub fn issue_token(&self, _grant: &Grant, _clock: &Clock) -> Result<Token, IdentityError> {
        todo!()
    }

    /// Gives an identity without a token: for the first node of a cluster, which made the authority.
    ///
    /// # Errors
    /// When the name is unusable.
    pub fn issue_identity(&self, _replica: ReplicaId, _name: &str, _clock: &Clock) -> Result<Identity, IdentityError> {
        todo!()
    }
}

/// A join token: what a newcomer needs to find the cluster, to know it, and to be let in once. Its text form is
/// [`ToString`] and [`str::parse`]; it is a secret until it was used.
#[derive(Clone)]
pub struct Token {}

impl Token {
    /// The cluster.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        todo!()
    }

    /// Where to join, as `host:port`.
    #[must_use]
    pub fn addresses(&self) -> &[String] {
        todo!()
    }

    /// When it expires, in seconds since the Unix epoch.
    #[must_use]
    pub fn expires_s(&self) -> u64 {
        todo!()
    }
}

/// A node's key and certificate, and the certificate of its cluster's authority. Clones share nothing that changes.
#[derive(Debug, Clone)]
pub struct Identity {}

impl Identity {
    /// Reads the identity of a folder.
    ///
    /// # Errors
    /// When there is none, it does not fit together, or others may read the key.
    pub fn open(_folder: &Path) -> Result<Self, IdentityError> {
        todo!()
    }

    /// Writes the identity into a folder (mode 0700), durably; the key has mode 0600. From then on renewals are written
    /// there too.
    ///
    /// # Errors
    /// When a different key is there already, or the disk says no.
    pub fn save(&mut self, _folder: &Path) -> Result<(), IdentityError> {
        todo!()
    }

    /// The cluster.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        todo!()
    }

    /// The replica.
    #[must_use]
    pub fn replica(&self) -> ReplicaId {
        todo!()
    }

    /// The node's name: 1 to 63 lower-case letters, digits and hyphens.
    #[must_use]
    pub fn name(&self) -> &str {
        todo!()
    }

    /// From when on the certificate is valid, in seconds since the Unix epoch.
    #[must_use]
    pub fn valid_from_s(&self) -> u64 {
        todo!()
    }

    /// When the certificate expires, in seconds since the Unix epoch.
    #[must_use]
    pub fn expires_s(&self) -> u64 {
        todo!()
    }
}

/// What a newcomer got.
#[derive(Debug)]
pub struct Welcome {
    /// Its identity; not yet saved.
    pub identity: Identity,
    /// What the cluster says to newcomers ([`super::Endpoint::set_welcome`]).
    pub welcome: Bytes,
    /// Who let it in.
    pub address: SocketAddr,
}

/// Why a join failed.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The token or the name is not one, with the reason.
    #[error("{0}")]
    Unusable(String),
    /// The cluster said no; see the kind.
    #[error(transparent)]
    Refused(Refusal),
    /// No address of the token answered.
    #[error("none of the token's addresses let this node in: {0}")]
    Unreachable(String),
}

/// Joins a cluster: with a fresh key, dials the token's addresses in turn until one gives a certificate. The server is known
/// by the token's pin. `introduction` is given to the user of the endpoint that lets the newcomer in
/// ([`super::Event::Joined`]); at most [`types::limits::MESH_WELCOME_LEN_MAX`] bytes.
///
/// # Errors
/// When the cluster refuses (an unknown, used or expired token), or is not to be reached.
pub async fn join(
    _token: &Token,
    _name: &str,
    _introduction: Bytes,
    _clock: &Clock,
) -> Result<Welcome, JoinError> {
    todo!()
}

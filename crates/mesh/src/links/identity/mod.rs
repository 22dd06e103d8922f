//! Who may talk: the cluster's authority, the certificates that it gives to nodes, and the tokens with which they join.
//! `docs/formats/mesh.md`, identity.

mod authority;
mod certificate;
mod der;
mod files;
mod join;
mod keypair;
mod names;
mod node;
mod tls;
mod token;

use std::net::SocketAddr;
use std::path::PathBuf;

use bytes::Bytes;

use super::refusal::Refusal;

pub use authority::Authority;
pub use join::join;
pub use node::Identity;
pub use token::{Token, TokenError};

pub(super) use certificate::{Member, key_of, read_certificate};
pub(super) use join::{JoinAnswer, JoinRequest, newcomer_key};
pub(super) use keypair::{PublicKey, random};
pub(super) use names::replica_name;
pub(super) use tls::{JOIN_PROTOCOL, MESH_PROTOCOL, client, key_exchange_name, member, member_of_link, server};
#[cfg(test)]
pub(super) use token::example as example_token;

/// What a token is to be made for.
#[derive(Debug, Clone)]
pub struct Grant {
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

/// What a newcomer got.
#[derive(Debug)]
pub struct Welcome {
    /// Its identity; not yet saved.
    pub identity: Identity,
    /// What the cluster says to newcomers ([`super::Admitted`]).
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

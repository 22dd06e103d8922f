//! Why one node will not talk to another: a kind that a program can act on, and words for whoever reads the log. Both
//! travel in the frame that closes the connection, so both sides know.

use core::fmt;

/// What was wrong. The numbers are the close codes of `docs/formats/mesh.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusalKind {
    /// The certificate has expired, or is not valid yet.
    Expired,
    /// The certificate comes from another cluster's authority.
    ForeignCluster,
    /// The certificate is none that this mesh understands, or does not belong to the replica that was dialled.
    Certificate,
    /// The replica is not among the peers that the other side was told of.
    NotAPeer,
    /// There is no version of the protocol that both speak.
    Version,
    /// The other side already has a connection to this node, and keeps that one.
    Duplicate,
    /// Something arrived that the protocol does not allow.
    Garbage,
    /// The token was used before.
    TokenUsed,
    /// The token's time is over.
    TokenExpired,
    /// The token is not one that this cluster gave out.
    TokenUnknown,
    /// This node does not keep the authority, and can neither take in newcomers nor renew certificates.
    NoAuthority,
    /// Too much at once; try again later.
    Busy,
    /// The node is stopping.
    Closing,
    /// Anything else, among it what a newer version may say.
    Other,
}

/// A refusal, by this side or by the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What was wrong.
    pub kind: RefusalKind,
    /// In words.
    pub reason: String,
    /// Whether the other side said it; else this side did.
    pub by_peer: bool,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = if self.by_peer { "refused by the peer" } else { "refused" };
        write!(f, "{side}: {}", self.reason)
    }
}

impl std::error::Error for Refusal {}

//! Why one node will not talk to another: a kind that a program can act on, and words for whoever reads the log. Both
//! travel in the frame that closes the connection, so both sides know.

use core::fmt;

use quinn::{ConnectionError, VarInt};

/// Codes of QUIC from here on carry a TLS alert in the low byte (RFC 9001, section 4.8).
const CRYPTO_ERROR: u64 = 0x100;

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

impl RefusalKind {
    /// All kinds, and their codes on the wire; the rest is [`RefusalKind::Other`].
    const CODES: [(Self, u32); 13] = [
        (Self::Closing, 1),
        (Self::Duplicate, 2),
        (Self::Version, 3),
        (Self::NotAPeer, 4),
        (Self::Garbage, 5),
        (Self::Expired, 6),
        (Self::ForeignCluster, 7),
        (Self::Certificate, 8),
        (Self::Busy, 9),
        (Self::NoAuthority, 10),
        (Self::TokenUnknown, 11),
        (Self::TokenUsed, 12),
        (Self::TokenExpired, 13),
    ];
    /// The code of what has no code of its own.
    const OTHER: u32 = 63;

    pub(super) fn code(self) -> u32 {
        Self::CODES.iter().find(|(kind, _)| *kind == self).map_or(Self::OTHER, |(_, code)| *code)
    }

    pub(super) fn wire_code(self) -> VarInt {
        VarInt::from_u32(self.code())
    }

    pub(super) fn from_code(code: u64) -> Self {
        Self::CODES.iter().find(|(_, known)| u64::from(*known) == code).map_or(Self::Other, |(kind, _)| *kind)
    }

    /// The kind that a TLS alert tells (RFC 8446, section 6.2).
    fn from_alert(alert: u64) -> Self {
        match alert {
            // certificate_expired
            45 => Self::Expired,
            // unknown_ca
            48 => Self::ForeignCluster,
            // bad_certificate, unsupported_certificate, certificate_unknown, decrypt_error, certificate_required
            42 | 43 | 46 | 51 | 116 => Self::Certificate,
            // access_denied
            49 => Self::NoAuthority,
            // handshake_failure (no key exchange in common), protocol_version, no_application_protocol
            40 | 70 | 120 => Self::Version,
            _ => Self::Other,
        }
    }
}

impl fmt::Display for RefusalKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "the certificate has expired or is not valid yet",
            Self::ForeignCluster => "the certificate comes from another cluster's authority",
            Self::Certificate => "the certificate is not that of the replica that was meant",
            Self::NotAPeer => "the replica is not among the peers here",
            Self::Version => "there is no version of the mesh protocol, or no key exchange, that both sides speak",
            Self::Duplicate => "there is a connection already",
            Self::Garbage => "something arrived that the protocol does not allow",
            Self::TokenUsed => "the join token was used before; make a new one",
            Self::TokenExpired => "the join token has expired; make a new one",
            Self::TokenUnknown => "the join token is not known here",
            Self::NoAuthority => "this node does not keep the cluster's authority",
            Self::Busy => "too much at once; try again later",
            Self::Closing => "the node is stopping",
            Self::Other => "for another reason",
        })
    }
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

/// The transport error of who takes no connections (RFC 9000, section 20.1).
const CONNECTION_REFUSED: u64 = 0x02;

impl Refusal {
    /// A refusal by this side.
    pub(super) fn ours(kind: RefusalKind, reason: impl Into<String>) -> Self {
        Self { kind, reason: reason.into(), by_peer: false }
    }

    /// Whether asking elsewhere would be answered the same.
    pub(super) fn is_final(&self) -> bool {
        matches!(
            self.kind,
            RefusalKind::TokenUsed
                | RefusalKind::TokenExpired
                | RefusalKind::TokenUnknown
                | RefusalKind::Expired
                | RefusalKind::Version
        )
    }

    /// The refusal in the end of a connection, if it was one.
    pub(super) fn from_connection(error: &ConnectionError) -> Option<Self> {
        match error {
            ConnectionError::ApplicationClosed(close) => {
                let reason = String::from_utf8_lossy(&close.reason).into_owned();
                Some(Self { kind: RefusalKind::from_code(close.error_code.into_inner()), reason, by_peer: true })
            }
            ConnectionError::ConnectionClosed(close) => {
                Self::from_transport(u64::from(close.error_code), &String::from_utf8_lossy(&close.reason), true)
            }
            ConnectionError::TransportError(error) => Self::from_transport(u64::from(error.code), &error.reason, false),
            ConnectionError::VersionMismatch => {
                Some(Self { kind: RefusalKind::Version, reason: error.to_string(), by_peer: true })
            }
            _ => None,
        }
    }

    fn from_transport(code: u64, said: &str, by_peer: bool) -> Option<Self> {
        let alert = code.checked_sub(CRYPTO_ERROR).filter(|alert| *alert < 0x100);
        let kind = match alert {
            Some(alert) => RefusalKind::from_alert(alert),
            // what an endpoint that closes says to who comes
            None if code == CONNECTION_REFUSED => RefusalKind::Closing,
            // a reason that the transport itself had: it is our fault or theirs, but no refusal of the user's kind
            None => RefusalKind::Garbage,
        };
        let reason = if said.is_empty() { kind.to_string() } else { format!("{kind} ({said})") };
        Some(Self { kind, reason, by_peer })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = if self.by_peer { "refused by the peer" } else { "refused" };
        write!(f, "{side}: {}", self.reason)
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_the_transport_says_is_understood() {
        for (code, kind) in [
            (CONNECTION_REFUSED, RefusalKind::Closing),
            (CRYPTO_ERROR + 45, RefusalKind::Expired),
            (CRYPTO_ERROR + 48, RefusalKind::ForeignCluster),
            (0x0a, RefusalKind::Garbage),
        ] {
            assert_eq!(Refusal::from_transport(code, "", true).unwrap().kind, kind, "{code:#x}");
        }
    }
}

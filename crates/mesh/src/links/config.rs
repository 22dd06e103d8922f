//! What an endpoint is told when it is bound.

use core::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use types::ReplicaId;

use super::identity::Authority;
use super::refusal::RefusalKind;

/// The wall clock that certificates and tokens are judged by. Nothing else in the mesh reads it: waiting is done by a
/// clock that no one sets.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> u64 + Send + Sync>);

impl Clock {
    /// The clock of the system.
    #[must_use]
    pub fn system() -> Self {
        Self::from_fn(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
    }

    /// A clock that shows what `now_s` returns: seconds since the Unix epoch.
    #[must_use]
    pub fn from_fn(now_s: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now_s))
    }

    /// Seconds since the Unix epoch.
    #[must_use]
    pub fn now_s(&self) -> u64 {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock(..)")
    }
}

/// A newcomer whose token is this cluster's and has not expired.
#[derive(Debug, Clone)]
pub struct Newcomer {
    /// The name of its token: a hash, which opens nothing.
    pub token: [u8; 32],
    /// When the token expires, in seconds since the Unix epoch.
    pub expires_s: u64,
    /// Its Ed25519 key for the mesh, which it has proved to own.
    pub key: [u8; 32],
    /// How it calls itself.
    pub name: String,
    /// Where it came from.
    pub address: SocketAddr,
    /// What it said of itself ([`super::identity::join`]).
    pub introduction: Bytes,
}

/// How a newcomer is let in.
#[derive(Debug, Clone)]
pub struct Admitted {
    /// The replica id that it gets, and nobody else ever.
    pub replica: ReplicaId,
    /// What the cluster tells it; at most [`types::limits::MESH_WELCOME_LEN_MAX`] bytes.
    pub welcome: Bytes,
}

/// Judges newcomers, and remembers them.
type Judge = dyn Fn(&Newcomer) -> Result<Admitted, (RefusalKind, String)> + Send + Sync;

/// Who stands at the door of a node that keeps the authority. It is asked about each newcomer with a good token, before the
/// certificate leaves, on a thread where it may wait. It sees to it that a token is used once, by whichever node it is
/// used at, and that no replica id is given twice; a newcomer that comes again with the same token and key has lost the
/// answer, and is let in as before. [`RefusalKind::Busy`] sends it to the next address of its token.
#[derive(Clone)]
pub struct Porter(Arc<Judge>);

impl Porter {
    /// A porter that does as `judge` does.
    #[must_use]
    pub fn from_fn(
        judge: impl Fn(&Newcomer) -> Result<Admitted, (RefusalKind, String)> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(judge))
    }

    pub(super) fn judge(&self, newcomer: &Newcomer) -> Result<Admitted, (RefusalKind, String)> {
        (self.0)(newcomer)
    }
}

impl fmt::Debug for Porter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Porter(..)")
    }
}

/// The versions of the mesh protocol that a build speaks. Two nodes use the highest that both speak; where there is none,
/// each is told so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// The oldest.
    pub min: u16,
    /// The newest.
    pub max: u16,
}

impl Versions {
    /// What this build speaks.
    pub const CURRENT: Self = Self { min: 1, max: 1 };

    /// The version that two nodes use, if there is one.
    #[must_use]
    pub fn common(self, other: Self) -> Option<u16> {
        let best = self.max.min(other.max);
        (best >= self.min.max(other.min)).then_some(best)
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max { write!(f, "{}", self.min) } else { write!(f, "{} to {}", self.min, self.max) }
    }
}

/// How an endpoint behaves. [`Config::new`] gives what suits links between regions.
#[derive(Debug, Clone)]
pub struct Config {
    /// The address of the UDP socket.
    pub bind: SocketAddr,
    /// The protocol versions to speak; held down during a rolling upgrade, and by tests.
    pub versions: Versions,
    /// Time between two probes of a link. Suspicion is counted from their arrival.
    pub probe_interval: Duration,
    /// A link on which nothing arrives for so long is down.
    pub idle_timeout: Duration,
    /// A handshake that a peer began, and the greeting after it, take at most so long.
    pub handshake_timeout: Duration,
    /// The same of one that this endpoint began. Shorter: what is sent again and again into a cut link is sent ever more
    /// seldom, and a new dial begins anew when the link is mended.
    pub dial_timeout: Duration,
    /// Time before the first dial after a failed one; doubles with each, and is blurred by up to a half.
    pub redial_after: Duration,
    /// The longest time between two dials.
    pub redial_after_max: Duration,
    /// Time between two looks at whether certificates have to be renewed or have expired.
    pub certificate_check_interval: Duration,
    /// What time it is, for certificates and tokens.
    pub clock: Clock,
    /// The cluster's authority, where this node keeps it: it then takes in newcomers and renews certificates of its peers.
    pub authority: Option<Arc<Authority>>,
    /// Who is asked about newcomers. Without one, nobody is let in.
    pub porter: Option<Porter>,
}

impl Config {
    /// The usual configuration, on this address.
    #[must_use]
    pub fn new(bind: SocketAddr) -> Self {
        Self {
            bind,
            versions: Versions::CURRENT,
            probe_interval: Duration::from_millis(50),
            idle_timeout: Duration::from_secs(3),
            handshake_timeout: Duration::from_secs(5),
            dial_timeout: Duration::from_secs(2),
            redial_after: Duration::from_millis(50),
            redial_after_max: Duration::from_millis(500),
            certificate_check_interval: Duration::from_secs(30),
            clock: Clock::system(),
            authority: None,
            porter: None,
        }
    }
}

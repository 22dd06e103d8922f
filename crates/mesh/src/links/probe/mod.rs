//! What is known of a link: delay, loss, bytes, suspicion.

mod datagram;
mod detector;
mod record;
mod suspicion;

use std::time::Duration;

use types::ReplicaId;

pub use detector::{Detector, Patience};
pub use suspicion::Suspicion;

pub(super) use datagram::Datagram;
pub(super) use record::Record;

/// How a link does, at one moment. Counters are since the link came up.
#[derive(Debug, Clone)]
pub struct Observation {
    /// The peer.
    pub peer: ReplicaId,
    /// The peer's name, from its certificate.
    pub name: String,
    /// How long the link is up.
    pub up_for: Duration,
    /// Round trips of our probes; `None` until the first echo.
    pub round_trip: Option<RoundTrip>,
    /// Share of our probes that were not echoed, of those sent long enough ago; 0 to 1.
    pub probe_loss: f64,
    /// Packets sent.
    pub packets_sent: u64,
    /// Packets taken for lost; what they carried was sent again.
    pub packets_lost: u64,
    /// Bytes of the lost packets: retransmitted.
    pub bytes_lost: u64,
    /// Bytes of UDP payload sent.
    pub bytes_sent: u64,
    /// Bytes of UDP payload received.
    pub bytes_received: u64,
    /// Bytes that may be on their way at once, by congestion control; divided by the round trip, the bandwidth in reach.
    pub congestion_window: u64,
    /// Urgent messages dropped because too many waited, and beats that newer ones replaced.
    pub urgent_dropped: u64,
    /// Urgent messages that wait.
    pub urgent_waiting: usize,
    /// Bytes of journal frames that wait.
    pub journal_waiting_len: usize,
    /// φ-accrual suspicion ([`Suspicion`]): about 1 means one in ten that the peer only is late, 8 one in a
    /// hundred million.
    pub suspicion: f64,
    /// The key exchange that the connection began with.
    pub key_exchange: &'static str,
    /// When the peer's certificate expires, in seconds since the Unix epoch.
    pub certificate_expires_s: u64,
    /// Whole days until then; negative once it is over.
    pub certificate_days_left: i64,
}

/// Quantiles of the round trips of the last probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoundTrip {
    /// How many measurements these are of.
    pub samples: usize,
    /// The last one.
    pub last: Duration,
    /// The shortest.
    pub min: Duration,
    /// The median.
    pub p50: Duration,
    /// Nine of ten are no longer.
    pub p90: Duration,
    /// 99 of 100 are no longer.
    pub p99: Duration,
}

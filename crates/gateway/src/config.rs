//! What a gateway is told when it is bound.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::limits;

/// Settings of a gateway. [`GatewayConfig::new`] gives the defaults.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// Where S3 and the native routes are served.
    pub s3: SocketAddr,
    /// Where health, metrics and status are served, read-only; `None`: nowhere.
    pub admin: Option<SocketAddr>,
    /// Serve the S3 port over HTTPS.
    pub tls: Option<TlsConfig>,
    /// Domains whose subdomains name buckets (`bucket.s3.example.com`), without port.
    pub domains: Vec<String>,
    /// The region that `GetBucketLocation` answers. Any region is accepted in signatures.
    pub region: String,
    /// Whether checkpoint, tiles and entries of the ledger are served to anyone.
    pub ledger_public: bool,
    /// Time without a byte after which a request body counts as stalled.
    pub body_idle_timeout: Duration,
    /// Time that a connection may stay open while nothing happens on it, or the head of a request take.
    pub idle_timeout: Duration,
    /// Time that requests in flight are given when the gateway stops.
    pub drain_timeout: Duration,
    /// Connections served at once on the S3 port.
    pub connections_max: usize,
}

/// The PEM files of an HTTPS port. They are read again when they change.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// The certificate and its chain.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

impl GatewayConfig {
    /// Defaults: plain HTTP on `s3`, no admin port, path-style addressing, region `us-east-1`.
    #[must_use]
    pub fn new(s3: SocketAddr) -> Self {
        Self {
            s3,
            admin: None,
            tls: None,
            domains: Vec::new(),
            region: "us-east-1".to_owned(),
            ledger_public: false,
            body_idle_timeout: limits::BODY_IDLE_TIMEOUT,
            idle_timeout: limits::IDLE_TIMEOUT,
            drain_timeout: limits::DRAIN_TIMEOUT,
            connections_max: limits::CONNECTIONS_MAX,
        }
    }
}

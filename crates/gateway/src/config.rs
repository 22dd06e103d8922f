//! What a gateway is told when it is bound.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use node::{Node, NodeStatus};
use serde::Serialize;
use serde_json::Value;

use crate::limits;

/// What the status of a node shows of its links to others: asked whenever somebody asks for the status.
#[derive(Clone)]
pub struct LinksReport(Arc<dyn Fn() -> Value + Send + Sync>);

impl LinksReport {
    /// A report that is what `report` returns.
    #[must_use]
    pub fn from_fn(report: impl Fn() -> Value + Send + Sync + 'static) -> Self {
        Self(Arc::new(report))
    }
}

impl fmt::Debug for LinksReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinksReport(..)")
    }
}

/// The status as it is shown: the node's own, and its links where it has any.
#[derive(Serialize)]
pub(crate) struct Status {
    #[serde(flatten)]
    node: NodeStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    mesh: Option<Value>,
}

impl Status {
    pub(crate) fn of(node: &Node, links: Option<&LinksReport>) -> Self {
        Self { node: node.status(), mesh: links.map(|links| (links.0)()) }
    }
}

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
    /// What the status shows as `mesh`, for a node that has links to others.
    pub links: Option<LinksReport>,
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
            links: None,
        }
    }
}

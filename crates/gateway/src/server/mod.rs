//! The ports: bound at once, served until told to stop, then drained.

mod admin;
mod idle;
mod listen;
mod tls;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use node::Node;
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::service::S3ServiceBuilder;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::auth::Secrets;
use crate::config::GatewayConfig;
use crate::context::RequestIds;
use crate::edge::Edge;
use crate::host::{DomainError, Domains};
use crate::limits::{ADMIN_CONNECTIONS_MAX, CLOCK_SKEW_SECONDS_MAX, DOCUMENT_LEN_MAX};
use crate::metrics::Metrics;
use crate::names::Names;
use crate::native::NativeRoutes;
use crate::s3::Frontend;
use admin::Admin;
use listen::Port;
use tls::Tls;

/// Why a gateway could not be bound. Each message says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process listens there.
    #[error("{address} is in use by another process; stop that one, or choose another address")]
    InUse {
        /// The address.
        address: SocketAddr,
    },
    /// The address cannot be listened on.
    #[error(
        "cannot listen on {address}: {source}; choose an address of this machine and a port that this user may use"
    )]
    Address {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The certificate or the key cannot be used.
    #[error("{path}: {reason}; give PEM files with a certificate chain and its private key")]
    Tls {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A domain is none.
    #[error(transparent)]
    Domain(#[from] DomainError),
}

/// A bound gateway: clients may connect, and are served once it runs.
pub struct Gateway {
    config: GatewayConfig,
    node: Node,
    s3: TcpListener,
    s3_address: SocketAddr,
    admin: Option<(TcpListener, SocketAddr)>,
    tls: Option<Tls>,
    domains: Domains,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway").field("s3", &self.s3_address).finish_non_exhaustive()
    }
}

impl Gateway {
    /// Binds the ports and reads the TLS files.
    pub async fn bind(config: GatewayConfig, node: Node) -> Result<Self, BindError> {
        let domains = Domains::new(&config)?;
        let tls = config.tls.as_ref().map(Tls::load).transpose()?;
        let (s3, s3_address) = listen(config.s3).await?;
        let admin = match config.admin {
            Some(address) => Some(listen(address).await?),
            None => None,
        };
        if tls.is_none() && !s3_address.ip().is_loopback() {
            tracing::warn!(
                address = %s3_address,
                "the S3 port is served without TLS to other machines: anyone on the way can read what is stored; give --s3-tls-cert and --s3-tls-key"
            );
        }
        Ok(Self { config, node, s3, s3_address, admin, tls, domains })
    }

    /// Where the S3 port listens (the port that was chosen, if 0 was asked for).
    #[must_use]
    pub fn s3_address(&self) -> SocketAddr {
        self.s3_address
    }

    /// Where the admin port listens, if there is one.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(|(_, address)| *address)
    }

    /// Serves until `shutdown` resolves; then takes no more connections, lets the requests in flight end
    /// within the drain time-out, and returns.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) {
        let metrics = Arc::new(Metrics::new(self.node.clone()));
        let edge = self.edge(&metrics);
        let (stop, stopped) = watch::channel(false);
        let s3 = Port {
            name: "s3",
            listener: self.s3,
            connections_max: self.config.connections_max,
            tls: self.tls,
            drain: self.config.drain_timeout,
            idle: self.config.idle_timeout,
            metrics: Some(Arc::clone(&metrics)),
        };
        let admin = self.admin.map(|(listener, _)| {
            let port = Port {
                name: "admin",
                listener,
                connections_max: ADMIN_CONNECTIONS_MAX,
                tls: None,
                drain: self.config.drain_timeout,
                idle: self.config.idle_timeout,
                metrics: None,
            };
            port.serve(Admin::new(self.node.clone(), metrics, self.config.links.clone()), stopped.clone())
        });
        let serve_admin = async {
            if let Some(admin) = admin {
                admin.await;
            }
        };
        let told = async move {
            shutdown.await;
            tracing::info!("the gateway stops");
            stop.send_replace(true);
        };
        tokio::join!(s3.serve(edge, stopped), serve_admin, told);
    }

    fn edge(&self, metrics: &Arc<Metrics>) -> Edge {
        let frontend =
            Frontend::new(self.node.clone(), &self.config.region, self.config.body_idle_timeout, self.tls.is_some());
        let secrets = Secrets::new(self.node.clone());
        let routes = NativeRoutes::new(frontend.clone(), secrets.clone(), self.domains.clone(), &self.config);
        let mut settings = S3Config::default();
        settings.xml_max_body_size = DOCUMENT_LEN_MAX;
        settings.presigned_url_max_skew_time_secs = CLOCK_SKEW_SECONDS_MAX;
        let mut builder = S3ServiceBuilder::new(frontend);
        builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(settings))));
        builder.set_host(self.domains.clone());
        builder.set_auth(secrets);
        builder.set_route(routes);
        builder.set_validation(Names);
        let mut seed = [0; 8];
        // Ids need not be secret: without randomness they start where the clock stands.
        if aws_lc_rs::rand::fill(&mut seed).is_err() {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            seed = now.as_micros().to_le_bytes()[..8].try_into().unwrap_or_default();
        }
        let ids = RequestIds::new(u64::from_le_bytes(seed));
        Edge::new(builder.build(), ids, Arc::clone(metrics), self.config.body_idle_timeout)
    }
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), BindError> {
    let failed = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::AddrInUse => BindError::InUse { address },
        _ => BindError::Address { address, source },
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

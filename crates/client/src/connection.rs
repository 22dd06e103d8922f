//! Connections: dialling with or without TLS, and a pool of idle ones.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::{Endpoint, Error};

/// Idle connections that are kept; further ones are closed.
const IDLE_MAX: usize = 256;
/// How long to wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection that can take requests, one after the other.
pub(crate) type Connection = SendRequest<Full<Bytes>>;

/// Connections to one endpoint.
pub(crate) struct Pool {
    endpoint: Endpoint,
    tls: Option<Arc<ClientConfig>>,
    idle: Mutex<Vec<Connection>>,
}

impl Pool {
    /// An empty pool. `tls` is there exactly if the endpoint is HTTPS.
    pub(crate) fn new(endpoint: Endpoint, tls: Option<Arc<ClientConfig>>) -> Self {
        Self { endpoint, tls, idle: Mutex::new(Vec::new()) }
    }

    /// Where the connections lead.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// An idle connection that still looks alive: the one used last.
    pub(crate) fn take_idle(&self) -> Option<Connection> {
        let mut idle = self.idle.lock();
        while let Some(connection) = idle.pop() {
            if connection.is_ready() {
                return Some(connection);
            }
        }
        None
    }

    /// Gives a connection back once its answer has been read.
    pub(crate) fn put_back(&self, connection: Connection) {
        let mut idle = self.idle.lock();
        if idle.len() < IDLE_MAX && !connection.is_closed() {
            idle.push(connection);
        }
    }

    /// A new connection.
    pub(crate) async fn dial(&self) -> Result<Connection, Error> {
        let connect = |source| Error::Connect { endpoint: self.endpoint.clone(), source };
        let timed_out = || std::io::Error::from(std::io::ErrorKind::TimedOut);
        let dialled = TcpStream::connect((self.endpoint.host(), self.endpoint.port()));
        let stream =
            tokio::time::timeout(CONNECT_TIMEOUT, dialled).await.map_err(|_| connect(timed_out()))?.map_err(connect)?;
        stream.set_nodelay(true).map_err(connect)?;
        let Some(config) = &self.tls else {
            return self.handshake(TokioIo::new(stream)).await;
        };
        let tls = |source| Error::Tls { endpoint: self.endpoint.clone(), source };
        let name =
            ServerName::try_from(self.endpoint.host().to_owned()).map_err(|error| tls(std::io::Error::other(error)))?;
        let secured = TlsConnector::from(Arc::clone(config)).connect(name, stream);
        let stream =
            tokio::time::timeout(CONNECT_TIMEOUT, secured).await.map_err(|_| tls(timed_out()))?.map_err(tls)?;
        self.handshake(TokioIo::new(stream)).await
    }

    async fn handshake<T>(&self, io: T) -> Result<Connection, Error>
    where
        T: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
    {
        let (sender, driver) =
            http1::handshake(io).await.map_err(|source| Error::Http { endpoint: self.endpoint.clone(), source })?;
        // The driver ends when the connection does; what went wrong is told to the request that it hit.
        tokio::spawn(async move {
            let _ = driver.await;
        });
        Ok(sender)
    }
}

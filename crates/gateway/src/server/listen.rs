//! One port: accepts a bounded number of connections and serves HTTP/1.1 and HTTP/2 on them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::idle::{Activity, Watched, WatchedStream};
use super::tls::Tls;
use crate::limits::{HTTP1_BUF_LEN_MAX, HTTP2_STREAMS_MAX, TLS_HANDSHAKE_TIMEOUT};
use crate::metrics::Metrics;

/// How long to wait when no connection can be accepted (too many open files, above all).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A port to serve.
pub(super) struct Port {
    pub(super) name: &'static str,
    pub(super) listener: TcpListener,
    pub(super) connections_max: usize,
    pub(super) tls: Option<Tls>,
    pub(super) drain: Duration,
    /// Time that a connection may stay open while nothing happens on it, or the head of a request take.
    pub(super) idle: Duration,
    pub(super) metrics: Option<Arc<Metrics>>,
}

impl Port {
    /// Serves until `stopped` says so, then drains.
    pub(super) async fn serve<S, B>(self, service: S, mut stopped: watch::Receiver<bool>)
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<s3s::StdError>,
    {
        let permits = Arc::new(Semaphore::new(self.connections_max));
        let graceful = GracefulShutdown::new();
        let mut tasks = JoinSet::new();
        let reloading = self.tls.clone().map(|tls| tokio::spawn(tls.reload()));
        loop {
            let accepted = tokio::select! {
                biased;
                _ = stopped.wait_for(|stopped| *stopped) => break,
                Some(_) = tasks.join_next(), if !tasks.is_empty() => continue,
                accepted = accept(&self.listener, &permits) => accepted,
            };
            let (stream, permit) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(port = self.name, %error, "no connection could be accepted");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let open = self.metrics.as_ref().map(Metrics::connection_opened);
            let (service, tls, watcher, idle) = (service.clone(), self.tls.clone(), graceful.watcher(), self.idle);
            tasks.spawn(async move {
                let _held = (permit, open);
                match tls {
                    None => converse(stream, service, watcher, idle).await,
                    Some(tls) => match timeout(TLS_HANDSHAKE_TIMEOUT, tls.acceptor().accept(stream)).await {
                        Ok(Ok(stream)) => converse(stream, service, watcher, idle).await,
                        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
                        Err(_) => tracing::debug!("a TLS handshake took too long"),
                    },
                }
            });
        }
        drop(self.listener);
        if let Some(reloading) = reloading {
            reloading.abort();
        }
        if timeout(self.drain, graceful.shutdown()).await.is_err() {
            tracing::warn!(port = self.name, "requests did not end within the drain time-out and are cut off");
        }
        tasks.shutdown().await;
    }
}

async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, permit))
}

async fn converse<T, S, B>(stream: T, service: S, watcher: Watcher, idle: Duration)
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<s3s::StdError>,
{
    let activity = Activity::new();
    let service = Watched { service, activity: activity.clone() };
    let stream = WatchedStream { stream, activity: activity.clone() };
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(idle).max_buf_size(HTTP1_BUF_LEN_MAX);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(HTTP2_STREAMS_MAX).adaptive_window(true);
    let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
    tokio::select! {
        ended = watcher.watch(connection) => {
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection broke");
            }
        }
        () = activity.idle(idle) => tracing::debug!("a connection was idle for too long"),
    }
}

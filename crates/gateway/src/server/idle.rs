//! How long a connection may stay open while nothing happens on it.
//!
//! hyper watches only the heads of HTTP/1 requests. A client that says nothing at all, stops in the middle of the
//! HTTP/2 preface, or keeps an HTTP/2 connection without a stream, would hold its place for ever.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{Request, Response};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::Service;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::sleep;

/// What happens on one connection. Clones speak of the same one.
#[derive(Clone)]
pub(super) struct Activity {
    inner: Arc<Inner>,
}

struct Inner {
    opened: Instant,
    in_flight: AtomicUsize,
    /// Since `opened`, when a request ended or bytes were sent.
    last_ms: AtomicU64,
}

impl Activity {
    pub(super) fn new() -> Self {
        let inner = Inner { opened: Instant::now(), in_flight: AtomicUsize::new(0), last_ms: AtomicU64::new(0) };
        Self { inner: Arc::new(inner) }
    }

    /// Resolves once no request was in flight and no byte was sent for `timeout`.
    pub(super) async fn idle(&self, timeout: Duration) {
        while let Some(left) = self.left(timeout) {
            sleep(left).await;
        }
    }

    fn left(&self, timeout: Duration) -> Option<Duration> {
        if self.inner.in_flight.load(Ordering::Acquire) > 0 {
            return Some(timeout);
        }
        let last = Duration::from_millis(self.inner.last_ms.load(Ordering::Acquire));
        let left = (last + timeout).saturating_sub(self.inner.opened.elapsed());
        Some(left).filter(|left| !left.is_zero())
    }

    fn touch(&self) {
        let now = u64::try_from(self.inner.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.inner.last_ms.store(now, Ordering::Release);
    }

    fn begin(&self) -> InFlight {
        self.inner.in_flight.fetch_add(1, Ordering::AcqRel);
        InFlight { activity: self.clone() }
    }
}

/// A request from its head to the end of its answer's body.
struct InFlight {
    activity: Activity,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.activity.touch();
        self.activity.inner.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A service whose requests count as activity.
pub(super) struct Watched<S> {
    pub(super) service: S,
    pub(super) activity: Activity,
}

impl<S, B> Service<Request<Incoming>> for Watched<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<WatchedBody<B>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let in_flight = self.activity.begin();
        let answer = self.service.call(request);
        Box::pin(async move {
            let response = answer.await?;
            Ok(response.map(|body| WatchedBody { body: Box::pin(body), _in_flight: in_flight }))
        })
    }
}

/// The body of an answer in flight.
pub(super) struct WatchedBody<B> {
    body: Pin<Box<B>>,
    _in_flight: InFlight,
}

impl<B: http_body::Body> http_body::Body for WatchedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        self.body.as_mut().poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream on which bytes sent count as activity: an answer may leave long after its body was read to the end.
pub(super) struct WatchedStream<T> {
    pub(super) stream: T,
    pub(super) activity: Activity,
}

impl<T> WatchedStream<T> {
    fn sent(&self, sent: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(sent, Poll::Ready(Ok(len)) if len > 0) {
            self.activity.touch();
        }
        sent
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for WatchedStream<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for WatchedStream<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.sent(sent)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.sent(sent)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_in_flight_is_no_idleness() {
        let activity = Activity::new();
        let timeout = Duration::from_secs(60);
        let request = activity.begin();
        assert_eq!(activity.left(timeout), Some(timeout));
        drop(request);
        assert!(activity.left(timeout).is_some_and(|left| left > Duration::from_secs(50)));
        assert_eq!(activity.left(Duration::ZERO), None);
        activity.idle(Duration::ZERO).await;
    }
}

//! The edge of the S3 port: every request comes in here before s3s and goes out here after it.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderValue, Method, Request, Response, Version, header};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use s3s::service::S3Service;
use s3s::{Body, S3Error, S3Result, s3_error};
use tokio::time::timeout;

use crate::body::{BodyFault, Document, Expected};
use crate::context::{RequestContext, RequestIds};
use crate::limits::{REFUSED_BODY_IDLE_TIMEOUT, REFUSED_BODY_LEN_MAX, REFUSED_BODY_TIMEOUT};
use crate::metrics::Metrics;
use crate::preflight::Preflight;
use crate::response::{self, CountedBody};

/// The service of the S3 port.
#[derive(Clone)]
pub(crate) struct Edge {
    inner: Arc<Inner>,
}

struct Inner {
    service: S3Service,
    ids: RequestIds,
    metrics: Arc<Metrics>,
    body_idle: Duration,
}

impl Edge {
    pub(crate) fn new(service: S3Service, ids: RequestIds, metrics: Arc<Metrics>, body_idle: Duration) -> Self {
        Self { inner: Arc::new(Inner { service, ids, metrics, body_idle }) }
    }

    async fn answer(self, request: Request<Incoming>) -> Response<CountedBody> {
        let started = Instant::now();
        let inner = &self.inner;
        let in_flight = inner.metrics.request_started();
        let (mut parts, incoming) = request.into_parts();
        let (method, version) = (parts.method.clone(), parts.version);
        let path = parts.uri.path().to_owned();
        let unread = Some(incoming).filter(|incoming| !incoming.is_end_stream());
        let id = inner.ids.draw();
        let (context, result) = match Preflight::of(&method, &parts.uri, &parts.headers) {
            Err(error) => (RequestContext::new(id, Preflight::default(), unread), Err(error)),
            Ok(preflight) => {
                let has_body = unread.is_some();
                let context = RequestContext::new(id, preflight, unread);
                let body = document(has_body, &method, &parts.headers, &context, inner.body_idle);
                parts.extensions.insert(Arc::clone(&context));
                let result = match body {
                    Err(error) => Err(error),
                    Ok(body) => match inner.service.call(Request::from_parts(parts, body)).await {
                        Ok(response) => Ok(response),
                        Err(error) => Err(unserved(error)),
                    },
                };
                (context, result)
            }
        };
        let response = result.unwrap_or_else(response::of_error);
        let mut response = response::complete(response, &method, &path, &context);
        if let Some(unread) = context.take_body() {
            settle(unread, &context, version, &mut response);
        }
        let status = response.status();
        response.map(|body| CountedBody::new(body, in_flight, context, status, started))
    }
}

fn unserved(error: s3s::HttpError) -> S3Error {
    let error: s3s::StdError = error.into();
    tracing::error!(%error, "an answer could not be made");
    s3_error!(InternalError)
}

/// The body that s3s sees: one that reads nothing until it is polled.
fn document(
    has_body: bool,
    method: &Method,
    headers: &http::HeaderMap,
    context: &Arc<RequestContext>,
    idle: Duration,
) -> S3Result<Body> {
    if !has_body || !matches!(*method, Method::PUT | Method::POST) {
        return Ok(Body::empty());
    }
    let expected = Expected::of(headers, &context.preflight, None)?;
    let context = Arc::clone(context);
    Ok(Body::http_body_unsync(Document::Unread { context, expected: Some(expected), idle }))
}

/// A body that was not read to its end. A client that sends all of it before it reads would never see an
/// answer followed by a reset, so it is read on for a while; one that waits for `100 Continue` sends none.
fn settle(mut unread: Incoming, context: &RequestContext, version: Version, response: &mut Response<Body>) {
    if version > Version::HTTP_11 {
        return;
    }
    let waits = context.preflight.expects_continue && context.body_len() == 0;
    if waits || context.fault() == Some(BodyFault::Stalled) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        return;
    }
    tokio::spawn(async move {
        let drained = async {
            let mut len = 0;
            while let Ok(Some(Ok(frame))) = timeout(REFUSED_BODY_IDLE_TIMEOUT, unread.frame()).await {
                len += frame.data_ref().map_or(0, |data| data.len() as u64);
                if len > REFUSED_BODY_LEN_MAX {
                    break;
                }
            }
        };
        // Whatever it came to, dropping the body closes a connection that is not at its end.
        let _ = timeout(REFUSED_BODY_TIMEOUT, drained).await;
    });
}

impl hyper::service::Service<Request<Incoming>> for Edge {
    type Response = Response<CountedBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let edge = self.clone();
        Box::pin(async move { Ok(edge.answer(request).await) })
    }
}

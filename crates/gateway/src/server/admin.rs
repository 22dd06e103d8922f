//! The admin port: health, readiness, metrics, status. Read-only, unauthenticated, for the machine's own
//! network.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use node::Node;

use crate::config::{LinksReport, Status};
use crate::metrics::Metrics;

/// The service of the admin port.
#[derive(Clone)]
pub(super) struct Admin {
    node: Node,
    metrics: Arc<Metrics>,
    links: Option<LinksReport>,
}

impl Admin {
    pub(super) fn new(node: Node, metrics: Arc<Metrics>, links: Option<LinksReport>) -> Self {
        Self { node, metrics, links }
    }

    fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        if *method != Method::GET && *method != Method::HEAD {
            return answer(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "The admin port is read-only.\n");
        }
        match path {
            "/healthz" => answer(StatusCode::OK, "text/plain", "ok\n"),
            "/readyz" => match self.node.ready() {
                Ok(()) => answer(StatusCode::OK, "text/plain", "ready\n"),
                Err(error) => answer(StatusCode::SERVICE_UNAVAILABLE, "text/plain", format!("{error}\n")),
            },
            "/status" => match serde_json::to_vec_pretty(&Status::of(&self.node, self.links.as_ref())) {
                Ok(status) => answer(StatusCode::OK, "application/json", status),
                Err(error) => answer(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", error.to_string()),
            },
            "/metrics" => match self.metrics.document() {
                Ok(document) => {
                    answer(StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", document)
                }
                Err(error) => answer(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", error.to_string()),
            },
            _ => answer(StatusCode::NOT_FOUND, "text/plain", "There are /healthz, /readyz, /metrics and /status.\n"),
        }
    }
}

fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

impl hyper::service::Service<Request<Incoming>> for Admin {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        ready(Ok(self.answer(request.method(), request.uri().path())))
    }
}

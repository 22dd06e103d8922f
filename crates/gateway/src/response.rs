//! Answers on their way out: errors get what s3s leaves out, bodies are counted.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body::{Frame, SizeHint};
use s3s::{Body, S3Error};

use crate::context::{RequestContext, RequestId};
use crate::error::{self, default_message};
use crate::metrics::InFlight;

/// The error document that s3s makes ends so.
const ERROR_END: &str = "</Error>";

/// An error as an answer.
pub(crate) fn of_error(error: S3Error) -> Response<Body> {
    let status = error.status_code().unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    match error.to_http_response() {
        Ok(response) => response,
        Err(_) => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = status;
            response
        }
    }
}

/// Completes an answer: request id, server, and for errors resource, request id and message in the document.
pub(crate) fn complete(
    mut response: Response<Body>,
    method: &Method,
    path: &str,
    context: &RequestContext,
) -> Response<Body> {
    if let Some(fault) = context.fault()
        && response.status() == StatusCode::INTERNAL_SERVER_ERROR
    {
        // s3s knows only that the body could not be read.
        response = of_error(error::fault(&fault));
    }
    let status = response.status();
    if status == StatusCode::NOT_MODIFIED {
        *response.body_mut() = Body::empty();
        response.headers_mut().remove(header::CONTENT_TYPE);
    } else if status.is_client_error() || status.is_server_error() {
        complete_error(&mut response, method, path, context.id);
    } else if *method == Method::HEAD && response.headers().contains_key(header::CONTENT_RANGE) {
        // s3s answers 206 to GET only.
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    } else if context.operation() == "GetObjectAttributes" {
        unquote_etag(&mut response);
    }
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(context.id.as_str()) {
        headers.insert("x-amz-request-id", id);
    }
    headers.insert(header::SERVER, HeaderValue::from_static("Entangle"));
    response
}

fn complete_error(response: &mut Response<Body>, method: &Method, path: &str, id: RequestId) {
    let body = response.body().bytes().unwrap_or_default();
    let Some(text) = core::str::from_utf8(&body).ok().and_then(|text| text.strip_suffix(ERROR_END)) else { return };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    if *method == Method::HEAD {
        *response.body_mut() = Body::empty();
        return;
    }
    let mut document = text.to_owned();
    if !text.contains("<Message>") {
        let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
        let message = default_message(code.map_or("", |(code, _)| code));
        document.push_str("<Message>");
        document.push_str(&escape(message));
        document.push_str("</Message>");
    }
    document.push_str("<Resource>");
    document.push_str(&escape(path));
    document.push_str("</Resource><RequestId>");
    document.push_str(id.as_str());
    document.push_str("</RequestId>");
    document.push_str(ERROR_END);
    *response.body_mut() = Body::from(document);
    response.headers_mut().remove(header::CONTENT_LENGTH);
}

/// S3 shows the ETag among an object's attributes without quotes; s3s always has them.
fn unquote_etag(response: &mut Response<Body>) {
    const START: &str = "<ETag>";
    const END: &str = "</ETag>";
    let body = response.body().bytes().unwrap_or_default();
    let Ok(text) = core::str::from_utf8(&body) else { return };
    let Some((before, rest)) = text.split_once(START) else { return };
    let Some((etag, after)) = rest.split_once(END) else { return };
    let etag = etag.replace("&quot;", "").replace('"', "");
    *response.body_mut() = Body::from([before, START, &etag, END, after].concat());
    response.headers_mut().remove(header::CONTENT_LENGTH);
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\'', "&apos;").replace('"', "&quot;")
}

/// A body that counts what goes out, and the request once it is answered.
pub(crate) struct CountedBody {
    inner: Body,
    in_flight: InFlight,
    context: Arc<RequestContext>,
    status: u16,
    started: Instant,
    sent: u64,
}

impl CountedBody {
    pub(crate) fn new(
        inner: Body,
        in_flight: InFlight,
        context: Arc<RequestContext>,
        status: StatusCode,
        started: Instant,
    ) -> Self {
        Self { inner, in_flight, context, status: status.as_u16(), started, sent: 0 }
    }
}

impl http_body::Body for CountedBody {
    type Data = Bytes;
    type Error = s3s::StdError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, s3s::StdError>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                self.sent += frame.data_ref().map_or(0, |data| data.len() as u64);
            }
            Poll::Ready(Some(Err(error))) => {
                tracing::error!(%error, request = self.context.id.as_str(), "an answer broke off");
            }
            Poll::Ready(None) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for CountedBody {
    fn drop(&mut self) {
        let took = self.started.elapsed();
        let operation = self.context.operation();
        self.in_flight.ended(operation, self.status, took, self.context.body_len(), self.sent);
        tracing::debug!(
            request = self.context.id.as_str(),
            operation,
            status = self.status,
            took_us = took.as_micros(),
            sent = self.sent,
            "answered"
        );
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::body::BodyFault;
    use crate::context::RequestIds;
    use crate::preflight::Preflight;
    use s3s::{S3ErrorCode, s3_error};

    fn context() -> Arc<RequestContext> {
        RequestContext::new(RequestIds::new(1).draw(), Preflight::default(), None)
    }

    fn document(response: &Response<Body>) -> String {
        String::from_utf8(response.body().bytes().unwrap().to_vec()).unwrap()
    }

    #[test]
    fn errors_name_resource_request_and_reason() {
        let context = context();
        let response = complete(of_error(s3_error!(NoSuchKey)), &Method::GET, "/b/a&b", &context);
        assert_eq!(response.status(), 404);
        let text = document(&response);
        for part in [
            "<Code>NoSuchKey</Code>",
            "<Message>The specified key does not exist.</Message>",
            "<Resource>/b/a&amp;b</Resource>",
            &format!("<RequestId>{}</RequestId></Error>", context.id.as_str()),
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert_eq!(response.headers()["x-amz-request-id"], context.id.as_str());
        assert_eq!(response.headers()["content-type"], "application/xml");
    }

    #[test]
    fn heads_and_304_have_no_body() {
        let response = complete(of_error(s3_error!(NoSuchKey)), &Method::HEAD, "/b/k", &context());
        assert_eq!(document(&response), "");
        let response = complete(of_error(S3Error::new(S3ErrorCode::NotModified)), &Method::GET, "/b/k", &context());
        assert_eq!((response.status().as_u16(), document(&response).as_str()), (304, ""));
        assert!(!response.headers().contains_key("content-type"));
    }

    #[test]
    fn a_fault_of_the_body_replaces_an_internal_error() {
        let context = context();
        context.set_fault(BodyFault::Md5);
        let response = complete(of_error(s3_error!(InternalError)), &Method::POST, "/b", &context);
        assert_eq!(response.status(), 400);
        assert!(document(&response).contains("<Code>BadDigest</Code>"));
        let kept = complete(of_error(s3_error!(NoSuchBucket)), &Method::POST, "/b", &context);
        assert_eq!(kept.status(), 404);
    }
}

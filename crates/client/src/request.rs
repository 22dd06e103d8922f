//! One request, one answer.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, HOST, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;

use crate::connection::{Connection, Pool};
use crate::encoding::{encode_path, encode_query};
use crate::sign::{Target, UNSIGNED_PAYLOAD, sha256_hex};
use crate::{Credentials, Endpoint, Error, Refused, SignTime, Signer, tls};

/// Bytes of an error answer that are read.
const REFUSAL_LEN_MAX: usize = 64 * 1024;

/// How a client reaches a node. [`Options::new`] gives the defaults.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the node is.
    pub endpoint: Endpoint,
    /// Who asks; without it requests go unsigned.
    pub credentials: Option<Credentials>,
    /// The region of the signatures.
    pub region: String,
    /// Certificates (PEM) to trust for HTTPS, instead of the system's.
    pub ca: Option<PathBuf>,
    /// How long to wait for the head of an answer, and for each piece of its body.
    pub timeout: Duration,
}

impl Options {
    /// Unsigned, the system's certificates, 60 s.
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, credentials: None, region: "us-east-1".to_owned(), ca: None, timeout: Duration::from_secs(60) }
    }
}

/// Whether the signature covers the body.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Payload {
    /// Over plaintext, where nothing else protects it; not over HTTPS.
    #[default]
    Auto,
    /// It does.
    Signed,
    /// It does not: `UNSIGNED-PAYLOAD`.
    Unsigned,
}

/// A request to be.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The path, raw: `/bucket/some key`.
    pub path: String,
    /// The query, raw.
    pub query: Vec<(String, String)>,
    /// Headers; `host` and those of the signature are added.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// Whether the signature covers the body.
    pub payload: Payload,
}

impl Request {
    /// A request without query, headers and body.
    #[must_use]
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            query: Vec::new(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            payload: Payload::Auto,
        }
    }

    /// Adds a pair to the query.
    #[must_use]
    pub fn query(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.query.push((name.into(), value.into()));
        self
    }

    /// Sets a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }
}

/// A client of one endpoint. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    pool: Pool,
    signer: Option<Signer>,
    timeout: Duration,
}

impl Client {
    /// Reads the certificates to trust; connects only when something is asked.
    pub fn new(options: Options) -> Result<Self, Error> {
        let Options { endpoint, credentials, region, ca, timeout } = options;
        let tls = if endpoint.is_https() { Some(tls::client_config(ca.as_deref())?) } else { None };
        let signer = credentials.map(|credentials| Signer::new(credentials, region));
        Ok(Self { inner: Arc::new(Inner { pool: Pool::new(endpoint, tls), signer, timeout }) })
    }

    /// Where the node is.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        self.inner.pool.endpoint()
    }

    /// Sends a request and gives the head of the answer, whatever its status.
    pub async fn send(&self, request: Request) -> Result<Response, Error> {
        let mut prepared = self.prepare(request)?;
        // A pooled connection may have been closed meanwhile; what was not sent is sent again on another.
        while let Some(mut connection) = self.inner.pool.take_idle() {
            match self.within(connection.try_send_request(prepared)).await? {
                Ok(answer) => return Ok(self.response(answer, connection)),
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) => prepared = unsent,
                    None => return Err(self.http_error(failed.into_error())),
                },
            }
        }
        let mut connection = self.inner.pool.dial().await?;
        let answer = self.within(connection.send_request(prepared)).await?;
        let answer = answer.map_err(|source| self.http_error(source))?;
        Ok(self.response(answer, connection))
    }

    /// Sends a request; an answer of 300 and above becomes [`Error::Refused`].
    pub async fn send_ok(&self, request: Request) -> Result<Response, Error> {
        let response = self.send(request).await?;
        if response.status.is_success() {
            return Ok(response);
        }
        let (status, request_id) = (response.status, response.header("x-amz-request-id").to_owned());
        let body = match response.bytes(REFUSAL_LEN_MAX).await {
            Ok(body) => body,
            Err(Error::TooLong { .. }) => Bytes::new(),
            Err(error) => return Err(error),
        };
        Err(Refused::from_answer(status, &request_id, &body).into())
    }

    /// A URL that anyone may use for `expiry_seconds` (at most 7 days); `None` without credentials.
    #[must_use]
    pub fn presign(
        &self,
        method: &Method,
        path: &str,
        query: &[(String, String)],
        expiry_seconds: u32,
    ) -> Option<String> {
        let signer = self.inner.signer.as_ref()?;
        let target = Target { method, path, query };
        let query = signer.presign_query(target, &self.endpoint().authority(), expiry_seconds, &SignTime::now());
        Some(format!("{}{}?{query}", self.endpoint(), encode_path(path)))
    }

    fn prepare(&self, request: Request) -> Result<http::Request<Full<Bytes>>, Error> {
        let Request { method, path, query, mut headers, body, payload } = request;
        let malformed = |error: &dyn std::fmt::Display| Error::Malformed(error.to_string());
        let host = HeaderValue::from_str(&self.endpoint().authority()).map_err(|error| malformed(&error))?;
        headers.insert(HOST, host);
        if let Some(signer) = &self.inner.signer {
            let signed = match payload {
                Payload::Auto => !self.endpoint().is_https(),
                Payload::Signed => true,
                Payload::Unsigned => false,
            };
            let hash = if signed { sha256_hex(&body) } else { UNSIGNED_PAYLOAD.to_owned() };
            let target = Target { method: &method, path: &path, query: &query };
            signer.sign_headers(target, &mut headers, &hash, &SignTime::now()).map_err(|error| malformed(&error))?;
        }
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("entangle/", env!("CARGO_PKG_VERSION"))));
        if !body.is_empty() || matches!(method, Method::PUT | Method::POST) {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        let mut target = encode_path(&path);
        if !query.is_empty() {
            target.push('?');
            target.push_str(&encode_query(&query));
        }
        let mut prepared = http::Request::builder()
            .method(method)
            .uri(target)
            .body(Full::new(body))
            .map_err(|error| malformed(&error))?;
        *prepared.headers_mut() = headers;
        Ok(prepared)
    }

    fn response(&self, answer: http::Response<Incoming>, connection: Connection) -> Response {
        let (head, body) = answer.into_parts();
        Response {
            status: head.status,
            headers: head.headers,
            body,
            client: self.clone(),
            connection: Some(connection),
        }
    }

    async fn within<T>(&self, future: impl Future<Output = T>) -> Result<T, Error> {
        let timeout = self.inner.timeout;
        tokio::time::timeout(timeout, future)
            .await
            .map_err(|_| Error::TimedOut { endpoint: self.endpoint().clone(), seconds: timeout.as_secs() })
    }

    fn http_error(&self, source: hyper::Error) -> Error {
        Error::Http { endpoint: self.endpoint().clone(), source }
    }
}

/// An answer; its body is read when asked for.
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    body: Incoming,
    client: Client,
    /// Goes back to the pool at the end of the body.
    connection: Option<Connection>,
}

impl Response {
    /// A header's text; empty if it is not there or is no text.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The next piece of the body; `None` at its end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let client = self.client.clone();
            let Some(frame) = client.within(self.body.frame()).await? else {
                if let Some(connection) = self.connection.take() {
                    client.inner.pool.put_back(connection);
                }
                return Ok(None);
            };
            let frame = frame.map_err(|source| client.http_error(source))?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
    }

    /// The whole body, if it is not longer than `limit` bytes.
    pub async fn bytes(mut self, limit: usize) -> Result<Bytes, Error> {
        let mut all = BytesMut::new();
        while let Some(piece) = self.chunk().await? {
            if all.len() + piece.len() > limit {
                return Err(Error::TooLong { limit });
            }
            all.extend_from_slice(&piece);
        }
        Ok(all.freeze())
    }
}

//! The native routes under `/_entangle/v1/`, on the S3 port and with S3's signatures, where the host names
//! no bucket.

mod keys;
mod members;
mod receipt;
mod zones;

use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use hyper::http::Extensions;
use node::ProofError;
use percent_encoding::percent_decode_str;
use s3s::route::S3Route;
use s3s::{Body, S3Error, S3Request, S3Response, S3Result, s3_error};

use crate::auth::Secrets;
use crate::config::{GatewayConfig, LinksReport, Status};
use crate::context::RequestContext;
use crate::error;
use crate::host::Domains;
use crate::limits::DOCUMENT_LEN_MAX;
use crate::s3::Frontend;

/// What every native path starts with.
const ROOT: &str = "/_entangle";

/// The native routes.
pub(crate) struct NativeRoutes {
    frontend: Frontend,
    secrets: Secrets,
    domains: Domains,
    ledger_public: bool,
    links: Option<LinksReport>,
}

/// A request for a native route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route<'a> {
    Status,
    Checkpoint,
    Tile(&'a str),
    Policy,
    Receipt(&'a str),
    Keys,
    Key(&'a str),
    Members,
    Zones,
}

impl<'a> Route<'a> {
    fn of(path: &'a str) -> Option<Self> {
        let rest = path.strip_prefix(ROOT)?.strip_prefix("/v1/")?;
        Some(match rest {
            "status" => Self::Status,
            "checkpoint" => Self::Checkpoint,
            "policy" => Self::Policy,
            "keys" => Self::Keys,
            "members" => Self::Members,
            "zones" => Self::Zones,
            _ if rest.starts_with("tile/") => Self::Tile(rest),
            _ => match rest.split_once('/') {
                Some(("receipt", object)) => Self::Receipt(object),
                Some(("keys", key)) => Self::Key(key),
                _ => return None,
            },
        })
    }

    fn operation(self) -> &'static str {
        match self {
            Self::Status => "NativeStatus",
            Self::Checkpoint => "NativeCheckpoint",
            Self::Tile(_) => "NativeTile",
            Self::Policy => "NativePolicy",
            Self::Receipt(_) => "NativeReceipt",
            Self::Keys | Self::Key(_) => "NativeKeys",
            Self::Members => "NativeMembers",
            Self::Zones => "NativeZones",
        }
    }

    /// What anyone may read where the ledger is public.
    fn is_ledger(self) -> bool {
        matches!(self, Self::Checkpoint | Self::Tile(_))
    }
}

impl NativeRoutes {
    pub(crate) fn new(frontend: Frontend, secrets: Secrets, domains: Domains, config: &GatewayConfig) -> Self {
        Self { frontend, secrets, domains, ledger_public: config.ledger_public, links: config.links.clone() }
    }

    async fn answer(&self, request: S3Request<Body>) -> S3Result<S3Response<Body>> {
        let context = RequestContext::of(&request)?;
        let path = request.uri.path().to_owned();
        let route = Route::of(&path).ok_or_else(no_such_route)?;
        context.set_operation(route.operation());
        match (request.method.clone(), route) {
            (Method::GET, Route::Status) => json(StatusCode::OK, &Status::of(&self.frontend.node, self.links.as_ref())),
            (Method::GET, Route::Checkpoint) => {
                let checkpoint = self.frontend.node.checkpoint();
                if checkpoint.is_empty() {
                    return Err(not_in_ledger());
                }
                Ok(text(checkpoint.to_vec()))
            }
            (Method::GET, Route::Policy) => Ok(text(self.frontend.node.policy().into_bytes())),
            (Method::GET, Route::Tile(path)) => {
                let tile = self.frontend.node.tile(path).map_err(|error| proof(&error))?;
                let mut answer = S3Response::new(Body::from(tile));
                set_type(&mut answer, "application/octet-stream");
                // Tiles of one width never change.
                let immutable = HeaderValue::from_static("max-age=31536000, immutable");
                answer.headers.insert(header::CACHE_CONTROL, immutable);
                Ok(answer)
            }
            (Method::GET, Route::Receipt(object)) => self.receipt(object, request.uri.query()).await,
            (Method::GET, Route::Keys) => self.list_keys(),
            (Method::POST, Route::Keys) => self.add_key(&context, request).await,
            (Method::GET, Route::Members) => self.list_members(),
            (Method::POST, Route::Members) => self.change_members(&context, request).await,
            (Method::GET, Route::Zones) => self.list_zones(),
            (Method::POST, Route::Zones) => self.put_zone(&context, request).await,
            (Method::DELETE, Route::Key(key)) => self.remove_key(&decode(key)?, &request).await,
            _ => Err(s3_error!(MethodNotAllowed)),
        }
    }
}

#[async_trait::async_trait]
impl S3Route for NativeRoutes {
    fn is_match(&self, _method: &Method, uri: &Uri, headers: &HeaderMap, _extensions: &mut Extensions) -> bool {
        let native = uri.path().strip_prefix(ROOT).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let host = host.or_else(|| uri.authority().map(http::uri::Authority::as_str));
        native && host.is_none_or(|host| self.domains.bucket(host).is_none())
    }

    async fn check_access(&self, request: &mut S3Request<Body>) -> S3Result<()> {
        let public = self.ledger_public && Route::of(request.uri.path()).is_some_and(Route::is_ledger);
        if request.credentials.is_some() || public { Ok(()) } else { Err(s3_error!(AccessDenied)) }
    }

    async fn call(&self, request: S3Request<Body>) -> S3Result<S3Response<Body>> {
        self.answer(request).await
    }
}

fn no_such_route() -> S3Error {
    error::custom("NoSuchRoute", StatusCode::NOT_FOUND, "There is no such native route; docs/s3.md lists them.")
}

fn not_in_ledger() -> S3Error {
    error::custom("NotInLedger", StatusCode::NOT_FOUND, "The ledger does not hold this (yet).")
}

fn proof(error: &ProofError) -> S3Error {
    match error {
        ProofError::Path(_) | ProofError::NotFound => not_in_ledger(),
        ProofError::Read(reason) => {
            tracing::error!(%reason, "the ledger could not be read");
            s3_error!(InternalError)
        }
    }
}

/// A percent-encoded piece of a path.
fn decode(piece: &str) -> S3Result<String> {
    let decoded = percent_decode_str(piece).decode_utf8().map_err(|_| s3_error!(InvalidURI))?;
    Ok(decoded.into_owned())
}

fn set_type(answer: &mut S3Response<Body>, content_type: &'static str) {
    answer.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
}

fn text(bytes: Vec<u8>) -> S3Response<Body> {
    let mut answer = S3Response::new(Body::from(bytes));
    set_type(&mut answer, "text/plain; charset=utf-8");
    answer
}

fn json(status: StatusCode, value: &impl serde::Serialize) -> S3Result<S3Response<Body>> {
    let bytes = serde_json::to_vec(value).map_err(S3Error::internal_error)?;
    let mut answer = S3Response::with_status(Body::from(bytes), status);
    set_type(&mut answer, "application/json");
    Ok(answer)
}

/// The body of a request, which says in JSON what is wanted; `what`: in words. An empty one is `null`.
async fn document<T: serde::de::DeserializeOwned>(
    context: &RequestContext,
    request: &mut S3Request<Body>,
    what: &str,
) -> S3Result<T> {
    let body = request.input.store_all_limited(DOCUMENT_LEN_MAX).await;
    let body = body.map_err(|_| match context.fault() {
        Some(fault) => error::fault(&fault),
        None => s3_error!(MaxMessageLengthExceeded),
    })?;
    let body = if body.is_empty() { b"null" } else { body.as_ref() };
    serde_json::from_slice(body).map_err(|error| s3_error!(InvalidArgument, "The body is no {what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes() {
        assert_eq!(Route::of("/_entangle/v1/status"), Some(Route::Status));
        assert_eq!(Route::of("/_entangle/v1/tile/0/x001/234"), Some(Route::Tile("tile/0/x001/234")));
        assert_eq!(Route::of("/_entangle/v1/tile/entries/000.p/5"), Some(Route::Tile("tile/entries/000.p/5")));
        assert_eq!(Route::of("/_entangle/v1/receipt/b/a/b%2F"), Some(Route::Receipt("b/a/b%2F")));
        assert_eq!(Route::of("/_entangle/v1/keys/AK"), Some(Route::Key("AK")));
        assert_eq!(Route::of("/_entangle/v1/members"), Some(Route::Members));
        assert_eq!(Route::of("/_entangle/v1/zones"), Some(Route::Zones));
        assert_eq!(Route::of("/_entangle/v1/nothing"), None);
        assert_eq!(Route::of("/_entangle/v2/status"), None);
        assert_eq!(Route::of("/_entangle"), None);
        assert!(Route::Checkpoint.is_ledger() && Route::Tile("").is_ledger());
        assert!(!Route::Status.is_ledger() && !Route::Receipt("").is_ledger() && !Route::Keys.is_ledger());
    }
}

//! What is refused by its head alone, before s3s looks at it: what s3s would let through, or would answer
//! in another way than AWS does.

use std::borrow::Cow;

use http::{HeaderMap, Method, Uri, header};
use s3s::{S3Error, S3Result, s3_error};

use crate::body::{ChunkScope, Chunking};
use crate::limits::PRESIGNED_SECONDS_MAX;

/// What `x-amz-content-sha256` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum PayloadHash {
    /// Nothing.
    #[default]
    Unsigned,
    /// The SHA-256 of the payload.
    Sha256([u8; 32]),
    /// The payload is aws-chunked.
    Chunked(Chunking),
}

/// What the head of a request says, as far as the gateway itself needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Preflight {
    /// How the payload is vouched for.
    pub(crate) payload: PayloadHash,
    /// `Content-Length`.
    pub(crate) content_len: Option<u64>,
    /// `x-amz-decoded-content-length`.
    pub(crate) decoded_len: Option<u64>,
    /// The client waits for `100 Continue` before it sends the body.
    pub(crate) expects_continue: bool,
    /// The id that marks retries of one call, if the client sent one that counts.
    pub(crate) invocation: Option<String>,
}

impl Preflight {
    /// Length of the decoded payload, if the head says it.
    pub(crate) fn payload_len(&self) -> Option<u64> {
        match self.payload {
            PayloadHash::Chunked(_) => self.decoded_len,
            PayloadHash::Unsigned | PayloadHash::Sha256(_) => self.content_len,
        }
    }

    /// Checks a head.
    pub(crate) fn of(method: &Method, uri: &Uri, headers: &HeaderMap) -> S3Result<Self> {
        let query = Query::of(uri);
        let signed = match Mechanism::of(headers, &query)? {
            None => None,
            Some(mechanism) => Some(mechanism.check(headers, &query)?),
        };
        if headers.contains_key("x-amz-security-token") || query.get("X-Amz-Security-Token").is_some() {
            return Err(s3_error!(
                InvalidToken,
                "The provided token is malformed or otherwise invalid: this server issues none."
            ));
        }
        if *method == Method::POST && content_type_is_form(headers) {
            return Err(s3_error!(NotImplemented, "POST Object (browser form uploads) is not implemented"));
        }
        let number = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        Ok(Self {
            payload: payload_hash(headers, signed.as_ref())?,
            content_len: number("content-length"),
            decoded_len: number("x-amz-decoded-content-length"),
            expects_continue: headers
                .get(header::EXPECT)
                .is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"100-continue")),
            invocation: invocation(headers, signed.as_ref()),
        })
    }
}

/// The query, decoded. Empty for most requests.
struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    fn of(uri: &'a Uri) -> Self {
        Self(uri.query().map_or_else(Vec::new, |query| form_urlencoded::parse(query.as_bytes()).collect()))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_ref())
    }
}

/// How a request is signed.
enum Mechanism<'a> {
    Header(&'a str),
    Query,
}

/// The parts of a signature that the gateway looks at.
struct Signed<'a> {
    headers: &'a str,
    scope: &'a str,
    signature: &'a str,
}

impl Signed<'_> {
    fn covers(&self, name: &str) -> bool {
        self.headers.split(';').any(|signed| signed.eq_ignore_ascii_case(name))
    }
}

fn sig_v2() -> S3Error {
    s3_error!(
        InvalidRequest,
        "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."
    )
}

impl<'a> Mechanism<'a> {
    fn of(headers: &'a HeaderMap, query: &Query<'_>) -> S3Result<Option<Self>> {
        // s3s takes any request with a parameter of this name for one of SigV2.
        if query.get("Signature").is_some() || query.get("AWSAccessKeyId").is_some() {
            return Err(sig_v2());
        }
        let presigned = query.get("X-Amz-Signature").is_some() || query.get("X-Amz-Credential").is_some();
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let Some(value) = values.next() else {
            return Ok(presigned.then_some(Self::Query));
        };
        if presigned || values.next().is_some() {
            return Err(s3_error!(
                InvalidArgument,
                "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string parameter or the Authorization header should be specified"
            ));
        }
        match value.to_str() {
            Ok(value) if value.starts_with("AWS4-HMAC-SHA256") => Ok(Some(Self::Header(value))),
            _ => Err(sig_v2()),
        }
    }

    fn check(self, headers: &HeaderMap, query: &'a Query<'_>) -> S3Result<Signed<'a>> {
        let signed = match self {
            Self::Header(value) => parse_authorization(value).ok_or_else(|| {
                s3_error!(AuthorizationHeaderMalformed, "The authorization header that you provided is not valid.")
            })?,
            Self::Query => check_presigned(query)?,
        };
        let service = signed.scope.split('/').nth(2);
        if service != Some("s3") {
            return Err(s3_error!(
                AuthorizationHeaderMalformed,
                "The credential scope is wrong: this endpoint belongs to the service \"s3\"."
            ));
        }
        if !signed.covers("host") {
            return Err(s3_error!(AccessDenied, "The header `host` must be signed"));
        }
        for name in headers.keys() {
            let name = name.as_str();
            // This one stands in what is signed anyway, or (presigned) is checked against the payload.
            let checked = name == "x-amz-content-sha256";
            if name.starts_with("x-amz-") && !checked && !signed.covers(name) {
                return Err(s3_error!(
                    AccessDenied,
                    "There were headers present in the request which were not signed: {name}"
                ));
            }
        }
        Ok(signed)
    }
}

fn check_presigned<'a>(query: &'a Query<'_>) -> S3Result<Signed<'a>> {
    let wrong =
        |message: &'static str| S3Error::with_message(s3s::S3ErrorCode::AuthorizationQueryParametersError, message);
    let missing = || {
        wrong(
            "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.",
        )
    };
    let get = |name| query.get(name).ok_or_else(missing);
    if get("X-Amz-Algorithm")? != "AWS4-HMAC-SHA256" {
        return Err(wrong("X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\"."));
    }
    get("X-Amz-Date")?;
    match get("X-Amz-Expires")?.parse::<i64>() {
        Err(_) => return Err(wrong("X-Amz-Expires should be a number")),
        Ok(seconds) if seconds < 0 => return Err(wrong("X-Amz-Expires must be non-negative")),
        Ok(seconds) if seconds.unsigned_abs() > PRESIGNED_SECONDS_MAX => {
            return Err(wrong(
                "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than 604800 seconds",
            ));
        }
        Ok(_) => {}
    }
    let (_, scope) = get("X-Amz-Credential")?.split_once('/').ok_or_else(|| {
        wrong("Error parsing the X-Amz-Credential parameter; the Credential is mal-formed; expecting \"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\".")
    })?;
    Ok(Signed { headers: get("X-Amz-SignedHeaders")?, scope, signature: get("X-Amz-Signature")? })
}

/// `AWS4-HMAC-SHA256 Credential=KEY/SCOPE, SignedHeaders=a;b, Signature=HEX`
fn parse_authorization(value: &str) -> Option<Signed<'_>> {
    let mut signed = Signed { headers: "", scope: "", signature: "" };
    for part in value.strip_prefix("AWS4-HMAC-SHA256")?.split(',').map(str::trim) {
        let (name, value) = part.split_once('=')?;
        match name {
            "Credential" => signed.scope = value.split_once('/')?.1,
            "SignedHeaders" => signed.headers = value,
            "Signature" => signed.signature = value,
            _ => return None,
        }
    }
    let complete = ![signed.headers, signed.scope, signed.signature].contains(&"");
    complete.then_some(signed)
}

fn payload_hash(headers: &HeaderMap, signed: Option<&Signed<'_>>) -> S3Result<PayloadHash> {
    let Some(value) = headers.get("x-amz-content-sha256") else { return Ok(PayloadHash::Unsigned) };
    let wrong = || {
        s3_error!(
            InvalidArgument,
            "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a valid sha256 value."
        )
    };
    let value = value.to_str().map_err(|_| wrong())?;
    let signed_chunks = || {
        let date = headers.get("x-amz-date").and_then(|date| date.to_str().ok()).unwrap_or_default();
        signed.map(|signed| ChunkScope {
            date: date.to_owned(),
            scope: signed.scope.to_owned(),
            seed: signed.signature.to_owned(),
        })
    };
    match value {
        "UNSIGNED-PAYLOAD" => Ok(PayloadHash::Unsigned),
        "STREAMING-UNSIGNED-PAYLOAD-TRAILER" => Ok(PayloadHash::Chunked(Chunking { signed: None, trailer: true })),
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" => {
            Ok(PayloadHash::Chunked(Chunking { signed: signed_chunks(), trailer: false }))
        }
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" => {
            Ok(PayloadHash::Chunked(Chunking { signed: signed_chunks(), trailer: true }))
        }
        _ if value.starts_with("STREAMING-AWS4-ECDSA") => {
            Err(s3_error!(NotImplemented, "AWS4-ECDSA-P256-SHA256 signatures are not implemented"))
        }
        _ => sha256_of(value).map(PayloadHash::Sha256).ok_or_else(wrong),
    }
}

fn sha256_of(text: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    let lower = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if text.len() != 64 || !text.bytes().all(lower) {
        return None;
    }
    for (byte, pair) in hash.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(text.get(pair..pair + 2)?, 16).ok()?;
    }
    Some(hash)
}

/// Our own header counts as it is; that of the SDKs only where it is signed, so that nobody on the way can
/// make one call pass for another.
fn invocation(headers: &HeaderMap, signed: Option<&Signed<'_>>) -> Option<String> {
    let own = headers.get("x-entangle-request-id");
    let sdk =
        || headers.get("amz-sdk-invocation-id").filter(|_| signed.is_some_and(|s| s.covers("amz-sdk-invocation-id")));
    own.or_else(sdk).and_then(|value| value.to_str().ok()).filter(|id| !id.is_empty()).map(str::to_owned)
}

fn content_type_is_form(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.get(..19).is_some_and(|start| start.eq_ignore_ascii_case("multipart/form-data")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const CREDENTIAL: &str = "Credential=AKID/20260101/eu-west-1/s3/aws4_request";

    fn check(uri: &str, pairs: &[(&str, &str)]) -> Result<Preflight, String> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        Preflight::of(&Method::PUT, &uri.parse().unwrap(), &headers).map_err(|error| error.code().as_str().to_owned())
    }

    fn signed(headers: &str, pairs: &[(&str, &str)]) -> Result<Preflight, String> {
        let authorization = format!("AWS4-HMAC-SHA256 {CREDENTIAL}, SignedHeaders={headers}, Signature=abc");
        let mut all = vec![("authorization", authorization.as_str())];
        all.extend_from_slice(pairs);
        check("/b/k", &all)
    }

    #[test]
    fn sig_v2_is_refused_in_every_form() {
        let refused = Err("InvalidRequest".to_owned());
        assert_eq!(check("/b/k", &[("authorization", "AWS AKID:c2ln")]), refused);
        assert_eq!(check("/b/k?AWSAccessKeyId=A&Signature=s&Expires=1", &[]), refused);
        assert_eq!(check("/b/k?%53ignature=s", &[]), refused);
        assert_eq!(check("/b/k", &[("authorization", "Basic dTpw")]), refused);
    }

    #[test]
    fn amz_headers_must_be_signed() {
        let extra = [("x-amz-copy-source", "/other/secret"), ("x-amz-date", "20260101T000000Z")];
        assert_eq!(signed("host;x-amz-date", &extra), Err("AccessDenied".to_owned()));
        assert!(signed("host;x-amz-copy-source;x-amz-date", &extra).is_ok());
        assert_eq!(signed("x-amz-date", &extra[1..]), Err("AccessDenied".to_owned()));
        let presigned = "/b/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=A%2F20260101%2Fr%2Fs3%2Faws4_request&X-Amz-Date=20260101T000000Z&X-Amz-SignedHeaders=host&X-Amz-Signature=s&X-Amz-Expires=";
        assert_eq!(check(&format!("{presigned}60"), &extra[..1]), Err("AccessDenied".to_owned()));
        assert!(check(&format!("{presigned}604800"), &[]).is_ok());
        for expires in ["604801", "-1", "soon", "99999999999999999999"] {
            let result = check(&format!("{presigned}{expires}"), &[]);
            assert_eq!(result, Err("AuthorizationQueryParametersError".to_owned()), "{expires}");
        }
        let both = [("authorization", "AWS4-HMAC-SHA256 x")];
        assert_eq!(check(&format!("{presigned}60"), &both), Err("InvalidArgument".to_owned()));
    }

    #[test]
    fn other_services_and_tokens_are_refused() {
        let sts = "AWS4-HMAC-SHA256 Credential=A/20260101/r/sts/aws4_request, SignedHeaders=host, Signature=s";
        assert_eq!(check("/", &[("authorization", sts)]), Err("AuthorizationHeaderMalformed".to_owned()));
        let token = [("x-amz-security-token", "t")];
        assert_eq!(signed("host;x-amz-security-token", &token), Err("InvalidToken".to_owned()));
    }

    #[test]
    fn payload_hashes() {
        let hash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let payload = |value: &str| {
            signed("host;x-amz-content-sha256", &[("x-amz-content-sha256", value)]).map(|preflight| preflight.payload)
        };
        assert!(matches!(payload(hash), Ok(PayloadHash::Sha256([0xe3, 0xb0, ..]))));
        assert_eq!(payload("UNSIGNED-PAYLOAD"), Ok(PayloadHash::Unsigned));
        assert_eq!(payload(&hash.to_uppercase()), Err("InvalidArgument".to_owned()));
        let Ok(PayloadHash::Chunked(chunking)) = payload("STREAMING-AWS4-HMAC-SHA256-PAYLOAD") else { panic!() };
        assert_eq!(chunking.signed.unwrap().scope, "20260101/eu-west-1/s3/aws4_request");
    }

    #[test]
    fn invocation_ids_count_only_when_signed() {
        let id = [("amz-sdk-invocation-id", "7f")];
        assert_eq!(signed("host", &id).unwrap().invocation, None);
        assert_eq!(signed("amz-sdk-invocation-id;host", &id).unwrap().invocation.as_deref(), Some("7f"));
        let own = [("x-entangle-request-id", "mine")];
        assert_eq!(signed("host", &own).unwrap().invocation.as_deref(), Some("mine"));
    }

    #[test]
    fn form_uploads_are_not_built() {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", "multipart/form-data; boundary=x".parse().unwrap());
        let error = Preflight::of(&Method::POST, &"/b".parse().unwrap(), &headers).unwrap_err();
        assert_eq!(error.code().as_str(), "NotImplemented");
    }
}

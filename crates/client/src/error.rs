//! Why a request has no good answer.

use std::path::PathBuf;

use crate::encoding::xml_text;
use crate::{Endpoint, EndpointError};

/// Why a request has no good answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The endpoint is none.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// Certificates to trust could not be read.
    #[error("{path}: {reason}")]
    Certificates {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No connection.
    #[error("cannot connect to {endpoint}: {source}")]
    Connect {
        /// Where to.
        endpoint: Endpoint,
        /// Why not.
        source: std::io::Error,
    },
    /// The other side could not prove who it is, or speaks no TLS.
    #[error("no secure connection to {endpoint}: {source}")]
    Tls {
        /// Where to.
        endpoint: Endpoint,
        /// Why not.
        source: std::io::Error,
    },
    /// No answer in time. If the request was a write, its outcome is unknown.
    #[error("{endpoint} did not answer within {seconds} s")]
    TimedOut {
        /// Who did not.
        endpoint: Endpoint,
        /// The time-out.
        seconds: u64,
    },
    /// The connection broke or spoke no HTTP. If the request was a write, its outcome is unknown.
    #[error("the connection to {endpoint} broke: {source}")]
    Http {
        /// Who with.
        endpoint: Endpoint,
        /// How.
        source: hyper::Error,
    },
    /// A header, path or query cannot be sent.
    #[error("the request cannot be sent: {0}")]
    Malformed(String),
    /// The answer is longer than was expected of it.
    #[error("the answer is longer than {limit} bytes")]
    TooLong {
        /// What was expected at most.
        limit: usize,
    },
    /// The answer says no.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The answer says yes in a form that was not expected.
    #[error("the answer is not what was expected: {0}")]
    Unexpected(String),
}

/// An answer that says no, with the S3 code where there is one.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refused {
    /// The HTTP status.
    pub status: u16,
    /// The S3 code, or the status's own words.
    pub code: String,
    /// What the server says.
    pub message: String,
    /// The server's id of the request, for its logs; may be empty.
    pub request_id: String,
}

impl Refused {
    /// Reads the body of an answer: S3's XML, or the JSON of a native route.
    pub(crate) fn from_answer(status: http::StatusCode, request_id: &str, body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body);
        let (code, message) = if let Some(code) = xml_text(&text, "Code") {
            (Some(code), xml_text(&text, "Message"))
        } else {
            let json: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
            let error = json.get("error").unwrap_or(&json);
            let text_of = |name: &str| error.get(name).and_then(|value| value.as_str()).map(str::to_owned);
            (text_of("code"), text_of("message"))
        };
        Self {
            status: status.as_u16(),
            code: code.unwrap_or_else(|| status.canonical_reason().unwrap_or("Unknown").replace(' ', "")),
            message: message.unwrap_or_else(|| format!("the server answered {status}")),
            request_id: request_id.to_owned(),
        }
    }
}

impl Error {
    /// Whether the same request may succeed later without anything being changed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::TimedOut { .. } | Self::Http { .. } => true,
            Self::Refused(refused) => matches!(refused.status, 429 | 500 | 502 | 503 | 504),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    #[test]
    fn reads_xml_json_and_nothing() {
        let xml = b"<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code><Message>it is not there</Message></Error>";
        let refused = Refused::from_answer(StatusCode::NOT_FOUND, "r1", xml);
        assert_eq!((refused.code.as_str(), refused.message.as_str()), ("NoSuchKey", "it is not there"));
        let json = br#"{"error":{"code":"LastAccessKey","message":"one key must stay"}}"#;
        let refused = Refused::from_answer(StatusCode::CONFLICT, "", json);
        assert_eq!(refused.to_string(), "LastAccessKey: one key must stay");
        let refused = Refused::from_answer(StatusCode::SERVICE_UNAVAILABLE, "", b"");
        assert_eq!(refused.code, "ServiceUnavailable");
        assert!(Error::from(refused).is_retryable());
    }
}

//! A small HTTP/1.1 client of Entangle: requests signed with AWS Signature Version 4, the few S3 calls that
//! the command line needs, and the native routes under `/_entangle/v1/`.
//!
//! It is not an S3 SDK: no multipart, no retries beyond a connection that went stale, bodies of requests in
//! memory. It holds a pool of idle connections and may be cloned freely.

mod connection;
mod credentials;
mod encoding;
mod endpoint;
mod error;
mod native;
mod request;
mod s3;
mod sign;
mod tls;

pub use credentials::Credentials;
pub use endpoint::{Endpoint, EndpointError};
pub use error::{Error, Refused};
pub use native::{AccessKey, AccessKeyRequest};
pub use request::{Client, Options, Payload, Request, Response};
pub use s3::Put;
pub use sign::{PRESIGN_EXPIRY_SECONDS_MAX, SignTime, Signer};

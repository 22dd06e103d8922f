//! The door of a node: S3 and the native routes on one port, health, metrics and status on another.
//!
//! S3 is spoken through the `s3s` crate, of which no type leaves this one. What s3s leaves to its user, or
//! does in another way than AWS, is done here: `preflight` refuses heads, `body` reads and checks bodies,
//! `edge` and `response` complete answers. `docs/s3.md` says what works and what answers what.
//!
//! Traces of the crate `s3s` should be turned off (`s3s=off` in a filter): it logs every refused request as
//! an error, and at level debug the signatures that it expected.

mod auth;
mod body;
mod config;
mod context;
mod edge;
mod error;
mod host;
pub mod limits;
mod metrics;
mod names;
mod native;
mod preflight;
mod response;
mod s3;
mod server;

pub use config::{GatewayConfig, LinksReport, TlsConfig};
pub use host::DomainError;
pub use server::{BindError, Gateway};

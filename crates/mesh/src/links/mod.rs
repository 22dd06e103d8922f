//! Links between replicas: QUIC with mutual TLS 1.3 and the key exchange X25519MLKEM768, and nothing else.
//!
//! An [`Endpoint`] owns one UDP socket. It dials and accepts peers, keeps one connection to each, and tells its user what
//! happens through [`Events`]. Over a [`Link`] three classes of messages flow, none of which holds up another:
//!
//! | class | shape | order | when it is too much |
//! | --- | --- | --- | --- |
//! | urgent | up to 64 KiB | as sent | the oldest that waits is dropped, and counted; a beat replaces the one before |
//! | journal | frames up to 17 MiB, one stream per direction | as sent | the sender waits |
//! | request | a question, and an answer of any length, on a stream of its own | within the answer | both sides wait |
//!
//! Urgent goes before journal, journal before answers. What was queued when a link goes down is lost: whoever needs it
//! sends it again when the next link is up (urgent messages are repeated by their protocol, journals are resumed from a
//! position).
//!
//! [`identity`] says who may talk, [`probe`] how the link does, [`emulate`] stands in for the sea between two regions.

pub mod emulate;
pub mod identity;
pub mod probe;

mod accept;
mod config;
mod dial;
mod endpoint;
mod event;
mod frame;
mod fuzz;
mod greeting;
mod link;
mod refusal;
mod registry;
mod renew;
mod request;
mod run;
mod stream;
mod transport;
mod urgent;
#[cfg(test)]
mod vectors;

pub use config::{Admitted, Clock, Config, Newcomer, Porter, Versions};
pub use endpoint::{BindError, Endpoint, PeerStatus};
pub use event::{DownReason, Event, Events, Received};
#[doc(hidden)]
pub use fuzz::fuzz_frames;
pub use link::{Link, SendError};
pub use refusal::{Refusal, RefusalKind};
pub use request::{RequestError, Responder, Response};

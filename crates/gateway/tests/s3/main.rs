//! A real node behind a real port, and a client that signs what it is told to, right or wrong.
#![allow(clippy::unwrap_used)]

mod bodies;
mod buckets;
mod client;
mod listing;
mod multipart;
mod native;
mod objects;
mod ports;
mod refusals;
mod server;
mod versions;

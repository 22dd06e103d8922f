//! Load on an S3 endpoint, and crashes of a real node.
//!
//! [`load`] is a closed-loop load generator. It shares the machine with the server that it measures, so it is lean: one
//! connection per client ([`http`]), a cached signing key ([`sign`]), no parsing of what it does not need. [`crash`] starts a node,
//! writes to it, kills it at a random moment, and checks what is left; [`cluster`] does all kinds of harm to a cluster of them.

pub mod cluster;
pub mod crash;
pub mod http;
pub mod load;
pub mod random;
pub mod s3;
pub mod sign;

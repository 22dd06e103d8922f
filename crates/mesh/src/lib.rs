//! The mesh between replicas. Today it has one half, [`links`]: who may talk, over what, and how well it goes.
//!
//! It knows nothing of consensus, of objects or of the ledger: it carries bytes whose meaning is its user's. No type of
//! the QUIC or TLS library leaves the crate. What goes over the wire is described in `docs/formats/mesh.md`.

pub mod links;

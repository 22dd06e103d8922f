//! Project tasks: `cargo xtask tidy`, which is a test too (`tests/tidy.rs`).

pub mod tidy;

//! What each operation means: one test per rule of S3 that is easy to get wrong.
#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod buckets;
mod cluster;
mod conditions;
mod copies;
mod facts;
mod listing;
mod multipart;
mod objects;
mod retries;
mod rules;
mod versioning;

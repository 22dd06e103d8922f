//! The built binary, as its users meet it: one test program, so that it links once.
#![allow(clippy::unwrap_used)]

mod support;

mod bench;
mod cluster;
mod demo;
mod evidence;
mod folders;
mod keys;
mod refusals;
mod replace;
mod serving;

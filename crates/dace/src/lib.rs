//! DACE: the consensus core that orders the writes of one group of replicas (`docs/formats/consensus.md`).
//!
//! The core does no IO, reads no clock, draws no random number and spawns nothing. A driver feeds it with
//! `handle_*` and drains [`Core::poll_output`] after each call, before the next one; [`Core::deadline`]
//! says when it wants a [`Core::handle_tick`].
//!
//! # The persistence contract
//!
//! | output | what the driver owes |
//! | --- | --- |
//! | [`Output::Append`] | writes the records to the journal in this order, flushes them in batches as it likes, and reports [`Core::handle_durable`] once a flush has ended. A failed flush is a crash |
//! | [`Output::Execute`] | executes at once and in this order. The command is already durable: its outcome may be shown |
//! | [`Output::Cut`] | may seal the block of the commands at or below the cut. Nothing will ever be attached at or below it, in this life or after a restart |
//!
//! After a restart the driver makes a new core with the newest base (if the journal was trimmed) and the
//! cut at which its stored state stands, gives it its own journal with [`Core::restore_record`], and calls
//! [`Core::handle_start`].
//!
//! This version runs groups of one replica. What the core says to its journal, and what it asks of its
//! driver, is what a larger group says and asks.

mod base;
mod clock;
mod commit;
mod config;
mod core;
mod cut;
mod execute;
mod floors;
mod output;
mod propose;
mod restore;
mod status;

pub use self::base::{Base, BaseError, Predecessor};
pub use self::config::{Config, ConfigError, Restore};
pub use self::core::{Core, StartError};
pub use self::output::{Output, Record};
pub use self::propose::{Submission, SubmitError};
pub use self::restore::{RestoreError, RestoreFault};
pub use self::status::{Phase, Status};

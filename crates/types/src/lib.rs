//! The vocabulary of Entangle: ids, hybrid timestamps, commands and their outcomes, ledger facts, the
//! fixed layouts of the journal, and the named limits.
//!
//! This crate does no IO, reads no clock and draws no random number. What is encoded here is described,
//! byte for byte, in `docs/formats.md`.

pub mod command;
pub mod fact;
pub mod ids;
pub mod journal;
pub mod limits;
pub mod object;
pub mod order;
pub mod outcome;
pub mod sign;
pub mod slot;
pub mod state;
pub mod time;

pub use command::{Command, Op};
pub use ids::{ClusterId, CommandId, Epoch, GroupId, Incarnation, ReplicaId};
pub use order::OrderKey;
pub use outcome::{Outcome, Refusal};
pub use slot::{Slot, SlotSet};
pub use time::{Now, Timestamp};

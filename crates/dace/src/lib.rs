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
//! | [`Output::Keep`] | writes it to the journal in its place; it is durable when the record behind it is |
//! | [`Output::Execute`] | executes at once and in this order. The command is already durable: its outcome may be shown |
//! | [`Output::Cut`] | may seal the block of the commands at or below the cut. Nothing more will ever be decided at or below it, in this life or after a restart |
//! | [`Output::Send`] | gives the message to the peer's driver, or loses it |
//! | [`Output::ReadReady`], [`Output::LeasedReady`] | reads the local state before it takes the next output |
//! | [`Output::Pends`], [`Output::Lease`] | publishes it before it takes the next output: the record behind it must not leave first |
//! | [`Output::ReadContended`], [`Output::LeasedContended`] | submits the read as a command on all slots |
//! | [`Output::WantSnapshot`] | installs a peer's stored state, durably, then reports [`Core::handle_snapshot`] |
//!
//! After a restart the driver makes a new core with the newest base (if the journal was trimmed) and the
//! cut at which its stored state stands, gives it its own journal with [`Core::restore_record`], and calls
//! [`Core::handle_start`].
//!
//! In a group of more than one replica the others vouch for the journal before that ([`Core::claim`]), and the
//! driver also carries the journals: see [`Core::hello`], [`Core::handle_record`] and [`Core::beat`].

mod ack;
mod base;
mod check;
mod clock;
mod command;
mod commit;
mod config;
mod core;
mod cut;
mod epoch;
mod execute;
mod floors;
mod grant;
mod index;
mod journal;
mod lease;
mod message;
mod mutant;
mod output;
mod propose;
mod read;
mod readings;
mod reconfig;
mod recover;
mod replica;
mod restore;
mod settled;
mod snapshot;
mod status;
mod stream;
mod timer;
mod vouch;

pub use self::base::{Base, BaseError, Predecessor};
pub use self::config::{Config, ConfigError, Restore};
pub use self::core::{Core, StartError};
pub use self::lease::{LeaseError, LeaseTiming, Zone, Zones};
pub use self::message::{Fetched, Message, Watermark};
pub use self::mutant::Mutant;
pub use self::output::{Kept, Output, Record};
pub use self::propose::{Submission, SubmitError};
pub use self::reconfig::{Entry, Membership, Reconfig};
pub use self::replica::{
    Claims, EpochClaim, EpochJournal, HelloError, Notice, ReconfigError, Remains, Replica, ReplicaOutput, SetUp,
    Standing, Stored, Vouch,
};
pub use self::restore::{RestoreError, RestoreFault};
pub use self::status::{Counters, Phase, Status};
pub use self::stream::{Beat, Behind, Hello, PeerBase, Refused, StreamError};
pub use self::timer::Timing;
pub use self::vouch::{Claim, Vouched};

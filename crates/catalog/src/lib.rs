//! The replicated state machine of a group: buckets, objects, versions, uploads, access keys, and the retry
//! window. What a command does is a function of the state, the command, its timestamp and its id, and of
//! nothing else, so every replica comes to the same state, outcomes and facts.
//!
//! No IO, no clock, no randomness, no order of hash maps. Every row is *per key*, touched only through the
//! key's slot, or *shared*, changed only by commands that touch every slot (`docs/determinism.md`).
//! [`execute`] is the only way to change the state, [`query`] the way to read it.

mod check;
mod condition;
mod content;
pub mod digest;
mod draft;
mod execute;
mod fact;
#[doc(hidden)]
pub mod fuzz;
mod ops;
pub mod query;
mod retry;
pub mod rows;
#[doc(hidden)]
pub mod testing;
mod versions;
pub mod zone;

pub use execute::{Execution, execute};
pub use retry::is_expired as retry_is_expired;

/// The version of the logic in this crate. It is raised with every change that lets a command give another
/// state, outcome or fact than before; replicas switch at one command, never one by one.
///
/// | version | what it added |
/// | --- | --- |
/// | 1 | the first |
/// | 2 | `PutZone`, `AdmitNode`, `Barrier` |
pub const LOGIC_VERSION: u32 = 2;
/// The version that takes nodes in for join tokens.
pub const LOGIC_WITH_TOKENS: u32 = 2;
/// The version that orders listings.
pub const LOGIC_WITH_BARRIERS: u32 = 2;
/// The version that knows zones.
pub const LOGIC_WITH_ZONES: u32 = 2;

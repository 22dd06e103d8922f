//! Time as an argument: hybrid timestamps, and the two clocks that a core is told of.

use core::fmt;

use minicbor::{Decode, Encode};

/// A hybrid logical clock value: nanoseconds since the Unix epoch, pushed up where order demands it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
#[cbor(transparent)]
pub struct Timestamp(#[n(0)] pub u64);

/// Length of a ledger tick in timestamp units (10 ms): cuts are taken at its multiples.
pub const TICK_NS: u64 = 10_000_000;

impl Timestamp {
    /// The smallest timestamp.
    pub const ZERO: Self = Self(0);

    /// The end of the tick that this timestamp lies in: the smallest multiple of [`TICK_NS`] at or above it.
    #[must_use]
    pub fn tick_end(self) -> Self {
        Self(self.0.div_ceil(TICK_NS).saturating_mul(TICK_NS))
    }

    /// The timestamp right after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Whole milliseconds since the Unix epoch.
    #[must_use]
    pub fn unix_ms(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Whole seconds since the Unix epoch.
    #[must_use]
    pub fn unix_secs(self) -> u64 {
        self.0 / 1_000_000_000
    }

    /// This timestamp, earlier by `ns` (not below zero).
    #[must_use]
    pub fn minus_ns(self, ns: u64) -> Self {
        Self(self.0.saturating_sub(ns))
    }

    /// This timestamp, later by `ns`.
    #[must_use]
    pub fn plus_ns(self, ns: u64) -> Self {
        Self(self.0.saturating_add(ns))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t{}", self.0)
    }
}

/// One instant on both clocks of a replica, read by its driver and passed into the core.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// Monotonic clock, in ns from an arbitrary origin; counts suspended time.
    pub mono_ns: u64,
    /// Wall clock, in ns since the Unix epoch; may jump either way.
    pub wall_ns: u64,
}

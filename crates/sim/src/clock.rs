//! The clocks of a simulated machine.

use types::Now;

/// The wall clock at which every run begins (ns since the Unix epoch).
pub const WALL_NS: u64 = 1_700_000_000_000_000_000;

/// Both clocks. The monotonic one only runs; the wall clock is set forth and back too.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    now: Now,
}

impl Default for Clock {
    fn default() -> Self {
        Self { now: Now { mono_ns: 1, wall_ns: WALL_NS } }
    }
}

impl Clock {
    /// What the clocks show.
    #[must_use]
    pub fn now(&self) -> Now {
        self.now
    }

    /// Time passes.
    pub fn advance(&mut self, ns: u64) {
        self.now.mono_ns += ns;
        self.now.wall_ns = self.now.wall_ns.saturating_add(ns);
    }

    /// Somebody sets the wall clock.
    pub fn set(&mut self, by_ns: i64) {
        self.now.wall_ns = self.now.wall_ns.saturating_add_signed(by_ns);
    }
}

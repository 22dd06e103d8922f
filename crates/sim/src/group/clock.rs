//! The clocks of a machine: an oscillator with a rate error, and a wall clock that somebody sets.

use types::Now;

use super::queue::Instant;

/// The wall clock at which every run begins (ns since the Unix epoch).
pub(crate) const WALL_NS: u64 = 1_700_000_000_000_000_000;

/// A billion: rate errors are given in parts of it.
const BILLION: i128 = 1_000_000_000;

/// Both clocks of a machine.
pub(crate) struct Clock {
    /// The monotonic clock showed this at `since`.
    mono: u64,
    since: Instant,
    /// How much faster than true the oscillator is, in parts per billion.
    rate_ppb: i64,
    /// Wall clock less monotonic clock and [`WALL_NS`].
    wall_offset: i64,
    /// Of a wall clock that something else keeps, so that the oscillator's rate does not show: its error.
    kept_error: Option<i64>,
}

impl Clock {
    pub(crate) fn new(mono: u64, rate_ppb: i64, error_ns: i64) -> Self {
        let wall_offset = error_ns - i64::try_from(mono).expect("a small origin");
        Self { mono, since: 0, rate_ppb, wall_offset, kept_error: None }
    }

    /// From the beginning on the wall clock is kept right by something else, but for its error.
    pub(crate) fn keep_wall(&mut self) {
        self.kept_error = Some(self.wall_offset + i64::try_from(self.mono).expect("a small origin"));
    }

    fn mono_at(&self, at: Instant) -> u64 {
        let elapsed = i128::from(at - self.since);
        let shown = elapsed + elapsed * i128::from(self.rate_ppb) / BILLION;
        self.mono + u64::try_from(shown).expect("an oscillator does not run backwards")
    }

    /// What the clocks show.
    pub(crate) fn read(&self, at: Instant) -> Now {
        let mono_ns = self.mono_at(at);
        let shown = match self.kept_error {
            Some(error) => i128::from(at) + i128::from(error),
            None => i128::from(mono_ns) + i128::from(self.wall_offset),
        };
        let wall = i128::from(WALL_NS) + shown;
        Now { mono_ns, wall_ns: u64::try_from(wall.max(0)).unwrap_or(u64::MAX) }
    }

    /// When the monotonic clock will show `mono_ns`: at the earliest `now`.
    pub(crate) fn instant_of(&self, mono_ns: u64, now: Instant) -> Instant {
        let left = i128::from(mono_ns) - i128::from(self.mono_at(now));
        if left <= 0 {
            return now;
        }
        let wait = left * BILLION / (BILLION + i128::from(self.rate_ppb)) + 1;
        now.saturating_add(u64::try_from(wait).unwrap_or(u64::MAX / 4))
    }

    /// The oscillator changes.
    pub(crate) fn drift(&mut self, at: Instant, rate_ppb: i64) {
        self.mono = self.mono_at(at);
        self.since = at;
        self.rate_ppb = rate_ppb;
    }

    /// Somebody sets the wall clock forth or back.
    pub(crate) fn jump(&mut self, by_ns: i64) {
        self.wall_offset += by_ns;
        self.kept_error = self.kept_error.map(|error| error + by_ns);
    }

    /// Somebody sets the wall clock right, but for an error.
    pub(crate) fn set_right(&mut self, at: Instant, error_ns: i64) {
        let mono = i64::try_from(self.mono_at(at)).expect("a short run");
        self.wall_offset = i64::try_from(at).expect("a short run") - mono + error_ns;
        self.kept_error = self.kept_error.map(|_| error_ns);
    }
}

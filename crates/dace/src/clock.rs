//! The hybrid clock, the clock promise, and the ceiling that makes the promise survive a restart.
//!
//! Three values, in the order in which they bind:
//!
//! - the *reading* runs with the monotonic clock and is slewed toward the wall clock, so that a wall clock
//!   set back (or far ahead) neither stops it nor drags it along;
//! - the *promise* `T`: nothing will be attached at or below it. It is raised to where a cut needs it,
//!   never above the reading, and never above
//! - the *ceiling*: made durable ahead of time by `Clock` records. A restart begins above it, so a promise
//!   needs no flush of its own.

use std::collections::VecDeque;

use types::limits::{CLOCK_AHEAD_NS_MAX, CLOCK_CEILING_NS};
use types::{Now, Timestamp};

/// The reading runs at most this fraction (an eighth) faster or slower than the monotonic clock.
const SLEW_FRACTION: u64 = 8;
/// Wall clocks above this (the year 2262) are taken for this, so that timestamps cannot overflow.
const WALL_NS_MAX: u64 = u64::MAX / 2;
/// No journal holds a timestamp above this: a clock that starts at [`WALL_NS_MAX`] needs a century to get here.
pub(crate) const TIMESTAMP_MAX: Timestamp = Timestamp(u64::MAX / 4 * 3);

/// Nothing above this is taken from a peer: what is attached above it here still lies below [`TIMESTAMP_MAX`].
pub(crate) const SAID_MAX: Timestamp = Timestamp(u64::MAX / 8 * 5);

/// See the file's documentation.
#[derive(Clone)]
pub(crate) struct Clock {
    /// Alone in its group a replica never lets its clock go back, over restarts too. In a larger group the
    /// clock may be set back: there the floors and the promise keep what was said.
    alone: bool,
    /// The reading without what timestamps have pushed it up by.
    slewed: u64,
    /// When `slewed` was taken.
    mono_ns: u64,
    /// Wall clock minus `slewed` at that time.
    error_ns: i128,
    /// The largest timestamp given or seen: the reading is never below it.
    last: Timestamp,
    promise: Timestamp,
    ceiling: Ceiling,
}

/// Ceilings by how far they have come.
#[derive(Clone, Default)]
struct Ceiling {
    /// The newest one handed to the journal.
    appended: Timestamp,
    /// The newest one known durable.
    durable: Timestamp,
    /// Position and ceiling of those in between.
    flushing: VecDeque<(u64, Timestamp)>,
}

impl Clock {
    /// A clock that stands still until [`Clock::start`].
    pub(crate) fn new(alone: bool) -> Self {
        Self {
            alone,
            slewed: 0,
            mono_ns: 0,
            error_ns: 0,
            last: Timestamp::ZERO,
            promise: Timestamp::ZERO,
            ceiling: Ceiling::default(),
        }
    }

    /// Starts to run, above the ceiling and above every timestamp seen.
    pub(crate) fn start(&mut self, now: Now) {
        let seen = self.last.max(self.promise).max(self.ceiling.appended);
        let wall_ns = now.wall_ns.min(WALL_NS_MAX);
        self.slewed = if self.alone { wall_ns.max(seen.next().0) } else { wall_ns };
        self.mono_ns = now.mono_ns;
        self.error_ns = i128::from(wall_ns) - i128::from(self.slewed);
        self.last = if self.alone { Timestamp(self.slewed) } else { Timestamp::ZERO };
    }

    /// Sets the reading back to the wall clock, if that is below it.
    pub(crate) fn step_back(&mut self, now: Now) {
        assert!(!self.alone, "a lone replica's clock never goes back");
        let wall_ns = now.wall_ns.min(WALL_NS_MAX);
        if wall_ns < self.slewed {
            self.slewed = wall_ns;
            self.error_ns = 0;
        }
    }

    /// Sets the reading forward to `reference`, or to the wall clock if that is below it.
    pub(crate) fn step_forward(&mut self, now: Now, reference: Timestamp) {
        assert!(!self.alone, "a lone replica has no reference");
        let wall_ns = now.wall_ns.min(WALL_NS_MAX);
        self.slewed = self.slewed.max(wall_ns.min(reference.0));
        self.error_ns = i128::from(wall_ns) - i128::from(self.slewed);
    }

    /// The monotonic time of the reading, in ns.
    pub(crate) fn mono_ns(&self) -> u64 {
        self.mono_ns
    }

    /// A promise given before a restart.
    pub(crate) fn promise_restored(&mut self, timestamp: Timestamp) {
        self.promise = self.promise.max(timestamp);
    }

    /// Moves the reading on to `now`.
    pub(crate) fn advance(&mut self, now: Now) {
        let elapsed = now.mono_ns.saturating_sub(self.mono_ns);
        let free = self.slewed.saturating_add(elapsed);
        let wall_ns = now.wall_ns.min(WALL_NS_MAX);
        let slew_max = i128::from(elapsed / SLEW_FRACTION);
        let error = i128::from(wall_ns) - i128::from(free);
        let slewed = i128::from(free) + error.clamp(-slew_max, slew_max);
        let slewed = u64::try_from(slewed).unwrap_or(u64::MAX);
        assert!(slewed >= self.slewed, "the hybrid clock never goes back");
        self.slewed = slewed;
        self.mono_ns = self.mono_ns.max(now.mono_ns);
        self.error_ns = i128::from(wall_ns) - i128::from(slewed);
    }

    /// What the clock shows: at least every timestamp given or seen.
    pub(crate) fn reading(&self) -> Timestamp {
        Timestamp(self.slewed).max(self.last)
    }

    /// The smallest timestamp that may be attached next: above all given, seen and promised ones.
    pub(crate) fn next(&self) -> Timestamp {
        Timestamp(self.slewed).max(self.last.next()).max(self.promise.next())
    }

    /// Notes a timestamp given, or read from the journal.
    pub(crate) fn observe(&mut self, timestamp: Timestamp) {
        self.last = self.last.max(timestamp);
    }

    /// The monotonic time (ns) at which the reading will be `target`, if the wall clock does not jump.
    pub(crate) fn mono_at(&self, target: Timestamp) -> u64 {
        let distance = i128::from(target.0.saturating_sub(self.slewed));
        let fraction = i128::from(SLEW_FRACTION);
        let wait = if self.error_ns < 0 {
            (distance - self.error_ns).min((distance * fraction + fraction - 2) / (fraction - 1))
        } else {
            (distance - self.error_ns).max(distance * fraction / (fraction + 1))
        };
        // An eighth of a few ns is none, so the bound can be one short: never ask for the past.
        self.mono_ns.saturating_add(u64::try_from(wait.max(1)).unwrap_or(u64::MAX))
    }

    /// Promises to attach nothing at or below `timestamp`.
    pub(crate) fn promise(&mut self, timestamp: Timestamp) {
        assert!(timestamp <= self.ceiling.durable, "a promise stays at or below the durable ceiling");
        assert!(timestamp <= self.reading(), "a promise stays at or below the clock");
        self.promise = self.promise.max(timestamp);
    }

    /// The current promise.
    pub(crate) fn promised(&self) -> Timestamp {
        self.promise
    }

    /// The ceiling that a `Clock` record must carry along with an attach at `timestamp`, if one must.
    pub(crate) fn ceiling_wanted(&self, timestamp: Timestamp) -> Option<Timestamp> {
        let needed = timestamp.tick_end();
        // What runs ahead: the lone replica's clock itself, in a larger group what the promise and the floors ask.
        let ahead_ns =
            if self.alone { self.error_ns.saturating_neg() } else { i128::from(timestamp.0) - i128::from(self.slewed) };
        if ahead_ns > i128::from(CLOCK_AHEAD_NS_MAX) {
            // Each restart begins above the ceiling. While the clock is ahead, ceilings are therefore as low
            // as the next cut allows: a replica that restarts all the time must not run away from the world.
            return (self.ceiling.appended < needed).then_some(needed);
        }
        // Renewed while half of it is left, so that cuts never wait for a flush of their own.
        (self.ceiling.appended < timestamp.plus_ns(CLOCK_CEILING_NS / 2)).then(|| timestamp.plus_ns(CLOCK_CEILING_NS))
    }

    /// A ceiling was handed to the journal at `position`.
    pub(crate) fn ceiling_appended(&mut self, position: u64, ceiling: Timestamp) {
        assert!(ceiling > self.ceiling.appended, "ceilings rise");
        self.ceiling.appended = ceiling;
        self.ceiling.flushing.push_back((position, ceiling));
    }

    /// Everything up to `position` is durable.
    pub(crate) fn handle_durable(&mut self, position: u64) {
        while let Some((_, ceiling)) = self.ceiling.flushing.pop_front_if(|(at, _)| *at <= position) {
            self.ceiling.durable = ceiling;
        }
    }

    /// A ceiling read from the journal or a base: durable.
    pub(crate) fn ceiling_restored(&mut self, ceiling: Timestamp) {
        self.ceiling.appended = self.ceiling.appended.max(ceiling);
        self.ceiling.durable = self.ceiling.appended;
    }

    /// The newest ceiling handed to the journal.
    pub(crate) fn ceiling(&self) -> Timestamp {
        self.ceiling.appended
    }

    /// The newest ceiling known durable.
    pub(crate) fn ceiling_durable(&self) -> Timestamp {
        self.ceiling.durable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const HOUR: u64 = 3600 * SECOND;

    fn now(mono_ns: u64, wall_ns: u64) -> Now {
        Now { mono_ns, wall_ns }
    }

    #[test]
    fn runs_with_the_wall_clock_when_that_is_steady() {
        let mut clock = Clock::new(true);
        clock.start(now(0, HOUR));
        clock.advance(now(SECOND, HOUR + SECOND));
        assert_eq!(clock.reading(), Timestamp(HOUR + SECOND));
    }

    #[test]
    fn a_wall_clock_set_back_slows_it_by_an_eighth() {
        let mut clock = Clock::new(true);
        clock.start(now(0, 2 * HOUR));
        clock.advance(now(8 * SECOND, HOUR));
        assert_eq!(clock.reading(), Timestamp(2 * HOUR + 7 * SECOND));
    }

    #[test]
    fn a_wall_clock_set_ahead_hastens_it_by_an_eighth() {
        let mut clock = Clock::new(true);
        clock.start(now(0, HOUR));
        clock.advance(now(8 * SECOND, 1000 * HOUR));
        assert_eq!(clock.reading(), Timestamp(HOUR + 9 * SECOND));
    }

    #[test]
    fn a_small_error_is_slewed_away_and_not_overshot() {
        let mut clock = Clock::new(true);
        clock.start(now(0, HOUR));
        clock.advance(now(SECOND, HOUR + SECOND - 1000));
        assert_eq!(clock.reading(), Timestamp(HOUR + SECOND - 1000));
    }

    #[test]
    fn starts_above_the_ceiling() {
        let mut clock = Clock::new(true);
        clock.ceiling_restored(Timestamp(5 * HOUR));
        clock.start(now(0, HOUR));
        assert_eq!(clock.reading(), Timestamp(5 * HOUR + 1));
        assert!(clock.next() > Timestamp(5 * HOUR));
    }

    #[test]
    fn restarting_all_the_time_does_not_run_ahead() {
        let (mut ceiling, mut wall_ns) = (Timestamp::ZERO, HOUR);
        for _ in 0..1000 {
            let mut clock = Clock::new(true);
            clock.ceiling_restored(ceiling);
            clock.start(now(0, wall_ns));
            wall_ns += SECOND / 5;
            clock.advance(now(SECOND / 5, wall_ns));
            ceiling = clock.ceiling_wanted(clock.next()).unwrap_or(ceiling);
        }
        assert!(ceiling.0 - wall_ns < 3 * SECOND, "{} s ahead", (ceiling.0 - wall_ns) / SECOND);
    }

    #[test]
    fn next_rises_at_one_instant() {
        let mut clock = Clock::new(true);
        clock.start(now(0, HOUR));
        let first = clock.next();
        clock.observe(first);
        assert!(clock.next() > first);
    }

    #[test]
    fn mono_at_is_when_the_reading_gets_there() {
        for wall_offset in [-(HOUR as i64), -1_000_000, -10, 0, 10, 1_000_000, HOUR as i64] {
            let mut clock = Clock::new(true);
            clock.start(now(0, 2 * HOUR));
            let wall = |mono: u64| (2 * HOUR + mono).saturating_add_signed(wall_offset);
            clock.advance(now(SECOND, wall(SECOND)));
            let target = clock.reading().plus_ns(10_000_000);
            let at = clock.mono_at(target);
            clock.advance(now(at, wall(at)));
            let off = clock.reading().0.abs_diff(target.0);
            assert!(off <= 2, "{off} ns off with the wall clock {wall_offset} ns off");
        }
    }

    #[test]
    fn absurd_clocks_do_not_overflow() {
        let mut clock = Clock::new(true);
        clock.start(now(u64::MAX, u64::MAX));
        clock.advance(now(u64::MAX, u64::MAX));
        clock.advance(now(0, 0));
        let next = clock.next();
        clock.observe(next);
        assert!(clock.next() > next);
        assert_eq!(clock.mono_at(next.plus_ns(1)), u64::MAX);
    }

    #[test]
    #[should_panic(expected = "durable ceiling")]
    fn a_promise_past_the_durable_ceiling_is_refused() {
        let mut clock = Clock::new(true);
        clock.start(now(0, HOUR));
        clock.ceiling_appended(1, Timestamp(2 * HOUR));
        clock.promise(Timestamp(HOUR));
    }
}

//! Whether the own clock may be trusted to speak: the comparison with the readings of the others
//! (`consensus.md`, section 1, clock).

use types::Timestamp;
use types::limits::{CLOCK_AHEAD_NS_MAX, MEMBERS_MAX, READING_FRESH_NS};

use crate::config::Member;

/// What a peer's clock showed, and when that came here.
#[derive(Clone, Copy)]
struct Reading {
    timestamp: Timestamp,
    mono_ns: u64,
}

/// The newest reading of each member.
#[derive(Clone)]
pub(crate) struct Readings {
    of: Vec<Option<Reading>>,
}

/// What the readings say of the own clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// It may propose, promise and recover.
    Speaks,
    /// Fewer than `n - f` fresh readings, the own one included.
    Alone,
    /// More than 500 ms above the `(f + 1)`-th largest.
    Ahead,
    /// It may speak, but is more than 500 ms below the `(f + 1)`-th largest, which is this.
    Behind(Timestamp),
}

impl Verdict {
    /// Whether the clock may propose, promise and recover.
    pub(crate) fn speaks(self) -> bool {
        matches!(self, Self::Speaks | Self::Behind(_))
    }
}

impl Readings {
    pub(crate) fn new(n: usize) -> Self {
        Self { of: vec![None; n] }
    }

    /// A reading of `member` came in.
    pub(crate) fn handle(&mut self, member: Member, timestamp: Timestamp, mono_ns: u64) {
        self.of[member] = Some(Reading { timestamp, mono_ns });
    }

    /// Takes over what is known of a member's clock elsewhere.
    pub(crate) fn inherit(&mut self, member: Member, others: &Self, other: Member) {
        self.of[member] = self.of[member].or(others.of[other]);
    }

    /// Compares `own` (the clock of member `me` at `mono_ns`) with the fresh readings, each advanced by the
    /// time since it came.
    pub(crate) fn judge(&self, me: Member, own: Timestamp, mono_ns: u64, f: usize) -> Verdict {
        let n = self.of.len();
        let mut readings = [Timestamp::ZERO; MEMBERS_MAX];
        readings[0] = own;
        let mut count = 1;
        for (member, reading) in self.of.iter().enumerate() {
            let Some(reading) = reading.filter(|_| member != me) else { continue };
            let age = mono_ns.saturating_sub(reading.mono_ns);
            if age <= READING_FRESH_NS {
                readings[count] = reading.timestamp.plus_ns(age);
                count += 1;
            }
        }
        let fresh = &mut readings[..count];
        if fresh.len() < n - f {
            return Verdict::Alone;
        }
        fresh.sort_unstable_by(|a, b| b.cmp(a));
        let reference = fresh[f];
        if own > reference.plus_ns(CLOCK_AHEAD_NS_MAX) {
            Verdict::Ahead
        } else if own.plus_ns(CLOCK_AHEAD_NS_MAX) < reference {
            Verdict::Behind(reference)
        } else {
            Verdict::Speaks
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_clock_speaks_only_among_enough_others_and_not_far_above_them() {
        let mut readings = Readings::new(3);
        let own = Timestamp(100 * SECOND);
        assert_eq!(readings.judge(0, own, 0, 1), Verdict::Alone);
        readings.handle(1, Timestamp(100 * SECOND), 0);
        assert_eq!(readings.judge(0, own, 0, 1), Verdict::Speaks);
        assert_eq!(readings.judge(0, Timestamp(102 * SECOND), 0, 1), Verdict::Ahead);
        assert_eq!(readings.judge(0, Timestamp(102 * SECOND), 2 * SECOND, 1), Verdict::Speaks, "readings run on");
        assert_eq!(readings.judge(0, own, READING_FRESH_NS + 1, 1), Verdict::Alone);
        // One bad clock far ahead does not silence the others, only itself.
        readings.handle(2, Timestamp(9_000 * SECOND), 0);
        assert_eq!(readings.judge(0, own, 0, 1), Verdict::Speaks);
        readings.handle(0, own, 0);
        assert_eq!(readings.judge(2, Timestamp(9_000 * SECOND), 0, 1), Verdict::Ahead);
    }

    #[test]
    fn alone_in_its_group_a_clock_always_speaks() {
        assert_eq!(Readings::new(1).judge(0, Timestamp(5), 0, 0), Verdict::Speaks);
    }
}

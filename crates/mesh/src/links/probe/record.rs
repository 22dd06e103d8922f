//! The record of one link's probes: what was sent, what came back, what arrived from the peer. Pure: time is an argument.

use std::collections::VecDeque;
use std::time::Duration;

use types::limits::{MESH_PROBES_MAX, MESH_SAMPLES_MAX};

use super::{RoundTrip, Suspicion};

/// A probe without an echo counts as lost after this many median round trips, and at least a second.
const LOST_AFTER_ROUND_TRIPS: u32 = 4;
/// See [`LOST_AFTER_ROUND_TRIPS`].
const LOST_AFTER_MIN: Duration = Duration::from_secs(1);

/// Probes of one link.
#[derive(Debug)]
pub(in crate::links) struct Record {
    next: u64,
    /// Number and moment of those whose echo has not come, oldest first.
    open: VecDeque<(u64, Duration)>,
    round_trips: VecDeque<Duration>,
    /// Whether each of the last probes was echoed.
    fates: VecDeque<bool>,
    suspicion: Suspicion,
}

impl Record {
    pub(in crate::links) fn new(interval: Duration, now: Duration) -> Self {
        Self {
            next: 1,
            open: VecDeque::new(),
            round_trips: VecDeque::new(),
            fates: VecDeque::new(),
            suspicion: Suspicion::new(interval, now),
        }
    }

    /// A probe is to be sent now: its number.
    pub(in crate::links) fn sent(&mut self, now: Duration) -> u64 {
        let number = self.next;
        self.next += 1;
        let patience = self.patience();
        while let Some((_, sent)) = self.open.front()
            && (self.open.len() >= MESH_PROBES_MAX || now.saturating_sub(*sent) > patience)
        {
            self.open.pop_front();
            remember(&mut self.fates, false);
        }
        self.open.push_back((number, now));
        number
    }

    /// An echo came. One that nobody waits for (given up, or made up) is ignored.
    pub(in crate::links) fn echoed(&mut self, number: u64, now: Duration) {
        let Some(at) = self.open.iter().position(|(open, _)| *open == number) else { return };
        if let Some((_, sent)) = self.open.remove(at) {
            remember(&mut self.round_trips, now.saturating_sub(sent));
            remember(&mut self.fates, true);
        }
    }

    /// A probe of the peer came.
    pub(in crate::links) fn heard(&mut self, now: Duration) {
        self.suspicion.arrived(now);
    }

    pub(in crate::links) fn phi(&self, now: Duration) -> f64 {
        self.suspicion.phi(now)
    }

    /// Share of the last probes without an echo.
    pub(in crate::links) fn loss(&self) -> f64 {
        let lost = self.fates.iter().filter(|echoed| !**echoed).count();
        lost as f64 / self.fates.len().max(1) as f64
    }

    /// Quantiles by nearest rank: the smallest value that enough of the samples do not exceed.
    pub(in crate::links) fn round_trip(&self) -> Option<RoundTrip> {
        let last = *self.round_trips.back()?;
        let mut sorted: Vec<Duration> = self.round_trips.iter().copied().collect();
        sorted.sort_unstable();
        let quantile = |percent: usize| sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1];
        Some(RoundTrip {
            samples: sorted.len(),
            last,
            min: sorted[0],
            p50: quantile(50),
            p90: quantile(90),
            p99: quantile(99),
        })
    }

    fn patience(&self) -> Duration {
        let median = self.round_trip().map_or(Duration::ZERO, |round_trip| round_trip.p50);
        (median * LOST_AFTER_ROUND_TRIPS).max(LOST_AFTER_MIN)
    }
}

fn remember<T>(samples: &mut VecDeque<T>, sample: T) {
    if samples.len() == MESH_SAMPLES_MAX {
        samples.pop_front();
    }
    samples.push_back(sample);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn quantiles_are_of_what_came_back() {
        let mut record = Record::new(ms(50), Duration::ZERO);
        assert!(record.round_trip().is_none());
        for trip in 1..=100 {
            let sent = ms(trip * 50);
            let number = record.sent(sent);
            record.echoed(number, sent + ms(trip));
            record.echoed(number, sent + ms(9000));
        }
        let found = record.round_trip().unwrap();
        assert_eq!((found.min, found.p50, found.p90, found.p99), (ms(1), ms(50), ms(90), ms(99)));
        assert_eq!((found.samples, found.last), (100, ms(100)));
        assert_eq!(record.loss(), 0.0);
    }

    #[test]
    fn what_does_not_come_back_is_lost_and_nothing_grows() {
        let mut record = Record::new(ms(50), Duration::ZERO);
        for probe in 0..10_000 {
            let number = record.sent(ms(probe * 50));
            if probe % 4 != 0 {
                record.echoed(number, ms(probe * 50 + 10));
            }
        }
        assert!((record.loss() - 0.25).abs() < 0.02, "{}", record.loss());
        assert!(record.open.len() <= MESH_PROBES_MAX);
        assert_eq!(record.round_trips.len(), MESH_SAMPLES_MAX);
        record.echoed(999_999, ms(1));
    }
}

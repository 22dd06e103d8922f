//! φ-accrual suspicion: how unlikely it is that a silent peer is only late.
//!
//! After N. Hayashibara, X. Défago, R. Yared, T. Katayama, "The φ Accrual Failure Detector", SRDS 2004, section 4:
//! `φ(t) = -log10(P(an interval is longer than t))`, where `t` is the time since the last arrival and intervals are taken
//! to be normally distributed, with mean and deviation of the last ones seen. The normal distribution's tail is computed
//! with the logistic approximation of S. R. Bowling et al., "A logistic approximation to the cumulative normal
//! distribution", JIEM 2(1), 2009: `P(y) = 1 / (1 + e^(1.5976 y + 0.07056 y³))`, with `y` in deviations from the mean;
//! its absolute error is below 1.5e-4, and far out it falls faster than the normal one, which here only makes φ larger.
//!
//! Two departures, both towards patience: the deviation has a floor of a quarter of the interval that the peer sends at, so
//! that a quiet link does not make a single late probe look like death; and before enough intervals were seen, they are
//! taken to be as configured, with a deviation of half of that.

use std::collections::VecDeque;
use std::time::Duration;

use types::limits::MESH_SAMPLES_MAX;

/// Intervals that must have been seen before they are believed.
const SAMPLES_MIN: usize = 8;

/// The arrivals of one peer's probes. Time is an argument, from any fixed beginning.
#[derive(Debug, Clone)]
pub struct Suspicion {
    interval_s: f64,
    last: Duration,
    intervals: VecDeque<f64>,
    sum: f64,
    sum_of_squares: f64,
}

impl Suspicion {
    /// A peer that is expected to be heard every `interval`, counted from `now`.
    #[must_use]
    pub fn new(interval: Duration, now: Duration) -> Self {
        Self {
            interval_s: interval.as_secs_f64().max(1e-3),
            last: now,
            intervals: VecDeque::with_capacity(MESH_SAMPLES_MAX),
            sum: 0.0,
            sum_of_squares: 0.0,
        }
    }

    /// Something of the peer arrived.
    pub fn arrived(&mut self, now: Duration) {
        let interval = now.saturating_sub(self.last);
        self.last = self.last.max(now);
        self.learn(interval);
    }

    /// Takes an interval as one between two arrivals.
    pub(super) fn learn(&mut self, interval: Duration) {
        let interval = interval.as_secs_f64();
        if self.intervals.len() == MESH_SAMPLES_MAX
            && let Some(oldest) = self.intervals.pop_front()
        {
            self.sum -= oldest;
            self.sum_of_squares -= oldest * oldest;
        }
        self.intervals.push_back(interval);
        self.sum += interval;
        self.sum_of_squares += interval * interval;
    }

    /// φ now: 0 is no suspicion; 1 means that one in ten such silences is harmless, 8 one in a hundred million.
    #[must_use]
    pub fn phi(&self, now: Duration) -> f64 {
        self.phi_of(now.saturating_sub(self.last))
    }

    /// φ of a silence.
    pub(super) fn phi_of(&self, silence: Duration) -> f64 {
        let (mean, deviation) = self.expected();
        let y = (silence.as_secs_f64() - mean) / deviation;
        let exponent = y * (1.5976 + 0.070_56 * y * y);
        // -log10(1 / (1 + e^x)), without overflow for large x
        let phi = if exponent > 30.0 { exponent } else { exponent.exp().ln_1p() } / core::f64::consts::LN_10;
        phi.max(0.0)
    }

    /// The silence after which φ reaches `threshold`, as things are now: what a time-out would be set to.
    #[must_use]
    pub fn silence_for(&self, threshold: f64) -> Duration {
        let (mut low, mut high) = (0.0_f64, 3600.0_f64);
        for _ in 0..50 {
            let middle = f64::midpoint(low, high);
            let reached = self.phi_of(Duration::from_secs_f64(middle)) >= threshold;
            if reached { high = middle } else { low = middle }
        }
        Duration::from_secs_f64(high)
    }

    /// Mean and deviation of the interval, in seconds.
    fn expected(&self) -> (f64, f64) {
        let count = self.intervals.len();
        if count < SAMPLES_MIN {
            return (self.interval_s, self.interval_s / 2.0);
        }
        let mean = self.sum / count as f64;
        let variance = (self.sum_of_squares / count as f64 - mean * mean).max(0.0);
        (mean, variance.sqrt().max(self.interval_s / 4.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const INTERVAL: Duration = Duration::from_millis(50);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// A peer that is heard at these moments (ms).
    fn heard(moments: impl IntoIterator<Item = u64>) -> Suspicion {
        let mut suspicion = Suspicion::new(INTERVAL, Duration::ZERO);
        moments.into_iter().for_each(|at| suspicion.arrived(ms(at)));
        suspicion
    }

    #[test]
    fn a_steady_peer_is_not_suspected_and_a_silent_one_soon() {
        let steady = heard((1..=100).map(|beat| beat * 50));
        assert!(steady.phi(ms(5000)) < 0.01);
        assert!(steady.phi(ms(5050)) < 0.5, "on time: {}", steady.phi(ms(5050)));
        assert!(steady.phi(ms(5075)) > 1.0 && steady.phi(ms(5075)) < 3.0, "half a beat late: {}", steady.phi(ms(5075)));
        assert!(steady.phi(ms(5150)) > 8.0, "two beats missed: {}", steady.phi(ms(5150)));
        let silence = steady.silence_for(8.0);
        assert!(silence > ms(100) && silence < ms(130), "{silence:?}");
    }

    /// The textbook values: the normal tail at 0, 1, 2 and 3 deviations.
    #[test]
    fn the_formula_is_the_normal_tail() {
        let steady = heard((1..=100).map(|beat| beat * 50));
        let deviation_ms = 12.5;
        for (deviations, tail) in [(0.0, 0.5), (1.0, 0.158_655), (2.0, 0.022_750), (3.0, 0.001_35)] {
            let at = Duration::from_secs_f64(5.0 + (50.0 + deviations * deviation_ms) / 1000.0);
            let expected = -f64::log10(tail);
            assert!((steady.phi(at) - expected).abs() < 0.06, "{deviations}: {} for {expected}", steady.phi(at));
        }
    }

    #[test]
    fn a_jittery_peer_is_given_more_time() {
        let steady = heard((1..=200).map(|beat| beat * 50));
        let jittery = heard((1..=200).map(|beat| beat * 50 + if beat % 2 == 0 { 0 } else { 40 }));
        assert!(jittery.silence_for(8.0) > steady.silence_for(8.0) + ms(50));
    }

    #[test]
    fn what_was_learned_is_forgotten_again() {
        let mut suspicion = heard((1..=100).map(|beat| beat * 500));
        for beat in 1..=MESH_SAMPLES_MAX as u64 + 1 {
            suspicion.arrived(ms(50_000 + beat * 50));
        }
        assert!(suspicion.silence_for(8.0) < ms(130), "{:?}", suspicion.silence_for(8.0));
    }

    #[test]
    fn a_young_link_is_judged_by_what_was_configured() {
        let young = heard([50, 100]);
        assert!(young.phi(ms(150)) < 0.5);
        assert!(young.phi(ms(600)) > 8.0);
    }

    proptest! {
        #[test]
        fn suspicion_grows_with_silence_and_stays_a_number(
            gaps in proptest::collection::vec(0_u64..2000, 0..100),
            silence in 0_u64..10_000_000,
            more in 0_u64..1000,
        ) {
            let mut at = 0;
            let suspicion = heard(gaps.iter().map(|gap| { at += gap; at }));
            let phi = suspicion.phi(ms(at + silence));
            prop_assert!(phi.is_finite() && phi >= 0.0);
            prop_assert!(suspicion.phi(ms(at + silence + more)) >= phi - 1e-9);
        }
    }
}

//! When a silence is taken for a failure: φ-accrual suspicion ([`Suspicion`]) with a threshold, and bounds on both sides.
//!
//! Three departures from the bare φ, each of which was seen to be needed:
//!
//! - What a peer says comes in bursts: hundreds of messages within a few ms, then nothing for a beat. So of every interval
//!   in which a peer must be heard at least once, the *longest* silence counts as one sample. The window is then one of
//!   time, and what it learns is how long a healthy peer may be silent, however much it talks.
//! - The patience has a *floor*, below which no silence is a failure, however steady the peer was; and a *ceiling*, above which
//!   each is one, and above which no sample counts, so that one long silence does not make the peer's next one harmless.
//! - While its owner did not listen (it was stopped, or its machine had other work), nobody was silent:
//!   [`Detector::excuse`].

use std::time::Duration;

use super::Suspicion;

/// How patient a [`Detector`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// A healthy peer is heard at least this often.
    pub interval: Duration,
    /// φ at which a silence is a failure; 8: one in a hundred million such silences of a healthy peer.
    pub threshold: u32,
    /// No shorter silence is one.
    pub floor: Duration,
    /// Every longer silence is one.
    pub ceiling: Duration,
}

/// Judges the silences of one peer. Time is an argument, from any fixed beginning.
#[derive(Debug, Clone)]
pub struct Detector {
    patience: Patience,
    suspicion: Suspicion,
    last: Duration,
    /// When the running interval began, and the longest silence that ended in it.
    interval: (Duration, Duration),
    /// What the samples make of [`Patience`].
    limit: Duration,
}

impl Detector {
    /// A peer that counts as heard at `now`.
    ///
    /// Panics when the floor is above the ceiling.
    #[must_use]
    pub fn new(patience: Patience, now: Duration) -> Self {
        assert!(patience.floor <= patience.ceiling, "a floor lies below its ceiling");
        let suspicion = Suspicion::new(patience.interval, now);
        let limit = limit(&patience, &suspicion);
        Self { patience, suspicion, last: now, interval: (now, Duration::ZERO), limit }
    }

    /// Something of the peer came.
    pub fn heard(&mut self, now: Duration) {
        let silence = now.saturating_sub(self.last);
        self.last = self.last.max(now);
        let (began, longest) = &mut self.interval;
        *longest = silence.max(*longest);
        if now.saturating_sub(*began) < self.patience.interval {
            return;
        }
        let sample = (*longest).min(self.patience.ceiling);
        self.interval = (now, Duration::ZERO);
        self.suspicion.learn(sample);
        self.limit = limit(&self.patience, &self.suspicion);
    }

    /// For so long, up to `now`, nobody listened: that silence says nothing of the peer.
    pub fn excuse(&mut self, span: Duration, now: Duration) {
        self.last = self.last.saturating_add(span).min(self.last.max(now));
    }

    /// The silence that is a failure, as things are.
    #[must_use]
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// How long the peer is silent.
    #[must_use]
    pub fn silence(&self, now: Duration) -> Duration {
        now.saturating_sub(self.last)
    }

    /// φ of the present silence.
    #[must_use]
    pub fn phi(&self, now: Duration) -> f64 {
        self.suspicion.phi_of(self.silence(now))
    }
}

fn limit(patience: &Patience, suspicion: &Suspicion) -> Duration {
    suspicion.silence_for(f64::from(patience.threshold)).clamp(patience.floor, patience.ceiling)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PATIENCE: Patience = Patience { interval: ms(50), threshold: 8, floor: ms(150), ceiling: ms(500) };

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// A peer that is heard at these moments (ms).
    fn heard(moments: impl IntoIterator<Item = u64>) -> Detector {
        let mut detector = Detector::new(PATIENCE, Duration::ZERO);
        moments.into_iter().for_each(|at| detector.heard(ms(at)));
        detector
    }

    #[test]
    fn a_steady_peer_is_given_the_floor() {
        assert_eq!(heard((1..=100).map(|beat| beat * 50)).limit(), PATIENCE.floor);
        assert_eq!(heard((1..=1000).map(|beat| beat * 5)).limit(), PATIENCE.floor, "however much it talks");
    }

    /// 500 messages in 5 ms, then nothing for 45: all samples of the bare φ would be of the bursts.
    #[test]
    fn bursts_teach_how_long_the_silences_between_them_are() {
        let bursts = |pause: u64| {
            let mut detector = Detector::new(PATIENCE, Duration::ZERO);
            for burst in 0..200 {
                (0..500).for_each(|message| detector.heard(ms(burst * pause) + Duration::from_micros(message * 10)));
            }
            detector.limit()
        };
        assert_eq!(bursts(50), PATIENCE.floor);
        assert!(bursts(180) > ms(200), "silences of 175 ms are harmless: {:?}", bursts(180));
    }

    #[test]
    fn a_peer_that_stutters_is_given_more_time_and_never_more_than_the_ceiling() {
        let stuttering = |pause: u64| heard((1..=200).map(|beat| beat * 50 + if beat % 4 == 0 { pause } else { 0 }));
        assert!(stuttering(140).limit() > ms(250), "{:?}", stuttering(140).limit());
        assert_eq!(heard((1..=50).map(|beat| beat * 3_000)).limit(), PATIENCE.ceiling);
    }

    #[test]
    fn one_long_silence_does_not_make_the_next_harmless() {
        let mut detector = heard((1..=200).map(|beat| beat * 50));
        detector.heard(ms(20_000));
        (1..=20).for_each(|beat| detector.heard(ms(20_000 + beat * 50)));
        assert!(detector.limit() < ms(350), "{:?}", detector.limit());
    }

    #[test]
    fn nobody_is_silent_while_nobody_listens() {
        let mut detector = heard((1..=100).map(|beat| beat * 50));
        assert_eq!(detector.silence(ms(5_400)), ms(400));
        detector.excuse(ms(350), ms(5_400));
        assert_eq!(detector.silence(ms(5_400)), ms(50));
        detector.excuse(ms(9_000), ms(5_400));
        assert_eq!(detector.silence(ms(5_400)), Duration::ZERO, "it is never heard in the future");
    }

    proptest! {
        #[test]
        fn the_limit_stays_between_floor_and_ceiling_and_silence_is_since_the_last_word(
            gaps in proptest::collection::vec(0_u64..2_000, 0..300),
            excused in 0_u64..5_000,
        ) {
            let mut at = 0;
            let mut detector = heard(gaps.iter().map(|gap| { at += gap; at }));
            prop_assert!(detector.limit() >= PATIENCE.floor && detector.limit() <= PATIENCE.ceiling);
            prop_assert_eq!(detector.silence(ms(at + 700)), ms(700));
            prop_assert!(detector.phi(ms(at + 700)).is_finite());
            detector.excuse(ms(excused), ms(at + 700));
            prop_assert_eq!(detector.silence(ms(at + 700)), ms(700_u64.saturating_sub(excused)));
        }
    }
}

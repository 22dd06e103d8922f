//! What a run measured.

/// One answered command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Answer {
    pub(super) region: usize,
    /// From the submission to the execution at the coordinator.
    pub(super) latency_ns: u64,
}

/// What a run cost. Nothing before the first submission counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Costs {
    /// Sends to one peer because something was appended or became durable: records and a beat.
    pub news: u64,
    /// Beats alone, sent because something is not cut yet.
    pub beats: u64,
    /// Bytes of both: 96 a header, 32 a salt, the body, 40 a beat.
    pub bytes: u64,
    /// Records said.
    pub said: u64,
    /// Records kept: copies of the commands of others.
    pub kept: u64,
    /// Calls of a core: a record, a beat read or made, a flush, a deadline, a submission.
    pub events: u64,
    /// Decisions on the fast path.
    pub fast: u64,
    /// Decisions on the slow path.
    pub slow: u64,
}

/// What a run measured.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Samples {
    pub(super) answers: Vec<Answer>,
    /// Per region, from the answer to the cut there.
    pub(super) cuts_ns: Vec<Vec<u64>>,
    /// What it cost.
    pub costs: Costs,
    /// Reads under a lease.
    pub reads: super::LeasedReads,
}

impl Samples {
    /// The latencies in `region`, rising.
    #[must_use]
    pub fn latencies_ns(&self, region: usize) -> Vec<u64> {
        let of_region = self.answers.iter().filter(|answer| answer.region == region);
        let mut latencies: Vec<u64> = of_region.map(|answer| answer.latency_ns).collect();
        latencies.sort_unstable();
        latencies
    }

    /// Every latency as a multiple of the limit of its region, rising.
    #[must_use]
    pub fn ratios(&self, limit_ns: impl Fn(usize) -> u64) -> Vec<f64> {
        let ratio = |answer: &Answer| answer.latency_ns as f64 / limit_ns(answer.region) as f64;
        let mut ratios: Vec<f64> = self.answers.iter().map(ratio).collect();
        ratios.sort_unstable_by(f64::total_cmp);
        ratios
    }

    /// Takes the answers of another run of the same group.
    pub(super) fn extend(&mut self, other: &Self) {
        self.answers.extend(&other.answers);
    }

    /// Commands answered.
    #[must_use]
    pub fn count(&self) -> usize {
        self.answers.len()
    }
}

/// The value below which `percent` of the rising `values` lie; of none: the default.
pub(super) fn percentile<T: Copy + Default>(values: &[T], percent: usize) -> T {
    let rank = (values.len() * percent).div_ceil(100).max(1);
    values.get(rank - 1).copied().unwrap_or_default()
}

//! What happened in a run: always hashed, so that two runs can be compared, and told in lines when asked for.

use super::queue::Instant;

/// The trace of a run.
pub(crate) struct Trace {
    lanes: [u64; 2],
    lines: Option<Vec<String>>,
}

impl Trace {
    /// A trace that keeps its lines, or only their hash.
    pub(crate) fn new(keep: bool) -> Self {
        Self { lanes: [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344], lines: keep.then(Vec::new) }
    }

    /// Mixes words into the digest: cheap enough for every event.
    pub(crate) fn mark(&mut self, words: &[u64]) {
        let [a, b] = &mut self.lanes;
        for word in words {
            *a = (*a ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
            *b = b.wrapping_add(*a).wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ (*a >> 17);
        }
    }

    /// Adds a line, which is only made when lines are kept.
    pub(crate) fn say(&mut self, now: Instant, line: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:5}.{:06} {}", now / 1_000_000, now % 1_000_000, line()));
        }
    }

    /// The digest over all words.
    pub(crate) fn digest(&self) -> [u64; 2] {
        self.lanes
    }

    /// The lines, if they were kept.
    pub(crate) fn take_lines(&mut self) -> Vec<String> {
        self.lines.take().unwrap_or_default()
    }
}

//! Faults that a test asks of a disk that has none, in builds with the feature `faults` only. They hold for the whole process.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

static FLUSH_DELAY_MS: AtomicU64 = AtomicU64::new(0);
static ANSWERS_EARLY: AtomicBool = AtomicBool::new(false);

/// Between an answer that came too early and the write that it spoke of.
pub(crate) const HELD: Duration = Duration::from_millis(40);

/// From now on, every flush of a journal takes so much longer.
pub fn set_flush_delay_ms(ms: u64) {
    FLUSH_DELAY_MS.store(ms, Ordering::Relaxed);
}

/// Whether records are called durable before they are written. They are written a moment later, so a process that is killed
/// loses some of which it has said that they are on its disk.
pub fn set_answers_early(early: bool) {
    ANSWERS_EARLY.store(early, Ordering::Relaxed);
}

pub(crate) fn flush_delay() -> Duration {
    Duration::from_millis(FLUSH_DELAY_MS.load(Ordering::Relaxed))
}

pub(crate) fn answers_early() -> bool {
    ANSWERS_EARLY.load(Ordering::Relaxed)
}

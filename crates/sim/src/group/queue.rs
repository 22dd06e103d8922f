//! What is going to happen, and when. Two things never happen at once: their sequence decides.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Simulated time in ns since the beginning of the run.
pub(crate) type Instant = u64;

/// One millisecond.
pub(crate) const MS: u64 = 1_000_000;

struct Entry<E> {
    key: Reverse<(Instant, u64)>,
    event: E,
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        self.key.cmp(&other.key)
    }
}

/// Events in the order of their time.
pub(crate) struct Queue<E> {
    heap: BinaryHeap<Entry<E>>,
    sequence: u64,
    now: Instant,
}

impl<E> Queue<E> {
    pub(crate) fn new() -> Self {
        Self { heap: BinaryHeap::new(), sequence: 0, now: 0 }
    }

    /// The time of the last event.
    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    /// Something happens at `at`, or now if that has passed.
    pub(crate) fn at(&mut self, at: Instant, event: E) {
        self.sequence += 1;
        self.heap.push(Entry { key: Reverse((at.max(self.now), self.sequence)), event });
    }

    /// Something happens after `delay` ns.
    pub(crate) fn after(&mut self, delay: u64, event: E) {
        self.at(self.now + delay, event);
    }

    /// The next event; time moves to it.
    pub(crate) fn pop(&mut self) -> Option<E> {
        let Entry { key: Reverse((at, _)), event } = self.heap.pop()?;
        self.now = at;
        Some(event)
    }
}

//! Counters that the node keeps of itself; the gateway shows them.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters since the start. All rise only.
#[derive(Debug, Default)]
pub struct Metrics {
    executed: AtomicU64,
    entries: AtomicU64,
    cache_hits: AtomicU64,
    cache_misses: AtomicU64,
    placed_bytes: AtomicU64,
    collected_bodies: AtomicU64,
    installed_states: AtomicU64,
    ordered_reads: AtomicU64,
    fetched_state_bytes: AtomicU64,
    leased_reads: AtomicU64,
    quorum_reads: AtomicU64,
    forwarded_writes: AtomicU64,
    suspicions: AtomicU64,
    false_suspicions: AtomicU64,
}

/// The counters at one instant.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct MetricsSnapshot {
    /// Commands executed.
    pub executed: u64,
    /// Entries of the ledger, in all.
    pub entries: u64,
    /// Object reads answered from the cache.
    pub cache_hits: u64,
    /// Object reads that went to the state.
    pub cache_misses: u64,
    /// Bytes written to the vault.
    pub placed_bytes: u64,
    /// Bodies removed from the vault because nothing refers to them.
    pub collected_bodies: u64,
    /// States of other members that took the place of the one here.
    pub installed_states: u64,
    /// Bytes of rows and entries that came from other members for that, also ahead of it.
    pub fetched_state_bytes: u64,
    /// Listings that found no quiet instant and were ordered among the writes.
    pub ordered_reads: u64,
    /// Reads answered under a lease, without a message.
    pub leased_reads: u64,
    /// Reads for which a quorum was asked.
    pub quorum_reads: u64,
    /// Writes that the home of their zone coordinated for this node.
    pub forwarded_writes: u64,
    /// How often a peer came under suspicion.
    pub suspicions: u64,
    /// How often one was suspected for its silence alone and heard again on the same link.
    pub false_suspicions: u64,
}

impl Metrics {
    pub(crate) fn executed(&self, count: usize) {
        self.executed.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(crate) fn sealed(&self, size: u64) {
        self.entries.store(size, Ordering::Relaxed);
    }

    pub(crate) fn cache(&self, hit: bool) {
        let counter = if hit { &self.cache_hits } else { &self.cache_misses };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn placed(&self, len: usize) {
        self.placed_bytes.fetch_add(len as u64, Ordering::Relaxed);
    }

    pub(crate) fn installed(&self) {
        self.installed_states.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self, is_leased: bool) {
        let counter = if is_leased { &self.leased_reads } else { &self.quorum_reads };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn forwarded(&self) {
        self.forwarded_writes.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn suspected(&self) {
        self.suspicions.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn suspected_falsely(&self) {
        self.false_suspicions.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn ordered_read(&self) {
        self.ordered_reads.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn fetched_state(&self, len: usize) {
        self.fetched_state_bytes.fetch_add(len as u64, Ordering::Relaxed);
    }

    pub(crate) fn fetched_state_bytes(&self) -> u64 {
        self.fetched_state_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn collected(&self, count: u64) {
        self.collected_bodies.fetch_add(count, Ordering::Relaxed);
    }

    /// Reads them all.
    #[must_use]
    pub fn snapshot(&self) -> MetricsSnapshot {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        MetricsSnapshot {
            executed: read(&self.executed),
            entries: read(&self.entries),
            cache_hits: read(&self.cache_hits),
            cache_misses: read(&self.cache_misses),
            placed_bytes: read(&self.placed_bytes),
            collected_bodies: read(&self.collected_bodies),
            installed_states: read(&self.installed_states),
            ordered_reads: read(&self.ordered_reads),
            fetched_state_bytes: read(&self.fetched_state_bytes),
            leased_reads: read(&self.leased_reads),
            quorum_reads: read(&self.quorum_reads),
            forwarded_writes: read(&self.forwarded_writes),
            suspicions: read(&self.suspicions),
            false_suspicions: read(&self.false_suspicions),
        }
    }
}

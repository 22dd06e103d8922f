//! What a node tells of itself.

use serde::Serialize;
use store::state::State as _;

use crate::metrics::MetricsSnapshot;
use crate::node::Node;
use crate::peer::PeerAccount;

/// The state of a node, for people and programs. Field names are part of the API (`docs/cli.md`).
#[derive(Clone, Debug, Serialize)]
pub struct NodeStatus {
    /// Version of the program.
    pub version: &'static str,
    /// Whether reads and writes are taken.
    pub ready: bool,
    /// Why not, if not.
    pub reason: Option<String>,
    /// The cluster, in hex.
    pub cluster: String,
    /// The group.
    pub group: u32,
    /// The newest epoch that is known here.
    pub epoch: u32,
    /// Its members.
    pub members: Vec<u32>,
    /// How many of them may fail.
    pub faults: u32,
    /// This replica.
    pub replica: u32,
    /// Its incarnation: how often it was started.
    pub incarnation: u32,
    /// The region that it says it is in.
    pub region: String,
    /// When it was started, in unix milliseconds.
    pub started_ms: u64,
    /// The data folder.
    pub data: String,
    /// The log.
    pub ledger: LedgerStatus,
    /// The journal.
    pub journal: JournalStatus,
    /// Memory and disk.
    pub space: SpaceStatus,
    /// What it thinks of the other nodes.
    pub peers: Vec<PeerAccount>,
    /// Counters since the start.
    pub counters: MetricsSnapshot,
}

/// The log of the group.
#[derive(Clone, Debug, Serialize)]
pub struct LedgerStatus {
    /// Its origin.
    pub origin: String,
    /// Entries under the newest signed head.
    pub size: u64,
    /// Its root, in hex.
    pub root: String,
    /// The cut of that head, in unix milliseconds.
    pub cut_ms: u64,
}

/// The journal since the start.
#[derive(Clone, Debug, Default, Serialize)]
pub struct JournalStatus {
    /// Flushes.
    pub flushes: u64,
    /// Said records.
    pub records: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Time spent in flushes, in microseconds.
    pub flush_us: u64,
}

/// Memory and disk.
#[derive(Clone, Debug, Serialize)]
pub struct SpaceStatus {
    /// Free bytes of the data folder's file system.
    pub disk_free: u64,
    /// Free bytes below which writes are refused.
    pub disk_reserve: u64,
    /// Bytes of the stored state on disk.
    pub state_len: u64,
    /// Bytes of executed but unsealed changes in memory.
    pub overlay_len: u64,
    /// Bytes of the object cache.
    pub cache_len: u64,
}

impl Node {
    /// The node's account of itself. Costs a few system calls.
    #[must_use]
    pub fn status(&self) -> NodeStatus {
        let shared = &self.shared;
        let head = shared.head();
        let membership = shared.membership();
        let reason = self.ready().err().map(|error| error.to_string());
        let journal = shared.journal_statistics();
        NodeStatus {
            version: env!("CARGO_PKG_VERSION"),
            ready: reason.is_none(),
            reason,
            cluster: self.cluster().to_string(),
            group: shared.group.0,
            epoch: membership.epoch.0,
            members: membership.members.iter().map(|member| member.0).collect(),
            faults: membership.f,
            replica: shared.replica.0,
            incarnation: shared.incarnation.load(std::sync::atomic::Ordering::Relaxed),
            region: shared.config.region.clone(),
            started_ms: shared.started_ms,
            data: shared.config.data.display().to_string(),
            ledger: LedgerStatus {
                origin: shared.genesis.origin.clone(),
                size: head.size,
                root: head.root.iter().map(|byte| format!("{byte:02x}")).collect(),
                cut_ms: head.cut.unix_ms(),
            },
            journal: JournalStatus {
                flushes: journal.flushes,
                records: journal.records,
                bytes: journal.len,
                flush_us: u64::try_from(journal.flushing.as_micros()).unwrap_or(u64::MAX),
            },
            space: SpaceStatus {
                disk_free: shared.space.free(),
                disk_reserve: shared.space.reserve(),
                state_len: shared.state.load().disk_len().unwrap_or(0),
                overlay_len: shared.overlay.len() as u64,
                cache_len: shared.cache.len(),
            },
            peers: shared.peers.accounts(),
            counters: shared.metrics.snapshot(),
        }
    }
}

//! What a node is told when it starts.

use std::path::{Path, PathBuf};
use std::time::Duration;

use types::command::Member;
use types::{ClusterId, ReplicaId};

/// The group of a node, as it was founded. Equal at all nodes of the cluster but for `replica`; one that is none of the
/// members waits to be added.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupConfig {
    /// The cluster.
    pub cluster: ClusterId,
    /// This replica.
    pub replica: ReplicaId,
    /// The members and their public keys, in rising replica order.
    pub members: Vec<Member>,
    /// How many of them may fail: `1 <= f <= (n - 1) / 2`, and 0 when `n <= 2`.
    pub faults: u32,
}

impl GroupConfig {
    /// The other members.
    pub fn others(&self) -> impl Iterator<Item = ReplicaId> + '_ {
        self.members.iter().map(|member| member.replica).filter(|replica| *replica != self.replica)
    }
}

/// Settings of one node. [`NodeConfig::new`] gives the defaults.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The data folder; made if it does not exist.
    pub data: PathBuf,
    /// The keys folder: signing key and cluster key, outside the data folder.
    pub keys: PathBuf,
    /// Memory of the state's block cache, in bytes.
    pub state_cache_len: u64,
    /// Memory of the cache of hot objects, in bytes.
    pub object_cache_len: u64,
    /// Free bytes below which writes are refused.
    pub reserve_len: u64,
    /// How long a write may wait for its answer.
    pub write_timeout: Duration,
    /// Added to every journal flush: makes a slow disk, for benchmarks.
    pub flush_delay: Duration,
    /// Whether the ledger is kept. Off only to measure what it costs: such a folder holds no evidence.
    pub ledger: bool,
    /// Whether write answers carry a commit receipt.
    pub receipts: bool,
    /// How much journal may pile up before the state is synced and the journal trimmed, in bytes.
    pub checkpoint_len: u64,
    /// The region that this node says it is in.
    pub region: String,
    /// The group, if there is more than this node, or will be. Its keys folder must be there: all nodes share the cluster
    /// key.
    pub group: Option<GroupConfig>,
}

impl NodeConfig {
    /// Defaults for a data folder; keys lie beside it, in `<data>-keys`.
    #[must_use]
    pub fn new(data: impl Into<PathBuf>) -> Self {
        let data = data.into();
        Self {
            keys: keys_beside(&data),
            data,
            state_cache_len: 64 << 20,
            object_cache_len: 64 << 20,
            reserve_len: types::limits::RESERVE_LEN,
            write_timeout: Duration::from_secs(30),
            flush_delay: Duration::ZERO,
            ledger: true,
            receipts: true,
            checkpoint_len: 4 * types::limits::SEGMENT_LEN,
            region: "us-east-1".to_owned(),
            group: None,
        }
    }
}

/// Where the keys of a data folder lie by default: beside it, named after it.
#[must_use]
pub fn keys_beside(data: &Path) -> PathBuf {
    let mut name = data.file_name().unwrap_or("entangle-data".as_ref()).to_os_string();
    name.push("-keys");
    data.with_file_name(name)
}

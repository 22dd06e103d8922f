//! Starting a node: open, recover, prove that what was recovered is what was signed, run.

use std::collections::HashMap;
use std::fs;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock, mpsc};

use dace::{Config as CoreConfig, Core, Restore};
use ledger::policy::Policy;
use parking_lot::Mutex;
use store::disk::RealDisk;
use store::journal::{Journal, JournalOptions};
use store::log::LogFiles;
use store::state::{FjallOptions, FjallState};
use store::vault::Vault;
use tokio::sync::{Notify, Semaphore, watch};
use types::command::{Genesis, Member};
use types::limits::{BODIES_MAX, SUBMIT_QUEUE_MAX};
use types::sign::Signer as _;
use types::{ClusterId, Epoch, GroupId, ReplicaId};

use crate::clock;
use crate::config::NodeConfig;
use crate::engine::inbox::Inbox;
use crate::engine::{Event, Loop, Sealing};
use crate::error::StartError;
use crate::folder::{DataFolder, write_durably};
use crate::gate::Gate;
use crate::keys::{Keys, random};
use crate::metrics::Metrics;
use crate::node::{Node, Published, Shared};
use crate::read::cache::ObjectCache;
use crate::replica::overlay::Overlay;
use crate::replica::{Replica, Step};
use crate::space::Space;
use crate::write::seal::{Head, Sealer};

/// The one group of a single node.
pub(crate) const GROUP: GroupId = GroupId(1);
/// Its one epoch.
pub(crate) const EPOCH: Epoch = Epoch(1);
/// Its one replica.
pub(crate) const REPLICA: ReplicaId = ReplicaId(1);

/// Reads the cluster id of a data folder, or draws one for a fresh folder.
pub(crate) fn cluster_id(folder: &DataFolder, create: bool) -> Result<ClusterId, StartError> {
    let path = folder.root().join("cluster");
    let io = |source| StartError::Io { path: path.clone(), source };
    if create && !path.exists() {
        let id = ClusterId(random());
        write_durably(&path, format!("{id}\n").as_bytes()).map_err(io)?;
        return Ok(id);
    }
    let text = fs::read_to_string(&path).map_err(io)?;
    let digits = text.trim_end();
    let mut id = [0; 16];
    if digits.len() != 32 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(StartError::Key {
            path,
            reason: "does not hold a cluster id of 32 hex digits; restore it from a backup".to_owned(),
        });
    }
    for (byte, at) in id.iter_mut().zip((0..32).step_by(2)) {
        *byte = u8::from_str_radix(&digits[at..at + 2], 16).expect("checked to be hex digits");
    }
    Ok(ClusterId(id))
}

/// The first configuration of a lone node.
pub(crate) fn genesis(cluster: ClusterId, key: [u8; 32]) -> Genesis {
    Genesis {
        cluster,
        origin: format!("{cluster}.entangle/group/{GROUP}"),
        members: vec![Member { replica: REPLICA, name: format!("{cluster}.entangle/replica/{REPLICA}"), key }],
        quorum: 1,
    }
}

//! Starting a node: open its folder, recover (`recover.rs`), run.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize};
use std::sync::{Arc, OnceLock, mpsc};

use arc_swap::ArcSwap;
use dace::Membership;
use ledger::policy::Policy;
use parking_lot::{Mutex, RwLock};
use store::disk::{Disk, RealDisk};
use store::journal::{Journal, JournalOptions, Kept, KeptKind};
use store::state::FjallState;
use store::vault::Vault;
use tokio::sync::{Notify, Semaphore, watch};
use types::command::{Genesis, Member};
use types::limits::{BODIES_MAX, CHUNKS_AHEAD_MAX, FORWARDS_MAX, SUBMIT_QUEUE_MAX};
use types::sign::Signer as _;
use types::{ClusterId, Epoch, GroupId, ReplicaId};

use crate::clock;
use crate::config::{GroupConfig, NodeConfig};
use crate::engine::inbox::Inbox;
use crate::engine::journals::{Journals, Opener};
use crate::engine::{Loop, Neighbours, Sealing, Waiting};
use crate::epochs::{EpochFolders, FIRST};
use crate::error::StartError;
use crate::folder::{DataFolder, write_durably};
use crate::keys::{Keys, random};
use crate::metrics::Metrics;
use crate::node::{Node, PanicWatch, Published, Shared, Writers};
use crate::peer::Peers;
use crate::peer::intake::Intake;
use crate::peer::learner::Learner;
use crate::peer::snapshot::Snapshots;
use crate::read::buckets::BucketCache;
use crate::read::cache::ObjectCache;
use crate::recover::{Places, Recovered, agree, recover};
use crate::replica::Replica;
use crate::replica::overlay::Layered;
use crate::space::Space;
use crate::write::seal::{Head, Sealer};

/// The one group of a single node.
pub(crate) const GROUP: GroupId = GroupId(1);
/// Its one epoch.
pub(crate) const EPOCH: Epoch = Epoch(1);
/// Its one replica.
pub(crate) const REPLICA: ReplicaId = ReplicaId(1);

/// Reads the cluster id of a data folder, or draws one for a fresh folder; `given`: what it must be.
pub(crate) fn cluster_id(folder: &DataFolder, create: bool, given: Option<ClusterId>) -> Result<ClusterId, StartError> {
    let path = folder.root().join("cluster");
    let io = |source| StartError::Io { path: path.clone(), source };
    if create && !path.exists() {
        let id = given.unwrap_or_else(|| ClusterId(random()));
        write_durably(&path, format!("{id}\n").as_bytes()).map_err(io)?;
        return Ok(id);
    }
    let wrong = |reason: &str| StartError::Key { path: path.clone(), reason: reason.to_owned() };
    let bytes = match fs::read(&path) {
        Err(missing) if missing.kind() == ErrorKind::NotFound => {
            return Err(wrong("it is missing; put it back from a backup of this folder"));
        }
        read => read.map_err(io)?,
    };
    let digits = bytes.trim_ascii_end();
    let mut id = [0; 16];
    if digits.len() != 32 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(wrong("it does not hold a cluster id of 32 hex digits; put it back from a backup of this folder"));
    }
    for (byte, at) in id.iter_mut().zip((0..32).step_by(2)) {
        let pair = core::str::from_utf8(&digits[at..at + 2]).expect("checked to be hex digits");
        *byte = u8::from_str_radix(pair, 16).expect("checked to be hex digits");
    }
    match given {
        Some(given) if given.0 != id => Err(wrong(&format!(
            "the folder is of another cluster than {given}, which this node is told to be a member of; give it the \
             folder of that cluster, or a new one"
        ))),
        _ => Ok(ClusterId(id)),
    }
}

/// What a replica is called in signed notes.
#[must_use]
pub fn name_of(cluster: ClusterId, replica: ReplicaId) -> String {
    Member::name_of(cluster, replica)
}

/// The group of a lone node.
pub(crate) fn alone(cluster: ClusterId, key: [u8; 32]) -> GroupConfig {
    let member = Member { replica: REPLICA, name: name_of(cluster, REPLICA), key };
    GroupConfig { cluster, replica: REPLICA, members: vec![member], faults: 0 }
}

/// The first configuration of a group.
pub(crate) fn genesis(group: &GroupConfig) -> Genesis {
    let cluster = group.cluster;
    Genesis {
        cluster,
        origin: format!("{cluster}.entangle/group/{GROUP}"),
        members: group.members.clone(),
        // One signature tells who vouches; how many a verifier asks for is the verifier's policy.
        quorum: 1,
    }
}

/// The version of the logic in a first epoch. That epoch stands in no file, so every build must say the same of it; the next
/// epoch raises it.
const FIRST_LOGIC: u32 = 1;

/// The first epoch of a group.
pub(crate) fn first(group: &GroupConfig) -> Membership {
    let members = group.members.iter().map(|member| member.replica).collect();
    Membership { epoch: FIRST, members, f: group.faults, logic: FIRST_LOGIC, entry: None }
}

pub(crate) fn start(config: NodeConfig) -> Result<Node, StartError> {
    let (folder, _) = DataFolder::open(&config.data, true)?;
    let folders = EpochFolders::new(folder.root());
    folders.tidy()?;
    let (later, over) = (folders.list()?, folders.over()?);
    let has_first = folders.has_first()?;
    let unused = !has_first && later.is_empty() && over == Epoch(0);
    // The cluster key of a larger group is shared, so it is not made here.
    let keys = Keys::open(&config.keys, unused && config.group.is_none())?;
    let cluster = cluster_id(&folder, unused, config.group.as_ref().map(|group| group.cluster))?;
    let vault = open_vault(&folder, unused, config.reserve_len)?;
    folder.state_folder().remove_others().map_err(|source| StartError::Io { path: config.data.clone(), source })?;
    let journal = has_first || over < FIRST;
    let open = |membership: Membership| {
        let disk = open_disk(folders.journal(membership.epoch))?;
        Ok((membership, disk))
    };
    let places = Places {
        journal: if journal { Some(open_disk(folder.journal())?) } else { None },
        later: later.into_iter().map(open).collect::<Result<_, StartError>>()?,
        over,
        folders: Some(folders.clone()),
        ledger: open_disk(folder.ledger())?,
        state: folder.state(),
    };
    let group = config.group.clone().unwrap_or_else(|| alone(cluster, keys.node.public_key()));
    let recovered = recover(places, config.state_cache_len, config.ledger, &keys, group)?;
    opens_secrets(&recovered, &keys, &config.keys)?;
    run(config, folder, keys, vault, recovered)
}

/// Bodies once acknowledged are not replaced by an empty vault, which a disk that is not mounted would be taken for.
fn open_vault(folder: &DataFolder, create: bool, reserve_len: u64) -> Result<Vault, StartError> {
    let refused = |error: store::vault::VaultError| {
        StartError::Vault(format!(
            "{error}; it holds the bodies of large objects: mount or put back the folder that was there, or restore a \
             backup into a new data folder"
        ))
    };
    if !create {
        Vault::existing(folder.vault()).map_err(refused)?;
    }
    let vault = Vault::local(folder.vault()).map_err(|error| StartError::Vault(error.to_string()))?;
    Ok(vault.with_reserve(reserve_len))
}

/// With another cluster key nobody could sign in any more.
fn opens_secrets(recovered: &Recovered, keys: &Keys, folder: &Path) -> Result<(), StartError> {
    let rows =
        catalog::query::access_keys(&recovered.layered()).map_err(|error| StartError::State(error.to_string()))?;
    if rows.is_empty() || rows.iter().any(|(access_key, row)| keys.cluster.open(access_key, &row.sealed).is_ok()) {
        return Ok(());
    }
    Err(StartError::Key {
        path: folder.to_owned(),
        reason: "the cluster key in it opens none of the stored access keys; put the keys folder back that this data \
                 folder was made with"
            .to_owned(),
    })
}

fn open_disk(path: PathBuf) -> Result<Arc<dyn Disk>, StartError> {
    RealDisk::open(&path).map(|disk| Arc::new(disk) as Arc<dyn Disk>).map_err(|source| StartError::Io { path, source })
}

/// Starts the threads.
fn run(
    config: NodeConfig,
    folder: DataFolder,
    keys: Keys,
    vault: Vault,
    recovered: Recovered,
) -> Result<Node, StartError> {
    let (signed, has_started) = (recovered.kept_head(), recovered.has_started);
    let Recovered { journals, replica, sealer, state, log, overlay, leased, group, genesis, membership, .. } =
        recovered;
    let founded = catalog::query::genesis(&Layered { overlay: &overlay, state: state.as_ref() })
        .map_err(|error| StartError::State(error.to_string()))?
        .is_some();
    Policy::of_group(&genesis.origin, &genesis.members, genesis.quorum)
        .map_err(|error| StartError::Ledger(error.to_string()))?;
    let inbox = Inbox::new(SUBMIT_QUEUE_MAX);
    let peers = Peers::new(inbox.clone());
    let (published, _) = watch::channel(Published::default());
    let shared = Arc::new(Shared {
        keys,
        genesis,
        group: GROUP,
        replica: group.replica,
        first: first(&group),
        is_alone: AtomicBool::new(has_started && membership.members == [group.replica]),
        membership: watch::Sender::new(Arc::new(membership)),
        reachable: AtomicUsize::new(1),
        suspects: ArcSwap::default(),
        opened: AtomicBool::new(false),
        founded: AtomicBool::new(founded),
        incarnation: AtomicU32::new(replica.status().map_or(0, |status| status.incarnation.0)),
        peers,
        inbox,
        writers: Mutex::new(Writers::default()),
        overlay,
        state: ArcSwap::new(state),
        state_folder: Mutex::new(folder.state_folder().clone()),
        exchange: RwLock::new(()),
        snapshots: Snapshots::default(),
        intake: Intake::default(),
        learner: Learner::default(),
        log,
        vault,
        cache: ObjectCache::new(config.object_cache_len),
        buckets: BucketCache::default(),
        leased,
        space: Space::new(config.data.clone(), config.reserve_len),
        bodies: Arc::new(Semaphore::new(BODIES_MAX)),
        chunks_ahead: Arc::new(Semaphore::new(CHUNKS_AHEAD_MAX)),
        forwards: Semaphore::new(FORWARDS_MAX),
        metrics: Metrics::default(),
        published,
        failure: OnceLock::new(),
        failed: Notify::new(),
        stopping: AtomicBool::new(false),
        started_ms: clock::now().wall_ns / 1_000_000,
        threads: Mutex::new(Vec::new()),
        folder: Mutex::new(Some(folder)),
        config,
    });
    shared.peers.serve(Arc::downgrade(&shared));
    spawn(&shared, journals, replica, sealer, (signed, has_started))?;
    crate::housekeeping::spawn(&shared);
    Ok(Node { shared })
}

fn spawn(
    shared: &Arc<Shared>,
    mut recovered: BTreeMap<Epoch, (Membership, Journal)>,
    replica: Replica<FjallState>,
    sealer: Sealer<FjallState>,
    (signed, has_started): (Option<Head>, bool),
) -> Result<(), StartError> {
    let failed = |source| StartError::Io { path: shared.config.data.clone(), source };
    let inbox = shared.inbox.clone();
    let opener = Opener {
        folders: EpochFolders::new(&shared.config.data),
        options: JournalOptions::new(shared.genesis.cluster, shared.replica),
        shared: Arc::downgrade(shared),
    };
    // A node that takes requests shows the ledger that it has.
    let head = sealer.head();
    agree(signed, head)?;
    let may_sign = head.size > 0 && signed.is_none_or(|signed| head.size >= signed.size);
    if may_sign
        && signed != Some(head)
        && let Some((_, newest)) = recovered.values_mut().next_back()
    {
        let bytes = bytes::Bytes::copy_from_slice(&head.to_bytes());
        let kept = Kept { group: GROUP, kind: KeptKind::TREE_HEAD, bytes };
        newest.append(&[], &[kept]).map_err(|error| StartError::Journal(error.to_string()))?;
    }
    if may_sign {
        shared.publish(head);
    }
    let mut journals = Journals { opener, by_epoch: BTreeMap::new() };
    for (epoch, (membership, journal)) in recovered {
        journals.by_epoch.insert(epoch, journals.opener.start(membership, journal)?);
    }
    let neighbours = Neighbours::new(tokio::runtime::Handle::current(), has_started);
    let (sealing, messages) = mpsc::channel();
    let signed = if may_sign { Some(head) } else { signed };
    let seals =
        Sealing { sealer, shared: shared.clone(), inbox: inbox.clone(), messages, keeping: VecDeque::new(), signed };
    let loops = Loop {
        replica,
        shared: shared.clone(),
        inbox,
        journals,
        sealing,
        neighbours,
        found_due_ns: 0,
        started_ns: 0,
        proposed_founding: false,
        waiting: Waiting::default(),
        reads: HashMap::new(),
        again: Vec::new(),
        barriers: HashMap::new(),
        voided: Vec::new(),
        held: Vec::new(),
        heads: Vec::new(),
        heads_due_ns: None,
        heads_under_way: (Epoch(0), 0),
        fetching: false,
        wanted: None,
        fetch_due_ns: 0,
        begins_at: None,
        zones_changed: true,
    };
    let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
    let mut threads = shared.threads.lock();
    let (loop_watch, sealer_watch) = (PanicWatch(shared.clone()), PanicWatch(shared.clone()));
    let run_loop = move || {
        let _watch = loop_watch;
        loops.run();
    };
    let run_sealer = move || {
        let _watch = sealer_watch;
        seals.run();
    };
    threads.push(thread("loop").spawn(run_loop).map_err(failed)?);
    threads.push(thread("sealer").spawn(run_sealer).map_err(failed)?);
    Ok(())
}

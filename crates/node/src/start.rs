//! Starting a node: open, recover, prove that what was recovered is what was signed, run.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize};
use std::sync::{Arc, OnceLock, mpsc};

use arc_swap::ArcSwap;
use dace::{EpochJournal, Membership, Remains, Stored};
use ledger::Entry;
use ledger::policy::Policy;
use parking_lot::{Mutex, RwLock};
use store::disk::{Disk, RealDisk};
use store::journal::{Journal, JournalOptions, KeptKind, Replayed};
use store::log::LogFiles;
use store::state::{FjallOptions, FjallState};
use store::vault::Vault;
use tokio::sync::{Notify, Semaphore, watch};
use types::command::{Genesis, Member};
use types::journal::RecordHeader;
use types::limits::{BODIES_MAX, CHUNKS_AHEAD_MAX, SUBMIT_QUEUE_MAX};
use types::sign::Signer as _;
use types::{ClusterId, CommandId, Epoch, GroupId, ReplicaId};

use crate::clock;
use crate::config::{GroupConfig, NodeConfig};
use crate::engine::inbox::Inbox;
use crate::engine::install::stored_membership;
use crate::engine::journals::{self, Journals, Opener};
use crate::engine::{Loop, Neighbours, Sealing, Waiting};
use crate::epochs::{EpochFolders, FIRST};
use crate::error::StartError;
use crate::folder::{DataFolder, write_durably};
use crate::keys::{Keys, random};
use crate::metrics::Metrics;
use crate::node::{Node, PanicWatch, Published, Shared, Writers};
use crate::peer::Peers;
use crate::peer::feed::from_stored;
use crate::peer::snapshot::Snapshots;
use crate::read::buckets::BucketCache;
use crate::read::cache::ObjectCache;
use crate::replica::overlay::{Layered, Overlay};
use crate::replica::{Replica, Step};
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
    format!("{cluster}.entangle/replica/{replica}")
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

/// The first epoch of a group.
fn first(group: &GroupConfig) -> Membership {
    let members = group.members.iter().map(|member| member.replica).collect();
    Membership { epoch: FIRST, members, f: group.faults, logic: catalog::LOGIC_VERSION, entry: None }
}

/// Where recovery reads and writes: the data folder, or a shadow of it.
pub(crate) struct Places {
    /// The journal of the first epoch; `None` once that is over.
    pub(crate) journal: Option<Arc<dyn Disk>>,
    /// The journals of later epochs, rising.
    pub(crate) later: Vec<(Membership, Arc<dyn Disk>)>,
    /// This epoch, and those before it, are over.
    pub(crate) over: Epoch,
    /// Where epochs that begin now are made; `None`: nowhere.
    pub(crate) folders: Option<EpochFolders>,
    pub(crate) ledger: Arc<dyn Disk>,
    pub(crate) state: PathBuf,
}

impl Places {
    /// Of a group of one that has never had other members.
    pub(crate) fn of_first(journal: Arc<dyn Disk>, ledger: Arc<dyn Disk>, state: PathBuf) -> Self {
        Self { journal: Some(journal), later: Vec::new(), over: Epoch(0), folders: None, ledger, state }
    }
}

/// What recovery gives: everything that the threads will own.
pub(crate) struct Recovered {
    /// By epoch.
    pub(crate) journals: BTreeMap<Epoch, (Membership, Journal)>,
    pub(crate) replica: Replica<FjallState>,
    pub(crate) sealer: Sealer<FjallState>,
    pub(crate) state: Arc<FjallState>,
    pub(crate) log: Arc<LogFiles>,
    pub(crate) overlay: Arc<Overlay>,
    folders: Option<EpochFolders>,
    options: JournalOptions,
    signer: Arc<dyn types::sign::Signer>,
    group: GroupConfig,
    genesis: Genesis,
    /// The newest epoch that is known.
    membership: Membership,
    /// Whether this replica is its only member, and needs nobody to start.
    is_alone: bool,
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

/// Brings journals, state and log to where they stood, and opens an incarnation, if this replica needs nobody for that:
/// then everything durable was executed and sealed when it returns.
pub(crate) fn recover(
    places: Places,
    cache_len: u64,
    ledger: bool,
    keys: &Keys,
    group: GroupConfig,
) -> Result<Recovered, StartError> {
    let is_founder = is_founder(&group, keys)?;
    let Places { journal, later, over, folders, ledger: ledger_disk, state } = places;
    let options = JournalOptions::new(group.cluster, group.replica);
    let first = first(&group);
    let mut journals = BTreeMap::new();
    let firsts = journal.filter(|_| is_founder).map(|disk| (first.clone(), disk));
    for (membership, disk) in firsts.into_iter().chain(later) {
        let (journal, report) =
            Journal::open(disk, options, keys.node.clone()).map_err(|error| StartError::Journal(error.to_string()))?;
        if let Some(torn) = &report.torn {
            tracing::info!(file = %torn.file, offset = torn.offset, "removed a flush that a crash cut short; it was never acknowledged");
        }
        journals.insert(membership.epoch, (membership, journal));
    }
    let fjall = FjallOptions { cache_len, ..FjallOptions::default() };
    let state = Arc::new(FjallState::open(&state, fjall).map_err(|error| StartError::State(error.to_string()))?);
    let log = LogFiles::open(ledger_disk).map_err(|error| StartError::Ledger(error.to_string()))?;
    let log = Arc::new(log);
    let overlay = Arc::new(Overlay::default());
    let sealer = Sealer::resume(GROUP, state.clone(), log.clone(), overlay.clone(), ledger)
        .map_err(|error| StartError::Ledger(error.to_string()))?;
    let cut = sealer.cut();
    let stored = stored_membership(state.as_ref()).map_err(StartError::State)?;
    let stored = stored.or_else(|| (is_founder || cut > types::Timestamp::ZERO).then(|| first.clone()));
    let named = |(membership, journal): &(Membership, Journal)| EpochJournal {
        membership: membership.clone(),
        base: journal.base(GROUP).map(|base| base.bytes.to_vec()),
    };
    let remains = Remains {
        stored: stored.map(|membership| Stored { cut, membership }),
        journals: journals.values().map(named).collect(),
        over,
    };
    let consensus = dace::Replica::new(GROUP, group.replica, remains, Arc::new(|_| {}))
        .map_err(|error| StartError::Core(error.to_string()))?;
    let membership = consensus.newest().cloned().unwrap_or(first);
    let is_alone = membership.members == [group.replica];
    let replica = Replica::new(consensus, (state.clone(), cut), overlay.clone());
    let (genesis, signer) = (genesis(&group), keys.node.clone());
    let mut recovered = Recovered {
        journals,
        replica,
        sealer,
        state,
        log,
        overlay,
        folders,
        options,
        signer,
        group,
        genesis,
        membership,
        is_alone,
    };
    if !is_alone {
        // The rest needs the others.
        recovered.replay()?;
        recovered.is_founded()?;
        return Ok(recovered);
    }
    let sealed = recovered.last_sealed()?;
    recovered.replay()?;
    recovered.knows(sealed)?;
    recovered.open_incarnation()?;
    recovered.found()?;
    recovered.is_whole()?;
    Ok(recovered)
}

/// Whether this replica is a member of the first epoch; the group must name its key then.
fn is_founder(group: &GroupConfig, keys: &Keys) -> Result<bool, StartError> {
    let own = group.members.iter().find(|member| member.replica == group.replica);
    match own {
        Some(own) if own.key == keys.node.public_key() => Ok(true),
        Some(_) => Err(StartError::Core(format!(
            "the group names another key for replica {}; start it with the keys folder that was made for it",
            group.replica
        ))),
        None => Ok(false),
    }
}

fn open_disk(path: PathBuf) -> Result<Arc<dyn Disk>, StartError> {
    RealDisk::open(&path).map(|disk| Arc::new(disk) as Arc<dyn Disk>).map_err(|source| StartError::Io { path, source })
}

impl Recovered {
    /// The rows as a request would see them.
    fn layered(&self) -> Layered<'_, FjallState> {
        Layered { overlay: &self.overlay, state: self.state.as_ref() }
    }

    /// The newest command of which the stored state has entries.
    fn last_sealed(&self) -> Result<Option<CommandId>, StartError> {
        for index in (0..self.sealer.head().size).rev() {
            let refused = |error: &dyn core::fmt::Display| StartError::Ledger(format!("entry {index}: {error}"));
            let bytes = self.log.entries(index..index + 1).map_err(|error| refused(&error))?;
            for bytes in bytes.as_chunks::<{ Entry::LEN }>().0 {
                let entry = Entry::from_bytes(bytes).map_err(|error| refused(&error))?;
                if !entry.is_block() {
                    return Ok(Some(entry.order.id));
                }
            }
        }
        Ok(None)
    }

    /// What was executed was in the journal before: without it, its end was lost, and the places of what it said
    /// would be given to something else, in the name of the same key.
    fn knows(&self, sealed: Option<CommandId>) -> Result<(), StartError> {
        let Some(status) = self.replica.status() else { return Ok(()) };
        match sealed.filter(|id| id.replica == self.group.replica) {
            Some(id) if (id.incarnation, id.counter) > (status.incarnation, status.counter) => {
                Err(StartError::Journal(format!(
                    "it ends before command {id}, which was executed and acknowledged: its end was lost or cut off; \
                     keep the folder for examination and restore a backup into a new one"
                )))
            }
            _ => Ok(()),
        }
    }

    /// Executes again what the journal holds above the stored state, sealing on the way.
    fn replay(&mut self) -> Result<(), StartError> {
        let journal = |error: &dyn core::fmt::Display| StartError::Journal(error.to_string());
        let readers: Vec<_> = self.journals.iter().map(|(epoch, (_, journal))| (*epoch, journal.reader())).collect();
        for (epoch, reader) in readers {
            for replayed in reader.replay(GROUP) {
                let restored = match replayed.map_err(|error| journal(&error))? {
                    Replayed::Said(record) => self.replica.restore_record(epoch, from_stored(record)),
                    Replayed::Kept(kept) if kept.kind == KeptKind::COMMAND => {
                        let kept =
                            kept_command(&kept.bytes).ok_or_else(|| journal(&"a kept command does not decode"))?;
                        self.replica.consensus().restore_kept(epoch, &kept)
                    }
                    Replayed::Kept(_) => continue,
                };
                restored.map_err(|error| StartError::Core(error.to_string()))?;
                self.drain()?;
            }
        }
        Ok(())
    }

    /// Opens the new incarnation and makes that durable, together with the head that may be signed next.
    fn open_incarnation(&mut self) -> Result<(), StartError> {
        self.replica.handle_start(clock::now()).map_err(|error| StartError::Core(error.to_string()))?;
        self.drain()
    }

    /// On the first start: the genesis. On others: it must be that of these keys.
    fn found(&mut self) -> Result<(), StartError> {
        if self.is_founded()? {
            return Ok(());
        }
        let (command, submission) = founding(&self.genesis).map_err(|error| StartError::Core(error.to_string()))?;
        self.replica
            .handle_submit(clock::now(), command, submission)
            .map_err(|error| StartError::Core(error.to_string()))?;
        self.drain()
    }

    /// Whether the genesis is there; if so, it must be that of this group.
    fn is_founded(&self) -> Result<bool, StartError> {
        let found = catalog::query::genesis(&self.layered()).map_err(|error| StartError::State(error.to_string()))?;
        match found {
            Some(found) if found.genesis != self.genesis => Err(StartError::Ledger(
                "it begins with other members or keys; put the keys folder back that this data folder was made with"
                    .to_owned(),
            )),
            found => Ok(found.is_some()),
        }
    }

    /// Nothing that was signed or durable may be missing: a shorter log is an older copy.
    fn is_whole(&self) -> Result<(), StartError> {
        let head = self.sealer.head();
        let durable = self.log.durable_len();
        if durable > head.size {
            return Err(StartError::Ledger(format!(
                "its files hold {durable} entries, and journal and state give {}: these are older copies than the \
                 ledger; put back those that were there, or restore a backup into a new folder",
                head.size
            )));
        }
        match self.kept_head() {
            Some(kept) if kept.size > head.size => Err(StartError::Ledger(format!(
                "it holds {} entries, and this node has signed {}: this is an older copy, or files of it are gone; \
                 restore a backup into a new folder",
                head.size, kept.size
            ))),
            _ => Ok(()),
        }
    }

    /// The head that was made durable last, before it was signed.
    pub(crate) fn kept_head(&self) -> Option<Head> {
        kept_head(self.journals.values().map(|(_, journal)| journal))
    }

    /// Does what the replica wants done, here and now, until it wants nothing.
    fn drain(&mut self) -> Result<(), StartError> {
        loop {
            let mut said: Option<(Epoch, Vec<store::journal::Record>)> = None;
            while let Some(step) = self.replica.poll_step().map_err(|error| StartError::Core(error.to_string()))? {
                match step {
                    Step::Append(epoch, record) => {
                        if said.as_ref().is_some_and(|(of, _)| *of != epoch) {
                            self.append(said.take())?;
                        }
                        let record =
                            store::journal::Record { header: record.header, salt: record.salt, body: record.body };
                        said.get_or_insert_with(|| (epoch, Vec::new())).1.push(record);
                    }
                    // Before the start, a member of a larger group says and asks nothing; alone, nobody is there to hear it.
                    Step::Executed(..)
                    | Step::Keep(..)
                    | Step::Send(..)
                    | Step::ReadReady(..)
                    | Step::ReadContended(..)
                    | Step::ReadAgain(..)
                    | Step::WantSnapshot(_)
                    | Step::Covered(_)
                    | Step::Void(..)
                    | Step::Removed => {}
                    Step::Changed(membership) => self.note(membership),
                    Step::Begin(membership) => self.begin(membership)?,
                    Step::Over(epoch) => self.folders.iter().try_for_each(|folders| folders.set_over(epoch))?,
                    Step::Closed(epoch) => {
                        self.append(said.take())?;
                        if let Some(folders) = self.folders.as_ref().filter(|_| self.journals.remove(&epoch).is_some())
                        {
                            folders.end(epoch)?;
                        }
                    }
                    Step::Block(block) => {
                        let head = self.sealer.seal(&block).map_err(|error| StartError::Ledger(error.to_string()))?;
                        agree(self.kept_head(), head)?;
                    }
                }
            }
            if !self.append(said)? {
                return Ok(());
            }
        }
    }

    fn note(&mut self, membership: Membership) {
        if membership.epoch > self.membership.epoch {
            self.membership = membership;
        }
    }

    /// An epoch begins here that has no journal yet.
    fn begin(&mut self, membership: Membership) -> Result<(), StartError> {
        let epoch = membership.epoch;
        let Some(folders) = self.folders.as_ref().filter(|_| !self.journals.contains_key(&epoch)) else {
            return Ok(());
        };
        folders.begin(&membership)?;
        let journal = journals::open(folders, epoch, self.options, self.signer.clone())?;
        self.journals.insert(epoch, (membership.clone(), journal));
        self.note(membership);
        Ok(())
    }

    /// Makes records durable. False when there are none.
    fn append(&mut self, said: Option<(Epoch, Vec<store::journal::Record>)>) -> Result<bool, StartError> {
        let Some((epoch, said)) = said else { return Ok(false) };
        let position = said.last().expect("at least one record was said").header.position;
        let incarnation = self.replica.core_of(epoch).map(|core| core.status().incarnation).unwrap_or_default();
        let batch = store::journal::Batch { group: GROUP, incarnation, records: &said };
        let Some((_, journal)) = self.journals.get_mut(&epoch) else { return Ok(false) };
        journal.append(&[batch], &[]).map_err(|error| StartError::Journal(error.to_string()))?;
        self.replica.handle_durable(clock::now(), epoch, position);
        Ok(true)
    }
}

/// The command that founds a group.
pub(crate) fn founding(genesis: &Genesis) -> Result<(types::Command, dace::Submission), crate::error::WriteError> {
    let op = types::Op::Genesis(genesis.clone());
    let command = types::Command { salt: random(), principal: String::new(), request: None, op };
    let submission = crate::write::accept::submission(&command)?;
    Ok((command, submission))
}

/// The inverse of what the loop keeps of a peer's command (`docs/formats/journal.md`).
fn kept_command(bytes: &bytes::Bytes) -> Option<dace::Kept> {
    let (header, rest) = bytes.split_first_chunk::<{ RecordHeader::LEN }>()?;
    let (salt, _) = rest.split_first_chunk::<32>()?;
    let header = RecordHeader::from_bytes(header).ok()?;
    Some(dace::Kept { header, salt: *salt, body: bytes.slice(RecordHeader::LEN + 32..) })
}

/// The head that was made durable last, before it was signed, in whichever journal.
pub(crate) fn kept_head<'a>(journals: impl Iterator<Item = &'a Journal>) -> Option<Head> {
    let heads = journals.filter_map(|journal| Head::from_bytes(&journal.kept(GROUP, KeptKind::TREE_HEAD)?));
    heads.max_by_key(|head| head.size)
}

/// A head that was made durable before must come out the same again.
fn agree(kept: Option<Head>, head: Head) -> Result<(), StartError> {
    match kept {
        Some(kept) if kept.contradicts(&head) => Err(StartError::Ledger(format!(
            "at size {} it does not have the root that this node signed before; keep the folder for examination and \
             restore a backup into a new one",
            head.size
        ))),
        _ => Ok(()),
    }
}

/// Starts the threads.
fn run(
    config: NodeConfig,
    folder: DataFolder,
    keys: Keys,
    vault: Vault,
    recovered: Recovered,
) -> Result<Node, StartError> {
    let signed = recovered.kept_head();
    let Recovered { journals, replica, sealer, state, log, overlay, group, genesis, membership, is_alone, .. } =
        recovered;
    let founded = catalog::query::genesis(&Layered { overlay: &overlay, state: state.as_ref() })
        .map_err(|error| StartError::State(error.to_string()))?
        .is_some();
    Policy::of_group(&genesis.origin, &keys.node.public_key(), &genesis.members, genesis.quorum)
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
        membership: watch::Sender::new(Arc::new(membership)),
        is_alone: AtomicBool::new(is_alone),
        reachable: AtomicUsize::new(1),
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
        log,
        vault,
        cache: ObjectCache::new(config.object_cache_len),
        buckets: BucketCache::default(),
        space: Space::new(config.data.clone(), config.reserve_len),
        bodies: Arc::new(Semaphore::new(BODIES_MAX)),
        chunks_ahead: Arc::new(Semaphore::new(CHUNKS_AHEAD_MAX)),
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
    spawn(&shared, journals, replica, sealer, signed)?;
    crate::housekeeping::spawn(&shared);
    Ok(Node { shared })
}

fn spawn(
    shared: &Arc<Shared>,
    recovered: BTreeMap<Epoch, (Membership, Journal)>,
    replica: Replica<FjallState>,
    sealer: Sealer<FjallState>,
    signed: Option<Head>,
) -> Result<(), StartError> {
    let failed = |source| StartError::Io { path: shared.config.data.clone(), source };
    let inbox = shared.inbox.clone();
    let opener = Opener {
        folders: EpochFolders::new(&shared.config.data),
        options: JournalOptions::new(shared.genesis.cluster, shared.replica),
        shared: Arc::downgrade(shared),
    };
    let mut journals = Journals { opener, by_epoch: BTreeMap::new() };
    for (epoch, (membership, journal)) in recovered {
        journals.by_epoch.insert(epoch, journals.opener.start(membership, journal)?);
    }
    let is_alone = shared.is_alone.load(std::sync::atomic::Ordering::Relaxed);
    let neighbours = Neighbours::new(tokio::runtime::Handle::current(), is_alone);
    let (sealing, messages) = mpsc::channel();
    let head = sealer.head();
    let mut seals =
        Sealing { sealer, shared: shared.clone(), inbox: inbox.clone(), messages, keeping: VecDeque::new(), signed };
    if head.size > 0 && signed == Some(head) {
        // Its kept record is durable.
        shared.publish(head);
    } else if head.size > 0 && signed.is_none_or(|signed| head.size >= signed.size) {
        seals.keep(head);
    }
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
        voided: Vec::new(),
        held: Vec::new(),
        heads: Vec::new(),
        heads_due_ns: None,
        heads_under_way: (Epoch(0), 0),
        fetching: false,
        wanted: None,
        fetch_due_ns: 0,
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

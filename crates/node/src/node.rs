//! The handle of a running node, and what its threads and its callers share.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use catalog::query;
use catalog::rows::{BucketRow, UploadRow};
use ledger::policy::Policy;
use parking_lot::Mutex;
use store::journal::{Statistics, Writer};
use store::log::LogFiles;
use store::state::{FjallState, State as _};
use store::vault::Vault;
use tokio::sync::{Notify, Semaphore, watch};
use types::command::{DeleteAccessKey, Genesis, PutAccessKey, VersionSelector};
use types::state::ReadError;
use types::{ClusterId, Epoch, GroupId, Op, OrderKey, Outcome, ReplicaId, SlotSet};

use crate::config::NodeConfig;
use crate::engine::inbox::Inbox;
use crate::engine::{Event, Submitted};
use crate::error::{StartError, WriteError};
use crate::folder::DataFolder;
use crate::keys::{Keys, Secret};
use crate::metrics::Metrics;
use crate::peer::Peers;
use crate::read::buckets::BucketCache;
use crate::read::cache::{CachedObject, ObjectCache};
use crate::read::{BodyStream, ReadView};
use crate::replica::overlay::{Overlay, View};
use crate::space::Space;
use crate::write::accept::{Wait, WriteRequest};
use crate::write::ack::Written;
use crate::write::place::BodyWriter;
use crate::write::seal::Head;

/// A running node. Cheap to clone; the node lives until [`Node::shutdown`] or the end of the process.
#[derive(Clone)]
pub struct Node {
    pub(crate) shared: Arc<Shared>,
}

/// What the threads of a node and its callers share.
pub(crate) struct Shared {
    pub(crate) config: NodeConfig,
    pub(crate) keys: Keys,
    pub(crate) genesis: Genesis,
    pub(crate) policy: Policy,
    pub(crate) group: GroupId,
    pub(crate) epoch: Epoch,
    pub(crate) replica: ReplicaId,
    /// Members of the group.
    pub(crate) members: usize,
    /// How many of them must be reached: `n - f`.
    pub(crate) quorum: usize,
    /// How many of them are, as the loop sees it.
    pub(crate) reachable: AtomicUsize,
    /// Whether the core has opened its incarnation; of no matter in a group of one.
    pub(crate) opened: AtomicBool,
    /// Whether the genesis is executed here.
    pub(crate) founded: AtomicBool,
    pub(crate) incarnation: AtomicU32,
    pub(crate) peers: Peers,
    pub(crate) inbox: Arc<Inbox<Submitted, Event>>,
    /// The journal's writer lives as long as the loop and the sealer.
    pub(crate) journal: OnceLock<Weak<Writer>>,
    pub(crate) overlay: Arc<Overlay>,
    pub(crate) state: Arc<FjallState>,
    pub(crate) log: Arc<LogFiles>,
    pub(crate) vault: Vault,
    pub(crate) cache: ObjectCache,
    pub(crate) buckets: BucketCache,
    pub(crate) space: Space,
    pub(crate) bodies: Arc<Semaphore>,
    /// Permits for chunks on their way to the disk, beside the first of each body.
    pub(crate) chunks_ahead: Arc<Semaphore>,
    pub(crate) metrics: Metrics,
    pub(crate) published: watch::Sender<Published>,
    pub(crate) failure: OnceLock<String>,
    pub(crate) failed: Notify,
    pub(crate) stopping: AtomicBool,
    pub(crate) started_ms: u64,
    pub(crate) threads: Mutex<Vec<std::thread::JoinHandle<()>>>,
    pub(crate) folder: Mutex<Option<DataFolder>>,
}

/// The newest head of the log that this node has signed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Published {
    pub(crate) head: Head,
    /// The signed checkpoint (a signed note); empty before the first.
    pub(crate) checkpoint: Arc<Vec<u8>>,
}

impl Shared {
    /// Whether the node takes work.
    pub(crate) fn running(&self) -> Result<(), WriteError> {
        if let Some(reason) = self.failure.get() {
            return Err(WriteError::Failed(reason.clone()));
        }
        if self.stopping.load(Ordering::Relaxed) {
            return Err(WriteError::Stopping);
        }
        Ok(())
    }

    /// Whether the node takes commands and reads now; else why not.
    pub(crate) fn ready(&self) -> Result<(), WriteError> {
        self.running()?;
        if self.members == 1 {
            return Ok(());
        }
        let reachable = self.reachable.load(Ordering::Relaxed);
        if reachable < self.quorum {
            return Err(WriteError::NoQuorum { reachable, members: self.members, needed: self.quorum });
        }
        if !self.opened.load(Ordering::Relaxed) {
            return Err(WriteError::NotReady("the other members have not vouched for its journal yet".to_owned()));
        }
        if !self.founded.load(Ordering::Relaxed) {
            return Err(WriteError::NotReady("it has not caught up with its group".to_owned()));
        }
        Ok(())
    }

    /// Remembers why the node stopped working; the first reason stands.
    pub(crate) fn fail(&self, reason: &str) {
        if self.failure.set(reason.to_owned()).is_ok() {
            self.failed.notify_waiters();
        }
    }

    fn writer(&self) -> Option<Arc<Writer>> {
        self.journal.get().and_then(Weak::upgrade)
    }

    /// What the journal's writer has done so far; zeros once the node has ended.
    pub(crate) fn journal_statistics(&self) -> Statistics {
        self.writer().map(|writer| writer.statistics()).unwrap_or_default()
    }

    /// Whether there is room for a write that frees none.
    pub(crate) fn has_space(&self) -> Result<(), WriteError> {
        self.space.check()?;
        if self.writer().is_some_and(|writer| writer.is_low()) {
            return Err(self.disk_full());
        }
        Ok(())
    }

    /// The disk has no room for a write that frees none.
    pub(crate) fn disk_full(&self) -> WriteError {
        self.space.measure();
        WriteError::DiskFull { free: self.space.free(), reserve: self.space.reserve() }
    }

    /// The newest signed head.
    pub(crate) fn head(&self) -> Head {
        self.published.borrow().head
    }

    /// Signs a head whose kept record is durable, and shows it.
    pub(crate) fn publish(&self, head: Head) {
        let checkpoint = crate::proofs::sign_checkpoint(self, head);
        self.published.send_replace(Published { head, checkpoint: Arc::new(checkpoint) });
    }

    pub(crate) fn view(&self) -> View {
        View::take(&self.overlay, || self.state.snapshot())
    }
}

impl Node {
    /// Opens the data folder, recovers, and starts the node's threads. Blocks while it recovers; call it
    /// inside a Tokio runtime.
    pub fn start(config: NodeConfig) -> Result<Self, StartError> {
        crate::start::start(config)
    }

    /// Takes no more writes, answers those in flight, makes everything durable and lets the data folder go.
    pub async fn shutdown(&self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        self.shared.inbox.tell(Event::Stop);
        let shared = self.shared.clone();
        let ended = tokio::task::spawn_blocking(move || {
            let threads = core::mem::take(&mut *shared.threads.lock());
            for thread in threads {
                if thread.join().is_err() {
                    tracing::error!("a thread of the node panicked");
                }
            }
            shared.folder.lock().take();
        });
        if ended.await.is_err() {
            tracing::error!("the node did not end in order");
        }
    }

    /// Waits until the node stops working by itself, and says why. Never returns otherwise.
    pub async fn failed(&self) -> String {
        loop {
            let notified = self.shared.failed.notified();
            if let Some(reason) = self.shared.failure.get() {
                return reason.clone();
            }
            notified.await;
        }
    }

    /// Whether the node takes reads and writes; else why not.
    pub fn ready(&self) -> Result<(), WriteError> {
        self.shared.ready()
    }

    /// Where the links to the other members bring what they have.
    #[must_use]
    pub fn peers(&self) -> &Peers {
        &self.shared.peers
    }

    /// Returns when what this node answers from its own state has every write of these slots that anyone was told of
    /// before the call: a round trip to the nearest majority, and nothing in a group of one.
    pub async fn catch_up(&self, slots: SlotSet) -> Result<(), WriteError> {
        crate::read::barrier::catch_up(&self.shared, slots).await
    }

    /// A linearizable view of the whole state ([`Node::read`]) that has every write of which anyone was told before.
    pub async fn read_caught_up(&self) -> Result<ReadView, WriteError> {
        crate::read::barrier::view(&self.shared).await.map(ReadView::new)
    }

    /// Writes: returns once the command is durable and executed (or, with [`Wait::Included`], in the log).
    pub async fn write(&self, request: WriteRequest) -> Result<Written, WriteError> {
        crate::write::write(&self.shared, request).await
    }

    /// Starts a body for the vault. Dropping the writer abandons it.
    pub fn place(&self) -> Result<BodyWriter, WriteError> {
        BodyWriter::new(self.shared.clone())
    }

    /// A linearizable view of the whole state, for queries that read more than one row. It costs a snapshot
    /// and a copy of what is not yet sealed; for single objects use [`Node::object`].
    #[must_use]
    pub fn read(&self) -> ReadView {
        ReadView::new(self.shared.view())
    }

    /// A version of an object (`None`: the current one), linearizable; delete markers are given too. Hot ones
    /// come from memory.
    pub fn object(
        &self,
        bucket: &str,
        key: &str,
        version: Option<VersionSelector>,
    ) -> Result<Option<Arc<CachedObject>>, ReadError> {
        crate::read::local::object(&self.shared, bucket, key, version)
    }

    /// A bucket, if it exists; linearizable.
    pub fn bucket(&self, bucket: &str) -> Result<Option<Arc<BucketRow>>, ReadError> {
        let generation = self.shared.overlay.shared_generation();
        self.shared.buckets.bucket(generation, bucket, || query::bucket(&self.layered(), bucket))
    }

    /// An upload, if it is in progress; linearizable.
    pub fn upload(&self, bucket: &str, key: &str, upload: OrderKey) -> Result<Option<UploadRow>, ReadError> {
        query::upload(&self.layered(), bucket, key, upload)
    }

    /// The bytes of an object in `range` (which must lie within its length), in verified pieces.
    #[must_use]
    pub fn body(&self, object: &Arc<CachedObject>, range: core::ops::Range<u64>) -> BodyStream {
        crate::read::body::stream(self.shared.clone(), object, range)
    }

    /// The secret of an access key.
    pub fn secret(&self, access_key: &str) -> Result<Option<Secret>, ReadError> {
        let Some(row) = query::access_key(&self.layered(), access_key)? else { return Ok(None) };
        self.shared
            .keys
            .cluster
            .open(access_key, &row.sealed)
            .map(Some)
            .map_err(|error| ReadError(format!("access key {access_key}: {error}")))
    }

    /// Adds or replaces an access key; durable when it returns.
    pub async fn put_access_key(
        &self,
        principal: &str,
        access_key: &str,
        secret: &Secret,
        description: &str,
    ) -> Result<Outcome, WriteError> {
        let sealed = self.shared.keys.cluster.seal(access_key, secret).into();
        let put = PutAccessKey { access_key: access_key.to_owned(), sealed, description: description.to_owned() };
        self.configure(principal, Op::PutAccessKey(put)).await
    }

    /// Removes an access key; durable when it returns.
    pub async fn delete_access_key(&self, principal: &str, access_key: &str) -> Result<Outcome, WriteError> {
        self.configure(principal, Op::DeleteAccessKey(DeleteAccessKey { access_key: access_key.to_owned() })).await
    }

    async fn configure(&self, principal: &str, op: Op) -> Result<Outcome, WriteError> {
        let request = WriteRequest { principal: principal.to_owned(), request: None, op, wait: Wait::Commit };
        Ok(self.write(request).await?.outcome)
    }

    /// The access keys, without their secrets.
    pub fn access_keys(&self) -> Result<Vec<(String, catalog::rows::AccessKeyRow)>, ReadError> {
        query::access_keys(&self.layered())
    }

    /// The cluster that this node belongs to.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.shared.genesis.cluster
    }

    /// The settings that it runs with.
    #[must_use]
    pub fn config(&self) -> &NodeConfig {
        &self.shared.config
    }

    /// Its counters.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    fn layered(&self) -> crate::replica::overlay::Layered<'_, FjallState> {
        crate::replica::overlay::Layered { overlay: &self.shared.overlay, state: self.shared.state.as_ref() }
    }
}

//! The handle of a running node, and what its threads and its callers share.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use arc_swap::ArcSwap;
use catalog::query;
use catalog::rows::{BucketRow, UploadRow};
use dace::Membership;
use parking_lot::{Mutex, RwLock};
use store::journal::{Statistics, Writer};
use store::log::LogFiles;
use store::state::{FjallState, State as _};
use store::vault::Vault;
use tokio::sync::{Notify, Semaphore, watch};
use types::command::{DeleteAccessKey, Genesis, PutAccessKey, VersionSelector};
use types::state::ReadError;
use types::{ClusterId, GroupId, Op, OrderKey, Outcome, ReplicaId};

use crate::config::NodeConfig;
use crate::engine::inbox::Inbox;
use crate::engine::{Event, Submitted};
use crate::error::{StartError, WriteError};
use crate::folder::{DataFolder, StateFolder};
use crate::keys::{Keys, Secret};
use crate::metrics::Metrics;
use crate::peer::Peers;
use crate::peer::intake::Intake;
use crate::peer::learner::Learner;
use crate::peer::snapshot::Snapshots;
use crate::read::buckets::BucketCache;
use crate::read::cache::{CachedObject, ObjectCache};
use crate::read::leased::Leased;
use crate::read::{BodyStream, ReadView};
use crate::replica::overlay::{Layered, Overlay, View};
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
    pub(crate) group: GroupId,
    pub(crate) replica: ReplicaId,
    /// The first epoch.
    pub(crate) first: Membership,
    /// The newest epoch that is known here.
    pub(crate) membership: watch::Sender<Arc<Membership>>,
    /// Whether this replica is its only member, and has its state: what it has executed is all that was.
    pub(crate) is_alone: AtomicBool,
    /// How many of its members are reached, as the loop sees it.
    pub(crate) reachable: AtomicUsize,
    /// Nodes that are silent, as the loop sees it.
    pub(crate) suspects: ArcSwap<BTreeSet<ReplicaId>>,
    /// Whether the core has opened its incarnation; of no matter in a group of one.
    pub(crate) opened: AtomicBool,
    /// Whether the genesis is executed here.
    pub(crate) founded: AtomicBool,
    pub(crate) incarnation: AtomicU32,
    pub(crate) peers: Peers,
    pub(crate) inbox: Arc<Inbox<Submitted, Event>>,
    pub(crate) writers: Mutex<Writers>,
    pub(crate) overlay: Arc<Overlay>,
    /// The stored state: another one once that of another member was installed.
    pub(crate) state: ArcSwap<FjallState>,
    pub(crate) state_folder: Mutex<StateFolder>,
    /// Held for writing while the stored state is exchanged.
    pub(crate) exchange: RwLock<()>,
    /// States that are held for other members.
    pub(crate) snapshots: Snapshots,
    /// The state of another member, on its way here.
    pub(crate) intake: Intake,
    pub(crate) learner: Learner,
    pub(crate) log: Arc<LogFiles>,
    pub(crate) vault: Vault,
    pub(crate) cache: ObjectCache,
    pub(crate) buckets: BucketCache,
    /// Leases and pending writes, for readers beside the loop.
    pub(crate) leased: Leased,
    pub(crate) space: Space,
    pub(crate) bodies: Arc<Semaphore>,
    /// Permits for chunks on their way to the disk, beside the first of each body.
    pub(crate) chunks_ahead: Arc<Semaphore>,
    /// Permits for writes that another member is to coordinate.
    pub(crate) forwards: Semaphore,
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

/// The journals' writers, which live as long as the loop.
#[derive(Default)]
pub(crate) struct Writers {
    live: Vec<Weak<Writer>>,
    /// What those did that have ended.
    ended: Statistics,
}

impl Writers {
    pub(crate) fn begin(&mut self, writer: &Arc<Writer>) {
        self.live.push(Arc::downgrade(writer));
    }

    pub(crate) fn end(&mut self, writer: &Arc<Writer>) {
        self.live.retain(|live| live.upgrade().is_some_and(|live| !Arc::ptr_eq(&live, writer)));
        self.ended = sum(self.ended, writer.statistics());
    }

    fn statistics(&self) -> Statistics {
        self.live.iter().filter_map(Weak::upgrade).fold(self.ended, |all, writer| sum(all, writer.statistics()))
    }

    fn is_low(&self) -> bool {
        self.live.iter().filter_map(Weak::upgrade).any(|writer| writer.is_low())
    }
}

fn sum(a: Statistics, b: Statistics) -> Statistics {
    Statistics {
        flushes: a.flushes + b.flushes,
        appends: a.appends + b.appends,
        records: a.records + b.records,
        kept: a.kept + b.kept,
        len: a.len + b.len,
        sealing: a.sealing + b.sealing,
        writing: a.writing + b.writing,
        flushing: a.flushing + b.flushing,
        flushing_max: a.flushing_max.max(b.flushing_max),
    }
}

impl Shared {
    /// The newest epoch that is known here.
    pub(crate) fn membership(&self) -> Arc<Membership> {
        self.membership.borrow().clone()
    }

    /// There is a newer epoch. Whoever is its only member is alone once it has the state: see `is_alone`.
    pub(crate) fn set_membership(&self, membership: Membership) {
        if membership.members != [self.replica] {
            self.is_alone.store(false, Ordering::Relaxed);
        }
        self.membership.send_replace(Arc::new(membership));
    }

    pub(crate) fn state_folder(&self) -> StateFolder {
        self.state_folder.lock().clone()
    }

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
        if self.is_alone.load(Ordering::Relaxed) {
            return Ok(());
        }
        let membership = self.membership();
        if !membership.has(self.replica) {
            return Err(WriteError::NotReady(
                "it is no member of its group: add it with `entangle cluster add`".to_owned(),
            ));
        }
        let reachable = self.reachable.load(Ordering::Relaxed);
        if reachable < membership.recovery_size() {
            let (members, needed) = (membership.members.len(), membership.recovery_size());
            return Err(WriteError::NoQuorum { reachable, members, needed });
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

    /// What the journals' writers have done so far.
    pub(crate) fn journal_statistics(&self) -> Statistics {
        self.writers.lock().statistics()
    }

    /// Whether there is room for a write that frees none.
    pub(crate) fn has_space(&self) -> Result<(), WriteError> {
        self.space.check()?;
        if self.writers.lock().is_low() {
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
        let _exchange = self.exchange.read();
        self.view_now()
    }

    /// For the loop, which exchanges the state itself.
    pub(crate) fn view_now(&self) -> View {
        View::take(&self.overlay, || self.state.load().snapshot())
    }

    /// Reads the newest rows.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Layered<'_, FjallState>) -> T) -> T {
        let _exchange = self.exchange.read();
        let state = self.state.load();
        read(&Layered { overlay: &self.overlay, state: state.as_ref() })
    }
}

/// Held by a thread that the node cannot do without: if it panics, the node has failed, and says so to whoever waits.
pub(crate) struct PanicWatch(pub(crate) Arc<Shared>);

impl Drop for PanicWatch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail("one of its threads panicked");
            // Either of the two ends the other; what waits to be taken up is answered by being dropped.
            self.0.inbox.tell(Event::SealingFailed);
            drop(self.0.inbox.close());
        }
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
            shared.intake.forget();
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

    /// Returns when what this node answers from its own state has every write of this key, and of its bucket, that anyone was
    /// told of before the call: at once under a lease and in a group of one, else after a round trip to the nearest
    /// majority. An empty key: for the bucket alone.
    pub async fn catch_up(&self, bucket: &str, key: &str) -> Result<(), WriteError> {
        crate::read::barrier::catch_up(&self.shared, bucket, key).await
    }

    /// The same for what all keys share: buckets, access keys.
    pub async fn catch_up_shared(&self) -> Result<(), WriteError> {
        crate::read::barrier::catch_up_shared(&self.shared).await
    }

    /// A linearizable view of the whole state ([`Node::read`]) that has every write of which anyone was told before. `bucket`:
    /// what is to be listed; all buckets if there is none.
    pub async fn read_caught_up(&self, bucket: Option<&str>) -> Result<ReadView, WriteError> {
        crate::read::barrier::view(&self.shared, bucket).await.map(ReadView::new)
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
        self.shared.buckets.bucket(generation, bucket, || self.shared.read(|rows| query::bucket(rows, bucket)))
    }

    /// An upload, if it is in progress; linearizable.
    pub fn upload(&self, bucket: &str, key: &str, upload: OrderKey) -> Result<Option<UploadRow>, ReadError> {
        self.shared.read(|rows| query::upload(rows, bucket, key, upload))
    }

    /// The bytes of an object in `range` (which must lie within its length), in verified pieces.
    #[must_use]
    pub fn body(&self, object: &Arc<CachedObject>, range: core::ops::Range<u64>) -> BodyStream {
        crate::read::body::stream(self.shared.clone(), object, range)
    }

    /// The secret of an access key.
    pub fn secret(&self, access_key: &str) -> Result<Option<Secret>, ReadError> {
        let row = self.shared.read(|rows| query::access_key(rows, access_key))?;
        let Some(row) = row else { return Ok(None) };
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

    pub(crate) async fn configure(&self, principal: &str, op: Op) -> Result<Outcome, WriteError> {
        let request = WriteRequest { principal: principal.to_owned(), request: None, op, wait: Wait::Commit };
        Ok(self.write(request).await?.outcome)
    }

    /// The access keys, without their secrets.
    pub fn access_keys(&self) -> Result<Vec<(String, catalog::rows::AccessKeyRow)>, ReadError> {
        self.shared.read(|rows| query::access_keys(rows))
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
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use types::command::CreateBucket;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    async fn create_bucket(node: &Node, bucket: &str) -> Result<Written, WriteError> {
        let op = Op::CreateBucket(CreateBucket { bucket: bucket.to_owned(), region: None });
        let written =
            node.write(WriteRequest { principal: "tester".to_owned(), request: None, op, wait: Wait::Commit });
        tokio::time::timeout(PATIENCE, written).await.expect("it is answered")
    }

    fn start(folder: &tempfile::TempDir) -> Node {
        let mut config = NodeConfig::new(folder.path().join("data"));
        config.reserve_len = 0;
        Node::start(config).unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_thread_that_panics_fails_the_node_and_ends_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let node = start(&folder);
        create_bucket(&node, "before").await.unwrap();
        let watch = PanicWatch(node.shared.clone());
        let panicked = std::thread::spawn(move || {
            let _watch = watch;
            panic!("a test's");
        });
        assert!(panicked.join().is_err());
        let reason = tokio::time::timeout(PATIENCE, node.failed()).await.expect("it fails at once");
        assert!(reason.contains("panicked"), "{reason}");
        assert!(matches!(node.ready(), Err(WriteError::Failed(_))), "{:?}", node.ready());
        let refused = create_bucket(&node, "after").await;
        assert!(matches!(refused, Err(WriteError::Failed(_))), "{:?}", refused.map(|written| written.outcome));
        tokio::time::timeout(PATIENCE, node.shutdown()).await.expect("its threads have ended");
        drop(node);
        // What was acknowledged is there.
        let node = start(&folder);
        let again = create_bucket(&node, "before").await.unwrap();
        assert!(matches!(again.outcome, Outcome::Refused(_)), "{:?}", again.outcome);
        node.shutdown().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_thread_that_ends_in_order_fails_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let node = start(&folder);
        let watch = PanicWatch(node.shared.clone());
        std::thread::spawn(move || drop(watch)).join().unwrap();
        create_bucket(&node, "after").await.unwrap();
        node.shutdown().await;
    }
}

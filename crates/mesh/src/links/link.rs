//! A link to one peer: the handle through which its user sends.

use core::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use types::ReplicaId;
use types::limits::{
    MESH_JOURNAL_FRAME_LEN_MAX, MESH_JOURNAL_QUEUE_LEN_MAX, MESH_JOURNAL_QUEUE_MAX, MESH_REQUEST_LEN_MAX,
    MESH_REQUESTS_MAX, MESH_URGENT_LEN_MAX,
};

use super::config::Clock;
use super::event::DownReason;
use super::frame::Kind;
use super::identity::{Member, key_exchange_name};
use super::probe::{Observation, Record};
use super::refusal::{Refusal, RefusalKind};
use super::request::{RequestError, Response};
use super::stream::{Outgoing, StreamError};
use super::transport;
use super::urgent::UrgentQueue;

/// Seconds of a day.
const DAY_S: i64 = 24 * 60 * 60;
/// Data of requests and answers goes after that of the journal, and that after urgent messages.
pub(super) const URGENT_PRIORITY: i32 = 2;
/// See [`URGENT_PRIORITY`].
pub(super) const JOURNAL_PRIORITY: i32 = 1;
/// See [`URGENT_PRIORITY`].
pub(super) const BULK_PRIORITY: i32 = 0;

/// A link to a peer, while it is up. Clones are the same link.
#[derive(Clone)]
pub struct Link {
    pub(super) inner: Arc<Inner>,
}

/// A frame that waits for the journal stream, and the room that it takes.
pub(super) struct Queued {
    pub(super) bytes: Bytes,
    pub(super) room: OwnedSemaphorePermit,
}

/// What a link is made of.
pub(super) struct Inner {
    pub(super) peer: ReplicaId,
    pub(super) id: u64,
    pub(super) version: u16,
    pub(super) urgent: UrgentQueue,
    pub(super) record: Mutex<Record>,
    pub(super) certificate_expires_s: AtomicU64,
    /// Cancelled when the link is down and its place in the registry is free.
    pub(super) down: CancellationToken,
    /// Cancelled when the last event of the link was given to the user.
    pub(super) finished: CancellationToken,
    /// The connection, and what it counted; once it is down only the latter, so that a link that someone still has in hand
    /// does not keep the socket open.
    connection: RwLock<Option<quinn::Connection>>,
    last_stats: Mutex<quinn::ConnectionStats>,
    name: String,
    journal: mpsc::Sender<Queued>,
    journal_room: Arc<Semaphore>,
    requests: Arc<Semaphore>,
    began: Instant,
    cause: Mutex<Option<DownReason>>,
    clock: Clock,
}

/// Why something was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The link is down: wait for the next one. Of an answer: or the peer has lost interest.
    #[error("the link is down")]
    Down,
    /// More bytes than this class carries at once.
    #[error("the message is too long: {len} bytes, of {max} at most")]
    TooLong {
        /// Its length.
        len: usize,
        /// What `types::limits` allows.
        max: usize,
    },
}

impl Link {
    /// A link over this connection, and the queue that its journal stream is fed from.
    pub(super) fn new(
        connection: quinn::Connection,
        member: Member,
        (id, version): (u64, u16),
        probe_interval: Duration,
        clock: Clock,
    ) -> (Self, mpsc::Receiver<Queued>) {
        let (journal, queue) = mpsc::channel(MESH_JOURNAL_QUEUE_MAX);
        let inner = Inner {
            peer: member.replica,
            id,
            version,
            connection: RwLock::new(Some(connection)),
            last_stats: Mutex::default(),
            urgent: UrgentQueue::default(),
            record: Mutex::new(Record::new(probe_interval, Duration::ZERO)),
            certificate_expires_s: AtomicU64::new(member.expires_s),
            down: CancellationToken::new(),
            finished: CancellationToken::new(),
            name: member.name,
            journal,
            journal_room: Arc::new(Semaphore::new(MESH_JOURNAL_QUEUE_LEN_MAX)),
            requests: Arc::new(Semaphore::new(MESH_REQUESTS_MAX as usize)),
            began: Instant::now(),
            cause: Mutex::new(None),
            clock,
        };
        (Self { inner: Arc::new(inner) }, queue)
    }

    /// The peer.
    #[must_use]
    pub fn peer(&self) -> ReplicaId {
        self.inner.peer
    }

    /// The protocol version that both use.
    #[must_use]
    pub fn version(&self) -> u16 {
        self.inner.version
    }

    /// Whether the link is up; once it is not, it never is again.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.inner.connection().is_ok_and(|connection| connection.close_reason().is_none())
    }

    /// Sends a small message ahead of everything else. Never waits: where too many wait already, the oldest is dropped, and
    /// counted in [`Observation::urgent_dropped`].
    ///
    /// # Errors
    /// When the link is down or the message longer than [`types::limits::MESH_URGENT_LEN_MAX`].
    pub fn send_urgent(&self, bytes: Bytes) -> Result<(), SendError> {
        self.push_urgent(None, bytes)
    }

    /// Sends an urgent message that says how things stand now: it takes the place of an earlier one with the same `slot`
    /// that still waits, and goes to the end of the queue.
    ///
    /// # Errors
    /// As [`Link::send_urgent`].
    pub fn send_beat(&self, slot: u8, bytes: Bytes) -> Result<(), SendError> {
        self.push_urgent(Some(slot), bytes)
    }

    fn push_urgent(&self, slot: Option<u8>, bytes: Bytes) -> Result<(), SendError> {
        check_len(bytes.len(), MESH_URGENT_LEN_MAX)?;
        if !self.is_up() {
            return Err(SendError::Down);
        }
        self.inner.urgent.push(Kind::Urgent, slot, bytes);
        Ok(())
    }

    /// Sends a frame of the journal stream, after those before it; waits while the queue is full. A frame that the queue
    /// has taken is lost if the link goes down; if this is dropped while it waits, the frame was not taken.
    ///
    /// # Errors
    /// When the link is down or the frame longer than [`types::limits::MESH_JOURNAL_FRAME_LEN_MAX`].
    pub async fn send_journal(&self, bytes: Bytes) -> Result<(), SendError> {
        check_len(bytes.len(), MESH_JOURNAL_FRAME_LEN_MAX)?;
        let inner = &self.inner;
        let connection = inner.connection()?;
        // a frame that is longer than the whole room takes all of it, and so waits alone
        let want = u32::try_from(bytes.len().min(MESH_JOURNAL_QUEUE_LEN_MAX)).expect("the room is far below 4 GiB");
        let queued = async {
            let room = inner.journal_room.clone().acquire_many_owned(want).await.map_err(|_| SendError::Down)?;
            inner.journal.send(Queued { bytes, room }).await.map_err(|_| SendError::Down)
        };
        tokio::select! {
            biased;
            _ = connection.closed() => Err(SendError::Down),
            sent = queued => sent,
        }
    }

    /// Asks the peer for something. Waits while [`types::limits::MESH_REQUESTS_MAX`] requests are open.
    ///
    /// # Errors
    /// When the link is down or goes down, or the request is longer than [`types::limits::MESH_REQUEST_LEN_MAX`].
    pub async fn request(&self, bytes: Bytes) -> Result<Response, RequestError> {
        check_len(bytes.len(), MESH_REQUEST_LEN_MAX)?;
        let connection = self.inner.connection()?;
        let waited = async {
            let slot = self.inner.requests.clone().acquire_owned().await.map_err(|_| StreamError::GivenUp)?;
            let (send, receive) = connection.open_bi().await?;
            let mut send = Outgoing::with_priority(send, BULK_PRIORITY);
            send.write(Kind::Request, bytes).await?;
            send.finish()?;
            Ok::<_, StreamError>((receive, slot))
        };
        tokio::select! {
            biased;
            _ = connection.closed() => Err(SendError::Down.into()),
            opened = waited => {
                let (receive, slot) = opened.map_err(|_| SendError::Down)?;
                Ok(Response::new(self.clone(), receive, slot))
            }
        }
    }

    /// How the link does.
    #[must_use]
    pub fn observation(&self) -> Observation {
        let inner = &self.inner;
        let stats = inner.connection().map_or_else(|_| *inner.last_stats.lock(), |connection| connection.stats());
        let (urgent_waiting, urgent_dropped) = inner.urgent.counts();
        let now = inner.now();
        let record = inner.record.lock();
        let certificate_expires_s = inner.certificate_expires_s.load(Ordering::Relaxed);
        let left_s = i128::from(certificate_expires_s) - i128::from(inner.clock.now_s());
        let days_left = left_s.div_euclid(i128::from(DAY_S));
        Observation {
            peer: inner.peer,
            name: inner.name.clone(),
            up_for: now,
            round_trip: record.round_trip(),
            probe_loss: record.loss(),
            packets_sent: stats.path.sent_packets,
            packets_lost: stats.path.lost_packets,
            bytes_lost: stats.path.lost_bytes,
            bytes_sent: stats.udp_tx.bytes,
            bytes_received: stats.udp_rx.bytes,
            congestion_window: stats.path.cwnd,
            urgent_dropped,
            urgent_waiting,
            journal_waiting_len: MESH_JOURNAL_QUEUE_LEN_MAX - inner.journal_room.available_permits(),
            suspicion: record.phi(now),
            key_exchange: key_exchange_name(),
            certificate_expires_s,
            certificate_days_left: i64::try_from(days_left).unwrap_or(i64::MAX),
        }
    }
}

impl Inner {
    /// The connection, while it is there.
    pub(super) fn connection(&self) -> Result<quinn::Connection, SendError> {
        self.connection.read().clone().ok_or(SendError::Down)
    }

    /// Lets go of a connection that is closed.
    pub(super) fn release(&self) {
        if let Some(connection) = self.connection.write().take() {
            *self.last_stats.lock() = connection.stats();
        }
    }

    /// Time since the link came up.
    pub(super) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Closes the connection, and says why to the peer and, through `Down`, to our user. The first cause counts.
    pub(super) fn close(&self, cause: DownReason) {
        let (kind, reason) = match &cause {
            DownReason::Refused(refusal) => (refusal.kind, refusal.reason.clone()),
            DownReason::Replaced => (RefusalKind::Duplicate, cause.to_string()),
            DownReason::Removed => (RefusalKind::NotAPeer, "no longer a peer".to_owned()),
            DownReason::Closed | DownReason::Lost(_) => (RefusalKind::Closing, RefusalKind::Closing.to_string()),
        };
        self.cause.lock().get_or_insert(cause);
        if let Ok(connection) = self.connection() {
            connection.close(kind.wire_code(), transport::cut(&reason).as_bytes());
        }
    }

    /// The peer sent what the protocol does not allow.
    pub(super) fn refuse_garbage(&self, what: &dyn fmt::Display) {
        tracing::warn!(peer = %self.peer, %what, "a link is closed");
        self.close(DownReason::Refused(Refusal::ours(RefusalKind::Garbage, what.to_string())));
    }

    /// Why the link is down, once this connection of it is closed.
    pub(super) fn cause(&self, connection: &quinn::Connection) -> DownReason {
        if let Some(cause) = self.cause.lock().clone() {
            return cause;
        }
        let Some(error) = connection.close_reason() else { return DownReason::Closed };
        match Refusal::from_connection(&error) {
            Some(refusal) if refusal.kind == RefusalKind::Duplicate => DownReason::Replaced,
            Some(refusal) => DownReason::Refused(refusal),
            None => DownReason::Lost(error.to_string()),
        }
    }
}

fn check_len(len: usize, max: usize) -> Result<(), SendError> {
    if len > max { Err(SendError::TooLong { len, max }) } else { Ok(()) }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link(to {}, {:016x})", self.inner.peer, self.inner.id)
    }
}

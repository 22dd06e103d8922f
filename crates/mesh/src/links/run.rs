//! One link while it is up: what reads its streams, writes its queues and probes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rustls_pki_types::CertificateDer;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use types::limits::{MESH_RECEIVED_LEN_MAX, MESH_RECEIVED_MAX};

use super::endpoint::Shared;
use super::event::{DownReason, Event, Received};
use super::frame::{FrameError, Kind};
use super::identity;
use super::link::{BULK_PRIORITY, Inner, JOURNAL_PRIORITY, Link, Queued, URGENT_PRIORITY};
use super::probe::Datagram;
use super::refusal::{Refusal, RefusalKind};
use super::request::Responder;
use super::stream::{Outgoing, StreamError, frames};

/// A link that begins, and what its life needs.
pub(super) struct Beginning {
    pub(super) shared: Arc<Shared>,
    pub(super) link: Link,
    pub(super) queue: mpsc::Receiver<Queued>,
    /// The acceptor's half of the greeting, and its answer.
    pub(super) welcome: Option<(Outgoing, Bytes)>,
    /// The link before: its last event comes before our first.
    pub(super) before: Option<CancellationToken>,
}

impl Beginning {
    /// Runs the link to its end.
    pub(super) async fn run(self) {
        let Self { shared, link, queue, welcome, before } = self;
        let inner = link.inner.clone();
        let Ok(connection) = inner.connection() else { return };
        let mut tasks = JoinSet::new();
        if let Some((mut stream, answer)) = welcome {
            tasks.spawn(async move {
                stream.write(Kind::Welcome, answer).await?;
                stream.finish()
            });
        }
        tasks.spawn(write_urgent(connection.clone(), inner.clone()));
        tasks.spawn(write_journal(connection.clone(), queue));
        let told = CancellationToken::new();
        let telling = {
            let (shared, link, told) = (shared.clone(), link.clone(), told.clone());
            async move {
                if let Some(before) = before {
                    before.cancelled().await;
                }
                shared.tell(Event::Up { peer: link.peer(), link }).await;
                told.cancel();
            }
        };
        // probes and their echoes must go on while the user is slow to hear of the link
        let mut telling = std::pin::pin!(telling);
        let mut life = Life {
            shared: shared.clone(),
            inner: inner.clone(),
            connection: connection.clone(),
            tasks,
            told,
            has: Arc::default(),
        };
        tokio::select! {
            () = life.live() => {}
            () = &mut telling => life.live().await,
        }
        life.tasks.shutdown().await;
        let reason = inner.cause(&connection);
        let is_told = life.told.is_cancelled();
        drop((life, connection));
        inner.release();
        shared.ended(&inner, &reason);
        if !is_told {
            telling.await;
        }
        tracing::info!(peer = %inner.peer, %reason, "link down");
        shared.tell(Event::Down { peer: inner.peer, reason }).await;
        inner.finished.cancel();
    }
}

/// Which one-way streams the peer has opened.
#[derive(Debug, Default)]
struct Opened {
    urgent: AtomicBool,
    journal: AtomicBool,
}

struct Life {
    shared: Arc<Shared>,
    inner: Arc<Inner>,
    connection: quinn::Connection,
    tasks: JoinSet<Result<(), StreamError>>,
    /// The user knows of the link: its messages may be given to it.
    told: CancellationToken,
    has: Arc<Opened>,
}

impl Life {
    /// Returns when the connection is closed, by whomever. May be dropped and called again.
    async fn live(&mut self) {
        let inner = self.inner.clone();
        let connection = self.connection.clone();
        let mut probe = tokio::time::interval(self.shared.config.probe_interval);
        probe.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                _ = connection.closed() => return,
                datagram = connection.read_datagram() => {
                    if let Ok(datagram) = datagram {
                        self.hear(&datagram);
                    }
                }
                _ = probe.tick() => self.probe(),
                stream = connection.accept_uni() => {
                    if let Ok(stream) = stream {
                        self.tasks.spawn(self.receiver().receive(stream));
                    }
                }
                stream = connection.accept_bi() => {
                    if let Ok((send, receive)) = stream {
                        self.tasks.spawn(self.receiver().answer(send, receive));
                    }
                }
                Some(ended) = self.tasks.join_next() => match ended {
                    Ok(Err(StreamError::Frame(garbage))) => inner.refuse_garbage(&garbage),
                    // the connection's end comes by itself; one stream's end is that stream's affair
                    Ok(Ok(()) | Err(StreamError::Connection(_) | StreamError::GivenUp)) => {}
                    Err(panicked) => {
                        tracing::error!(%panicked, "a task of a link has failed");
                        inner.close(DownReason::Refused(Refusal::ours(RefusalKind::Other, "an internal failure")));
                    }
                },
            }
        }
    }

    fn receiver(&self) -> Receiver {
        Receiver {
            shared: self.shared.clone(),
            inner: self.inner.clone(),
            told: self.told.clone(),
            has: self.has.clone(),
        }
    }

    fn hear(&self, datagram: &[u8]) {
        let now = self.inner.now();
        match Datagram::decode(datagram) {
            Some(Datagram::Probe(number)) => {
                self.inner.record.lock().heard(now);
                // an echo that cannot be sent is a lost one
                let _ = self.connection.send_datagram(Datagram::Echo(number).encode());
            }
            Some(Datagram::Echo(number)) => self.inner.record.lock().echoed(number, now),
            None => self.inner.refuse_garbage(&"a datagram that is no probe"),
        }
    }

    fn probe(&self) {
        let inner = &self.inner;
        let expires_s = inner.certificate_expires_s.load(Ordering::Relaxed);
        let now_s = self.shared.config.clock.now_s();
        if now_s > expires_s {
            let reason = format!("the peer's certificate expired {} s ago", now_s - expires_s);
            inner.close(DownReason::Refused(Refusal::ours(RefusalKind::Expired, reason)));
            return;
        }
        let number = inner.record.lock().sent(inner.now());
        let _ = self.connection.send_datagram(Datagram::Probe(number).encode());
    }
}

async fn write_urgent(connection: quinn::Connection, inner: Arc<Inner>) -> Result<(), StreamError> {
    let mut stream = Outgoing::with_priority(connection.open_uni().await?, URGENT_PRIORITY);
    loop {
        let (kind, bytes) = inner.urgent.pop().await;
        stream.write(kind, bytes).await?;
    }
}

async fn write_journal(connection: quinn::Connection, mut queue: mpsc::Receiver<Queued>) -> Result<(), StreamError> {
    let mut stream = Outgoing::with_priority(connection.open_uni().await?, JOURNAL_PRIORITY);
    while let Some(Queued { bytes, room }) = queue.recv().await {
        stream.write(Kind::Journal, bytes).await?;
        drop(room);
    }
    Ok(())
}

/// What reads one stream that the peer opened.
struct Receiver {
    shared: Arc<Shared>,
    inner: Arc<Inner>,
    told: CancellationToken,
    has: Arc<Opened>,
}

impl Receiver {
    /// A one-way stream: urgent messages or journal frames; its first frame tells.
    async fn receive(self, stream: quinn::RecvStream) -> Result<(), StreamError> {
        let mut stream = frames(stream);
        let room = Arc::new(Semaphore::new(MESH_RECEIVED_LEN_MAX));
        let mut class = None;
        while let Some(header) = stream.header().await? {
            let (of, taken) = match header.kind {
                Kind::Urgent | Kind::Certificate => (Kind::Urgent, &self.has.urgent),
                Kind::Journal => (Kind::Journal, &self.has.journal),
                other => return Err(FrameError::Misplaced(other).into()),
            };
            let first = class.is_none();
            if *class.get_or_insert(of) != of || (first && taken.swap(true, Ordering::Relaxed)) {
                return Err(FrameError::Misplaced(header.kind).into());
            }
            self.told.cancelled().await;
            let permit = take_room(&room, header.len).await;
            let (_, bytes) = stream.expect(&[header.kind]).await?;
            let peer = self.inner.peer;
            let event = match header.kind {
                Kind::Certificate => {
                    self.hear_certificate(&bytes)?;
                    continue;
                }
                Kind::Journal => Event::Journal { peer, bytes: Received::new(bytes, permit) },
                _ => Event::Urgent { peer, bytes: Received::new(bytes, permit) },
            };
            self.shared.tell(event).await;
        }
        Ok(())
    }

    /// The peer has a new certificate for the key that it proved in the handshake.
    fn hear_certificate(&self, bytes: &Bytes) -> Result<(), StreamError> {
        let content = || StreamError::Frame(FrameError::Content(Kind::Certificate));
        let connection = self.inner.connection().map_err(|_| StreamError::GivenUp)?;
        let shown = super::transport::peer_certificate(&connection).ok_or_else(content)?;
        let own = self.shared.identity();
        let renewed = CertificateDer::from(bytes.to_vec());
        let renewed = identity::member(&own, &renewed, &self.shared.config.clock).map_err(|_| content())?;
        let same = identity::key_of(&shown) == Some(renewed.key) && renewed.replica == self.inner.peer;
        if !same {
            return Err(content());
        }
        self.inner.certificate_expires_s.store(renewed.expires_s, Ordering::Relaxed);
        Ok(())
    }

    /// A stream in both directions: a request, of the user or for a certificate.
    async fn answer(self, send: quinn::SendStream, receive: quinn::RecvStream) -> Result<(), StreamError> {
        let (kind, bytes) = frames(receive).expect(&[Kind::Request, Kind::Renew]).await?;
        let mut stream = Outgoing::with_priority(send, BULK_PRIORITY);
        if kind == Kind::Renew {
            let renewed = self.shared.renew_for(&self.inner);
            return match renewed {
                Ok(certificate) => stream.write(Kind::Renewed, certificate).await,
                Err(reason) => stream.write(Kind::AnswerFailed, reason).await,
            };
        }
        self.told.cancelled().await;
        let responder = Responder::new(stream);
        self.shared.tell(Event::Request { peer: self.inner.peer, bytes, responder }).await;
        Ok(())
    }
}

/// Waits until the user has let go of enough. The least that a message costs bounds their number; one that is longer than
/// the whole room takes all of it.
async fn take_room(room: &Arc<Semaphore>, len: usize) -> Option<OwnedSemaphorePermit> {
    let want = len.clamp(MESH_RECEIVED_LEN_MAX / MESH_RECEIVED_MAX, MESH_RECEIVED_LEN_MAX);
    let want = u32::try_from(want).expect("the room is far below 4 GiB");
    room.clone().acquire_many_owned(want).await.ok()
}

/// How long a closing connection waits for the reason that may be right behind the end of a stream.
pub(super) const REASON_WAIT: Duration = Duration::from_millis(500);

//! Whoever comes to the socket: members that greet, newcomers that join, and strangers, who may take little.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustls_pki_types::CertificateDer;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use types::ReplicaId;
use types::limits::{MESH_HANDSHAKES_FREE, MESH_HANDSHAKES_MAX, MESH_PEER_HANDSHAKES_MAX, MESH_WELCOME_LEN_MAX};

use super::config::{Admitted, Newcomer, Versions};
use super::endpoint::{NoLink, Shared};
use super::event::Event;
use super::frame::Kind;
use super::greeting::{Hello, Welcome};
use super::identity::{self, Authority, JOIN_PROTOCOL, JoinAnswer, JoinRequest, MESH_PROTOCOL};
use super::link::Link;
use super::refusal::{Refusal, RefusalKind};
use super::registry::Greeting;
use super::run::Beginning;
use super::stream::{Outgoing, StreamError, frames};
use super::transport;

/// Room for handshakes. Those with addresses at which peers are expected have room of their own, which strangers cannot
/// take: above a few at once, an address must have shown that it receives before it gets any.
struct Gate {
    strangers: Arc<Semaphore>,
    expected: Arc<Semaphore>,
}

impl Gate {
    fn new() -> Self {
        Self {
            strangers: Arc::new(Semaphore::new(MESH_HANDSHAKES_MAX)),
            expected: Arc::new(Semaphore::new(MESH_PEER_HANDSHAKES_MAX)),
        }
    }

    /// What to do with a connection that begins.
    fn admit(&self, is_expected: bool, is_validated: bool) -> Admission {
        let (room, max) = if is_expected {
            (&self.expected, MESH_PEER_HANDSHAKES_MAX)
        } else {
            (&self.strangers, MESH_HANDSHAKES_MAX)
        };
        if !is_validated && max - room.available_permits() >= MESH_HANDSHAKES_FREE {
            return Admission::Prove;
        }
        room.clone().try_acquire_owned().map_or(Admission::Ignore, Admission::Enter)
    }
}

/// See [`Gate::admit`].
enum Admission {
    Enter(OwnedSemaphorePermit),
    Prove,
    Ignore,
}

/// Takes connections until the endpoint closes.
pub(super) async fn run(shared: Arc<Shared>) {
    let gate = Gate::new();
    while let Some(incoming) = shared.quinn.accept().await {
        let address = incoming.remote_address();
        match gate.admit(shared.is_expected(address.ip()), incoming.remote_address_validated()) {
            Admission::Enter(room) => {
                shared.tasks.spawn(receive(shared.clone(), incoming, address, room));
            }
            Admission::Prove => {
                // one that may not be asked has been asked before
                if let Err(cannot) = incoming.retry() {
                    cannot.into_incoming().ignore();
                }
            }
            Admission::Ignore => incoming.ignore(),
        }
    }
}

/// How long the library remembers a connection that is closed: three probe time-outs of a path whose delay it does not know
/// (RFC 9000, section 10.2; RFC 9002, section 6.2.2).
const DRAIN: Duration = Duration::from_secs(3);

/// Handshake and greeting, or join; within the time-out, and within the room that was given.
async fn receive(shared: Arc<Shared>, incoming: quinn::Incoming, address: SocketAddr, room: OwnedSemaphorePermit) {
    let work = async {
        let mut is_link = false;
        let connection = match incoming.accept() {
            Ok(connecting) => connecting.await,
            Err(error) => Err(error),
        };
        match connection {
            Ok(connection) => {
                let refused = match transport::protocol(&connection).as_deref() {
                    Some(MESH_PROTOCOL) => meet(&shared, &connection, address).await,
                    Some(JOIN_PROTOCOL) => take_in(&shared, &connection, address).await,
                    _ => Err((None, Refusal::ours(RefusalKind::Version, "no protocol was agreed on"))),
                };
                is_link = refused.is_ok();
                if let Err((peer, refusal)) = refused {
                    if !refusal.by_peer {
                        connection.close(refusal.kind.wire_code(), transport::cut(&refusal.reason).as_bytes());
                    }
                    shared.refused(peer, address, refusal);
                }
            }
            Err(error) => {
                if let Some(refusal) = Refusal::from_connection(&error) {
                    shared.refused(None, address, refusal);
                }
            }
        }
        is_link
    };
    let settled = async {
        // what is dropped at the time-out closes its connection
        let is_link = tokio::time::timeout(shared.config.handshake_timeout, work).await;
        if !is_link.unwrap_or(false) {
            // it goes on to take memory for a while, so it goes on to take room
            tokio::time::sleep(DRAIN).await;
        }
    };
    tokio::select! {
        biased;
        () = shared.closing.cancelled() => {}
        () = settled => {}
    }
    drop(room);
}

/// Why someone is sent away, and who it was, where that is known.
type SentAway = (Option<ReplicaId>, Refusal);

/// A member: hears its greeting, and makes the connection a link.
async fn meet(shared: &Arc<Shared>, connection: &quinn::Connection, address: SocketAddr) -> Result<(), SentAway> {
    let own = shared.identity();
    let shown = transport::peer_certificate(connection)
        .ok_or_else(|| (None, Refusal::ours(RefusalKind::Certificate, "no certificate was shown")))?;
    let member = identity::member(&own, &shown, &shared.config.clock)
        .map_err(|fault| (None, Refusal::ours(RefusalKind::Certificate, fault.to_string())))?;
    let peer = member.replica;
    let refuse = |kind, reason: String| (Some(peer), Refusal::ours(kind, reason));
    let broken = |error: &StreamError| match error {
        StreamError::Connection(error) => (
            Some(peer),
            Refusal::from_connection(error).unwrap_or_else(|| Refusal::ours(RefusalKind::Closing, error.to_string())),
        ),
        other => refuse(RefusalKind::Garbage, other.to_string()),
    };
    let (send, receive) = connection.accept_bi().await.map_err(|error| broken(&error.into()))?;
    let (_, bytes) = frames(receive).expect(&[Kind::Hello]).await.map_err(|error| broken(&error))?;
    let hello =
        Hello::decode(&bytes).ok_or_else(|| refuse(RefusalKind::Garbage, "a greeting that is too short".to_owned()))?;
    let version = check(&hello, shared.config.versions).map_err(|reason| refuse(RefusalKind::Version, reason))?;
    if (hello.cluster, hello.from, hello.to) != (own.cluster(), peer, own.replica()) {
        return Err(refuse(RefusalKind::Garbage, "the greeting does not fit the certificates".to_owned()));
    }
    let clock = shared.config.clock.clone();
    let ids = (hello.link, version);
    let (link, queue) = Link::new(connection.clone(), member, ids, shared.config.probe_interval, clock);
    let greeting = Greeting { instance: hello.instance, link: hello.link, ended: hello.ended };
    let before = shared.greeted(&link, greeting).map_err(|no_link| match no_link {
        NoLink::Duplicate => refuse(RefusalKind::Duplicate, RefusalKind::Duplicate.to_string()),
        NoLink::NotAPeer => {
            let reason = format!("replica {peer} is not among the peers of replica {}", own.replica());
            refuse(RefusalKind::NotAPeer, reason)
        }
    })?;
    tracing::info!(%peer, %address, version, "link up, accepted");
    let answer = Welcome { version, from: own.replica(), instance: shared.instance }.encode();
    let welcome = Some((Outgoing::new(send), answer));
    shared.tasks.spawn(Beginning { shared: shared.clone(), link, queue, welcome, before }.run());
    Ok(())
}

fn check(hello: &Hello, ours: Versions) -> Result<u16, String> {
    ours.common(hello.versions).ok_or_else(|| {
        let theirs = hello.versions;
        format!(
            "replica {} speaks version {ours} of the mesh protocol, replica {} version {theirs}",
            hello.to, hello.from
        )
    })
}

impl Shared {
    /// Lets a newcomer in, or says why not.
    fn admit(
        &self,
        authority: &Authority,
        request: &JoinRequest,
        key: identity::PublicKey,
        address: SocketAddr,
    ) -> Result<(CertificateDer<'static>, Admitted), (RefusalKind, String)> {
        let now_s = self.config.clock.now_s();
        let (token, expires_s) = authority.know(&request.ticket, &request.name, now_s)?;
        let Some(porter) = &self.config.porter else {
            return Err((RefusalKind::NoAuthority, "this node takes no newcomers in".to_owned()));
        };
        let (name, introduction) = (request.name.clone(), request.introduction.clone());
        let newcomer = Newcomer { token, expires_s, key: key.0, name, address, introduction };
        let admitted = porter.judge(&newcomer)?;
        if admitted.welcome.len() > MESH_WELCOME_LEN_MAX {
            tracing::error!(len = admitted.welcome.len(), "what newcomers are told is too long");
            return Err((RefusalKind::Other, "an internal failure".to_owned()));
        }
        let certificate = authority.admit(key, admitted.replica, &request.name, now_s)?;
        Ok((certificate, admitted))
    }
}

/// A newcomer: its token, its certificate.
async fn take_in(shared: &Arc<Shared>, connection: &quinn::Connection, address: SocketAddr) -> Result<(), SentAway> {
    let refuse = |kind, reason: String| (None, Refusal::ours(kind, reason));
    let broken = |error: StreamError| refuse(RefusalKind::Garbage, error.to_string());
    let authority = shared.config.authority.clone();
    let authority = authority.ok_or_else(|| refuse(RefusalKind::NoAuthority, RefusalKind::NoAuthority.to_string()))?;
    let key = identity::newcomer_key(connection)
        .ok_or_else(|| refuse(RefusalKind::Certificate, "a newcomer needs an Ed25519 key".to_owned()))?;
    let (send, receive) = connection.accept_bi().await.map_err(|error| broken(error.into()))?;
    let (_, bytes) = frames(receive).expect(&[Kind::Join]).await.map_err(broken)?;
    let request = JoinRequest::decode(bytes)
        .ok_or_else(|| refuse(RefusalKind::Garbage, "a join request that cannot be read".to_owned()))?;
    let mut stream = Outgoing::new(send);
    let admitted = if shared.config.versions.common(request.versions).is_none() {
        let (ours, theirs) = (shared.config.versions, request.versions);
        let reason = format!("this cluster speaks version {ours} of the mesh protocol, the newcomer version {theirs}");
        Err((RefusalKind::Version, reason))
    } else {
        // the disk is asked: not on a thread that serves the network
        let (shared, request) = (shared.clone(), request.clone());
        tokio::task::spawn_blocking(move || shared.admit(&authority, &request, key, address))
            .await
            .unwrap_or_else(|_| Err((RefusalKind::Other, "an internal failure".to_owned())))
    };
    let (answer, outcome) = match admitted {
        Ok((certificate, Admitted { replica, welcome })) => {
            let answer = JoinAnswer::Admitted {
                certificate: Bytes::copy_from_slice(&certificate),
                authority: Bytes::copy_from_slice(shared.identity().authority()),
                welcome,
            };
            (answer, Ok(replica))
        }
        Err((kind, reason)) => (JoinAnswer::Refused(kind, reason.clone()), Err((kind, reason))),
    };
    let sent = stream.write(Kind::Joined, answer.encode()).await.and_then(|()| stream.finish());
    if let Ok(replica) = outcome {
        tracing::info!(%replica, name = request.name, %address, "a newcomer was let in");
        let (name, introduction) = (request.name, request.introduction);
        // told apart from this connection, whose time is short, whatever the user is doing
        let event = Event::Joined { replica, name, address, introduction };
        let teller = shared.clone();
        shared.tasks.spawn(async move { teller.tell(event).await });
    }
    sent.map_err(broken)?;
    // the newcomer closes when it has read the answer
    connection.closed().await;
    outcome.map(|_| ()).map_err(|(kind, reason)| (None, Refusal { kind, reason, by_peer: false }))
}

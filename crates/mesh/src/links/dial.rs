//! Dialling one peer, again and again while there is no link.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use types::ReplicaId;

use super::endpoint::{NoLink, Shared};
use super::frame::{FrameError, Kind};
use super::greeting::{Hello, Welcome};
use super::identity::{self, MESH_PROTOCOL, Member, random, replica_name};
use super::link::Link;
use super::refusal::{Refusal, RefusalKind};
use super::run::{Beginning, REASON_WAIT};
use super::stream::{Outgoing, StreamError, frames};
use super::transport;

/// Why a dial came to nothing.
#[derive(Debug)]
enum DialError {
    /// There is a link by now, or the peer is none any more.
    Needless,
    /// One side will not have it.
    Refused(Refusal),
    /// The peer is not to be reached.
    Unreachable(String),
}

/// Keeps a link to `peer` until it is removed.
pub(super) async fn run(shared: Arc<Shared>, peer: ReplicaId, removed: CancellationToken, wake: Arc<Notify>) {
    tokio::select! {
        biased;
        () = removed.cancelled() => {}
        () = keep(&shared, peer, &wake) => {}
    }
}

async fn keep(shared: &Arc<Shared>, peer: ReplicaId, wake: &Notify) {
    let config = &shared.config;
    let mut pause = config.redial_after;
    loop {
        if let Some(link) = shared.link(peer) {
            link.inner.down.cancelled().await;
            pause = config.redial_after;
            tokio::time::sleep(blurred(pause)).await;
            continue;
        }
        if dial_all(shared, peer).await {
            continue;
        }
        tokio::select! {
            () = wake.notified() => pause = config.redial_after,
            () = tokio::time::sleep(blurred(pause)) => pause = (pause * 2).min(config.redial_after_max),
        }
    }
}

/// Between one half and the whole of it: so that two that dial each other, or many that dial one, do not stay in step.
fn blurred(pause: Duration) -> Duration {
    let part = f64::from(u32::from_be_bytes(random())) / f64::from(u32::MAX);
    pause.mul_f64(0.5 + part / 2.0)
}

/// Tries all addresses in turn; whether there is a link now.
async fn dial_all(shared: &Arc<Shared>, peer: ReplicaId) -> bool {
    let addresses = shared.addresses(peer);
    if addresses.is_empty() {
        shared.trouble(peer, "no address is known".to_owned());
    }
    for address in addresses {
        let resolved: Vec<SocketAddr> = match tokio::net::lookup_host(&address).await {
            Ok(resolved) => resolved.collect(),
            Err(error) => {
                shared.trouble(peer, format!("{address}: {error}"));
                continue;
            }
        };
        for resolved in resolved {
            shared.expect(peer, resolved.ip());
            let limit = shared.config.dial_timeout;
            let dialled = tokio::time::timeout(limit, dial(shared, peer, resolved)).await;
            shared.greeting_failed(peer);
            match dialled {
                Ok(Ok(())) => return true,
                Ok(Err(DialError::Needless)) => return shared.link(peer).is_some(),
                Ok(Err(DialError::Refused(refusal))) => shared.refused(Some(peer), resolved, refusal),
                Ok(Err(DialError::Unreachable(reason))) => shared.trouble(peer, format!("{address}: {reason}")),
                Err(_) => shared.trouble(peer, format!("{address}: no answer")),
            }
        }
    }
    false
}

/// One dial: handshake, greeting, link.
async fn dial(shared: &Arc<Shared>, peer: ReplicaId, address: SocketAddr) -> Result<(), DialError> {
    let own = shared.identity();
    let name = replica_name(own.cluster(), peer);
    let connection = shared
        .quinn
        .connect_with(shared.client_config(), address, &name)
        .map_err(|error| DialError::Unreachable(error.to_string()))?
        .await
        .map_err(|error| DialError::from(&error))?;
    let member = judge(shared, &connection)?;
    let ended = shared.greet(peer).map_err(|_| {
        connection.close(RefusalKind::Duplicate.wire_code(), b"");
        DialError::Needless
    })?;
    let hello = Hello {
        versions: shared.config.versions,
        cluster: own.cluster(),
        from: own.replica(),
        to: peer,
        instance: shared.instance,
        link: u64::from_be_bytes(random()).max(1),
        ended,
    };
    let welcome = match greet(&connection, &hello).await {
        Ok(welcome) => welcome,
        Err(error) => return Err(why(&connection, &error).await),
    };
    let agreed = welcome.from == peer && shared.config.versions.min <= welcome.version;
    if !agreed || welcome.version > shared.config.versions.max {
        let refusal = Refusal::ours(RefusalKind::Garbage, "the answer to the greeting does not fit it");
        connection.close(refusal.kind.wire_code(), refusal.reason.as_bytes());
        return Err(DialError::Refused(refusal));
    }
    let probe = shared.config.probe_interval;
    let ids = (hello.link, welcome.version);
    let (link, queue) = Link::new(connection.clone(), member, ids, probe, shared.config.clock.clone());
    match shared.answered(&link, welcome.instance) {
        Ok(before) => {
            tracing::info!(%peer, %address, version = welcome.version, "link up, dialled");
            let beginning = Beginning { shared: shared.clone(), link, queue, welcome: None, before };
            shared.tasks.spawn(beginning.run());
            Ok(())
        }
        Err(NoLink::Duplicate | NoLink::NotAPeer) => {
            connection.close(RefusalKind::Duplicate.wire_code(), b"");
            Err(DialError::Needless)
        }
    }
}

/// Who is at the other end: the handshake has verified it, this only reads it.
fn judge(shared: &Shared, connection: &quinn::Connection) -> Result<Member, DialError> {
    let refused = |kind, reason: String| {
        let refusal = Refusal::ours(kind, reason);
        connection.close(refusal.kind.wire_code(), transport::cut(&refusal.reason).as_bytes());
        DialError::Refused(refusal)
    };
    if transport::protocol(connection).as_deref() != Some(MESH_PROTOCOL) {
        return Err(refused(RefusalKind::Version, "no protocol was agreed on".to_owned()));
    }
    let shown = transport::peer_certificate(connection)
        .ok_or_else(|| refused(RefusalKind::Certificate, "no certificate was shown".to_owned()))?;
    identity::member(&shared.identity(), &shown, &shared.config.clock)
        .map_err(|fault| refused(RefusalKind::Certificate, fault.to_string()))
}

async fn greet(connection: &quinn::Connection, hello: &Hello) -> Result<Welcome, StreamError> {
    let (send, receive) = connection.open_bi().await?;
    let mut send = Outgoing::new(send);
    send.write(Kind::Hello, hello.encode()).await?;
    send.finish()?;
    let (_, answer) = frames(receive).expect(&[Kind::Welcome]).await?;
    Welcome::decode(&answer).ok_or(StreamError::Frame(FrameError::Content(Kind::Welcome)))
}

/// Why a greeting failed: the reason that the peer closed with, if it comes.
async fn why(connection: &quinn::Connection, error: &StreamError) -> DialError {
    if let StreamError::Frame(garbage) = error
        && *garbage != FrameError::Torn
    {
        let refusal = Refusal::ours(RefusalKind::Garbage, garbage.to_string());
        connection.close(refusal.kind.wire_code(), refusal.reason.as_bytes());
        return DialError::Refused(refusal);
    }
    match tokio::time::timeout(REASON_WAIT, connection.closed()).await {
        Ok(closed) => DialError::from(&closed),
        Err(_) => DialError::Unreachable(error.to_string()),
    }
}

impl From<&quinn::ConnectionError> for DialError {
    fn from(error: &quinn::ConnectionError) -> Self {
        match Refusal::from_connection(error) {
            Some(refusal) => Self::Refused(refusal),
            None => Self::Unreachable(error.to_string()),
        }
    }
}

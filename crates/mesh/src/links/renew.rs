//! Certificates that renew themselves: in the last third of its life, a node's is signed anew by its own authority, or by
//! that of a peer, over the link that is there.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use rustls_pki_types::CertificateDer;

use super::endpoint::Shared;
use super::event::Event;
use super::frame::Kind;
use super::identity::Identity;
use super::link::{Inner, Link};
use super::stream::{Outgoing, StreamError, frames};
use super::transport;

/// Looks now and then whether the certificate is due, until the endpoint closes.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut look = tokio::time::interval(shared.config.certificate_check_interval);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = shared.closing.cancelled() => return,
            _ = look.tick() => {}
        }
        let own = shared.identity();
        if own.is_due(shared.config.clock.now_s()) {
            tokio::select! {
                biased;
                () = shared.closing.cancelled() => return,
                () = renew(&shared, &own) => {}
            }
        }
    }
}

async fn renew(shared: &Arc<Shared>, own: &Identity) {
    let renewed = match &shared.config.authority {
        Some(authority) => {
            authority.renew(own.member(), shared.config.clock.now_s()).map_err(|error| error.to_string())
        }
        None => ask_peers(shared).await,
    };
    // the disk is asked: not on a thread that serves the network
    let kept = match renewed {
        Ok(certificate) => {
            let own = own.clone();
            tokio::task::spawn_blocking(move || own.renewed(certificate).map_err(|error| error.to_string()))
                .await
                .unwrap_or_else(|error| Err(error.to_string()))
        }
        Err(reason) => Err(reason),
    };
    let used = kept.and_then(|identity| {
        shared.replace_identity(identity.clone()).map_err(|error| error.to_string())?;
        Ok(identity)
    });
    match used {
        Ok(identity) => {
            tracing::info!(expires_s = identity.expires_s(), "this node's certificate was renewed");
            let certificate = Bytes::copy_from_slice(&identity.chain()[0]);
            for link in shared.links() {
                link.inner.urgent.push(Kind::Certificate, None, certificate.clone());
            }
            shared.tell(Event::Renewed { expires_s: identity.expires_s() }).await;
        }
        Err(reason) => tracing::warn!(reason, expires_s = own.expires_s(), "this node's certificate was not renewed"),
    }
}

/// Asks one peer after the other.
async fn ask_peers(shared: &Shared) -> Result<CertificateDer<'static>, String> {
    let mut reasons = Vec::new();
    for link in shared.links() {
        match tokio::time::timeout(shared.config.handshake_timeout, ask(&link)).await {
            Ok(Ok(certificate)) => return Ok(certificate),
            Ok(Err(reason)) => reasons.push(format!("replica {}: {reason}", link.peer())),
            Err(_) => reasons.push(format!("replica {}: no answer", link.peer())),
        }
    }
    Err(if reasons.is_empty() { "no link is up to ask for it".to_owned() } else { reasons.join("; ") })
}

async fn ask(link: &Link) -> Result<CertificateDer<'static>, String> {
    let asked = async {
        let connection = link.inner.connection().map_err(|_| StreamError::GivenUp)?;
        let (send, receive) = connection.open_bi().await?;
        let mut send = Outgoing::new(send);
        send.write(Kind::Renew, Bytes::new()).await?;
        send.finish()?;
        frames(receive).expect(&[Kind::Renewed, Kind::AnswerFailed]).await
    };
    match asked.await.map_err(|error: StreamError| error.to_string())? {
        (Kind::Renewed, certificate) => Ok(CertificateDer::from(certificate.to_vec())),
        (_, reason) => Err(String::from_utf8_lossy(&reason).into_owned()),
    }
}

impl Shared {
    /// A peer asks for a new certificate: for the key that it proved in the handshake, and the names that it has. Or says
    /// why it gets none.
    pub(super) fn renew_for(&self, inner: &Inner) -> Result<Bytes, Bytes> {
        let refuse = |reason: &str| Bytes::copy_from_slice(transport::cut(reason).as_bytes());
        let Some(authority) = &self.config.authority else {
            return Err(refuse("this node does not keep the cluster's authority"));
        };
        let now_s = self.config.clock.now_s();
        let connection = inner.connection().map_err(|error| refuse(&error.to_string()))?;
        let shown = transport::peer_certificate(&connection).ok_or_else(|| refuse("no certificate was shown"))?;
        // what was shown in the handshake may have been renewed since, and have expired: the link knows
        if now_s > inner.certificate_expires_s.load(Ordering::Relaxed) {
            return Err(refuse("the certificate has expired: join again"));
        }
        let member =
            super::identity::member_of_link(&self.identity(), &shown).map_err(|fault| refuse(&fault.to_string()))?;
        let renewed = authority.renew(&member, now_s).map_err(|error| refuse(&error.to_string()))?;
        tracing::info!(peer = %inner.peer, "a peer's certificate was renewed");
        Ok(Bytes::copy_from_slice(&renewed))
    }
}

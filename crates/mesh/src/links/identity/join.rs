//! The join: a newcomer shows its token, the authority's keeper gives it a certificate. `docs/formats/mesh.md`, joining.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use rustls_pki_types::CertificateDer;
use types::limits::{MESH_CERTIFICATE_LEN_MAX, MESH_WELCOME_LEN_MAX};
use zeroize::Zeroizing;

use super::keypair::{Key, PublicKey};
use super::node::Identity;
use super::token::{Ticket, Token};
use super::{IdentityError, JoinError, Welcome, certificate, names, tls};
use crate::links::config::{Clock, Versions};
use crate::links::frame::Kind;
use crate::links::refusal::{Refusal, RefusalKind};
use crate::links::stream::{Outgoing, frames};
use crate::links::transport;

/// How long one address may take to let a newcomer in.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What a newcomer asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::links) struct JoinRequest {
    pub(in crate::links) versions: Versions,
    pub(in crate::links) ticket: Ticket,
    pub(in crate::links) name: String,
    pub(in crate::links) introduction: Bytes,
}

impl JoinRequest {
    pub(in crate::links) fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u16(self.versions.min);
        out.put_u16(self.versions.max);
        out.put_slice(self.ticket.as_bytes());
        out.put_u8(u8::try_from(self.name.len()).expect("a node's name has at most 63 bytes"));
        out.put_slice(self.name.as_bytes());
        out.put_slice(&self.introduction);
        out.freeze()
    }

    pub(in crate::links) fn decode(mut bytes: Bytes) -> Option<Self> {
        let versions = Versions { min: bytes.try_get_u16().ok()?, max: bytes.try_get_u16().ok()? };
        let mut ticket = Zeroizing::new([0; Ticket::LEN]);
        bytes.try_copy_to_slice(ticket.as_mut_slice()).ok()?;
        let ticket = Ticket::from_bytes(ticket);
        let len = usize::from(bytes.try_get_u8().ok()?);
        let name = take(&mut bytes, len).and_then(|name| String::from_utf8(name.into()).ok())?;
        (bytes.len() <= MESH_WELCOME_LEN_MAX).then_some(Self { versions, ticket, name, introduction: bytes })
    }
}

/// What it is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::links) enum JoinAnswer {
    /// Its certificate, its authority's, and what the cluster says to newcomers.
    Admitted { certificate: Bytes, authority: Bytes, welcome: Bytes },
    /// Why not.
    Refused(RefusalKind, String),
}

impl JoinAnswer {
    pub(in crate::links) fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        match self {
            Self::Admitted { certificate, authority, welcome } => {
                out.put_u16(0);
                for part in [certificate, authority] {
                    out.put_u16(u16::try_from(part.len()).expect("MESH_CERTIFICATE_LEN_MAX is below 64 KiB"));
                    out.put_slice(part);
                }
                out.put_slice(welcome);
            }
            Self::Refused(kind, reason) => {
                out.put_u16(u16::try_from(kind.code()).expect("codes are small"));
                out.put_slice(transport::cut(reason).as_bytes());
            }
        }
        out.freeze()
    }

    pub(in crate::links) fn decode(mut bytes: Bytes) -> Option<Self> {
        let code = bytes.try_get_u16().ok()?;
        if code != 0 {
            let reason = String::from_utf8_lossy(&bytes).into_owned();
            return Some(Self::Refused(RefusalKind::from_code(u64::from(code)), reason));
        }
        let mut part = || {
            let len = usize::from(bytes.try_get_u16().ok()?);
            take(&mut bytes, len).filter(|part| part.len() <= MESH_CERTIFICATE_LEN_MAX)
        };
        let (certificate, authority) = (part()?, part()?);
        (bytes.len() <= MESH_WELCOME_LEN_MAX).then_some(Self::Admitted { certificate, authority, welcome: bytes })
    }
}

fn take(bytes: &mut Bytes, len: usize) -> Option<Bytes> {
    (bytes.len() >= len).then(|| bytes.split_to(len))
}

/// Joins a cluster: with a fresh key, dials the token's addresses in turn until one gives a certificate. The server is known
/// by the token's pin. `introduction` is given to the user of the endpoint that lets the newcomer in
/// ([`crate::links::Event::Joined`]); at most [`types::limits::MESH_WELCOME_LEN_MAX`] bytes.
///
/// # Errors
/// When the cluster refuses (an unknown, used or expired token), or is not to be reached.
pub async fn join(token: &Token, name: &str, introduction: Bytes, clock: &Clock) -> Result<Welcome, JoinError> {
    if !names::is_name(name) {
        return Err(JoinError::Unusable(format!(
            "`{name}` cannot be a node's name: it has 1 to 63 lower-case letters, digits and hyphens"
        )));
    }
    if introduction.len() > MESH_WELCOME_LEN_MAX {
        return Err(JoinError::Unusable(format!("an introduction has at most {MESH_WELCOME_LEN_MAX} bytes")));
    }
    if clock.now_s() > token.expires_s() {
        let reason = RefusalKind::TokenExpired.to_string();
        return Err(JoinError::Refused(Refusal { kind: RefusalKind::TokenExpired, reason, by_peer: false }));
    }
    let newcomer = Newcomer { token, name, introduction, clock, key: Key::generate() };
    newcomer.try_addresses().await
}

/// A newcomer on its way in. The key is the same at every address, so that an answer that was lost can be asked for again.
struct Newcomer<'a> {
    token: &'a Token,
    name: &'a str,
    introduction: Bytes,
    clock: &'a Clock,
    key: Key,
}

impl Newcomer<'_> {
    async fn try_addresses(self) -> Result<Welcome, JoinError> {
        let mut troubles = Vec::new();
        let mut refusal = None;
        for address in &self.token.addresses {
            let resolved = match tokio::net::lookup_host(address).await {
                Ok(resolved) => resolved.collect(),
                Err(error) => {
                    troubles.push(format!("{address}: {error}"));
                    Vec::new()
                }
            };
            for resolved in resolved {
                match tokio::time::timeout(TIMEOUT, self.ask(resolved)).await {
                    Ok(Ok((answer, address))) => return self.accept(answer, address),
                    Ok(Err(Trouble::Refused(refused))) if refused.is_final() => {
                        return Err(JoinError::Refused(refused));
                    }
                    Ok(Err(Trouble::Refused(refused))) => refusal = Some(refused),
                    Ok(Err(Trouble::Other(trouble))) => troubles.push(format!("{address}: {trouble}")),
                    Err(_) => troubles.push(format!("{address}: no answer")),
                }
            }
        }
        match refusal {
            Some(refused) => Err(JoinError::Refused(refused)),
            None => Err(JoinError::Unreachable(troubles.join("; "))),
        }
    }

    async fn ask(&self, address: SocketAddr) -> Result<(JoinAnswer, SocketAddr), Trouble> {
        let other = |error: &dyn std::fmt::Display| Trouble::Other(error.to_string());
        let shown = certificate::sign_newcomer(&self.key, self.token.cluster, self.clock.now_s())
            .map_err(|error| other(&error))?;
        let tls = tls::newcomer(self.token, (shown, self.key.to_pkcs8()), self.clock).map_err(|error| other(&error))?;
        let endpoint = transport::client_endpoint(address).map_err(|error| other(&error))?;
        let connection = endpoint
            .connect_with(transport::client_config(tls, TIMEOUT), address, &names::newcomer_name(self.token.cluster))
            .map_err(|error| other(&error))?
            .await
            .map_err(|error| Trouble::from(&error))?;
        let answer = self.exchange(&connection).await;
        let answer = match (answer, connection.close_reason()) {
            (None, Some(error)) => Err(Trouble::from(&error)),
            (None, None) => Err(Trouble::Other("the answer broke off".to_owned())),
            (Some(JoinAnswer::Refused(kind, reason)), _) => {
                Err(Trouble::Refused(Refusal { kind, reason, by_peer: true }))
            }
            (Some(admitted), _) => Ok((admitted, address)),
        };
        connection.close(RefusalKind::Closing.wire_code(), b"done");
        endpoint.wait_idle().await;
        answer
    }

    async fn exchange(&self, connection: &quinn::Connection) -> Option<JoinAnswer> {
        let (send, receive) = connection.open_bi().await.ok()?;
        let request = JoinRequest {
            versions: Versions::CURRENT,
            ticket: self.token.ticket.clone(),
            name: self.name.to_owned(),
            introduction: self.introduction.clone(),
        };
        let mut send = Outgoing::new(send);
        send.write(Kind::Join, request.encode()).await.ok()?;
        let _ = send.finish();
        let answer = frames(receive).expect(&[Kind::Joined]).await;
        if answer.is_err() && connection.close_reason().is_none() {
            // the reason may be right behind the end of the stream
            let _ = tokio::time::timeout(Duration::from_millis(500), connection.closed()).await;
        }
        answer.ok().and_then(|(_, bytes)| JoinAnswer::decode(bytes))
    }

    fn accept(self, answer: JoinAnswer, address: SocketAddr) -> Result<Welcome, JoinError> {
        let JoinAnswer::Admitted { certificate, authority, welcome } = answer else {
            return Err(JoinError::Unreachable("the answer was none".to_owned()));
        };
        let authority = CertificateDer::from(authority.to_vec());
        let is_pinned = certificate::key_of(&authority).is_some_and(|key| certificate::pin(key) == self.token.pin);
        let identity = Identity::new(self.key, CertificateDer::from(certificate.to_vec()), authority)
            .and_then(|identity| {
                let fits = is_pinned && identity.cluster() == self.token.cluster && identity.name() == self.name;
                if fits { Ok(identity) } else { Err(IdentityError::Unusable("it is not for this node".to_owned())) }
            })
            .map_err(|error| JoinError::Unusable(format!("the cluster gave a certificate that is no good: {error}")))?;
        Ok(Welcome { identity, welcome, address })
    }
}

/// Why one address did not let the newcomer in.
enum Trouble {
    Refused(Refusal),
    Other(String),
}

impl From<&quinn::ConnectionError> for Trouble {
    fn from(error: &quinn::ConnectionError) -> Self {
        match Refusal::from_connection(error) {
            Some(refusal) => Self::Refused(refusal),
            None => Self::Other(error.to_string()),
        }
    }
}

/// The newcomer's key: the one that it proved in the handshake.
pub(in crate::links) fn newcomer_key(connection: &quinn::Connection) -> Option<PublicKey> {
    transport::peer_certificate(connection).and_then(|shown| certificate::key_of(&shown))
}

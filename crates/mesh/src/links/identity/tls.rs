//! The TLS side of identity: one provider with one key exchange, TLS 1.3 only, both sides authenticated.

use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::{self, cipher_suite, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup, WebPkiSupportedAlgorithms};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, PeerIncompatible, SignatureScheme};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, TrustAnchor, UnixTime};
use types::ClusterId;
use webpki::KeyUsage;

use super::certificate::{self, CertificateFault, Member};
use super::node::Identity;
use super::token::Token;
use super::{authority, names};
use crate::links::config::Clock;

/// What members say to each other.
pub(in crate::links) const MESH_PROTOCOL: &[u8] = b"entangle-mesh";
/// What a newcomer says to a member.
pub(in crate::links) const JOIN_PROTOCOL: &[u8] = b"entangle-join";

/// The only key exchange: X25519 and ML-KEM-768 together (draft-ietf-tls-ecdhe-mlkem). What is recorded today cannot be
/// opened by a quantum computer of tomorrow.
static KEY_EXCHANGE: &dyn SupportedKxGroup = kx_group::X25519MLKEM768;

/// Signatures: Ed25519, in certificates and handshakes.
static SIGNATURES: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: &[webpki::aws_lc_rs::ED25519],
    mapping: &[(SignatureScheme::ED25519, &[webpki::aws_lc_rs::ED25519])],
};

/// The name of the key exchange, as the standard spells it.
pub(in crate::links) fn key_exchange_name() -> &'static str {
    KEY_EXCHANGE.name().as_str().unwrap_or("unknown")
}

/// Why no TLS configuration could be made.
pub(in crate::links) type TlsError = rustls::Error;

/// For members: accepts members, and newcomers where the authority is kept.
pub(in crate::links) fn server(
    identity: &Identity,
    clock: &Clock,
    with_authority: bool,
) -> Result<QuicServerConfig, TlsError> {
    let verifier = Arc::new(MemberVerifier::new(identity, clock, with_authority)?);
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.chain(), identity.key())?;
    config.alpn_protocols = vec![MESH_PROTOCOL.to_vec(), JOIN_PROTOCOL.to_vec()];
    // a resumed session would skip the look at the certificate
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    QuicServerConfig::with_initial(Arc::new(config), initial_suite()).map_err(|_| no_initial_suite())
}

/// For members: dials members.
pub(in crate::links) fn client(identity: &Identity, clock: &Clock) -> Result<QuicClientConfig, TlsError> {
    let verifier = Arc::new(MemberVerifier::new(identity, clock, false)?);
    client_with(verifier, (identity.chain(), identity.key()), MESH_PROTOCOL)
}

/// For newcomers: dials a member of the token's cluster, known by the pin.
pub(super) fn newcomer(
    token: &Token,
    shown: (CertificateDer<'static>, PrivateKeyDer<'static>),
    clock: &Clock,
) -> Result<QuicClientConfig, TlsError> {
    let verifier = Arc::new(PinVerifier { pin: token.pin, cluster: token.cluster, clock: clock.clone() });
    client_with(verifier, (vec![shown.0], shown.1), JOIN_PROTOCOL)
}

fn client_with(
    verifier: Arc<dyn ServerCertVerifier>,
    (chain, key): (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>),
    protocol: &[u8],
) -> Result<QuicClientConfig, TlsError> {
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![protocol.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    QuicClientConfig::with_initial(Arc::new(config), initial_suite()).map_err(|_| no_initial_suite())
}

/// 256-bit ciphers, one key exchange, one signature.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![cipher_suite::TLS13_AES_256_GCM_SHA384, cipher_suite::TLS13_CHACHA20_POLY1305_SHA256],
        kx_groups: vec![KEY_EXCHANGE],
        signature_verification_algorithms: SIGNATURES,
        ..aws_lc_rs::default_provider()
    })
}

/// QUIC's first packets are under keys that everyone can compute, of this suite (RFC 9001, section 5.2).
fn initial_suite() -> rustls::quic::Suite {
    cipher_suite::TLS13_AES_128_GCM_SHA256
        .tls13()
        .and_then(|suite| suite.quic_suite())
        .expect("the library offers this suite for QUIC")
}

fn no_initial_suite() -> TlsError {
    rustls::Error::General("the suite of QUIC's first packets is not offered".to_owned())
}

/// Judges members of our own cluster.
#[derive(Debug)]
struct MemberVerifier {
    authority: TrustAnchor<'static>,
    cluster: ClusterId,
    clock: Clock,
    newcomers: bool,
}

impl MemberVerifier {
    fn new(identity: &Identity, clock: &Clock, newcomers: bool) -> Result<Self, TlsError> {
        let authority = certificate::anchor(identity.authority())
            .ok_or(rustls::Error::InvalidCertificate(CertificateError::BadEncoding))?;
        Ok(Self { authority, cluster: identity.cluster(), clock: clock.clone(), newcomers })
    }

    fn judge(&self, certificate: &CertificateDer<'_>, usage: KeyUsage) -> Result<Member, rustls::Error> {
        let now_s = self.clock.now_s();
        certificate::judge(certificate, &self.authority, self.cluster, now_s, usage)
            .map_err(|fault| refuse(&fault, now_s))
    }
}

/// Judges a certificate again, after the handshake, to know who it is.
pub(in crate::links) fn member(
    identity: &Identity,
    certificate: &CertificateDer<'_>,
    clock: &Clock,
) -> Result<Member, CertificateFault> {
    let authority = certificate::anchor(identity.authority())
        .ok_or_else(|| CertificateFault::Unknown("our own authority's certificate cannot be read".to_owned()))?;
    certificate::judge(certificate, &authority, identity.cluster(), clock.now_s(), KeyUsage::client_auth())
}

/// Who a link belongs to. Its certificate was valid in the handshake; whether it still is, the link knows.
pub(in crate::links) fn member_of_link(
    identity: &Identity,
    certificate: &CertificateDer<'_>,
) -> Result<Member, CertificateFault> {
    let valid_from_s = certificate::valid_from(certificate).unwrap_or_default();
    member(identity, certificate, &Clock::from_fn(move || valid_from_s))
}

impl ServerCertVerifier for MemberVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let member = self.judge(end_entity, KeyUsage::server_auth())?;
        let is_dialled = server_name.to_str() == names::replica_name(member.cluster, member.replica);
        if is_dialled {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::Error::InvalidCertificate(CertificateError::NotValidForName))
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &SIGNATURES)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SIGNATURES.supported_schemes()
    }
}

impl ClientCertVerifier for MemberVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        // a newcomer has no certificate yet: the signature of the handshake proves its key, the token the rest
        if authority::is_newcomer(end_entity, self.cluster) {
            let refused = rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure);
            return if self.newcomers { Ok(ClientCertVerified::assertion()) } else { Err(refused) };
        }
        self.judge(end_entity, KeyUsage::client_auth()).map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &SIGNATURES)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SIGNATURES.supported_schemes()
    }
}

/// Judges a member of a cluster whose authority is known by its pin only: it is shown behind the member's certificate.
#[derive(Debug)]
struct PinVerifier {
    pin: [u8; 32],
    cluster: ClusterId,
    clock: Clock,
}

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let is_pinned = |shown: &&CertificateDer<'_>| {
            certificate::key_of(shown).is_some_and(|key| certificate::pin(key) == self.pin)
        };
        let now_s = self.clock.now_s();
        let authority = intermediates
            .iter()
            .find(is_pinned)
            .and_then(certificate::anchor)
            .ok_or_else(|| refuse(&CertificateFault::OtherAuthority, now_s))?;
        certificate::judge(end_entity, &authority, self.cluster, now_s, KeyUsage::server_auth())
            .map(|_| ServerCertVerified::assertion())
            .map_err(|fault| refuse(&fault, now_s))
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &SIGNATURES)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SIGNATURES.supported_schemes()
    }
}

fn no_tls12() -> rustls::Error {
    rustls::Error::PeerIncompatible(PeerIncompatible::Tls13RequiredForQuic)
}

/// The fault as the library's error, chosen so that its alert tells the other side the kind ([`super::super::refusal`]).
fn refuse(fault: &CertificateFault, now_s: u64) -> rustls::Error {
    tracing::info!(%fault, "a certificate is refused");
    let time = UnixTime::since_unix_epoch(Duration::from_secs(now_s));
    let moment = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    rustls::Error::InvalidCertificate(match fault {
        CertificateFault::Expired(ago_s) => {
            CertificateError::ExpiredContext { time, not_after: moment(now_s.saturating_sub(*ago_s)) }
        }
        CertificateFault::NotYetValid(in_s) => {
            CertificateError::NotValidYetContext { time, not_before: moment(now_s.saturating_add(*in_s)) }
        }
        CertificateFault::Foreign { .. } | CertificateFault::OtherAuthority => CertificateError::UnknownIssuer,
        CertificateFault::Newcomer => CertificateError::NotValidForName,
        CertificateFault::Unknown(_) => CertificateError::BadEncoding,
    })
}

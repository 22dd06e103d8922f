//! Certificates: made by the authority, judged by everyone. `docs/formats/mesh.md`, certificates.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyUsagePurpose, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use types::{ClusterId, ReplicaId};
use webpki::{EndEntityCert, KeyUsage};

use super::keypair::{Key, PublicKey, random};
use super::{IdentityError, der, names};

/// Certificates are valid from so long before they are made, in seconds: clocks differ. One day.
const BACKDATE_S: u64 = 24 * 60 * 60;
/// How long the authority's own certificate says that it is valid, in seconds: 30 years. Nothing depends on it: the
/// authority is trusted for its key.
const AUTHORITY_LIFETIME_S: u64 = 30 * 365 * 24 * 60 * 60;
/// Put before the authority's key to make the pin.
const PIN_DOMAIN: &[u8] = b"entangle/authority-pin/v1\n";

/// What a valid certificate of a node says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::links) struct Member {
    pub(in crate::links) cluster: ClusterId,
    pub(in crate::links) replica: ReplicaId,
    pub(in crate::links) name: String,
    pub(in crate::links) key: PublicKey,
    pub(in crate::links) valid_from_s: u64,
    pub(in crate::links) expires_s: u64,
}

/// Why a certificate does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::links) enum CertificateFault {
    #[error("the certificate expired {0} s ago")]
    Expired(u64),
    #[error("the certificate is valid only in {0} s: one of the clocks is wrong")]
    NotYetValid(u64),
    #[error("the certificate is of cluster {theirs}, this is cluster {ours}")]
    Foreign { theirs: ClusterId, ours: ClusterId },
    #[error("the certificate names this cluster, but was not signed by its authority")]
    OtherAuthority,
    #[error("a newcomer without a certificate, where only members are expected")]
    Newcomer,
    #[error("the certificate is none of a mesh that this build understands: {0}")]
    Unknown(String),
}

/// The hash by which newcomers know an authority.
pub(super) fn pin(key: PublicKey) -> [u8; 32] {
    Sha256::new().chain_update(PIN_DOMAIN).chain_update(key.0).finalize().into()
}

/// The key in a certificate.
pub(in crate::links) fn key_of(certificate: &CertificateDer<'_>) -> Option<PublicKey> {
    PublicKey::from_spki(&EndEntityCert::try_from(certificate).ok()?.subject_public_key_info())
}

/// What a certificate claims about its owner; nothing is verified.
pub(super) fn claims(certificate: &CertificateDer<'_>) -> Option<names::Subject> {
    names::subject(EndEntityCert::try_from(certificate).ok()?.valid_dns_names())
}

/// Judges the certificate of a node: signed by `authority`, of `cluster`, valid at `now_s`.
pub(in crate::links) fn judge(
    certificate: &CertificateDer<'_>,
    authority: &TrustAnchor<'_>,
    cluster: ClusterId,
    now_s: u64,
    usage: KeyUsage,
) -> Result<Member, CertificateFault> {
    let unknown = |what: &str| CertificateFault::Unknown(what.to_owned());
    let entity = EndEntityCert::try_from(certificate).map_err(|error| CertificateFault::Unknown(error.to_string()))?;
    let (replica, name) = match names::subject(entity.valid_dns_names()) {
        Some(names::Subject::Node { cluster: theirs, .. } | names::Subject::Newcomer { cluster: theirs })
            if theirs != cluster =>
        {
            return Err(CertificateFault::Foreign { theirs, ours: cluster });
        }
        Some(names::Subject::Node { replica, name, .. }) => (replica, name),
        Some(names::Subject::Newcomer { .. }) => return Err(CertificateFault::Newcomer),
        None => return Err(unknown("its names are not those of a node")),
    };
    let (valid_from_s, expires_s) = der::validity(certificate).ok_or_else(|| unknown("its validity cannot be read"))?;
    let key =
        PublicKey::from_spki(&entity.subject_public_key_info()).ok_or_else(|| unknown("its key is not Ed25519"))?;
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now_s));
    let algorithms = &[webpki::aws_lc_rs::ED25519];
    match entity.verify_for_usage(algorithms, core::slice::from_ref(authority), &[], now, usage, None, None) {
        Ok(_) => Ok(Member { cluster, replica, name, key, valid_from_s, expires_s }),
        Err(webpki::Error::CertExpired { .. }) => Err(CertificateFault::Expired(now_s.saturating_sub(expires_s))),
        Err(webpki::Error::CertNotValidYet { .. }) => {
            Err(CertificateFault::NotYetValid(valid_from_s.saturating_sub(now_s)))
        }
        Err(webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey) => {
            Err(CertificateFault::OtherAuthority)
        }
        Err(other) => Err(CertificateFault::Unknown(other.to_string())),
    }
}

/// From when on a certificate is valid.
pub(super) fn valid_from(certificate: &CertificateDer<'_>) -> Option<u64> {
    der::validity(certificate).map(|(valid_from_s, _)| valid_from_s)
}

/// The cluster that an authority's certificate names.
pub(super) fn authority_cluster(certificate: &CertificateDer<'_>) -> Option<ClusterId> {
    names::authority_cluster(EndEntityCert::try_from(certificate).ok()?.valid_dns_names())
}

/// Reads all that we read of a certificate before it is verified: for fuzzing.
pub(in crate::links) fn read_certificate(bytes: &[u8]) {
    let certificate = CertificateDer::from(bytes);
    let _ = (key_of(&certificate), claims(&certificate), authority_cluster(&certificate), der::validity(bytes));
    if let Some(authority) = anchor(&certificate) {
        let _ = judge(&certificate, &authority, ClusterId::default(), 0, KeyUsage::client_auth());
    }
}

/// The authority's certificate as something to trust.
pub(super) fn anchor(certificate: &CertificateDer<'_>) -> Option<TrustAnchor<'static>> {
    webpki::anchor_from_trusted_cert(certificate).ok().map(|anchor| anchor.to_owned())
}

/// The authority's certificate, signed by itself.
pub(super) fn sign_authority(
    key: &Key,
    cluster: ClusterId,
    now_s: u64,
) -> Result<CertificateDer<'static>, IdentityError> {
    let mut params = authority_params(cluster);
    (params.not_before, params.not_after) = period(now_s, AUTHORITY_LIFETIME_S)?;
    params.serial_number = Some(serial());
    Ok(params.self_signed(key).map_err(unusable)?.der().clone())
}

/// The certificate of a node.
pub(super) fn sign_node(
    authority: &Key,
    subject: PublicKey,
    (cluster, replica, name): (ClusterId, ReplicaId, &str),
    now_s: u64,
    lifetime_s: u64,
) -> Result<CertificateDer<'static>, IdentityError> {
    if !names::is_name(name) {
        return Err(IdentityError::Unusable(format!(
            "`{name}` cannot be a node's name: it has 1 to 63 lower-case letters, digits and hyphens"
        )));
    }
    let alternative = vec![names::replica_name(cluster, replica), names::node_name(cluster, name)];
    let mut params = CertificateParams::new(alternative).map_err(unusable)?;
    params.distinguished_name = common_name(name);
    (params.not_before, params.not_after) = period(now_s, lifetime_s)?;
    params.serial_number = Some(serial());
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let issuer = Issuer::new(authority_params(cluster), authority);
    Ok(params.signed_by(&subject, &issuer).map_err(unusable)?.der().clone())
}

/// What a newcomer shows in place of a certificate: its key, signed by itself.
pub(super) fn sign_newcomer(
    key: &Key,
    cluster: ClusterId,
    now_s: u64,
) -> Result<CertificateDer<'static>, IdentityError> {
    let mut params = CertificateParams::new(vec![names::newcomer_name(cluster)]).map_err(unusable)?;
    params.distinguished_name = common_name("newcomer");
    (params.not_before, params.not_after) = period(now_s, BACKDATE_S)?;
    params.serial_number = Some(serial());
    Ok(params.self_signed(key).map_err(unusable)?.der().clone())
}

/// What makes an authority's certificate, and the issuer of nodes' certificates: the same, so that they chain.
fn authority_params(cluster: ClusterId) -> CertificateParams {
    let name = SanType::DnsName(names::authority_name(cluster).try_into().expect("hex digits and dots are ASCII"));
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![name];
    params.distinguished_name = common_name(&format!("entangle cluster {cluster}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// 16 random bytes below 2^127: a positive number (RFC 5280, section 4.1.2.2), and never zero.
fn serial() -> SerialNumber {
    let mut bytes = random::<16>();
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    SerialNumber::from_slice(&bytes)
}

fn period(now_s: u64, lifetime_s: u64) -> Result<(OffsetDateTime, OffsetDateTime), IdentityError> {
    let date = |seconds: u64| {
        i64::try_from(seconds)
            .ok()
            .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
            .ok_or_else(|| IdentityError::Unusable("the clock shows a time that a certificate cannot have".to_owned()))
    };
    Ok((date(now_s.saturating_sub(BACKDATE_S))?, date(now_s.saturating_add(lifetime_s))?))
}

#[allow(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn unusable(error: rcgen::Error) -> IdentityError {
    IdentityError::Unusable(format!("a certificate cannot be made: {error}"))
}

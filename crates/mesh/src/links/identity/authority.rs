//! The cluster's authority: the key that every certificate of the cluster stands on.

use core::fmt;
use std::path::Path;

use aws_lc_rs::hmac;
use rustls_pki_types::CertificateDer;
use types::limits::MESH_ADDRESSES_MAX;
use types::{ClusterId, ReplicaId};
use zeroize::Zeroizing;

use super::certificate::{self, Member};
use super::keypair::{Key, PublicKey};
use super::names::Subject;
use super::node::Identity;
use super::token::{Ticket, Token, check_address, proof_key};
use super::{Grant, IdentityError, files};
use crate::links::config::Clock;
use crate::links::refusal::RefusalKind;

/// File of the authority's key.
const KEY_FILE: &str = "authority.key";
/// First line of that file.
const KEY_HEADER: &str = "entangle-authority-key-v1";
/// File of the authority's certificate.
const CERTIFICATE_FILE: &str = "authority.crt";
/// How long a node's certificate lives, in seconds: 90 days.
const LIFETIME_S: u64 = 90 * 24 * 60 * 60;

/// The cluster's certificate authority: a key and a certificate. Every node of the cluster may keep it; it lies beside the
/// node's keys, never in the data folder.
pub struct Authority {
    cluster: ClusterId,
    key: Key,
    certificate: CertificateDer<'static>,
    proofs: hmac::Key,
    lifetime_s: u64,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority(of cluster {})", self.cluster)
    }
}

impl Authority {
    /// Makes the authority of a new cluster in this folder (made with mode 0700 if it is missing; the key has mode 0600).
    ///
    /// # Errors
    /// When there is one already, or the disk says no.
    pub fn init(folder: &Path, cluster: ClusterId, clock: &Clock) -> Result<Self, IdentityError> {
        files::make_folder(folder)?;
        let (key_path, certificate_path) = (folder.join(KEY_FILE), folder.join(CERTIFICATE_FILE));
        // the certificate is written last: a key alone is an initialisation that was broken off, and is completed
        if certificate_path.exists() {
            return Err(IdentityError::Exists { path: certificate_path });
        }
        let key = match files::read_key(&key_path, KEY_HEADER)? {
            Some(seed) => Key::from_seed(seed),
            None => {
                let key = Key::generate();
                files::write_key(&key_path, KEY_HEADER, key.seed())?;
                key
            }
        };
        let certificate = certificate::sign_authority(&key, cluster, clock.now_s())?;
        files::write(&certificate_path, &files::pem(&[&certificate]))?;
        Ok(Self::new(cluster, key, certificate))
    }

    /// Opens the authority of this folder.
    ///
    /// # Errors
    /// When there is none, or others may read it.
    pub fn open(folder: &Path) -> Result<Self, IdentityError> {
        let (key_path, certificate_path) = (folder.join(KEY_FILE), folder.join(CERTIFICATE_FILE));
        let missing = |path: &Path| files::wrong(path, "is missing: this node does not keep the cluster's authority");
        let seed = files::read_key(&key_path, KEY_HEADER)?.ok_or_else(|| missing(&key_path))?;
        let [certificate] = files::read_pem::<1>(&certificate_path)?.ok_or_else(|| missing(&certificate_path))?;
        let key = Key::from_seed(seed);
        let cluster = certificate::authority_cluster(&certificate)
            .filter(|_| certificate::key_of(&certificate) == Some(key.public()))
            .ok_or_else(|| files::wrong(&certificate_path, "does not belong to the key beside it; restore both"))?;
        Ok(Self::new(cluster, key, certificate))
    }

    /// Keeps the authority of this identity, of which another node told the key, in a folder.
    ///
    /// # Errors
    /// When the key is not that of the identity's authority, or the disk says no.
    pub fn adopt(folder: &Path, seed: &Zeroizing<[u8; 32]>, of: &Identity) -> Result<Self, IdentityError> {
        let (key, certificate) = (Key::from_seed(seed.clone()), of.authority().clone());
        if certificate::key_of(&certificate) != Some(key.public()) {
            return Err(IdentityError::Unusable("the key is not that of the cluster's authority".to_owned()));
        }
        files::make_folder(folder)?;
        files::write_key(&folder.join(KEY_FILE), KEY_HEADER, key.seed())?;
        files::write(&folder.join(CERTIFICATE_FILE), &files::pem(&[&certificate]))?;
        Ok(Self::new(of.cluster(), key, certificate))
    }

    fn new(cluster: ClusterId, key: Key, certificate: CertificateDer<'static>) -> Self {
        let proofs = proof_key(key.seed());
        Self { cluster, key, certificate, proofs, lifetime_s: LIFETIME_S }
    }

    /// The key, to be told to a node that joins: it then keeps the authority, too.
    #[must_use]
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(*self.key.seed())
    }

    /// Makes certificates live for this many seconds, instead of 90 days.
    #[must_use]
    pub fn with_lifetime(mut self, lifetime_s: u64) -> Self {
        self.lifetime_s = lifetime_s;
        self
    }

    /// The cluster.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// The pin by which newcomers know the authority: a hash of its key.
    #[must_use]
    pub fn pin(&self) -> [u8; 32] {
        certificate::pin(self.key.public())
    }

    /// Makes a join token. Whoever keeps the authority knows it for one; nothing is remembered of it until it is used.
    ///
    /// # Errors
    /// When an address is unusable.
    pub fn issue_token(&self, grant: &Grant, clock: &Clock) -> Result<Token, IdentityError> {
        if !(1..=MESH_ADDRESSES_MAX).contains(&grant.addresses.len()) {
            return Err(IdentityError::Unusable(format!("a join token has 1 to {MESH_ADDRESSES_MAX} addresses")));
        }
        grant.addresses.iter().try_for_each(|address| check_address(address))?;
        let ticket = Ticket::issue(&self.proofs, self.cluster, clock.now_s().saturating_add(grant.valid_s));
        Ok(Token { cluster: self.cluster, pin: self.pin(), ticket, addresses: grant.addresses.clone() })
    }

    /// Gives an identity without a token: for the first node of a cluster, which made the authority.
    ///
    /// # Errors
    /// When the name is unusable.
    pub fn issue_identity(&self, replica: ReplicaId, name: &str, clock: &Clock) -> Result<Identity, IdentityError> {
        let key = Key::generate();
        let certificate = self.sign(key.public(), replica, name, clock.now_s())?;
        Identity::new(key, certificate, self.certificate.clone())
    }

    fn sign(
        &self,
        key: PublicKey,
        replica: ReplicaId,
        name: &str,
        now_s: u64,
    ) -> Result<CertificateDer<'static>, IdentityError> {
        certificate::sign_node(&self.key, key, (self.cluster, replica, name), now_s, self.lifetime_s)
    }

    /// A new certificate for a member whose old one was valid a moment ago: same key, same names.
    pub(in crate::links) fn renew(
        &self,
        member: &Member,
        now_s: u64,
    ) -> Result<CertificateDer<'static>, IdentityError> {
        self.sign(member.key, member.replica, &member.name, now_s)
    }

    /// Whether who shows this ticket may ask to be let in: gives its name, and when it expires.
    pub(in crate::links) fn know(
        &self,
        ticket: &Ticket,
        name: &str,
        now_s: u64,
    ) -> Result<([u8; 32], u64), (RefusalKind, String)> {
        let refuse = |kind: RefusalKind| Err((kind, kind.to_string()));
        if !super::names::is_name(name) {
            return Err((RefusalKind::Other, format!("`{name}` cannot be a node's name")));
        }
        if !ticket.is_of(&self.proofs, self.cluster) {
            return refuse(RefusalKind::TokenUnknown);
        }
        if now_s > ticket.expires_s() {
            return refuse(RefusalKind::TokenExpired);
        }
        Ok((ticket.name(), ticket.expires_s()))
    }

    /// The certificate of a newcomer that was let in.
    pub(in crate::links) fn admit(
        &self,
        key: PublicKey,
        replica: ReplicaId,
        name: &str,
        now_s: u64,
    ) -> Result<CertificateDer<'static>, (RefusalKind, String)> {
        self.sign(key, replica, name, now_s).map_err(|error| {
            tracing::error!(%error, "a certificate cannot be made");
            (RefusalKind::Other, "the authority cannot make a certificate; see the node's log".to_owned())
        })
    }
}

/// Whether what a certificate claims is the wish to join this cluster.
pub(in crate::links) fn is_newcomer(certificate: &CertificateDer<'_>, of: ClusterId) -> bool {
    certificate::claims(certificate) == Some(Subject::Newcomer { cluster: of })
}

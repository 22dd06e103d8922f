//! A node's own identity: its key, its certificate, and its authority's certificate.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use types::{ClusterId, ReplicaId};
use webpki::KeyUsage;

use super::certificate::{self, Member};
use super::keypair::Key;
use super::{IdentityError, files};

/// File of the node's key.
const KEY_FILE: &str = "mesh.key";
/// First line of that file.
const KEY_HEADER: &str = "entangle-mesh-key-v1";
/// File of the node's certificate, with its authority's behind it.
const CERTIFICATE_FILE: &str = "mesh.crt";

/// A node's key and certificate, and the certificate of its cluster's authority. Clones share nothing that changes.
#[derive(Debug, Clone)]
pub struct Identity {
    key: Arc<Key>,
    certificate: CertificateDer<'static>,
    authority: CertificateDer<'static>,
    member: Member,
    folder: Option<PathBuf>,
}

impl Identity {
    /// Puts the parts together, if they fit.
    pub(super) fn new(
        key: Key,
        certificate: CertificateDer<'static>,
        authority: CertificateDer<'static>,
    ) -> Result<Self, IdentityError> {
        let member = read_own(&certificate, &authority)?;
        if member.key != key.public() {
            return Err(IdentityError::Unusable("the certificate does not belong to the key".to_owned()));
        }
        Ok(Self { key: Arc::new(key), certificate, authority, member, folder: None })
    }

    /// Reads the identity of a folder. An expired one opens too: it is the peers that refuse it.
    ///
    /// # Errors
    /// When there is none, it does not fit together, or others may read the key.
    pub fn open(folder: &Path) -> Result<Self, IdentityError> {
        let (key_path, certificate_path) = (folder.join(KEY_FILE), folder.join(CERTIFICATE_FILE));
        let missing = |path: &Path| files::wrong(path, "is missing: this node has not joined a cluster");
        let seed = files::read_key(&key_path, KEY_HEADER)?.ok_or_else(|| missing(&key_path))?;
        let [certificate, authority] =
            files::read_pem::<2>(&certificate_path)?.ok_or_else(|| missing(&certificate_path))?;
        let mut identity = Self::new(Key::from_seed(seed), certificate, authority)
            .map_err(|error| files::wrong(&certificate_path, format!("cannot be used: {error}")))?;
        identity.folder = Some(folder.to_owned());
        Ok(identity)
    }

    /// Writes the identity into a folder (mode 0700), durably; the key has mode 0600. From then on renewals are written
    /// there too.
    ///
    /// # Errors
    /// When a different key is there already, or the disk says no.
    pub fn save(&mut self, folder: &Path) -> Result<(), IdentityError> {
        files::make_folder(folder)?;
        let key_path = folder.join(KEY_FILE);
        match files::read_key(&key_path, KEY_HEADER)? {
            Some(seed) if *seed != *self.key.seed() => return Err(IdentityError::Exists { path: key_path }),
            Some(_) => {}
            None => files::write_key(&key_path, KEY_HEADER, self.key.seed())?,
        }
        self.write_certificate(folder)?;
        self.folder = Some(folder.to_owned());
        Ok(())
    }

    fn write_certificate(&self, folder: &Path) -> Result<(), IdentityError> {
        files::write(&folder.join(CERTIFICATE_FILE), &files::pem(&[&self.certificate, &self.authority]))
    }

    /// The same identity with a renewed certificate, written down where it was saved.
    pub(in crate::links) fn renewed(&self, certificate: CertificateDer<'static>) -> Result<Self, IdentityError> {
        let member = read_own(&certificate, &self.authority)?;
        let same =
            (member.key, member.replica, &member.name) == (self.member.key, self.member.replica, &self.member.name);
        if !same {
            return Err(IdentityError::Unusable("the renewed certificate is of another node".to_owned()));
        }
        let renewed = Self { certificate, member, ..self.clone() };
        if let Some(folder) = &renewed.folder {
            renewed.write_certificate(folder)?;
        }
        Ok(renewed)
    }

    /// The cluster.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.member.cluster
    }

    /// The replica.
    #[must_use]
    pub fn replica(&self) -> ReplicaId {
        self.member.replica
    }

    /// The node's name: 1 to 63 lower-case letters, digits and hyphens.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.member.name
    }

    /// From when on the certificate is valid, in seconds since the Unix epoch.
    #[must_use]
    pub fn valid_from_s(&self) -> u64 {
        self.member.valid_from_s
    }

    /// When the certificate expires, in seconds since the Unix epoch.
    #[must_use]
    pub fn expires_s(&self) -> u64 {
        self.member.expires_s
    }

    /// Whether the last third of the certificate's life has begun.
    pub(in crate::links) fn is_due(&self, now_s: u64) -> bool {
        let life_s = self.expires_s().saturating_sub(self.valid_from_s());
        now_s >= self.expires_s().saturating_sub(life_s / 3)
    }

    pub(in crate::links) fn member(&self) -> &Member {
        &self.member
    }

    /// The certificate, and its authority's behind it: what is shown in a handshake.
    pub(in crate::links) fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.clone(), self.authority.clone()]
    }

    pub(in crate::links) fn authority(&self) -> &CertificateDer<'static> {
        &self.authority
    }

    pub(in crate::links) fn key(&self) -> PrivateKeyDer<'static> {
        self.key.to_pkcs8()
    }
}

/// What a certificate of our own says, at a time when it is valid.
fn read_own(
    certificate: &CertificateDer<'static>,
    authority: &CertificateDer<'static>,
) -> Result<Member, IdentityError> {
    let wrong = |reason: String| IdentityError::Unusable(reason);
    let anchor =
        certificate::anchor(authority).ok_or_else(|| wrong("the authority's certificate cannot be read".to_owned()))?;
    let cluster = certificate::authority_cluster(authority)
        .ok_or_else(|| wrong("the authority's certificate names no cluster".to_owned()))?;
    let valid_from_s = certificate::valid_from(certificate)
        .ok_or_else(|| wrong("the certificate's validity cannot be read".to_owned()))?;
    certificate::judge(certificate, &anchor, cluster, valid_from_s, KeyUsage::client_auth())
        .map_err(|fault| wrong(fault.to_string()))
}

//! Sealing of access key secrets: AES-256-GCM under the cluster key, bound to the access key id.

use core::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

use super::random;

/// Version byte of a sealed secret.
const VERSION: u8 = 1;
/// Put before the access key id in the associated data.
const DOMAIN: &[u8] = b"entangle/sealed-secret/v1\n";

/// A secret in memory: wiped when dropped, never shown.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Wraps a secret.
    #[must_use]
    pub fn new(secret: String) -> Self {
        Self(Zeroizing::new(secret))
    }

    /// The secret itself, for computing signatures.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Why a sealed secret does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnsealError {
    /// Not a sealed secret of a version that this build knows.
    #[error("the sealed secret is of an unknown version")]
    Version,
    /// Sealed under another key, for another access key, or changed since.
    #[error("the sealed secret does not open under this cluster key")]
    Opaque,
}

/// The key that all nodes of a cluster share to keep secrets of access keys.
pub struct ClusterKey {
    key: LessSafeKey,
}

impl ClusterKey {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, key).expect("an AES-256 key has 32 bytes");
        Self { key: LessSafeKey::new(key) }
    }

    /// Seals the secret of `access_key`: version, nonce, ciphertext and tag.
    #[must_use]
    pub fn seal(&self, access_key: &str, secret: &Secret) -> Vec<u8> {
        let nonce = random::<NONCE_LEN>();
        let mut sealed = Zeroizing::new(secret.expose().as_bytes().to_vec());
        let tag = self
            .key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(context(access_key)),
                &mut sealed,
            )
            .expect("a secret is far shorter than what AES-GCM can seal");
        let mut out = Vec::with_capacity(1 + NONCE_LEN + sealed.len() + tag.as_ref().len());
        out.push(VERSION);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(&sealed);
        out.extend_from_slice(tag.as_ref());
        out
    }

    /// Opens what [`ClusterKey::seal`] made for the same access key.
    pub fn open(&self, access_key: &str, sealed: &[u8]) -> Result<Secret, UnsealError> {
        let (&version, rest) = sealed.split_first().ok_or(UnsealError::Version)?;
        if version != VERSION {
            return Err(UnsealError::Version);
        }
        let (nonce, rest) = rest.split_first_chunk::<NONCE_LEN>().ok_or(UnsealError::Opaque)?;
        let mut buffer = Zeroizing::new(rest.to_vec());
        let opened = self
            .key
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(context(access_key)), &mut buffer)
            .map_err(|_| UnsealError::Opaque)?;
        let text = core::str::from_utf8(opened).map_err(|_| UnsealError::Opaque)?;
        Ok(Secret::new(text.to_owned()))
    }
}

fn context(access_key: &str) -> Vec<u8> {
    [DOMAIN, access_key.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_only_for_its_access_key_and_only_unchanged() {
        let key = ClusterKey::new(&[7; 32]);
        let sealed = key.seal("AKID", &Secret::new("hush".to_owned()));
        assert_eq!(key.open("AKID", &sealed).expect("opens").expose(), "hush");
        assert_eq!(key.open("OTHER", &sealed).err(), Some(UnsealError::Opaque));
        assert_eq!(ClusterKey::new(&[8; 32]).open("AKID", &sealed).err(), Some(UnsealError::Opaque));
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(key.open("AKID", &changed).is_err(), "byte {at}");
        }
        assert!(key.open("AKID", &[]).is_err());
        assert_eq!(format!("{:?}", Secret::new("hush".to_owned())), "Secret(..)");
    }
}

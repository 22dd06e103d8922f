//! Signing behind a trait: the cores never hold a private key.

/// Signs with the node's Ed25519 key (RFC 8032). Implemented in `node`; deterministic ones serve tests.
pub trait Signer: Send + Sync {
    /// The Ed25519 public key.
    fn public_key(&self) -> [u8; 32];
    /// The signature over `message`.
    fn sign(&self, message: &[u8]) -> [u8; 64];
}

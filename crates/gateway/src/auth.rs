//! Secrets of access keys for s3s, kept unsealed for a moment.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use node::Node;
use parking_lot::RwLock;
use s3s::auth::{S3Auth, SecretKey};
use s3s::{S3Result, s3_error};

use crate::error;
use crate::limits::SECRETS_CACHED_MAX;

/// How long a secret is kept: a key that another node removes stops working here within this time. One that
/// is removed here stops at once ([`Secrets::forget`]).
const KEPT: Duration = Duration::from_secs(1);

/// Unsealed secrets.
#[derive(Clone)]
pub(crate) struct Secrets {
    node: Node,
    kept: Arc<RwLock<HashMap<String, (SecretKey, Instant)>>>,
}

impl Secrets {
    pub(crate) fn new(node: Node) -> Self {
        Self { node, kept: Arc::default() }
    }

    /// Drops what is kept of a key, after it was changed.
    pub(crate) fn forget(&self, access_key: &str) {
        self.kept.write().remove(access_key);
    }

    async fn secret(&self, access_key: &str) -> S3Result<SecretKey> {
        let now = Instant::now();
        if let Some((secret, until)) = self.kept.read().get(access_key)
            && now < *until
        {
            return Ok(secret.clone());
        }
        let find = || self.node.secret(access_key).map_err(|error| error::read(&error));
        let mut found = find()?;
        if found.is_none() {
            // It may have been made at another node a moment ago.
            self.node.catch_up_shared().await.map_err(|error| error::write(&error))?;
            found = find()?;
        }
        let Some(found) = found else {
            self.forget(access_key);
            return Err(s3_error!(InvalidAccessKeyId));
        };
        let secret = SecretKey::from(found.expose());
        let mut kept = self.kept.write();
        if kept.len() >= SECRETS_CACHED_MAX {
            kept.clear();
        }
        kept.insert(access_key.to_owned(), (secret.clone(), now + KEPT));
        Ok(secret)
    }
}

#[async_trait::async_trait]
impl S3Auth for Secrets {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        self.secret(access_key).await
    }
}

//! HTTPS: certificate and key from PEM files, read again when they change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;

use super::BindError;
use crate::config::TlsConfig;
use crate::limits::TLS_RELOAD_INTERVAL;

/// What tells that a file was changed.
type Stamp = (Option<SystemTime>, u64);

/// The TLS side of a port. Connections keep what they began with.
#[derive(Clone)]
pub(super) struct Tls {
    files: Arc<TlsConfig>,
    current: Arc<ArcSwap<ServerConfig>>,
    stamps: [Stamp; 2],
}

impl Tls {
    pub(super) fn load(files: &TlsConfig) -> Result<Self, BindError> {
        let stamps = stamps(files);
        let config = server_config(files).map_err(|(path, reason)| BindError::Tls { path, reason })?;
        Ok(Self { files: Arc::new(files.clone()), current: Arc::new(ArcSwap::from_pointee(config)), stamps })
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.current.load_full())
    }

    /// Watches the files for as long as it is polled. New files that cannot be used leave the old ones in
    /// place; they are tried again when they change again.
    pub(super) async fn reload(mut self) {
        loop {
            tokio::time::sleep(TLS_RELOAD_INTERVAL).await;
            self.check();
        }
    }

    fn check(&mut self) {
        let found = stamps(&self.files);
        if found == self.stamps {
            return;
        }
        self.stamps = found;
        match server_config(&self.files) {
            Ok(config) => {
                self.current.store(Arc::new(config));
                tracing::info!(cert = %self.files.cert.display(), "the certificate was read again");
            }
            Err((path, reason)) => {
                tracing::error!(path = %path.display(), %reason, "the new certificate or key cannot be used; the old one stays");
            }
        }
    }
}

fn stamps(files: &TlsConfig) -> [Stamp; 2] {
    [&files.cert, &files.key].map(|path| match std::fs::metadata(path) {
        Ok(found) => (found.modified().ok(), found.len()),
        Err(_) => (None, 0),
    })
}

fn server_config(files: &TlsConfig) -> Result<ServerConfig, (PathBuf, String)> {
    let wrong = |path: &Path, reason: &dyn std::fmt::Display| (path.to_owned(), reason.to_string());
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&files.cert)
        .and_then(Iterator::collect)
        .map_err(|error| wrong(&files.cert, &error))?;
    if chain.is_empty() {
        return Err(wrong(&files.cert, &"it holds no certificate"));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| wrong(&files.key, &error))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(&files.cert, &error))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| wrong(&files.key, &error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn write_pair(folder: &Path, name: &str) -> TlsConfig {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        let files = TlsConfig { cert: folder.join("cert.pem"), key: folder.join("key.pem") };
        std::fs::write(&files.cert, made.cert.pem()).unwrap();
        std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        files
    }

    #[test]
    fn changed_files_are_read_again_and_bad_ones_are_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let files = write_pair(folder.path(), "one.example");
        let mut tls = Tls::load(&files).unwrap();
        let first = tls.current.load_full();
        tls.check();
        assert!(Arc::ptr_eq(&first, &tls.current.load_full()), "nothing changed");
        std::fs::write(&files.cert, "no certificate at all").unwrap();
        tls.check();
        assert!(Arc::ptr_eq(&first, &tls.current.load_full()), "the old one stays");
        write_pair(folder.path(), "two.longer.example");
        tls.check();
        assert!(!Arc::ptr_eq(&first, &tls.current.load_full()), "the new one is taken");
    }

    #[test]
    fn unusable_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let files = write_pair(folder.path(), "one.example");
        std::fs::write(&files.key, "").unwrap();
        assert!(matches!(Tls::load(&files), Err(BindError::Tls { path, .. }) if path == files.key));
        std::fs::remove_file(&files.cert).unwrap();
        assert!(matches!(Tls::load(&files), Err(BindError::Tls { path, .. }) if path == files.cert));
    }
}

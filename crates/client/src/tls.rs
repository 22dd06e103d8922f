//! Which certificates the client trusts.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::Error;

/// A configuration that trusts the certificates of `ca`, or the system's when none is named.
pub(crate) fn client_config(ca: Option<&Path>) -> Result<Arc<ClientConfig>, Error> {
    let roots = match ca {
        Some(path) => roots_of_file(path)?,
        None => system_roots()?,
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Certificates { path: PathBuf::new(), reason: error.to_string() })?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn roots_of_file(path: &Path) -> Result<RootCertStore, Error> {
    let error = |reason: String| Error::Certificates { path: path.to_owned(), reason };
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path).map_err(|source| error(source.to_string()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|source| error(source.to_string()))?;
        roots.add(certificate).map_err(|source| error(source.to_string()))?;
    }
    if roots.is_empty() {
        return Err(error("it holds no certificate in PEM form".to_owned()));
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, Error> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        return Err(Error::Certificates {
            path: PathBuf::from("the system's certificate store"),
            reason: "it holds no certificate".to_owned(),
        });
    }
    Ok(roots)
}

//! Files of keys and certificates: written durably, keys readable by their owner only. `docs/formats/mesh.md`, files.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use zeroize::Zeroizing;

use super::IdentityError;

/// Line length of PEM (RFC 7468).
const PEM_LINE_LEN: usize = 64;
/// Bytes of the largest file that is read.
const FILE_LEN_MAX: u64 = 64 * 1024;

pub(super) fn io(path: &Path, source: std::io::Error) -> IdentityError {
    IdentityError::Io { path: path.to_owned(), source }
}

pub(super) fn wrong(path: &Path, reason: impl Into<String>) -> IdentityError {
    IdentityError::File { path: path.to_owned(), reason: reason.into() }
}

/// Makes a folder that only its owner can enter, if it is missing.
pub(super) fn make_folder(folder: &Path) -> Result<(), IdentityError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|source| io(folder, source))
}

/// Writes a file durably, in place of what was there.
pub(super) fn write(path: &Path, text: &str) -> Result<(), IdentityError> {
    let temporary = path.with_extension("new");
    let written = || {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_folder(path)
    };
    written().map_err(|source| io(path, source))
}

fn sync_folder(path: &Path) -> std::io::Result<()> {
    fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

/// Reads a text file of ours; `None` if it is not there.
pub(super) fn read(path: &Path) -> Result<Option<Zeroizing<String>>, IdentityError> {
    match fs::metadata(path) {
        Ok(found) if found.len() > FILE_LEN_MAX => return Err(wrong(path, "is far too long for what it should be")),
        Ok(_) => {}
        Err(missing) if missing.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(io(path, source)),
    }
    fs::read_to_string(path).map(|text| Some(Zeroizing::new(text))).map_err(|source| io(path, source))
}

/// Writes a key file: a line that names it, and a line of hex digits.
pub(super) fn write_key(path: &Path, header: &str, seed: &[u8; 32]) -> Result<(), IdentityError> {
    let digits = Zeroizing::new(hex::encode(seed));
    write(path, &Zeroizing::new(format!("{header}\n{}\n", digits.as_str())))
}

/// Reads a key file, and refuses one that others may read.
pub(super) fn read_key(path: &Path, header: &str) -> Result<Option<Zeroizing<[u8; 32]>>, IdentityError> {
    let Some(text) = read(path)? else { return Ok(None) };
    let mode = fs::metadata(path).map_err(|source| io(path, source))?.permissions().mode();
    if mode & 0o077 != 0 {
        let how = format!("may be read by others than its owner; run: chmod 600 '{}'", path.display());
        return Err(wrong(path, how));
    }
    let mut seed = Zeroizing::new([0; 32]);
    text.strip_prefix(header)
        .and_then(|rest| rest.strip_prefix('\n'))
        .and_then(|digits| hex::decode_to_slice(digits.trim_end(), seed.as_mut_slice()).ok())
        .ok_or_else(|| {
            wrong(path, format!("is not a key file of this version (`{header}`); restore it from a copy"))
        })?;
    Ok(Some(seed))
}

/// Certificates as PEM (RFC 7468), one after the other.
pub(super) fn pem(certificates: &[&CertificateDer<'_>]) -> String {
    let mut text = String::new();
    for certificate in certificates {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let encoded = STANDARD.encode(certificate);
        for line in encoded.as_bytes().chunks(PEM_LINE_LEN) {
            text.extend(line.iter().map(|byte| char::from(*byte)));
            text.push('\n');
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}

/// Reads exactly `N` certificates.
pub(super) fn read_pem<const N: usize>(path: &Path) -> Result<Option<[CertificateDer<'static>; N]>, IdentityError> {
    let Some(text) = read(path)? else { return Ok(None) };
    CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .ok()
        .and_then(|certificates| certificates.try_into().ok())
        .map(Some)
        .ok_or_else(|| wrong(path, format!("does not hold {N} certificates in PEM; restore it from a copy")))
}

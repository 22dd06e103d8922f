//! Checks what fjall keeps of its own files, where opening does not: the manifest of each table names the files
//! that are part of it and how they are to be read.

use std::fs;
use std::io;
use std::path::Path;

use xxhash_rust::xxh3::xxh3_128;

use super::StateError;

const TABLES: &str = "keyspaces";
/// Names the current manifest: its number (8), the XXH3 of its bytes (16), and the kind of that checksum (1); little
/// endian.
const CURRENT: &str = "current";
const CURRENT_LEN: usize = 25;

/// Compares the manifest of every table in a folder with the checksum that fjall keeps of it. Changes nothing; the
/// state may not be open.
pub fn check_manifests(path: impl AsRef<Path>) -> Result<(), StateError> {
    let folder = path.as_ref().join(TABLES);
    let entries = match fs::read_dir(&folder) {
        // No state yet.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|error| failed(&folder, &error))?,
    };
    for entry in entries {
        check(&entry.map_err(|error| failed(&folder, &error))?.path())?;
    }
    Ok(())
}

fn check(table: &Path) -> Result<(), StateError> {
    let damaged = |reason: &str| StateError::Damaged { folder: table.display().to_string(), reason: reason.to_owned() };
    let current = match fs::read(table.join(CURRENT)) {
        // Made and not yet filled when the process died: it is made again.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        current => current.map_err(|error| failed(table, &error))?,
    };
    let current: [u8; CURRENT_LEN] =
        current.try_into().map_err(|_| damaged("the file that names its manifest is malformed"))?;
    let [number @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, kind] = current;
    let mut checksum = [0; 16];
    checksum.copy_from_slice(&current[8..24]);
    if kind != 0 {
        return Err(damaged("its manifest has a checksum of an unknown kind"));
    }
    let manifest = fs::read(table.join(format!("v{}", u64::from_le_bytes(number))));
    let manifest = manifest.map_err(|error| damaged(&format!("its manifest cannot be read: {error}")))?;
    if xxh3_128(&manifest) == u128::from_le_bytes(checksum) {
        Ok(())
    } else {
        Err(damaged("its manifest does not check"))
    }
}

fn failed(path: &Path, error: &io::Error) -> StateError {
    StateError::Io { folder: path.display().to_string(), reason: error.to_string() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::state::{FjallOptions, FjallState};

    #[test]
    fn every_flip_in_a_manifest_is_found() {
        let folder = tempfile::tempdir().unwrap();
        check_manifests(folder.path()).unwrap();
        drop(FjallState::open(folder.path(), FjallOptions::default()).unwrap());
        check_manifests(folder.path()).unwrap();
        let table = folder.path().join(TABLES).join("1");
        let mut files: Vec<_> = fs::read_dir(&table).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.is_file());
        assert!(files.len() >= 2, "{files:?}");
        for path in files {
            let bytes = fs::read(&path).unwrap();
            for at in 0..bytes.len() {
                let mut flipped = bytes.clone();
                flipped[at] ^= 0x10;
                fs::write(&path, flipped).unwrap();
                assert!(check_manifests(folder.path()).is_err(), "byte {at} of {}", path.display());
            }
            fs::write(&path, bytes).unwrap();
        }
        check_manifests(folder.path()).unwrap();
    }
}

//! Making a vault's folders, and clearing away what a crash left in them.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::{VaultError, io_failed};

const VERSION_FILE: &str = "version";
const VERSION: &str = "entangle vault 1\n";

/// Makes the folder a vault, or checks that it is one, and removes chunks that were being written.
pub(super) fn prepare(folder: &Path) -> Result<(), VaultError> {
    let version = folder.join(VERSION_FILE);
    match check(folder) {
        Err(VaultError::Missing(_)) => return make(folder, &version).map_err(|error| io_failed(folder, &error)),
        checked => checked?,
    }
    for shard in 0..=u8::MAX {
        let shard = folder.join(format!("{shard:02x}"));
        sweep(&shard).map_err(|error| io_failed(&shard, &error))?;
    }
    Ok(())
}

/// Refuses a folder of another version, or of none.
pub(super) fn check(folder: &Path) -> Result<(), VaultError> {
    let version = folder.join(VERSION_FILE);
    let file = version.display().to_string();
    match fs::read(&version) {
        Ok(found) if found == VERSION.as_bytes() => Ok(()),
        Ok(found) => Err(VaultError::Version { file, found: String::from_utf8_lossy(&found).into_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(VaultError::Missing(file)),
        Err(error) => Err(io_failed(&version, &error)),
    }
}

/// Makes all folders first and the version last, so that a vault with a version is a whole one.
fn make(folder: &Path, version: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for shard in 0..=u8::MAX {
        fs::create_dir_all(folder.join(format!("{shard:02x}")))?;
    }
    sync(folder)?;
    if let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        sync(parent)?;
    }
    let making = version.with_extension("new");
    fs::write(&making, VERSION)?;
    File::open(&making)?.sync_all()?;
    fs::rename(&making, version)?;
    sync(folder)
}

/// Removes half-written chunks: names with `#` and a number behind it.
fn sweep(shard: &Path) -> io::Result<()> {
    for entry in fs::read_dir(shard)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_half_written = name
            .to_string_lossy()
            .rsplit_once('#')
            .is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()));
        if is_half_written {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

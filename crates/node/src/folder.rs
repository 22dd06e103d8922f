//! The data folder: its format file, its lock, and where things lie in it.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::error::StartError;

/// What the `format` file of this version holds.
pub const FORMAT: &str = "entangle-data-v1\n";

/// An opened data folder; the lock is held until it is dropped.
pub struct DataFolder {
    root: PathBuf,
    _lock: File,
}

impl DataFolder {
    /// Opens the folder, or makes it when `create` and it is new or empty. Tells whether it was made.
    pub fn open(root: &Path, create: bool) -> Result<(Self, bool), StartError> {
        let fresh = match fs::read_dir(root) {
            Ok(mut entries) => entries.next().is_none(),
            Err(missing) if missing.kind() == ErrorKind::NotFound => true,
            Err(source) => return Err(io(root, source)),
        };
        let format = root.join("format");
        if fresh && !create {
            return Err(io(&format, ErrorKind::NotFound.into()));
        }
        if fresh {
            fs::create_dir_all(root).map_err(|source| io(root, source))?;
        } else {
            check_format(root, &format)?;
        }
        let lock = lock(root)?;
        if fresh {
            for name in ["journal", "state", "ledger", "vault"] {
                let folder = root.join(name);
                fs::create_dir_all(&folder).map_err(|source| io(&folder, source))?;
            }
            write_durably(&format, FORMAT.as_bytes()).map_err(|source| io(&format, source))?;
        }
        Ok((Self { root: root.to_owned(), _lock: lock }, fresh))
    }

    /// The folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Segments of the journal.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.root.join("journal")
    }

    /// The stored state.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    /// The files of the log.
    #[must_use]
    pub fn ledger(&self) -> PathBuf {
        self.root.join("ledger")
    }

    /// Chunks of large bodies.
    #[must_use]
    pub fn vault(&self) -> PathBuf {
        self.root.join("vault")
    }
}

fn io(path: &Path, source: std::io::Error) -> StartError {
    StartError::Io { path: path.to_owned(), source }
}

fn check_format(root: &Path, format: &Path) -> Result<(), StartError> {
    match fs::read_to_string(format) {
        Ok(found) if found == FORMAT => Ok(()),
        Ok(found) => Err(StartError::Format {
            path: format.to_owned(),
            found: format!("{:?}", found.trim().chars().take(64).collect::<String>()),
            expected: format!("{:?}", FORMAT.trim()),
        }),
        Err(missing) if missing.kind() == ErrorKind::NotFound => {
            // A crash may have come between making the folder and writing the format: then it holds nothing yet.
            let ours = ["journal", "state", "ledger", "vault", "lock"];
            let entries = fs::read_dir(root).map_err(|source| io(root, source))?;
            let foreign = entries.flatten().any(|entry| {
                let name = entry.file_name();
                let known = ours.iter().any(|known| name == *known);
                let empty = fs::read_dir(entry.path()).map(|mut inner| inner.next().is_none()).unwrap_or(true);
                !known || !empty
            });
            if foreign {
                return Err(StartError::NotOurs { path: root.to_owned() });
            }
            write_durably(format, FORMAT.as_bytes()).map_err(|source| io(format, source))
        }
        Err(source) => Err(io(format, source)),
    }
}

fn lock(root: &Path) -> Result<File, StartError> {
    let path = root.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|source| io(&path, source))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StartError::InUse { path }),
        Err(errno) => Err(io(&path, errno.into())),
    }
}

/// Writes a small file so that it is there, whole, after a crash.
pub(crate) fn write_durably(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

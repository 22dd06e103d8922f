//! The data folder: its format file, its lock, and where things lie in it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::error::StartError;

/// What the `format` file of this version holds.
pub(crate) const FORMAT: &str = "entangle-data-v1\n";

/// The folders in it.
const PARTS: [&str; 4] = ["journal", "state", "ledger", "vault"];

/// An opened data folder; the lock is held until it is dropped.
pub(crate) struct DataFolder {
    root: PathBuf,
    state: StateFolder,
    _lock: File,
}

impl DataFolder {
    /// Opens the folder, or makes it when `create` and it is new or empty. Tells whether it was made.
    pub(crate) fn open(root: &Path, create: bool) -> Result<(Self, bool), StartError> {
        let fresh = match fs::read_dir(root) {
            Ok(mut entries) => entries.next().is_none(),
            Err(missing) if missing.kind() == ErrorKind::NotFound => true,
            Err(source) => return Err(io(root, source)),
        };
        let format = root.join("format");
        if fresh && !create {
            return Err(io(root, std::io::Error::new(ErrorKind::NotFound, "there is no data folder")));
        }
        if fresh {
            fs::create_dir_all(root).map_err(|source| io(root, source))?;
        } else {
            check_format(root, &format)?;
        }
        let folder = Self { root: root.to_owned(), _lock: lock(root)?, state: StateFolder::current(root)? };
        if fresh {
            folder.make_folders()?;
            folder.finish()?;
        }
        folder.remove_shadow()?;
        Ok((folder, fresh))
    }

    /// Begins a folder that is to be filled before anything may start on it: it has no `format` until
    /// [`DataFolder::finish`]. `None` when there is something in it already.
    pub(crate) fn begin(root: &Path) -> Result<Option<Self>, StartError> {
        match fs::read_dir(root).map(|mut entries| entries.next().is_some()) {
            Ok(true) => return Ok(None),
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(io(root, error)),
            _ => fs::create_dir_all(root).map_err(|source| io(root, source))?,
        }
        let folder = Self { root: root.to_owned(), _lock: lock(root)?, state: StateFolder::current(root)? };
        folder.make_folders()?;
        Ok(Some(folder))
    }

    /// Writes the `format` file: from now on a node may start here.
    pub(crate) fn finish(&self) -> Result<(), StartError> {
        let format = self.root.join("format");
        write_durably(&format, FORMAT.as_bytes()).map_err(|source| io(&format, source))
    }

    fn make_folders(&self) -> Result<(), StartError> {
        for name in PARTS {
            let folder = self.root.join(name);
            // Objects are nothing for the other users of the machine.
            DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(|source| io(&folder, source))?;
        }
        Ok(())
    }

    /// Removes what a verification or a backup that was killed has left.
    fn remove_shadow(&self) -> Result<(), StartError> {
        let shadow = self.shadow();
        match fs::remove_dir_all(&shadow) {
            Err(source) if source.kind() != ErrorKind::NotFound => Err(io(&shadow, source)),
            _ => Ok(()),
        }
    }

    /// The folder itself.
    #[must_use]
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Segments of the journal.
    #[must_use]
    pub(crate) fn journal(&self) -> PathBuf {
        self.root.join("journal")
    }

    /// The stored state.
    #[must_use]
    pub(crate) fn state(&self) -> PathBuf {
        self.state.path()
    }

    /// Which of the states that there may be is the stored one.
    #[must_use]
    pub(crate) fn state_folder(&self) -> &StateFolder {
        &self.state
    }

    /// The files of the log.
    #[must_use]
    pub(crate) fn ledger(&self) -> PathBuf {
        self.root.join("ledger")
    }

    /// A copy of the state that a verification or a backup works on; there only while one runs.
    #[must_use]
    pub(crate) fn shadow(&self) -> PathBuf {
        self.root.join("shadow")
    }

    /// Chunks of large bodies.
    #[must_use]
    pub(crate) fn vault(&self) -> PathBuf {
        self.root.join("vault")
    }
}

/// Where the stored state lies: `state`, or `state-<number>` once a state of another member was installed. The file
/// `state.current` names the latter; the change from one to the next is the change of that file.
#[derive(Clone, Debug)]
pub(crate) struct StateFolder {
    root: PathBuf,
    number: u32,
}

impl StateFolder {
    fn current(root: &Path) -> Result<Self, StartError> {
        let path = root.join("state.current");
        let number = match fs::read_to_string(&path) {
            Err(missing) if missing.kind() == ErrorKind::NotFound => 0,
            text => text.map_err(|source| io(&path, source))?.trim_end().parse().map_err(|_| {
                StartError::State(format!(
                    "{} does not hold a number; put it back from a copy of this folder",
                    path.display()
                ))
            })?,
        };
        Ok(Self { root: root.to_owned(), number })
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.root.join(if self.number == 0 { "state".to_owned() } else { format!("state-{}", self.number) })
    }

    /// The one that an installed state goes to.
    pub(crate) fn next(&self) -> Self {
        Self { root: self.root.clone(), number: self.number + 1 }
    }

    /// Removes what is in it.
    pub(crate) fn clear(&self) -> std::io::Result<()> {
        match fs::remove_dir_all(self.path()) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => DirBuilder::new().mode(0o700).create(self.path()),
        }
    }

    /// From now on, and after a crash, this is the stored state.
    pub(crate) fn take_over(&self) -> std::io::Result<()> {
        File::open(self.path())?.sync_all()?;
        File::open(&self.root)?.sync_all()?;
        write_durably(&self.root.join("state.current"), format!("{}\n", self.number).as_bytes())
    }

    /// Removes the states that were given up for this one, and what is left of one that never took over.
    pub(crate) fn remove_others(&self) -> std::io::Result<()> {
        let own = self.path();
        for entry in fs::read_dir(&self.root)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let is_state =
                name == "state" || name.strip_prefix("state-").is_some_and(|number| number.parse::<u32>().is_ok());
            if is_state && path != own {
                fs::remove_dir_all(&path)?;
            }
        }
        Ok(())
    }
}

fn io(path: &Path, source: std::io::Error) -> StartError {
    StartError::Io { path: path.to_owned(), source }
}

fn check_format(root: &Path, format: &Path) -> Result<(), StartError> {
    match fs::read(format) {
        Ok(found) if found == FORMAT.as_bytes() => Ok(()),
        Ok(found) => Err(StartError::Format {
            path: format.to_owned(),
            found: format!("{:?}", String::from_utf8_lossy(&found).trim().chars().take(64).collect::<String>()),
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
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(|source| io(&path, source))?;
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_stored_is_for_its_owner_only() {
        let root = tempfile::tempdir().unwrap();
        DataFolder::open(root.path(), true).unwrap();
        for name in PARTS {
            let mode = fs::metadata(root.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{name}");
        }
    }

    #[test]
    fn a_format_that_is_no_text_is_another_version() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("format"), [0xff; 100]).unwrap();
        assert!(matches!(DataFolder::open(root.path(), true), Err(StartError::Format { .. })));
    }
}

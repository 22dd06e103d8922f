//! The folders of epochs (`docs/formats/epochs.md`): the journal of the first one is `journal/`, that of a later one
//! `epochs/<number>/journal/`, with the epoch itself beside it. What is over is in `epochs/over`.

use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use dace::Membership;
use types::Epoch;

use crate::error::StartError;
use crate::folder::write_durably;

/// The first epoch of every group.
pub(crate) const FIRST: Epoch = Epoch(1);

/// The epochs in a data folder.
#[derive(Clone, Debug)]
pub(crate) struct EpochFolders {
    root: PathBuf,
}

impl EpochFolders {
    pub(crate) fn new(data: &Path) -> Self {
        Self { root: data.to_owned() }
    }

    fn all(&self) -> PathBuf {
        self.root.join("epochs")
    }

    fn folder(&self, epoch: Epoch) -> PathBuf {
        self.all().join(epoch.0.to_string())
    }

    /// Where the journal of an epoch lies.
    pub(crate) fn journal(&self, epoch: Epoch) -> PathBuf {
        if epoch == FIRST { self.root.join("journal") } else { self.folder(epoch).join("journal") }
    }

    /// Whether there is a journal of the first epoch.
    pub(crate) fn has_first(&self) -> Result<bool, StartError> {
        let journal = self.journal(FIRST);
        match fs::read_dir(&journal) {
            Err(missing) if missing.kind() == ErrorKind::NotFound => Ok(false),
            entries => Ok(entries.map_err(|source| io(&journal, source))?.next().is_some()),
        }
    }

    /// Removes what is left of an end that a crash cut short.
    pub(crate) fn tidy(&self) -> Result<(), StartError> {
        let (journal, ended) = (self.journal(FIRST), self.all().join("1.ended"));
        DirBuilder::new().recursive(true).mode(0o700).create(&journal).map_err(|source| io(&journal, source))?;
        match fs::remove_dir_all(&ended) {
            Err(source) if source.kind() != ErrorKind::NotFound => Err(io(&ended, source)),
            _ => Ok(()),
        }
    }

    /// The later epochs that have begun here and were not deleted, rising.
    pub(crate) fn list(&self) -> Result<Vec<Membership>, StartError> {
        let entries = match fs::read_dir(self.all()) {
            Err(missing) if missing.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|source| io(&self.all(), source))?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|source| io(&self.all(), source))?;
            let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let path = entry.path().join("membership");
            let bytes = match fs::read(&path) {
                // A crash came before the epoch was named: nothing was said in it.
                Err(missing) if missing.kind() == ErrorKind::NotFound => continue,
                bytes => bytes.map_err(|source| io(&path, source))?,
            };
            let membership = Membership::from_bytes(&bytes).filter(|of| of.epoch == Epoch(number));
            found.push(membership.ok_or_else(|| {
                StartError::Journal(format!(
                    "{} does not hold epoch {number}; put it back from a copy of this folder, or replace this node",
                    path.display()
                ))
            })?);
        }
        found.sort_by_key(|membership| membership.epoch);
        Ok(found)
    }

    /// Makes the folder of an epoch and names it, durably.
    pub(crate) fn begin(&self, membership: &Membership) -> Result<(), StartError> {
        let journal = self.journal(membership.epoch);
        DirBuilder::new().recursive(true).mode(0o700).create(&journal).map_err(|source| io(&journal, source))?;
        if membership.epoch == FIRST {
            return Ok(());
        }
        let folder = self.folder(membership.epoch);
        let path = folder.join("membership");
        write_durably(&path, &membership.to_bytes()).map_err(|source| io(&path, source))?;
        sync(&folder)?;
        sync(&self.all())?;
        sync(&self.root)
    }

    /// Deletes the journal of an epoch that is not served any more.
    pub(crate) fn end(&self, epoch: Epoch) -> Result<(), StartError> {
        if epoch == FIRST {
            // At once and whole, or not at all. An empty folder stays: it belongs to every data folder.
            let (journal, ended) = (self.journal(epoch), self.all().join("1.ended"));
            fs::rename(&journal, &ended).map_err(|source| io(&journal, source))?;
            DirBuilder::new().mode(0o700).create(&journal).map_err(|source| io(&journal, source))?;
            sync(&self.root)?;
            return fs::remove_dir_all(&ended).map_err(|source| io(&ended, source));
        }
        let folder = self.folder(epoch);
        let path = folder.join("membership");
        match fs::remove_file(&path) {
            Err(source) if source.kind() != ErrorKind::NotFound => return Err(io(&path, source)),
            _ => sync(&folder)?,
        }
        fs::remove_dir_all(&folder).map_err(|source| io(&folder, source))?;
        sync(&self.all())
    }

    /// This epoch, and those before it, are over; 0: none.
    pub(crate) fn over(&self) -> Result<Epoch, StartError> {
        let path = self.all().join("over");
        let text = match fs::read_to_string(&path) {
            Err(missing) if missing.kind() == ErrorKind::NotFound => return Ok(Epoch(0)),
            text => text.map_err(|source| io(&path, source))?,
        };
        text.trim_end().parse().map(Epoch).map_err(|_| {
            StartError::Journal(format!("{} does not hold the number of an epoch; replace this node", path.display()))
        })
    }

    /// Makes it durable that an epoch is over.
    pub(crate) fn set_over(&self, epoch: Epoch) -> Result<(), StartError> {
        let all = self.all();
        DirBuilder::new().recursive(true).mode(0o700).create(&all).map_err(|source| io(&all, source))?;
        let path = all.join("over");
        write_durably(&path, format!("{}\n", epoch.0).as_bytes()).map_err(|source| io(&path, source))?;
        sync(&self.root)
    }
}

fn sync(folder: &Path) -> Result<(), StartError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|source| io(folder, source))
}

fn io(path: &Path, source: std::io::Error) -> StartError {
    StartError::Io { path: path.to_owned(), source }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use dace::{Entry, Reconfig};
    use types::{CommandId, ReplicaId, Timestamp};

    use super::*;

    fn membership(epoch: u32) -> Membership {
        let entry = Entry { reconfig: CommandId::default(), at: Timestamp(7) };
        let next = Reconfig { members: vec![ReplicaId(1), ReplicaId(2)], f: 0, logic: 1 };
        Membership::after(Epoch(epoch - 1), entry, next)
    }

    #[test]
    fn epochs_are_there_from_their_beginning_to_their_end() {
        let root = tempfile::tempdir().unwrap();
        let folders = EpochFolders::new(root.path());
        assert_eq!((folders.list().unwrap(), folders.over().unwrap()), (vec![], Epoch(0)));
        for epoch in [10, 2] {
            folders.begin(&membership(epoch)).unwrap();
        }
        assert_eq!(folders.list().unwrap(), [membership(2), membership(10)]);
        fs::write(folders.journal(Epoch(2)).join("segment"), b"x").unwrap();
        folders.set_over(Epoch(2)).unwrap();
        folders.end(Epoch(2)).unwrap();
        assert_eq!((folders.list().unwrap(), folders.over().unwrap()), (vec![membership(10)], Epoch(2)));
        fs::write(root.path().join("epochs/10/membership"), b"x").unwrap();
        assert!(folders.list().is_err(), "a damaged name is no epoch that was not there");
    }
}

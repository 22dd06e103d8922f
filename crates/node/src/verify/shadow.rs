//! Working on a folder without changing it: what is written goes to memory, or to a copy.
//!
//! A start mends what a crash left: it removes a torn flush, cuts files, fills them up again. Verification and
//! backups must see exactly what a start would see, and leave the disk as it is. So they run the very code of
//! the start, over disks that keep what is written in memory ([`ShadowDisk`]) and a state folder whose files
//! that change are copied, and whose immutable ones are linked ([`ShadowState`]).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use store::disk::{Disk, DiskFile};

use crate::folder::DataFolder;

const PAGE_LEN: usize = 4096;

/// A folder of files, read from the disk and written to memory.
pub(crate) struct ShadowDisk {
    folder: PathBuf,
    files: Mutex<BTreeMap<String, Arc<ShadowFile>>>,
}

impl ShadowDisk {
    /// Opens a folder, which must exist. Only names are read now.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                let name = entry.file_name().to_string_lossy().into_owned();
                files.insert(name, Arc::new(ShadowFile::of(&entry.path())?));
            }
        }
        Ok(Self { folder: folder.to_owned(), files: Mutex::new(files) })
    }

    /// Bytes of all files, as they are on disk.
    pub(crate) fn disk_len(&self) -> u64 {
        self.files.lock().values().map(|file| file.content.read().base_len).sum()
    }
}

impl Disk for ShadowDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.files.lock().keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        match self.files.lock().get(name) {
            Some(file) => Ok(file.clone()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut files = self.files.lock();
        if files.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = Arc::new(ShadowFile { base: None, content: RwLock::new(Content::default()) });
        files.insert(name.to_owned(), file.clone());
        Ok(file)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.files.lock();
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.files.lock().remove(name).map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self) -> io::Result<()> {
        Ok(())
    }

    fn free_len(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.folder)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn locate(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }
}

/// A file of a [`ShadowDisk`].
struct ShadowFile {
    /// What is on disk; never written.
    base: Option<File>,
    content: RwLock<Content>,
}

#[derive(Default)]
struct Content {
    len: u64,
    /// Bytes of the base that still show; behind them there are zeros.
    base_len: u64,
    /// Pages that were written.
    pages: BTreeMap<u64, Box<[u8; PAGE_LEN]>>,
}

impl ShadowFile {
    fn of(path: &Path) -> io::Result<Self> {
        let base = File::open(path)?;
        let len = base.metadata()?.len();
        let content = Content { len, base_len: len, pages: BTreeMap::new() };
        Ok(Self { base: Some(base), content: RwLock::new(content) })
    }

    /// Fills `bytes` from the base; zeros where there is none.
    fn read_base(&self, content: &Content, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        bytes.fill(0);
        let shown = content.base_len.saturating_sub(offset);
        let shown = usize::try_from(shown).map_or(bytes.len(), |shown| shown.min(bytes.len()));
        match &self.base {
            Some(base) if shown > 0 => base.read_exact_at(&mut bytes[..shown], offset),
            _ => Ok(()),
        }
    }
}

/// Page number, place within the page, and how much of `len` bytes from `offset` lies in that page.
fn page_of(offset: u64, len: usize) -> (u64, usize, usize) {
    let (page, at) = (offset / PAGE_LEN as u64, (offset % PAGE_LEN as u64) as usize);
    (page, at, len.min(PAGE_LEN - at))
}

impl DiskFile for ShadowFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let content = self.content.read();
        let there = content.len.saturating_sub(offset);
        let len = usize::try_from(there).map_or(bytes.len(), |there| there.min(bytes.len()));
        if content.pages.is_empty() {
            self.read_base(&content, &mut bytes[..len], offset)?;
            return Ok(len);
        }
        let (mut done, mut offset) = (0, offset);
        while done < len {
            let (page, at, piece) = page_of(offset, len - done);
            let out = &mut bytes[done..done + piece];
            match content.pages.get(&page) {
                Some(page) => out.copy_from_slice(&page[at..at + piece]),
                None => self.read_base(&content, out, offset)?,
            }
            done += piece;
            offset += piece as u64;
        }
        Ok(len)
    }

    fn write_at(&self, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        let mut guard = self.content.write();
        let content = &mut *guard;
        content.len = content.len.max(offset + bytes.len() as u64);
        while !bytes.is_empty() {
            let (page, at, piece) = page_of(offset, bytes.len());
            if !content.pages.contains_key(&page) {
                let mut fresh = Box::new([0; PAGE_LEN]);
                self.read_base(content, fresh.as_mut_slice(), page * PAGE_LEN as u64)?;
                content.pages.insert(page, fresh);
            }
            let stored = content.pages.get_mut(&page).expect("it was inserted if it was not there");
            stored[at..at + piece].copy_from_slice(&bytes[..piece]);
            bytes = &bytes[piece..];
            offset += piece as u64;
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.content.read().len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut content = self.content.write();
        if len < content.len {
            let (page, at, _) = page_of(len, 1);
            content.pages.split_off(&(page + u64::from(at > 0)));
            if let Some(last) = content.pages.get_mut(&page) {
                last[at..].fill(0);
            }
            content.base_len = content.base_len.min(len);
        }
        content.len = len;
        Ok(())
    }

    fn reserve(&self, len: u64) -> io::Result<()> {
        let mut content = self.content.write();
        content.len = content.len.max(len);
        Ok(())
    }
}

/// A copy of the stored state to work on; removed when it is dropped.
pub(crate) struct ShadowState {
    path: PathBuf,
}

impl ShadowState {
    /// Copies the state of a data folder to a folder inside it, beside the real one. Tables never change once
    /// they are written, so they are linked and cost no space.
    pub(crate) fn make(folder: &DataFolder) -> io::Result<Self> {
        let shadow = Self { path: folder.shadow() };
        shadow.remove()?;
        copy_tree(&folder.state(), &shadow.path)?;
        Ok(shadow)
    }

    /// Where the copy is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl Drop for ShadowState {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            tracing::warn!(%error, path = %self.path.display(), "a copy of the state was not removed; the next start will");
        }
    }
}

fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    let immutable = from.file_name().is_some_and(|name| name == "tables");
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else if !immutable || fs::hard_link(entry.path(), &target).is_err() {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn bytes(file: &dyn DiskFile, offset: u64, len: usize) -> Vec<u8> {
        let mut out = vec![0xee; len];
        let read = file.read_at(&mut out, offset).unwrap();
        out.truncate(read);
        out
    }

    #[test]
    fn writes_show_and_the_disk_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let content: Vec<u8> = (0..10_000_u32).map(|n| n.to_be_bytes()[3]).collect();
        fs::write(&path, &content).unwrap();
        let disk = ShadowDisk::open(folder.path()).unwrap();
        assert_eq!(disk.disk_len(), 10_000);
        let file = disk.open("a").unwrap();
        assert_eq!(bytes(file.as_ref(), 9_990, 100), content[9_990..]);
        file.write_at(b"across a page", 4_090).unwrap();
        assert_eq!(
            bytes(file.as_ref(), 4_089, 15),
            [&content[4_089..4_090], b"across a page", &content[4_103..4_104]].concat()
        );
        file.set_len(4_095).unwrap();
        file.set_len(5_000).unwrap();
        assert_eq!(bytes(file.as_ref(), 4_090, 7), b"acros\0\0");
        assert_eq!(bytes(file.as_ref(), 4_990, 100), [0; 10]);
        file.reserve(20_000).unwrap();
        file.reserve(1).unwrap();
        assert_eq!(file.len().unwrap(), 20_000);
        assert_eq!(bytes(file.as_ref(), 12_000, 2), [0, 0], "a cut never uncovers what was cut off");
        disk.create("b").unwrap().write_at(b"new", 1).unwrap();
        disk.rename("b", "a").unwrap();
        assert_eq!(bytes(disk.open("a").unwrap().as_ref(), 0, 9), b"\0new");
        disk.remove("a").unwrap();
        assert!(disk.open("a").is_err() && disk.list().unwrap().is_empty());
        assert_eq!(fs::read(&path).unwrap(), content);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}

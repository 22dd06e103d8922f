//! A disk in memory that behaves as badly as a real one may, as a function of a seed.
//!
//! What was written and not synced is lost, kept or torn by [`MemDisk::crash`]; names not followed by
//! [`Disk::sync_dir`] may vanish; space runs out; a flush fails and takes the data with it; the power goes
//! after any chosen call. It is public because the simulator of the whole node runs on it.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Disk, DiskFile, SECTOR_LEN};
use crate::random::Random;

/// A disk in memory. Clones are the same disk; [`MemDisk::fork`] makes another.
#[derive(Clone, Default)]
pub struct MemDisk {
    world: Arc<Mutex<World>>,
}

/// What a [`MemDisk`] has been asked to do so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Calls of [`DiskFile::write_at`].
    pub writes: u64,
    /// Bytes of those calls.
    pub written_len: u64,
    /// Calls of [`DiskFile::sync`].
    pub syncs: u64,
    /// All calls that change something, syncs and name changes included.
    pub changes: u64,
}

#[derive(Clone, Default)]
struct World {
    files: BTreeMap<u64, Content>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    name_changes: Vec<NameChange>,
    file_next: u64,
    /// Rises with every crash; handles of an earlier life answer with an error.
    life: u64,
    budget: Option<u64>,
    /// Syncs that still succeed, and the seed of what the failing one leaves.
    sync_failure: Option<(u64, u64)>,
    /// Changes that still happen before the power goes.
    power: Option<u64>,
    counts: Counts,
    /// Which syncs lie.
    lie: Lie,
}

/// Syncs that report success and do nothing: with these a test shows that it would notice a forgotten one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Lie {
    /// None.
    #[default]
    No,
    /// Those of files.
    Files,
    /// Those of the folder.
    Folder,
}

/// One file: as the process sees it, as it surely survives, and what lies between.
#[derive(Clone, Default)]
struct Content {
    live: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Len(usize),
}

#[derive(Clone)]
enum NameChange {
    Create(String, u64),
    Rename(String, String),
    Remove(String),
}

/// How much of what was not synced survives a crash.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mood {
    /// Nothing of it.
    Nothing,
    /// All of it.
    Everything,
    /// All up to a point, where one write may be torn.
    Prefix,
    /// Each change by itself: lost, kept or torn.
    Mixed,
}

impl MemDisk {
    /// An empty disk with endless space.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An independent copy, unsynced changes included.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self { world: Arc::new(Mutex::new(self.world.lock().clone())) }
    }

    /// The power goes and comes back: what was not synced is lost, kept or torn as `seed` says, open handles
    /// are dead, and failures asked for are forgotten (the budget stays).
    pub fn crash(&self, seed: u64) {
        let mut random = Random::new(seed);
        let mut world = self.world.lock();
        let mood = [Mood::Nothing, Mood::Everything, Mood::Prefix, Mood::Mixed, Mood::Mixed][random.below(5)];
        for content in world.files.values_mut() {
            content.settle(mood, &mut random);
        }
        world.settle_names(mood, &mut random);
        world.life += 1;
        world.sync_failure = None;
        world.power = None;
    }

    /// The process ends and starts again on a machine that goes on: nothing is lost, open handles are dead.
    pub fn restart(&self) {
        let mut world = self.world.lock();
        world.life += 1;
        world.sync_failure = None;
        world.power = None;
    }

    /// Limits the bytes of all files together; `None` takes the limit away.
    pub fn set_budget(&self, budget: Option<u64>) {
        self.world.lock().budget = budget;
    }

    /// Lets `count` more syncs succeed and fails the next. What that one should have made durable is then
    /// durable in a part that `seed` chooses, and later syncs succeed without writing the rest, as page caches
    /// are known to do.
    pub fn fail_sync_after(&self, count: u64, seed: u64) {
        self.world.lock().sync_failure = Some((count, seed));
    }

    /// Lets syncs lie from now on.
    pub fn set_lie(&self, lie: Lie) {
        self.world.lock().lie = lie;
    }

    /// Lets `count` more changes happen and fails every one after, until [`MemDisk::crash`].
    pub fn power_off_after(&self, count: u64) {
        self.world.lock().power = Some(count);
    }

    /// Flips the bits of `mask` in one byte, durably. False if there is no such byte.
    pub fn flip(&self, name: &str, offset: usize, mask: u8) -> bool {
        let mut world = self.world.lock();
        let Some(content) = world.content(name) else { return false };
        let Some(byte) = content.live.get_mut(offset) else { return false };
        *byte ^= mask;
        if let Some(byte) = content.durable.get_mut(offset) {
            *byte ^= mask;
        }
        true
    }

    /// The bytes of a file as the process sees them.
    #[must_use]
    pub fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        self.world.lock().content(name).map(|content| content.live.clone())
    }

    /// Puts a file there, durably.
    pub fn put(&self, name: &str, bytes: Vec<u8>) {
        let mut world = self.world.lock();
        let file = world.file_next;
        world.file_next += 1;
        world.files.insert(file, Content { durable: bytes.clone(), live: bytes, pending: Vec::new() });
        world.names.insert(name.to_owned(), file);
        world.durable_names.insert(name.to_owned(), file);
    }

    /// What has been asked of the disk so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.world.lock().counts
    }
}

impl World {
    fn content(&mut self, name: &str) -> Option<&mut Content> {
        let file = self.names.get(name)?;
        self.files.get_mut(file)
    }

    fn used_len(&self) -> u64 {
        let named: std::collections::BTreeSet<_> = self.names.values().collect();
        named.into_iter().filter_map(|file| self.files.get(file)).map(|content| content.live.len() as u64).sum()
    }

    /// Counts a change, and refuses it once the power has gone.
    fn change(&mut self) -> io::Result<()> {
        if let Some(left) = &mut self.power {
            *left = left.checked_sub(1).ok_or_else(|| io::Error::other("the power is gone"))?;
        }
        self.counts.changes += 1;
        Ok(())
    }

    /// Refuses to grow `file` to `len` bytes when the budget does not allow it.
    fn grow(&self, file: u64, len: usize) -> io::Result<()> {
        let now = self.files.get(&file).map_or(0, |content| content.live.len());
        let more = len.saturating_sub(now) as u64;
        match self.budget {
            Some(budget) if more > 0 && self.used_len() + more > budget => {
                Err(io::Error::new(io::ErrorKind::StorageFull, "no space left on device"))
            }
            _ => Ok(()),
        }
    }

    fn settle_names(&mut self, mood: Mood, random: &mut Random) {
        let mut lost: Vec<String> = Vec::new();
        let mut ended = mood == Mood::Nothing;
        for change in std::mem::take(&mut self.name_changes) {
            ended |= mood == Mood::Prefix && random.one_in(2);
            let names: Vec<&String> = match &change {
                NameChange::Create(name, _) | NameChange::Remove(name) => vec![name],
                NameChange::Rename(from, to) => vec![from, to],
            };
            // A change that builds on a lost one is lost with it.
            let blocked = names.iter().any(|name| lost.contains(name));
            if ended || blocked || (mood == Mood::Mixed && random.one_in(2)) {
                lost.extend(names.into_iter().cloned());
                continue;
            }
            change.apply(&mut self.durable_names);
        }
        self.names = self.durable_names.clone();
        let named: Vec<u64> = self.names.values().copied().collect();
        self.files.retain(|file, _| named.contains(file));
    }
}

impl NameChange {
    fn apply(self, names: &mut BTreeMap<String, u64>) {
        match self {
            Self::Create(name, file) => {
                names.insert(name, file);
            }
            Self::Rename(from, to) => {
                if let Some(file) = names.remove(&from) {
                    names.insert(to, file);
                }
            }
            Self::Remove(name) => {
                names.remove(&name);
            }
        }
    }
}

impl Content {
    fn write(bytes: &mut Vec<u8>, offset: usize, new: &[u8]) {
        let end = offset + new.len();
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[offset..end].copy_from_slice(new);
    }

    /// Decides what becomes of the changes that were not synced.
    fn settle(&mut self, mood: Mood, random: &mut Random) {
        let mut ended = mood == Mood::Nothing;
        for change in std::mem::take(&mut self.pending) {
            if ended {
                break;
            }
            let torn = match mood {
                Mood::Nothing | Mood::Everything => false,
                Mood::Prefix => {
                    ended = random.one_in(3);
                    ended
                }
                Mood::Mixed => random.one_in(2),
            };
            match change {
                Change::Len(len) if !torn => self.durable.resize(len, 0),
                Change::Len(_) => {}
                Change::Write { offset, bytes } if !torn => Self::write(&mut self.durable, offset, &bytes),
                Change::Write { offset, bytes } => self.tear(offset, &bytes, random),
            }
        }
        self.live = self.durable.clone();
    }

    /// Lets a part of one write survive: a prefix of any length, a suffix, or some of its sectors.
    fn tear(&mut self, offset: usize, bytes: &[u8], random: &mut Random) {
        match random.below(4) {
            0 => {}
            1 => Self::write(&mut self.durable, offset, &bytes[..random.below(bytes.len() + 1)]),
            2 => {
                let from = random.below(bytes.len() + 1);
                Self::write(&mut self.durable, offset + from, &bytes[from..]);
            }
            _ => {
                let mut at = 0;
                while at < bytes.len() {
                    let end = ((offset + at) / SECTOR_LEN + 1) * SECTOR_LEN - offset;
                    let end = end.min(bytes.len());
                    if random.one_in(2) {
                        Self::write(&mut self.durable, offset + at, &bytes[at..end]);
                    }
                    at = end;
                }
            }
        }
    }
}

impl Disk for MemDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.world.lock().names.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let world = self.world.lock();
        let file = *world.names.get(name).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        Ok(Arc::new(MemFile { disk: self.clone(), file, life: world.life }))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut world = self.world.lock();
        world.change()?;
        if world.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = world.file_next;
        world.file_next += 1;
        world.files.insert(file, Content::default());
        world.names.insert(name.to_owned(), file);
        world.name_changes.push(NameChange::Create(name.to_owned(), file));
        let life = world.life;
        drop(world);
        Ok(Arc::new(MemFile { disk: self.clone(), file, life }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut world = self.world.lock();
        world.change()?;
        if !world.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let change = NameChange::Rename(from.to_owned(), to.to_owned());
        change.clone().apply(&mut world.names);
        world.name_changes.push(change);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut world = self.world.lock();
        world.change()?;
        if world.names.remove(name).is_none() {
            return Err(io::ErrorKind::NotFound.into());
        }
        world.name_changes.push(NameChange::Remove(name.to_owned()));
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut world = self.world.lock();
        world.change()?;
        if world.lie == Lie::Folder {
            return Ok(());
        }
        world.durable_names = world.names.clone();
        world.name_changes.clear();
        Ok(())
    }

    fn free_len(&self) -> io::Result<u64> {
        let world = self.world.lock();
        Ok(world.budget.map_or(u64::MAX >> 1, |budget| budget.saturating_sub(world.used_len())))
    }

    fn locate(&self, name: &str) -> String {
        name.to_owned()
    }
}

/// A file of a [`MemDisk`].
struct MemFile {
    disk: MemDisk,
    file: u64,
    life: u64,
}

impl MemFile {
    /// Runs `act` on the world if this handle is of its present life.
    fn with<T>(&self, act: impl FnOnce(&mut World, u64) -> io::Result<T>) -> io::Result<T> {
        let mut world = self.disk.world.lock();
        if world.life != self.life {
            return Err(io::Error::other("this handle is of before the crash"));
        }
        act(&mut world, self.file)
    }
}

/// An offset as an index into memory.
fn index(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// Every handle's file is kept until a crash, after which the handle is dead.
fn content(world: &mut World, file: u64) -> io::Result<&mut Content> {
    world.files.get_mut(&file).ok_or_else(|| io::ErrorKind::NotFound.into())
}

impl DiskFile for MemFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|world, file| {
            let content = content(world, file)?;
            let from = index(offset)?.min(content.live.len());
            let rest = &content.live[from..];
            let read = rest.len().min(bytes.len());
            bytes[..read].copy_from_slice(&rest[..read]);
            Ok(read)
        })
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.with(|world, file| {
            world.change()?;
            let offset = index(offset)?;
            world.grow(file, offset + bytes.len())?;
            world.counts.writes += 1;
            world.counts.written_len += bytes.len() as u64;
            let content = content(world, file)?;
            Content::write(&mut content.live, offset, bytes);
            content.pending.push(Change::Write { offset, bytes: bytes.to_vec() });
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|world, file| {
            world.change()?;
            world.counts.syncs += 1;
            if let Some((left, seed)) = &mut world.sync_failure {
                if *left == 0 {
                    let mut random = Random::new(*seed);
                    world.sync_failure = None;
                    let content = content(world, file)?;
                    let live = content.live.clone();
                    content.settle(Mood::Mixed, &mut random);
                    content.live = live;
                    return Err(io::Error::other("the flush failed"));
                }
                *left -= 1;
            }
            if world.lie == Lie::Files {
                return Ok(());
            }
            let content = content(world, file)?;
            // Applied one by one: what an earlier failed flush lost stays lost.
            for change in std::mem::take(&mut content.pending) {
                match change {
                    Change::Write { offset, bytes } => Content::write(&mut content.durable, offset, &bytes),
                    Change::Len(len) => content.durable.resize(len, 0),
                }
            }
            Ok(())
        })
    }

    fn len(&self) -> io::Result<u64> {
        self.with(|world, file| Ok(content(world, file)?.live.len() as u64))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(|world, file| {
            world.change()?;
            let len = index(len)?;
            world.grow(file, len)?;
            let content = content(world, file)?;
            content.live.resize(len, 0);
            content.pending.push(Change::Len(len));
            Ok(())
        })
    }

    fn reserve(&self, len: u64) -> io::Result<()> {
        if self.len()? < len { self.set_len(len) } else { Ok(()) }
    }
}

//! Making a data folder of a backup.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use catalog::digest::StateDigest;
use dace::{Base, Config, Predecessor};
use ledger::tree::{Frontier, leaf_hash};
use store::disk::{Disk, RealDisk};
use store::journal::{Beginning, Journal, JournalOptions, Kept, KeptKind};
use store::log::{LogFiles, LogRow};
use store::state::{FjallOptions, FjallState, State as _, StateBatch};
use store::vault::Vault;
use types::Incarnation;
use types::state::{Table, Write};

use super::format::{Block, Kind};
use super::items::{self, ChunkItem, Manifest};
use super::open::Backup;
use super::{BackupError, BackupReport, io_at};
use crate::folder::{DataFolder, write_durably};
use crate::keys::Keys;
use crate::progress::{Phase, Report, Unit};
use crate::replica::{Head, SealMarker};
use crate::start::{EPOCH, GROUP, REPLICA};
use crate::verify::{CACHE_LEN, Chunks, VerifyReport, hex, verify_folder};

/// Incarnations that a restored node skips: those that the lost folder may have opened after its backup.
const INCARNATIONS_SKIPPED: u32 = 1 << 16;

pub(super) fn restore(from: &Path, data: &Path, keys: &Path, report: Report<'_>) -> Result<BackupReport, BackupError> {
    let keys = Keys::open(keys, false)?;
    let backup = Backup::open(from, &keys, report)?;
    let existed = data.symlink_metadata().is_ok();
    let folder = DataFolder::begin(data)?.ok_or_else(|| BackupError::NotEmpty(data.to_owned()))?;
    let restored = fill(&folder, &backup, from, &keys, report).and_then(|report| {
        folder.finish()?;
        Ok(report)
    });
    if restored.is_err() {
        clear(&folder, existed);
    }
    restored
}

/// Removes what was made. What cannot be removed has no `format`, so no node starts on it.
fn clear(folder: &DataFolder, keep_root: bool) {
    let root = folder.root();
    for part in [folder.journal(), folder.state(), folder.ledger(), folder.vault(), folder.shadow()] {
        let _ = fs::remove_dir_all(part);
    }
    let _ = fs::remove_file(root.join("cluster"));
    let _ = fs::remove_file(root.join("lock"));
    if !keep_root {
        let _ = fs::remove_dir(root);
    }
}

/// Writes everything but the `format`, and verifies it.
fn fill(
    folder: &DataFolder,
    backup: &Backup,
    from: &Path,
    keys: &Keys,
    report: Report<'_>,
) -> Result<BackupReport, BackupError> {
    let manifest = &backup.manifest;
    let cluster = folder.root().join("cluster");
    write_durably(&cluster, format!("{}\n", manifest.cluster).as_bytes()).map_err(io_at(&cluster))?;
    let mut phase = Phase::new(report, "restoring", backup.len, Unit::Bytes);
    let mut target = Target::open(folder)?;
    backup.each(from, |block| {
        phase.add(block.payload.len() as u64);
        target.take(block)
    })?;
    drop(phase);
    target.finish(manifest)?;
    begin_journal(folder, manifest, keys)?;
    let verified = verify_folder(folder, keys, report)?;
    compare(&verified, manifest)?;
    Ok(BackupReport::new(backup.len, &backup.counts, manifest))
}

/// The ledger of the new folder must be the one of the signed checkpoint, and everything must fit it.
fn compare(verified: &VerifyReport, manifest: &Manifest) -> Result<(), BackupError> {
    if let Some(finding) = verified.findings.first() {
        return Err(BackupError::Unverified(format!("{}: {}", finding.place, finding.what)));
    }
    if (verified.tree_size, verified.root.as_str()) != (manifest.size, hex(&manifest.root).as_str()) {
        return Err(BackupError::Unverified("its ledger is not that of the backup's checkpoint".to_owned()));
    }
    Ok(())
}

/// What is being filled.
struct Target {
    root: PathBuf,
    state: FjallState,
    log: LogFiles,
    chunks: Chunks,
    frontier: Frontier,
    digest: StateDigest,
}

impl Target {
    fn open(folder: &DataFolder) -> Result<Self, BackupError> {
        let options = FjallOptions { cache_len: CACHE_LEN, ..FjallOptions::default() };
        let state =
            FjallState::open(folder.state(), options).map_err(|error| crate::StartError::State(error.to_string()))?;
        let log = LogFiles::open(real_disk(folder.ledger())?)
            .map_err(|error| crate::StartError::Ledger(error.to_string()))?;
        let vault = Vault::local(folder.vault()).map_err(|error| crate::StartError::Vault(error.to_string()))?;
        let chunks = Chunks::new(vault).map_err(io_at(folder.root()))?;
        let root = folder.root().to_owned();
        Ok(Self { root, state, log, chunks, frontier: Frontier::new(), digest: StateDigest::new() })
    }

    /// Writes what is in a block.
    fn take(&mut self, block: Block) -> Result<(), BackupError> {
        match block.kind {
            Kind::Catalog => self.rows(Table::Catalog, block.payload),
            Kind::Bodies => self.rows(Table::Bodies, block.payload),
            Kind::Retry => self.rows(Table::Retry, block.payload),
            Kind::Entries => self.entries(block.payload),
            Kind::Chunk => self.chunk(block.payload),
            Kind::Manifest | Kind::End => Ok(()),
        }
    }

    fn failed(&self, error: &dyn core::fmt::Display) -> BackupError {
        io_at(&self.root)(std::io::Error::other(error.to_string()))
    }

    fn rows(&mut self, table: Table, payload: Vec<u8>) -> Result<(), BackupError> {
        // The file was checked, and cannot have changed since: every block is checked again when it is read.
        let rows = items::rows(payload).flatten();
        let writes: Vec<Write> = rows.map(|(key, value)| Write { table, key, value: Some(value) }).collect();
        if table == Table::Catalog {
            for write in &writes {
                self.digest.add(&write.key, write.value.as_deref().unwrap_or_default());
            }
        }
        // No marker yet: a state without one is refused.
        let batch = StateBatch { writes, applied: Vec::new() };
        self.state.apply(batch).map_err(|error| self.failed(&error))
    }

    fn entries(&mut self, payload: Vec<u8>) -> Result<(), BackupError> {
        let first = self.frontier.size();
        let mut rows = Vec::new();
        for (entry, side) in items::entries(payload).flatten() {
            let leaf = leaf_hash(&entry);
            self.frontier.append(leaf);
            rows.push(LogRow { entry, leaf, side });
        }
        self.log.append(first, &rows).map_err(|error| self.failed(&error))
    }

    fn chunk(&mut self, payload: Vec<u8>) -> Result<(), BackupError> {
        let Some(ChunkItem { id, placed_at, index, bytes }) = ChunkItem::from_bytes(payload) else { return Ok(()) };
        self.chunks.put(id, placed_at, index, bytes).map_err(|error| self.failed(&error)).map(|_| ())
    }

    /// Compares what was written with the manifest, seals it, and makes it durable.
    fn finish(self, manifest: &Manifest) -> Result<(), BackupError> {
        if (self.frontier.size(), self.frontier.root()) != (manifest.size, manifest.root) {
            return Err(BackupError::Unverified("its entries do not give the root of its checkpoint".to_owned()));
        }
        if self.digest.sha256() != manifest.state {
            return Err(BackupError::Unverified("its rows do not give the state digest of its last block".to_owned()));
        }
        self.log.sync().map_err(|error| self.failed(&error))?;
        let marker = SealMarker {
            cut: manifest.cut,
            frontier: self.frontier.to_bytes(),
            digest: self.digest.to_bytes().to_vec(),
            rows_from: manifest.size,
            commands: manifest.commands,
        };
        let batch = StateBatch { writes: Vec::new(), applied: marker.to_bytes() };
        let sealed = self.state.apply(batch).and_then(|()| self.state.sync());
        sealed.map_err(|error| self.failed(&error))
    }
}

fn real_disk(path: PathBuf) -> Result<Arc<dyn Disk>, BackupError> {
    match RealDisk::open(&path) {
        Ok(disk) => Ok(Arc::new(disk)),
        Err(source) => Err(BackupError::Io { path, source }),
    }
}

/// Begins a journal behind everything that the backup knows to have been said: positions, timestamps, incarnations
/// and the last head go on from there.
fn begin_journal(folder: &DataFolder, manifest: &Manifest, keys: &Keys) -> Result<(), BackupError> {
    let unverified = |error: &dyn core::fmt::Display| BackupError::Unverified(error.to_string());
    let config = Config { group: GROUP, replica: REPLICA, members: vec![REPLICA], f: 0, epoch: EPOCH };
    let incarnation = Incarnation(manifest.incarnation.0.saturating_add(INCARNATIONS_SKIPPED));
    let predecessor =
        Predecessor { position: manifest.position, cut: manifest.cut, ceiling: manifest.ceiling, incarnation };
    let base = Base::succeeding(&config, &predecessor).map_err(|error| unverified(&error))?;
    let head = Head { cut: manifest.cut, size: manifest.size, root: manifest.root };
    let head = Kept { group: GROUP, kind: KeptKind::TREE_HEAD, bytes: Bytes::copy_from_slice(&head.to_bytes()) };
    let beginning = Beginning {
        group: GROUP,
        base: store::journal::Base { below: base.position + 1, bytes: base.bytes.into() },
        previous: manifest.head,
        kept: vec![head],
    };
    let options = JournalOptions::new(manifest.cluster, REPLICA);
    Journal::begin(real_disk(folder.journal())?, options, keys.node.clone(), &beginning)
        .map(|_| ())
        .map_err(|error| unverified(&error))
}

//! Making a backup.

use core::ops::ControlFlow;
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use catalog::digest::StateDigest;
use catalog::query;
use catalog::rows::BodyAt;
use ledger::checkpoint::{Checkpoint, SignedCheckpoint};
use ledger::entry::Entry;
use store::log::LogError;
use store::state::State as _;
use store::vault::Vault;
use types::ClusterId;
use types::object::{Placement, PlacementId};
use types::sign::Signer as _;
use types::state::{StateRead as _, Table};

use super::format::{BlockWriter, Kind};
use super::items::{ChunkItem, Counts, Manifest, end_bytes, put_entry, put_row, signed_message};
use super::{BackupError, BackupReport, io_at};
use crate::clock;
use crate::epochs::EpochFolders;
use crate::folder::DataFolder;
use crate::keys::Keys;
use crate::progress::{Phase, Report, Unit};
use crate::recover::{Places, Recovered, recover};
use crate::replica::SealMarker;
use crate::start::{EPOCH, GROUP, REPLICA, alone, cluster_id, genesis};
use crate::verify::shadow::ShadowState;
use crate::verify::{CACHE_LEN, Chunks, copy_state, open_shadow};

/// A block of rows or entries is closed once it is this long.
const BLOCK_LEN: usize = 1 << 20;

pub(super) fn backup(data: &Path, keys: &Path, to: &Path, report: Report<'_>) -> Result<BackupReport, BackupError> {
    if to.symlink_metadata().is_ok() {
        return Err(BackupError::Exists(to.to_owned()));
    }
    let (folder, _) = DataFolder::open(data, false)?;
    let keys = Keys::open(keys, false)?;
    let source = Source::open(&folder, &keys)?;
    let partial = partial_of(to);
    let written = write_file(&source, &keys, &partial, report).and_then(|report| {
        publish(&partial, to)?;
        Ok(report)
    });
    if written.is_err() {
        // It may not even be there; the error that is reported is the one that counts.
        let _ = fs::remove_file(&partial);
    }
    written
}

/// Beside the file to be, so that a rename can put it in place.
fn partial_of(to: &Path) -> PathBuf {
    let mut name = to.file_name().unwrap_or("backup".as_ref()).to_os_string();
    name.push(".partial");
    to.with_file_name(name)
}

fn publish(partial: &Path, to: &Path) -> Result<(), BackupError> {
    fs::rename(partial, to).map_err(io_at(to))?;
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(io_at(to))
}

/// What a backup is made from: the folder as a start would bring it up, in memory and in a copy.
struct Source {
    cluster: ClusterId,
    recovered: Recovered,
    marker: SealMarker,
    chunks: Chunks,
    /// Where the journal on disk ends: the last position, and the hash of the last head.
    end: (u64, [u8; 32]),
    _copy: ShadowState,
}

impl Source {
    fn open(folder: &DataFolder, keys: &Keys) -> Result<Self, BackupError> {
        let cluster = cluster_id(folder, false, None)?;
        let folders = EpochFolders::new(folder.root());
        if !folders.list()?.is_empty() || folders.over()? > types::Epoch(0) {
            return Err(BackupError::Changed(folder.root().to_owned()));
        }
        let copy = copy_state(folder)?;
        let journal = open_shadow(folder.journal())?;
        let options = store::journal::JournalOptions::new(cluster, REPLICA);
        // Opened once to see where it ends on disk: recovery appends to it, in memory.
        let end = {
            let again = open_shadow(folder.journal())?;
            let (journal, _) = store::journal::Journal::open(again, options, keys.node.clone())
                .map_err(|error| crate::StartError::Journal(error.to_string()))?;
            (journal.next_position(GROUP) - 1, journal.head_hash(GROUP))
        };
        let places = Places::of_first(journal, open_shadow(folder.ledger())?, copy.path().to_owned());
        let recovered = recover(places, CACHE_LEN, true, keys, alone(cluster, keys.node.public_key()))?;
        let unsound = |what: &str| BackupError::Unsound(what.to_owned());
        let applied = recovered.state.applied().map_err(|error| unsound(&error.to_string()))?;
        if end.0 == 0 || recovered.sealer.head().size == 0 {
            return Err(BackupError::Empty(folder.root().to_owned()));
        }
        if !recovered.overlay.is_empty() {
            return Err(unsound("something was executed and could not be sealed"));
        }
        let marker =
            SealMarker::from_bytes(&applied.unwrap_or_default()).map_err(|error| unsound(&error.to_string()))?;
        let vault = Vault::existing(folder.vault()).map_err(|error| unsound(&error.to_string()))?;
        let chunks = Chunks::new(vault).map_err(io_at(folder.root()))?;
        Ok(Self { cluster, recovered, marker, chunks, end, _copy: copy })
    }

    fn manifest(&self, keys: &Keys) -> Manifest {
        let head = self.recovered.sealer.head();
        let status = self.recovered.replica.status();
        let created_ms = clock::now().wall_ns / 1_000_000;
        let genesis = genesis(&alone(self.cluster, keys.node.public_key()));
        // This head may be signed although no kept record of it is durable: it follows from a journal that is.
        let checkpoint = Checkpoint::new(&genesis.origin, head.size, head.root);
        let mut checkpoint = SignedCheckpoint::sign(checkpoint, keys.node.as_ref())
            .expect("the origin of the genesis makes a checkpoint");
        for member in &genesis.members {
            checkpoint.cosign(&member.name, keys.node.as_ref(), created_ms / 1000);
        }
        Manifest {
            cluster: self.cluster,
            group: GROUP,
            replica: REPLICA,
            epoch: EPOCH,
            logic: catalog::LOGIC_VERSION,
            created_ms,
            cut: head.cut,
            size: head.size,
            root: head.root,
            state: self.recovered.sealer.digest().sha256(),
            commands: self.marker.commands,
            position: self.end.0,
            head: self.end.1,
            ceiling: status.map_or(head.cut, |status| status.ceiling.max(head.cut)),
            incarnation: status.map_or_else(Default::default, |status| status.incarnation),
            checkpoint: checkpoint.to_string(),
            build: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

fn write_file(source: &Source, keys: &Keys, path: &Path, report: Report<'_>) -> Result<BackupReport, BackupError> {
    let file = create(path).map_err(io_at(path))?;
    let blocks = BlockWriter::new(BufWriter::with_capacity(BLOCK_LEN, file)).map_err(io_at(path))?;
    let mut out = Out { blocks, path, payload: Vec::new(), counts: Counts::default() };
    let manifest = source.manifest(keys);
    out.block(Kind::Manifest, &manifest.to_bytes())?;
    out.rows(source, &manifest, report)?;
    out.entries(source, &manifest, report)?;
    out.chunks(source, report)?;
    out.end(source.cluster, keys)?;
    let (bytes, counts) = (out.blocks.written(), out.counts);
    let file = out.blocks.into_inner().into_inner().map_err(|error| io_at(path)(error.into_error()))?;
    file.sync_all().map_err(io_at(path))?;
    Ok(BackupReport::new(bytes, &counts, &manifest))
}

/// A backup holds what the data folder holds, so it is readable by its owner only.
fn create(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// The file that is being written.
struct Out<'a> {
    blocks: BlockWriter<BufWriter<File>>,
    path: &'a Path,
    payload: Vec<u8>,
    counts: Counts,
}

/// Why a walk over the ledger ended early.
enum Stop {
    Log(LogError),
    Backup(BackupError),
}

impl From<LogError> for Stop {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}

impl Out<'_> {
    fn block(&mut self, kind: Kind, payload: &[u8]) -> Result<(), BackupError> {
        self.blocks.write(kind, payload).map_err(io_at(self.path))
    }

    /// Writes out what was gathered, if it is long enough or the last.
    fn close(&mut self, kind: Kind, last: bool) -> Result<(), BackupError> {
        if self.payload.len() >= BLOCK_LEN || (last && !self.payload.is_empty()) {
            let payload = core::mem::take(&mut self.payload);
            self.block(kind, &payload)?;
            self.payload = payload;
            self.payload.clear();
        }
        Ok(())
    }

    fn rows(&mut self, source: &Source, manifest: &Manifest, report: Report<'_>) -> Result<(), BackupError> {
        let mut phase = Phase::new(report, "rows", 0, Unit::Items);
        let mut digest = StateDigest::new();
        for (table, kind) in
            [(Table::Catalog, Kind::Catalog), (Table::Bodies, Kind::Bodies), (Table::Retry, Kind::Retry)]
        {
            let before = phase.done();
            let mut failed = None;
            let scanned = source.recovered.state.scan(table, b"", b"", &mut |key, value| {
                phase.add(1);
                if table == Table::Catalog {
                    digest.add(key, value);
                }
                put_row(&mut self.payload, key, value);
                match self.close(kind, false) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(error) => {
                        failed = Some(error);
                        ControlFlow::Break(())
                    }
                }
            });
            scanned.map_err(|error| BackupError::Unsound(error.to_string()))?;
            failed.map_or(Ok(()), Err)?;
            self.close(kind, true)?;
            let count = phase.done() - before;
            match table {
                Table::Catalog => self.counts.catalog = count,
                Table::Bodies => self.counts.bodies = count,
                _ => self.counts.retry = count,
            }
        }
        if digest.sha256() == manifest.state && source.marker.digest == digest.to_bytes() {
            return Ok(());
        }
        Err(BackupError::Unsound("its rows do not give the state digest that they were sealed with".to_owned()))
    }

    fn entries(&mut self, source: &Source, manifest: &Manifest, report: Report<'_>) -> Result<(), BackupError> {
        let log = &source.recovered.log;
        let mut phase = Phase::new(report, "ledger", log.len(), Unit::Items);
        let walked = log.verify(&mut |_, entry, side| {
            phase.add(1);
            put_entry(&mut self.payload, entry, side);
            self.close(Kind::Entries, false).map_err(Stop::Backup)
        });
        let verified = walked.map_err(|stop| match stop {
            Stop::Log(error) => BackupError::Unsound(error.to_string()),
            Stop::Backup(error) => error,
        })?;
        self.close(Kind::Entries, true)?;
        self.counts.entries = verified.len;
        if (verified.len, verified.root) != (manifest.size, manifest.root) {
            return Err(BackupError::Unsound("its entries do not give the root that was sealed".to_owned()));
        }
        check_last(log, verified.len, manifest)
    }

    /// Every body in the vault that a row refers to, once.
    fn chunks(&mut self, source: &Source, report: Report<'_>) -> Result<(), BackupError> {
        let mut phase = Phase::new(report, "bodies", 0, Unit::Bytes);
        let mut seen: HashSet<PlacementId> = HashSet::new();
        let mut written = Ok(());
        let mut visit = |body: &BodyAt| {
            if let BodyAt::Placed(placement) = body
                && written.is_ok()
                && seen.insert(placement.id)
            {
                written = self.body(&source.chunks, placement, &mut phase);
            }
            if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        let state = Arc::clone(&source.recovered.state);
        query::each_object(state.as_ref(), |_, row| visit(&row.body))
            .and_then(|()| query::each_part(state.as_ref(), |_, _, row| visit(&row.body)))
            .map_err(|error| BackupError::Unsound(error.to_string()))?;
        written
    }

    fn body(&mut self, chunks: &Chunks, placement: &Placement, phase: &mut Phase<'_>) -> Result<(), BackupError> {
        let mut written = Ok(());
        chunks.each(placement, |index, read| {
            if written.is_err() {
                return;
            }
            written = match read {
                Err(error) => Err(BackupError::Unsound(error.to_string())),
                Ok(bytes) => {
                    phase.add(bytes.len() as u64);
                    self.chunk(placement, index, bytes)
                }
            };
        });
        written
    }

    fn chunk(&mut self, placement: &Placement, index: u32, bytes: Bytes) -> Result<(), BackupError> {
        self.counts.chunks += 1;
        self.counts.chunk_bytes += bytes.len() as u64;
        let item = ChunkItem { id: placement.id, placed_at: placement.placed_at, index, bytes };
        self.block(Kind::Chunk, &item.to_bytes())
    }

    fn end(&mut self, cluster: ClusterId, keys: &Keys) -> Result<(), BackupError> {
        let signature = keys.node.sign(&signed_message(cluster, &self.blocks.check(), &self.counts.to_bytes()));
        self.block(Kind::End, &end_bytes(self.counts, &signature))
    }
}

/// The last entry closes a block, and commits to the rows.
fn check_last(log: &store::log::LogFiles, len: u64, manifest: &Manifest) -> Result<(), BackupError> {
    let bytes = log.entries(len - 1..len).map_err(|error| BackupError::Unsound(error.to_string()))?;
    let entry = bytes.first_chunk().and_then(|bytes| Entry::from_bytes(bytes).ok());
    match entry {
        Some(entry) if entry.is_block() && entry.name == manifest.state => Ok(()),
        _ => Err(BackupError::Unsound("its last block does not commit to its rows".to_owned())),
    }
}

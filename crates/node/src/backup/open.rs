//! Opening a backup: all of the file is checked before anything is made of it.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use ledger::policy::Policy;
use types::sign::Signer as _;

use super::format::{Block, BlockReader, FormatError, Kind};
use super::items::{self, ChunkItem, Counts, Manifest, signed_message, split_end};
use super::{BackupError, io_at};
use crate::keys::Keys;
use crate::progress::{Phase, Report, Unit};
use crate::start::{EPOCH, GROUP, REPLICA, alone, genesis};

/// A backup that is whole, of this node's keys, and of a version that this build can restore.
pub(super) struct Backup {
    pub(super) manifest: Manifest,
    pub(super) counts: Counts,
    /// Bytes of the file.
    pub(super) len: u64,
    file: File,
}

impl Backup {
    /// Reads all of the file.
    pub(super) fn open(path: &Path, keys: &Keys, report: Report<'_>) -> Result<Self, BackupError> {
        let file = File::open(path).map_err(io_at(path))?;
        let len = file.metadata().map_err(io_at(path))?.len();
        let mut phase = Phase::new(report, "checking the backup", len, Unit::Bytes);
        let refused = |source| BackupError::Refused { path: path.to_owned(), source };
        let whole = check(&file, &mut phase).map_err(refused)?;
        let Whole { manifest, counts, message, signature } = whole;
        let foreign = |reason: String| BackupError::Keys { path: path.to_owned(), reason };
        if !is_signed_by(&keys.node.public_key(), &message, &signature) {
            return Err(foreign("the signature is not of this node's key".to_owned()));
        }
        if manifest.logic > catalog::LOGIC_VERSION {
            let (found, known) = (manifest.logic, catalog::LOGIC_VERSION);
            return Err(BackupError::Logic { path: path.to_owned(), found, known });
        }
        check_checkpoint(&manifest, keys).map_err(foreign)?;
        Ok(Self { manifest, counts, len, file })
    }

    /// Visits the blocks once more, manifest and end left out.
    pub(super) fn each(
        &self,
        path: &Path,
        mut visit: impl FnMut(Block) -> Result<(), BackupError>,
    ) -> Result<(), BackupError> {
        use std::io::Seek as _;
        let refused = |source| BackupError::Refused { path: path.to_owned(), source };
        (&self.file).rewind().map_err(io_at(path))?;
        let mut reader = BlockReader::new(BufReader::with_capacity(1 << 20, &self.file)).map_err(refused)?;
        while let Some(block) = reader.next().map_err(refused)? {
            if !matches!(block.kind, Kind::Manifest | Kind::End) {
                visit(block)?;
            }
        }
        Ok(())
    }
}

/// A file of which every block checks.
struct Whole {
    manifest: Manifest,
    counts: Counts,
    /// What the node signed, and its signature.
    message: Vec<u8>,
    signature: [u8; 64],
}

fn check(file: impl Read, phase: &mut Phase<'_>) -> Result<Whole, FormatError> {
    let mut reader = BlockReader::new(BufReader::with_capacity(1 << 20, file))?;
    let mut manifest = None;
    let mut end = None;
    let mut counts = Counts::default();
    while let Some(block) = reader.next()? {
        phase.add(block.payload.len() as u64);
        let offset = block.offset;
        let damaged = |reason: String| FormatError::Damaged { offset, reason };
        match block.kind {
            Kind::Manifest => manifest = Some(Manifest::from_bytes(&block.payload).map_err(damaged)?),
            Kind::End => end = Some(block),
            _ => count(block, &mut counts).map_err(damaged)?,
        }
    }
    // The reader gives a manifest first and an end last, or an error.
    let (Some(manifest), Some(end)) = (manifest, end) else { return Err(FormatError::Foreign) };
    let damaged = |reason: &str| FormatError::Damaged { offset: end.offset, reason: reason.to_owned() };
    let (stated, signature) = split_end(&end.payload).ok_or_else(|| damaged("malformed end"))?;
    if stated != counts.to_bytes() || counts.entries != manifest.size || counts.entries == 0 {
        return Err(damaged("it does not hold as much as it says"));
    }
    let message = signed_message(manifest.cluster, &end.previous, &stated);
    Ok(Whole { manifest, counts, message, signature })
}

/// Decodes what is in a block, and counts it.
fn count(block: Block, counts: &mut Counts) -> Result<(), String> {
    let counter = match block.kind {
        Kind::Chunk => {
            let chunk = ChunkItem::from_bytes(block.payload).ok_or("malformed chunk")?;
            counts.chunks += 1;
            counts.chunk_bytes += chunk.bytes.len() as u64;
            return Ok(());
        }
        Kind::Entries => {
            for entry in items::entries(block.payload) {
                entry.ok_or("malformed entry")?;
                counts.entries += 1;
            }
            return Ok(());
        }
        Kind::Catalog => &mut counts.catalog,
        Kind::Bodies => &mut counts.bodies,
        _ => &mut counts.retry,
    };
    for row in items::rows(block.payload) {
        row.ok_or("malformed row")?;
        *counter += 1;
    }
    Ok(())
}

fn is_signed_by(key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
    UnparsedPublicKey::new(&ED25519, key).verify(message, signature).is_ok()
}

/// The checkpoint is signed by this node for its own log, and speaks of what the manifest says.
fn check_checkpoint(manifest: &Manifest, keys: &Keys) -> Result<(), String> {
    if (manifest.group, manifest.replica, manifest.epoch) != (GROUP, REPLICA, EPOCH) {
        return Err("it is of a replica of a larger group".to_owned());
    }
    let genesis = genesis(&alone(manifest.cluster, keys.node.public_key()));
    let signed =
        ledger::SignedCheckpoint::from_bytes(manifest.checkpoint.as_bytes()).map_err(|error| error.to_string())?;
    let checkpoint = signed.checkpoint();
    let policy =
        Policy::of_group(&genesis.origin, &genesis.members, genesis.quorum).map_err(|error| error.to_string())?;
    policy.check(manifest.checkpoint.as_bytes()).map_err(|error| error.to_string())?;
    if (checkpoint.size, checkpoint.root) != (manifest.size, manifest.root) {
        return Err("its checkpoint speaks of another log".to_owned());
    }
    Ok(())
}

//! `entangle ledger verify --data`: recomputes everything that a stopped data folder holds, and changes nothing.
//!
//! The journal is read as it is on disk, every byte of it. What a start would mend or make again (a torn flush,
//! ledger files that lag behind the state, commands above the stored cut) is mended and made again in memory, by
//! the code of the start itself, so that a folder is not called damaged for what a crash may leave. Then rows,
//! ledger and bodies are held against one another: the state digest of all rows against the last block entry, every
//! entry against the tree, every signed head against the root at its size, every body against its digests.

mod bodies;
mod chunks;
mod group;
mod journal;
mod log;
mod rows;
pub(crate) mod shadow;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use store::log::LogFiles;
use store::state::{FjallOptions, FjallState, State as _};
use store::vault::Vault;
use types::ClusterId;
use types::sign::Signer as _;

pub(crate) use chunks::Chunks;

use crate::config::GroupConfig;
use crate::error::StartError;
use crate::folder::DataFolder;
use crate::keys::Keys;
use crate::progress::Report;
use crate::recover::{Places, Recovered, recover};
use crate::replica::{Head, SealMarker};
use crate::start::{alone, cluster_id};
use shadow::{ShadowDisk, ShadowState};

/// Findings that are listed one by one; more are only counted.
const FINDINGS_MAX: usize = 1000;
/// Memory for the state's block cache.
pub(crate) const CACHE_LEN: u64 = 32 << 20;

/// Something that is not as it must be, or that is worth knowing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// Where: a file, a row, an entry.
    pub place: String,
    /// What is wrong with it, in one sentence.
    pub what: String,
}

/// What a verification found. Without findings, the folder is verified.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct VerifyReport {
    /// Number of ledger entries.
    pub tree_size: u64,
    /// The root over them, in hex.
    pub root: String,
    /// Blocks in the ledger.
    pub blocks: u64,
    /// Entries that were checked.
    pub entries: u64,
    /// Side records that were opened against their entries.
    pub side_records: u64,
    /// Of these, those of which a part was erased.
    pub side_records_erased: u64,
    /// Said records in the journal.
    pub journal_records: u64,
    /// Rows of all tables.
    pub rows: u64,
    /// Versions of objects, delete markers included.
    pub objects: u64,
    /// Bodies, of objects and of parts, that were compared with their digests.
    pub bodies: u64,
    /// Their bytes.
    pub body_bytes: u64,
    /// Bodies that this vault has not, or not wholly: in a group each is with some of the members.
    pub bodies_elsewhere: u64,
    /// What is wrong. Empty: the folder is verified.
    pub findings: Vec<Finding>,
    /// What is not wrong and worth knowing.
    pub notes: Vec<Finding>,
}

/// Why a verification could not be made at all.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The folder or the keys could not be opened.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Something could not be read, or the working copy of the state not be written.
    #[error("{path}: {source}; check that the disk is sound and has room for a copy of the state's own journal")]
    Io {
        /// What was touched.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

/// Verifies the data folder of a stopped node. Takes the folder's lock; blocks for as long as it takes to read
/// everything.
pub fn verify(data: &Path, keys: &Path, report: Report<'_>) -> Result<VerifyReport, VerifyError> {
    let (folder, _) = DataFolder::open(data, false)?;
    let keys = Keys::open(keys, false)?;
    verify_folder(&folder, &keys, report)
}

/// Verifies a folder whose lock is held.
pub(crate) fn verify_folder(
    folder: &DataFolder,
    keys: &Keys,
    progress: Report<'_>,
) -> Result<VerifyReport, VerifyError> {
    let mut found = Found::default();
    match cluster_id(folder, false, None) {
        Ok(cluster) => verify_parts(folder, keys, cluster, &mut found, progress)?,
        Err(error) => found.finding("cluster", error),
    }
    Ok(found.finish())
}

fn verify_parts(
    folder: &DataFolder,
    keys: &Keys,
    cluster: ClusterId,
    found: &mut Found,
    progress: Report<'_>,
) -> Result<(), VerifyError> {
    note_strangers(folder, found)?;
    for (name, part) in [("journal", folder.journal()), ("state", folder.state()), ("ledger", folder.ledger())] {
        if !part.is_dir() {
            found.finding(name, "the folder is missing; put it back, or restore a backup into a new data folder");
            return Ok(());
        }
    }
    if let Err(error) = store::state::check_manifests(folder.state()) {
        found.finding("state", error);
    }
    let copy = copy_state(folder)?;
    // Where reading it panics, that is found once more, and named, below.
    let lone = || Some(alone(cluster, keys.node.public_key()));
    let group =
        catch_unwind(AssertUnwindSafe(|| group::of(copy.path(), keys, cluster, found))).unwrap_or_else(|_| lone());
    let Some(group) = group else { return Ok(()) };
    let Some(mut places) = group::places(folder, copy.path(), found)? else { return Ok(()) };
    for (name, disk) in places.journals() {
        journal::check(disk, &name, (cluster, group.replica), &keys.node.public_key(), found, progress);
    }
    let ledger = places.ledger.clone();
    let had_several = group.members.len() > 1 || !places.later.is_empty();
    let (sources, is_shared) = match reach(places.open(), keys, group, found)? {
        Some(recovered) => {
            let is_shared = recovered.membership.members.len() > 1;
            (Some(Sources::of(&recovered, found)), is_shared)
        }
        None => (Sources::stored(ledger, copy.path(), found), had_several),
    };
    let Some(sources) = sources else { return Ok(()) };
    if sources.log.as_ref().is_some_and(|log| log.has_torn_mark()) {
        let what = "one of its two slots does not check: a crash cut its write short, or it was changed later; the other \
                    one counts, and everything was checked by it";
        found.note("ledger/mark", what);
    }
    let digest = guarded(found, "state", |found| rows::check(&sources, found, progress)).flatten();
    guarded(found, "ledger", |found| log::check(&sources, digest, found, progress));
    guarded(found, "state", |found| rows::check_access_keys(&sources.state, keys, found));
    match Vault::existing(folder.vault()) {
        Ok(vault) => {
            let chunks = Chunks::new(vault).map_err(|source| VerifyError::Io { path: folder.vault(), source })?;
            guarded(found, "state", |found| bodies::check(&sources.state, (&chunks, is_shared), found, progress));
        }
        Err(error) => found.finding("vault", error),
    }
    Ok(())
}

/// Opens a folder of files for reading, with writes going to memory.
pub(crate) fn open_shadow(path: PathBuf) -> Result<Arc<ShadowDisk>, VerifyError> {
    ShadowDisk::open(&path).map(Arc::new).map_err(|source| VerifyError::Io { path, source })
}

/// Makes the working copy of the state.
pub(crate) fn copy_state(folder: &DataFolder) -> Result<ShadowState, VerifyError> {
    ShadowState::make(folder).map_err(|source| VerifyError::Io { path: folder.shadow(), source })
}

/// Brings the shadow to where a start would bring the folder; `None` when a start would refuse.
fn reach(places: Places, keys: &Keys, group: GroupConfig, found: &mut Found) -> Result<Option<Recovered>, VerifyError> {
    if !found.report.findings.is_empty() {
        // The journal is damaged, so that nothing can be executed from it, or the state is.
        return Ok(None);
    }
    let recovered = guarded(found, "state", |_| recover(places, CACHE_LEN, true, keys, group));
    let (place, error) = match recovered {
        None => return Ok(None),
        Some(Ok(recovered)) => return Ok(Some(recovered)),
        Some(Err(error @ StartError::Io { .. })) => return Err(error.into()),
        Some(Err(error)) => (place_of(&error), error),
    };
    found.finding(place, error);
    Ok(None)
}

fn place_of(error: &StartError) -> &'static str {
    match error {
        StartError::State(_) => "state",
        StartError::Ledger(_) => "ledger",
        StartError::Vault(_) => "vault",
        StartError::Journal(_) | StartError::Core(_) => "journal",
        _ => "data",
    }
}

/// What rows and ledger are read from.
struct Sources {
    state: Arc<FjallState>,
    log: Option<Arc<LogFiles>>,
    marker: Option<SealMarker>,
    /// Heads that the node has made durable to sign them.
    heads: Vec<Head>,
}

impl Sources {
    /// Everything as a start would have it. That of a member of a larger group has what was stored, and hears the rest from
    /// the others: it may have signed heads of that.
    fn of(recovered: &Recovered, found: &mut Found) -> Self {
        let Recovered { journals, state, log, .. } = recovered;
        let mut heads: Vec<Head> = journals.values().flat_map(|(_, journal)| journal::heads(journal)).collect();
        let signed = heads.iter().map(|head| head.size).max().unwrap_or(0);
        if !recovered.has_started && signed > log.len() {
            let what = format!(
                "the stored state and its log end at {} entries, and this member has signed heads up to {signed}: what is \
                 between is in the journals, and a start executes it with what the others say",
                log.len()
            );
            found.note("ledger", what);
            heads.retain(|head| head.size <= log.len());
        }
        Self { state: state.clone(), log: Some(log.clone()), marker: marker(state), heads }
    }

    /// What is on disk, when a start would refuse: to name as much as can be named.
    fn stored(ledger: Arc<ShadowDisk>, state: &Path, found: &mut Found) -> Option<Self> {
        let options = FjallOptions { cache_len: CACHE_LEN, ..FjallOptions::default() };
        let state = match FjallState::open(state, options) {
            Ok(state) => Arc::new(state),
            Err(error) => {
                found.finding("state", error);
                return None;
            }
        };
        let log = match LogFiles::open(ledger) {
            Ok(log) => Some(Arc::new(log)),
            Err(error) => {
                found.finding("ledger", error);
                None
            }
        };
        Some(Self { marker: marker(&state), state, log, heads: Vec::new() })
    }
}

fn marker(state: &FjallState) -> Option<SealMarker> {
    state.applied().ok().flatten().and_then(|bytes| SealMarker::from_bytes(&bytes).ok())
}

/// What was found so far.
#[derive(Default)]
pub(crate) struct Found {
    report: VerifyReport,
    unlisted: u64,
}

impl Found {
    /// Something is wrong. One thing is listed once.
    #[expect(clippy::needless_pass_by_value, reason = "callers hand over errors and texts alike")]
    fn finding(&mut self, place: impl Into<String>, what: impl ToString) {
        let finding = Finding { place: place.into(), what: what.to_string() };
        if self.report.findings.contains(&finding) {
            return;
        }
        if self.report.findings.len() < FINDINGS_MAX {
            self.report.findings.push(finding);
        } else {
            self.unlisted += 1;
        }
    }

    /// Something is worth knowing.
    #[expect(clippy::needless_pass_by_value, reason = "callers hand over errors and texts alike")]
    fn note(&mut self, place: impl Into<String>, what: impl ToString) {
        self.report.notes.push(Finding { place: place.into(), what: what.to_string() });
    }

    fn finish(mut self) -> VerifyReport {
        if self.unlisted > 0 {
            let what = format!("{} more findings are not listed", self.unlisted);
            self.report.findings.push(Finding { place: "data".to_owned(), what });
        }
        self.report
    }
}

/// Runs a check over files that may be damaged. Parsers of the state's files panic on some damage; that is a finding.
fn guarded<T>(found: &mut Found, place: &'static str, check: impl FnOnce(&mut Found) -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(|| check(found))) {
        Ok(checked) => Some(checked),
        Err(_) => {
            found.finding(place, "its files are so damaged that they cannot be read through");
            None
        }
    }
}

/// Notes what is in the folder and is nothing of ours.
fn note_strangers(folder: &DataFolder, found: &mut Found) -> Result<(), VerifyError> {
    const KNOWN: [&str; 10] =
        ["format", "cluster", "lock", "journal", "state", "ledger", "vault", "shadow", "epochs", "state.current"];
    let is_state = |name: &str| name.strip_prefix("state-").is_some_and(|number| number.parse::<u32>().is_ok());
    let fail = |source| VerifyError::Io { path: folder.root().to_owned(), source };
    for entry in fs::read_dir(folder.root()).map_err(fail)? {
        let name = entry.map_err(fail)?.file_name().to_string_lossy().into_owned();
        if !KNOWN.contains(&name.as_str()) && !is_state(&name) {
            found.note(name, "is nothing that this program made; it was not looked at");
        }
    }
    Ok(())
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use core::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        write!(out, "{byte:02x}").expect("writing into a string cannot fail");
        out
    })
}

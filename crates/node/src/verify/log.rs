//! The ledger: every entry, side record, stored hash and block, every signed head, and the state at the end.

use ledger::tree::Frontier;
use ledger::verify::{Defect, Walker};
use store::log::{LogError, LogFiles};

use super::{Found, Sources, hex};
use crate::progress::{Phase, Report, Unit};

/// Why a walk ended early.
enum Stop {
    Log(LogError),
    Defect(Defect),
}

impl From<LogError> for Stop {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}

/// `state_digest`: SHA-256 of the digest of all rows, if they could be read.
pub(super) fn check(sources: &Sources, state_digest: Option<[u8; 32]>, found: &mut Found, progress: Report<'_>) {
    let Some(log) = &sources.log else { return };
    match &sources.marker {
        Some(marker) => check_marker(log, &marker.frontier, marker.commands, found),
        None if log.is_empty() => return,
        None => found.finding("state", "it has no seal marker, and there are ledger entries"),
    }
    let heads = sources.heads.iter().map(|head| (head.size, head.root)).collect();
    let mut walker = Walker::new(heads);
    let mut phase = Phase::new(progress, "ledger", log.len(), Unit::Items);
    let walked = log.verify(&mut |_, entry, side| {
        phase.add(1);
        walker.push(entry, Some(side), |_| {}).map_err(Stop::Defect)
    });
    drop(phase);
    match walked {
        Err(Stop::Log(error)) => return found.finding("ledger", error),
        Err(Stop::Defect(defect)) => {
            return found.finding(format!("ledger/entries, entry {}", defect.index), defect.kind);
        }
        Ok(_) => {}
    }
    // Only entries that reach the marker's size can commit to the rows.
    let at_marker = sources.marker.as_ref().is_some_and(|marker| size_of(&marker.frontier) == Some(log.len()));
    match walker.finish(state_digest.as_ref().filter(|_| at_marker)) {
        Ok(summary) => {
            let report = &mut found.report;
            report.tree_size = summary.entries;
            report.entries = summary.entries;
            report.root = hex(&summary.root);
            report.blocks = summary.blocks;
            report.side_records = summary.open_sides + summary.erased_sides;
            report.side_records_erased = summary.erased_sides;
        }
        Err(defect) => found.finding(format!("ledger, after {} entries", defect.index), defect.kind),
    }
}

fn size_of(frontier: &[u8]) -> Option<u64> {
    Frontier::from_bytes(frontier).ok().map(|frontier| frontier.size())
}

/// The edge of the tree that the state was sealed with must be that of the files.
fn check_marker(log: &LogFiles, frontier: &[u8], commands: u64, found: &mut Found) {
    let Ok(frontier) = Frontier::from_bytes(frontier) else {
        return found.finding("state", "its seal marker holds no edge of a tree");
    };
    let size = frontier.size();
    if size == 0 && commands > 0 {
        return found
            .finding("ledger", "this folder was written with the ledger turned off: there is nothing to verify it by");
    }
    if log.len() < size {
        return found.finding("ledger", format!("it holds {} entries and the state was sealed with {size}", log.len()));
    }
    match ledger::tree::root_at(log, size) {
        Ok(root) if root == frontier.root() => {}
        Ok(_) => found
            .finding("ledger", format!("its first {size} entries do not give the root that the state was sealed with")),
        Err(error) => found.finding("ledger", error),
    }
}

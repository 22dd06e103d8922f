//! The journal on disk: every checksum, link, root, signature and body hash.

use store::journal::{Journal, KeptKind, OpenError};
use types::{ClusterId, ReplicaId};

use super::Found;
use super::shadow::ShadowDisk;
use crate::progress::{Phase, Report, Unit};
use crate::replica::Head;
use crate::start::GROUP;

pub(super) fn check(
    disk: &ShadowDisk,
    name: &str,
    (cluster, replica): (ClusterId, ReplicaId),
    public_key: &[u8; 32],
    found: &mut Found,
    progress: Report<'_>,
) {
    let mut phase = Phase::new(progress, "journal", disk.disk_len(), Unit::Bytes);
    let verified = store::journal::verify(disk, cluster, replica, public_key, &mut |len| phase.add(len as u64));
    match verified {
        Ok(verified) => {
            found.report.journal_records += verified.records;
            if let Some(torn) = verified.torn {
                let what =
                    "a crash cut its last flush short; nothing of that was acknowledged, and the next start removes it";
                found.note(torn.file, what);
            }
        }
        Err(OpenError::Io { file, source }) => found.finding(file, source),
        Err(error) => found.finding(name, error),
    }
}

/// All heads that the node made durable before it signed them, as far as the journal still has them.
pub(super) fn heads(journal: &Journal) -> Vec<Head> {
    let kept = journal.reader().kept(GROUP, KeptKind::TREE_HEAD).unwrap_or_default();
    let latest = journal.kept(GROUP, KeptKind::TREE_HEAD);
    let mut heads: Vec<Head> = kept.into_iter().chain(latest).filter_map(|bytes| Head::from_bytes(&bytes)).collect();
    heads.sort_unstable_by_key(|head| head.size);
    heads.dedup();
    heads
}

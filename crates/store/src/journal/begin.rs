//! Beginning a journal that goes on where another one ended: what restoring a backup does.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use types::GroupId;
use types::sign::Signer;

use super::append::Journal;
use super::error::OpenError;
use super::segment::{Carried, Stand};
use super::{Base, JournalOptions, Kept};
use crate::disk::Disk;

/// Where a group's journal begins that is not its first one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Beginning {
    /// The group.
    pub group: GroupId,
    /// What stands in place of everything said before; the first record goes to `base.below`.
    pub base: Base,
    /// Hash of the last batch head said before, which the first batch will name.
    pub previous: [u8; 32],
    /// Kept records that are carried over; only those of which the latest counts.
    pub kept: Vec<Kept>,
}

impl Beginning {
    /// Stands and carried records at the beginning.
    pub(super) fn place(&self) -> (BTreeMap<GroupId, Stand>, Carried) {
        let stand = Stand { next: self.base.below, previous: self.previous };
        let kept = self.kept.iter().filter(|kept| kept.kind.is_latest_only()).cloned();
        let base = self.base.to_kept(self.group);
        let carried = kept.chain([base]).map(|kept| ((kept.group, kept.kind), kept.bytes)).collect();
        (BTreeMap::from([(self.group, stand)]), carried)
    }
}

impl Journal {
    /// Makes a journal in an empty folder that goes on where another one ended. Durable when it returns.
    pub fn begin(
        disk: Arc<dyn Disk>,
        options: JournalOptions,
        signer: Arc<dyn Signer>,
        beginning: &Beginning,
    ) -> Result<Self, OpenError> {
        let fail = |source| OpenError::Io { file: disk.locate(""), source };
        if !disk.list().map_err(fail)?.is_empty() {
            return Err(fail(io::ErrorKind::AlreadyExists.into()));
        }
        Self::open_or_begin(disk, options, signer, Some(beginning)).map(|(journal, _)| journal)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use bytes::Bytes;
    use types::journal::{RecordHeader, RecordKind};
    use types::{ClusterId, CommandId, Epoch, Incarnation, ReplicaId, Timestamp};

    use super::*;
    use crate::disk::MemDisk;
    use crate::journal::vectors::signer;
    use crate::journal::{Batch, KeptKind, Record, verify};

    fn record(position: u64) -> Record {
        let header = RecordHeader {
            kind: RecordKind::Clock,
            flags: 0,
            epoch: Epoch(1),
            position,
            id: CommandId::default(),
            timestamp: Timestamp(1),
            ballot: 0,
            aux: 2,
            body_len: 0,
            body_hash: [0; 32],
        };
        Record { header, salt: [0; 32], body: Bytes::new() }
    }

    #[test]
    fn goes_on_behind_its_predecessor_and_remembers_that() {
        let signer = signer();
        let options = JournalOptions { segment_len: 4096, ..JournalOptions::new(ClusterId([1; 16]), ReplicaId(1)) };
        let disk = MemDisk::new();
        let group = GroupId(1);
        let base = Base { below: 41, bytes: Bytes::from_static(b"base") };
        let head = Kept { group, kind: KeptKind::TREE_HEAD, bytes: Bytes::from_static(b"head") };
        let beginning = Beginning { group, base: base.clone(), previous: [9; 32], kept: vec![head] };
        let mut journal = Journal::begin(Arc::new(disk.clone()), options, signer.clone(), &beginning).unwrap();
        assert_eq!((journal.next_position(group), journal.head_hash(group)), (41, [9; 32]));
        fn batch(records: &[Record]) -> Batch<'_> {
            Batch { group: GroupId(1), incarnation: Incarnation(3), records }
        }
        assert!(journal.append(&[batch(&[record(1)])], &[]).is_err(), "positions go on");
        let flushed = journal.append(&[batch(&[record(41)])], &[]).unwrap();
        assert_eq!(flushed.batches[0].head.previous, [9; 32]);
        drop(journal);
        let again = Journal::begin(Arc::new(disk.clone()), options, signer.clone(), &beginning);
        assert!(again.is_err(), "a journal begins once");
        let (journal, _) = Journal::open(Arc::new(disk.clone()), options, signer.clone()).unwrap();
        assert_eq!(journal.next_position(group), 42);
        assert_eq!(journal.base(group), Some(base));
        assert_eq!(journal.kept(group, KeptKind::TREE_HEAD).as_deref(), Some(&b"head"[..]));
        assert_eq!(journal.reader().first_position(group), 41);
        let verified = verify(&disk, options.cluster, options.replica, &signer.public_key(), &mut |_| {}).unwrap();
        assert_eq!((verified.records, verified.torn), (1, None));
    }
}

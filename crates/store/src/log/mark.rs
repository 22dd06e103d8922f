//! The mark: how much of the ledger's files is durable.

use super::{LogError, Named};
use crate::disk::{Disk, SECTOR_LEN};

const MAGIC: [u8; 8] = *b"ENTLGMRK";
const VERSION: u32 = 1;
const CONTENT_LEN: usize = 40;
/// The name of the file.
pub(super) const NAME: &str = "mark";

/// What is durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Mark {
    pub(super) generation: u64,
    pub(super) len: u64,
    pub(super) side_len: u64,
}

/// The file that holds two of them.
pub(super) struct MarkFile {
    named: Named,
    pub(super) current: Mark,
    /// A slot did not check when it was opened. A crash may have cut its write short: then nothing relies on it. Or it
    /// was damaged later: then it may be the newer one.
    pub(super) is_torn: bool,
}

impl Mark {
    fn to_slot(self) -> [u8; SECTOR_LEN] {
        let mut slot = [0; SECTOR_LEN];
        slot[..8].copy_from_slice(&MAGIC);
        slot[8..12].copy_from_slice(&VERSION.to_be_bytes());
        slot[16..24].copy_from_slice(&self.generation.to_be_bytes());
        slot[24..32].copy_from_slice(&self.len.to_be_bytes());
        slot[32..40].copy_from_slice(&self.side_len.to_be_bytes());
        let crc = crc_fast::crc32_iscsi(&slot[..CONTENT_LEN]);
        slot[CONTENT_LEN..CONTENT_LEN + 4].copy_from_slice(&crc.to_be_bytes());
        slot
    }

    /// `Err` holds the version of a slot that checks and is of another one.
    fn from_slot(slot: &[u8]) -> Result<Option<Self>, u32> {
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&slot[at..at + 8]);
            u64::from_be_bytes(word)
        };
        let crc = crc_fast::crc32_iscsi(&slot[..CONTENT_LEN]).to_be_bytes();
        let is_filled = slot[CONTENT_LEN + 4..].iter().all(|&byte| byte == 0);
        if slot[..8] != MAGIC || slot[CONTENT_LEN..CONTENT_LEN + 4] != crc || !is_filled {
            return Ok(None);
        }
        let version = u32::try_from(word(8) >> 32).unwrap_or(u32::MAX);
        if version != VERSION {
            return Err(version);
        }
        Ok(Some(Self { generation: word(16), len: word(24), side_len: word(32) }))
    }
}

impl MarkFile {
    /// Reads the mark. `is_new` says that the other files are empty or not there, so that it may be made.
    pub(super) fn open(disk: &dyn Disk, is_new: bool) -> Result<Self, LogError> {
        let named = Named::create_or_open(disk, NAME)?;
        let mut slots = [0; 2 * SECTOR_LEN];
        named.file.read_at(&mut slots, 0).map_err(|source| super::failed(&named.name, source))?;
        let (mut found, mut is_torn): (Option<Mark>, bool) = (None, false);
        for slot in slots.chunks_exact(SECTOR_LEN) {
            let mark = Mark::from_slot(slot)
                .map_err(|version| LogError::Version { file: named.name.clone(), found: version })?;
            is_torn |= mark.is_none() && slot.iter().any(|&byte| byte != 0);
            found = found.into_iter().chain(mark).max_by_key(|mark| mark.generation);
        }
        let mut file = Self { named, current: found.unwrap_or_default(), is_torn };
        match found {
            // It was durable before the other one was written, which stays as it is, for whoever looks into it.
            Some(_) if is_torn => {
                file.named.sync()?;
                Ok(file)
            }
            // What was found may stand only in the cache of the operating system, and its name too.
            Some(found) => {
                file.write(Mark { generation: found.generation + 1, ..found })?;
                disk.sync_dir().map_err(|source| super::failed(&disk.locate(""), source))?;
                Ok(file)
            }
            None if is_new => {
                file.write(Mark { generation: 1, len: 0, side_len: 0 })?;
                disk.sync_dir().map_err(|source| super::failed(&disk.locate(""), source))?;
                Ok(file)
            }
            None => Err(file.named.damaged("neither of its slots checks")),
        }
    }

    /// Makes `mark` durable as the current one.
    pub(super) fn write(&mut self, mark: Mark) -> Result<(), LogError> {
        self.named.write(&mark.to_slot(), (mark.generation % 2) * SECTOR_LEN as u64)?;
        self.named.sync()?;
        self.current = mark;
        Ok(())
    }
}

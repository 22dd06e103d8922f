//! Side records: the readable part of entries, and the only one that can be erased.

use bytes::Bytes;

use super::{LogError, LogFiles, Named, failed};

const REDO: &str = "side-redo";
const REDO_MAGIC: [u8; 8] = *b"ENTLGRDO";
const REDO_FIXED_LEN: usize = 24;

impl LogFiles {
    /// The side record of an entry.
    pub fn side(&self, index: u64) -> Result<Bytes, LogError> {
        self.check(index.saturating_add(1), self.len())?;
        let (start, len) = self.side_place(index)?;
        let bytes = self.side.read(start, len)?;
        let record_len = bytes.first_chunk::<4>().map(|len| u32::from_be_bytes(*len) as usize);
        match record_len {
            Some(record_len) if record_len <= len - 4 => Ok(Bytes::from(bytes).slice(4..4 + record_len)),
            _ => Err(self.side.damaged(&format!("the record of entry {index} is longer than its place"))),
        }
    }

    /// Replaces a durable entry's side record, in place and durably: by one from which what is to be forgotten
    /// has been taken. It must not be longer than the old one.
    pub fn replace_side(&self, index: u64, side: &[u8]) -> Result<(), LogError> {
        let mut writer = self.writer()?;
        self.check(index.saturating_add(1), writer.mark.current.len)?;
        let (start, len) = self.side_place(index)?;
        if side.len() + 4 > len {
            return Err(LogError::TooLong(index));
        }
        let mut bytes = vec![0; len];
        bytes[..4].copy_from_slice(&u32::try_from(side.len()).map_err(|_| LogError::TooLong(index))?.to_be_bytes());
        bytes[4..4 + side.len()].copy_from_slice(side);
        let redo = Named::create_or_open(self.disk.as_ref(), REDO)?;
        let replaced = (|| {
            redo.write(&encode_redo(start, &bytes), 0)?;
            redo.sync()?;
            self.sync_names()?;
            self.carry_out(start, &bytes)
        })();
        replaced.inspect_err(|_| writer.poisoned = true)
    }

    /// Completes a replacement that a crash cut short, or drops one that had not begun.
    pub(super) fn redo(&self) -> Result<(), LogError> {
        let file = match self.disk.open(REDO) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(failed(&self.disk.locate(REDO), source)),
        };
        let named = Named { file, name: self.disk.locate(REDO) };
        let len = named.file.len().map_err(|source| failed(&named.name, source))?;
        let bytes = named.read(0, usize::try_from(len).unwrap_or(usize::MAX))?;
        let side_len = self.writer.lock().side_len;
        match decode_redo(&bytes) {
            Some((start, bytes)) if start.saturating_add(bytes.len() as u64) <= side_len => {
                self.carry_out(start, bytes)
            }
            _ => self.drop_redo(),
        }
    }

    fn carry_out(&self, start: u64, bytes: &[u8]) -> Result<(), LogError> {
        self.side.write(bytes, start)?;
        self.side.sync()?;
        self.drop_redo()
    }

    fn drop_redo(&self) -> Result<(), LogError> {
        self.disk.remove(REDO).map_err(|source| failed(&self.disk.locate(REDO), source))?;
        self.sync_names()
    }

    fn sync_names(&self) -> Result<(), LogError> {
        self.disk.sync_dir().map_err(|source| failed(&self.disk.locate(""), source))
    }

    /// Where in `side` the record of an entry stands: offset and length, its length word included.
    fn side_place(&self, index: u64) -> Result<(u64, usize), LogError> {
        let (start, end) = (self.side_end(index)?, self.side_end(index + 1)?);
        let len = end.checked_sub(start).filter(|len| *len >= 4).and_then(|len| usize::try_from(len).ok());
        let len = len.filter(|len| *len <= types::limits::SIDE_LEN_MAX + 4);
        len.map(|len| (start, len))
            .ok_or_else(|| self.side_index.damaged(&format!("entry {index} ends where it should not")))
    }

    /// Where the side records of the first `len` entries end.
    pub(super) fn side_end(&self, len: u64) -> Result<u64, LogError> {
        let Some(last) = len.checked_sub(1) else { return Ok(0) };
        let bytes = self.side_index.read(last * 8, 8)?;
        let mut word = [0; 8];
        word.copy_from_slice(&bytes);
        Ok(u64::from_be_bytes(word))
    }
}

fn encode_redo(start: u64, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(REDO_FIXED_LEN + bytes.len() + 4);
    out.extend_from_slice(&REDO_MAGIC);
    out.extend_from_slice(&start.to_be_bytes());
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(bytes);
    let crc = crc_fast::crc32_iscsi(&out);
    out.extend_from_slice(&crc.to_be_bytes());
    out
}

fn decode_redo(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (content, crc) = bytes.split_last_chunk::<4>()?;
    let (fixed, record) = content.split_at_checked(REDO_FIXED_LEN)?;
    let checks = crc_fast::crc32_iscsi(content).to_be_bytes() == *crc
        && fixed[..8] == REDO_MAGIC
        && fixed[16..20] == u32::try_from(record.len()).ok()?.to_be_bytes();
    let (start, _) = fixed[8..].split_first_chunk::<8>()?;
    checks.then(|| (u64::from_be_bytes(*start), record))
}

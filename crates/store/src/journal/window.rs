//! Reads a file front to back in large pieces.

use std::io;
use std::sync::Arc;

use crate::disk::DiskFile;

/// Bytes read at once, where no more are asked for.
const PIECE_LEN: usize = 1024 * 1024;

/// A piece of a file in memory.
pub(super) struct Window {
    file: Arc<dyn DiskFile>,
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    pub(super) fn new(file: Arc<dyn DiskFile>) -> Self {
        Self { file, start: 0, bytes: Vec::new() }
    }

    /// `len` bytes at `offset`; fewer only at the end of the file.
    pub(super) fn bytes(&mut self, offset: u64, len: usize) -> io::Result<&[u8]> {
        let inside = offset.checked_sub(self.start).and_then(|from| usize::try_from(from).ok());
        let from = match inside {
            Some(from) if from + len <= self.bytes.len() => from,
            _ => {
                self.bytes.resize(len.max(PIECE_LEN), 0);
                self.start = offset;
                let read = self.file.read_at(&mut self.bytes, offset)?;
                self.bytes.truncate(read);
                0
            }
        };
        let end = (from + len).min(self.bytes.len());
        Ok(&self.bytes[from..end])
    }

    /// The offset of the first byte from `offset` on, below `end`, that is not zero.
    pub(super) fn first_nonzero(&mut self, mut offset: u64, end: u64) -> io::Result<Option<u64>> {
        while offset < end {
            let want = usize::try_from(end - offset).map_or(PIECE_LEN, |rest| rest.min(PIECE_LEN));
            let piece = self.bytes(offset, want)?;
            if piece.is_empty() {
                break;
            }
            if let Some(at) = piece.iter().position(|byte| *byte != 0) {
                return Ok(Some(offset + at as u64));
            }
            offset += piece.len() as u64;
        }
        Ok(None)
    }
}

//! Reads a file front to back in large pieces.

use std::io;
use std::sync::Arc;

use crate::disk::DiskFile;

/// Bytes read at once, where no more are asked for.
const PIECE_LEN: usize = 1024 * 1024;
/// Bytes compared with zero in one go.
const BLOCK_LEN: usize = 4096;

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
                let rest = usize::try_from(self.file.len()?.saturating_sub(offset)).unwrap_or(usize::MAX);
                self.bytes.resize(len.max(PIECE_LEN).min(rest), 0);
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
            // By blocks first: this goes over all the slack of a journal at every start.
            let block = piece.chunks(BLOCK_LEN).position(|block| block.iter().fold(0, |all, byte| all | byte) != 0);
            let start = block.map(|block| block * BLOCK_LEN);
            let found = start.and_then(|start| piece[start..].iter().position(|byte| *byte != 0).map(|at| start + at));
            if let Some(at) = found {
                return Ok(Some(offset + at as u64));
            }
            offset += piece.len() as u64;
        }
        Ok(None)
    }
}

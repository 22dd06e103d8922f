//! The frame of a backup file: numbered blocks, each with a check that covers all before it
//! (`docs/formats/backup.md`). What is in the blocks is the business of `items`.

use std::io::{self, Read, Write};

const MAGIC: [u8; 8] = *b"ENTBACK\0";
const VERSION: u32 = 1;
const FILE_HEADER_LEN: usize = 16;
const BLOCK_HEADER_LEN: usize = 48;
const BLOCK_DOMAIN: &[u8] = b"entangle/backup-block/v1\n";
/// Bytes of the payload of a block.
pub(super) const BLOCK_LEN_MAX: usize = 16 << 20;

/// What a block holds. The number is the byte in the file; kinds never fall.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub(super) enum Kind {
    Manifest = 1,
    Catalog = 2,
    Bodies = 3,
    Retry = 4,
    Entries = 5,
    Chunk = 6,
    End = 7,
}

impl Kind {
    fn from_u8(byte: u8) -> Option<Self> {
        use Kind as K;
        let all = [K::Manifest, K::Catalog, K::Bodies, K::Retry, K::Entries, K::Chunk, K::End];
        all.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// Why a file is not a whole backup.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// It could not be read.
    #[error("it cannot be read: {0}")]
    Io(io::Error),
    /// Another kind of file.
    #[error("it is not a backup of Entangle")]
    Foreign,
    /// Written in another version of the format.
    #[error(
        "it is of backup format {0} and this build reads format {VERSION}; restore it with the build that wrote it"
    )]
    Version(u32),
    /// It ends in the middle.
    #[error("it is cut short at byte {0}; use another copy")]
    Short(u64),
    /// Something does not check.
    #[error("it is damaged at byte {offset}: {reason}; use another copy")]
    Damaged {
        /// Where the block starts.
        offset: u64,
        /// What does not check.
        reason: String,
    },
}

type Check = [u8; 32];

fn check_of(previous: &Check, header: &[u8], payload: &[u8]) -> Check {
    let mut hasher = blake3::Hasher::new();
    hasher.update(BLOCK_DOMAIN);
    hasher.update(previous);
    hasher.update(header);
    hasher.update(payload);
    *hasher.finalize().as_bytes()
}

fn file_header() -> [u8; FILE_HEADER_LEN] {
    let mut header = [0; FILE_HEADER_LEN];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_be_bytes());
    header
}

/// Writes blocks.
pub(super) struct BlockWriter<W> {
    out: W,
    number: u64,
    check: Check,
    written: u64,
}

impl<W: Write> BlockWriter<W> {
    /// Begins a file.
    pub(super) fn new(mut out: W) -> io::Result<Self> {
        let header = file_header();
        out.write_all(&header)?;
        let check = *blake3::hash(&header).as_bytes();
        Ok(Self { out, number: 0, check, written: FILE_HEADER_LEN as u64 })
    }

    /// Writes the next block.
    pub(super) fn write(&mut self, kind: Kind, payload: &[u8]) -> io::Result<()> {
        assert!(payload.len() <= BLOCK_LEN_MAX, "what goes into a block is bounded by the limits of rows and chunks");
        let mut header = [0; BLOCK_HEADER_LEN];
        header[0] = kind as u8;
        header[4..8].copy_from_slice(&(payload.len() as u32).to_be_bytes());
        header[8..16].copy_from_slice(&self.number.to_be_bytes());
        self.check = check_of(&self.check, &header[..16], payload);
        header[16..].copy_from_slice(&self.check);
        self.out.write_all(&header)?;
        self.out.write_all(payload)?;
        self.number += 1;
        self.written += (BLOCK_HEADER_LEN + payload.len()) as u64;
        Ok(())
    }

    /// The check of the last block: covers everything written so far.
    pub(super) fn check(&self) -> Check {
        self.check
    }

    /// Bytes written.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Gives back what was written to.
    pub(super) fn into_inner(self) -> W {
        self.out
    }
}

/// A block as it was read; it checks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Block {
    pub(super) kind: Kind,
    /// Where it starts in the file.
    pub(super) offset: u64,
    /// The check of the block before it.
    pub(super) previous: Check,
    pub(super) payload: Vec<u8>,
}

/// Reads blocks, and refuses the first that does not check. No bytes make it panic.
pub(super) struct BlockReader<R> {
    input: R,
    number: u64,
    check: Check,
    offset: u64,
    last: Option<Kind>,
}

impl<R: Read> BlockReader<R> {
    /// Reads the header of the file.
    pub(super) fn new(mut input: R) -> Result<Self, FormatError> {
        let mut header = [0; FILE_HEADER_LEN];
        let read = fill(&mut input, &mut header)?;
        if read < FILE_HEADER_LEN || header[..8] != MAGIC {
            return Err(FormatError::Foreign);
        }
        let [_, _, _, _, _, _, _, _, a, b, c, d, ..] = header;
        let version = u32::from_be_bytes([a, b, c, d]);
        if version != VERSION {
            return Err(FormatError::Version(version));
        }
        if header != file_header() {
            return Err(FormatError::Foreign);
        }
        let check = *blake3::hash(&header).as_bytes();
        Ok(Self { input, number: 0, check, offset: FILE_HEADER_LEN as u64, last: None })
    }

    /// The next block; `None` behind the end block, where the file must end too.
    pub(super) fn next(&mut self) -> Result<Option<Block>, FormatError> {
        let offset = self.offset;
        let damaged = |reason: &str| Err(FormatError::Damaged { offset, reason: reason.to_owned() });
        let mut header = [0; BLOCK_HEADER_LEN];
        let read = fill(&mut self.input, &mut header)?;
        if self.last == Some(Kind::End) {
            return if read == 0 { Ok(None) } else { damaged("something stands behind its end") };
        }
        if read < BLOCK_HEADER_LEN {
            return Err(FormatError::Short(offset + read as u64));
        }
        let (fixed, check) = header.split_at(16);
        let [kind, zeros @ .., a, b, c, d, _, _, _, _, _, _, _, _] = fixed else { unreachable!("split at 16") };
        let len = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        if len > BLOCK_LEN_MAX || zeros != [0; 3] || fixed[8..] != self.number.to_be_bytes() {
            return damaged("the header of a block is not in order");
        }
        let mut payload = vec![0; len];
        let read = fill(&mut self.input, &mut payload)?;
        if read < len {
            return Err(FormatError::Short(offset + (BLOCK_HEADER_LEN + read) as u64));
        }
        let previous = self.check;
        self.check = check_of(&previous, fixed, &payload);
        if self.check != *check {
            return damaged("a block does not check");
        }
        let Some(kind) = Kind::from_u8(*kind) else { return damaged("a block is of an unknown kind") };
        let first = self.last.is_none();
        if (kind == Kind::Manifest) != first || self.last.is_some_and(|last| kind < last) {
            return damaged("a block is out of turn");
        }
        self.last = Some(kind);
        self.number += 1;
        self.offset += (BLOCK_HEADER_LEN + len) as u64;
        Ok(Some(Block { kind, offset, previous, payload }))
    }
}

/// Reads until the buffer is full or the input ends; returns how much.
fn fill(input: &mut impl Read, bytes: &mut [u8]) -> Result<usize, FormatError> {
    let mut done = 0;
    while done < bytes.len() {
        match input.read(&mut bytes[done..]) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(FormatError::Io(error)),
        }
    }
    Ok(done)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn file() -> Vec<u8> {
        let mut writer = BlockWriter::new(Vec::new()).unwrap();
        writer.write(Kind::Manifest, b"what").unwrap();
        writer.write(Kind::Catalog, b"").unwrap();
        writer.write(Kind::Catalog, &[7; 100]).unwrap();
        writer.write(Kind::End, b"that was it").unwrap();
        assert_eq!(writer.written() as usize, 16 + 4 * 48 + 4 + 100 + 11);
        writer.into_inner()
    }

    fn read(bytes: &[u8]) -> Result<Vec<Block>, FormatError> {
        let mut reader = BlockReader::new(bytes)?;
        let mut blocks = Vec::new();
        while let Some(block) = reader.next()? {
            blocks.push(block);
        }
        Ok(blocks)
    }

    #[test]
    fn what_was_written_is_read() {
        let blocks = read(&file()).unwrap();
        assert_eq!(blocks.len(), 4);
        assert_eq!(blocks[2].payload, [7; 100]);
        assert_eq!(blocks[3].kind, Kind::End);
    }

    #[test]
    fn the_documented_vector_holds() {
        let bytes = file();
        assert_eq!(bytes[..16], *b"ENTBACK\0\0\0\0\x01\0\0\0\0");
        assert_eq!(bytes[16..32], [1, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0]);
        let hex: String = bytes[32..64].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, VECTOR);
    }

    /// The check of a first block of kind 1 with the payload `what`, as `docs/formats/backup.md` gives it.
    const VECTOR: &str = "7e39a71947b63d3c6c1b529c4d5383e2c0094feed8e0601ef0257d4bb871c7fc";

    #[test]
    fn every_flip_and_every_cut_is_found() {
        let bytes = file();
        for at in 0..bytes.len() {
            assert!(matches!(read(&bytes[..at]), Err(FormatError::Short(_) | FormatError::Foreign)), "cut at {at}");
            for bit in [1, 0x80] {
                let mut flipped = bytes.clone();
                flipped[at] ^= bit;
                let error = read(&flipped).unwrap_err();
                assert!(!error.to_string().is_empty(), "byte {at}");
            }
        }
        let longer = [&bytes[..], b"x"].concat();
        assert!(read(&longer).is_err());
    }

    #[test]
    fn blocks_stand_in_their_order() {
        for kinds in
            [&[Kind::Catalog, Kind::End][..], &[Kind::Manifest, Kind::Chunk, Kind::Retry], &[Kind::Manifest; 2]]
        {
            let mut writer = BlockWriter::new(Vec::new()).unwrap();
            kinds.iter().for_each(|kind| writer.write(*kind, b"").unwrap());
            assert!(matches!(read(&writer.into_inner()), Err(FormatError::Damaged { .. })), "{kinds:?}");
        }
    }
}

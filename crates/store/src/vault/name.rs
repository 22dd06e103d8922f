//! The names of chunks: all that collection needs to know stands in them.

use std::fmt::Write as _;

use object_store::path::Path;
use types::Timestamp;
use types::object::PlacementId;

/// Names one chunk of one body.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ChunkName {
    /// The body.
    pub placement: PlacementId,
    /// When the body was placed.
    pub placed_at: Timestamp,
    /// The chunk's index in the body.
    pub index: u32,
    /// BLAKE3 of its bytes.
    pub digest: [u8; 32],
}

impl ChunkName {
    /// The path in the vault.
    pub(super) fn path(&self) -> Path {
        let mut text = String::with_capacity(2 + 1 + 16 + 1 + 32 + 1 + 8 + 1 + 64);
        put_hex(&mut text, &self.placement.0[..1]);
        text.push('/');
        put_hex(&mut text, &self.placed_at.0.to_be_bytes());
        text.push('-');
        put_hex(&mut text, &self.placement.0);
        text.push('-');
        put_hex(&mut text, &self.index.to_be_bytes());
        text.push('-');
        put_hex(&mut text, &self.digest);
        Path::from(text)
    }

    /// The inverse of [`ChunkName::path`]; `None` for the path of anything else.
    pub(super) fn from_path(path: &Path) -> Option<Self> {
        let (_, name) = path.as_ref().split_once('/')?;
        let mut parts = name.split('-');
        let found = Self {
            placed_at: Timestamp(u64::from_be_bytes(hex(parts.next()?)?)),
            placement: PlacementId(hex(parts.next()?)?),
            index: u32::from_be_bytes(hex(parts.next()?)?),
            digest: hex(parts.next()?)?,
        };
        (found.path() == *path).then_some(found)
    }
}

fn put_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
}

fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let text = text.as_bytes();
    if text.len() != 2 * N {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

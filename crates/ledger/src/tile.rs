//! C2SP `tlog-tiles`: paths of tiles and entry bundles, their ranges, and the encoding of bundles.

use core::fmt;
use core::ops::Range;

use crate::checkpoint::decimal;
use crate::tree::{TILE_HEIGHT, TILE_WIDTH};

/// The highest level that a path may name.
pub const LEVEL_MAX: u8 = 63;
/// The highest index that a path may name: no tree of `2^64 - 1` leaves has more tiles.
pub const INDEX_MAX: u64 = (1 << (u64::BITS - TILE_HEIGHT)) - 1;

/// What a tile holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum TileKind {
    /// Hashes of this level.
    Hashes(u8),
    /// The entries themselves (an entry bundle).
    Entries,
}

/// Names a tile or an entry bundle, full or partial.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TilePath {
    kind: TileKind,
    index: u64,
    width: u16,
}

/// Why a text is not the path of a tile.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TileError {
    /// Not `tile/<L>/<N>[.p/<W>]` or `tile/entries/<N>[.p/<W>]`.
    #[error("not the path of a tile")]
    Path,
    /// A level above [`LEVEL_MAX`], an index above [`INDEX_MAX`], or a width outside 1 to 256.
    #[error("level, index or width is out of range")]
    Range,
}

impl TilePath {
    /// A tile by its coordinates; `width` 256 is a full one.
    pub fn new(kind: TileKind, index: u64, width: u16) -> Result<Self, TileError> {
        let level = match kind {
            TileKind::Hashes(level) => level,
            TileKind::Entries => 0,
        };
        if level > LEVEL_MAX || index > INDEX_MAX || width == 0 || usize::from(width) > TILE_WIDTH {
            return Err(TileError::Range);
        }
        Ok(Self { kind, index, width })
    }

    /// What it holds.
    #[must_use]
    pub fn kind(&self) -> TileKind {
        self.kind
    }

    /// Its index within the level.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.index
    }

    /// How many hashes or entries it holds: 256, or fewer of a partial one.
    #[must_use]
    pub fn width(&self) -> u16 {
        self.width
    }

    /// Its level; that of an entry bundle is 0.
    #[must_use]
    pub fn level(&self) -> u8 {
        match self.kind {
            TileKind::Hashes(level) => level,
            TileKind::Entries => 0,
        }
    }

    /// Which hashes of its level, or which entries, it holds.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        let start = self.index << TILE_HEIGHT;
        start..start.saturating_add(u64::from(self.width))
    }

    /// Whether a tree of `size` leaves has all that this tile holds.
    #[must_use]
    pub fn exists_at(&self, size: u64) -> bool {
        self.range().end <= level_width(self.level(), size)
    }

    /// The tiles (or bundles) of a tree of `size` leaves: all full ones and the partial one at the end, if any.
    pub fn all_of(kind: TileKind, size: u64) -> impl Iterator<Item = Self> {
        let level = match kind {
            TileKind::Hashes(level) => level,
            TileKind::Entries => 0,
        };
        let width = level_width(level, size);
        (0..width.div_ceil(TILE_WIDTH as u64)).map(move |index| {
            let left = width - (index << TILE_HEIGHT);
            let width = u16::try_from(left.min(TILE_WIDTH as u64)).expect("at most 256");
            Self { kind, index, width }
        })
    }

    /// Reads a path, `tile/` included and without a leading slash. Only the one canonical form is taken.
    pub fn from_text(text: &str) -> Result<Self, TileError> {
        let rest = text.strip_prefix("tile/").ok_or(TileError::Path)?;
        let (kind, rest) = rest.split_once('/').ok_or(TileError::Path)?;
        let kind = match kind {
            "entries" => TileKind::Entries,
            level if level.len() <= 2 => {
                let level = decimal(level).ok_or(TileError::Path)?;
                TileKind::Hashes(u8::try_from(level).map_err(|_| TileError::Range)?)
            }
            _ => return Err(TileError::Path),
        };
        let (index, width) = match rest.split_once(".p/") {
            None => (rest, TILE_WIDTH as u64),
            Some((index, width)) if width.len() <= 3 => {
                (index, decimal(width).filter(|width| (1..256).contains(width)).ok_or(TileError::Path)?)
            }
            Some(_) => return Err(TileError::Path),
        };
        let index = index_from_text(index)?;
        Self::new(kind, index, u16::try_from(width).map_err(|_| TileError::Range)?)
    }
}

impl fmt::Display for TilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            TileKind::Hashes(level) => write!(f, "tile/{level}/")?,
            TileKind::Entries => write!(f, "tile/entries/")?,
        }
        let groups = self.index.checked_ilog10().unwrap_or(0) / 3;
        for group in (1..=groups).rev() {
            write!(f, "x{:03}/", self.index / 1000_u64.pow(group) % 1000)?;
        }
        write!(f, "{:03}", self.index % 1000)?;
        if usize::from(self.width) < TILE_WIDTH { write!(f, ".p/{}", self.width) } else { Ok(()) }
    }
}

/// Number of hashes of `level` in a tree of `size` leaves.
#[must_use]
pub fn level_width(level: u8, size: u64) -> u64 {
    size.checked_shr(u32::from(level) * TILE_HEIGHT).unwrap_or(0)
}

/// `x001/x234/067`
fn index_from_text(text: &str) -> Result<u64, TileError> {
    let mut index: u64 = 0;
    let mut groups = text.split('/').peekable();
    let mut first = true;
    while let Some(group) = groups.next() {
        let digits = if groups.peek().is_some() { group.strip_prefix('x').ok_or(TileError::Path)? } else { group };
        if digits.len() != 3 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(TileError::Path);
        }
        let value: u64 = digits.parse().map_err(|_| TileError::Path)?;
        if first && value == 0 && groups.peek().is_some() {
            return Err(TileError::Path);
        }
        first = false;
        index = index.checked_mul(1000).and_then(|index| index.checked_add(value)).ok_or(TileError::Range)?;
    }
    Ok(index)
}

/// Why bytes are not an entry bundle, or entries cannot be bundled.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BundleError {
    /// The last entry is cut short.
    #[error("the bundle ends in the middle of an entry")]
    Truncated,
    /// More than 256 entries.
    #[error("a bundle holds at most {TILE_WIDTH} entries")]
    Width,
    /// An entry of more than 65,535 bytes.
    #[error("an entry of {0} bytes does not fit a bundle")]
    Entry(usize),
}

/// An entry bundle: each entry after its length as a big-endian `u16`.
pub fn bundle<'a>(entries: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<u8>, BundleError> {
    let mut out = Vec::new();
    for (number, entry) in entries.into_iter().enumerate() {
        if number == TILE_WIDTH {
            return Err(BundleError::Width);
        }
        let len = u16::try_from(entry.len()).map_err(|_| BundleError::Entry(entry.len()))?;
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(entry);
    }
    Ok(out)
}

/// The inverse of [`bundle`].
pub fn unbundle(mut bytes: &[u8]) -> Result<Vec<&[u8]>, BundleError> {
    let mut entries = Vec::new();
    while !bytes.is_empty() {
        if entries.len() == TILE_WIDTH {
            return Err(BundleError::Width);
        }
        let (len, rest) = bytes.split_first_chunk::<2>().ok_or(BundleError::Truncated)?;
        let (entry, rest) =
            rest.split_at_checked(usize::from(u16::from_be_bytes(*len))).ok_or(BundleError::Truncated)?;
        entries.push(entry);
        bytes = rest;
    }
    Ok(entries)
}

//! The order key: where an entry stands in the ledger of its group.

use core::fmt;

use minicbor::{Decode, Encode};

use crate::{CommandId, Timestamp};

/// `(timestamp, command id, item)`: the total order of a group's ledger. Also names an object version.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub struct OrderKey {
    /// The command's decided timestamp.
    #[n(0)]
    pub timestamp: Timestamp,
    /// The command.
    #[n(1)]
    pub id: CommandId,
    /// Which of the command's entries: 0 for the first key that it writes, and so on.
    #[n(2)]
    pub item: u32,
}

impl OrderKey {
    /// Encoded size in bytes.
    pub const LEN: usize = 28;

    /// The order key of the block entry that closes the block cut at `cut`: above every command's in it.
    #[must_use]
    pub fn block(cut: Timestamp) -> Self {
        Self { timestamp: cut, id: CommandId::MAX, item: u32::MAX }
    }

    /// Big endian, so that byte order is ledger order.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        out[..8].copy_from_slice(&self.timestamp.0.to_be_bytes());
        out[8..24].copy_from_slice(&self.id.to_bytes());
        out[24..].copy_from_slice(&self.item.to_be_bytes());
        out
    }

    /// The inverse of [`OrderKey::to_bytes`].
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> Self {
        let mut timestamp = [0; 8];
        timestamp.copy_from_slice(&bytes[..8]);
        let mut id = [0; 16];
        id.copy_from_slice(&bytes[8..24]);
        let mut item = [0; 4];
        item.copy_from_slice(&bytes[24..]);
        Self {
            timestamp: Timestamp(u64::from_be_bytes(timestamp)),
            id: CommandId::from_bytes(&id),
            item: u32::from_be_bytes(item),
        }
    }

    /// 56 lower-case hex digits: the form in which clients see it, as a version id.
    #[must_use]
    pub fn to_hex(self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut out = String::with_capacity(Self::LEN * 2);
        for byte in self.to_bytes() {
            out.push(char::from(DIGITS[usize::from(byte >> 4)]));
            out.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        out
    }

    /// The inverse of [`OrderKey::to_hex`]; `None` for anything else.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let text = text.as_bytes();
        if text.len() != Self::LEN * 2 {
            return None;
        }
        let digit = |c: u8| match c {
            b'0'..=b'9' => Some(c - b'0'),
            b'a'..=b'f' => Some(c - b'a' + 10),
            _ => None,
        };
        let mut bytes = [0; Self::LEN];
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self::from_bytes(&bytes))
    }
}

impl fmt::Display for OrderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.timestamp, self.id, self.item)
    }
}

impl fmt::Debug for OrderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

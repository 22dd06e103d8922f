//! What the blocks of a backup hold (`docs/formats/backup.md`).

use bytes::Bytes;
use ledger::entry::Entry;
use minicbor::{Decode, Encode};
use types::limits::{CHUNK_LEN, SIDE_LEN_MAX};
use types::object::PlacementId;
use types::{ClusterId, Epoch, GroupId, Incarnation, ReplicaId, Timestamp};

/// Bytes of an encoded manifest.
const MANIFEST_LEN_MAX: usize = 64 * 1024;
const CHUNK_HEADER_LEN: usize = 28;
/// What the node's signature in the end block begins with.
const SIGNED_DOMAIN: &[u8] = b"entangle/backup/v1\n";

/// What a backup is a copy of.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub(super) struct Manifest {
    #[n(0)]
    pub(super) cluster: ClusterId,
    #[n(1)]
    pub(super) group: GroupId,
    #[n(2)]
    pub(super) replica: ReplicaId,
    #[n(3)]
    pub(super) epoch: Epoch,
    /// Version of the state machine that made the rows.
    #[n(4)]
    pub(super) logic: u32,
    #[n(5)]
    pub(super) created_ms: u64,
    #[n(6)]
    pub(super) cut: Timestamp,
    #[n(7)]
    pub(super) size: u64,
    #[cbor(n(8), with = "minicbor::bytes")]
    pub(super) root: [u8; 32],
    /// SHA-256 of the state digest.
    #[cbor(n(9), with = "minicbor::bytes")]
    pub(super) state: [u8; 32],
    #[n(10)]
    pub(super) commands: u64,
    /// The last position of the journal.
    #[n(11)]
    pub(super) position: u64,
    /// Hash of the journal's last batch head.
    #[cbor(n(12), with = "minicbor::bytes")]
    pub(super) head: [u8; 32],
    #[n(13)]
    pub(super) ceiling: Timestamp,
    #[n(14)]
    pub(super) incarnation: Incarnation,
    /// A signed note.
    #[n(15)]
    pub(super) checkpoint: String,
    #[n(16)]
    pub(super) build: String,
}

impl Manifest {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        minicbor::to_vec(self).expect("encoding into a vector cannot fail")
    }

    /// The inverse of [`Manifest::to_bytes`], or what is wrong.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > MANIFEST_LEN_MAX {
            return Err(format!("a manifest of {} bytes is over the limit of {MANIFEST_LEN_MAX}", bytes.len()));
        }
        let mut decoder = minicbor::Decoder::new(bytes);
        let manifest = decoder.decode().map_err(|error| format!("malformed manifest: {error}"))?;
        match bytes.len() - decoder.position() {
            0 => Ok(manifest),
            left => Err(format!("{left} bytes are left over after the manifest")),
        }
    }
}

/// How much of everything a backup holds.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Counts {
    pub(super) catalog: u64,
    pub(super) bodies: u64,
    pub(super) retry: u64,
    pub(super) entries: u64,
    pub(super) chunks: u64,
    pub(super) chunk_bytes: u64,
}

impl Counts {
    pub(super) const LEN: usize = 48;

    pub(super) fn to_bytes(self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        let words = [self.catalog, self.bodies, self.retry, self.entries, self.chunks, self.chunk_bytes];
        for (field, word) in out.chunks_exact_mut(8).zip(words) {
            field.copy_from_slice(&word.to_be_bytes());
        }
        out
    }
}

/// What the node signs.
pub(super) fn signed_message(cluster: ClusterId, check: &[u8; 32], counts: &[u8; Counts::LEN]) -> Vec<u8> {
    [SIGNED_DOMAIN, &cluster.0, check, counts].concat()
}

/// The payload of the end block.
pub(super) fn end_bytes(counts: Counts, signature: &[u8; 64]) -> Vec<u8> {
    [&counts.to_bytes()[..], signature].concat()
}

/// The inverse of [`end_bytes`]: the bytes of the counts, and the signature.
pub(super) fn split_end(payload: &[u8]) -> Option<([u8; Counts::LEN], [u8; 64])> {
    let (counts, signature) = payload.split_first_chunk()?;
    Some((*counts, signature.try_into().ok()?))
}

fn put_len(out: &mut Vec<u8>, len: usize) {
    out.extend_from_slice(&u32::try_from(len).expect("rows and side records are bounded far below").to_be_bytes());
}

/// Adds a row to a payload.
pub(super) fn put_row(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    put_len(out, key.len());
    put_len(out, value.len());
    out.extend_from_slice(key);
    out.extend_from_slice(value);
}

/// Adds an entry to a payload.
pub(super) fn put_entry(out: &mut Vec<u8>, entry: &[u8; Entry::LEN], side: &[u8]) {
    out.extend_from_slice(entry);
    put_len(out, side.len());
    out.extend_from_slice(side);
}

/// Splits what stands before `len` bytes off.
fn split(bytes: &mut Bytes, len: usize) -> Option<Bytes> {
    (bytes.len() >= len).then(|| bytes.split_to(len))
}

fn take_len(bytes: &mut Bytes) -> Option<usize> {
    let word = split(bytes, 4)?;
    Some(u32::from_be_bytes(word.as_ref().try_into().ok()?) as usize)
}

/// Rows of a payload; `None` stands for what is none.
pub(super) fn rows(payload: Vec<u8>) -> impl Iterator<Item = Option<(Bytes, Bytes)>> {
    let mut rest = Bytes::from(payload);
    let next = move || {
        let (key_len, value_len) = (take_len(&mut rest)?, take_len(&mut rest)?);
        let row = Some((split(&mut rest, key_len)?, split(&mut rest, value_len)?));
        row.map(|row| (row, rest.is_empty()))
    };
    until_last(next)
}

/// Entries of a payload with their side records; `None` stands for what is none.
pub(super) fn entries(payload: Vec<u8>) -> impl Iterator<Item = Option<([u8; Entry::LEN], Bytes)>> {
    let mut rest = Bytes::from(payload);
    let next = move || {
        let entry: [u8; Entry::LEN] = split(&mut rest, Entry::LEN)?.as_ref().try_into().ok()?;
        let len = take_len(&mut rest).filter(|len| *len <= SIDE_LEN_MAX)?;
        Some(((entry, split(&mut rest, len)?), rest.is_empty()))
    };
    until_last(next)
}

/// Calls `next` until it fails, or says that what it gave was the last.
fn until_last<T>(mut next: impl FnMut() -> Option<(T, bool)>) -> impl Iterator<Item = Option<T>> {
    let mut ended = false;
    core::iter::from_fn(move || {
        if ended {
            return None;
        }
        let item = next();
        ended = item.as_ref().is_none_or(|(_, last)| *last);
        Some(item.map(|(item, _)| item))
    })
}

/// A chunk of a body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ChunkItem {
    pub(super) id: PlacementId,
    pub(super) placed_at: Timestamp,
    pub(super) index: u32,
    pub(super) bytes: Bytes,
}

impl ChunkItem {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(CHUNK_HEADER_LEN + self.bytes.len());
        out.extend_from_slice(&self.id.0);
        out.extend_from_slice(&self.placed_at.0.to_be_bytes());
        out.extend_from_slice(&self.index.to_be_bytes());
        out.extend_from_slice(&self.bytes);
        out
    }

    pub(super) fn from_bytes(payload: Vec<u8>) -> Option<Self> {
        let mut rest = Bytes::from(payload);
        let id = PlacementId(split(&mut rest, 16)?.as_ref().try_into().ok()?);
        let placed_at = Timestamp(u64::from_be_bytes(split(&mut rest, 8)?.as_ref().try_into().ok()?));
        let index = u32::from_be_bytes(split(&mut rest, 4)?.as_ref().try_into().ok()?);
        ((1..=CHUNK_LEN).contains(&rest.len())).then_some(Self { id, placed_at, index, bytes: rest })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn items_come_back() {
        let mut payload = Vec::new();
        put_row(&mut payload, b"key", b"value");
        put_row(&mut payload, b"", b"");
        let found: Vec<_> = rows(payload.clone()).map(Option::unwrap).collect();
        assert_eq!(found, [("key".into(), "value".into()), (Bytes::new(), Bytes::new())]);
        payload.push(0);
        assert_eq!(rows(payload).last(), Some(None));
        assert_eq!(rows(Vec::new()).collect::<Vec<_>>(), [None], "an empty block of rows is none");

        let mut payload = Vec::new();
        put_entry(&mut payload, &[3; 128], b"side");
        put_entry(&mut payload, &[4; 128], b"");
        let found: Vec<_> = entries(payload.clone()).map(Option::unwrap).collect();
        assert_eq!(found, [([3; 128], "side".into()), ([4; 128], Bytes::new())]);
        payload.truncate(payload.len() - 1);
        assert_eq!(entries(payload).last(), Some(None));

        let chunk = ChunkItem { id: PlacementId([5; 16]), placed_at: Timestamp(6), index: 7, bytes: "x".into() };
        assert_eq!(ChunkItem::from_bytes(chunk.to_bytes()), Some(chunk));
        assert_eq!(ChunkItem::from_bytes(vec![0; 28]), None, "a chunk has bytes");

        let end = end_bytes(Counts { entries: 9, ..Counts::default() }, &[8; 64]);
        let (counts, signature) = split_end(&end).unwrap();
        assert_eq!((counts[31], signature), (9, [8; 64]));
        assert_eq!(split_end(&end[1..]), None);
    }

    #[test]
    fn no_bytes_panic() {
        for len in 0..200 {
            for fill in [0, 1, 0xff] {
                let bytes = vec![fill; len];
                rows(bytes.clone()).for_each(drop);
                entries(bytes.clone()).for_each(drop);
                let _ = (Manifest::from_bytes(&bytes), ChunkItem::from_bytes(bytes));
            }
        }
    }
}

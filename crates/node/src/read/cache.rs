//! The cache of hot objects: rows already decoded, with their short bodies. Bounded by bytes.
//!
//! An entry is served only under the generation of its key's slot that it was read under (`gate`), so it can
//! never be older than an answered write.

use std::sync::Arc;

use bytes::Bytes;
use catalog::rows::{IndexedPart, ObjectRow};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use types::object::{Chunk, Placement};

use crate::replica::gate::Generation;

/// An object as it was read at one instant: its row, and where its bytes are.
#[derive(Debug)]
pub struct CachedObject {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// Its row; may be a delete marker.
    pub row: ObjectRow,
    /// Its parts, if it was uploaded in parts.
    pub parts: Vec<IndexedPart>,
    pub(crate) pieces: Vec<Piece>,
    pub(crate) generation: Generation,
}

/// A run of an object's bytes that lies in one place. Runs follow one another without gaps.
#[derive(Clone, Debug)]
pub(crate) enum Piece {
    /// Here.
    Inline(Bytes),
    /// In the vault.
    Placed(Placement),
}

impl Piece {
    /// Length in bytes.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Inline(bytes) => bytes.len() as u64,
            Self::Placed(placement) => placement.len(),
        }
    }

    fn held_len(&self) -> usize {
        match self {
            Self::Inline(bytes) => bytes.len(),
            Self::Placed(placement) => placement.chunks.len() * size_of::<Chunk>(),
        }
    }
}

impl CachedObject {
    /// All of its bytes, if they are at hand without touching the vault.
    #[must_use]
    pub fn inline(&self) -> Option<Bytes> {
        match self.pieces.as_slice() {
            [] => Some(Bytes::new()),
            [Piece::Inline(bytes)] => Some(bytes.clone()),
            _ => None,
        }
    }
}

fn part_held_len(part: &IndexedPart) -> usize {
    size_of::<IndexedPart>() + part.checksum.as_ref().map_or(0, |checksum| checksum.value.len())
}

#[derive(Clone)]
struct ByLen;

impl Weighter<Vec<u8>, Arc<CachedObject>> for ByLen {
    fn weight(&self, name: &Vec<u8>, object: &Arc<CachedObject>) -> u64 {
        /// What an entry costs beside its bytes, about.
        const ENTRY_OVERHEAD: usize = 512;
        /// What a piece costs beside its bytes or chunks.
        const PIECE_OVERHEAD: usize = size_of::<Piece>();
        let pieces = object.pieces.iter().map(|piece| PIECE_OVERHEAD + piece.held_len()).sum::<usize>();
        let parts = object.parts.iter().map(part_held_len).sum::<usize>();
        (ENTRY_OVERHEAD + 2 * name.len() + pieces + parts) as u64
    }
}

/// Hot objects by bucket and key. Current versions only.
pub(crate) struct ObjectCache {
    cache: Option<Cache<Vec<u8>, Arc<CachedObject>, ByLen>>,
}

/// Bucket names hold no NUL, so the pair is unambiguous.
fn name(bucket: &str, key: &str) -> Vec<u8> {
    let mut name = Vec::with_capacity(bucket.len() + 1 + key.len());
    name.extend_from_slice(bucket.as_bytes());
    name.push(0);
    name.extend_from_slice(key.as_bytes());
    name
}

impl ObjectCache {
    /// A cache of at most `len` bytes; none at all for 0.
    pub(crate) fn new(len: u64) -> Self {
        /// What an entry is taken to weigh when the number of entries is guessed.
        const ENTRY_LEN_GUESS: u64 = 1536;
        let items = usize::try_from(len / ENTRY_LEN_GUESS).unwrap_or(usize::MAX);
        Self { cache: (len > 0).then(|| Cache::with_weighter(items, len, ByLen)) }
    }

    /// The object, if it is here and was read under `generation`.
    pub(crate) fn find(&self, bucket: &str, key: &str, generation: Generation) -> Option<Arc<CachedObject>> {
        if !generation.is_settled() {
            return None;
        }
        let found = self.cache.as_ref()?.get(&name(bucket, key))?;
        (found.generation == generation).then_some(found)
    }

    pub(crate) fn keep(&self, object: &Arc<CachedObject>) {
        if let Some(cache) = self.cache.as_ref().filter(|_| object.generation.is_settled()) {
            cache.insert(name(&object.bucket, &object.key), object.clone());
        }
    }

    /// Bytes held, about.
    pub(crate) fn len(&self) -> u64 {
        self.cache.as_ref().map_or(0, Cache::weight)
    }
}

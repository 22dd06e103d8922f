//! Step *place*: the bytes of a large body go to the vaults of this node and of `f` others, chunk by chunk and durably,
//! before there is a command that names them.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::future::{BoxFuture, FutureExt as _};
use store::vault::VaultError;
use tokio::sync::OwnedSemaphorePermit;
use types::Timestamp;
use types::limits::{BODY_CHUNKS_IN_FLIGHT_MAX, CHUNK_LEN, INLINE_BODY_LEN_MAX};
use types::object::{Body, Chunk, Placement, PlacementId};

use crate::clock;
use crate::error::WriteError;
use crate::keys::random;
use crate::node::Shared;
use crate::peer::chunks::{WireChunk, replicate};

/// What a finished body is: where its bytes are, and what they are.
#[derive(Clone, Debug)]
pub struct PlacedBody {
    /// For the command.
    pub body: Body,
    /// Length in bytes.
    pub len: u64,
    /// Content digest ([`content_digest`]).
    pub digest: [u8; 32],
}

type Flying = BoxFuture<'static, Result<Chunk, WriteError>>;

/// Takes the bytes of one body. Short ones stay in memory and become inline bodies; longer ones go to the
/// vault as soon as a chunk is full, several chunks at once while more are being received: one chunk always, the
/// others as far as the node has room for chunks ahead.
pub struct BodyWriter {
    shared: Arc<Shared>,
    _permit: OwnedSemaphorePermit,
    id: PlacementId,
    placed_at: Timestamp,
    filling: BytesMut,
    /// Durable, in order.
    chunks: Vec<Chunk>,
    /// Those that follow, on their way to the disk, with their indexes.
    flying: VecDeque<(u32, Flying)>,
    /// Chunks sent on their way so far.
    launched: u32,
    /// Whether `finish` came; else what was placed is swept.
    finished: bool,
}

impl BodyWriter {
    pub(crate) fn new(shared: Arc<Shared>) -> Result<Self, WriteError> {
        shared.running()?;
        shared.has_space()?;
        let permit = shared
            .bodies
            .clone()
            .try_acquire_owned()
            .map_err(|_| WriteError::SlowDown("too many bodies are being received"))?;
        Ok(Self {
            shared,
            _permit: permit,
            id: PlacementId(random()),
            placed_at: Timestamp(clock::now().wall_ns),
            filling: BytesMut::new(),
            chunks: Vec::new(),
            flying: VecDeque::new(),
            launched: 0,
            finished: false,
        })
    }

    /// Takes the next bytes. Waits while the disk is behind.
    pub async fn write(&mut self, mut bytes: Bytes) -> Result<(), WriteError> {
        while !bytes.is_empty() {
            if self.filling.capacity() < CHUNK_LEN && self.filling.len() + bytes.len() > INLINE_BODY_LEN_MAX {
                self.filling.reserve(CHUNK_LEN - self.filling.len());
            }
            let room = CHUNK_LEN - self.filling.len();
            let piece = bytes.split_to(room.min(bytes.len()));
            self.filling.extend_from_slice(&piece);
            if self.filling.len() == CHUNK_LEN {
                self.launch().await?;
            }
        }
        Ok(())
    }

    /// All bytes were given: returns once all chunks are durable.
    pub async fn finish(mut self) -> Result<PlacedBody, WriteError> {
        if self.launched == 0 && self.filling.len() <= INLINE_BODY_LEN_MAX {
            let bytes = core::mem::take(&mut self.filling).freeze();
            return Ok(inline(bytes));
        }
        if !self.filling.is_empty() {
            self.launch().await?;
        }
        while !self.flying.is_empty() {
            self.land().await?;
        }
        if self.chunks.len() != self.launched as usize {
            return Err(WriteError::Body("a chunk of it was not written".to_owned()));
        }
        self.finished = true;
        let chunks = core::mem::take(&mut self.chunks);
        let digest = content_digest(&chunks);
        let placement = Placement { id: self.id, placed_at: self.placed_at, chunks };
        Ok(PlacedBody { len: placement.len(), digest, body: Body::Placed(placement) })
    }

    /// Sends the full chunk on its way, once there is room for it.
    async fn launch(&mut self) -> Result<(), WriteError> {
        let ahead = self.room().await?;
        self.shared.has_space()?;
        let bytes = core::mem::take(&mut self.filling).freeze();
        let index = self.launched;
        self.launched = index.checked_add(1).ok_or_else(|| WriteError::Body("it has too many chunks".to_owned()))?;
        let (shared, id, placed_at) = (self.shared.clone(), self.id, self.placed_at);
        let task = tokio::spawn(async move {
            shared.metrics.placed(bytes.len());
            let put = match shared.vault.put_chunk(id, placed_at, index, bytes).await {
                Ok(chunk) => {
                    let placed = WireChunk::new(id, placed_at, index, chunk);
                    replicate(&shared, placed).await.map(|()| chunk)
                }
                Err(VaultError::Full(_)) => Err(shared.disk_full()),
                Err(error) => Err(WriteError::Body(error.to_string())),
            };
            drop(ahead);
            put
        });
        let arrival = async move { task.await.unwrap_or_else(|error| Err(WriteError::Body(error.to_string()))) };
        self.flying.push_back((index, arrival.boxed()));
        Ok(())
    }

    /// Room for one more chunk on its way; waits for those before it where there is none. Gives the permit to be
    /// ahead, where the chunk is not the only one.
    async fn room(&mut self) -> Result<Option<OwnedSemaphorePermit>, WriteError> {
        loop {
            if self.flying.is_empty() {
                return Ok(None);
            }
            if self.flying.len() < BODY_CHUNKS_IN_FLIGHT_MAX
                && let Ok(permit) = self.shared.chunks_ahead.clone().try_acquire_owned()
            {
                return Ok(Some(permit));
            }
            self.land().await?;
        }
    }

    /// Waits for the first chunk on its way.
    async fn land(&mut self) -> Result<(), WriteError> {
        // It stays here until it has arrived: if this future is dropped, the chunk is not forgotten.
        let Some((_, first)) = self.flying.front_mut() else { return Ok(()) };
        let chunk = first.await;
        self.flying.pop_front();
        self.chunks.push(chunk?);
        Ok(())
    }
}

impl Drop for BodyWriter {
    /// What an abandoned body left in the vault is removed right away; the collector would find it later.
    fn drop(&mut self) {
        if self.finished || self.launched == 0 {
            return;
        }
        let shared = self.shared.clone();
        let (id, placed_at) = (self.id, self.placed_at);
        let mut chunks: Vec<(u32, Chunk)> = (0..).zip(core::mem::take(&mut self.chunks)).collect();
        let flying = core::mem::take(&mut self.flying);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                for (index, chunk) in flying {
                    chunks.extend(chunk.await.ok().map(|chunk| (index, chunk)));
                }
                if let Err(error) = shared.vault.delete_chunks(id, placed_at, chunks).await {
                    tracing::debug!(%error, "an abandoned body was not removed; the collector will");
                }
            });
        }
    }
}

/// A short body, kept in the command itself.
#[must_use]
pub fn inline(bytes: Bytes) -> PlacedBody {
    PlacedBody { len: bytes.len() as u64, digest: *blake3::hash(&bytes).as_bytes(), body: Body::Inline(bytes) }
}

/// The content digest of a placed body: that of its one chunk, or of the list of its chunks
/// (`docs/formats/commands.md`).
#[must_use]
pub fn content_digest(chunks: &[Chunk]) -> [u8; 32] {
    if let [chunk] = chunks {
        return chunk.digest;
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"entangle/content/v1\n");
    for chunk in chunks {
        hasher.update(&chunk.len.to_be_bytes());
        hasher.update(&chunk.digest);
    }
    *hasher.finalize().as_bytes()
}

//! Step *place*: the bytes of a large body go to the vault, chunk by chunk and durably, before there is a
//! command that names them.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::future::{BoxFuture, FutureExt as _};
use store::vault::VaultError;
use tokio::sync::OwnedSemaphorePermit;
use types::Timestamp;
use types::limits::{CHUNK_LEN, INLINE_BODY_LEN_MAX};
use types::object::{Body, Chunk, Placement, PlacementId};

use crate::clock;
use crate::error::WriteError;
use crate::keys::random;
use crate::node::Shared;

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

/// Takes the bytes of one body. Short ones stay in memory and become inline bodies; longer ones go to the
/// vault as soon as a chunk is full, one chunk behind what is being received.
pub struct BodyWriter {
    shared: Arc<Shared>,
    _permit: OwnedSemaphorePermit,
    id: PlacementId,
    placed_at: Timestamp,
    filling: BytesMut,
    chunks: Vec<Chunk>,
    /// The chunk on its way to the disk.
    flying: Option<BoxFuture<'static, Result<Chunk, WriteError>>>,
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
            flying: None,
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

    /// All bytes were given: makes the last chunk durable.
    pub async fn finish(mut self) -> Result<PlacedBody, WriteError> {
        if self.chunks.is_empty() && self.flying.is_none() && self.filling.len() <= INLINE_BODY_LEN_MAX {
            let bytes = core::mem::take(&mut self.filling).freeze();
            return Ok(inline(bytes));
        }
        if !self.filling.is_empty() {
            self.launch().await?;
        }
        self.land().await?;
        self.finished = true;
        let chunks = core::mem::take(&mut self.chunks);
        let digest = content_digest(&chunks);
        let placement = Placement { id: self.id, placed_at: self.placed_at, chunks };
        Ok(PlacedBody { len: placement.len(), digest, body: Body::Placed(placement) })
    }

    /// Sends the full chunk on its way, after the one before it has arrived.
    async fn launch(&mut self) -> Result<(), WriteError> {
        self.land().await?;
        self.shared.has_space()?;
        let bytes = core::mem::take(&mut self.filling).freeze();
        let index =
            u32::try_from(self.chunks.len()).map_err(|_| WriteError::Body("it has too many chunks".to_owned()))?;
        let (shared, id, placed_at) = (self.shared.clone(), self.id, self.placed_at);
        let space = self.shared.clone();
        let task = tokio::spawn(async move {
            shared.metrics.placed(bytes.len());
            shared.vault.put_chunk(id, placed_at, index, bytes).await
        });
        self.flying = Some(
            async move {
                match task.await {
                    Ok(Ok(chunk)) => Ok(chunk),
                    Ok(Err(VaultError::Full(_))) => Err(space.disk_full()),
                    Ok(Err(error)) => Err(WriteError::Body(error.to_string())),
                    Err(error) => Err(WriteError::Body(error.to_string())),
                }
            }
            .boxed(),
        );
        Ok(())
    }

    async fn land(&mut self) -> Result<(), WriteError> {
        if let Some(flying) = self.flying.take() {
            self.chunks.push(flying.await?);
        }
        Ok(())
    }
}

impl Drop for BodyWriter {
    /// What an abandoned body left in the vault is removed right away; the collector would find it later.
    fn drop(&mut self) {
        if self.finished || (self.chunks.is_empty() && self.flying.is_none()) {
            return;
        }
        let shared = self.shared.clone();
        let (id, placed_at) = (self.id, self.placed_at);
        let mut chunks = core::mem::take(&mut self.chunks);
        let flying = self.flying.take();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Some(flying) = flying {
                    chunks.extend(flying.await);
                }
                if let Err(error) = shared.vault.delete(&Placement { id, placed_at, chunks }).await {
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

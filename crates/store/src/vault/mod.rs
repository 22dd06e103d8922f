//! Bodies too large to travel inside commands: write-once chunks, durable before they are reported.
//!
//! No type of the `object_store` crate shows here: what is a local folder today may be a cloud bucket
//! tomorrow. Layout: `docs/formats/vault.md`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use object_store::local::LocalFileSystem;
use object_store::{GetResultPayload, ObjectStore as _, ObjectStoreExt as _, PutPayload};
use types::Timestamp;
use types::limits::{CHUNK_LEN, RESERVE_LEN};
use types::object::{Chunk, Placement, PlacementId};

mod collect;
mod name;
mod prepare;

pub use collect::{Swept, collectable};
pub use name::ChunkName;

/// Chunks removed at once.
const REMOVALS_AT_ONCE: usize = 8;

/// Where bodies are. Cheap to clone.
#[derive(Clone)]
pub struct Vault {
    store: Arc<LocalFileSystem>,
    folder: Arc<Path>,
    /// Free bytes that bodies leave on the disk.
    reserve_len: u64,
}

/// What can go wrong with a vault.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// Writing would leave less free than is kept in reserve, or the disk is full.
    #[error("{0}: not enough free space for more bodies")]
    Full(String),
    /// A chunk is not there.
    #[error("{0} is missing")]
    Missing(String),
    /// A chunk is not what was placed.
    #[error("{0} is damaged: its length or digest is not what was placed")]
    Damaged(String),
    /// The folder is of another version.
    #[error("{file} says {found:?} and this build reads vaults of version 1: start the version that wrote it")]
    Version {
        /// The file that says so.
        file: String,
        /// What it says.
        found: String,
    },
    /// No chunk has this length.
    #[error("a chunk of {0} bytes cannot be: 1 to {CHUNK_LEN} can")]
    Len(usize),
    /// The disk answered with an error.
    #[error("{file}: {reason}")]
    Io {
        /// The file or folder.
        file: String,
        /// The error.
        reason: String,
    },
    /// What the caller was asked during a sweep, it could not say.
    #[error("whether a body is referred to could not be found out: {0}")]
    Reference(String),
}

impl Vault {
    /// The vault in a local folder, made if it is not there. Removes what a crash left half written.
    ///
    /// Blocks for as long as it takes to list the folder.
    pub fn local(path: impl AsRef<Path>) -> Result<Self, VaultError> {
        let folder: Arc<Path> = path.as_ref().into();
        prepare::prepare(&folder)?;
        let store = LocalFileSystem::new_with_prefix(&folder).map_err(|error| failed(&folder, &error))?;
        // A put then returns only after file, name and folder are flushed.
        Ok(Self { store: Arc::new(store.with_fsync(true)), folder, reserve_len: RESERVE_LEN })
    }

    /// The vault in a local folder that is one already. Nothing is made or removed.
    pub fn existing(path: impl AsRef<Path>) -> Result<Self, VaultError> {
        let folder: Arc<Path> = path.as_ref().into();
        prepare::check(&folder)?;
        let store = LocalFileSystem::new_with_prefix(&folder).map_err(|error| failed(&folder, &error))?;
        Ok(Self { store: Arc::new(store.with_fsync(true)), folder, reserve_len: RESERVE_LEN })
    }

    /// Places a chunk of a body, durably. Nobody else may place one of the same placement and index.
    pub async fn put_chunk(
        &self,
        placement: PlacementId,
        placed_at: Timestamp,
        index: u32,
        bytes: Bytes,
    ) -> Result<Chunk, VaultError> {
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        if bytes.is_empty() || bytes.len() > CHUNK_LEN {
            return Err(VaultError::Len(bytes.len()));
        }
        let vault = self.clone();
        let hashed = bytes.clone();
        let digest = blocking(&self.folder, move || {
            vault.check_room(u64::from(len))?;
            Ok(*blake3::hash(&hashed).as_bytes())
        });
        let chunk = Chunk { len, digest: digest.await? };
        let name = ChunkName { placement, placed_at, index, digest: chunk.digest };
        let put = self.store.put(&name.path(), PutPayload::from_bytes(bytes)).await;
        put.map_err(|error| failed(&self.file(&name), &error))?;
        Ok(chunk)
    }

    /// The bytes of a chunk, compared with its length and digest.
    pub async fn get_chunk(&self, placement: &Placement, index: u32) -> Result<Bytes, VaultError> {
        let chunk = placement.chunks.get(index as usize);
        let Some(chunk) = chunk.copied() else {
            return Err(VaultError::Missing(format!("chunk {index} of a body of {}", placement.chunks.len())));
        };
        let name = ChunkName { placement: placement.id, placed_at: placement.placed_at, index, digest: chunk.digest };
        self.get_named(name, chunk.len).await
    }

    /// The bytes of the chunk of this name, compared with this length and the digest in the name.
    pub async fn get_named(&self, name: ChunkName, len: u32) -> Result<Bytes, VaultError> {
        let chunk = Chunk { len, digest: name.digest };
        let file = self.file(&name);
        let got = self.store.get(&name.path()).await.map_err(|error| failed(&file, &error))?;
        let found_len = got.meta.size;
        if found_len != u64::from(chunk.len) {
            return Err(VaultError::Damaged(file.display().to_string()));
        }
        let (bytes, digest) = match got.payload {
            // One hop to a blocking thread for both reading and hashing.
            GetResultPayload::File(open, _) => blocking(&file, move || read_and_hash(&open, chunk.len)).await?,
            GetResultPayload::Stream(mut stream) => {
                let mut bytes = Vec::with_capacity(chunk.len as usize);
                while let Some(piece) = stream.next().await {
                    bytes.extend_from_slice(&piece.map_err(|error| failed(&file, &error))?);
                }
                let digest = *blake3::hash(&bytes).as_bytes();
                (Bytes::from(bytes), digest)
            }
        };
        if digest == chunk.digest { Ok(bytes) } else { Err(VaultError::Damaged(file.display().to_string())) }
    }

    /// Removes a body. What is not there any more is no error; a crash may undo a removal, never more.
    pub async fn delete(&self, placement: &Placement) -> Result<(), VaultError> {
        self.delete_chunks(placement.id, placement.placed_at, (0..).zip(placement.chunks.iter().copied())).await
    }

    /// Removes some chunks of a body, given with their indexes.
    pub async fn delete_chunks(
        &self,
        placement: PlacementId,
        placed_at: Timestamp,
        chunks: impl IntoIterator<Item = (u32, Chunk)>,
    ) -> Result<(), VaultError> {
        let name = |(index, chunk): (u32, Chunk)| ChunkName { placement, placed_at, index, digest: chunk.digest };
        self.remove(chunks.into_iter().map(name).collect()).await
    }

    /// The names of all chunks.
    pub async fn list(&self) -> Result<Vec<ChunkName>, VaultError> {
        let mut names = Vec::new();
        let mut listed = self.store.list(None);
        while let Some(meta) = listed.next().await {
            let meta = meta.map_err(|error| failed(&self.folder, &error))?;
            names.extend(ChunkName::from_path(&meta.location));
        }
        names.sort_unstable();
        Ok(names)
    }

    /// The same vault, with another reserve than [`RESERVE_LEN`] left free on the disk, in bytes.
    #[must_use]
    pub fn with_reserve(self, len: u64) -> Self {
        Self { reserve_len: len, ..self }
    }

    /// Whether a body of this length can be placed and leave the reserve free.
    pub fn check_room(&self, len: u64) -> Result<(), VaultError> {
        let free = crate::disk::free_len(&self.folder).map_err(|error| io_failed(&self.folder, &error))?;
        if free < self.reserve_len.saturating_add(len) {
            let (folder, reserve) = (self.folder.display(), self.reserve_len);
            return Err(VaultError::Full(format!(
                "{folder} ({free} bytes are free and {reserve} are kept in reserve)"
            )));
        }
        Ok(())
    }

    async fn remove(&self, names: Vec<ChunkName>) -> Result<(), VaultError> {
        let paths = names.into_iter().map(|name| (self.file(&name), name.path()));
        let removals = paths.map(|(file, path)| async move {
            match self.store.delete(&path).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(failed(&file, &error)),
            }
        });
        let mut removals = futures::stream::iter(removals).buffer_unordered(REMOVALS_AT_ONCE);
        while let Some(removed) = removals.next().await {
            removed?;
        }
        Ok(())
    }

    /// The file of a chunk, for messages.
    fn file(&self, name: &ChunkName) -> PathBuf {
        self.folder.join(name.path().as_ref())
    }
}

/// The bytes of a file and their BLAKE3 digest.
fn read_and_hash(file: &std::fs::File, len: u32) -> Result<(Bytes, [u8; 32]), VaultError> {
    use std::io::Read as _;
    let mut bytes = Vec::with_capacity(len as usize);
    let read = file.take(u64::from(len)).read_to_end(&mut bytes);
    read.map_err(|error| VaultError::Io { file: "a chunk".to_owned(), reason: error.to_string() })?;
    let digest = *blake3::hash(&bytes).as_bytes();
    Ok((bytes.into(), digest))
}

/// Runs what would hold up the tasks of this thread elsewhere.
async fn blocking<T: Send + 'static>(
    file: &Path,
    act: impl FnOnce() -> Result<T, VaultError> + Send + 'static,
) -> Result<T, VaultError> {
    match tokio::task::spawn_blocking(act).await {
        Ok(result) => result,
        Err(error) => Err(VaultError::Io { file: file.display().to_string(), reason: error.to_string() }),
    }
}

fn failed(file: &Path, error: &object_store::Error) -> VaultError {
    let name = file.display().to_string();
    if matches!(error, object_store::Error::NotFound { .. }) {
        return VaultError::Missing(name);
    }
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(crate::disk::is_full) {
            return VaultError::Full(name);
        }
        cause = error.source();
    }
    VaultError::Io { file: name, reason: error.to_string() }
}

fn io_failed(file: &Path, error: &io::Error) -> VaultError {
    let name = file.display().to_string();
    if crate::disk::is_full(error) {
        VaultError::Full(name)
    } else {
        VaultError::Io { file: name, reason: error.to_string() }
    }
}

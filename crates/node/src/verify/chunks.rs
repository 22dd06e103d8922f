//! Chunks of the vault, for callers that are no tasks: read ahead on a runtime of their own.

use std::io;
use std::sync::mpsc;

use bytes::Bytes;
use futures::StreamExt as _;
use store::vault::{ChunkName, Vault, VaultError};
use types::Timestamp;
use types::object::{Chunk, Placement, PlacementId};

/// Chunks of one body that are read ahead.
const READ_AHEAD: usize = 4;

/// A vault for blocking callers.
pub(crate) struct Chunks {
    vault: Vault,
    /// `None` only while it is dropped.
    runtime: Option<tokio::runtime::Runtime>,
}

impl Chunks {
    pub(crate) fn new(vault: Vault) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("vault").build()?;
        Ok(Self { vault, runtime: Some(runtime) })
    }

    /// Runs a future to its end, wherever the caller is.
    fn run<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> io::Result<T> {
        let (sender, receiver) = mpsc::sync_channel(1);
        let runtime = self.runtime.as_ref().expect("it is there until this is dropped");
        runtime.spawn(async move {
            // Nobody waits any more only when the caller panicked.
            let _ = sender.send(future.await);
        });
        receiver.recv().map_err(|_| io::Error::other("a task of the vault panicked"))
    }

    /// Gives each chunk of a body, checked against its digest, in order; goes on after one that fails.
    pub(crate) fn each(&self, placement: &Placement, mut visit: impl FnMut(u32, Result<Bytes, VaultError>)) {
        let count = u32::try_from(placement.chunks.len()).unwrap_or(u32::MAX);
        let (sender, receiver) = mpsc::sync_channel(READ_AHEAD);
        let (vault, placement) = (self.vault.clone(), placement.clone());
        let runtime = self.runtime.as_ref().expect("it is there until this is dropped");
        runtime.spawn(async move {
            let placement = &placement;
            let reads = (0..count).map(|index| vault.get_chunk(placement, index));
            let mut reads = futures::stream::iter(reads).buffered(READ_AHEAD);
            while let Some(read) = reads.next().await {
                // Waiting here holds up this runtime's one task only.
                if tokio::task::block_in_place(|| sender.send(read)).is_err() {
                    return;
                }
            }
        });
        for index in 0..count {
            let lost = || VaultError::Io { file: "the vault".to_owned(), reason: "a task of it panicked".to_owned() };
            visit(index, receiver.recv().unwrap_or_else(|_| Err(lost())));
        }
    }

    /// The names of all chunks.
    pub(crate) fn list(&self) -> Result<Vec<ChunkName>, VaultError> {
        let vault = self.vault.clone();
        self.run(async move { vault.list().await }).unwrap_or_else(|error| Err(failed(&error)))
    }

    /// Places a chunk, durably.
    pub(crate) fn put(
        &self,
        id: PlacementId,
        placed_at: Timestamp,
        index: u32,
        bytes: Bytes,
    ) -> Result<Chunk, VaultError> {
        let vault = self.vault.clone();
        self.run(async move { vault.put_chunk(id, placed_at, index, bytes).await })
            .unwrap_or_else(|error| Err(failed(&error)))
    }
}

fn failed(error: &io::Error) -> VaultError {
    VaultError::Io { file: "the vault".to_owned(), reason: error.to_string() }
}

impl Drop for Chunks {
    fn drop(&mut self) {
        // A runtime must not be dropped, and so waited for, inside another one.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

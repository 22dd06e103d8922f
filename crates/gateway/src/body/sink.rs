//! Where a body goes: small ones into memory, to travel in their command; larger ones to the vaults while
//! their hashes are computed on blocking threads.

use bytes::Bytes;
use node::{BodyWriter, Node, WriteError};
use tokio::task::{JoinHandle, spawn_blocking};
use types::limits::INLINE_BODY_LEN_MAX;
use types::object::Body;

use super::digest::Hashes;
use super::{Digests, Wanted};
use crate::limits::HASH_BATCH_LEN;

/// A body that was taken in.
#[derive(Debug)]
pub(crate) struct Stored {
    /// As a command carries it.
    pub(crate) body: Body,
    /// Length in bytes.
    pub(crate) len: u64,
    /// Content digest.
    pub(crate) digest: [u8; 32],
    /// The other hashes.
    pub(crate) digests: Digests,
}

/// Takes one body.
pub(crate) enum Sink {
    /// At most [`INLINE_BODY_LEN_MAX`] bytes, hashed at the end without leaving the thread.
    Inline {
        /// The bytes so far.
        bytes: Vec<u8>,
        /// The hashes to make.
        wanted: Wanted,
    },
    /// More.
    Placed(Box<Placing>),
}

/// A body on its way to the vaults.
pub(crate) struct Placing {
    writer: BodyWriter,
    batch: Vec<Bytes>,
    batch_len: usize,
    lanes: Vec<Lane>,
    wanted: Wanted,
}

impl Sink {
    /// A sink for a body of `len` bytes. Dropping it unfinished stores nothing.
    pub(crate) fn new(node: &Node, len: u64, wanted: Wanted) -> Result<Self, WriteError> {
        match usize::try_from(len) {
            Ok(len) if len <= INLINE_BODY_LEN_MAX => Ok(Self::Inline { bytes: Vec::with_capacity(len), wanted }),
            _ => Ok(Self::Placed(Box::new(Placing {
                writer: node.place()?,
                batch: Vec::new(),
                batch_len: 0,
                lanes: Lane::of(wanted),
                wanted,
            }))),
        }
    }

    /// Adds bytes.
    pub(crate) async fn push(&mut self, bytes: Bytes) -> Result<(), WriteError> {
        match self {
            Self::Inline { bytes: all, .. } => {
                all.extend_from_slice(&bytes);
                Ok(())
            }
            Self::Placed(placing) => placing.push(bytes).await,
        }
    }

    /// Ends the body.
    pub(crate) async fn finish(self) -> Result<Stored, WriteError> {
        match self {
            Self::Inline { bytes, wanted } => {
                let mut digests = Digests::default();
                let mut hashes = Hashes::all(wanted);
                hashes.update(&bytes);
                hashes.finish(wanted, &mut digests);
                let digest = *blake3::hash(&bytes).as_bytes();
                Ok(Stored { len: bytes.len() as u64, digest, digests, body: Body::Inline(Bytes::from(bytes)) })
            }
            Self::Placed(placing) => placing.finish().await,
        }
    }
}

impl Placing {
    async fn push(&mut self, bytes: Bytes) -> Result<(), WriteError> {
        self.batch_len += bytes.len();
        self.batch.push(bytes.clone());
        if self.batch_len >= HASH_BATCH_LEN {
            self.hash_batch().await?;
        }
        self.writer.write(bytes).await
    }

    /// Hands the batch to the lanes; waits for the batch before, which bounds what is in memory.
    async fn hash_batch(&mut self) -> Result<(), WriteError> {
        self.batch_len = 0;
        let batch = core::mem::take(&mut self.batch);
        let last = self.lanes.len() - 1;
        for lane in &mut self.lanes[..last] {
            lane.start(batch.clone()).await?;
        }
        self.lanes[last].start(batch).await
    }

    async fn finish(mut self) -> Result<Stored, WriteError> {
        if !self.batch.is_empty() {
            self.hash_batch().await?;
        }
        let placed = self.writer.finish().await?;
        let mut digests = Digests::default();
        for lane in self.lanes {
            lane.finish().await?.finish(self.wanted, &mut digests);
        }
        Ok(Stored { body: placed.body, len: placed.len, digest: placed.digest, digests })
    }
}

/// Hashes that go over the batches one after the other, on blocking threads.
enum Lane {
    /// Between batches.
    Idle(Box<Hashes>),
    /// A batch is being hashed.
    Busy(JoinHandle<Box<Hashes>>),
    /// Only while it changes from one to the other, and after a failure.
    Lost,
}

impl Lane {
    /// MD5 is the slow one: what else is slow goes beside it.
    fn of(wanted: Wanted) -> Vec<Self> {
        if wanted.is_heavy() {
            let lanes = [Hashes::md5_only(), Hashes::without_md5(wanted)];
            lanes.into_iter().map(|hashes| Self::Idle(Box::new(hashes))).collect()
        } else {
            vec![Self::Idle(Box::new(Hashes::all(wanted)))]
        }
    }

    async fn start(&mut self, batch: Vec<Bytes>) -> Result<(), WriteError> {
        let mut hashes = core::mem::replace(self, Self::Lost).finish().await?;
        *self = Self::Busy(spawn_blocking(move || {
            for bytes in batch {
                hashes.update(&bytes);
            }
            hashes
        }));
        Ok(())
    }

    async fn finish(self) -> Result<Box<Hashes>, WriteError> {
        match self {
            Self::Idle(hashes) => Ok(hashes),
            Self::Busy(task) => task.await.map_err(|_| WriteError::Stopping),
            Self::Lost => Err(WriteError::Stopping),
        }
    }
}

//! What one node asks another for, and the answers (`docs/formats/peer.md`).

use std::sync::Arc;

use bytes::Bytes;
use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use super::bodies;
use super::chunks::{self, WireChunk};
use super::snapshot::SpanHash;
use super::wire::{FrameError, VERSION};
use super::{Link, learner, snapshot};
use crate::node::Shared;
use crate::write::forward;

/// A request.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub(crate) enum Request {
    /// The bytes of a chunk.
    #[n(0)]
    Give(#[n(0)] WireChunk),
    /// Fetch this chunk from the asker and place it, durably. The answer is empty.
    #[n(1)]
    Keep(#[n(0)] WireChunk),
    /// Hold a snapshot of the stored state ready ([`snapshot::Offer`]).
    #[n(2)]
    Snapshot,
    /// Rows of a table of a snapshot, behind this key, up to that one and with it ([`snapshot::Rows`]).
    #[n(3)]
    Rows(#[n(0)] u64, #[n(1)] u8, #[n(2)] Option<ByteVec>, #[n(3)] Option<ByteVec>),
    /// Entries of the log of a snapshot, from this one on ([`snapshot::Entries`]).
    #[n(4)]
    Entries(#[n(0)] u64, #[n(1)] u64),
    /// Have every body that the state refers to in the own vault: how many chunks were fetched for that.
    #[n(5)]
    Hold,
    /// Which version of the catalog's logic this build has.
    #[n(6)]
    Logic,
    /// Propose this command, of a zone that the peer is the home of ([`forward::Forwarded`]).
    #[n(7)]
    Propose(#[n(0)] ByteVec),
    /// Which spans of rows behind this key are those of a table of a snapshot ([`snapshot::Same`]).
    #[n(8)]
    Compare(#[n(0)] u64, #[n(1)] u8, #[n(2)] Option<ByteVec>, #[n(3)] Vec<SpanHash>),
    /// Fetch a state, to become a member with: how far that is ([`learner::Learned`]).
    #[n(9)]
    Learn,
    /// A snapshot is not needed any more. The answer is empty.
    #[n(10)]
    Release(#[n(0)] u64),
}

impl Request {
    pub(crate) fn to_bytes(&self) -> Bytes {
        encode(self)
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, FrameError> {
        decode(bytes)
    }
}

/// A version byte, then CBOR.
pub(crate) fn encode<T: Encode<()>>(value: &T) -> Bytes {
    let mut out = vec![VERSION];
    minicbor::encode(value, &mut out).expect("writing to a vector cannot fail");
    out.into()
}

/// The inverse of [`encode`].
pub(crate) fn decode<T: for<'b> Decode<'b, ()>>(bytes: &[u8]) -> Result<T, FrameError> {
    let (version, rest) = bytes.split_first().ok_or(FrameError::Len(0))?;
    if *version != VERSION {
        return Err(FrameError::Version(*version));
    }
    minicbor::decode(rest).map_err(|error| FrameError::Malformed(error.to_string()))
}

/// Answers a request of another node.
pub(crate) async fn answer(shared: &Arc<Shared>, link: Option<&dyn Link>, bytes: &[u8]) -> Result<Bytes, String> {
    match Request::from_bytes(bytes).map_err(|error| error.to_string())? {
        Request::Give(chunk) => chunks::give(shared, chunk).await,
        Request::Keep(chunk) => {
            let link = link.ok_or("the link is closed")?;
            chunks::keep(shared, link, chunk).await.map(|()| Bytes::new())
        }
        Request::Snapshot => snapshot::offer(shared).await,
        Request::Rows(number, table, after, until) => {
            snapshot::rows(shared, number, table, (after.map(Vec::from), until.map(Vec::from))).await
        }
        Request::Compare(number, table, after, spans) => {
            snapshot::compare(shared, number, table, after.map(Vec::from), spans).await
        }
        Request::Learn => Ok(learner::answer(shared).await),
        Request::Release(number) => {
            shared.snapshots.release(number);
            Ok(Bytes::new())
        }
        Request::Entries(number, from) => snapshot::entries(shared, number, from).await,
        Request::Hold => bodies::hold_all(shared).await.map(|fetched| encode(&fetched)),
        Request::Logic => Ok(encode(&catalog::LOGIC_VERSION)),
        Request::Propose(command) => Ok(forward::take(shared, &command).await),
    }
}

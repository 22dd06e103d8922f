//! Feeds one peer with the own journal: from memory while it reads along, from the disk when it is behind.

use std::sync::Arc;

use dace::{PeerBase, Record};
use store::journal::{ReadError, Reader, StoredBody, StoredRecord};
use types::GroupId;
use types::limits::PEER_PIECE_LEN_MAX;

use super::tail::{Next, Tail, len_of};
use super::wire::{Frame, Piece};
use super::{Link, LinkClosed};

/// The stream of the own journal to one reader.
pub(crate) struct Feed {
    pub(crate) link: Arc<dyn Link>,
    pub(crate) tail: Arc<Tail>,
    pub(crate) reader: Reader,
    pub(crate) group: GroupId,
    pub(crate) session: u64,
    /// The last position that the reader has.
    pub(crate) after: u64,
}

/// Why a feed ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FeedError {
    #[error(transparent)]
    Closed(#[from] LinkClosed),
    #[error("the own journal cannot be read for a peer: {0}")]
    Read(#[from] ReadError),
    #[error("the reader of this journal asks for what lies before its base and cannot be given that")]
    Behind,
}

/// What the disk has for a reader.
enum Found {
    Records(Vec<Record>),
    Trimmed,
}

impl Feed {
    /// Runs until the link is closed, or the journal cannot be read.
    pub(crate) async fn run(mut self) -> FeedError {
        let mut changes = self.tail.changes();
        let mut version = 0;
        loop {
            changes.borrow_and_update();
            let (next, seen) = self.tail.next(self.after, version);
            version = seen;
            let fed = match next {
                Next::Nothing => {
                    // The sender lives in the tail, which is held here.
                    let _ = changes.changed().await;
                    Ok(())
                }
                Next::Piece { records, beat } => self.send(None, records, beat).await,
                Next::OnDisk(until) => self.feed_from_disk(until).await,
            };
            if let Err(error) = fed {
                return error;
            }
        }
    }

    async fn feed_from_disk(&mut self, until: u64) -> Result<(), FeedError> {
        let (reader, group, after) = (self.reader.clone(), self.group, self.after);
        let found = tokio::task::spawn_blocking(move || read(&reader, group, after, until)).await;
        match found.unwrap_or(Ok(Found::Trimmed))? {
            Found::Records(records) => self.send(None, records, None).await,
            Found::Trimmed => {
                let base = self.tail.base().filter(|base| base.position > self.after).ok_or(FeedError::Behind)?;
                self.send(Some(base), Vec::new(), None).await
            }
        }
    }

    async fn send(
        &mut self,
        base: Option<PeerBase>,
        records: Vec<Record>,
        beat: Option<dace::Beat>,
    ) -> Result<(), FeedError> {
        self.after =
            records.last().map(|last| last.header.position).or(base.map(|base| base.position)).unwrap_or(self.after);
        let piece = Piece { session: self.session, base, records, beat };
        Ok(self.link.send(Frame::Piece(piece).to_bytes()).await?)
    }
}

/// Up to a piece of records behind `after`.
fn read(reader: &Reader, group: GroupId, after: u64, until: u64) -> Result<Found, ReadError> {
    let records = match reader.read_from(group, after + 1) {
        Err(ReadError::Trimmed { .. }) => return Ok(Found::Trimmed),
        records => records?,
    };
    let (mut found, mut len) = (Vec::new(), 0);
    for record in records {
        let record = from_stored(record?);
        len += len_of(&record);
        let is_over = record.header.position > until || (len > PEER_PIECE_LEN_MAX && !found.is_empty());
        if is_over {
            break;
        }
        found.push(record);
    }
    // Nothing where something durable must be: its segment was dropped between the two looks.
    Ok(if found.is_empty() { Found::Trimmed } else { Found::Records(found) })
}

/// A record of the journal as the core knows it.
pub(crate) fn from_stored(record: StoredRecord) -> Record {
    let (salt, body) = match record.body {
        StoredBody::Present { salt, bytes } => (salt, bytes),
        StoredBody::None | StoredBody::Erased => ([0; 32], bytes::Bytes::new()),
    };
    Record { header: record.header, salt, body }
}

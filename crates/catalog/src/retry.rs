//! The retry window: what lets a client that lost an answer ask again and get the same one.
//!
//! Per key, the last [`RETRY_WINDOW_ITEMS`] outcomes are kept for [`RETRY_WINDOW_NS`] of consensus time. An
//! item past that time is invisible to the command that reads, so it makes no difference when, or whether, a
//! replica has removed the row; rows of [`Table::Retry`] stand outside the state digest for that reason.

use minicbor::{Decode, Encode};
use types::command::{Command, Op, RequestToken};
use types::limits::{RETRY_WINDOW_ITEMS, RETRY_WINDOW_LEN_MAX, RETRY_WINDOW_NS};
use types::state::{ReadError, StateRead, Table};
use types::{OrderKey, Outcome, Refusal, Timestamp};

use crate::check;
use crate::draft::Draft;
use crate::rows::{Row, key};

/// A row of [`Table::Retry`]: the window of a key, or the marker of a completed upload.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
pub(crate) struct WindowRow {
    /// Oldest first.
    #[n(0)]
    pub(crate) items: Vec<WindowItem>,
}

impl Row for WindowRow {
    const NAME: &'static str = "retry";
}

/// An outcome that is kept.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub(crate) struct WindowItem {
    /// The command whose outcome it is; its timestamp starts the item's time.
    #[n(0)]
    pub(crate) order: OrderKey,
    /// Who asked.
    #[n(1)]
    pub(crate) principal: String,
    /// What was asked: the number of the operation.
    #[n(2)]
    pub(crate) operation: u8,
    /// The client's id of the call.
    #[n(3)]
    pub(crate) id: String,
    /// The digest of the payload, to which the id is bound.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub(crate) digest: [u8; 32],
    /// What it gave.
    #[n(5)]
    pub(crate) outcome: Outcome,
}

impl WindowItem {
    fn visible(&self, now: Timestamp) -> bool {
        now < self.order.timestamp.plus_ns(RETRY_WINDOW_NS)
    }
}

/// Whether every item of a row of [`Table::Retry`] is past its time at `now`: a replica may then remove the
/// row whenever it likes, once it has executed everything up to `now`. A row that cannot be read is kept.
#[must_use]
pub fn is_expired(value: &[u8], now: Timestamp) -> bool {
    WindowRow::from_value(value).is_ok_and(|row| !row.items.iter().any(|item| item.visible(now)))
}

/// What the window of a command's key says of it.
pub(crate) enum Recall {
    /// Nothing: execute it.
    Fresh,
    /// It is a retry of this.
    Replay(Box<WindowItem>),
    /// The id was used for something else.
    Reused,
}

/// The retry window that a command with a request token belongs to.
pub(crate) struct Window<'a> {
    place: Vec<u8>,
    token: &'a RequestToken,
    principal: &'a str,
    operation: u8,
    /// Those still visible, oldest first.
    items: Vec<WindowItem>,
}

impl<'a> Window<'a> {
    /// Reads the window; `None` for a command without a token, or whose first key is none (that item is refused).
    pub(crate) fn open(draft: &Draft<'_>, command: &'a Command, now: Timestamp) -> Result<Option<Self>, ReadError> {
        let Some(token) = &command.request else { return Ok(None) };
        if let Op::DeleteObjects(delete) = &command.op
            && delete.items.first().is_none_or(|item| check::key(&item.key).is_err())
        {
            return Ok(None);
        }
        let (operation, place) = address(&command.op);
        let mut items = read(draft, &place)?.items;
        items.retain(|item| item.visible(now));
        Ok(Some(Self { place, token, principal: &command.principal, operation, items }))
    }

    pub(crate) fn recall(&self) -> Recall {
        let same = |item: &&WindowItem| {
            item.id == self.token.id && item.operation == self.operation && item.principal == self.principal
        };
        match self.items.iter().find(same) {
            None => Recall::Fresh,
            Some(item) if item.digest == self.token.digest => Recall::Replay(Box::new(item.clone())),
            Some(_) => Recall::Reused,
        }
    }

    /// Keeps the outcome of a command that was executed.
    pub(crate) fn remember(mut self, draft: &mut Draft<'_>, order: OrderKey, outcome: &Outcome) {
        if !is_kept(outcome) {
            return;
        }
        self.items.push(WindowItem {
            order,
            principal: self.principal.to_owned(),
            operation: self.operation,
            id: self.token.id.clone(),
            digest: self.token.digest,
            outcome: outcome.clone(),
        });
        let excess = self.items.len().saturating_sub(RETRY_WINDOW_ITEMS);
        self.items.drain(..excess);
        let mut row = WindowRow { items: self.items };
        let mut value = row.to_value();
        while value.len() > RETRY_WINDOW_LEN_MAX && row.items.len() > 1 {
            row.items.remove(0);
            value = row.to_value();
        }
        draft.put(Table::Retry, self.place, value);
    }
}

/// Outcomes that tell the client to try again, or that the key has no part in, are not kept: the retry is
/// to be executed.
fn is_kept(outcome: &Outcome) -> bool {
    use Refusal::{Invalid, NoSuchBucket, PlacementTooOld, RequestIdReused, SourceChanged, TooManyRows};
    !matches!(
        outcome,
        Outcome::Refused(NoSuchBucket | PlacementTooOld | SourceChanged | RequestIdReused | TooManyRows | Invalid(_))
    )
}

fn read(draft: &Draft<'_>, place: &[u8]) -> Result<WindowRow, ReadError> {
    Ok(draft.get(Table::Retry, place)?.map(|value| WindowRow::from_value(&value)).transpose()?.unwrap_or_default())
}

/// The number of an operation, as in the encoding of [`Op`], and the row of its window: in the slot of the key
/// that it names (of the first, for a multi-delete), or beside what a `*` command names.
fn address(op: &Op) -> (u8, Vec<u8>) {
    match op {
        Op::Genesis(_) => (0, key::shared_window(b'g', "")),
        Op::CreateBucket(op) => (1, key::shared_window(b'b', &op.bucket)),
        Op::DeleteBucket(op) => (2, key::shared_window(b'b', &op.bucket)),
        Op::SetVersioning(op) => (3, key::shared_window(b'b', &op.bucket)),
        Op::PutObject(op) => (4, key::window(&op.bucket, &op.key)),
        Op::DeleteObjects(op) => (5, key::window(&op.bucket, op.items.first().map_or("", |item| item.key.as_str()))),
        Op::CopyObject(op) => (6, key::window(&op.bucket, &op.key)),
        Op::CreateUpload(op) => (7, key::window(&op.bucket, &op.key)),
        Op::UploadPart(op) => (8, key::window(&op.bucket, &op.key)),
        Op::CompleteUpload(op) => (9, key::window(&op.bucket, &op.key)),
        Op::AbortUpload(op) => (10, key::window(&op.bucket, &op.key)),
        Op::PutAccessKey(op) => (11, key::shared_window(b'k', &op.access_key)),
        Op::DeleteAccessKey(op) => (12, key::shared_window(b'k', &op.access_key)),
        Op::PutNode(op) => (13, key::shared_window(b'n', &op.member.replica.to_string())),
        Op::Barrier => (17, key::shared_window(b'r', "")),
        Op::AdmitNode(op) => (16, key::shared_window(b'n', &op.label)),
        Op::BeginEpoch(_) => (14, key::shared_window(b'e', "")),
        Op::PutZone(op) => (15, key::shared_window(b'z', &op.zone)),
    }
}

/// Keeps, under the upload's own key, what completing it gave: S3 answers a repeated completion as the first,
/// also without a request id. Bound to the parts that were listed.
pub(crate) fn remember_completion(draft: &mut Draft<'_>, place: Vec<u8>, item: WindowItem) {
    draft.put(Table::Retry, place, WindowRow { items: vec![item] }.to_value());
}

/// The completion kept there, if it is of these parts and still visible.
pub(crate) fn recall_completion(
    draft: &Draft<'_>,
    place: &[u8],
    parts: &[u8; 32],
    now: Timestamp,
) -> Result<Option<WindowItem>, ReadError> {
    Ok(read(draft, place)?.items.into_iter().find(|item| item.digest == *parts && item.visible(now)))
}

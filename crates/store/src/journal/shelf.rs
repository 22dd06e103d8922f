//! The segments that are there, shared between the journal and its readers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use parking_lot::RwLock;
use types::GroupId;

use super::layout::Nonce;
use super::segment::Stand;
use crate::disk::DiskFile;

/// Bytes between two marks: what a reader passes over at most before its first record.
const MARK_SPACING: u64 = 256 * 1024;

/// A frame boundary that a reader may start from.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    pub(super) offset: u64,
    pub(super) number: u64,
    /// Per group, the position of the next record at this boundary.
    pub(super) next: BTreeMap<GroupId, u64>,
}

/// A segment, as far as it is durable.
#[derive(Clone)]
pub(super) struct Segment {
    pub(super) sequence: u64,
    /// As a person finds it.
    pub(super) place: String,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) nonce: Nonce,
    /// Where every group stands at its start.
    pub(super) stands: BTreeMap<GroupId, Stand>,
    /// Offset behind the last durable frame.
    pub(super) end: u64,
    /// Rising; the first is the segment's first frame.
    pub(super) marks: Vec<Mark>,
}

impl Segment {
    /// Notes that a frame with this number now ends at `end`; `stands` are those before it.
    pub(super) fn extend(&mut self, number: u64, end: u64, stands: &BTreeMap<GroupId, Stand>) {
        let due = self.marks.last().is_none_or(|mark| self.end >= mark.offset + MARK_SPACING);
        if due {
            self.marks.push(mark(self.end, number, stands));
        }
        self.end = end;
    }
}

/// The mark at a frame boundary.
pub(super) fn mark(offset: u64, number: u64, stands: &BTreeMap<GroupId, Stand>) -> Mark {
    Mark { offset, number, next: stands.iter().map(|(group, stand)| (*group, stand.next)).collect() }
}

/// All segments, oldest first.
pub(super) struct Shelf {
    pub(super) segments: RwLock<VecDeque<Segment>>,
}

//! The end of the own journal, as peers are to read it: the newest records, durable or not, and what holds behind them.

use std::collections::VecDeque;

use dace::{Beat, PeerBase, Record};
use parking_lot::Mutex;
use tokio::sync::watch;
use types::limits::{PEER_PIECE_LEN_MAX, PEER_TAIL_LEN_MAX};

/// What comes next for a reader.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// It has read everything, and the last beat.
    Nothing,
    /// These records; with the beat, if they reach its end.
    Piece { records: Vec<Record>, beat: Option<Beat> },
    /// Its next records are on the disk only, up to this position.
    OnDisk(u64),
}

#[derive(Default)]
struct Inner {
    /// Dense positions, the newest last.
    records: VecDeque<Record>,
    len: usize,
    beat: Option<Beat>,
    base: Option<PeerBase>,
    /// Rises with each beat.
    version: u64,
}

/// See the file's documentation. Written by the loop, read by the feeders.
pub(crate) struct Tail {
    inner: Mutex<Inner>,
    changed: watch::Sender<u64>,
    len_max: usize,
}

impl Tail {
    pub(crate) fn new() -> Self {
        Self::with_len(PEER_TAIL_LEN_MAX)
    }

    fn with_len(len_max: usize) -> Self {
        Self { inner: Mutex::default(), changed: watch::Sender::new(0), len_max }
    }

    /// The journal goes on. What is durable may be dropped to make room: it is on the disk.
    pub(crate) fn push(&self, record: Record) {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        inner.len += len_of(&record);
        inner.records.push_back(record);
        let durable = inner.beat.map_or(0, |beat| beat.durable);
        while inner.len > self.len_max
            && let Some(oldest) = inner.records.pop_front_if(|oldest| oldest.header.position <= durable)
        {
            inner.len -= len_of(&oldest);
        }
    }

    /// What holds of the journal now. All records up to `beat.appended` were pushed.
    pub(crate) fn publish(&self, beat: Beat, base: PeerBase) {
        let mut inner = self.inner.lock();
        inner.beat = Some(beat);
        inner.base = Some(base);
        inner.version += 1;
        let version = inner.version;
        drop(inner);
        self.changed.send_replace(version);
    }

    /// To wait for the next beat.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The base behind which the journal begins, as it was published last.
    pub(crate) fn base(&self) -> Option<PeerBase> {
        self.inner.lock().base
    }

    /// What a reader that has read up to `after`, and the beat of `version`, is to be sent; and the version of the beat
    /// that it has read then.
    pub(crate) fn next(&self, after: u64, version: u64) -> (Next, u64) {
        let inner = self.inner.lock();
        let Some(beat) = inner.beat else { return (Next::Nothing, version) };
        if after >= beat.appended {
            let is_new = after == beat.appended && inner.version > version;
            let next = if is_new { Next::Piece { records: Vec::new(), beat: Some(beat) } } else { Next::Nothing };
            return (next, inner.version.max(version));
        }
        let first = inner.records.front().map_or(beat.appended + 1, |record| record.header.position);
        if after + 1 < first {
            return (Next::OnDisk(first - 1), version);
        }
        let mut len = 0;
        let skipped = usize::try_from(after + 1 - first).unwrap_or(usize::MAX);
        let fits = |record: &&Record| {
            let first = len == 0;
            len += len_of(record);
            record.header.position <= beat.appended && (first || len <= PEER_PIECE_LEN_MAX)
        };
        let records: Vec<Record> = inner.records.iter().skip(skipped).take_while(fits).cloned().collect();
        let ends = records.last().is_some_and(|last| last.header.position == beat.appended);
        let (beat, version) = if ends { (Some(beat), inner.version) } else { (None, version) };
        (Next::Piece { records, beat }, version)
    }
}

/// Bytes that a record takes, about.
pub(crate) fn len_of(record: &Record) -> usize {
    const OVERHEAD: usize = 192;
    OVERHEAD + record.body.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use types::journal::{RecordHeader, RecordKind};
    use types::{CommandId, Epoch, Incarnation, Timestamp};

    fn record(position: u64, len: usize) -> Record {
        let header = RecordHeader {
            kind: RecordKind::Ack,
            flags: 0,
            epoch: Epoch(1),
            position,
            id: CommandId::default(),
            timestamp: Timestamp(0),
            ballot: 0,
            aux: 0,
            body_len: 0,
            body_hash: [0; 32],
        };
        Record { header, salt: [0; 32], body: Bytes::from(vec![0; len]) }
    }

    fn beat(appended: u64, durable: u64) -> Beat {
        let none = Timestamp::ZERO;
        Beat { appended, durable, promise: none, reading: none, stored: none }
    }

    fn base() -> PeerBase {
        let none = Timestamp::ZERO;
        PeerBase { position: 0, cut: none, incarnation: Incarnation(0), opened: 0, opened_at: none }
    }

    fn positions(next: &Next) -> Vec<u64> {
        match next {
            Next::Piece { records, .. } => records.iter().map(|record| record.header.position).collect(),
            other => panic!("no piece: {other:?}"),
        }
    }

    #[test]
    fn a_reader_gets_every_record_once_and_the_beat_behind_them() {
        let tail = Tail::new();
        assert_eq!(tail.next(0, 0), (Next::Nothing, 0));
        (5..=9).for_each(|position| tail.push(record(position, 10)));
        tail.publish(beat(8, 6), base());
        assert_eq!(tail.next(2, 0), (Next::OnDisk(4), 0));
        let (next, version) = tail.next(4, 0);
        assert_eq!((positions(&next), version), (vec![5, 6, 7, 8], 1), "up to the beat, and no further");
        assert!(matches!(next, Next::Piece { beat: Some(_), .. }));
        assert_eq!(tail.next(8, 1), (Next::Nothing, 1));
        tail.publish(beat(9, 9), base());
        assert_eq!(positions(&tail.next(8, 1).0), [9]);
        tail.publish(beat(9, 9), base());
        let (next, version) = tail.next(9, 2);
        assert_eq!((positions(&next), version), (vec![], 3), "a beat alone");
    }

    #[test]
    fn pieces_are_short_and_only_the_last_has_the_beat() {
        let tail = Tail::new();
        (1..=5).for_each(|position| tail.push(record(position, PEER_PIECE_LEN_MAX / 2)));
        tail.publish(beat(5, 5), base());
        let (mut after, mut version, mut pieces) = (0, 0, Vec::new());
        while let (Next::Piece { records, beat }, seen) = tail.next(after, version) {
            after += records.len() as u64;
            version = seen;
            pieces.push((records.len(), beat.is_some()));
        }
        assert_eq!(pieces, [(1, false), (1, false), (1, false), (1, false), (1, true)]);
    }

    #[test]
    fn only_what_is_durable_is_dropped() {
        let tail = Tail::with_len(1000);
        (1..=10).for_each(|position| tail.push(record(position, 300)));
        tail.publish(beat(10, 4), base());
        assert_eq!(positions(&tail.next(0, 0).0).len(), 10);
        tail.push(record(11, 300));
        tail.publish(beat(11, 4), base());
        assert_eq!(tail.next(0, 1).0, Next::OnDisk(4));
        assert_eq!(positions(&tail.next(4, 1).0), [5, 6, 7, 8, 9, 10, 11]);
    }
}

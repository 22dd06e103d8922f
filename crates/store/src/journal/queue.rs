//! The bounded queue in front of the journal's thread.

use std::collections::VecDeque;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use types::GroupId;
use types::limits::{BATCH_LEN_MAX, BATCH_RECORDS_MAX, FLUSH_GATHER_NS_MAX, IN_FLIGHT_LEN_MAX};

use super::error::{AppendError, EraseError};
use super::spare::SpareMade;
use super::writer::{Append, Refused, Statistics, Timings};
use super::{Base, Flushed};

/// Appends that wait; one more is refused.
const APPENDS_MAX: usize = 2 * BATCH_RECORDS_MAX;
/// Bytes that wait; an append that goes beyond is refused unless the queue is empty.
const QUEUE_LEN_MAX: usize = 2 * IN_FLIGHT_LEN_MAX;

/// Where flushes take less than this there is no gathering: the next one comes soon enough.
const GATHER_FLUSH_MIN: Duration = Duration::from_micros(500);
/// As long as this is waited at most.
const GATHER_MAX: Duration = Duration::from_nanos(FLUSH_GATHER_NS_MAX);
/// Bytes that are worth a flush of their own.
const GATHER_LEN_MAX: usize = BATCH_LEN_MAX / 2;
/// A wait was worth it if of eight who were awaited this many came. Where arrivals do not depend on answers it is
/// four: as many in the time of a flush as in that of the flush before, and half of what both carry together.
const WORTH_OF_EIGHT: usize = 5;
/// Flushes without gathering after waits that were not worth it; twice as many each time, up to this.
const PASSED_OVER_MAX: u32 = 63;
/// How much of the usual time of a flush is the newest one: a single slow flush does not make the next ones wait.
const USUAL_PART: u32 = 4;

/// What is done between flushes.
pub(super) enum Control {
    /// See [`Journal::trim`](super::Journal::trim).
    Trim { group: GroupId, base: Base, reply: SyncSender<Result<(), AppendError>> },
    /// See [`Journal::erase`](super::Journal::erase).
    Erase { group: GroupId, position: u64, reply: SyncSender<Result<bool, EraseError>> },
    /// A spare segment is there, or could not be made.
    SpareMade(SpareMade),
}

/// What the thread does next.
pub(super) enum Work {
    /// Flush these together; `oldest` is when the first of them came.
    Batch { appends: Vec<Append>, oldest: Instant },
    /// Something between flushes.
    Control(Control),
    /// The time given has come.
    Nothing,
    /// End.
    Stop,
}

/// What the next batch waits for. Whoever was answered by a flush comes back soon with something new. Without a
/// wait, those who came during a flush and those who were answered by it take turns: every flush carries half of
/// the clients, and each of them waits for two.
///
/// The wait ends when as many came as were answered, or when it has taken as long as the flush that it is to save.
/// A wait that few answered to only delays: then the next flushes begin at once.
#[derive(Clone, Copy)]
struct Gathering {
    /// Said records that waited already.
    before: usize,
    /// Said records that the flush carried.
    awaited: usize,
    until: Instant,
}

#[derive(Default)]
struct State {
    appends: VecDeque<(Append, usize)>,
    controls: VecDeque<Control>,
    len: usize,
    /// Said records that wait.
    records: usize,
    gathering: Option<Gathering>,
    /// Flushes still to come that nobody waits after, and how many it were the last time.
    pass_over: u32,
    passed_over: u32,
    /// What a flush has taken lately.
    flush_usual: Duration,
    oldest: Option<Instant>,
    is_stopping: bool,
    has_failed: bool,
    is_low: bool,
    statistics: Statistics,
}

/// See the [module](self).
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    wake: Condvar,
}

impl Queue {
    pub(super) fn push(&self, append: Append, len: usize) -> Result<(), Refused> {
        let mut state = self.state.lock();
        if state.is_stopping || state.has_failed {
            return Err(Refused::Stopped(append));
        }
        let is_empty = state.appends.is_empty();
        if !is_empty && (state.appends.len() >= APPENDS_MAX || state.len + len > QUEUE_LEN_MAX) {
            return Err(Refused::Full(append));
        }
        let was_gathered = state.is_gathered();
        state.len += len;
        state.records += append.said.len();
        state.appends.push_back((append, len));
        if is_empty {
            state.oldest = Some(Instant::now());
        }
        if is_empty || (state.is_gathered() && !was_gathered) {
            drop(state);
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Queues a control; after the end it is dropped, which its sender sees as no reply.
    pub(super) fn control(&self, control: Control) {
        let mut state = self.state.lock();
        if !state.is_stopping && !state.has_failed {
            state.controls.push_back(control);
            drop(state);
            self.wake.notify_one();
        }
    }

    /// Waits for work, at most until `deadline`. Takes as many appends as fit `len_max` bytes of a frame.
    pub(super) fn next(&self, len_max: usize, deadline: Option<Instant>) -> Work {
        let mut state = self.state.lock();
        loop {
            if let Some(control) = state.controls.pop_front() {
                return Work::Control(control);
            }
            if !state.appends.is_empty() {
                match state.gathering_end().filter(|end| Instant::now() < *end) {
                    Some(end) => {
                        self.wake.wait_until(&mut state, end);
                        continue;
                    }
                    None => return state.take_batch(len_max),
                }
            }
            if state.is_stopping {
                return Work::Stop;
            }
            match deadline {
                Some(deadline) if self.wake.wait_until(&mut state, deadline).timed_out() => return Work::Nothing,
                Some(_) => {}
                None => self.wake.wait(&mut state),
            }
        }
    }

    /// A flush that took `time` has made so many said records durable; those who wait for them are told next.
    pub(super) fn gather(&self, records: usize, time: Duration) {
        let mut state = self.state.lock();
        state.flush_usual = state.flush_usual * (USUAL_PART - 1) / USUAL_PART + time / USUAL_PART;
        state.gathering = None;
        if state.flush_usual < GATHER_FLUSH_MIN {
            return;
        }
        if state.pass_over > 0 {
            state.pass_over -= 1;
            return;
        }
        let until = Instant::now() + state.flush_usual.min(GATHER_MAX);
        state.gathering = Some(Gathering { before: state.records, awaited: records, until });
    }

    /// Waits for `time`, or until told to stop.
    pub(super) fn pause(&self, time: Duration) {
        let deadline = Instant::now() + time;
        let mut state = self.state.lock();
        while !state.is_stopping && !self.wake.wait_until(&mut state, deadline).timed_out() {}
    }

    pub(super) fn stop(&self) {
        self.state.lock().is_stopping = true;
        self.wake.notify_one();
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.state.lock().is_stopping
    }

    /// Nothing more is taken; what waits is dropped.
    pub(super) fn fail(&self) {
        let mut state = self.state.lock();
        state.has_failed = true;
        state.controls.clear();
        state.appends.clear();
        (state.len, state.records) = (0, 0);
    }

    pub(super) fn is_low(&self) -> bool {
        self.state.lock().is_low
    }

    pub(super) fn set_low(&self, is_low: bool) {
        self.state.lock().is_low = is_low;
    }

    pub(super) fn statistics(&self) -> Statistics {
        self.state.lock().statistics
    }

    pub(super) fn count(&self, timings: &Timings, records: usize, flushed: &Flushed) {
        let statistics = &mut self.state.lock().statistics;
        statistics.flushes += 1;
        statistics.appends += timings.appends as u64;
        statistics.records += records as u64;
        statistics.kept += flushed.kept as u64;
        statistics.len += flushed.len as u64;
        statistics.sealing += timings.sealing;
        statistics.writing += timings.writing;
        statistics.flushing += timings.flushing;
        statistics.flushing_max = statistics.flushing_max.max(timings.flushing);
    }
}

impl State {
    /// Whether there is no reason to wait for more.
    fn is_gathered(&self) -> bool {
        let is_enough = self.gathering.is_none_or(|gathering| self.records >= gathering.before + gathering.awaited);
        is_enough || self.is_stopping || self.records >= BATCH_RECORDS_MAX || self.len >= GATHER_LEN_MAX
    }

    /// When those who wait have waited long enough for others; `None`: they have already.
    fn gathering_end(&self) -> Option<Instant> {
        self.gathering.filter(|_| !self.is_gathered()).map(|gathering| gathering.until)
    }

    /// The wait is over: was it worth it?
    fn end_gathering(&mut self) {
        let is_gathered = self.is_gathered();
        let Some(gathering) = self.gathering.take() else { return };
        let came = self.records.saturating_sub(gathering.before);
        if is_gathered || came * 8 >= gathering.awaited * WORTH_OF_EIGHT {
            self.passed_over = 0;
        } else {
            self.passed_over = (2 * self.passed_over + 1).min(PASSED_OVER_MAX);
            self.pass_over = self.passed_over;
        }
    }

    fn take_batch(&mut self, len_max: usize) -> Work {
        self.end_gathering();
        let (mut len, mut records, mut count) = (super::layout::ALIGN, 0, 0);
        for (append, append_len) in &self.appends {
            let more = records + append.said.len();
            if count > 0 && (len + append_len > len_max || more > BATCH_RECORDS_MAX) {
                break;
            }
            len += append_len;
            records = more;
            count += 1;
        }
        let oldest = self.oldest.unwrap_or_else(Instant::now);
        let taken: Vec<(Append, usize)> = if count == self.appends.len() {
            self.oldest = None;
            std::mem::take(&mut self.appends).into()
        } else {
            self.oldest = Some(Instant::now());
            self.appends.drain(..count).collect()
        };
        self.len -= taken.iter().map(|(_, len)| len).sum::<usize>();
        self.records -= records;
        Work::Batch { appends: taken.into_iter().map(|(append, _)| append).collect(), oldest }
    }
}

#[cfg(test)]
mod tests {
    use types::journal::{RecordHeader, RecordKind};
    use types::{CommandId, Epoch, Incarnation, Timestamp};

    use super::super::Record;
    use super::*;

    /// Long enough to be worth a wait, and longer than this test takes.
    const SLOW: Duration = Duration::from_secs(1 << 20);

    fn record() -> Record {
        let header = RecordHeader {
            kind: RecordKind::Propose,
            flags: 0,
            epoch: Epoch(1),
            position: 1,
            id: CommandId::default(),
            timestamp: Timestamp(1),
            ballot: 0,
            aux: 0,
            body_len: 0,
            body_hash: [0; 32],
        };
        Record { header, salt: [0; 32], body: bytes::Bytes::new() }
    }

    fn push(queue: &Queue, records: usize) {
        let said = vec![record(); records];
        let append = Append { group: GroupId(1), incarnation: Incarnation(1), said, kept: Vec::new() };
        assert!(queue.push(append, 1).is_ok());
    }

    fn waits(queue: &Queue) -> bool {
        queue.state.lock().gathering_end().is_some()
    }

    fn take(queue: &Queue) -> usize {
        match queue.state.lock().take_batch(BATCH_LEN_MAX) {
            Work::Batch { appends, .. } => appends.iter().map(|append| append.said.len()).sum(),
            _ => 0,
        }
    }

    #[test]
    fn a_flush_waits_until_as_many_came_as_were_answered() {
        let queue = Queue::default();
        push(&queue, 2);
        queue.gather(3, SLOW);
        assert!(waits(&queue));
        push(&queue, 2);
        assert!(waits(&queue));
        push(&queue, 1);
        assert!(!waits(&queue));
        assert_eq!(take(&queue), 5);
        assert!(!waits(&queue));
    }

    #[test]
    fn one_client_alone_and_heads_alone_do_not_wait() {
        let queue = Queue::default();
        queue.gather(1, SLOW);
        push(&queue, 1);
        assert!(!waits(&queue));
        assert_eq!(take(&queue), 1);
        queue.gather(0, SLOW);
        push(&queue, 0);
        assert!(!waits(&queue));
    }

    #[test]
    fn a_wait_ends_by_itself() {
        let queue = Queue::default();
        queue.gather(2, SLOW);
        push(&queue, 1);
        assert!(waits(&queue));
        assert!(matches!(queue.next(BATCH_LEN_MAX, None), Work::Batch { .. }));
        assert_eq!(queue.state.lock().records, 0);
    }

    #[test]
    fn there_is_no_wait_after_quick_flushes_before_the_end_or_for_a_full_batch() {
        let queue = Queue::default();
        queue.gather(2, GATHER_FLUSH_MIN / 2);
        push(&queue, 1);
        assert!(!waits(&queue));
        queue.gather(2, SLOW);
        assert!(waits(&queue));
        assert!(
            queue
                .push(
                    Append { group: GroupId(1), incarnation: Incarnation(1), said: vec![], kept: vec![] },
                    GATHER_LEN_MAX
                )
                .is_ok()
        );
        assert!(!waits(&queue));

        let queue = Queue::default();
        push(&queue, 1);
        queue.gather(2, SLOW);
        assert!(waits(&queue));
        queue.stop();
        assert!(!waits(&queue));
    }

    #[test]
    fn waits_that_few_answer_to_become_rare() {
        let queue = Queue::default();
        let mut passed_over = Vec::new();
        for _ in 0..8 {
            let mut count = 0;
            queue.gather(8, SLOW);
            while queue.state.lock().gathering.is_none() {
                count += 1;
                queue.gather(8, SLOW);
            }
            passed_over.push(count);
            push(&queue, WORTH_OF_EIGHT - 1);
            take(&queue);
        }
        assert_eq!(passed_over, [0, 1, 3, 7, 15, 31, 63, 63]);
        while queue.state.lock().gathering.is_none() {
            queue.gather(8, SLOW);
        }
        push(&queue, WORTH_OF_EIGHT);
        take(&queue);
        queue.gather(8, SLOW);
        push(&queue, 1);
        assert!(waits(&queue));
    }
}

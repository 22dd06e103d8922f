//! The bounded queue in front of the journal's thread.

use std::collections::VecDeque;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use types::GroupId;
use types::limits::{BATCH_RECORDS_MAX, IN_FLIGHT_LEN_MAX};

use super::error::{AppendError, EraseError};
use super::spare::SpareMade;
use super::writer::{Append, Refused, Statistics, Timings};
use super::{Base, Flushed};

/// Appends that wait; one more is refused.
const APPENDS_MAX: usize = 2 * BATCH_RECORDS_MAX;
/// Bytes that wait; an append that goes beyond is refused unless the queue is empty.
const QUEUE_LEN_MAX: usize = 2 * IN_FLIGHT_LEN_MAX;

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

#[derive(Default)]
struct State {
    appends: VecDeque<(Append, usize)>,
    controls: VecDeque<Control>,
    len: usize,
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
        state.appends.push_back((append, len));
        state.len += len;
        if is_empty {
            state.oldest = Some(Instant::now());
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
                return state.take_batch(len_max);
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
    fn take_batch(&mut self, len_max: usize) -> Work {
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
        Work::Batch { appends: taken.into_iter().map(|(append, _)| append).collect(), oldest }
    }
}

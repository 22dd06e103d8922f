//! One thread that groups commits: what queues up while a flush runs shares the next one, and so do those who
//! come back soon enough after it.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use types::journal::RecordHeader;
use types::limits::{BATCH_LEN_MAX, BATCH_RECORDS_MAX};
use types::{GroupId, Incarnation};

use super::append::Journal;
use super::error::{AppendError, EraseError};
use super::layout::{BATCH_FIXED_LEN, kept_len, slot_len};
use super::queue::{Control, Queue, Work};
use super::read::Reader;
use super::{Base, Batch, Flushed, Kept, Record};
use crate::faults;

/// How long a writer waits before it tries again to make room on a full disk.
const FULL_RETRY: Duration = Duration::from_millis(250);

/// What goes into the journal together: it is durable in one flush or not at all.
#[derive(Clone, Debug)]
pub struct Append {
    /// The group of the said records.
    pub group: GroupId,
    /// The writer's incarnation.
    pub incarnation: Incarnation,
    /// Records to be said; their positions go on from the append before.
    pub said: Vec<Record>,
    /// Records to be kept.
    pub kept: Vec<Kept>,
}

impl Append {
    /// Bytes that it takes in a frame, at most.
    pub(super) fn frame_len(&self) -> usize {
        let said = self.said.iter().map(|record| RecordHeader::LEN + slot_len(record.body.len())).sum::<usize>();
        BATCH_FIXED_LEN + said + self.kept.iter().map(kept_len).sum::<usize>()
    }
}

/// What the writer tells its owner, from its own thread: keep it short.
#[derive(Debug)]
pub enum Event {
    /// Everything in it is durable.
    Flushed(Arc<Flushed>, Timings),
    /// The disk is full to the last byte of the journal; the writer goes on trying. Said once per stall.
    Stalled,
    /// A write or flush failed. Nothing more will be durable: the node must start again.
    Failed(AppendError),
}

/// Where the time of one flush went.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Timings {
    /// Appends that share the flush.
    pub appends: usize,
    /// How long the oldest of them waited for the flush before, and for others to share this one.
    pub queued: Duration,
    /// Hashing, signing and encoding.
    pub sealing: Duration,
    /// Handing the bytes to the operating system.
    pub writing: Duration,
    /// The flush.
    pub flushing: Duration,
}

/// How a writer works.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct WriterOptions {
    /// Added to every flush, to see in a benchmark what a slower disk would do.
    pub flush_delay: Duration,
}

/// Why an append was not taken. It is given back.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The queue is full: try again when something was flushed.
    #[error("the journal's queue is full")]
    Full(Append),
    /// More than one flush can hold.
    #[error("more than one flush of the journal can hold")]
    TooLarge(Append),
    /// The writer has failed or is stopping.
    #[error("the journal takes no more records")]
    Stopped(Append),
}

/// What a writer has done so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Statistics {
    /// Flushes.
    pub flushes: u64,
    /// Appends; divided by the flushes, how well commits group.
    pub appends: u64,
    /// Said records.
    pub records: u64,
    /// Kept records.
    pub kept: u64,
    /// Bytes written.
    pub len: u64,
    /// Time spent hashing, signing and encoding.
    pub sealing: Duration,
    /// Time spent handing over bytes.
    pub writing: Duration,
    /// Time spent in flushes.
    pub flushing: Duration,
    /// The longest flush.
    pub flushing_max: Duration,
}

/// A journal behind its thread.
pub struct Writer {
    queue: Arc<Queue>,
    reader: Reader,
    append_len_max: usize,
    thread: Option<JoinHandle<Journal>>,
}

impl Writer {
    /// Starts the thread. `notify` is called on it, once per flush and in order.
    pub fn start(
        journal: Journal,
        options: WriterOptions,
        notify: impl FnMut(Event) + Send + 'static,
    ) -> std::io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let reader = journal.reader();
        let append_len_max = journal.frame_limit().min(BATCH_LEN_MAX);
        let worker = Worker {
            journal,
            options,
            queue: Arc::clone(&queue),
            notify: Box::new(notify),
            records: Vec::new(),
            kept: Vec::new(),
            runs: Vec::new(),
            append_len_max,
            spare_retry: None,
            has_answered: false,
        };
        let thread = std::thread::Builder::new().name("journal".to_owned()).spawn(move || worker.run())?;
        Ok(Self { queue, reader, append_len_max, thread: Some(thread) })
    }

    /// Queues an append; never waits. Appends become durable in the order in which they are queued.
    pub fn append(&self, append: Append) -> Result<(), Refused> {
        let len = append.frame_len();
        if len + super::layout::ALIGN > self.append_len_max || append.said.len() > BATCH_RECORDS_MAX {
            return Err(Refused::TooLarge(append));
        }
        self.queue.push(append, len)
    }

    /// Replaces a group's records below the base by it. Waits until that is done. See [`Journal::trim`].
    pub fn trim(&self, group: GroupId, base: Base) -> Result<(), AppendError> {
        let (reply, answer) = mpsc::sync_channel(1);
        self.queue.control(Control::Trim { group, base, reply });
        answer.recv().unwrap_or(Err(AppendError::Poisoned))
    }

    /// Erases a body. Waits until that is done. See [`Journal::erase`].
    pub fn erase(&self, group: GroupId, position: u64) -> Result<bool, EraseError> {
        let (reply, answer) = mpsc::sync_channel(1);
        self.queue.control(Control::Erase { group, position, reply });
        answer.recv().unwrap_or(Err(AppendError::Poisoned.into()))
    }

    /// A reader of what is durable.
    #[must_use]
    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// Whether no spare segment could be made. See [`Journal::is_low`].
    #[must_use]
    pub fn is_low(&self) -> bool {
        self.queue.is_low()
    }

    /// What it has done so far.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.queue.statistics()
    }

    /// Writes what is queued, ends the thread and gives the journal back; `None` if the thread panicked.
    #[must_use]
    pub fn stop(mut self) -> Option<Journal> {
        self.queue.stop();
        self.thread.take().and_then(|thread| thread.join().ok())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue.stop();
        if let Some(thread) = self.thread.take() {
            // A panic there was printed there; there is nothing to add while dropping.
            let _ = thread.join();
        }
    }
}

/// A stretch of the gathered records that one batch can hold.
struct Run {
    group: GroupId,
    incarnation: Incarnation,
    end: usize,
}

/// What runs on the thread.
struct Worker {
    journal: Journal,
    options: WriterOptions,
    queue: Arc<Queue>,
    notify: Box<dyn FnMut(Event) + Send>,
    records: Vec<Record>,
    kept: Vec<Kept>,
    runs: Vec<Run>,
    append_len_max: usize,
    /// When a failed attempt to make a spare segment may be repeated.
    spare_retry: Option<Instant>,
    /// The frame was called durable already: never, but in tests that look for what comes of it.
    has_answered: bool,
}

impl Worker {
    fn run(mut self) -> Journal {
        loop {
            self.see_to_spare();
            match self.queue.next(self.append_len_max, self.spare_retry) {
                Work::Batch { appends, oldest } => {
                    if !self.flush(appends, oldest) {
                        return self.journal;
                    }
                }
                Work::Control(control) => self.control(control),
                Work::Nothing => {}
                Work::Stop => return self.journal,
            }
        }
    }

    /// Writes and flushes one frame. False when the journal is done for.
    fn flush(&mut self, appends: Vec<Append>, oldest: Instant) -> bool {
        let mut timings = Timings { appends: appends.len(), queued: oldest.elapsed(), ..Timings::default() };
        self.gather(appends);
        let mut has_stalled = false;
        let flushed = loop {
            match self.write(&mut timings) {
                Ok(flushed) => break flushed,
                Err(AppendError::Full { .. }) if !self.queue.is_stopping() => {
                    // What was appended has been said, so it cannot be refused any more: wait for room.
                    self.queue.set_low(true);
                    if !std::mem::replace(&mut has_stalled, true) {
                        (self.notify)(Event::Stalled);
                    }
                    self.queue.pause(FULL_RETRY);
                }
                Err(error) => {
                    self.queue.fail();
                    (self.notify)(Event::Failed(error));
                    return false;
                }
            }
        };
        self.queue.count(&timings, self.records.len(), &flushed);
        self.queue.gather(self.records.len(), timings.flushing);
        if !std::mem::take(&mut self.has_answered) {
            (self.notify)(Event::Flushed(Arc::new(flushed), timings));
        }
        true
    }

    /// Lays the appends out as batches.
    fn gather(&mut self, appends: Vec<Append>) {
        self.records.clear();
        self.kept.clear();
        self.runs.clear();
        for append in appends {
            self.kept.extend(append.kept);
            if append.said.is_empty() {
                continue;
            }
            self.records.extend(append.said);
            let end = self.records.len();
            match self.runs.last_mut() {
                Some(run) if (run.group, run.incarnation) == (append.group, append.incarnation) => run.end = end,
                _ => self.runs.push(Run { group: append.group, incarnation: append.incarnation, end }),
            }
        }
    }

    fn write(&mut self, timings: &mut Timings) -> Result<Flushed, AppendError> {
        let mut start = 0;
        let mut batches = Vec::with_capacity(self.runs.len());
        for run in &self.runs {
            let records = &self.records[start..run.end];
            batches.push(Batch { group: run.group, incarnation: run.incarnation, records });
            start = run.end;
        }
        let began = Instant::now();
        let staged = self.journal.stage(&batches, &self.kept)?;
        if faults::answers_early() {
            self.has_answered = true;
            (self.notify)(Event::Flushed(Arc::new(staged.flushed.clone()), *timings));
            std::thread::sleep(faults::HELD);
        }
        let sealed = Instant::now();
        self.journal.write_staged()?;
        let written = Instant::now();
        self.journal.flush_staged()?;
        let delay = self.options.flush_delay + faults::flush_delay();
        if !delay.is_zero() {
            std::thread::sleep(delay);
        }
        timings.sealing = sealed - began;
        timings.writing = written - sealed;
        timings.flushing = written.elapsed();
        Ok(self.journal.commit(staged))
    }

    fn control(&mut self, control: Control) {
        match control {
            Control::Trim { group, base, reply } => {
                let trimmed = self.journal.trim(group, &base).map(|_| ());
                self.spare_retry = None;
                // Whoever asked may have gone.
                let _ = reply.send(trimmed);
            }
            Control::Erase { group, position, reply } => {
                let _ = reply.send(self.journal.erase(group, position));
            }
            Control::SpareMade(made) => {
                self.journal.spare_made(made);
                self.queue.set_low(self.journal.is_low());
                self.spare_retry = self.journal.is_low().then(|| Instant::now() + FULL_RETRY);
            }
        }
    }

    /// Has a spare segment made on a thread of its own, so that no append waits for it.
    fn see_to_spare(&mut self) {
        if self.spare_retry.is_some_and(|retry| Instant::now() < retry) {
            return;
        }
        let Some(task) = self.journal.spare_task() else { return };
        let queue = Arc::clone(&self.queue);
        let spawned = std::thread::Builder::new()
            .name("journal-spare".to_owned())
            .spawn(move || queue.control(Control::SpareMade(task.run())));
        if spawned.is_err() {
            self.journal.spare_not_made();
            self.spare_retry = Some(Instant::now() + FULL_RETRY);
        }
    }
}

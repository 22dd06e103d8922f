//! The loop's inbox: submissions, bounded; and what the journal and the node tell it, bounded by them.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// Why a submission was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Rejected {
    /// The inbox is full.
    Full,
    /// The loop has ended.
    Closed,
}

struct Queue<S, E> {
    submissions: Vec<S>,
    events: Vec<E>,
    closed: bool,
}

/// A queue with many writers and the loop as its one reader, which takes everything at once.
pub(crate) struct Inbox<S, E> {
    queue: Mutex<Queue<S, E>>,
    arrived: Condvar,
    submissions_max: usize,
}

impl<S, E> Inbox<S, E> {
    pub(crate) fn new(submissions_max: usize) -> Arc<Self> {
        Arc::new(Self {
            queue: Mutex::new(Queue { submissions: Vec::new(), events: Vec::new(), closed: false }),
            arrived: Condvar::new(),
            submissions_max,
        })
    }

    /// Hands a submission over, or says why not.
    pub(crate) fn submit(&self, submission: S) -> Result<(), Rejected> {
        let mut queue = self.queue.lock();
        if queue.closed {
            return Err(Rejected::Closed);
        }
        if queue.submissions.len() >= self.submissions_max {
            return Err(Rejected::Full);
        }
        queue.submissions.push(submission);
        drop(queue);
        self.arrived.notify_one();
        Ok(())
    }

    /// Tells the loop something; dropped when the loop has ended.
    pub(crate) fn tell(&self, event: E) {
        let mut queue = self.queue.lock();
        if !queue.closed {
            queue.events.push(event);
            drop(queue);
            self.arrived.notify_one();
        }
    }

    /// Moves everything into the two (empty) vectors; waits for something at most `timeout`.
    pub(crate) fn take(&self, submissions: &mut Vec<S>, events: &mut Vec<E>, timeout: Option<Duration>) {
        let mut queue = self.queue.lock();
        if queue.submissions.is_empty() && queue.events.is_empty() {
            match timeout {
                Some(timeout) => {
                    self.arrived.wait_for(&mut queue, timeout);
                }
                None => self.arrived.wait(&mut queue),
            }
        }
        core::mem::swap(&mut queue.submissions, submissions);
        core::mem::swap(&mut queue.events, events);
    }

    /// Takes no more; gives back what was left, so that it can be answered.
    pub(crate) fn close(&self) -> Vec<S> {
        let mut queue = self.queue.lock();
        queue.closed = true;
        core::mem::take(&mut queue.submissions)
    }
}

//! How far something that takes long has come: for progress bars.

/// What a phase counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// Bytes read or written.
    Bytes,
    /// Rows, entries, files.
    Items,
}

/// A step of something that takes long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// What is being done, in words.
    pub phase: &'static str,
    /// How much of it is done.
    pub done: u64,
    /// How much there is to do; 0 when that is not known.
    pub total: u64,
    /// What is counted.
    pub unit: Unit,
}

/// Is told of every step, on the thread that does the work; called often, so it must be cheap.
pub type Report<'a> = &'a mut dyn FnMut(Progress);

/// Counts one phase and reports it, not for every single item.
pub(crate) struct Phase<'a> {
    report: &'a mut dyn FnMut(Progress),
    step: Progress,
    reported: u64,
    every: u64,
}

impl<'a> Phase<'a> {
    /// Begins a phase.
    pub(crate) fn new(report: &'a mut dyn FnMut(Progress), phase: &'static str, total: u64, unit: Unit) -> Self {
        let every = match unit {
            Unit::Bytes => 1 << 20,
            Unit::Items => 256,
        };
        let step = Progress { phase, done: 0, total, unit };
        report(step);
        Self { report, step, reported: 0, every }
    }

    /// So much more is done.
    pub(crate) fn add(&mut self, count: u64) {
        self.step.done += count;
        if self.step.done - self.reported >= self.every {
            self.reported = self.step.done;
            (self.report)(self.step);
        }
    }

    /// How much is done.
    pub(crate) fn done(&self) -> u64 {
        self.step.done
    }
}

impl Drop for Phase<'_> {
    fn drop(&mut self) {
        (self.report)(self.step);
    }
}

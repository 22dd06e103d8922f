//! A core with a journal in memory: what a driver does, without threads or files.

#![allow(dead_code)] // each test uses its part

use bytes::Bytes;
use dace::{Config, Core, Output, Record, Restore, StartError, Submission, SubmitError};
use types::journal::{body_hash, encode_proposal};
use types::{CommandId, Epoch, GroupId, Now, ReplicaId, SlotSet, Timestamp};

/// The wall clock at which every test begins (ns).
pub(crate) const WALL_NS: u64 = 1_700_000_000_000_000_000;

/// The configuration of a group of one.
pub(crate) fn lone() -> Config {
    Config { group: GroupId(1), replica: ReplicaId(1), members: vec![ReplicaId(1)], f: 0, epoch: Epoch(1) }
}

/// A submission of `payload` to `slots`.
pub(crate) fn submission(slots: &SlotSet, payload: &[u8]) -> Submission {
    let salt = [7; 32];
    let body = Bytes::from(encode_proposal(slots, payload));
    let body_hash = body_hash(&salt, &body);
    Submission { slots: slots.clone(), salt, body, body_hash }
}

/// A core, its journal, and its clocks.
pub(crate) struct World {
    pub(crate) core: Core,
    pub(crate) now: Now,
    /// What was appended and not trimmed.
    pub(crate) journal: Vec<Record>,
    /// The last position that a flush has made durable.
    pub(crate) durable: u64,
    pub(crate) base: Option<Vec<u8>>,
}

impl World {
    pub(crate) fn new() -> Self {
        let core = Core::new(lone(), Restore::default()).expect("a fresh group of one");
        Self { core, now: Now { mono_ns: 0, wall_ns: WALL_NS }, journal: Vec::new(), durable: 0, base: None }
    }

    /// The last position appended.
    pub(crate) fn appended(&self) -> u64 {
        self.core.status().appended
    }

    pub(crate) fn start(&mut self) -> Result<Vec<Output>, StartError> {
        self.core.handle_start(self.now)?;
        Ok(self.drain())
    }

    pub(crate) fn submit(&mut self, slots: &SlotSet, payload: &[u8]) -> (Result<CommandId, SubmitError>, Vec<Output>) {
        let result = self.core.handle_submit(self.now, submission(slots, payload));
        (result, self.drain())
    }

    /// A flush up to `position` has ended.
    pub(crate) fn flush(&mut self, position: u64) -> Vec<Output> {
        self.durable = self.durable.max(position);
        self.core.handle_durable(self.now, position);
        self.drain()
    }

    pub(crate) fn tick(&mut self) -> Vec<Output> {
        self.core.handle_tick(self.now);
        self.drain()
    }

    /// The power fails: what was not flushed is gone, and the clocks go on.
    pub(crate) fn crash(&mut self, executed_cut: Timestamp) -> Result<Vec<Output>, String> {
        let durable = self.durable;
        self.journal.retain(|record| record.header.position <= durable);
        let restore = Restore { base: self.base.clone(), executed_cut };
        self.core = Core::new(lone(), restore).map_err(|error| error.to_string())?;
        let mut outputs = Vec::new();
        for record in &self.journal {
            self.core.restore_record(record.clone()).map_err(|error| error.to_string())?;
            outputs.extend(std::iter::from_fn(|| self.core.poll_output()));
        }
        Ok(outputs)
    }

    /// Trims the journal up to `cut`, but keeps `left` of the records that could go, as segments do.
    pub(crate) fn trim(&mut self, cut: Timestamp, left: usize) -> Option<u64> {
        let base = self.core.base(cut)?;
        let gone = self.journal.iter().filter(|record| record.header.position <= base.position).count();
        self.journal.drain(..gone.saturating_sub(left));
        self.base = Some(base.bytes);
        Some(base.position)
    }

    fn drain(&mut self) -> Vec<Output> {
        let mut outputs = Vec::new();
        while let Some(output) = self.core.poll_output() {
            if let Output::Append(record) = &output {
                self.journal.push(record.clone());
            }
            outputs.push(output);
        }
        outputs
    }
}

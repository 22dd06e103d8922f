//! One life of the node's process: the real core, catalog, sealer, journal and ledger files, joined by the
//! node's own replica loop. Where the node has threads, this has queues between its actors, and the world
//! decides whose turn it is.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use dace::{EpochJournal, Membership, Remains, Stored};
use node::replica::overlay::{Layered, Overlay};
use node::replica::{Block, Executed, Head, Replica, Sealer, Step};
use store::disk::Disk;
use store::journal::{AppendError, Base, Batch, Journal, JournalOptions, Kept, KeptKind, Record, StoredBody};
use store::log::LogFiles;
use types::command::{Genesis, Member};
use types::journal::{RecordKind, body_hash, encode_proposal};
use types::sign::Signer;
use types::{ClusterId, Command, CommandId, Epoch, GroupId, Now, Op, ReplicaId, Timestamp};

use crate::checker::{Checker, Violation};
use crate::inspect;
use crate::machine::{Machine, MendlessDisk, Rows};
use crate::mutant::Mutant;
use crate::trace::Trace;

const GROUP: GroupId = GroupId(1);
const EPOCH: Epoch = Epoch(1);
const REPLICA: ReplicaId = ReplicaId(1);
const CLUSTER: ClusterId = ClusterId([7; 16]);

/// Why a life ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// The process stopped by itself: an error that it could not go on from.
    Stopped(String),
    /// What must not happen happened.
    Violation(Violation),
}

impl From<Violation> for End {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

/// An error of the node's own: it stops.
fn stopped(what: &str) -> impl Fn(&dyn core::fmt::Display) -> End {
    move |error| End::Stopped(format!("{what}: {error}"))
}

/// What the rest of the world lends to a life.
pub(crate) struct Outside<'a> {
    pub(crate) now: Now,
    pub(crate) checker: &'a mut Checker,
    pub(crate) trace: &'a mut Trace,
}

/// What waits for the journal's writer.
enum Queued {
    Said(Vec<Record>),
    Head(Head),
}

/// What waits for the core's loop.
enum Event {
    Durable(u64),
    Trim(Timestamp),
}

/// An answer for a client.
pub(crate) struct Answer {
    pub(crate) client: usize,
    pub(crate) executed: Arc<Executed>,
}

/// A running process.
pub(crate) struct Life {
    journal: Journal,
    replica: Replica<Rows>,
    sealer: Sealer<Rows>,
    state: Arc<Rows>,
    log: Arc<LogFiles>,
    overlay: Arc<Overlay>,
    queued: VecDeque<Queued>,
    events: VecDeque<Event>,
    blocks: VecDeque<Block>,
    waiting: BTreeMap<CommandId, usize>,
    signed: u64,
    mutant: Option<Mutant>,
    frame_len_max: usize,
}

/// Signs without curves: thousands of lives a minute, and what signatures prove is tested elsewhere.
pub(crate) struct PlainSigner;

impl Signer for PlainSigner {
    fn public_key(&self) -> [u8; 32] {
        [9; 32]
    }

    fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut signature = [0; 64];
        blake3::Hasher::new().update(message).finalize_xof().fill(&mut signature);
        signature
    }
}

impl Life {
    /// Opens what is on the machine's disks, recovers, and proves that nothing is missing.
    pub(crate) fn start(machine: &Machine, mutant: Option<Mutant>, outside: &mut Outside<'_>) -> Result<Self, End> {
        let options = JournalOptions { segment_len: machine.segment_len, ..JournalOptions::new(CLUSTER, REPLICA) };
        let (disk, mended) = MendlessDisk::wrap(&machine.journal, mutant == Some(Mutant::KeepTornTail));
        let disk: Arc<dyn Disk> = disk;
        let (journal, report) =
            Journal::open(disk, options, Arc::new(PlainSigner)).map_err(|error| stopped("journal")(&error))?;
        mended.done();
        let torn = report.torn.map_or(String::new(), |torn| format!(", a torn flush of {} bytes removed", torn.len));
        outside.trace.say(format_args!("journal opened: {} records{torn}", report.records));
        let log = LogFiles::open(Arc::new(machine.ledger.clone())).map_err(|error| stopped("ledger")(&error))?;
        let (log, overlay, state) = (Arc::new(log), Arc::new(Overlay::default()), Arc::clone(&machine.state));
        let sealer = Sealer::resume(GROUP, Arc::clone(&state), Arc::clone(&log), Arc::clone(&overlay), true)
            .map_err(|error| stopped("ledger")(&error))?;
        outside.trace.say(format_args!("state at {}", inspect::show(sealer.head())));
        outside.checker.restarted(sealer.cut())?;
        let cut = sealer.cut();
        let membership = Membership { epoch: EPOCH, members: vec![REPLICA], f: 0, logic: 1, entry: None };
        let base = journal.base(GROUP).map(|base| base.bytes.to_vec());
        let remains = Remains {
            stored: Some(Stored { cut, membership: membership.clone() }),
            journals: vec![EpochJournal { membership, base }],
            over: Epoch(0),
        };
        let consensus = dace::Replica::new(GROUP, REPLICA, remains, Arc::new(|_| {}))
            .map_err(|error| stopped("consensus")(&error))?;
        let replica = Replica::new(consensus, (Arc::clone(&state), cut), Arc::clone(&overlay));
        let frame_len_max = usize::try_from(machine.segment_len / 4 * 3 - 1024).expect("segments are small here");
        let mut life = Self {
            journal,
            replica,
            sealer,
            state,
            log,
            overlay,
            queued: VecDeque::new(),
            events: VecDeque::new(),
            blocks: VecDeque::new(),
            waiting: BTreeMap::new(),
            signed: 0,
            mutant,
            frame_len_max,
        };
        life.recover(outside)?;
        Ok(life)
    }

    fn recover(&mut self, outside: &mut Outside<'_>) -> Result<(), End> {
        self.replay(outside)?;
        self.replica.handle_start(outside.now).map_err(|error| stopped("consensus")(&error))?;
        self.settle(outside)?;
        self.found(outside)?;
        outside.checker.recovered()?;
        let log = &self.log;
        let (durable, size) = (log.durable_len(), self.sealer.head().size);
        if durable > size {
            // What a node refuses at its start, and no crash may leave.
            return Err(Violation(format!("{durable} entries were durable and recovery leads to {size}")).into());
        }
        let root = |size| {
            ledger::tree::root_at(log.as_ref(), size).map_err(|error| Violation(format!("no root at {size}: {error}")))
        };
        outside.checker.vouches(log.len(), root)?;
        let kept = self.kept_head();
        outside.checker.kept(kept.map_or(0, |head| head.size))?;
        self.signed = kept.map_or(0, |head| head.size);
        self.inspect(outside.checker)
    }

    /// The head that was made durable last, before it was signed.
    fn kept_head(&self) -> Option<Head> {
        self.journal.kept(GROUP, KeptKind::TREE_HEAD).as_deref().and_then(Head::from_bytes)
    }

    /// Everything that the node shows, and everything that is stored, is what it must be.
    pub(crate) fn inspect(&self, checker: &Checker) -> Result<(), End> {
        let layered = Layered { overlay: &self.overlay, state: self.state.as_ref() };
        inspect::state(&layered, checker.model())?;
        inspect::ledger(&self.log, self.state.as_ref(), self.sealer.head(), checker)?;
        Ok(())
    }

    fn replay(&mut self, outside: &mut Outside<'_>) -> Result<(), End> {
        let reader = self.journal.reader();
        let first = reader.first_position(GROUP);
        let mut records = Vec::new();
        for record in reader.read_from(GROUP, first).map_err(|error| stopped("journal")(&error))? {
            records.push(record.map_err(|error| stopped("journal")(&error))?);
        }
        if self.mutant == Some(Mutant::SkipLastRecord) {
            records.pop();
        }
        for record in records {
            let (salt, body) = match record.body {
                StoredBody::Present { salt, bytes } => (salt, bytes),
                StoredBody::None | StoredBody::Erased => ([0; 32], Bytes::new()),
            };
            if self.mutant == Some(Mutant::ForgetCeiling) && record.header.kind == RecordKind::Clock {
                continue;
            }
            let record = dace::Record { header: record.header, salt, body };
            self.replica.restore_record(EPOCH, record).map_err(|error| stopped("consensus")(&error))?;
            self.settle(outside)?;
        }
        Ok(())
    }

    /// On the first start of all: the genesis.
    fn found(&mut self, outside: &mut Outside<'_>) -> Result<(), End> {
        let layered = Layered { overlay: &self.overlay, state: self.state.as_ref() };
        if catalog::query::genesis(&layered).map_err(|error| stopped("state")(&error))?.is_some() {
            return Ok(());
        }
        let member = Member { replica: REPLICA, name: "sim/1".to_owned(), key: PlainSigner.public_key() };
        let genesis = Genesis { cluster: CLUSTER, origin: "sim".to_owned(), members: vec![member], quorum: 1 };
        let command = Command { salt: [1; 32], principal: String::new(), request: None, op: Op::Genesis(genesis) };
        self.propose(&command, outside)?.map_err(|error| stopped("consensus")(&error))?;
        self.settle(outside)
    }

    fn propose(
        &mut self,
        command: &Command,
        outside: &mut Outside<'_>,
    ) -> Result<Result<CommandId, dace::SubmitError>, End> {
        let payload = command.to_bytes().map_err(|error| stopped("workload")(&error))?;
        let slots = command.slots();
        let body = Bytes::from(encode_proposal(&slots, &payload));
        let salt = *blake3::hash(&command.salt).as_bytes();
        let body_hash = body_hash(&salt, &body);
        let submission = dace::Submission { slots, salt, body, body_hash };
        let submitted = self.replica.handle_submit(outside.now, command.clone(), submission);
        if let Ok((_, id)) = &submitted {
            outside.checker.submitted(*id, command.clone())?;
        }
        Ok(submitted.map(|(_, id)| id))
    }

    /// Does what the replica wants done, here and now, until it wants nothing: as the node does while it
    /// recovers.
    fn settle(&mut self, outside: &mut Outside<'_>) -> Result<(), End> {
        loop {
            let mut answers = Vec::new();
            self.drain(outside, &mut answers)?;
            while let Some(block) = self.blocks.pop_front() {
                let head = self.sealer.seal(&block).map_err(|error| stopped("ledger")(&error))?;
                outside.trace.say(format_args!("sealed again: {}", inspect::show(head)));
                if self.kept_head().is_some_and(|kept| kept.contradicts(&head)) {
                    return Err(Violation("a block comes out another than the one that was kept".to_owned()).into());
                }
            }
            let said: Vec<Record> = self
                .queued
                .drain(..)
                .filter_map(|queued| if let Queued::Said(records) = queued { Some(records) } else { None })
                .flatten()
                .collect();
            let Some(last) = said.last().map(|record| record.header.position) else { return Ok(()) };
            self.append(&said, &[]).map_err(|error| stopped("journal")(&error))?;
            self.replica.handle_durable(outside.now, EPOCH, last);
        }
    }

    fn append(&mut self, said: &[Record], kept: &[Kept]) -> Result<(), AppendError> {
        let incarnation = self.replica.status().map(|status| status.incarnation).unwrap_or_default();
        let batch = [Batch { group: GROUP, incarnation, records: said }];
        self.journal.append(if said.is_empty() { &[] } else { &batch }, kept).map(|_| ())
    }

    /// Passes on what the replica wants done.
    fn drain(&mut self, outside: &mut Outside<'_>, answers: &mut Vec<Answer>) -> Result<(), End> {
        let mut said = Vec::new();
        while let Some(step) = self.replica.poll_step().map_err(|error| stopped("replica")(&error))? {
            match step {
                Step::Append(_, record) => {
                    said.push(Record { header: record.header, salt: record.salt, body: record.body });
                }
                Step::Executed(executed, _) => {
                    let place = (executed.timestamp, executed.id);
                    outside.checker.executed(place, &executed.outcome)?;
                    if let Some(client) = self.waiting.remove(&executed.id) {
                        outside.checker.acked(place, &executed.outcome)?;
                        answers.push(Answer { client, executed });
                    }
                }
                Step::Block(block) => self.blocks.push_back(block),
                other => unreachable!("a group of one has no peers: {other:?}"),
            }
        }
        if !said.is_empty() {
            let position = said[said.len() - 1].header.position;
            self.queued.push_back(Queued::Said(said));
            if self.mutant == Some(Mutant::AnswerBeforeDurable) {
                self.events.push_back(Event::Durable(position));
            }
        }
        Ok(())
    }

    /// A client hands over a command. False when the node takes no more for now.
    pub(crate) fn submit(
        &mut self,
        client: usize,
        command: &Command,
        outside: &mut Outside<'_>,
    ) -> Result<Option<CommandId>, End> {
        if self.journal.is_low()
            && !matches!(command.op, Op::DeleteObjects(_) | Op::DeleteBucket(_) | Op::AbortUpload(_))
        {
            return Ok(None);
        }
        let Ok(id) = self.propose(command, outside)? else { return Ok(None) };
        self.waiting.insert(id, client);
        self.drain(outside, &mut Vec::new())?;
        Ok(Some(id))
    }

    /// The journal's writer takes up to `count` of what is queued and flushes it.
    pub(crate) fn write(&mut self, count: usize, outside: &mut Outside<'_>) -> Result<(), End> {
        let (mut said, mut heads, mut len, mut taken) = (Vec::new(), Vec::new(), 0, 0);
        for queued in self.queued.iter().take(count) {
            match queued {
                Queued::Said(records) => {
                    len += records.iter().map(|record| 160 + record.body.len()).sum::<usize>();
                    if taken > 0 && len > self.frame_len_max {
                        break;
                    }
                    said.extend(records.iter().cloned());
                }
                Queued::Head(head) => heads.push(*head),
            }
            taken += 1;
        }
        if taken == 0 {
            return Ok(());
        }
        let bytes = |head: &Head| Bytes::copy_from_slice(&head.to_bytes());
        let kept: Vec<Kept> =
            heads.iter().map(|head| Kept { group: GROUP, kind: KeptKind::TREE_HEAD, bytes: bytes(head) }).collect();
        match self.append(&said, &kept) {
            Ok(()) => {}
            Err(AppendError::Full { .. }) => {
                outside.trace.say(format_args!("the journal stalls: the disk is full"));
                return Ok(());
            }
            Err(error) if self.mutant == Some(Mutant::IgnoreFailedFlush) => {
                outside.trace.say(format_args!("a failure is ignored: {error}"));
            }
            Err(error) => return Err(stopped("journal")(&error)),
        }
        self.queued.drain(..taken);
        outside.trace.say(format_args!("flushed {} records and {} heads", said.len(), heads.len()));
        if let Some(last) = said.last().filter(|_| self.mutant != Some(Mutant::AnswerBeforeDurable)) {
            self.events.push_back(Event::Durable(last.header.position));
        }
        if self.mutant != Some(Mutant::SignBeforeKept)
            && let Some(head) = heads.last()
        {
            self.sign(*head, outside)?;
        }
        Ok(())
    }

    fn sign(&mut self, head: Head, outside: &mut Outside<'_>) -> Result<(), End> {
        if head.size > self.signed {
            self.signed = head.size;
            outside.trace.say(format_args!("signed {}", inspect::show(head)));
            outside.checker.signed(head)?;
        }
        Ok(())
    }

    /// The core's loop takes its next event.
    pub(crate) fn deliver(&mut self, outside: &mut Outside<'_>) -> Result<Vec<Answer>, End> {
        let mut answers = Vec::new();
        match self.events.pop_front() {
            Some(Event::Durable(position)) => self.replica.handle_durable(outside.now, EPOCH, position),
            Some(Event::Trim(cut)) => self.trim(cut, outside)?,
            None => return Ok(answers),
        }
        self.drain(outside, &mut answers)?;
        Ok(answers)
    }

    fn trim(&mut self, cut: Timestamp, outside: &mut Outside<'_>) -> Result<(), End> {
        let consensus = self.replica.consensus();
        consensus.handle_stored(outside.now, cut);
        let Some(base) = consensus.base(EPOCH, cut) else { return Ok(()) };
        outside.trace.say(format_args!("trims up to position {}", base.position));
        match self.journal.trim(GROUP, &Base { below: base.position + 1, bytes: base.bytes.into() }) {
            Ok(_) | Err(AppendError::Full { .. }) => Ok(()),
            Err(error) => Err(stopped("journal")(&error)),
        }
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, outside: &mut Outside<'_>) -> Result<Vec<Answer>, End> {
        let mut answers = Vec::new();
        self.replica.handle_tick(outside.now);
        self.drain(outside, &mut answers)?;
        Ok(answers)
    }

    /// The sealer takes its next block.
    pub(crate) fn seal(&mut self, thorough: bool, outside: &mut Outside<'_>) -> Result<(), End> {
        let Some(block) = self.blocks.pop_front() else { return Ok(()) };
        let head = self.sealer.seal(&block).map_err(|error| stopped("ledger")(&error))?;
        outside.trace.say(format_args!("sealed {} of {} commands", inspect::show(head), block.executed.len()));
        self.queued.push_back(Queued::Head(head));
        if self.mutant == Some(Mutant::SignBeforeKept) {
            self.sign(head, outside)?;
        }
        if thorough {
            inspect::ledger(&self.log, self.state.as_ref(), head, outside.checker)?;
        }
        Ok(())
    }

    /// The sealer makes state and log durable and asks for a trim.
    pub(crate) fn checkpoint(&mut self, outside: &mut Outside<'_>) -> Result<(), End> {
        let cut = match self.mutant {
            Some(Mutant::TrimBeforeSync) => self.sealer.cut(),
            _ => self.sealer.checkpoint().map_err(|error| stopped("checkpoint")(&error))?,
        };
        outside.trace.say(format_args!("checkpoint at {}", inspect::show_time(cut)));
        self.events.push_back(Event::Trim(cut));
        Ok(())
    }

    /// Makes a spare segment.
    pub(crate) fn prepare(&mut self) {
        self.journal.prepare();
    }

    /// When the replica wants to hear of the time.
    pub(crate) fn deadline(&self) -> Option<u64> {
        self.replica.deadline()
    }

    /// What the hybrid clock shows.
    pub(crate) fn clock(&self) -> Timestamp {
        self.replica.status().expect("its one epoch never ends").clock
    }

    /// Whether nothing is under way.
    pub(crate) fn is_quiet(&self) -> bool {
        let empty = self.queued.is_empty() && self.events.is_empty() && self.blocks.is_empty();
        let in_flight = self.replica.status().map_or(0, |status| status.in_flight);
        empty && in_flight == 0 && self.replica.unsealed_len() == 0
    }

    /// Entries in the ledger.
    pub(crate) fn ledger_len(&self) -> u64 {
        self.sealer.head().size
    }
}

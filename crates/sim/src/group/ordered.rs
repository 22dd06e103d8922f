//! Reads: answered from the state as it is, at once or, for a listing that finds no quiet instant, where a command on
//! all slots stands that changes nothing.

use catalog::query;
use catalog::query::ListObjects;
use types::command::{Command, DeleteAccessKey, Op};
use types::limits::LIST_PAGE_MAX;
use types::{CommandId, Epoch, Outcome, SlotSet};

use super::asks::submission;
use super::check::{Answer, Ask, Checked, ensure, violation};
use super::defect::Defect;
use super::world::World;

impl World {
    /// A quorum read may be answered from what is here now.
    pub(crate) fn read_ready(&mut self, at: usize, read: (Epoch, u64)) -> Checked {
        let Some(reader) = self.life(at).and_then(|life| life.reads.remove(&read)) else { return Ok(()) };
        self.answer_read(at, reader, false)
    }

    /// A listing found no quiet instant: it is ordered as a command.
    pub(crate) fn read_contended(&mut self, at: usize, read: (Epoch, u64)) -> Checked {
        self.coverage.reads_contended += 1;
        if self.options.defect == Some(Defect::UnorderedListing) {
            return self.read_ready(at, read);
        }
        if let Some(life) = self.life(at)
            && let Some(reader) = life.reads.remove(&read)
        {
            life.contended.push(reader);
        }
        Ok(())
    }

    /// Orders a listing by a command that changes nothing, once the core has no more to put out. False when there is none.
    pub(crate) fn order_read(&mut self, at: usize) -> Result<bool, Box<super::Violation>> {
        let (now, clock) = (self.queue.now(), self.clock(at));
        let Some(life) = self.machines[at].life.as_mut() else { return Ok(false) };
        let Some((client, read)) = life.contended.pop() else { return Ok(false) };
        let salt = *blake3::hash(&read.to_be_bytes()).as_bytes();
        let op = Op::DeleteAccessKey(DeleteAccessKey { access_key: "nobody".to_owned() });
        let command = Command { salt, principal: format!("reader{client}"), request: None, op };
        let submission = submission(&command, &SlotSet::All);
        let body = submission.body.clone();
        match life.replica.handle_submit(clock, submission) {
            Ok((epoch, id)) => {
                life.ordered.insert(id, (client, read));
                let history = &mut self.judge.history;
                let operation = history.begin(now, Ask::Write(Box::new(command)), SlotSet::All);
                self.trace.mark(&[15, now, at as u64, id.counter]);
                self.trace.say(now, || format!("r{at} orders read {read} as {operation} = {id}", at = at + 1));
                let is_new = history.submitted(now, operation, (epoch, id), body);
                ensure(is_new, "agreement", || format!("r{at} gives {id} to two commands", at = at + 1))?;
            }
            Err(dace::SubmitError::Sealed) => {
                life.again.push((client, read));
                return Ok(true);
            }
            Err(error) => {
                *self.coverage.submits_refused.entry(format!("{error:?}")).or_default() += 1;
                self.never_answered((client, read));
            }
        }
        Ok(true)
    }

    /// The command that orders a listing has just been executed: the state is all that stands before it, and no more.
    pub(crate) fn read_ordered(
        &mut self,
        at: usize,
        id: CommandId,
        outcome: &Outcome,
        durable: usize,
        reader: (usize, usize),
    ) -> Checked {
        self.coverage.reads_ordered += 1;
        self.judge.acked(self.queue.now(), id, outcome, durable)?;
        self.answer_read(at, reader, self.options.defect == Some(Defect::ListingOfLastCut))
    }

    /// Answers a read from the state as it is; from that of the last cut if it is to be wrong.
    pub(crate) fn answer_read(&mut self, at: usize, (client, operation): (usize, usize), is_stale: bool) -> Checked {
        let now = self.queue.now();
        let Some(life) = self.machines[at].life.as_mut() else { return Ok(()) };
        let state = if is_stale { &life.image.rows } else { &life.live };
        let answer = match &self.judge.history.operations[operation].ask {
            Ask::Get { bucket, key } => query::object(state, bucket, key, None)
                .map(|row| Answer::Object(row.filter(|row| !row.marker).map(|row| (row.order, row.etag())))),
            Ask::List { bucket } => {
                let list = ListObjects { bucket, max: LIST_PAGE_MAX, ..ListObjects::default() };
                query::list_objects(state, &list)
                    .map(|page| Answer::Objects(page.objects.into_iter().map(|(key, row)| (key, row.order)).collect()))
            }
            Ask::Write(_) => return Ok(()),
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return violation("integrity", format!("r{at} cannot read its state: {error}", at = at + 1)),
        };
        self.trace.mark(&[6, now, at as u64, operation as u64]);
        self.trace.say(now, || format!("r{at} answers read {operation} of client {client}: {answer:?}", at = at + 1));
        self.judge.read(now, at, operation, answer);
        self.answered((client, operation), None);
        Ok(())
    }

    /// Nobody will answer an operation: its client need not wait.
    pub(crate) fn never_answered(&mut self, (client, operation): (usize, usize)) {
        if self.clients[client].waiting.is_some_and(|waiting| waiting.operation == operation) {
            self.gave_up(client);
        }
    }
}

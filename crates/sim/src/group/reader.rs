//! A reader beside the loop: a thread that answers reads of one key from what the loop has published, without a lock.
//! It sees nothing of the core. Between any two of its steps it may be off its processor, for longer than a lease too.
//!
//! In this order: until when the lease is held; whether a write of the slot is pending; what the clock shows; whether the
//! lease was taken back meanwhile; the state. The deadline goes before the pending writes: behind them, the lease may begin
//! in between, with a write pending that was not, that anybody could see before the read began, and that is not in the
//! state yet. It is looked at again behind them: where a Reconfig pended at the first look, the epoch may have ended in
//! between, and to the next one this lease is nothing. On which side of the pending writes the clock is looked at does not
//! matter to a read of one key: what could be seen while the lease was held was pending then, and what is not pending any
//! more is in the state. What cannot be answered so goes to the loop, and so does every listing.

use dace::Zone;
use types::SlotSet;

use super::check::Checked;
use super::client;
use super::defect::Defect;
use super::event::Turn;
use super::queue::MS;
use super::world::World;

/// What a reader looks at, one after the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// Until when the lease is held.
    Deadline,
    /// Whether anything is pending.
    Pending,
    /// Whether the time is past the deadline.
    Clock,
    /// Whether the deadline was taken back since it was looked at.
    Again,
    /// The state: the answer.
    State,
}

const RIGHT: [Step; 5] = [Step::Deadline, Step::Pending, Step::Clock, Step::Again, Step::State];
const LEASE_BEFORE_PENDING: [Step; 5] = [Step::Deadline, Step::Clock, Step::Pending, Step::Again, Step::State];
const DEADLINE_AFTER_PENDING: [Step; 5] = [Step::Pending, Step::Deadline, Step::Clock, Step::Again, Step::State];
const DEADLINE_LOOKED_AT_ONCE: [Step; 4] = [Step::Deadline, Step::Pending, Step::Clock, Step::State];

/// How soon a reader notices that it may go on.
const TIMED_NS: u64 = MS / 20;

/// A read beside the loop.
pub(crate) struct Look {
    /// The client, and what it asks for.
    reader: (usize, usize),
    zone: Zone,
    slot: SlotSet,
    /// Steps done.
    done: usize,
    /// The deadline as it was found, and how often it had been taken back.
    until: u64,
    ended: u64,
    /// It is off its processor until its replica executes what a siege is about, and then goes on at once.
    is_timed: bool,
}

impl Look {
    /// Whether it has looked at the deadline, and is kept off its processor.
    pub(super) fn is_kept(&self) -> bool {
        self.is_timed && self.done == 1
    }
}

impl World {
    /// A thread of a replica begins to look.
    pub(crate) fn look(&mut self, at: usize, reader: (usize, usize), zone: Zone) {
        let slot = client::slots(&self.judge.history.operations[reader.1].ask);
        let Some(life) = self.machines[at].life.as_mut() else { return };
        life.leased.looks_begun += 1;
        let number = life.leased.looks_begun;
        let look = Look { reader, zone, slot, done: 0, until: 0, ended: 0, is_timed: false };
        self.look_on(at, number, look);
    }

    /// The look goes on after a while.
    fn look_on(&mut self, at: usize, number: u64, look: Look) {
        let is_slow = self.leases.guests.contains(&look.reader.0);
        let delay = if look.is_timed { TIMED_NS } else { self.leases.stall(is_slow) };
        let Some(life) = self.life(at) else { return };
        life.leased.looks.insert(number, look);
        self.turn_after(at, delay, Turn::Look { number });
    }

    /// It looks at the next thing.
    pub(crate) fn looks(&mut self, at: usize, number: u64) -> Checked {
        let (now, clock, defect) = (self.queue.now(), self.clock(at), self.options.defect);
        let Some(life) = self.machines[at].life.as_mut() else { return Ok(()) };
        let Some(mut look) = life.leased.looks.remove(&number) else { return Ok(()) };
        let order = match defect {
            Some(Defect::LeaseBeforePending) => &LEASE_BEFORE_PENDING[..],
            Some(Defect::DeadlineAfterPending) => &DEADLINE_AFTER_PENDING,
            Some(Defect::DeadlineLookedAtOnce) => &DEADLINE_LOOKED_AT_ONCE,
            _ => &RIGHT,
        };
        let is_kept = self.leases.guests.contains(&look.reader.0) && self.is_kept_waiting(at);
        if look.is_kept() && is_kept {
            self.look_on(at, number, look);
            return Ok(());
        }
        look.is_timed |= is_kept;
        let Some(life) = self.machines[at].life.as_mut() else { return Ok(()) };
        let step = order[look.done];
        let goes_on = match step {
            Step::Deadline => {
                look.until = life.leased.deadlines.get(&look.zone).copied().unwrap_or(0);
                look.ended = life.leased.times_ended(&look.zone);
                look.until > 0
            }
            Step::Pending => life.leased.pending.values().all(|slots| !slots.meets(&look.slot)),
            Step::Clock => clock.mono_ns < look.until,
            Step::Again => look.ended == life.leased.times_ended(&look.zone),
            // A peer's that was installed since has what was here, too: it is shown with all that is executed again on it.
            Step::State => true,
        };
        self.trace.mark(&[19, now, at as u64, number, look.done as u64, u64::from(goes_on)]);
        self.trace.say(now, || {
            let (read, at) = (look.reader.1, at + 1);
            format!("r{at} reads {read} beside the loop: {step:?} {goes_on}, deadline {}", look.until)
        });
        if !goes_on {
            self.coverage.looks_in_vain += 1;
            return self.read_by_loop(at, look.reader, &look.zone);
        }
        look.done += 1;
        if step == Step::State {
            self.coverage.looks += 1;
            self.judge.history.operations[look.reader.1].is_leased = true;
            return self.answer_read(at, look.reader, false);
        }
        self.look_on(at, number, look);
        Ok(())
    }

    /// The loop answers: under the lease if it is held, else by quorum.
    fn read_by_loop(&mut self, at: usize, reader: (usize, usize), zone: &Zone) -> Checked {
        if !self.read_leased(at, reader, zone) {
            let (clock, slots) = (self.clock(at), client::slots(&self.judge.history.operations[reader.1].ask));
            let Some(life) = self.life(at) else { return Ok(()) };
            match life.replica.handle_read(clock, slots) {
                Ok(read) => drop(life.reads.insert(read, reader)),
                Err(dace::SubmitError::Sealed) => life.again.push(reader),
                Err(_) => self.never_answered(reader),
            }
        }
        self.drain(at)
    }
}

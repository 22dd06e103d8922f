//! The graph over slot order, real time and reads against one object that holds all slots: to be linearizable with
//! it is to be strictly serializable. An operation is told how many commands stood before it in each of its slots,
//! so that the answers alone give the order of every slot, and both checkers judge the same.

use bytes::Bytes;
use stateright::semantics::SequentialSpec;
use types::command::{Command, DeleteAccessKey, Op};
use types::{CommandId, Incarnation, Outcome, ReplicaId, Slot, SlotSet, Timestamp};

use super::{Span, is_linearizable, spans};
use crate::group::check::graph::serializable;
use crate::group::check::history::{Answer, Ask, History, Reading};
use crate::group::check::order::Order;
use crate::group::state::Place;
use crate::group::world::EPOCH;
use crate::random::Random;

const HISTORIES: u64 = 6000;
/// Slots that commands name, and one more that only commands on all slots touch.
const NAMED: usize = 3;
const SLOTS: usize = NAMED + 1;

#[derive(Clone, Debug)]
struct Step {
    is_write: bool,
    /// All slots, or these.
    slots: Option<Vec<usize>>,
}

impl Step {
    fn touches(&self) -> Vec<usize> {
        self.slots.clone().unwrap_or_else(|| (0..SLOTS).collect())
    }

    fn slot_set(&self) -> SlotSet {
        let slot = |slot: &usize| Slot(u16::try_from(*slot).expect("few slots"));
        self.slots.as_ref().map_or(SlotSet::All, |slots| SlotSet::of(slots.iter().map(slot).collect()))
    }
}

/// How many commands each slot has seen.
#[derive(Clone, Default, Debug)]
struct Counts {
    seen: [u32; SLOTS],
}

impl Counts {
    fn told(&self, step: &Step) -> Vec<u32> {
        step.touches().iter().map(|slot| self.seen[*slot]).collect()
    }
}

impl SequentialSpec for Counts {
    type Op = Step;
    type Ret = Vec<u32>;

    fn invoke(&mut self, step: &Step) -> Vec<u32> {
        let told = self.told(step);
        if step.is_write {
            step.touches().into_iter().for_each(|slot| self.seen[slot] += 1);
        }
        told
    }
}

/// What is wrong with a history.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wrong {
    Nothing,
    /// Reads see a state that lags behind, in each slot as it likes.
    Reads,
    /// Neighbours have changed places.
    Order,
}

/// A history as the judge has it, and as the other tester wants it.
struct Drawn {
    order: Order,
    history: History,
    operations: Vec<(Span, Step, Option<Vec<u32>>)>,
}

fn step(random: &mut Random) -> Step {
    let slots = match random.below(8) {
        0 | 1 => None,
        2..5 => Some(vec![random.index(NAMED)]),
        _ => Some(vec![random.index(NAMED), random.index(NAMED)]),
    };
    let mut slots = slots;
    if let Some(slots) = &mut slots {
        slots.sort_unstable();
        slots.dedup();
    }
    Step { is_write: random.one_in(2), slots }
}

fn draw(random: &mut Random, wrong: Wrong) -> Drawn {
    let mut steps: Vec<(Span, Step)> = spans(random).into_iter().map(|span| (span, step(random))).collect();
    if wrong == Wrong::Order && steps.len() > 1 {
        for _ in 0..3 {
            let at = random.index(steps.len() - 1);
            steps.swap(at, at + 1);
        }
    }
    let mut order = Order::new(1 + steps.len());
    let (mut history, mut counts) = (History::new(), Counts::default());
    let mut executed: Vec<(Place, Step)> = Vec::new();
    let mut operations = Vec::new();
    for (index, (span, step)) in steps.into_iter().enumerate() {
        // A write that is executed has its place, answered or not.
        let ever = Span { answered: Some(span.answered.unwrap_or(u64::MAX)), ..span };
        if step.is_write {
            let number = index as u64 + 1;
            let id = CommandId { replica: ReplicaId(1), incarnation: Incarnation(1), counter: number };
            let place = (Timestamp(number), id);
            let operation = history.begin(span.invoked, write(), step.slot_set());
            assert!(history.submitted(span.invoked, operation, (EPOCH, id), Bytes::new()));
            order.executed(0, place, &step.slot_set(), &Outcome::Done).expect("timestamps rise");
            if let Some(answered) = span.answered {
                history.answered_write(answered, id, &Outcome::Done);
            }
            let told = counts.invoke(&step);
            executed.push((place, step.clone()));
            operations.push((ever, step, Some(told)));
        } else if let Some(answered) = span.answered {
            let lag = if wrong == Wrong::Reads { 3 } else { u64::MAX };
            let seen = read_at(random, &mut order, 1 + index, &executed, lag);
            let reading = Reading { at: order.position(1 + index).to_vec() };
            let ask = Ask::Get { bucket: String::new(), key: String::new() };
            let operation = history.begin(span.invoked, ask, step.slot_set());
            history.answered_read(answered, operation, reading, Answer::Object(None));
            let told = seen.told(&step);
            operations.push((ever, step, Some(told)));
        }
    }
    Drawn { order, history, operations }
}

/// The state that a read sees: all that is executed, but for one command in `lag` and what stands behind it in its slots.
fn read_at(random: &mut Random, order: &mut Order, replica: usize, executed: &[(Place, Step)], lag: u64) -> Counts {
    let mut counts = Counts::default();
    let mut is_stuck = [false; SLOTS];
    for (place, step) in executed {
        let is_behind = lag != u64::MAX && random.one_in(lag);
        if is_behind || step.touches().iter().any(|slot| is_stuck[*slot]) {
            step.touches().into_iter().for_each(|slot| is_stuck[slot] = true);
            continue;
        }
        order.executed(replica, *place, &step.slot_set(), &Outcome::Done).expect("a prefix of every slot");
        counts.invoke(step);
    }
    counts
}

fn write() -> Ask {
    let op = Op::DeleteAccessKey(DeleteAccessKey { access_key: "nobody".to_owned() });
    Ask::Write(Box::new(Command { salt: [0; 32], principal: String::new(), request: None, op }))
}

#[test]
fn the_graph_and_stateright_agree() {
    let (mut right, mut torn, mut wrong) = (0, 0, 0);
    for seed in 0..HISTORIES {
        let mut random = Random::new(seed, "cross-check of slots");
        let kind = [Wrong::Nothing, Wrong::Reads, Wrong::Order][usize::try_from(seed % 3).expect("small")];
        let Drawn { order, history, operations } = draw(&mut random, kind);
        let is_listing = |step: &Step| !step.is_write && step.slots.is_none();
        let unlisted: Vec<_> = operations.iter().filter(|(_, step, _)| !is_listing(step)).cloned().collect();
        let theirs =
            match (is_linearizable(Counts::default(), &unlisted), is_linearizable(Counts::default(), &operations)) {
                (false, _) => Some("serializability"),
                (true, false) => Some("listing"),
                (true, true) => None,
            };
        let ours = serializable(&order, &history).err().map(|violation| violation.check);
        assert_eq!(ours, theirs, "seed {seed}: ours, and stateright's verdict of {operations:#?}");
        assert!(kind != Wrong::Nothing || ours.is_none(), "seed {seed} is serializable by construction");
        match ours {
            None => right += 1,
            Some("listing") => torn += 1,
            Some(_) => wrong += 1,
        }
    }
    let told = format!("{right} serializable, {torn} but for a listing, {wrong} not");
    assert!(right >= HISTORIES / 3 && torn >= HISTORIES / 50 && wrong >= HISTORIES / 10, "{told}");
}

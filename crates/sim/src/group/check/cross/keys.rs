//! The search per key against a map of two keys: reads, writes, conditional writes, deletions.

use bytes::Bytes;
use stateright::semantics::SequentialSpec;
use types::command::{Command, Condition, DeleteItem, DeleteObjects, EtagMatch, Op, PutObject};
use types::object::{Body, Metadata};
use types::outcome::{DeleteResult, Written};
use types::{CommandId, Incarnation, OrderKey, Outcome, Refusal, ReplicaId, Slot, SlotSet};

use super::{Span, is_linearizable, spans};
use crate::group::check::history::{Answer, Ask, History, Reading};
use crate::group::check::search::linearizable;
use crate::group::client::STABLE_BUCKET;
use crate::group::world::EPOCH;
use crate::random::Random;

const HISTORIES: u64 = 6000;
/// Values are few, so that different orders give the same.
const VALUES: u64 = 3;

/// A condition on the current value.
#[derive(Clone, Copy, Debug)]
enum When {
    Always,
    Absent,
    Present,
    Is(u8),
}

#[derive(Clone, Copy, Debug)]
enum What {
    Get,
    Put(When, u8),
    Delete(When),
}

#[derive(Clone, Copy, Debug)]
struct Step {
    key: usize,
    what: What,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Told {
    Saw(Option<u8>),
    Done,
    PreconditionFailed,
    NoSuchKey,
}

#[derive(Clone, Default, Debug)]
struct Store {
    values: [Option<u8>; 2],
}

impl SequentialSpec for Store {
    type Op = Step;
    type Ret = Told;

    fn invoke(&mut self, step: &Step) -> Told {
        let value = &mut self.values[step.key];
        let (when, new) = match step.what {
            What::Get => return Told::Saw(*value),
            What::Put(when, new) => (when, Some(new)),
            What::Delete(when) => (when, None),
        };
        match (when, *value) {
            (When::Present | When::Is(_), None) => return Told::NoSuchKey,
            (When::Absent, Some(_)) => return Told::PreconditionFailed,
            (When::Is(wanted), Some(found)) if wanted != found => return Told::PreconditionFailed,
            _ => {}
        }
        *value = new;
        Told::Done
    }
}

fn step(random: &mut Random) -> Step {
    let value = u8::try_from(random.below(VALUES)).expect("small");
    let when = match random.below(8) {
        0 | 1 => When::Absent,
        2 => When::Present,
        3 => When::Is(u8::try_from(random.below(VALUES)).expect("small")),
        _ => When::Always,
    };
    let what = match random.below(8) {
        0..4 => What::Get,
        4..7 => What::Put(when, value),
        _ => What::Delete(when),
    };
    Step { key: usize::from(random.one_in(3)), what }
}

/// Another answer to the same.
fn swapped(random: &mut Random, step: Step, told: Told) -> Told {
    match (step.what, told) {
        (What::Get, _) => {
            let value = random.below(VALUES + 1);
            Told::Saw((value < VALUES).then(|| u8::try_from(value).expect("small")))
        }
        (_, Told::Done) if random.one_in(2) => Told::NoSuchKey,
        (_, Told::Done) => Told::PreconditionFailed,
        _ => Told::Done,
    }
}

/// A history that is right by construction; every second one has an answer swapped.
fn draw(random: &mut Random, is_swapped: bool) -> Vec<(Span, Step, Option<Told>)> {
    let mut store = Store::default();
    let mut operations: Vec<(Span, Step, Option<Told>)> = Vec::new();
    for span in spans(random) {
        let step = step(random);
        // What nobody was told may not have happened.
        let told = (span.answered.is_some() || random.one_in(2)).then(|| store.invoke(&step));
        operations.push((span, step, told.filter(|_| span.answered.is_some())));
    }
    let answered: Vec<usize> = (0..operations.len()).filter(|index| operations[*index].2.is_some()).collect();
    if is_swapped && !answered.is_empty() {
        let (_, step, told) = &mut operations[*random.pick(&answered)];
        *told = told.map(|told| swapped(random, *step, told));
    }
    operations
}

fn etag(value: u8) -> String {
    format!("{value:02x}").repeat(16)
}

fn condition(when: When) -> Condition {
    match when {
        When::Always => Condition::default(),
        When::Absent => Condition { if_none_match: Some(EtagMatch::Any), ..Condition::default() },
        When::Present => Condition { if_match: Some(EtagMatch::Any), ..Condition::default() },
        When::Is(value) => Condition { if_match: Some(EtagMatch::OneOf(vec![etag(value)])), ..Condition::default() },
    }
}

fn ask(step: Step) -> Ask {
    let (bucket, key) = (STABLE_BUCKET.to_owned(), format!("k{}", step.key));
    let op = match step.what {
        What::Get => return Ask::Get { bucket, key },
        What::Put(when, value) => Op::PutObject(PutObject {
            bucket,
            key,
            body: Body::Inline(Bytes::new()),
            len: 0,
            digest: [0; 32],
            md5: [value; 16],
            checksum: None,
            metadata: Metadata::default(),
            condition: condition(when),
        }),
        What::Delete(when) => {
            let items = vec![DeleteItem { key, version: None, condition: condition(when) }];
            Op::DeleteObjects(DeleteObjects { bucket, items })
        }
    };
    Ask::Write(Box::new(Command { salt: [0; 32], principal: String::new(), request: None, op }))
}

fn outcome(what: What, told: Told) -> Outcome {
    let refused = match told {
        Told::PreconditionFailed => Some(Refusal::PreconditionFailed),
        Told::NoSuchKey => Some(Refusal::NoSuchKey),
        Told::Done | Told::Saw(_) => None,
    };
    let order = OrderKey::default();
    match (what, refused) {
        (What::Delete(_), refused) => {
            let (marker, removed) = (None, None);
            let result = DeleteResult { order, refused, marker, removed, removed_marker: false, null_version: false };
            Outcome::Deleted(vec![result])
        }
        (_, Some(refusal)) => Outcome::Refused(refusal),
        (What::Get, None) => Outcome::Done,
        (What::Put(_, value), None) => Outcome::Written(Written {
            order,
            version: None,
            null_version: false,
            etag: etag(value),
            checksum: None,
            modified_ms: 0,
            source_version: None,
            parts: 0,
            len: 0,
        }),
    }
}

/// The same history as the world's clients would have left it.
fn history(operations: &[(Span, Step, Option<Told>)]) -> History {
    let mut history = History::new();
    for (number, (span, step, told)) in (1..).zip(operations) {
        let slots = SlotSet::of(vec![Slot::of(STABLE_BUCKET, &format!("k{}", step.key))]);
        let index = history.begin(span.invoked, ask(*step), slots);
        let id = CommandId { replica: ReplicaId(1), incarnation: Incarnation(1), counter: number };
        match step.what {
            What::Get => {}
            What::Put(..) | What::Delete(_) => {
                assert!(history.submitted(span.invoked, index, (EPOCH, id), Bytes::new()));
            }
        }
        match (told, span.answered) {
            (Some(Told::Saw(value)), Some(at)) => {
                let object = value.map(|value| (OrderKey::default(), etag(value)));
                history.answered_read(at, index, Reading { at: vec![0] }, Answer::Object(object));
            }
            (Some(told), Some(at)) => history.answered_write(at, id, &outcome(step.what, *told)),
            _ => {}
        }
    }
    history
}

#[test]
fn the_search_and_stateright_agree() {
    let (mut right, mut wrong) = (0, 0);
    for seed in 0..HISTORIES {
        let mut random = Random::new(seed, "cross-check of keys");
        let is_swapped = seed % 2 == 1;
        let operations = draw(&mut random, is_swapped);
        let theirs = is_linearizable(Store::default(), &operations);
        let ours = match linearizable(&history(&operations)) {
            Ok(searched) => {
                assert_eq!(searched.skipped, 0, "seed {seed}: small histories are searched");
                true
            }
            Err(violation) => {
                assert_eq!(violation.check, "linearizability");
                false
            }
        };
        assert_eq!(ours, theirs, "seed {seed}: ours, and stateright's verdict of {operations:#?}");
        assert!(is_swapped || ours, "seed {seed} is linearizable by construction");
        if ours { right += 1 } else { wrong += 1 }
    }
    assert!(right >= HISTORIES / 2 && wrong >= HISTORIES / 5, "{right} linearizable, {wrong} not");
}

//! Linearizability per key, from what clients saw alone: a search for an order that explains it (Wing and Gong
//! 1993, with the memory of Lowe 2017). Knows nothing of timestamps, so it checks the other checkers too.

use std::collections::{BTreeMap, BTreeSet};

use types::command::{Command, Condition, EtagMatch, Op};
use types::{Outcome, Refusal};

use super::history::{Answer, Ask, History, Operation};
use super::{Violation, violation};
use crate::group::client::STABLE_BUCKET;
use crate::group::queue::Instant;

/// Histories with more operations are left out: the search is for small ones.
const OPERATIONS_MAX: usize = 64;
/// States looked at before a search is given up.
const STATES_MAX: usize = 100_000;

/// What was searched.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Searched {
    /// Histories of keys that were found linearizable.
    pub(crate) histories: u64,
    /// Those too large to search.
    pub(crate) skipped: u64,
}

/// The value of a key: the ETag of the current version.
type Value<'a> = Option<&'a str>;

/// What an operation did to a key, as its client knows it.
#[derive(Clone, Debug)]
enum Effect<'a> {
    /// It saw this.
    Saw(Value<'a>),
    /// It wrote this, having found the condition true.
    Wrote(&'a Condition, Value<'a>),
    /// It was refused since the condition is false; whether there is an object is known too.
    Refused(&'a Condition, bool),
    /// Nobody knows whether it was done.
    Unknown(&'a Condition, Value<'a>),
}

struct Event<'a> {
    invoked: Instant,
    answered: Instant,
    effect: Effect<'a>,
}

/// The keys that a command writes.
pub(crate) fn written(command: &Command) -> Vec<(&str, &str)> {
    match &command.op {
        Op::PutObject(op) => vec![(&op.bucket, &op.key)],
        Op::DeleteObjects(op) => op.items.iter().map(|item| (op.bucket.as_str(), item.key.as_str())).collect(),
        Op::CopyObject(op) => vec![(&op.bucket, &op.key)],
        Op::CompleteUpload(op) => vec![(&op.bucket, &op.key)],
        _ => Vec::new(),
    }
}

/// Searches the history of every key of the bucket that is never changed itself.
pub(crate) fn linearizable(history: &History) -> Result<Searched, Box<Violation>> {
    let mut searched = Searched::default();
    let mut keys: BTreeMap<&str, Option<Vec<Event<'_>>>> = BTreeMap::new();
    for operation in &history.operations {
        for (key, event) in events(operation) {
            let events = keys.entry(key).or_insert_with(|| Some(Vec::new()));
            match event {
                Some(event) => events.iter_mut().for_each(|events| events.push(event.clone())),
                None => *events = None,
            }
        }
    }
    for (key, events) in keys {
        let Some(events) = events.filter(|events| events.len() <= OPERATIONS_MAX) else {
            searched.skipped += 1;
            continue;
        };
        match Search::new(&events).run() {
            Some(true) => searched.histories += 1,
            None => searched.skipped += 1,
            Some(false) => {
                let lines: Vec<String> = events
                    .iter()
                    .map(|event| format!("{}..{} {:?}", event.invoked, event.answered, event.effect))
                    .collect();
                return violation(
                    "linearizability",
                    format!("nothing explains the history of {key}:\n  {}", lines.join("\n  ")),
                );
            }
        }
    }
    Ok(searched)
}

impl Clone for Event<'_> {
    fn clone(&self) -> Self {
        Self { invoked: self.invoked, answered: self.answered, effect: self.effect.clone() }
    }
}

static NO_CONDITION: Condition = Condition {
    if_match: None,
    if_none_match: None,
    if_modified_since: None,
    if_unmodified_since: None,
    if_size: None,
    if_modified_at: None,
};

/// What an operation did to keys of the bucket; `None` for what this search does not understand.
fn events(operation: &Operation) -> Vec<(&str, Option<Event<'_>>)> {
    let span = |answered, effect| Event { invoked: operation.invoked, answered, effect };
    match &operation.ask {
        Ask::Get { bucket, key } if bucket == STABLE_BUCKET => {
            let Some(read) = &operation.read else { return Vec::new() };
            let Answer::Object(object) = &read.answer else { return Vec::new() };
            let value = object.as_ref().map(|(_, etag)| etag.as_str());
            vec![(key.as_str(), Some(span(read.answered, Effect::Saw(value))))]
        }
        Ask::Get { .. } | Ask::List { .. } => Vec::new(),
        Ask::Write(command) => {
            let answered = operation.outcome.as_ref().map_or(Instant::MAX, |(at, _)| *at);
            let outcome = operation.outcome.as_ref().map(|(_, outcome)| outcome);
            let stable = written(command).into_iter().filter(|(bucket, _)| *bucket == STABLE_BUCKET);
            let event = |key| effect(operation, command, key, outcome).map(|effect| span(answered, effect));
            stable.map(|(_, key)| (key, event(key))).collect()
        }
    }
}

fn effect<'a>(
    operation: &'a Operation,
    command: &'a Command,
    key: &str,
    outcome: Option<&'a Outcome>,
) -> Option<Effect<'a>> {
    let refused = |condition: &'a Condition, refusal: &Refusal| match refusal {
        Refusal::PreconditionFailed => Some(Effect::Refused(condition, true)),
        Refusal::NoSuchKey => Some(Effect::Refused(condition, false)),
        _ => None,
    };
    match (&command.op, outcome) {
        // A lost answer may hide any number of tries.
        (_, None) if operation.ids.len() > 1 => None,
        (Op::PutObject(op), outcome) => match outcome {
            None => Some(Effect::Unknown(&op.condition, Some(&operation.etag))),
            Some(Outcome::Written(written)) => Some(Effect::Wrote(&op.condition, Some(&written.etag))),
            Some(Outcome::Refused(refusal)) => refused(&op.condition, refusal),
            Some(_) => None,
        },
        (Op::DeleteObjects(op), outcome) => {
            let mut items = op.items.iter().enumerate().filter(|(_, item)| item.key == key);
            let (index, item) = items.next()?;
            if items.next().is_some() || item.version.is_some() {
                return None;
            }
            match outcome {
                None => Some(Effect::Unknown(&item.condition, None)),
                Some(Outcome::Deleted(results)) => match &results.get(index)?.refused {
                    None => Some(Effect::Wrote(&item.condition, None)),
                    Some(refusal) => refused(&item.condition, refusal),
                },
                Some(_) => None,
            }
        }
        (Op::CopyObject(op), Some(Outcome::Written(written))) if op.condition == NO_CONDITION => {
            Some(Effect::Wrote(&NO_CONDITION, Some(&written.etag)))
        }
        _ => None,
    }
}

fn holds(condition: &Condition, value: Value<'_>) -> bool {
    let matches = |tags: &EtagMatch| match (tags, value) {
        (_, None) => false,
        (EtagMatch::Any, Some(_)) => true,
        (EtagMatch::OneOf(tags), Some(value)) => tags.iter().any(|tag| tag == value),
    };
    condition.if_match.as_ref().is_none_or(matches) && !condition.if_none_match.as_ref().is_some_and(matches)
}

/// The value behind an operation; `None` if it cannot have happened here.
fn apply<'a>(effect: &Effect<'a>, value: Value<'a>) -> Option<Value<'a>> {
    match effect {
        Effect::Saw(seen) => (*seen == value).then_some(value),
        Effect::Wrote(condition, new) => holds(condition, value).then_some(*new),
        Effect::Refused(condition, exists) => (!holds(condition, value) && value.is_some() == *exists).then_some(value),
        Effect::Unknown(condition, new) => Some(if holds(condition, value) { *new } else { value }),
    }
}

struct Search<'a, 'e> {
    events: &'e [Event<'a>],
    all: u64,
    dead: BTreeSet<(u64, Value<'a>)>,
}

impl<'a, 'e> Search<'a, 'e> {
    fn new(events: &'e [Event<'a>]) -> Self {
        let all = events
            .iter()
            .enumerate()
            .filter(|(_, event)| event.answered != Instant::MAX)
            .fold(0, |all, (index, _)| all | 1 << index);
        Self { events, all, dead: BTreeSet::new() }
    }

    /// Whether there is an order; `None` if that would take too long.
    fn run(mut self) -> Option<bool> {
        let mut stack = vec![(0_u64, None)];
        while let Some((done, value)) = stack.pop() {
            if done & self.all == self.all {
                return Some(true);
            }
            if !self.dead.insert((done, value)) {
                continue;
            }
            if self.dead.len() > STATES_MAX {
                return None;
            }
            let left = |index: &usize| done & (1 << *index) == 0;
            let bound = (0..self.events.len()).filter(left).map(|index| self.events[index].answered).min();
            for index in (0..self.events.len()).filter(left) {
                let event = &self.events[index];
                if Some(event.invoked) <= bound
                    && let Some(next) = apply(&event.effect, value)
                {
                    stack.push((done | 1 << index, next));
                }
            }
        }
        Some(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event<'a>(invoked: Instant, answered: Instant, effect: Effect<'a>) -> Event<'a> {
        Event { invoked, answered, effect }
    }

    fn wrote(value: &str) -> Effect<'_> {
        Effect::Wrote(&NO_CONDITION, Some(value))
    }

    #[test]
    fn a_stale_read_has_no_explanation() {
        let stale = [event(0, 10, wrote("a")), event(20, 30, wrote("b")), event(40, 50, Effect::Saw(Some("a")))];
        assert_eq!(Search::new(&stale).run(), Some(false));
        let concurrent = [event(0, 10, wrote("a")), event(20, 60, wrote("b")), event(40, 50, Effect::Saw(Some("a")))];
        assert_eq!(Search::new(&concurrent).run(), Some(true));
    }

    #[test]
    fn reads_do_not_go_back() {
        let events =
            [event(0, 100, wrote("a")), event(10, 20, Effect::Saw(Some("a"))), event(30, 40, Effect::Saw(None))];
        assert_eq!(Search::new(&events).run(), Some(false));
    }

    #[test]
    fn of_two_creations_one_is_refused() {
        let create = Condition { if_none_match: Some(EtagMatch::Any), ..NO_CONDITION.clone() };
        let both = [event(0, 10, Effect::Wrote(&create, Some("a"))), event(5, 15, Effect::Wrote(&create, Some("b")))];
        assert_eq!(Search::new(&both).run(), Some(false));
        let one = [event(0, 10, Effect::Wrote(&create, Some("a"))), event(5, 15, Effect::Refused(&create, true))];
        assert_eq!(Search::new(&one).run(), Some(true));
    }

    #[test]
    fn what_nobody_answered_may_have_happened_or_not() {
        let unknown = event(0, Instant::MAX, Effect::Unknown(&NO_CONDITION, Some("a")));
        let seen = [unknown.clone(), event(50, 60, Effect::Saw(Some("a")))];
        assert_eq!(Search::new(&seen).run(), Some(true));
        let unseen = [unknown, event(50, 60, Effect::Saw(None))];
        assert_eq!(Search::new(&unseen).run(), Some(true));
    }
}

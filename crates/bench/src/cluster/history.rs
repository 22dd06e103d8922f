//! What clients asked, when, and what they were told.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use md5::{Digest as _, Md5};
use parking_lot::Mutex;

use crate::random::Random;

/// Microseconds since the run began.
pub(super) type Micros = u64;

/// A key: its generation, and its number in that.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Key {
    pub(super) generation: u32,
    pub(super) number: u32,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "g{:05}/k{}", self.generation, self.number)
    }
}

/// The write that a version comes from: no two writes of a run have the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Value(pub(super) u64);

impl Value {
    /// The bytes that are written: the value, and as many others as it says itself.
    pub(super) fn body(self) -> Vec<u8> {
        let mut random = Random::new(self.0);
        let len = if random.chance(8) { 70_000 + random.below(250_000) } else { random.below(3_000) };
        let mut body = self.0.to_le_bytes().to_vec();
        random.fill(&mut body, usize::try_from(len).unwrap_or(0));
        body
    }

    /// What a body is of; `None` if these are not the bytes that anybody wrote.
    pub(super) fn of(body: &[u8]) -> Option<Self> {
        let value = Self(u64::from_le_bytes(body.get(..8)?.try_into().ok()?));
        (value.body() == body).then_some(value)
    }

    /// The ETag of such a body, without quotes.
    pub(super) fn etag(self) -> String {
        hex::encode(Md5::digest(self.body()))
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

/// Under which condition a write was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Condition {
    /// None.
    Always,
    /// `If-None-Match: *`
    Absent,
    /// `If-Match` with the ETag of this value.
    Is(Value),
}

/// What was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Action {
    Put(Condition, Value),
    Delete,
    Get,
    /// The key's part of a listing.
    List,
}

impl Action {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Put(Condition::Always, _) => "PUT",
            Self::Put(Condition::Absent, _) => "PUT if-none-match",
            Self::Put(Condition::Is(_), _) => "PUT if-match",
            Self::Delete => "DELETE",
            Self::Get => "GET",
            Self::List => "LIST",
        }
    }

    pub(super) fn is_write(self) -> bool {
        matches!(self, Self::Put(..) | Self::Delete)
    }
}

/// What the client was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// The write was acknowledged.
    Done,
    /// The read showed this.
    Saw(Option<Value>),
    /// The condition does not hold; there is an object, or there is none.
    Refused { present: bool },
    /// It was not done, and will not be: 503 without `x-entangle-outcome`, or no connection.
    Declined,
    /// The client was not told.
    Unknown,
}

impl Outcome {
    /// Whether the client knows what came of it.
    pub(super) fn is_answer(self) -> bool {
        !matches!(self, Self::Declined | Self::Unknown)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Done | Self::Saw(_) => "acknowledged",
            Self::Refused { .. } => "refused",
            Self::Declined => "declined",
            Self::Unknown => "unknown",
        }
    }
}

/// One call, or of a listing what it says of one key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) key: Key,
    /// The place of the node that was asked.
    pub(super) place: usize,
    pub(super) begin: Micros,
    pub(super) end: Micros,
    pub(super) action: Action,
    pub(super) outcome: Outcome,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |at: Micros| format!("{}.{:06}", at / 1_000_000, at % 1_000_000);
        write!(f, "{} .. {} place {} {}", seconds(self.begin), seconds(self.end), self.place + 1, self.action.name())?;
        match self.action {
            Action::Put(Condition::Is(old), new) => write!(f, " {new} over {old}")?,
            Action::Put(_, new) => write!(f, " {new}")?,
            _ => {}
        }
        match self.outcome {
            Outcome::Saw(Some(value)) => write!(f, ": saw {value}"),
            Outcome::Saw(None) => write!(f, ": saw nothing"),
            Outcome::Refused { present: true } => write!(f, ": refused, there is another"),
            Outcome::Refused { present: false } => write!(f, ": refused, there is none"),
            other => write!(f, ": {}", other.name()),
        }
    }
}

/// Calls by what was asked and how it ended.
pub(super) type Tally = BTreeMap<(&'static str, &'static str), u64>;

/// All that clients did.
#[derive(Default)]
pub(super) struct History {
    calls: Mutex<Vec<Call>>,
    tally: Mutex<Tally>,
}

impl History {
    /// Records a call.
    pub(super) fn record(&self, call: Call) {
        self.count(call.action, call.outcome);
        self.calls.lock().push(call);
    }

    /// Records a listing: what it says of every key that it is of.
    pub(super) fn record_listing(&self, calls: &[Call], outcome: Outcome) {
        self.count(Action::List, outcome);
        self.calls.lock().extend_from_slice(calls);
    }

    fn count(&self, action: Action, outcome: Outcome) {
        *self.tally.lock().entry((action.name(), outcome.name())).or_default() += 1;
    }

    pub(super) fn tally(&self) -> Tally {
        self.tally.lock().clone()
    }

    /// The calls of every key.
    pub(super) fn by_key(&self) -> BTreeMap<Key, Vec<Call>> {
        let mut keys: BTreeMap<Key, Vec<Call>> = BTreeMap::new();
        for call in self.calls.lock().iter() {
            keys.entry(call.key).or_default().push(*call);
        }
        keys
    }

    /// When acknowledged writes were answered within a span, in order: for every place.
    pub(super) fn acknowledged(&self, within: RangeInclusive<Micros>, places: usize) -> Vec<Vec<Micros>> {
        let mut at = vec![Vec::new(); places];
        for call in self.calls.lock().iter() {
            if call.action.is_write() && call.outcome == Outcome::Done && within.contains(&call.end) {
                at[call.place].push(call.end);
            }
        }
        at.iter_mut().for_each(|at| at.sort_unstable());
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_tells_its_value_and_a_damaged_one_does_not() {
        for value in (0..40).map(Value) {
            let mut body = value.body();
            assert_eq!(Value::of(&body), Some(value));
            body.push(0);
            assert_eq!(Value::of(&body), None);
        }
        assert_eq!(Value::of(b"short"), None);
    }
}

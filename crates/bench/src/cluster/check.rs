//! Linearizability per key: a search for an order of the calls that explains what every client was told (Wing and Gong
//! 1993, with the memory of Lowe 2017).
//!
//! A write of unknown outcome may take effect at any time after it began, or never. A read, and a write that was refused,
//! changes nothing: as soon as it may come next and fits, it comes next, and nothing else has to be tried.

use std::collections::HashSet;

use super::history::{Action, Call, Condition, Micros, Outcome, Value};

/// States looked at before a search is given up.
const STATES_MAX: usize = 3_000_000;

/// What a search found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// There is an order.
    Linearizable,
    /// There is none. The call that no order gets past: that which began first of those left over in the longest one.
    Violated(Option<usize>),
    /// That would take too long.
    GivenUp,
}

/// What a call did, as its client knows it.
#[derive(Clone, Copy, Debug)]
enum Effect {
    Saw(Option<Value>),
    Wrote(Condition, Option<Value>),
    Refused(Condition, bool),
    Maybe(Condition, Option<Value>),
}

struct Event {
    begin: Micros,
    /// `Micros::MAX` for what may happen at any time.
    end: Micros,
    effect: Effect,
    /// Index of the call.
    call: usize,
}

impl Event {
    fn is_due(&self) -> bool {
        !matches!(self.effect, Effect::Maybe(..))
    }

    /// A deletion of what is not there is none of these: it may be needed later.
    fn changes_nothing(&self) -> bool {
        matches!(self.effect, Effect::Saw(_) | Effect::Refused(..))
    }

    /// The value behind it; `None` if it cannot come here.
    fn apply(&self, value: Option<Value>) -> Option<Option<Value>> {
        match self.effect {
            Effect::Saw(seen) => (seen == value).then_some(value),
            Effect::Wrote(condition, new) => holds(condition, value).then_some(new),
            Effect::Refused(condition, present) => {
                (!holds(condition, value) && value.is_some() == present).then_some(value)
            }
            // Where it would change nothing, it may as well never happen.
            Effect::Maybe(condition, new) => (holds(condition, value) && new != value).then_some(new),
        }
    }
}

fn holds(condition: Condition, value: Option<Value>) -> bool {
    match condition {
        Condition::Always => true,
        Condition::Absent => value.is_none(),
        Condition::Is(wanted) => value == Some(wanted),
    }
}

fn event((call, seen): (usize, &Call)) -> Option<Event> {
    let written = match seen.action {
        Action::Put(condition, value) => (condition, Some(value)),
        Action::Delete | Action::Get | Action::List => (Condition::Always, None),
    };
    let (end, effect) = match seen.outcome {
        Outcome::Saw(value) => (seen.end, Effect::Saw(value)),
        Outcome::Done => (seen.end, Effect::Wrote(written.0, written.1)),
        Outcome::Refused { present } => (seen.end, Effect::Refused(written.0, present)),
        Outcome::Unknown if seen.action.is_write() => (Micros::MAX, Effect::Maybe(written.0, written.1)),
        Outcome::Unknown | Outcome::Declined => return None,
    };
    Some(Event { begin: seen.begin, end, effect, call })
}

/// Which events have come, and the value behind them.
#[derive(Clone, PartialEq, Eq, Hash)]
struct State {
    done: Box<[u64]>,
    value: Option<Value>,
}

impl State {
    fn has(&self, index: usize) -> bool {
        self.done[index / 64] & (1 << (index % 64)) != 0
    }

    fn with(&self, index: usize, value: Option<Value>) -> Self {
        let mut done = self.done.clone();
        done[index / 64] |= 1 << (index % 64);
        Self { done, value }
    }
}

/// Searches the calls of one key.
pub(super) fn search(calls: &[Call]) -> Verdict {
    let mut events: Vec<Event> = calls.iter().enumerate().filter_map(event).collect();
    events.sort_by_key(|event| (event.begin, event.end));
    let due = events.iter().filter(|event| event.is_due()).count();
    let start = State { done: vec![0; events.len().div_ceil(64)].into(), value: None };
    let mut seen = HashSet::new();
    // With each state: how many of those that are due have come, and below which index all events have.
    let mut stack = vec![(start, 0_usize, 0_usize)];
    let (mut furthest, mut stuck) = (0, None);
    while let Some((state, count, mut first)) = stack.pop() {
        if count == due {
            return Verdict::Linearizable;
        }
        while state.has(first) {
            first += 1;
        }
        let next = candidates(&events, &state, first);
        if count >= furthest {
            furthest = count;
            stuck = (first..events.len()).find(|index| !state.has(*index) && events[*index].is_due());
        }
        let fits = |index: &usize| events[*index].apply(state.value).map(|value| (*index, value));
        let free = |(index, _): &(usize, Option<Value>)| events[*index].changes_nothing();
        let fitting: Vec<(usize, Option<Value>)> = next.iter().filter_map(fits).collect();
        let chosen = match fitting.iter().find(|next| free(next)) {
            Some(one) => std::slice::from_ref(one),
            None => &fitting[..],
        };
        // What is due is tried first, so it is pushed last.
        let (sure, unsure): (Vec<_>, Vec<_>) = chosen.iter().partition(|(index, _)| events[*index].is_due());
        for (index, value) in unsure.into_iter().chain(sure.into_iter().rev()) {
            let next = state.with(index, value);
            let came = usize::from(events[index].is_due());
            if seen.insert(next.clone()) {
                stack.push((next, count + came, first));
            }
        }
        if seen.len() > STATES_MAX {
            return Verdict::GivenUp;
        }
    }
    Verdict::Violated(stuck.map(|index| events[index].call))
}

/// Those that no other one has to come before: that began before any of those left ended.
fn candidates(events: &[Event], state: &State, first: usize) -> Vec<usize> {
    let mut bound = Micros::MAX;
    let mut found = Vec::new();
    for index in (first..events.len()).filter(|index| !state.has(*index)) {
        if events[index].begin > bound {
            break;
        }
        bound = bound.min(events[index].end);
        found.push(index);
    }
    found.retain(|index| events[*index].begin <= bound);
    found
}

#[cfg(test)]
mod tests {
    use super::super::history::Key;
    use super::*;

    const A: Value = Value(1);
    const B: Value = Value(2);

    fn call(begin: Micros, end: Micros, action: Action, outcome: Outcome) -> Call {
        Call { key: Key { generation: 0, number: 0 }, place: 0, begin, end, action, outcome }
    }

    fn put(begin: Micros, end: Micros, value: Value) -> Call {
        call(begin, end, Action::Put(Condition::Always, value), Outcome::Done)
    }

    fn lost(begin: Micros, value: Value) -> Call {
        call(begin, begin + 1, Action::Put(Condition::Always, value), Outcome::Unknown)
    }

    fn get(begin: Micros, end: Micros, value: Option<Value>) -> Call {
        call(begin, end, Action::Get, Outcome::Saw(value))
    }

    fn create(begin: Micros, end: Micros, value: Value, outcome: Outcome) -> Call {
        call(begin, end, Action::Put(Condition::Absent, value), outcome)
    }

    #[test]
    fn a_stale_read_has_no_explanation() {
        let stale = [put(0, 10, A), put(20, 30, B), get(40, 50, Some(A))];
        assert_eq!(search(&stale), Verdict::Violated(Some(2)));
        let concurrent = [put(0, 10, A), put(20, 60, B), get(40, 50, Some(A))];
        assert_eq!(search(&concurrent), Verdict::Linearizable);
    }

    #[test]
    fn reads_do_not_go_back() {
        let back = [put(0, 100, A), get(10, 20, Some(A)), get(30, 40, None)];
        assert_eq!(search(&back), Verdict::Violated(Some(2)));
        let unknown = [lost(0, A), get(10, 20, Some(A)), get(30, 40, None)];
        assert_eq!(search(&unknown), Verdict::Violated(Some(2)));
    }

    #[test]
    fn an_acknowledged_write_is_not_lost() {
        let gone = [put(0, 10, A), get(20, 30, None)];
        assert_eq!(search(&gone), Verdict::Violated(Some(1)));
        let deleted = [put(0, 10, A), call(5, 6, Action::Delete, Outcome::Unknown), get(20, 30, None)];
        assert_eq!(search(&deleted), Verdict::Linearizable);
    }

    #[test]
    fn a_deletion_may_have_to_wait_for_what_it_deletes() {
        let delete = call(0, 30, Action::Delete, Outcome::Done);
        assert_eq!(search(&[delete, put(5, 20, A), get(40, 50, None)]), Verdict::Linearizable);
        assert_eq!(search(&[delete, put(5, 20, A), get(40, 50, Some(A))]), Verdict::Linearizable);
    }

    #[test]
    fn of_two_creations_one_is_refused() {
        let both = [create(0, 10, A, Outcome::Done), create(5, 15, B, Outcome::Done)];
        assert!(matches!(search(&both), Verdict::Violated(_)));
        let one = [create(0, 10, A, Outcome::Done), create(5, 15, B, Outcome::Refused { present: true })];
        assert_eq!(search(&one), Verdict::Linearizable);
    }

    #[test]
    fn a_replacement_finds_what_it_asked_for() {
        let replace = |outcome| call(20, 30, Action::Put(Condition::Is(A), B), outcome);
        let kept = [put(0, 10, A), replace(Outcome::Done), get(40, 50, Some(B))];
        assert_eq!(search(&kept), Verdict::Linearizable);
        let twice = [put(0, 10, A), replace(Outcome::Done), replace(Outcome::Done)];
        assert!(matches!(search(&twice), Verdict::Violated(_)));
        let wrong = [put(0, 10, A), replace(Outcome::Refused { present: false })];
        assert!(matches!(search(&wrong), Verdict::Violated(_)));
    }

    #[test]
    fn what_nobody_was_told_may_happen_late_or_never() {
        let late = [lost(0, A), put(10, 20, B), get(30, 40, Some(B)), get(50, 60, Some(A))];
        assert_eq!(search(&late), Verdict::Linearizable);
        let never = [lost(0, A), get(30, 40, None)];
        assert_eq!(search(&never), Verdict::Linearizable);
        let twice = [lost(0, A), get(10, 20, Some(A)), put(30, 40, B), get(50, 60, Some(A))];
        assert!(matches!(search(&twice), Verdict::Violated(_)), "it happens once");
    }

    #[test]
    fn what_was_declined_never_happens() {
        let declined = call(0, 5, Action::Put(Condition::Always, A), Outcome::Declined);
        assert_eq!(search(&[declined, get(10, 20, None)]), Verdict::Linearizable);
        assert!(matches!(search(&[declined, get(10, 20, Some(A))]), Verdict::Violated(_)));
    }

    #[test]
    fn long_histories_are_quick() {
        let mut calls = Vec::new();
        for number in 0..5_000_u64 {
            let at = number * 10;
            calls.push(put(at, at + 15, Value(number + 10)));
            calls.push(get(at + 16, at + 19, Some(Value(number + 10))));
            if number % 200 == 0 {
                calls.push(lost(at, Value(number + 1_000_000)));
            }
        }
        // Every read sees its own write, and the next write overlaps that read: there is an order.
        assert_eq!(search(&calls), Verdict::Linearizable);
    }
}

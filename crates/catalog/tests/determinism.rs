//! Any interleaving of execution that respects slots gives the same state, outcomes and facts
//! (`docs/determinism.md`). The harness is put to the proof too: it must catch mutants that keep a counter
//! across slots.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;

use catalog::testing::MemoryState;
use catalog::{Execution, execute};
use common::draw::Draw;
use common::{command_id, invariants};
use types::fact::{FactKind, FactOutcome};
use types::state::{ReadError, StateRead, Table, Write};
use types::{Command, CommandId, Op, OrderKey, Outcome, Refusal, SlotSet, Timestamp};

/// What a replica executes.
struct Ordered {
    timestamp: Timestamp,
    id: CommandId,
    command: Command,
    slots: SlotSet,
}

type Execute = dyn Fn(&dyn StateRead, Timestamp, CommandId, &Command) -> Result<Execution, ReadError>;

/// Commands in `(timestamp, id)` order, over a few keys, with some that touch every slot.
fn history(seed: u64, count: usize) -> Vec<Ordered> {
    let mut draw = Draw::from_seed(seed);
    draw.now = Timestamp(1_700_000_000_000_000_000);
    draw.wild = 20;
    let mut history: Vec<Ordered> = Vec::new();
    for counter in 1..=count as u64 {
        // Equal timestamps at times, and jumps that let outcomes expire.
        let step = if draw.one_in(10) { 4 * 60_000_000_000 } else { draw.below(3) * 1_000_000 };
        draw.now = draw.now.plus_ns(step);
        let id = command_id(counter);
        let command = match counter {
            1 => draw_bucket("bucket"),
            2 => draw_bucket("other"),
            _ => draw.command(),
        };
        draw.remember(OrderKey { timestamp: draw.now, id, item: 0 }, &command);
        history.push(Ordered { timestamp: draw.now, id, slots: command.slots(), command });
    }
    assert!(history.is_sorted_by_key(|entry| (entry.timestamp, entry.id)));
    history
}

fn draw_bucket(name: &str) -> Command {
    Command { salt: [0; 32], principal: "alice".to_owned(), request: None, op: common::ops::create_bucket(name) }
}

/// A random order in which no command overtakes one that it shares a slot with.
fn interleaving(history: &[Ordered], draw: &mut Draw) -> Vec<usize> {
    let mut waits: Vec<usize> = (0..history.len())
        .map(|later| (0..later).filter(|&earlier| history[earlier].slots.meets(&history[later].slots)).count())
        .collect();
    let mut left: Vec<usize> = (0..history.len()).collect();
    let mut order = Vec::with_capacity(history.len());
    while !left.is_empty() {
        let ready: Vec<usize> = left.iter().copied().filter(|&index| waits[index] == 0).collect();
        // Half of the time the last that is ready: what lags behind lags far.
        let at =
            if draw.one_in(2) { ready.len() - 1 } else { usize::try_from(draw.below(ready.len() as u64)).unwrap() };
        let next = ready[at];
        left.retain(|&index| index != next);
        for &later in left.iter().filter(|&&later| later > next) {
            if history[next].slots.meets(&history[later].slots) {
                waits[later] -= 1;
            }
        }
        order.push(next);
    }
    order
}

/// What a replica has when it has executed a history in an order.
struct Replica {
    executions: BTreeMap<usize, Execution>,
    state: MemoryState,
}

/// Executes; where `sweep` draws so, removes what has expired from the retry window, as a replica may.
fn replay(history: &[Ordered], order: &[usize], execute: &Execute, mut sweep: Option<&mut Draw>) -> Replica {
    let mut replica = Replica { executions: BTreeMap::new(), state: MemoryState::default() };
    let mut done = vec![false; history.len()];
    for &index in order {
        let entry = &history[index];
        let execution = execute(&replica.state, entry.timestamp, entry.id, &entry.command).unwrap();
        replica.state.apply(&execution.writes);
        replica.executions.insert(index, execution);
        done[index] = true;
        if sweep.as_mut().is_some_and(|draw| draw.one_in(8))
            && let Some(first) = done.iter().position(|done| !done)
        {
            // All below the first that is not executed is: nobody older will read the window.
            remove_expired(&mut replica.state, history[first].timestamp);
        }
    }
    remove_expired(&mut replica.state, history.last().unwrap().timestamp);
    replica
}

fn remove_expired(state: &mut MemoryState, now: Timestamp) {
    state.rows.entry(Table::Retry).or_default().retain(|_, value| !catalog::retry_is_expired(value, now));
}

/// How an interleaving differs from the order of the ledger, if it does.
fn difference(history: &[Ordered], execute: &Execute, interleavings: u64, seed: u64) -> Option<String> {
    let ledger_order: Vec<usize> = (0..history.len()).collect();
    let expected = replay(history, &ledger_order, execute, None);
    let mut draw = Draw::from_seed(seed ^ 0x5eed);
    for round in 0..interleavings {
        let order = interleaving(history, &mut draw);
        assert_ne!(order, ledger_order, "seed {seed}: nothing was interleaved");
        let got = replay(history, &order, execute, Some(&mut draw));
        for (index, entry) in history.iter().enumerate() {
            let (a, b) = (&expected.executions[&index], &got.executions[&index]);
            if a.outcome != b.outcome || a.facts != b.facts || a.writes != b.writes {
                return Some(format!(
                    "seed {seed}, round {round}, command {index} {:?}:\n{a:?}\n{b:?}",
                    entry.command.op
                ));
            }
        }
        if expected.state != got.state {
            return Some(format!("seed {seed}, round {round}: another state"));
        }
    }
    None
}

#[test]
fn any_interleaving_of_slots_gives_the_same_state_outcomes_and_facts() {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in 0..200 {
        let history = history(seed, 120);
        if let Some(difference) = difference(&history, &execute, 6, seed) {
            panic!("{difference}");
        }
        let order: Vec<usize> = (0..history.len()).collect();
        let replica = replay(&history, &order, &execute, None);
        invariants::check(&replica.state);
        for execution in replica.executions.values() {
            *seen.entry(label(execution)).or_default() += 1;
        }
    }
    // A history in which nothing happens proves nothing.
    for wanted in
        ["written", "deleted", "upload", "part", "done", "replayed", "condition", "completed", "not empty", "no upload"]
    {
        assert!(seen.get(wanted).is_some_and(|&count| count >= 5), "{wanted} is rare: {seen:?}");
    }
}

fn label(execution: &Execution) -> &'static str {
    if execution.original().is_some() {
        return "replayed";
    }
    match &execution.outcome {
        Outcome::Done => "done",
        Outcome::Written(_) if execution.facts[0].kind == FactKind::Complete => "completed",
        Outcome::Written(_) => "written",
        Outcome::Deleted(_) => "deleted",
        Outcome::UploadCreated(_) => "upload",
        Outcome::PartStored(_) => "part",
        Outcome::Admitted(_) => "node",
        Outcome::Refused(Refusal::BucketNotEmpty) => "not empty",
        Outcome::Refused(Refusal::NoSuchUpload) => "no upload",
        Outcome::Refused(_) if execution.facts[0].outcome == FactOutcome::PreconditionFailed => "condition",
        Outcome::Refused(_) => "refused",
    }
}

/// The row that the mutants keep for a whole bucket.
const COUNTER: &[u8] = b"n-bucket";

fn count(state: &dyn StateRead) -> u64 {
    let value = state.get(Table::Catalog, COUNTER).unwrap();
    value.map_or(0, |value| u64::from_be_bytes(value.as_ref().try_into().unwrap()))
}

fn written_to_bucket(command: &Command, execution: &Execution) -> bool {
    matches!(&command.op, Op::PutObject(put) if put.bucket == "bucket")
        && matches!(execution.outcome, Outcome::Written(_))
}

/// A mutant: every PUT counts the objects of its bucket.
fn counting(
    state: &dyn StateRead,
    timestamp: Timestamp,
    id: CommandId,
    command: &Command,
) -> Result<Execution, ReadError> {
    let mut execution = execute(state, timestamp, id, command)?;
    if written_to_bucket(command, &execution) {
        let value = Some((count(state) + 1).to_be_bytes().to_vec().into());
        execution.writes.push(Write { table: Table::Catalog, key: COUNTER.into(), value });
    }
    Ok(execution)
}

/// A mutant whose counter also decides: a quota over a bucket.
fn with_quota(
    state: &dyn StateRead,
    timestamp: Timestamp,
    id: CommandId,
    command: &Command,
) -> Result<Execution, ReadError> {
    let mut execution = counting(state, timestamp, id, command)?;
    if written_to_bucket(command, &execution) && count(state) >= 5 {
        execution.writes.clear();
        execution.outcome = Outcome::Refused(Refusal::TooManyRows);
    }
    Ok(execution)
}

#[test]
fn a_counter_across_slots_is_caught() {
    for seed in 0..10 {
        let history = history(seed, 120);
        assert!(difference(&history, &counting, 6, seed).is_some(), "seed {seed}: the count passed");
    }
}

#[test]
fn a_quota_across_slots_is_caught_by_the_outcomes() {
    let mut caught = 0;
    for seed in 0..10 {
        let history = history(seed, 120);
        let ledger_order: Vec<usize> = (0..history.len()).collect();
        let expected = replay(&history, &ledger_order, &with_quota, None);
        let mut draw = Draw::from_seed(seed);
        let order = interleaving(&history, &mut draw);
        let got = replay(&history, &order, &with_quota, None);
        let outcomes =
            |replica: &Replica| replica.executions.values().map(|done| done.outcome.clone()).collect::<Vec<_>>();
        caught += usize::from(outcomes(&expected) != outcomes(&got));
    }
    assert!(caught >= 5, "only {caught} of 10 histories show the quota");
}

/// The state at a cut is made of what the commands at or below it wrote, whatever else was executed
/// meanwhile: writes of an interleaved execution, applied in ledger order, give the state of the ledger order.
#[test]
fn the_state_at_every_cut_is_the_same_however_far_slots_ran_ahead() {
    for seed in 100..110 {
        let history = history(seed, 120);
        let ledger_order: Vec<usize> = (0..history.len()).collect();
        let order = interleaving(&history, &mut Draw::from_seed(seed));
        let got = replay(&history, &order, &execute, None);
        let (mut sealed, mut expected) = (MemoryState::default(), MemoryState::default());
        for index in ledger_order {
            let entry = &history[index];
            sealed.apply(&got.executions[&index].writes);
            let done = execute(&expected, entry.timestamp, entry.id, &entry.command).unwrap();
            expected.apply(&done.writes);
            assert_eq!(sealed.digest, expected.digest, "seed {seed}, cut after command {index}");
        }
        assert_eq!(sealed, expected);
    }
}

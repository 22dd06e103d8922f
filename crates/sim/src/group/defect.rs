//! Defects of the state machine at more than one replica, put around it by the driver: what `docs/determinism.md` forbids,
//! so that the checks of a group show that they would notice. The rules of the protocol are [`dace::Mutant`]s.

use core::str::FromStr;

use bytes::Bytes;
use catalog::Execution;
use types::command::{Command, Op};
use types::limits::RETRY_WINDOW_ITEMS;
use types::state::{ReadError, StateRead, Table, Write};
use types::{Outcome, Refusal};

use super::state::Place;

/// A rule of execution taken out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Defect {
    /// A retry is executed again.
    RetryTwice,
    /// The same at the first replica only.
    RetryTwiceAtOne,
    /// The window holds as many outcomes as ever, but of all keys together: one slot's pushes out another's.
    WindowAcrossSlots,
    /// The same, and it holds two.
    NarrowWindowAcrossSlots,
    /// Every PUT counts the objects of its bucket.
    CounterAcrossSlots,
    /// That counter decides, too: a quota.
    QuotaAcrossSlots,
    /// A listing that found no quiet instant is answered all the same, and not ordered as a command.
    UnorderedListing,
    /// A listing that is ordered is answered from the last cut, not where its command stands.
    ListingOfLastCut,
    /// A reader beside the loop looks at the clock before the pending writes: for one key this is as good.
    LeaseBeforePending,
    /// A reader beside the loop looks at the deadline only after the pending writes. The lease has to begin in between:
    /// chance rarely finds that, and a test of the core (`tests/leases.rs`) shows it by hand.
    DeadlineAfterPending,
    /// A reader beside the loop does not look at the deadline again behind the pending writes: the epoch may have ended in
    /// between.
    DeadlineLookedAtOnce,
    /// Pending writes are published when they pend no more: too late.
    PublishesLate,
}

impl Defect {
    /// All of them that a check must notice.
    pub const ALL: [Self; 9] = [
        Self::RetryTwice,
        Self::RetryTwiceAtOne,
        Self::WindowAcrossSlots,
        Self::NarrowWindowAcrossSlots,
        Self::CounterAcrossSlots,
        Self::QuotaAcrossSlots,
        Self::UnorderedListing,
        Self::ListingOfLastCut,
        Self::PublishesLate,
    ];

    /// Those of readers beside the loop.
    pub const OF_READERS: [Self; 4] =
        [Self::LeaseBeforePending, Self::DeadlineAfterPending, Self::DeadlineLookedAtOnce, Self::PublishesLate];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RetryTwice => "retry_twice",
            Self::RetryTwiceAtOne => "retry_twice_at_one",
            Self::WindowAcrossSlots => "window_across_slots",
            Self::NarrowWindowAcrossSlots => "narrow_window_across_slots",
            Self::CounterAcrossSlots => "counter_across_slots",
            Self::QuotaAcrossSlots => "quota_across_slots",
            Self::UnorderedListing => "unordered_listing",
            Self::ListingOfLastCut => "listing_of_last_cut",
            Self::LeaseBeforePending => "lease_before_pending",
            Self::DeadlineAfterPending => "deadline_after_pending",
            Self::DeadlineLookedAtOnce => "deadline_looked_at_once",
            Self::PublishesLate => "publishes_late",
        }
    }

    /// The checks that may notice it: another one would mean that these have gone blind.
    #[must_use]
    pub fn shows_as(self) -> &'static [&'static str] {
        match self {
            // All replicas do the same wrong thing: only the model and the clients' view can tell.
            Self::RetryTwice => &["model", "linearizability", "read", "listing"],
            Self::RetryTwiceAtOne => &["outcome", "blocks", "model"],
            Self::WindowAcrossSlots | Self::NarrowWindowAcrossSlots => &["outcome", "model", "state"],
            Self::CounterAcrossSlots => &["blocks", "state"],
            Self::QuotaAcrossSlots => &["outcome", "blocks", "model", "state"],
            Self::UnorderedListing | Self::ListingOfLastCut => &["listing"],
            Self::LeaseBeforePending => &[],
            Self::DeadlineAfterPending | Self::DeadlineLookedAtOnce | Self::PublishesLate => &["serializability"],
        }
    }

    /// Whether it takes an epoch that ends to show it.
    pub(crate) fn is_of_epochs(self) -> bool {
        self == Self::DeadlineLookedAtOnce
    }

    /// Whether a replica has it.
    pub(crate) fn is_met_at(self, at: usize) -> bool {
        self != Self::RetryTwiceAtOne || at == 0
    }
}

impl core::fmt::Display for Defect {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Defect {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().chain(Self::OF_READERS).find(|defect| defect.name() == text);
        found.ok_or_else(|| format!("no defect is called {text}"))
    }
}

/// Executes a command as the catalog does, but for the defect.
pub(crate) fn execute(
    defect: Option<Defect>,
    state: &dyn StateRead,
    (timestamp, id): Place,
    command: &Command,
) -> Result<Execution, ReadError> {
    let Some(defect) = defect else { return catalog::execute(state, timestamp, id, command) };
    match defect {
        Defect::RetryTwice | Defect::RetryTwiceAtOne => {
            let execution = catalog::execute(state, timestamp, id, command)?;
            if execution.original().is_none() {
                return Ok(execution);
            }
            catalog::execute(state, timestamp, id, &Command { request: None, ..command.clone() })
        }
        Defect::UnorderedListing
        | Defect::ListingOfLastCut
        | Defect::LeaseBeforePending
        | Defect::DeadlineAfterPending
        | Defect::DeadlineLookedAtOnce
        | Defect::PublishesLate => catalog::execute(state, timestamp, id, command),
        Defect::WindowAcrossSlots => {
            let execution = catalog::execute(state, timestamp, id, command)?;
            evict(state, execution, RETRY_WINDOW_ITEMS)
        }
        Defect::NarrowWindowAcrossSlots => {
            let execution = catalog::execute(state, timestamp, id, command)?;
            evict(state, execution, 2)
        }
        Defect::CounterAcrossSlots => {
            let execution = catalog::execute(state, timestamp, id, command)?;
            Ok(counted(state, command, execution))
        }
        Defect::QuotaAcrossSlots => {
            let execution = catalog::execute(state, timestamp, id, command)?;
            let mut execution = counted(state, command, execution);
            if is_written(command, &execution) && count(state) >= QUOTA {
                execution.writes.clear();
                execution.outcome = Outcome::Refused(Refusal::TooManyRows);
            }
            Ok(execution)
        }
    }
}

/// The row that names the windows in which an outcome was kept, in the order of execution: 2 bytes of length, and
/// the key, of each.
const QUEUE: &[u8] = b"queue";

/// Keeps the windows of the last `most` outcomes, of whatever slot.
fn evict(state: &dyn StateRead, mut execution: Execution, most: usize) -> Result<Execution, ReadError> {
    let kept = execution.writes.iter().filter(|write| write.table == Table::Retry && write.key.starts_with(b"w"));
    let mut queue = state.get(Table::Retry, QUEUE)?.map_or_else(Vec::new, |queue| windows(&queue));
    let known = queue.len();
    queue.extend(kept.map(|write| write.key.clone()));
    if queue.len() == known {
        return Ok(execution);
    }
    while queue.len() > most {
        let oldest = queue.remove(0);
        if !queue.contains(&oldest) {
            execution.writes.push(Write { table: Table::Retry, key: oldest, value: None });
        }
    }
    let value = queue.iter().flat_map(|key| [&[0, u8::try_from(key.len()).unwrap_or(u8::MAX)], &key[..]].concat());
    execution.writes.push(Write { table: Table::Retry, key: QUEUE.into(), value: Some(value.collect()) });
    Ok(execution)
}

fn windows(mut queue: &[u8]) -> Vec<Bytes> {
    let mut windows = Vec::new();
    while let [_, len, rest @ ..] = queue {
        let (key, others) = rest.split_at(usize::from(*len).min(rest.len()));
        windows.push(Bytes::copy_from_slice(key));
        queue = others;
    }
    windows
}

/// The row that counts the objects of the stable bucket.
const COUNTER: &[u8] = b"n-stable";
/// Objects that the bucket may have had.
const QUOTA: u64 = 20;

fn count(state: &dyn StateRead) -> u64 {
    let value = state.get(Table::Catalog, COUNTER).ok().flatten();
    value.and_then(|value| value.as_ref().try_into().ok()).map_or(0, u64::from_be_bytes)
}

fn is_written(command: &Command, execution: &Execution) -> bool {
    let is_there = matches!(&command.op, Op::PutObject(put) if put.bucket == super::client::STABLE_BUCKET);
    is_there && matches!(execution.outcome, Outcome::Written(_))
}

fn counted(state: &dyn StateRead, command: &Command, mut execution: Execution) -> Execution {
    if is_written(command, &execution) {
        let value = Some((count(state) + 1).to_be_bytes().to_vec().into());
        execution.writes.push(Write { table: Table::Catalog, key: COUNTER.into(), value });
    }
    execution
}

//! Faults at a real cluster of several processes, with clients at every node whose calls are recorded, and a checker over
//! the whole history.
//!
//! The nodes are `entangle serve` processes on this machine. Between them are relays (`relay`), so links can be cut and
//! slowed down; processes are killed and stopped. A seeded plan gives one fault after the other (`plan`, `world`), with time
//! to come back between them. The clients (`worker`) put, get, delete, replace on conditions and list a few keys, and the
//! history of every key must be linearizable (`check`); in the end all members must have one log (`settle`). A build with the feature
//! `faults` also slows its own flushes down, jumps with its clock, and does without a rule whose absence must be noticed.

mod check;
mod gaps;
mod history;
mod node;
mod plan;
mod relay;
mod rolling;
mod settle;
mod summary;
mod worker;
mod world;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tokio::task::JoinSet;

use crate::random::Random;
use history::{Call, Key, Micros};
use plan::{Fault, Plan};
use settle::Roots;
use worker::{Known, Shared, Worker};
use world::World;

pub use gaps::{Gaps, measure};
pub use node::has_hooks;
pub use rolling::{Rolling, roll};
pub use summary::Summary;

/// After a fault every place serves again within this.
const BACK_WITHIN: Duration = Duration::from_secs(60);
/// Without a fault, between two of them.
const CALM: Duration = Duration::from_millis(1_500);

/// Who takes longer to serve again is asked why.
const SLOW_US: Micros = 1_000_000;
/// How the violation begins that a history is.
const UNEXPLAINED: &str = "nothing explains the history of";
/// More of them tell nothing new.
const VIOLATIONS_SHOWN_MAX: usize = 12;

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// The binary of the nodes.
    pub binary: PathBuf,
    /// An empty folder to work in.
    pub folder: PathBuf,
    /// Members.
    pub nodes: usize,
    /// No fault begins after this.
    pub duration: Duration,
    /// Clients of every node.
    pub clients: u64,
    /// Where the random numbers start.
    pub seed: u64,
    /// Only faults of this kind, if it is given.
    pub only: Option<String>,
    /// If the build has faults of its own ([`has_hooks`]): the rules that it is to do without.
    pub hooks: Option<Vec<String>>,
    /// Whether every member holds the read lease of all keys.
    pub leases: bool,
}

/// A fault that was, and how long it took.
struct Suffered {
    fault: Fault,
    begin: Micros,
    healed: Micros,
    /// When every place had served again.
    back: Micros,
}

/// Runs it all. The error says what was violated; the folder is then as the nodes left it.
pub async fn run(options: &Options, say: &mut (dyn FnMut(&str) + Send)) -> anyhow::Result<Summary> {
    ensure!(options.nodes >= 3, "fewer than three nodes bear no fault");
    let mut world = World::found(options).await.context("the cluster could not be founded")?;
    say(&format!("{} members: {}", options.nodes, world.names().join(", ")));
    let shared = Arc::new(Shared::new(world.clients()?));
    let (roots, known) = (Arc::new(Roots::default()), Arc::new(Known::default()));
    tokio::spawn(roots.clone().follow(shared.clone()));
    let mut workers = JoinSet::new();
    for number in 0..options.clients * options.nodes as u64 {
        let place = usize::try_from(number % options.nodes as u64)?;
        let random = Random::new(options.seed.wrapping_mul(1_000_003) + number);
        let worker = Worker { shared: shared.clone(), known: known.clone(), place, number: number + 1, random };
        workers.spawn(worker.run());
    }
    let mut suffered = Vec::new();
    let mut outcome = suffer_all(options, &mut world, &shared, &mut suffered, say).await;
    shared.ending.store(true, Ordering::Relaxed);
    while let Some(ended) = workers.join_next().await {
        ended.context("a client panicked")?;
    }
    let mut size = 0;
    if outcome.is_ok() {
        outcome = end(&mut world, &shared, &roots).await.map(|agreed| size = agreed);
    }
    // Also if a node did not come back: the history up to there may tell more.
    let keys = check_all(&shared, say);
    let mut violations = std::mem::take(&mut *shared.violations.lock());
    if let Err(error) = &outcome {
        violations.push(format!("{error:#}\n{}", world.last_words()));
    }
    let mut summary = Summary::of(&shared, &suffered);
    (summary.keys, summary.undecided) = (keys.searched, keys.undecided);
    (summary.log, summary.roots) = (size, roots.len());
    // Histories first: other answers that should not be come by the hundred.
    violations.sort_by_key(|violation| !violation.starts_with(UNEXPLAINED));
    let left_out = violations.len().saturating_sub(VIOLATIONS_SHOWN_MAX);
    violations.truncate(VIOLATIONS_SHOWN_MAX);
    if left_out > 0 {
        violations.push(format!("{left_out} more"));
    }
    summary.violations = violations;
    Ok(summary)
}

/// One fault after the other, until the time is over.
async fn suffer_all(
    options: &Options,
    world: &mut World,
    shared: &Arc<Shared>,
    suffered: &mut Vec<Suffered>,
    say: &mut (dyn FnMut(&str) + Send),
) -> anyhow::Result<()> {
    let mut plan = Plan::new(options.seed, options.nodes, (options.nodes - 1) / 2, options.hooks.is_some());
    let began = Instant::now();
    all_serve(world, shared, shared.now()).await.context("before the first fault")?;
    while began.elapsed() < options.duration && shared.violations.lock().is_empty() {
        let (fault, lasts_ms) = plan.next();
        if options.only.as_deref().is_some_and(|only| only != fault.kind()) {
            // Lets the runtime go on where no fault is of that kind.
            tokio::task::yield_now().await;
            continue;
        }
        tokio::time::sleep(CALM).await;
        let begin = shared.now();
        world.check_alive()?;
        world.suffer(&fault, Duration::from_millis(lasts_ms), shared).await.with_context(|| fault.to_string())?;
        let healed = shared.now();
        let last = all_serve(world, shared, healed).await.with_context(|| fault.to_string())?;
        let back = shared.now();
        say(&format!(
            "{:7.1} s  {fault}, for {:.1} s; all served again after {:.2} s{}",
            seconds(begin),
            seconds(healed - begin),
            seconds(back - healed),
            if back - healed > SLOW_US {
                format!(", the last at place {}: {:?}", last + 1, shared.excuse(last))
            } else {
                String::new()
            }
        ));
        suffered.push(Suffered { fault, begin, healed, back });
    }
    Ok(())
}

fn seconds(span: Micros) -> f64 {
    Duration::from_micros(span).as_secs_f64()
}

/// Waits until every place has acknowledged a write that began after `since`; gives the place that came last.
async fn all_serve(world: &mut World, shared: &Shared, since: Micros) -> anyhow::Result<usize> {
    let began = Instant::now();
    let mut last = 0;
    loop {
        let silent: Vec<usize> = (0..shared.places()).filter(|place| shared.served(*place) < since).collect();
        let Some(first) = silent.first() else { return Ok(last) };
        last = *first;
        world.check_alive()?;
        if began.elapsed() > BACK_WITHIN {
            let names = world.names();
            let say = |place: &usize| format!("{} ({})", names[*place], shared.excuse(*place));
            let silent: Vec<String> = silent.iter().map(say).collect();
            bail!("no write was acknowledged within {} s at {}", BACK_WITHIN.as_secs(), silent.join(", "));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What must hold when nothing is wrong any more.
async fn end(world: &mut World, shared: &Arc<Shared>, roots: &Roots) -> anyhow::Result<u64> {
    let keys: Vec<Key> = shared.history.by_key().into_keys().collect();
    settle::read_all(shared, keys).await.context("at the end")?;
    let size = roots.agree(shared).await.context("at the end")?;
    world.check_alive()?;
    world.stop().await.context("at the end")?;
    Ok(size)
}

/// How many keys were checked, and of how many nothing was found out.
struct Checked {
    searched: usize,
    undecided: usize,
}

/// Searches the history of every key; what nothing explains becomes a violation.
fn check_all(shared: &Shared, say: &mut (dyn FnMut(&str) + Send)) -> Checked {
    let mut checked = Checked { searched: 0, undecided: 0 };
    for (key, mut calls) in shared.history.by_key() {
        calls.sort_by_key(|call| (call.begin, call.end));
        match check::search(&calls) {
            check::Verdict::Linearizable => checked.searched += 1,
            check::Verdict::GivenUp => {
                checked.undecided += 1;
                say(&format!("the search through the {} calls of {key} was given up", calls.len()));
            }
            check::Verdict::Violated(stuck) => shared.violated(unexplained(key, &calls, stuck)),
        }
    }
    checked
}

fn unexplained(key: Key, calls: &[Call], stuck: Option<usize>) -> String {
    let mark = |index: usize| if Some(index) == stuck { ">>" } else { "  " };
    let lines: Vec<String> = calls.iter().enumerate().map(|(index, call)| format!("{} {call}", mark(index))).collect();
    format!("{UNEXPLAINED} {key} (marked: what no order gets past):\n{}", lines.join("\n"))
}

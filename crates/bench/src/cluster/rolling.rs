//! What an operator does to a cluster that is in use: every node is stopped and started again, brought from an older build to
//! the present one, and replaced by a fresh node, one after the other. Clients at every node, which ask once more at
//! another node when theirs does not answer, notice nothing.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::task::JoinSet;

use super::history::Micros;
use super::settle::Roots;
use super::worker::{Known, Shared, Worker};
use super::world::World;
use super::{Options, Summary, all_serve, check_all, end, seconds};
use crate::random::Random;

/// What is done to a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// SIGTERM, and a start.
    Restart,
    /// SIGTERM, and a start of the present build.
    Upgrade,
    /// Another node takes its place; it ends by itself.
    Replace,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Restart => "restarted",
            Self::Upgrade => "upgraded",
            Self::Replace => "replaced",
        })
    }
}

/// How it goes on.
#[derive(Clone, Debug)]
pub struct Rolling {
    /// The build that the cluster begins with, if it is not the present one.
    pub old: Option<PathBuf>,
    /// How long the cluster is left alone between two nodes; while it is upgraded, it is mixed meanwhile.
    pub between: Duration,
    /// How often all nodes are restarted.
    pub rounds: usize,
    /// The first place whose node is replaced.
    pub replace_from: usize,
}

/// Runs it all, and then checks what the clients were told.
pub async fn roll(options: &Options, rolling: &Rolling, say: &mut (dyn FnMut(&str) + Send)) -> anyhow::Result<Summary> {
    ensure!(options.nodes >= 3, "with fewer than three nodes none can be missed");
    let begins_with =
        Options { binary: rolling.old.clone().unwrap_or_else(|| options.binary.clone()), ..options.clone() };
    let mut world = World::found(&begins_with).await.context("the cluster could not be founded")?;
    say(&format!("{} members: {}, {}", options.nodes, world.names().join(", "), begins_with.binary.display()));
    let shared = Arc::new(Shared::new(world.clients()?).asking_twice());
    let (roots, known) = (Arc::new(Roots::default()), Arc::new(Known::default()));
    tokio::spawn(roots.clone().follow(shared.clone()));
    let mut workers = JoinSet::new();
    for number in 0..options.clients * options.nodes as u64 {
        let place = usize::try_from(number % options.nodes as u64)?;
        let random = Random::new(options.seed.wrapping_mul(1_000_003) + number);
        let worker = Worker { shared: shared.clone(), known: known.clone(), place, number: number + 1, random };
        workers.spawn(worker.run());
    }
    let mut outcome = roll_all(options, rolling, &mut world, &shared, say).await;
    shared.ending.store(true, Ordering::Relaxed);
    while let Some(ended) = workers.join_next().await {
        ended.context("a client panicked")?;
    }
    let mut size = 0;
    if outcome.is_ok() {
        outcome = end(&mut world, &shared, &roots).await.map(|agreed| size = agreed);
    }
    let keys = check_all(&shared, say);
    let mut violations = std::mem::take(&mut *shared.violations.lock());
    if let Err(error) = &outcome {
        violations.push(format!("{error:#}\n{}", world.last_words()));
    }
    let mut summary = Summary::of(&shared, &[]);
    (summary.keys, summary.undecided) = (keys.searched, keys.undecided);
    (summary.log, summary.roots) = (size, roots.len());
    summary.violations = violations;
    Ok(summary)
}

async fn roll_all(
    options: &Options,
    rolling: &Rolling,
    world: &mut World,
    shared: &Arc<Shared>,
    say: &mut (dyn FnMut(&str) + Send),
) -> anyhow::Result<()> {
    all_serve(world, shared, shared.now()).await.context("before anything is done")?;
    tokio::time::sleep(rolling.between).await;
    say("| node | | took | asked twice | longest request |\n| --- | --- | ---: | ---: | ---: |");
    let all = 0..options.nodes;
    let upgrades = all.clone().filter(|_| rolling.old.is_some()).map(|place| (place, Step::Upgrade));
    let restarts = (0..rolling.rounds).flat_map(|_| all.clone()).map(|place| (place, Step::Restart));
    let replacements = (rolling.replace_from..options.nodes).map(|place| (place, Step::Replace));
    for (place, step) in upgrades.chain(restarts).chain(replacements) {
        let (name, began) = (world.names().swap_remove(place), shared.now());
        world.check_alive()?;
        match step {
            Step::Restart => world.restart(place, None).await,
            Step::Upgrade => world.restart(place, Some(&options.binary)).await,
            Step::Replace => world.replace(place, false, Duration::ZERO, shared).await,
        }
        .with_context(|| format!("{name} is being {step}"))?;
        all_serve(world, shared, shared.now()).await.with_context(|| format!("after {name} was {step}"))?;
        let took = shared.now() - began;
        tokio::time::sleep(rolling.between).await;
        let again = shared.second.take();
        say(&format!(
            "| {name} | {step} | {:.2} s | {} | {:.2} s |",
            seconds(took),
            again.count,
            seconds(again.longest)
        ));
        ensure!(shared.violations.lock().is_empty(), "something was violated when {name} was {step}");
    }
    Ok(())
}

/// The requests since it was looked at last: how many were asked a second time, and how long the longest took with that.
#[derive(Default)]
pub(super) struct Second(parking_lot::Mutex<Since>);

/// See [`Second`].
#[derive(Clone, Copy, Default)]
pub(super) struct Since {
    pub(super) count: u64,
    pub(super) longest: Micros,
}

impl Second {
    /// A request ended.
    pub(super) fn note(&self, was_asked_twice: bool, took: Micros) {
        let mut since = self.0.lock();
        since.count += u64::from(was_asked_twice);
        since.longest = since.longest.max(took);
    }

    fn take(&self) -> Since {
        std::mem::take(&mut self.0.lock())
    }
}

//! Kills a real node again and again, and checks what is left.
//!
//! Writers know, for every key of theirs, the value that was last acknowledged and those that a request without an answer may have
//! left (`model`). After a kill the node is started again, and every key must hold one of these, byte for byte (`check`); what the
//! check saw is what the next round starts from. Then the node is stopped, and `entangle ledger verify` must find nothing.

mod check;
mod model;
mod node;
mod writer;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio::task::JoinSet;

use crate::random::Random;
use crate::s3::{Client, Target};
use crate::sign::Payload;

use node::Node;
use writer::{Contest, Writer};

/// The bucket of the test.
const BUCKET: &str = "crash";

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// The binary of the node.
    pub binary: PathBuf,
    /// An empty folder to work in.
    pub folder: PathBuf,
    /// How many kills.
    pub rounds: u64,
    /// Writers at the same time.
    pub writers: u64,
    /// Where the random numbers start.
    pub seed: u64,
    /// `ledger verify` runs after every so many rounds.
    pub verify_every: u64,
    /// The longest time from the first write to the kill.
    pub life_ms_max: u64,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    /// Kills under load.
    pub kills: u64,
    /// Kills while the node was starting.
    pub kills_at_start: u64,
    /// Writes that were acknowledged.
    pub acknowledged: u64,
    /// Requests that a kill left without an answer.
    pub unanswered: u64,
    /// Of the keys with such requests: how many turned out to be written.
    pub unanswered_written: u64,
    /// Keys read and compared.
    pub checked: u64,
    /// Times that `ledger verify` passed.
    pub verified: u64,
}

/// Runs all rounds. The error says what was violated; the folder is then as the node left it.
pub async fn run(options: &Options, say: &mut (dyn FnMut(&str) + Send)) -> anyhow::Result<Summary> {
    let mut random = Random::new(options.seed);
    let mut summary = Summary::default();
    let mut node = Node::start(options).await.context("the first start")?;
    client(&node).create_bucket(BUCKET).await?;
    let mut writers: Vec<Writer> = (0..options.writers).map(|number| Writer::new(number, random.word())).collect();
    let started = Instant::now();
    for round in 1..=options.rounds {
        let outcome = one_round(options, round, &mut random, &mut writers, &mut node, &mut summary).await;
        outcome.with_context(|| format!("round {round} of seed {}", options.seed))?;
        if round.is_multiple_of(10) || round == options.rounds {
            say(&format!(
                "round {round}: {} writes acknowledged, {} unanswered ({} of them written), {} keys checked, {} times verified, {:.0} s",
                summary.acknowledged,
                summary.unanswered,
                summary.unanswered_written,
                summary.checked,
                summary.verified,
                started.elapsed().as_secs_f64()
            ));
        }
    }
    node.stop().await?;
    Ok(summary)
}

fn client(node: &Node) -> Client {
    Client::new(&target(node))
}

fn target(node: &Node) -> Target {
    Target {
        address: node.s3_address(),
        access_key: node::ACCESS_KEY.to_owned(),
        secret_key: node::SECRET_KEY.to_owned(),
        payload: Payload::Unsigned,
    }
}

async fn one_round(
    options: &Options,
    round: u64,
    random: &mut Random,
    writers: &mut Vec<Writer>,
    node: &mut Node,
    summary: &mut Summary,
) -> anyhow::Result<()> {
    let life = Duration::from_millis(20 + random.below(options.life_ms_max));
    let contests = write_and_kill(round, life, writers, node).await?;
    summary.kills += 1;
    for writer in writers.iter_mut() {
        let (acknowledged, unanswered) = writer.take_counts();
        summary.acknowledged += acknowledged;
        summary.unanswered += unanswered;
    }
    // Recovery must stand a crash as well.
    while random.chance(25) {
        node.start_and_kill(Duration::from_millis(random.below(150))).await?;
        summary.kills_at_start += 1;
    }
    node.start_again().await.context("the start after the kill")?;
    let checked = check::all(&target(node), writers, &contests).await?;
    summary.checked += checked.keys;
    summary.unanswered_written += checked.unanswered_written;
    if round.is_multiple_of(options.verify_every) || round == options.rounds {
        node.stop().await.context("the stop after the check")?;
        node.verify().await?;
        summary.verified += 1;
        node.start_again().await.context("the start after the verification")?;
    }
    Ok(())
}

/// Lets the writers write until the node is dead, and gives what they saw of the keys that they competed for.
async fn write_and_kill(
    round: u64,
    life: Duration,
    writers: &mut Vec<Writer>,
    node: &mut Node,
) -> anyhow::Result<Vec<Contest>> {
    let target = target(node);
    let mut running = JoinSet::new();
    for mut writer in writers.drain(..) {
        let target = target.clone();
        running.spawn(async move {
            let outcome = writer.write_until_no_answer(&target, round).await;
            (writer, outcome)
        });
    }
    tokio::time::sleep(life).await;
    node.kill().await?;
    let mut contests = Vec::new();
    let mut violation = None;
    while let Some(joined) = running.join_next().await {
        let (mut writer, outcome) = joined.context("a writer panicked")?;
        contests.append(&mut writer.take_contests());
        writers.push(writer);
        violation = violation.or(outcome.err());
    }
    writers.sort_by_key(Writer::number);
    match violation {
        Some(violation) => Err(violation),
        None if writers.is_empty() => bail!("there are no writers"),
        None => Ok(contests),
    }
}

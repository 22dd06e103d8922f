//! What a `kill -9` costs: every node of a healthy cluster is killed in turn, while a client at each of the others writes one
//! fresh key after the other.
//!
//! A *gap* is the time between the starts of two writes that followed each other and were both acknowledged, less what a
//! write takes when all is well (the median before the kill). The *return* of a node is the time from the start of its process to
//! the first acknowledged write of a client that asks it again and again.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use client::Client;
use tokio::task::JoinHandle;

use super::Options;
use super::worker::BUCKET;
use super::world::World;

/// How long the clients write before each kill, and go on after it.
const HEALTHY: Duration = Duration::from_millis(1_500);
/// How long they go on after it: longer than any time-out of the nodes.
const DEAD: Duration = Duration::from_millis(2_500);
/// A node that was started again takes a write within this.
const RETURN_WITHIN: Duration = Duration::from_secs(60);

/// What was measured.
#[derive(Debug, Default)]
pub struct Gaps {
    kills: Vec<Kill>,
    /// Suspicions for silence after which the node was heard again on the same link, at all nodes.
    pub false_suspicions: u64,
    /// How long the cluster was watched for them.
    pub watched: Duration,
}

/// One kill.
#[derive(Debug)]
struct Kill {
    name: String,
    /// Of each survivor.
    survivors: Vec<Survivor>,
    came_back: Duration,
}

#[derive(Debug)]
struct Survivor {
    /// A write when all is well: the median.
    healthy: Duration,
    /// The longest gap over that.
    gap: Duration,
}

impl Gaps {
    /// The longest gap of all.
    #[must_use]
    pub fn longest(&self) -> Duration {
        let gaps = self.kills.iter().flat_map(|kill| &kill.survivors).map(|survivor| survivor.gap);
        gaps.max().unwrap_or_default()
    }

    /// The slowest return.
    #[must_use]
    pub fn slowest_return(&self) -> Duration {
        self.kills.iter().map(|kill| kill.came_back).max().unwrap_or_default()
    }
}

/// Kills every node of a new cluster so many times.
pub async fn measure(options: &Options, rounds: u64, say: &mut (dyn FnMut(&str) + Send)) -> anyhow::Result<Gaps> {
    ensure!(options.nodes >= 3, "fewer than three nodes bear no fault");
    let mut world = World::found(options).await.context("the cluster could not be founded")?;
    say(&format!("{} members: {}", options.nodes, world.names().join(", ")));
    let began = Instant::now();
    let clients = world.clients()?;
    for client in &clients {
        first_write(client).await?;
    }
    let mut gaps = Gaps::default();
    for round in 0..rounds {
        for place in 0..options.nodes {
            // Who is killed forgets how often it was wrong.
            gaps.false_suspicions += false_suspicions(&clients[place]).await?;
            let kill = kill(&mut world, &clients, place).await.with_context(|| format!("round {round}"))?;
            say(&kill.to_string());
            gaps.kills.push(kill);
        }
    }
    for client in &clients {
        gaps.false_suspicions += false_suspicions(client).await?;
    }
    gaps.watched = began.elapsed();
    world.stop().await?;
    Ok(gaps)
}

async fn kill(world: &mut World, clients: &[Client], place: usize) -> anyhow::Result<Kill> {
    let ending = Arc::new(AtomicBool::new(false));
    let survivors: Vec<usize> = (0..clients.len()).filter(|other| *other != place).collect();
    let write = |at: &usize| tokio::spawn(write_on(clients[*at].clone(), *at, ending.clone()));
    let writing: Vec<JoinHandle<Vec<Write>>> = survivors.iter().map(write).collect();
    tokio::time::sleep(HEALTHY).await;
    let killed = Instant::now();
    world.kill(&[place]).await?;
    tokio::time::sleep(DEAD).await;
    ending.store(true, Ordering::Relaxed);
    let mut found = Vec::new();
    for writes in writing {
        found.push(survivor(&writes.await.context("a client panicked")?, killed)?);
    }
    let name = world.names().swap_remove(place);
    let started = Instant::now();
    world.start(place)?;
    first_write(&clients[place]).await?;
    Ok(Kill { name, survivors: found, came_back: started.elapsed() })
}

/// An acknowledged write.
#[derive(Clone, Copy, Debug)]
struct Write {
    begin: Instant,
    took: Duration,
}

/// Writes one fresh key after the other.
async fn write_on(client: Client, place: usize, ending: Arc<AtomicBool>) -> Vec<Write> {
    let mut done = Vec::new();
    let mut number = 0_u64;
    while !ending.load(Ordering::Relaxed) {
        let begin = Instant::now();
        number += 1;
        let key = format!("gaps/{place}/{}/{number}", client.endpoint().port());
        match client.put_object(BUCKET, &key, vec![0x5a; 100]).await {
            Ok(_) => done.push(Write { begin, took: begin.elapsed() }),
            // Declined: asked again soon.
            Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
        }
    }
    done
}

fn survivor(writes: &[Write], killed: Instant) -> anyhow::Result<Survivor> {
    let mut healthy: Vec<Duration> =
        writes.iter().filter(|write| write.begin + write.took < killed).map(|write| write.took).collect();
    healthy.sort_unstable();
    let Some(median) = healthy.get(healthy.len() / 2).copied() else { bail!("no write was acknowledged before") };
    let last = writes.last().context("no write was acknowledged")?;
    ensure!(last.begin > killed, "no write was acknowledged after the kill");
    let pairs = writes.windows(2).filter(|pair| pair[1].begin + pair[1].took >= killed);
    let longest = pairs.map(|pair| pair[1].begin - pair[0].begin).max().unwrap_or_default();
    Ok(Survivor { healthy: median, gap: longest.saturating_sub(median) })
}

/// Waits until a node takes a write.
async fn first_write(client: &Client) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        match client.put_object(BUCKET, "gaps/first", vec![1]).await {
            Ok(_) => return Ok(()),
            Err(error) if began.elapsed() > RETURN_WITHIN => return Err(error).context("a node takes no writes"),
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

async fn false_suspicions(client: &Client) -> anyhow::Result<u64> {
    let status = client.status().await.context("status")?;
    status["counters"]["false_suspicions"].as_u64().context("a node does not count its false suspicions")
}

fn ms(span: Duration) -> f64 {
    span.as_secs_f64() * 1000.0
}

impl fmt::Display for Kill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} killed; gap", self.name)?;
        for survivor in &self.survivors {
            write!(f, " {:.0} ms (over {:.1})", ms(survivor.gap), ms(survivor.healthy))?;
        }
        write!(f, "; back after {:.0} ms", ms(self.came_back))
    }
}

impl fmt::Display for Gaps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| killed | times | healthy write, median | longest gap over it, median | worst | back, median | worst |"
        )?;
        writeln!(f, "| --- | ---: | ---: | ---: | ---: | ---: | ---: |")?;
        let mut names: Vec<&str> = self.kills.iter().map(|kill| kill.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let kills: Vec<&Kill> = self.kills.iter().filter(|kill| kill.name == name).collect();
            let survivors = || kills.iter().flat_map(|kill| &kill.survivors);
            let (healthy, _) = spread(survivors().map(|survivor| survivor.healthy).collect());
            let worst = |kill: &&Kill| kill.survivors.iter().map(|survivor| survivor.gap).max().unwrap_or_default();
            let (gap, gap_max) = spread(kills.iter().map(worst).collect());
            let (back, back_max) = spread(kills.iter().map(|kill| kill.came_back).collect());
            writeln!(
                f,
                "| {name} | {} | {healthy:.1} ms | {gap:.0} ms | {gap_max:.0} ms | {back:.0} ms | {back_max:.0} ms |",
                kills.len()
            )?;
        }
        let (times, seconds) = (self.false_suspicions, self.watched.as_secs());
        writeln!(f, "\nFalse suspicions: {times} at all nodes together, in {seconds} s.")
    }
}

/// Median and maximum, in ms.
fn spread(mut spans: Vec<Duration>) -> (f64, f64) {
    spans.sort_unstable();
    let median = spans.get(spans.len() / 2).copied().unwrap_or_default();
    (ms(median), ms(spans.last().copied().unwrap_or_default()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_gap_is_between_starts_and_less_a_healthy_write() {
        let ms = Duration::from_millis;
        let began = Instant::now();
        let write = |at: u64, took: u64| Write { begin: began + ms(at), took: ms(took) };
        // Back to back, then one that waits for 200 ms, one that was refused, and back to back again.
        let writes = [write(0, 10), write(10, 10), write(20, 200), write(250, 10), write(260, 10)];
        let found = survivor(&writes, began + ms(25)).unwrap();
        assert_eq!((found.healthy, found.gap), (ms(10), ms(220)));
        assert!(survivor(&writes[..2], began + ms(25)).is_err(), "nobody writes any more");
    }
}

//! What is shown of the running regions, scene by scene.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use client::{Error, Refused, Request};
use http::header::IF_NONE_MATCH;
use http::{HeaderValue, Method};
use ledger::receipt::{Level, Proof, Verified};
use ledger::{Policy, Receipt, ReceiptFile};
use node::{Change, WriteError};
use tokio::task::JoinSet;
use types::command::{Holders, PutZone};

use super::story::{Latency, Story, ms};
use super::world::{Region, World, until};
use super::{BUCKET, KEY, failed};
use crate::commands::ledger::Unverified;
use crate::commands::receipt::check;
use crate::console::{bytes, count};
use crate::progress::Progress;

const LARGE_KEY: &str = "photos/large.bin";
/// More than travels inside a command: these bytes go through the vaults of two regions.
const LARGE_LEN: usize = 5 * 1024 * 1024;
const LETTER: &str = "Nothing here travels faster than light, and nothing is lost on the way.\n";
/// How long the measured writes may take in all, at best; and how many of each region there are at least and at most.
const MEASURE_MS: f64 = 6000.0;
const WRITES_MIN: usize = 8;
const WRITES_MAX: usize = 20;
/// Writes of each region while another one is cut off.
const WRITES_MEANWHILE: usize = 5;
/// Reads of each region under a lease.
const READS: usize = 51;

/// All scenes in turn.
pub(super) async fn tell(story: &mut Story, world: &mut World) -> anyhow::Result<()> {
    write_and_read(story, world).await?;
    race(story, world).await?;
    latencies(story, world).await?;
    large_object(story, world).await?;
    partition(story, world).await?;
    new_member(story, world).await?;
    leases(story, world).await?;
    receipts(story, world).await?;
    one_ledger(story, world).await
}

fn policy(region: &Region) -> anyhow::Result<Policy> {
    Ok(Policy::from_bytes(region.node.policy().as_bytes())?)
}

async fn write_and_read(story: &mut Story, world: &World) -> anyhow::Result<()> {
    let (home, others) = world.regions.split_first().context("there are regions")?;
    home.client.create_bucket(BUCKET).await?;
    let began = Instant::now();
    let put = home.put(BUCKET, KEY, LETTER).await?;
    story.step(
        "write",
        format!("s3://{BUCKET}/{KEY} in {}: durable at a majority after {}", home.name, ms(began.elapsed())),
    );
    let mut read = Vec::new();
    for region in others {
        let began = Instant::now();
        if region.read(BUCKET, KEY, LETTER.len()).await? != LETTER.as_bytes() {
            return Err(failed(format!("{} reads other bytes than were written", region.name)));
        }
        read.push(format!("{} after {}", region.name, ms(began.elapsed())));
    }
    story.step("read elsewhere", format!("the same {} in {}", bytes(LETTER.len() as u64), read.join(", ")));
    if !put.receipt.is_empty() {
        let vouched = vouched_by(&put.receipt, &policy(home)?)?;
        story.step("commit receipt", format!("came with the answer, signed by {vouched}"));
    }
    Ok(())
}

/// All regions create the same object at once.
async fn race(story: &mut Story, world: &World) -> anyhow::Result<()> {
    let mut tries = JoinSet::new();
    for region in &world.regions {
        let (client, name) = (region.client.clone(), region.name);
        let request = Request::new(Method::PUT, format!("/{BUCKET}/lock"))
            .header(IF_NONE_MATCH, HeaderValue::from_static("*"))
            .body(name);
        tries.spawn(async move { (name, client.send_ok(request).await.map(drop)) });
    }
    let mut winners = Vec::new();
    while let Some(tried) = tries.join_next().await {
        match tried? {
            (name, Ok(())) => winners.push(name),
            (_, Err(Error::Refused(Refused { status: 412, .. }))) => {}
            (_, Err(error)) => return Err(error.into()),
        }
    }
    let [winner] = winners[..] else {
        return Err(failed(format!("one region should create the object, these did: {}", winners.join(", "))));
    };
    for region in &world.regions {
        if region.read(BUCKET, "lock", 100).await? != winner.as_bytes() {
            return Err(failed(format!("{} does not see that {winner} created the object", region.name)));
        }
    }
    let what = format!("all create s3://{BUCKET}/lock at once, if absent: {winner} does, the others are told 412");
    story.step("race", what);
    Ok(())
}

async fn large_object(story: &mut Story, world: &World) -> anyhow::Result<()> {
    let (from, to) = (&world.regions[1], &world.regions[0]);
    let large: Vec<u8> = (0..LARGE_LEN).map(|index| (index % 251) as u8).collect();
    let began = Instant::now();
    from.put(BUCKET, LARGE_KEY, large.clone()).await?;
    let written = began.elapsed();
    let began = Instant::now();
    if to.read(BUCKET, LARGE_KEY, LARGE_LEN).await? != large {
        return Err(failed("the large object was read with other bytes"));
    }
    let (written, read) = (ms(written), ms(began.elapsed()));
    let len = bytes(LARGE_LEN as u64);
    story.step("large object", format!("{len} written in {} ({written}), read in {} ({read})", from.name, to.name));
    Ok(())
}

async fn latencies(story: &mut Story, world: &World) -> anyhow::Result<()> {
    let all: Vec<&Region> = world.regions.iter().collect();
    let round_ms: f64 = (0..all.len()).map(|place| world.places.limit_ms(place)).sum();
    let writes =
        (WRITES_MIN..WRITES_MAX).find(|writes| round_ms * (*writes + 1) as f64 > MEASURE_MS).unwrap_or(WRITES_MAX);
    let medians = medians(story, "measuring writes", &all, "measured", writes).await?;
    let leader = world.places.best_leader();
    let row = |(place, (region, median)): (usize, (&Region, Duration))| Latency {
        region: region.name,
        median,
        limit_ms: world.places.limit_ms(place),
        led_ms: leader.costs_ms[place],
    };
    let rows: Vec<Latency> = world.regions.iter().zip(medians).enumerate().map(row).collect();
    story.latencies(writes, world.places.names[leader.place], &rows);
    Ok(())
}

/// Each region writes so often, one write after the other, and one region after the other. The median of each.
async fn medians(
    story: &Story,
    phase: &'static str,
    regions: &[&Region],
    folder: &str,
    writes: usize,
) -> anyhow::Result<Vec<Duration>> {
    let mut progress = Progress::new(&story.console);
    let (mut done, total) = (0, (writes * regions.len()) as u64);
    let mut medians = Vec::with_capacity(regions.len());
    for region in regions {
        let mut took = Vec::with_capacity(writes);
        for number in 0..writes {
            let began = Instant::now();
            region.put(BUCKET, &format!("{folder}/{}/{number}", region.name), LETTER).await?;
            took.push(began.elapsed());
            done += 1;
            progress.show(phase, done, total, false);
        }
        took.sort_unstable();
        medians.push(took[writes / 2]);
    }
    Ok(medians)
}

/// Cuts the farthest region off, and heals it.
async fn partition(story: &mut Story, world: &World) -> anyhow::Result<()> {
    let places = 0..world.regions.len();
    let far = places.max_by(|a, b| world.places.limit_ms(*a).total_cmp(&world.places.limit_ms(*b))).unwrap_or_default();
    let lost = &world.regions[far];
    let others: Vec<&Region> = world.regions.iter().filter(|region| region.name != lost.name).collect();
    let names: Vec<&str> = others.iter().map(|region| region.name).collect();
    world.cut(far, true);
    let (_, noticed) = until("the region knows that it is cut off", || {
        lost.node.ready().err().filter(|error| matches!(error, WriteError::NoQuorum { .. }))
    })
    .await?;
    story.step("cut off", format!("{}: nothing passes on its links; it knows after {}", lost.name, ms(noticed)));
    let medians = medians(story, "writing meanwhile", &others, "meanwhile", WRITES_MEANWHILE).await?;
    let took: Vec<String> = names.iter().zip(medians).map(|(name, median)| format!("{name} {}", ms(median))).collect();
    story.step("go on", format!("the others write as before: {}", took.join(", ")));
    let reason = unavailable(lost.client.put_object(BUCKET, "cut-off", LETTER).await.map(drop), lost)?;
    unavailable(lost.client.read_object(BUCKET, KEY, LETTER.len()).await.map(drop), lost)?;
    story.step("refuses", format!("{} answers reads and writes with 503: \"{reason}\"", lost.name));
    world.cut(far, false);
    let began = Instant::now();
    until("the region takes work again", || lost.node.ready().ok()).await?;
    for name in names {
        let newest = format!("meanwhile/{name}/{}", WRITES_MEANWHILE - 1);
        if lost.read(BUCKET, &newest, LETTER.len()).await? != LETTER.as_bytes() {
            return Err(failed(format!("{} has not what was written while it was cut off", lost.name)));
        }
    }
    story.step("healed", format!("{} reads what was written meanwhile, {} later", lost.name, ms(began.elapsed())));
    Ok(())
}

/// Another node takes the place of the one of the last region, while the others write.
async fn new_member(story: &mut Story, world: &mut World) -> anyhow::Result<()> {
    let place = world.regions.len() - 1;
    let joined = world.join(place).await?;
    let (old, new) = (world.regions[place].node.replica(), joined.replica);
    let began = Instant::now();
    let (first, second) = (world.regions[0].node.clone(), world.regions[1].client.clone());
    let mut replace = std::pin::pin!(first.change(Change::Replace(old, new)));
    let (mut written, mut slowest) = (0, Duration::ZERO);
    let members = loop {
        let since = Instant::now();
        let mut put = std::pin::pin!(second.put_object(BUCKET, "during", LETTER));
        let mut changed = None;
        // The write ends whatever becomes of the change.
        let answer = tokio::select! {
            answer = &mut put => answer,
            done = &mut replace => { changed = Some(done); put.await }
        };
        answer?;
        (written, slowest) = (written + 1, slowest.max(since.elapsed()));
        if let Some(changed) = changed {
            break changed?;
        }
    };
    let took = began.elapsed();
    world.take_over(place, joined).await?;
    let region = &world.regions[place];
    let newest = format!("measured/{}/0", region.name);
    if region.read(BUCKET, &newest, LETTER.len()).await? != LETTER.as_bytes() {
        return Err(failed(format!("the new node of {} has not what was written before", region.name)));
    }
    story.step(
        "new member",
        format!(
            "{new} takes the place of {old} in {} within {}: epoch {}; {written} writes meanwhile, none refused, the \
             slowest {}",
            region.name,
            ms(took),
            members.epoch.0,
            ms(slowest)
        ),
    );
    Ok(())
}

/// With a lease in every region reads need nobody, and writes wait for the farthest region.
async fn leases(story: &mut Story, world: &World) -> anyhow::Result<()> {
    let node = &world.regions[0].node;
    let zone = |holders| PutZone { zone: format!("{BUCKET}/"), holders, home: None };
    node.put_zone("", zone(Holders::Everyone)).await?;
    for region in &world.regions {
        let is_held = || region.node.zones().ok()?.iter().any(|zone| zone.is_held).then_some(());
        until("every region holds the lease", is_held).await?;
    }
    let mut took = Vec::new();
    for region in &world.regions {
        let mut times = Vec::new();
        for _ in 0..READS {
            let began = Instant::now();
            region.read(BUCKET, KEY, LETTER.len()).await?;
            times.push(began.elapsed());
        }
        times.sort_unstable();
        took.push(format!("{} {}", region.name, ms(times[READS / 2])));
    }
    story.step("read leases", format!("in every region: reads need no message: {}", took.join(", ")));
    let all: Vec<&Region> = world.regions.iter().collect();
    let medians = medians(story, "writing under leases", &all, "leased", WRITES_MEANWHILE).await?;
    let took: Vec<String> =
        all.iter().zip(medians).map(|(region, median)| format!("{} {}", region.name, ms(median))).collect();
    story.step("their price", format!("a write waits for the farthest holder: {}", took.join(", ")));
    node.put_zone("", zone(Holders::Nobody)).await?;
    Ok(())
}

/// The reason of a 503; anything else is wrong.
fn unavailable(answer: Result<(), Error>, region: &Region) -> anyhow::Result<String> {
    match answer {
        Err(Error::Refused(Refused { status: 503, message, .. })) => Ok(message),
        Err(error) => Err(error.into()),
        Ok(()) => Err(failed(format!("{} answers although it cannot reach a majority", region.name))),
    }
}

/// Each region gives a receipt of the same write; one is shown, and forged.
async fn receipts(story: &mut Story, world: &World) -> anyhow::Result<()> {
    let mut places = Vec::new();
    for region in &world.regions {
        let (receipt, policy) = (region.client.receipt(BUCKET, KEY, None).await?, policy(region)?);
        let verified = check(&receipt, &policy)
            .map_err(|reason| failed(format!("the receipt of {} does not verify: {reason}", region.name)))?;
        places.push(place(&verified));
        // The last one is told of: it was cut off meanwhile.
        story.sentence = verified.sentence();
        if region.name == world.places.names[world.places.names.len() - 1] {
            story.show_receipt(&receipt);
            story.step(
                "receipt",
                format!("of the first write, got from {}: {}, verified offline", region.name, place(&verified)),
            );
            match check(&forge(&receipt)?, &policy) {
                Ok(_) => return Err(failed("a receipt with a flipped byte was accepted")),
                Err(reason) => story.step("forged receipt", format!("one byte flipped, refused: {reason}")),
            }
        }
    }
    Ok(())
}

/// Every region has the same log, recomputed entry by entry from what its node serves.
async fn one_ledger(story: &mut Story, world: &World) -> anyhow::Result<()> {
    let heads = || -> Option<()> {
        let heads = world.regions.iter().map(|region| region.node.status().ledger);
        let mut heads = heads.map(|head| (head.size, head.root));
        let first = heads.next()?;
        heads.all(|head| head == first).then_some(())
    };
    until("all regions have the same ledger", heads).await?;
    let mut found = Vec::new();
    for region in &world.regions {
        match crate::commands::ledger::verify(&region.client, &policy(region)?, |_, _| {}).await {
            Ok((_, summary)) => found.push((summary.entries, summary.root)),
            Err(Unverified::Unreachable(error)) => return Err(error.into()),
            Err(Unverified::Wrong(reason)) => {
                return Err(failed(format!("the ledger of {} does not verify: {reason}", region.name)));
            }
        }
    }
    let (entries, root) = found[0];
    if found.iter().any(|other| *other != (entries, root)) {
        return Err(failed("the regions do not have the same ledger"));
    }
    let root: String = root[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    story.step("one ledger", format!("{} entries recomputed at every region: the same root {root}…", count(entries)));
    Ok(())
}

/// Checks the receipt that came in the header of the answer; tells who signed.
fn vouched_by(header: &str, policy: &Policy) -> anyhow::Result<String> {
    let receipt = Receipt::from_bytes(&STANDARD.decode(header)?)?;
    let verified = receipt.verify(policy)?;
    Ok(match verified.level {
        Level::Commit { vouched_by, .. } => {
            // Key names begin with the id of the cluster; which replica it is stands at the end.
            let names: Vec<&str> =
                vouched_by.iter().map(|name| name.split_once('/').map_or(&**name, |(_, n)| n)).collect();
            names.join(", ")
        }
        Level::Included { .. } => "the log".to_owned(),
    })
}

/// The receipt with one byte of its entry flipped.
fn forge(receipt: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut file = ReceiptFile::from_bytes(receipt)?;
    let Proof::Included(proof) = &mut file.receipt.proof else {
        return Err(failed("the receipt is no proof of inclusion"));
    };
    let byte = proof.extra.as_mut().and_then(|entry| entry.get_mut(100));
    *byte.ok_or_else(|| failed("the receipt carries no entry"))? ^= 1;
    Ok(file.to_text()?.into_bytes())
}

fn place(verified: &Verified) -> String {
    match &verified.level {
        Level::Included { index, size, .. } => format!("entry {} of {}", count(*index), count(*size)),
        Level::Commit { .. } => "committed".to_owned(),
    }
}

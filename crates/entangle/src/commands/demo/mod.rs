//! `entangle demo`: the whole promise in one command. A store in several regions, a write and its receipt, a region cut
//! off and healed, a forgery.

mod regions;
mod scenes;
mod story;
mod world;

use std::time::Instant;

use client::Credentials;
use serde_json::{Value, json};

use crate::cli::DemoArgs;
use crate::console::{Console, Report};
use crate::exit::{Exit, Failure};
use crate::settings::{Origin, Sourced};
use crate::signals::Shutdown;
use crate::{credentials, logs};
use regions::Regions;
use story::{Story, ms};
use world::World;

const BUCKET: &str = "demo";
const KEY: &str = "letters/first.txt";

pub(super) async fn run(args: &DemoArgs, console: Console) -> anyhow::Result<Report> {
    logs::start(&Sourced { text: args.log.clone(), origin: Origin::Flag("log") }, logs::Format::Auto)?;
    let places = match args.regions.as_slice() {
        [] => Regions::choose(&regions::DEFAULT.map(str::to_owned))?,
        named => Regions::choose(named)?,
    };
    let ports = world::ports(args.port, places.names.len())?;
    let mut shutdown = Shutdown::listen()?;
    let mut story = Story::new(console);
    story.head(places.names.len());
    let began = Instant::now();
    let interrupted = |name| Failure::failed(format!("{name}: the demo was interrupted"));
    let mut world = tokio::select! {
        world = Box::pin(World::start(places, ports, credentials::generate()?)) => world?,
        (name, _) = shutdown.next() => return Err(interrupted(name).into()),
    };
    story.step("regions", regions_ready(&world, began));
    let told = tokio::select! {
        told = Box::pin(scenes::tell(&mut story, &mut world)) => told,
        (name, _) = shutdown.next() => Err(interrupted(name).into()),
    };
    // Whatever happened, the nodes are stopped in order and their folders removed.
    if told.is_ok() && args.stay {
        stay(&story, &world, shutdown).await;
        world.stop().await?.remove()?;
        return Ok(Report::done(Value::Null, ""));
    }
    let stopped = world.stop().await;
    told?;
    stopped?.remove()?;
    Ok(story.end())
}

fn regions_ready(world: &World, began: Instant) -> String {
    let (names, exchange) = (world.places.names.join(", "), world.key_exchanges().join(", "));
    format!("{names}: ready in {}, linked by QUIC with {exchange}", ms(began.elapsed()))
}

async fn stay(story: &Story, world: &World, mut shutdown: Shutdown) {
    let (console, credentials) = (story.console, &world.credentials);
    if console.json {
        let endpoints: Vec<Value> =
            world.regions.iter().map(|region| json!({ "region": region.name, "endpoint": region.url })).collect();
        let mut document = story.document();
        document["endpoint"] = json!(world.regions[0].url);
        document["endpoints"] = json!(endpoints);
        document["access_key"] = json!(credentials.access_key());
        document["secret_key"] = json!(credentials.secret_key());
        console.document(&document);
    } else {
        console.line(&format!("{}\n\n{}", story.proved(), directions(console, world, credentials)));
    }
    shutdown.next().await;
    shutdown.exit_on_next();
}

/// What to paste: once the keys, then a line for each region.
fn directions(console: Console, world: &World, credentials: &Credentials) -> String {
    let mut text = format!(
        "  export AWS_ACCESS_KEY_ID={} AWS_SECRET_ACCESS_KEY={} AWS_REGION=us-east-1\n\n",
        credentials.access_key(),
        credentials.secret_key()
    );
    for region in &world.regions {
        let name = console.style.dim(&format!("# {}", region.name));
        text.push_str(&format!("  aws --endpoint-url {} s3 ls s3://{BUCKET} --recursive  {name}\n", region.url));
    }
    text.push_str(&format!(
        "\n  Or with curl:\n\n  curl --aws-sigv4 aws:amz:us-east-1:s3 --user $AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY \\\n    \
         -H 'x-amz-content-sha256: UNSIGNED-PAYLOAD' {}/{BUCKET}/{KEY}\n\n  {}",
        world.regions[0].url,
        console.style.dim("The regions stay up until Ctrl-C; their folders are removed then."),
    ));
    text
}

fn failed(sentence: impl Into<String>) -> anyhow::Error {
    Failure::new(Exit::Unverified, sentence).into()
}

//! `entangle bench`: closed-loop load on a node over plain HTTP, by the load generator of the `bench` crate.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bench::load::{Extent, Op, Options, Report as Measured, run as measure};
use bench::s3::Target;
use bench::sign::Payload;
use serde_json::json;

use crate::cli::{BenchArgs, BenchOp};
use crate::console::{Console, Report, bytes, columns, count};
use crate::exit::Failure;
use crate::remote::{Remote, find_credentials};
use crate::settings::Environment;

/// Time in which connections are made and caches filled before anything is counted.
const WARM_UP: Duration = Duration::from_millis(500);

pub(super) async fn run(args: &BenchArgs, console: Console, environment: &Environment) -> anyhow::Result<Report> {
    let remote = Remote::open(&args.remote, environment)?;
    let options = options(args, &remote, environment)?;
    // Whether the node is there and takes the key, in the words of the other commands.
    remote.client.status().await.map_err(|error| remote.failure(&error))?;
    let (address, bucket) = (options.target.address.clone(), options.bucket.clone());
    let measured = measure(options)
        .await
        .map_err(|error| Failure::failed(format!("{error}; check the name of the bucket, and the log of the node")))?;
    let text = describe(&measured, &address, &bucket, console);
    Ok(Report::done(json!({ "endpoint": format!("http://{address}"), "bucket": bucket, "bench": measured }), text))
}

fn options(args: &BenchArgs, remote: &Remote, environment: &Environment) -> Result<Options, Failure> {
    let endpoint = remote.client.endpoint();
    if endpoint.is_https() {
        return Err(Failure::usage(
            "the load generator speaks plain HTTP only; name a node with an http:// --endpoint",
        ));
    }
    let (credentials, _) = find_credentials(&args.remote, environment)?.ok_or_else(|| {
        Failure::usage("there is no access key to sign with; set ENTANGLE_ACCESS_KEY and ENTANGLE_SECRET_KEY, or name the keys folder with --keys")
    })?;
    // Only tells the keys of this run from those of others.
    let run = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    Ok(Options {
        target: Target {
            address: endpoint.authority(),
            access_key: credentials.access_key().to_owned(),
            secret_key: credentials.secret_key().to_owned(),
            payload: Payload::Unsigned,
        },
        bucket: args.bucket.clone(),
        op: match args.op {
            BenchOp::Put => Op::Put,
            BenchOp::Get => Op::Get,
            BenchOp::Mixed => Op::Mixed,
        },
        size: args.size,
        clients: usize::from(args.clients),
        extent: Extent::Time(Duration::from_secs(u64::from(args.seconds))),
        warm_up: WARM_UP,
        keys: u64::from(args.objects),
        rate: None,
        run,
    })
}

fn describe(measured: &Measured, address: &str, bucket: &str, console: Console) -> String {
    let milliseconds = |us: u64| format!("{}.{:02} ms", us / 1000, us % 1000 / 10);
    let operation = match measured.op {
        Op::Put => "PUT",
        Op::Get => "GET",
        Op::Mixed => "PUT and GET",
    };
    let mut rows = vec![
        ("rate", format!("{:.0} {operation}/s, {:.1} MB/s", measured.per_second, measured.megabytes_per_second)),
        ("median", milliseconds(measured.p50_us)),
        ("p99", milliseconds(measured.p99_us)),
        ("longest", milliseconds(measured.max_us)),
        ("requests", format!("{} in {:.1} s", count(measured.requests), measured.seconds)),
        ("load", format!("{} clients, objects of {}", measured.clients, bytes(measured.size as u64))),
    ];
    for (status, number) in &measured.errors {
        rows.push((
            "failed",
            format!(
                "{} with {}",
                count(*number),
                if *status == 0 { "no answer".to_owned() } else { status.to_string() }
            ),
        ));
    }
    format!(
        "{} at http://{address}\n\n{}\nThe objects stay in the bucket {bucket}.\n",
        console.style.bold(operation),
        columns(console.style, &rows)
    )
}

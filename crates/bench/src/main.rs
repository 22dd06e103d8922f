//! `bench`: measures an S3 endpoint and prints what it saw.
#![allow(clippy::print_stdout, reason = "a command line tool speaks")]

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use bench::load::{Extent, Op, Options, Report, Seen, run};
use bench::s3::Target;
use bench::sign::Payload;
use clap::{Parser, ValueEnum};

/// Load on an S3 endpoint over plain HTTP: a closed loop, or with --rate an open one.
#[derive(Parser, Debug)]
#[command(name = "bench")]
struct Arguments {
    /// Where the server is.
    #[arg(long, default_value = "http://127.0.0.1:9000")]
    endpoint: String,
    /// The access key id.
    #[arg(long, env = "ENTANGLE_ACCESS_KEY")]
    access_key: String,
    /// Its secret.
    #[arg(long, env = "ENTANGLE_SECRET_KEY", hide_env_values = true)]
    secret_key: String,
    /// The bucket; made if it is not there.
    #[arg(long, default_value = "bench")]
    bucket: String,
    /// What to ask.
    #[arg(long, value_enum, default_value = "put")]
    op: OpName,
    /// Bytes of an object; KiB and MiB are understood.
    #[arg(long, default_value = "1KiB", value_parser = parse_size)]
    size: usize,
    /// Clients at the same time.
    #[arg(long, default_value_t = 16)]
    clients: usize,
    /// How long to measure.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Measure this many requests instead.
    #[arg(long)]
    requests: Option<u64>,
    /// Seconds before the measurement begins.
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// Objects to write first, for reads.
    #[arg(long, default_value_t = 1000)]
    keys: u64,
    /// Requests a second of all clients together, whatever the answers take: latencies count from when each was due.
    #[arg(long)]
    rate: Option<f64>,
    /// Write a line for every counted request to this file: when it was due and how long it took in microseconds, status.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Sign the bodies (SHA-256), instead of UNSIGNED-PAYLOAD.
    #[arg(long)]
    signed: bool,
    /// Threads of the load generator.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Print one line of JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OpName {
    Put,
    Get,
    Mixed,
}

fn parse_size(text: &str) -> Result<usize, String> {
    let (digits, factor) = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1), ("", 1)]
        .into_iter()
        .find_map(|(unit, factor)| text.strip_suffix(unit).map(|digits| (digits, factor)))
        .ok_or_else(|| format!("{text} is not a size"))?;
    let count: usize = digits.trim().parse().map_err(|_| format!("{text} is not a size: try 1KiB or 8MiB"))?;
    count.checked_mul(factor).ok_or_else(|| format!("{text} is too large"))
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let mut builder = if arguments.threads > 1 {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(arguments.threads);
        builder
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    let runtime = builder.enable_all().build().context("no runtime could be started")?;
    let options = options(&arguments)?;
    let mut report = runtime.block_on(run(options))?;
    if let Some(path) = &arguments.log {
        report.log.sort_unstable_by_key(|seen| seen.at_us);
        let line = |seen: &Seen| format!("{},{},{}\n", seen.at_us, seen.took_us, seen.status);
        let lines: String = report.log.iter().map(line).collect();
        std::fs::write(path, format!("at_us,took_us,status\n{lines}")).with_context(|| path.display().to_string())?;
    }
    if arguments.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print_report(&report);
    }
    Ok(())
}

fn options(arguments: &Arguments) -> anyhow::Result<Options> {
    let Some(address) = arguments.endpoint.strip_prefix("http://") else {
        bail!("the load generator speaks plain HTTP only: give an endpoint like http://127.0.0.1:9000");
    };
    let run = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock stands before 1970")?;
    Ok(Options {
        target: Target {
            address: address.trim_end_matches('/').to_owned(),
            access_key: arguments.access_key.clone(),
            secret_key: arguments.secret_key.clone(),
            payload: if arguments.signed { Payload::Signed } else { Payload::Unsigned },
        },
        bucket: arguments.bucket.clone(),
        op: match arguments.op {
            OpName::Put => Op::Put,
            OpName::Get => Op::Get,
            OpName::Mixed => Op::Mixed,
        },
        size: arguments.size,
        clients: arguments.clients.max(1),
        extent: match arguments.requests {
            Some(count) => Extent::Requests(count),
            None => Extent::Time(Duration::try_from_secs_f64(arguments.seconds).context("--seconds")?),
        },
        warm_up: Duration::try_from_secs_f64(arguments.warm_up).context("--warm-up")?,
        keys: arguments.keys.max(1),
        rate: arguments.rate.filter(|rate| *rate > 0.0),
        // Several generators may start within one second.
        run: run.as_secs() << 24 | u64::from(std::process::id()),
    })
}

fn print_report(report: &Report) {
    println!(
        "{:?} {} B, {} clients: {:.0}/s, {:.1} MB/s, p50 {:.2} ms, p99 {:.2} ms, max {:.1} ms ({} requests in {:.1} s)",
        report.op,
        report.size,
        report.clients,
        report.per_second,
        report.megabytes_per_second,
        milliseconds(report.p50_us),
        milliseconds(report.p99_us),
        milliseconds(report.max_us),
        report.requests,
        report.seconds
    );
    for (status, count) in &report.errors {
        println!(
            "  {count} requests failed: {}",
            if *status == 0 { "no answer".to_owned() } else { status.to_string() }
        );
    }
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn milliseconds(microseconds: u64) -> f64 {
    microseconds as f64 / 1000.0
}

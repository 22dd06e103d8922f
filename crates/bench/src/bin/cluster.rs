//! `cluster`: a real cluster of several processes, faults one after the other, clients at every node, and a check of all
//! that they were told.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool speaks")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use bench::cluster::{Gaps, Options, has_hooks, measure, run};
use clap::Parser;

/// Of a violation that had to be.
const SHOWN_LINES_MAX: usize = 40;

/// Faults at a real cluster, and a check of all that its clients were told.
#[derive(Parser, Debug)]
#[command(name = "cluster")]
struct Arguments {
    /// Members of the cluster.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(3..=9))]
    nodes: u8,
    /// How long faults go on.
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    /// Clients of every node.
    #[arg(long, default_value_t = 3)]
    clients: u64,
    /// Where the random numbers start; drawn from the clock if not given. It gives the faults; what they meet still
    /// depends on the machine.
    #[arg(long)]
    seed: Option<u64>,
    /// Only faults of this kind, as the summary calls it.
    #[arg(long)]
    only: Option<String>,
    /// Every member holds the read lease of all keys.
    #[arg(long)]
    leases: bool,
    /// Takes out a rule, in a build with the feature `faults`: `ack_before_durable`, or one of `sim --mutants`. Then what has
    /// to happen is that it is caught: within so many seeds as --within says.
    #[arg(long, value_name = "RULE")]
    without: Vec<String>,
    /// With --without: the seeds to try.
    #[arg(long, default_value_t = 5)]
    within: u64,
    /// Instead of faults and a history: kill every node so many times, and measure how long the others take no write.
    #[arg(long, value_name = "ROUNDS")]
    gaps: Option<u64>,
    /// With --gaps: the longest gap that is good, in ms.
    #[arg(long, default_value_t = 300)]
    gap_max_ms: u64,
    /// The binary of the nodes; the default is `entangle` beside this program.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Where to put the folder that the nodes work in; it is kept when something is wrong.
    #[arg(long)]
    folder: Option<PathBuf>,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let seed = match arguments.seed {
        Some(seed) => seed,
        None => SystemTime::now().duration_since(UNIX_EPOCH).context("the clock stands before 1970")?.as_secs(),
    };
    let binary = match arguments.binary {
        Some(binary) => std::path::absolute(binary)?,
        None => std::env::current_exe()?.with_file_name("entangle"),
    };
    anyhow::ensure!(binary.is_file(), "{} is not there: cargo build --release -p entangle", binary.display());
    let hooks = if has_hooks(&binary)? { Some(arguments.without.clone()) } else { None };
    anyhow::ensure!(
        hooks.is_some() || arguments.without.is_empty(),
        "--without needs nodes that were built with the feature `faults`"
    );
    let parent = arguments.folder.unwrap_or_else(std::env::temp_dir);
    let folder = tempfile::Builder::new().prefix("entangle-cluster-").tempdir_in(parent)?;
    let options = Options {
        binary,
        folder: folder.path().to_owned(),
        nodes: arguments.nodes.into(),
        duration: Duration::from_secs(arguments.seconds),
        clients: arguments.clients.max(1),
        seed,
        only: arguments.only,
        hooks,
        leases: arguments.leases,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    if let Some(rounds) = arguments.gaps {
        println!("cluster: {} nodes, gaps, {rounds} rounds", options.nodes);
        let measured = runtime.block_on(measure(&options, rounds, &mut |line| println!("{line}")));
        return judge(measured, Duration::from_millis(arguments.gap_max_ms), folder);
    }
    if !arguments.without.is_empty() {
        return catch(&runtime, &options, arguments.within, &folder);
    }
    println!("cluster: {} nodes, {} s, seed {seed}", options.nodes, arguments.seconds);
    let ended = runtime.block_on(run(&options, &mut |line| println!("{line}")));
    let violations = match ended {
        Ok(summary) => {
            println!("\n{summary}");
            summary.violations
        }
        Err(error) => vec![format!("{error:#}")],
    };
    if violations.is_empty() {
        println!("No violation (seed {seed}).");
        return Ok(ExitCode::SUCCESS);
    }
    let kept = folder.keep();
    for violation in &violations {
        eprintln!("VIOLATED (seed {seed}): {violation}");
    }
    eprintln!("the folders and logs of the nodes are kept in {}", kept.display());
    Ok(ExitCode::FAILURE)
}

/// Shows what was measured. Keeps the folder when it is not good.
fn judge(measured: anyhow::Result<Gaps>, gap_max: Duration, folder: tempfile::TempDir) -> anyhow::Result<ExitCode> {
    let reason = match measured {
        Ok(gaps) => {
            println!("\n{gaps}");
            let (longest, slowest) = (gaps.longest().as_millis(), gaps.slowest_return().as_millis());
            println!("The longest gap is {longest} ms, the slowest return {slowest} ms.");
            if gaps.longest() <= gap_max {
                return Ok(ExitCode::SUCCESS);
            }
            format!("a gap of {longest} ms is longer than {} ms", gap_max.as_millis())
        }
        Err(error) => format!("{error:#}"),
    };
    eprintln!("FAILED: {reason}; the folders and logs of the nodes are kept in {}", folder.keep().display());
    Ok(ExitCode::FAILURE)
}

/// Runs builds that do without a rule, seed after seed, until one is caught.
fn catch(
    runtime: &tokio::runtime::Runtime,
    options: &Options,
    seeds: u64,
    folder: &tempfile::TempDir,
) -> anyhow::Result<ExitCode> {
    let without = options.hooks.as_deref().unwrap_or_default().join(", ");
    for seed in options.seed..options.seed + seeds {
        let own = folder.path().join(seed.to_string());
        std::fs::create_dir(&own)?;
        let options = Options { seed, folder: own, ..options.clone() };
        println!("cluster without {without}: {} nodes, seed {seed}", options.nodes);
        let ended = runtime.block_on(run(&options, &mut |line| println!("{line}")));
        let violation = match ended {
            Ok(summary) => summary.violations.into_iter().next(),
            // Also what keeps it from being founded.
            Err(error) => Some(format!("{error:#}")),
        };
        if let Some(violation) = violation {
            let lines: Vec<&str> = violation.lines().take(SHOWN_LINES_MAX).collect();
            println!("Caught (seed {seed}): {}", lines.join("\n"));
            return Ok(ExitCode::SUCCESS);
        }
    }
    eprintln!("FAILED: nothing was noticed of what is without {without}, in {seeds} seeds");
    Ok(ExitCode::FAILURE)
}

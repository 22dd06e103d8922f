//! `cargo run --release -p sim -- --seeds N [--seed FIRST] [--nodes n] [--faults f]`: runs seeds, and says which one
//! fails and how to see it again. `-- --latency` prints what the protocol costs.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod groups;
mod schedules;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use clap::Parser;
use sim::{Failure, Mutant, Options, Report};

/// Runs the deterministic world.
#[derive(Parser)]
struct Arguments {
    /// How many seeds to run; 1, or with `--seconds` as many as there is time for.
    #[arg(long)]
    seeds: Option<u64>,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Turns of each run.
    #[arg(long, default_value_t = 600)]
    steps: u32,
    /// Prints what happens; best with one seed.
    #[arg(long)]
    trace: bool,
    /// Replicas: 1 is the world of one node with its threads and its disks, more are a group.
    #[arg(long, default_value_t = 1)]
    nodes: usize,
    /// Of a group: how many of them may fail.
    #[arg(long)]
    faults: Option<usize>,
    /// Groups to run one after the other, as replicas/faults: `3/1,5/2`. In place of `--nodes` and `--faults`.
    #[arg(long, value_delimiter = ',', conflicts_with_all = ["nodes", "faults"])]
    groups: Vec<groups::Size>,
    /// Of groups: how long to run, shared among them.
    #[arg(long)]
    seconds: Option<u64>,
    /// Of groups: fails when something was never met that the whole of the runs should have met.
    #[arg(long)]
    require_coverage: bool,
    /// Puts a defect into the node's driver, or takes a rule out of a group's protocol, to see it found.
    #[arg(long)]
    mutant: Option<String>,
    /// Takes every rule out of a group's protocol, one after the other, and says which is found.
    #[arg(long)]
    mutants: bool,
    /// Of a group: nothing breaks.
    #[arg(long)]
    calm: bool,
    /// Of a group: leases in every run, and not only in half of them.
    #[arg(long)]
    leases: bool,
    /// Of a group: whether its members change: in a third of the runs, in every one, or in none.
    #[arg(long, value_enum, default_value = "some", default_missing_value = "always", num_args = 0..=1)]
    reconfigs: groups::Reconfigs,
    /// Of a group: how far clocks go astray where there are leases. Beyond the bound a check has to notice.
    #[arg(long, value_enum, default_value = "within")]
    drift: groups::Drift,
    /// Of a group: goes on after a seed has failed.
    #[arg(long)]
    keep_going: bool,
    /// Prints what the protocol costs where nothing breaks, as Markdown.
    #[arg(long)]
    latency: bool,
    /// Of `--latency`: a directory with `rtt_gcp.csv` and `rtt_aws.csv`, in place of the round trips built in.
    #[arg(long, requires = "latency")]
    data: Option<PathBuf>,
    /// Draws this many schedules of bare cores, driven step by step, and runs them.
    #[arg(long)]
    schedules: Option<u64>,
    /// Runs a schedule or a witness from a file, step by step; with `--calm` the rule that it is for is in place.
    #[arg(long)]
    schedule: Option<PathBuf>,
    /// Looks for a schedule that shows what a rule is for, `--seeds` schedules; `all`: those that have none yet.
    #[arg(long)]
    witness: Option<String>,
    /// Threads; 0: one per processor.
    #[arg(long, default_value_t = 0)]
    threads: usize,
}

impl Arguments {
    /// How many seeds to run.
    fn seeds(&self) -> u64 {
        self.seeds.unwrap_or(if self.seconds.is_some() { u64::MAX } else { 1 })
    }

    /// How many threads run seeds: one, if lines are to be read.
    fn threads(&self) -> usize {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        match self.threads {
            _ if self.trace => 1,
            0 => processors,
            threads => threads,
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.latency {
        return latency(arguments.data.as_deref());
    }
    if let Some(count) = arguments.schedules {
        return schedules::draw(&arguments, count);
    }
    if let Some(path) = &arguments.schedule {
        return schedules::file(&arguments, path);
    }
    if let Some(name) = &arguments.witness {
        return schedules::witness(&arguments, name);
    }
    if arguments.mutants {
        return groups::mutants(&arguments);
    }
    if arguments.nodes > 1 || !arguments.groups.is_empty() {
        return groups::run(&arguments);
    }
    let mutant: Option<Mutant> = match arguments.mutant.as_deref().map(str::parse).transpose() {
        Ok(mutant) => mutant,
        Err(reason) => {
            eprintln!("{reason}");
            return ExitCode::FAILURE;
        }
    };
    let threads = arguments.threads();
    let began = Instant::now();
    let next = AtomicU64::new(arguments.seed);
    let end = arguments.seed.saturating_add(arguments.seeds());
    let failed = AtomicBool::new(false);
    let total = Mutex::new(Report::default());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !failed.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let options = Options { seed, steps: arguments.steps, mutant, trace: arguments.trace };
                    match sim::run(options) {
                        Ok(report) => count(&total, &report, arguments.trace),
                        Err(failure) => {
                            failed.store(true, Ordering::Relaxed);
                            explain(&failure, &arguments);
                        }
                    }
                }
            });
        }
    });
    let seconds = began.elapsed().as_secs_f64();
    let Ok(total) = total.into_inner() else { return ExitCode::FAILURE };
    println!(
        "{} seeds in {seconds:.1} s ({:.0}/s): {} commands, {} answered, {} crashes, {} checkpoints, {} entries",
        arguments.seeds(),
        arguments.seeds() as f64 / seconds,
        total.commands,
        total.acked,
        total.crashes,
        total.checkpoints,
        total.entries
    );
    if failed.load(Ordering::Relaxed) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn latency(data: Option<&Path>) -> ExitCode {
    match sim::latency::tables(data) {
        Ok(tables) => {
            print!("{tables}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn count(total: &Mutex<Report>, report: &Report, trace: bool) {
    if trace {
        report.lines.iter().for_each(|line| println!("{line}"));
    }
    let Ok(mut total) = total.lock() else { return };
    total.commands += report.commands;
    total.acked += report.acked;
    total.crashes += report.crashes;
    total.checkpoints += report.checkpoints;
    total.entries += report.entries;
}

fn explain(failure: &Failure, arguments: &Arguments) {
    failure.lines.iter().for_each(|line| println!("{line}"));
    eprintln!("seed {} failed: {}", failure.seed, failure.reason);
    let mutant = arguments.mutant.as_ref().map_or(String::new(), |mutant| format!(" --mutant {mutant}"));
    let steps = arguments.steps;
    eprintln!("see it again: cargo run --release -p sim -- --seed {} --steps {steps} --trace{mutant}", failure.seed);
}

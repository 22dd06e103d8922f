//! `cargo run --release -p sim -- --seeds N [--seed FIRST]`: runs seeds, and says which one fails and how to see
//! it again.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use clap::Parser;
use sim::{Failure, Mutant, Options, Report};

/// Runs the deterministic world.
#[derive(Parser)]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Turns of each run.
    #[arg(long, default_value_t = 600)]
    steps: u32,
    /// Prints what happens; best with one seed.
    #[arg(long)]
    trace: bool,
    /// Puts a defect into the node's driver, to see it found.
    #[arg(long)]
    mutant: Option<Mutant>,
    /// Threads; 0: one per processor.
    #[arg(long, default_value_t = 0)]
    threads: usize,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads =
        if arguments.trace { 1 } else { [arguments.threads, processors][usize::from(arguments.threads == 0)] };
    let began = Instant::now();
    let next = AtomicU64::new(arguments.seed);
    let end = arguments.seed.saturating_add(arguments.seeds);
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
                    let options =
                        Options { seed, steps: arguments.steps, mutant: arguments.mutant, trace: arguments.trace };
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
        arguments.seeds,
        arguments.seeds as f64 / seconds,
        total.commands,
        total.acked,
        total.crashes,
        total.checkpoints,
        total.entries
    );
    if failed.load(Ordering::Relaxed) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
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
    let mutant = arguments.mutant.map_or(String::new(), |mutant| format!(" --mutant {}", mutant.name()));
    let steps = arguments.steps;
    eprintln!("see it again: cargo run --release -p sim -- --seed {} --steps {steps} --trace{mutant}", failure.seed);
}

//! `--nodes n`, `--mutants`: the world of a group of replicas from the command line.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use sim::group::{self, Coverage, Failure, Options};

use crate::Arguments;

/// The groups in which mutants are looked for: replicas and faults.
const GROUPS: [(usize, usize); 4] = [(3, 1), (5, 2), (3, 1), (5, 1)];

/// The usual number of faults that a group of `nodes` survives: one, if it can.
fn usual_faults(nodes: usize) -> usize {
    usize::from(nodes >= 3)
}

/// Runs the seeds that were asked for.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let nodes = arguments.nodes;
    let faults = arguments.faults.unwrap_or_else(|| usual_faults(nodes));
    if faults > nodes.saturating_sub(1) / 2 {
        eprintln!("a group of {nodes} does not survive {faults} faults");
        return ExitCode::FAILURE;
    }
    let mutant = match arguments.mutant.as_deref().map(str::parse).transpose() {
        Ok(mutant) => mutant,
        Err(reason) => {
            eprintln!("{reason}");
            return ExitCode::FAILURE;
        }
    };
    let options =
        |seed| Options { mutant, is_calm: arguments.calm, trace: arguments.trace, ..Options::new(seed, nodes, faults) };
    let began = Instant::now();
    let (total, failures) = run_all(arguments, options);
    let seconds = began.elapsed().as_secs_f64();
    failures.iter().for_each(|failure| explain(failure, arguments, faults));
    println!(
        "n = {nodes}, f = {faults}: {} seeds hold, {} fail, in {seconds:.1} s; {} simulated s; {} events, {:.0} a second \
         over {} threads, {:.0} a seed",
        total.seeds,
        failures.len(),
        total.simulated_ns / 1_000_000_000,
        total.events(),
        total.events() as f64 / seconds,
        arguments.threads(),
        total.events() as f64 / total.seeds.max(1) as f64,
    );
    println!("{total}");
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs seeds on all threads: until one fails, or all of them.
fn run_all(arguments: &Arguments, options: impl Fn(u64) -> Options + Sync) -> (Coverage, Vec<Failure>) {
    let next = AtomicU64::new(arguments.seed);
    let end = arguments.seed.saturating_add(arguments.seeds);
    let failed = AtomicBool::new(false);
    let total = Mutex::new((Coverage::default(), Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..arguments.threads() {
            scope.spawn(|| {
                while arguments.keep_going || !failed.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let outcome = group::run(options(seed));
                    let mut total = total.lock().expect("no thread panics while it counts");
                    match outcome {
                        Ok(report) => {
                            report.lines.iter().for_each(|line| println!("{line}"));
                            total.0.add(&report.coverage);
                        }
                        Err(failure) => {
                            failed.store(true, Ordering::Relaxed);
                            total.1.push(*failure);
                        }
                    }
                }
            });
        }
    });
    let (coverage, mut failures) = total.into_inner().expect("no thread panics while it counts");
    failures.sort_by_key(|failure| failure.seed);
    (coverage, failures)
}

fn explain(failure: &Failure, arguments: &Arguments, faults: usize) {
    failure.lines.iter().for_each(|line| println!("{line}"));
    let violation = &failure.violation;
    eprintln!("seed {} failed: {}: {}", failure.seed, violation.check, violation.reason);
    let mutant = arguments.mutant.as_ref().map_or(String::new(), |mutant| format!(" --mutant {mutant}"));
    let calm = if arguments.calm { " --calm" } else { "" };
    eprintln!(
        "see it again: cargo run --release -p sim -- --nodes {} --faults {faults} --seed {} --trace{mutant}{calm}",
        arguments.nodes, failure.seed
    );
}

/// Looks for every rule that can be taken out, `--seeds` seeds each.
pub(crate) fn mutants(arguments: &Arguments) -> ExitCode {
    let mut survivors = 0;
    for mutant in dace::Mutant::ALL {
        let seeds = arguments.seed..arguments.seed.saturating_add(arguments.seeds);
        let began = Instant::now();
        let caught = group::catch(*mutant, &GROUPS, seeds);
        let seconds = began.elapsed().as_secs_f64();
        match caught {
            Some((options, violation)) => {
                let reason: String = violation.reason.replace('\n', " ").chars().take(100).collect();
                let (nodes, faults, seed) = (options.nodes, options.faults, options.seed);
                println!(
                    "{mutant:28} caught by {:16} n = {nodes} f = {faults} seed {seed} ({seconds:.1} s): {reason}",
                    violation.check
                );
            }
            None => {
                survivors += 1;
                println!("{mutant:28} SURVIVES {} seeds ({seconds:.1} s)", arguments.seeds);
            }
        }
    }
    println!("{} of {} mutants caught", dace::Mutant::ALL.len() - survivors, dace::Mutant::ALL.len());
    if survivors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

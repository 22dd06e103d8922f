//! `--nodes n`, `--groups`, `--mutants`: the world of a group of replicas from the command line.

use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sim::group::{self, Coverage, Defect, Failure, Options, Violation};

use crate::Arguments;

/// The groups in which mutants are looked for: replicas and faults.
const GROUPS: [(usize, usize); 4] = [(3, 1), (5, 2), (3, 1), (5, 1)];

/// Replicas of a group, and how many of them may fail.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    nodes: usize,
    faults: usize,
}

impl Size {
    fn new(nodes: usize, faults: usize) -> Result<Self, String> {
        if nodes < 2 || faults > (nodes - 1) / 2 {
            return Err(format!("a group of {nodes} does not survive {faults} faults"));
        }
        Ok(Self { nodes, faults })
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (nodes, faults) = text.split_once('/').ok_or("a group is written as replicas/faults: 5/2")?;
        let number = |text: &str| text.parse().map_err(|error| format!("{text}: {error}"));
        Self::new(number(nodes)?, number(faults)?)
    }
}

/// How far clocks go astray where there are leases.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Drift {
    /// As far as leases allow.
    Within,
    /// One at half its rate: to see that it is noticed.
    Beyond,
}

impl From<Drift> for group::Drift {
    fn from(drift: Drift) -> Self {
        match drift {
            Drift::Within => Self::Within,
            Drift::Beyond => Self::Beyond,
        }
    }
}

/// In which runs the members of the group change.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Reconfigs {
    /// In those whose seed says so.
    Some,
    /// In all.
    Always,
    /// In none.
    Never,
}

impl From<Reconfigs> for Option<bool> {
    fn from(reconfigs: Reconfigs) -> Self {
        match reconfigs {
            Reconfigs::Some => None,
            Reconfigs::Always => Some(true),
            Reconfigs::Never => Some(false),
        }
    }
}

/// What is taken out, by its name: a rule of the protocol, or one of execution.
fn taken_out(name: Option<&str>) -> Result<(Option<dace::Mutant>, Option<Defect>), String> {
    let Some(name) = name else { return Ok((None, None)) };
    match (name.parse(), name.parse()) {
        (Ok(mutant), _) => Ok((Some(mutant), None)),
        (_, Ok(defect)) => Ok((None, Some(defect))),
        (Err(reason), _) => Err(reason),
    }
}

/// Runs the groups that were asked for.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    match run_groups(arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}

fn run_groups(arguments: &Arguments) -> Result<bool, String> {
    let mut sizes = arguments.groups.clone();
    if sizes.is_empty() {
        // The usual number of faults is one, if the group survives it.
        let faults = arguments.faults.unwrap_or(usize::from(arguments.nodes >= 3));
        sizes.push(Size::new(arguments.nodes, faults)?);
    }
    let (mutant, defect) = taken_out(arguments.mutant.as_deref())?;
    let share = arguments.seconds.map(|seconds| Duration::from_secs(seconds) / u32::try_from(sizes.len()).unwrap_or(1));
    let (mut total, mut held) = (Coverage::default(), true);
    for Size { nodes, faults } in &sizes {
        let options = |seed| Options {
            mutant,
            defect,
            drift: arguments.drift.into(),
            is_reconfigured: arguments.reconfigs.into(),
            is_leased: arguments.leases || arguments.drift == Drift::Beyond,
            is_calm: arguments.calm,
            trace: arguments.trace,
            ..Options::new(seed, *nodes, *faults)
        };
        let began = Instant::now();
        let (met, failures) = run_all(arguments, options, share);
        failures.iter().for_each(|failure| explain(failure, arguments, (*nodes, *faults)));
        tell(&met, (*nodes, *faults), failures.len(), began.elapsed().as_secs_f64(), arguments.threads());
        total.add(&met);
        held &= failures.is_empty();
        if !held && !arguments.keep_going {
            return Ok(false);
        }
    }
    if sizes.len() > 1 {
        println!("all groups: {} seeds hold\n{total}", total.seeds);
    }
    let unmet = total.unmet(sizes.iter().map(|size| size.faults).max().unwrap_or(0));
    if !unmet.is_empty() {
        println!("never met: {}", unmet.join(", "));
    }
    Ok(held && (unmet.is_empty() || !arguments.require_coverage))
}

fn tell(met: &Coverage, (nodes, faults): (usize, usize), failed: usize, seconds: f64, threads: usize) {
    println!(
        "n = {nodes}, f = {faults}: {} seeds hold, {failed} fail, in {seconds:.1} s; {} simulated s; {} events, {:.0} a \
         second over {threads} threads, {:.0} a seed",
        met.seeds,
        met.simulated_ns / 1_000_000_000,
        met.events(),
        met.events() as f64 / seconds,
        met.events() as f64 / met.seeds.max(1) as f64,
    );
    println!("{met}");
}

/// Runs seeds on all threads: until one fails, or all of them, or the time is over.
fn run_all(
    arguments: &Arguments,
    options: impl Fn(u64) -> Options + Sync,
    share: Option<Duration>,
) -> (Coverage, Vec<Failure>) {
    let began = Instant::now();
    let next = AtomicU64::new(arguments.seed);
    let end = arguments.seed.saturating_add(arguments.seeds());
    let failed = AtomicBool::new(false);
    let total = Mutex::new((Coverage::default(), Vec::new()));
    let goes_on = || {
        let is_time_left = share.is_none_or(|share| began.elapsed() < share);
        is_time_left && (arguments.keep_going || !failed.load(Ordering::Relaxed))
    };
    std::thread::scope(|scope| {
        for _ in 0..arguments.threads() {
            scope.spawn(|| {
                while goes_on() {
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

fn explain(failure: &Failure, arguments: &Arguments, (nodes, faults): (usize, usize)) {
    failure.lines.iter().for_each(|line| println!("{line}"));
    let violation = &failure.violation;
    eprintln!("seed {} failed: {}: {}", failure.seed, violation.check, violation.reason);
    let mutant = arguments.mutant.as_ref().map_or(String::new(), |mutant| format!(" --mutant {mutant}"));
    let calm = if arguments.calm { " --calm" } else { "" };
    let leases = if arguments.leases { " --leases" } else { "" };
    let reconfigs = match arguments.reconfigs {
        Reconfigs::Some => "",
        Reconfigs::Always => " --reconfigs always",
        Reconfigs::Never => " --reconfigs never",
    };
    let drift = if arguments.drift == Drift::Beyond { " --drift beyond" } else { "" };
    eprintln!(
        "see it again: cargo run --release -p sim -- --nodes {nodes} --faults {faults} --seed {} --trace{mutant}{calm}{leases}{reconfigs}{drift}",
        failure.seed
    );
}

/// Looks for every rule that can be taken out, `--seeds` seeds each; with `--mutant`, for that one.
pub(crate) fn mutants(arguments: &Arguments) -> ExitCode {
    let seeds = arguments.seed..arguments.seed.saturating_add(arguments.seeds());
    let is_asked = |name: &str| arguments.mutant.as_deref().is_none_or(|asked| asked == name);
    let (mut all, mut caught) = (0, 0);
    for mutant in dace::Mutant::ALL.iter().filter(|mutant| is_asked(mutant.name())) {
        all += 1;
        caught += u32::from(hunt(mutant.name(), arguments, || group::catch(*mutant, &GROUPS, seeds.clone())));
    }
    for defect in Defect::ALL.into_iter().filter(|defect| is_asked(defect.name())) {
        all += 1;
        caught += u32::from(hunt(defect.name(), arguments, || group::catch_defect(defect, &GROUPS, seeds.clone())));
    }
    println!("{caught} of {all} mutants caught");
    if caught == all { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Looks for one, and tells. True when it is caught.
fn hunt(name: &str, arguments: &Arguments, catch: impl FnOnce() -> Option<(Options, Violation)>) -> bool {
    let began = Instant::now();
    let caught = catch();
    let seconds = began.elapsed().as_secs_f64();
    match caught {
        Some((options, violation)) => {
            let reason: String = violation.reason.replace('\n', " ").chars().take(100).collect();
            let (nodes, faults, seed) = (options.nodes, options.faults, options.seed);
            let check = violation.check;
            println!("{name:28} caught by {check:16} n = {nodes} f = {faults} seed {seed} ({seconds:.1} s): {reason}");
            true
        }
        None => {
            println!("{name:28} SURVIVES {} seeds ({seconds:.1} s)", arguments.seeds());
            false
        }
    }
}

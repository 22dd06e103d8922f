//! `--schedules N`, `--schedule FILE`, `--witness NAME`: schedules of real cores from the command line.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use sim::schedule::{self, Done, Found, Setting, Step, Violation, Witness, search};

use crate::Arguments;

/// The groups in which schedules are drawn unless one is asked for: replicas and faults.
const GROUPS: [(usize, usize); 3] = [(3, 1), (5, 2), (5, 1)];

/// Where witnesses lie, seen from the root of the repository.
const WITNESSES: &str = "crates/sim/witnesses";

/// Draws and runs `--schedules` schedules; all of them must hold, unless a rule is taken out.
pub(crate) fn draw(arguments: &Arguments, count: u64) -> ExitCode {
    let Ok(setting) = setting(arguments) else { return ExitCode::FAILURE };
    let began = Instant::now();
    let next = AtomicU64::new(arguments.seed);
    let end = arguments.seed.saturating_add(count);
    let failed = AtomicBool::new(false);
    let total = Mutex::new((Done::default(), 0_u64));
    std::thread::scope(|scope| {
        for _ in 0..arguments.threads() {
            scope.spawn(|| {
                while arguments.keep_going || !failed.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let (steps, outcome) = schedule::draw(setting, seed);
                    let mut total = total.lock().expect("no thread panics while it counts");
                    match outcome {
                        Ok(done) => total.0.add(&done),
                        Err(violation) => {
                            total.1 += 1;
                            failed.store(true, Ordering::Relaxed);
                            explain(setting, seed, &steps, &violation);
                        }
                    }
                }
            });
        }
    });
    let (done, failures) = total.into_inner().expect("no thread panics while it counts");
    let Setting { replicas, faults, .. } = setting;
    println!(
        "n = {replicas}, f = {faults}: {count} schedules from {}, {failures} fail, in {:.1} s; {done:?}",
        arguments.seed,
        began.elapsed().as_secs_f64()
    );
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn setting(arguments: &Arguments) -> Result<Setting, ()> {
    let replicas = if arguments.nodes > 1 { arguments.nodes } else { 3 };
    let faults = arguments.faults.unwrap_or_else(|| usize::from(replicas >= 3));
    let mutant = match arguments.mutant.as_deref().map(str::parse).transpose() {
        Ok(mutant) => mutant,
        Err(reason) => {
            eprintln!("{reason}");
            return Err(());
        }
    };
    if faults > replicas.saturating_sub(1) / 2 {
        eprintln!("a group of {replicas} does not survive {faults} faults");
        return Err(());
    }
    Ok(Setting { replicas, faults, mutant })
}

/// Prints a schedule that failed, made small.
fn explain(setting: Setting, seed: u64, steps: &[Step], violation: &Violation) {
    let shows = |steps: &[Step]| schedule::run(setting, steps).is_err_and(|other| other.check == violation.check);
    let steps = if shows(steps) { schedule::shrink(steps, shows) } else { steps.to_vec() };
    println!("seed {seed} fails: {}: {}", violation.check, violation.reason);
    show(setting, &steps);
}

/// Prints a schedule with what comes of every step.
fn show(setting: Setting, steps: &[Step]) -> bool {
    let outcome = schedule::trace(setting, steps, &mut |step, applied, lines| {
        println!("{step}{}", if applied { "" } else { "    (does not apply)" });
        lines.iter().for_each(|line| println!("    {line}"));
    });
    match outcome {
        Ok(done) => println!("holds: {done:?}"),
        Err(violation) => {
            println!("{}: {}", violation.check, violation.reason);
            return false;
        }
    }
    true
}

/// Runs a schedule from a file: with the rule taken out that its header names, or none.
pub(crate) fn file(arguments: &Arguments, path: &Path) -> ExitCode {
    let Ok(text) = std::fs::read_to_string(path) else {
        eprintln!("{} cannot be read", path.display());
        return ExitCode::FAILURE;
    };
    let holds = match Witness::parse(&text) {
        Ok(witness) => {
            let mutant = if arguments.calm { None } else { witness.setting.mutant };
            show(witness.setting.with(mutant), &witness.steps)
        }
        Err(_) => match (schedule::parse(&text), setting(arguments)) {
            (Ok(steps), Ok(setting)) => show(setting, &steps),
            (Err(error), _) => {
                eprintln!("{error}");
                false
            }
            _ => false,
        },
    };
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Looks for witnesses of a rule taken out, or of all rules that have none yet, and writes the shortest. A witness that
/// is there already is shrunk, if that is possible.
pub(crate) fn witness(arguments: &Arguments, name: &str) -> ExitCode {
    let wanted: Vec<dace::Mutant> = match name {
        // Those of reconfiguration show in `crates/dace/tests/reconfigs.rs`: schedules are of one epoch.
        "all" => dace::Mutant::ALL
            .iter()
            .copied()
            .filter(|mutant| !path(*mutant).exists() && !dace::Mutant::OF_RECONFIG.contains(mutant))
            .collect(),
        name => match name.parse() {
            Ok(mutant) => vec![mutant],
            Err(reason) => {
                eprintln!("{reason}");
                return ExitCode::FAILURE;
            }
        },
    };
    let mut missing = 0;
    for mutant in wanted {
        if path(mutant).exists() {
            missing += usize::from(!shrink(&path(mutant)));
            continue;
        }
        let began = Instant::now();
        let found = shortest(arguments, mutant);
        let seconds = began.elapsed().as_secs_f64();
        let Some(found) = found else {
            missing += 1;
            println!("{mutant:30} no witness in {} schedules ({seconds:.1} s)", arguments.seeds());
            continue;
        };
        let Setting { replicas, faults, .. } = found.setting;
        let (check, reason) = (found.violation.check, found.violation.reason.replace('\n', " "));
        println!(
            "{mutant:30} {check}, n = {replicas}, f = {faults}, {} steps, seed {} ({seconds:.1} s)",
            found.steps.len(),
            found.seed
        );
        if let Err(error) = write(&found, reason.chars().take(300).collect()) {
            eprintln!("{}: {error}", path(mutant).display());
            return ExitCode::FAILURE;
        }
    }
    if missing == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Makes a witness shorter, and keeps what is said about it. False if it is none.
fn shrink(path: &Path) -> bool {
    let Some(witness) = std::fs::read_to_string(path).ok().and_then(|text| Witness::parse(&text).ok()) else {
        eprintln!("{} is no witness", path.display());
        return false;
    };
    let shows = |steps: &[Step]| Witness { steps: steps.to_vec(), ..witness.clone() }.verify().is_ok();
    if !shows(&witness.steps) {
        eprintln!("{} shows nothing", path.display());
        return false;
    }
    let steps = schedule::shrink(&witness.steps, shows);
    println!("{}: {} steps, and were {}", path.display(), steps.len(), witness.steps.len());
    std::fs::write(path, Witness { steps, ..witness }.text()).is_ok()
}

fn path(mutant: dace::Mutant) -> PathBuf {
    Path::new(WITNESSES).join(format!("{mutant}.txt"))
}

fn write(found: &Found, why: String) -> std::io::Result<()> {
    let Found { setting, steps, violation, .. } = found.clone();
    let witness = Witness { setting, check: violation.check.to_owned(), why, steps };
    let path = setting.mutant.map(path).unwrap_or_default();
    std::fs::create_dir_all(WITNESSES)?;
    std::fs::write(path, witness.text())
}

/// The shortest of the first few witnesses that are found within `--seeds` schedules. What is wrong for those who look
/// from outside says more than an assertion of the core.
fn shortest(arguments: &Arguments, mutant: dace::Mutant) -> Option<Found> {
    let groups: Vec<(usize, usize)> = match (arguments.nodes, arguments.faults) {
        (2.., faults) => vec![(arguments.nodes, faults.unwrap_or(1))],
        _ => GROUPS.to_vec(),
    };
    let within = |group: &(usize, usize), is_assertion: bool| {
        let setting = Setting { replicas: group.0, faults: group.1, mutant: Some(mutant) };
        first_few(setting, arguments, |violation| (violation.check == "assertion") == is_assertion)
    };
    let seen = groups.iter().find_map(|group| within(group, false));
    seen.or_else(|| groups.iter().find_map(|group| within(group, true)))
}

fn first_few(setting: Setting, arguments: &Arguments, wanted: impl Fn(&Violation) -> bool) -> Option<Found> {
    const FEW: usize = 3;
    let mut found: Vec<Found> = Vec::new();
    let (mut seed, end) = (arguments.seed, arguments.seed.saturating_add(arguments.seeds()));
    while found.len() < FEW
        && let Some(next) = search(setting, seed..end, &wanted)
    {
        seed = next.seed + 1;
        found.push(next);
    }
    found.into_iter().min_by_key(|found| found.steps.len())
}

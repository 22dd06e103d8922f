//! Groups that change in the timed world: they hold, everything happens that they are for, and the checks have teeth.
#![allow(clippy::unwrap_used)]

use dace::Mutant;
use sim::group::{Coverage, Options, catch, run};

/// Seeds of a default test run for each group; `cargo run --release -p sim -- --nodes 3 --reconfigs --seeds N` runs more.
const SEEDS: u64 = 15;

fn changing(seed: u64, nodes: usize, faults: usize) -> Options {
    Options { is_reconfigured: Some(true), ..Options::new(seed, nodes, faults) }
}

#[test]
fn groups_that_change_hold() {
    let mut met = Coverage::default();
    for (nodes, faults) in [(3, 1), (4, 1), (5, 1), (5, 2)] {
        for seed in 0..SEEDS {
            match run(changing(seed, nodes, faults)) {
                Ok(report) => met.add(&report.coverage),
                Err(failure) => panic!("n = {nodes}, f = {faults}, seed {seed}: {:?}", failure.violation),
            }
        }
    }
    // A world in which nothing changes holds, too.
    let runs = 4 * SEEDS;
    assert_eq!(met.reconfigured, runs);
    assert!(met.enters_by_execution > runs && met.enters_by_notice > runs / 2 && met.epochs_over > runs, "{met}");
    assert!(
        met.voided > runs / 2 && met.voided_again > 0 && met.reconfigs_void > 0 && met.members_removed > 0,
        "{met}"
    );
}

/// Replicas, faults survived and seed of runs that failed while this was built: members that waited for one another to
/// vouch for them; commands of an epoch that a snapshot passed by; an epoch that was over here and not there; a command
/// that was called void, and is in the state that was restored; a snapshot of an epoch that was over when its core would
/// have started; a command that was called void, and is in the state that was installed, decided far below where it was proposed.
const FOUND: &[(usize, usize, u64)] = &[
    (5, 2, 8_100_492),
    (5, 2, 3),
    (3, 1, 108),
    (3, 1, 113),
    (3, 1, 131),
    (3, 1, 174),
    (5, 2, 124),
    (5, 2, 134),
    (5, 2, 137),
    (3, 1, 70_038),
    (3, 1, 410_227),
    (3, 1, 410_250),
    (3, 1, 530_211),
];

#[test]
fn seeds_that_found_something_hold() {
    for (nodes, faults, seed) in FOUND.iter().copied() {
        if let Err(failure) = run(changing(seed, nodes, faults)) {
            panic!("n = {nodes}, f = {faults}, seed {seed}: {:?}", failure.violation);
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let options = Options { trace: true, ..changing(7, 3, 1) };
    let (once, twice) = (run(options).unwrap(), run(options).unwrap());
    assert_eq!(once, twice);
    assert!(once.coverage.reconfigs_proposed > 0);
    assert_ne!(run(Options { is_reconfigured: Some(false), ..options }).unwrap().digest, once.digest);
}

/// Those that show within a few seeds; `--mutants` looks for all of them.
#[test]
fn rules_of_reconfiguration_are_missed() {
    for mutant in [Mutant::NothingVoid, Mutant::ExecutesBeforeState, Mutant::CutNotForced, Mutant::StopsOnEnter] {
        let Some((options, violation)) = catch(mutant, &[(3, 1), (5, 2)], 20_000..20_040) else {
            panic!("{mutant} survives 40 seeds");
        };
        assert!(options.is_reconfigured == Some(true), "{violation:?}");
    }
}

/// Those about leases show as stale reads, in sieges in which the epoch ends under one. The first seed of each shows it as things
/// are; the others are there for when chance falls otherwise.
#[test]
fn rules_about_leases_in_reconfigurations_are_missed() {
    let rules = [
        (Mutant::ReconfigInNoZone, 20_010),
        (Mutant::LeasedReadAfterSeal, 20_011),
        (Mutant::LeaseOutlivesEpoch, 20_010),
    ];
    for (mutant, seed) in rules {
        let Some((options, violation)) = catch(mutant, &[(3, 1)], seed..seed + 100) else {
            panic!("{mutant} survives 100 seeds");
        };
        assert_eq!(violation.check, "serializability", "{mutant} in seed {}: {violation:?}", options.seed);
    }
}

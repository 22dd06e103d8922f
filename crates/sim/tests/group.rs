//! Groups hold, and a seed is a run: the same one twice is the same, byte for byte.
#![allow(clippy::unwrap_used)]

use sim::group::{Coverage, Options, run};

/// Seeds of a default test run for each group; `cargo run --release -p sim -- --nodes 3 --seeds N` runs more.
const SEEDS: u64 = 40;

#[test]
fn groups_hold() {
    for (nodes, faults) in [(2, 0), (3, 1), (4, 1), (5, 1), (5, 2), (7, 3)] {
        let mut met = Coverage::default();
        for seed in 0..SEEDS {
            match run(Options::new(seed, nodes, faults)) {
                Ok(report) => met.add(&report.coverage),
                Err(failure) => panic!(
                    "seed {seed}: {}: {}\nsee it again: cargo run --release -p sim -- --nodes {nodes} --faults {faults} \
                     --seed {seed} --trace",
                    failure.violation.check, failure.violation.reason
                ),
            }
        }
        // A world in which nothing happens holds, too.
        assert!(met.commands > 40 * SEEDS && met.crashes > 2 * SEEDS && met.events() > 800 * SEEDS, "{met}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in [1, 2, 3] {
        let options = Options { trace: true, ..Options::new(seed, 3, 1) };
        let (once, twice) = (run(options).unwrap(), run(options).unwrap());
        assert_eq!(once.lines, twice.lines);
        assert_eq!(once, twice);
        assert!(once.lines.len() > 1000);
        let untraced = run(Options::new(seed, 3, 1)).unwrap();
        assert_eq!(untraced.digest, once.digest, "tracing changes nothing");
        assert_ne!(run(Options::new(seed + 100, 3, 1)).unwrap().digest, once.digest);
    }
}

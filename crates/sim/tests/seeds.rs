//! Seeds hold, and a seed is a run: the same one twice is the same, byte for byte.
#![allow(clippy::unwrap_used)]

use sim::Options;

/// Seeds of a default test run; `cargo run --release -p sim -- --seeds N` runs more.
const SEEDS: u64 = 200;

#[test]
fn seeds_hold() {
    let (mut acked, mut crashes, mut checkpoints) = (0, 0, 0);
    for seed in 0..SEEDS {
        match sim::run(Options::new(seed)) {
            Ok(report) => {
                acked += report.acked;
                crashes += report.crashes;
                checkpoints += report.checkpoints;
            }
            Err(failure) => panic!(
                "seed {seed}: {}\nsee it again: cargo run --release -p sim -- --seed {seed} --trace",
                failure.reason
            ),
        }
    }
    // A world in which nothing happens holds, too.
    assert!(acked > 20 * SEEDS && crashes > 2 * SEEDS && checkpoints > SEEDS, "{acked} {crashes} {checkpoints}");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in [1, 2, 3] {
        let options = Options { trace: true, ..Options::new(seed) };
        let (once, twice) = (sim::run(options).unwrap(), sim::run(options).unwrap());
        assert_eq!(once.lines, twice.lines);
        assert_eq!(once, twice);
        assert!(once.lines.len() > 100);
        let untraced = sim::run(Options::new(seed)).unwrap();
        assert_eq!(untraced.digest, once.digest, "tracing changes nothing");
        assert_ne!(sim::run(Options::new(seed + 100)).unwrap().digest, once.digest);
    }
}

//! Schedules drawn by chance hold, and the same seed draws and does the same.

use sim::schedule::{Done, Setting, draw, run};

/// Schedules of a default test run for each group; `cargo run --release -p sim -- --schedules N` runs more.
const SCHEDULES: u64 = 150;

#[test]
fn schedules_hold() {
    for (replicas, faults) in [(3, 1), (4, 1), (5, 2)] {
        let mut met = Done::default();
        for seed in 0..SCHEDULES {
            let (_, outcome) = draw(Setting::new(replicas, faults), seed);
            match outcome {
                Ok(done) => met.add(&done),
                Err(violation) => panic!(
                    "seed {seed}: {}: {}\nsee it again, made small: cargo run --release -p sim -- --nodes {replicas} --faults \
                     {faults} --seed {seed} --schedules 1",
                    violation.check, violation.reason
                ),
            }
        }
        // A world in which nothing happens holds, too.
        let recovered: u64 = met.decided[3..].iter().sum();
        assert!(met.executed > 100 && met.cuts > 100 && met.reads > 20 && recovered > 50, "{met:?}");
    }
}

#[test]
fn the_same_seed_draws_and_does_the_same() {
    let setting = Setting::new(3, 1);
    for seed in 0..20 {
        let ((once, did), (twice, again)) = (draw(setting, seed), draw(setting, seed));
        assert_eq!(once, twice);
        assert_eq!(did, again);
        assert_eq!(run(setting, &once), did, "what did not apply when it was drawn was left out, and changes nothing");
    }
}

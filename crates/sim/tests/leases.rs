//! Leases in the world of groups: clocks beyond the bound are noticed, and so is a reader beside the loop that looks in a
//! wrong order.
#![allow(clippy::unwrap_used)]

use sim::group::{Coverage, Defect, Drift, Options, catch_defect, catch_drift, run};

#[test]
fn leases_hold_and_are_used() {
    let mut met = Coverage::default();
    for seed in 3000..3040 {
        let options = Options { is_leased: true, ..Options::new(seed, 3, 1) };
        match run(options) {
            Ok(report) => met.add(&report.coverage),
            Err(failure) => panic!("seed {seed}: {:?}", failure.violation),
        }
    }
    // A world in which nobody holds a lease holds, too.
    assert!(met.leased == 40 && met.looks > 40 && met.sieges > 40 && met.leased_listings > 10, "{met}");
}

#[test]
fn a_clock_beyond_the_bound_is_noticed() {
    let (options, violation) = catch_drift(&[(3, 1)], 1000..1200).expect("a stale read under a lease that is over");
    assert_eq!(violation.check, "serializability", "seed {}: {violation:?}", options.seed);
    assert_eq!(options.drift, Drift::Beyond);
    let again = run(options).expect_err("the same seed is the same run");
    assert_eq!(again.violation, violation);
}

#[test]
fn defects_of_readers_are_caught() {
    for (defect, seeds) in READERS {
        let Some((options, violation)) = catch_defect(defect, &[(3, 1)], seeds) else {
            panic!("{defect} survives");
        };
        assert!(defect.shows_as().contains(&violation.check), "{defect} in seed {}: {violation:?}", options.seed);
    }
}

/// Where each is looked for: the first seeds in which it shows are not far from the first of these.
const READERS: [(Defect, core::ops::Range<u64>); 2] =
    [(Defect::PublishesLate, 1000..1100), (Defect::DeadlineLookedAtOnce, 3010..3030)];

/// For a read of one key it does not matter on which side of the pending writes the clock is looked at.
#[test]
fn the_clock_may_be_looked_at_first() {
    for seed in 3000..3040 {
        let defect = Some(Defect::LeaseBeforePending);
        let options = Options { is_leased: true, defect, ..Options::new(seed, 3, 1) };
        if let Err(failure) = run(options) {
            panic!("seed {seed}: {:?}", failure.violation);
        }
    }
}

//! Where nothing breaks and regions do not contend, an answer takes the round trip to the nearest quorum and three
//! flushes: never less, and never noticeably more.
#![allow(clippy::unwrap_used)]

use sim::latency::{Load, Regions, Scenario};

#[test]
fn an_answer_takes_one_round_trip_and_three_flushes() {
    for regions in [Regions::gcp(3), Regions::aws(5)] {
        let load = Load::Apart { gap_ns: 200_000_000 };
        let scenario = Scenario::new(regions, 1, load, 500);
        let samples = scenario.run();
        assert_eq!(samples.count(), 500, "every command is answered");
        for (region, name) in scenario.regions.names.iter().enumerate() {
            let (latencies, limit) = (samples.latencies_ns(region), scenario.limit_ns(region));
            let (least, most) = (*latencies.first().unwrap(), *latencies.last().unwrap());
            assert!(least >= limit, "{name}: {least} ns, below the limit of {limit} ns");
            assert!(most * 100 <= limit * 103, "{name}: {most} ns, the limit is {limit} ns");
        }
        assert_eq!(samples.costs.slow, 0, "f = 1 always takes the fast path");
    }
}

#[test]
fn the_same_scenario_measures_the_same() {
    let load = Load::OneSlot { gap_ns: 10_000_000 };
    let scenario = Scenario::new(Regions::aws(5), 2, load, 200);
    assert_eq!(scenario.run(), scenario.run());
    assert_ne!(scenario.run(), Scenario { seed: 1, ..scenario }.run());
}

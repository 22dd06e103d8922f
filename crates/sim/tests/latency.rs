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
fn a_home_answers_in_one_round_trip_at_any_rate() {
    for (regions, gap_ns) in [(Regions::gcp(3), 2_000_000), (Regions::gcp(3), 10_000_000), (Regions::aws(5), 2_000_000)]
    {
        let scenario = Scenario::new(regions, 1, Load::Home { gap_ns }, 1500);
        let ratios = scenario.run().ratios(|region| scenario.limit_ns(region));
        let mean = ratios.iter().sum::<f64>() / ratios.len() as f64;
        assert!(mean < 1.025, "{mean} of the limit at a command every {gap_ns} ns");
        let at_the_clock = Scenario { is_ahead: false, ..scenario.clone() };
        let slower = at_the_clock.run().ratios(|region| scenario.limit_ns(region));
        assert!(slower.iter().sum::<f64>() > ratios.iter().sum::<f64>(), "it is the way ahead that makes it so");
    }
}

#[test]
fn the_same_scenario_measures_the_same() {
    let load = Load::OneSlot { gap_ns: 10_000_000 };
    let scenario = Scenario::new(Regions::aws(5), 2, load, 200);
    assert_eq!(scenario.run(), scenario.run());
    assert_ne!(scenario.run(), Scenario { seed: 1, ..scenario }.run());
}

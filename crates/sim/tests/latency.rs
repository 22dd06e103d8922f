//! Where nothing breaks and regions do not contend, an answer takes the round trip to the nearest quorum and three
//! flushes: never less, and never noticeably more.
#![allow(clippy::unwrap_used)]

use sim::latency::{Change, Changing, Leases, Load, Regions, Scenario, Stall};

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

const TERM_NS: u64 = 2_000_000_000;

fn leased(regions: Regions, faults: usize, reads: usize, dies: Option<usize>) -> Scenario {
    let load = Load::Apart { gap_ns: 200_000_000 };
    let leases = Leases { term_ns: TERM_NS, reads, read_gap_ns: 1_000_000, dies };
    Scenario { leases: Some(leases), ..Scenario::new(regions, faults, load, 500) }
}

#[test]
fn a_leased_read_costs_no_message_and_a_write_the_way_to_the_farthest_holder() {
    for (regions, faults) in [(Regions::gcp(3), 1), (Regions::aws(5), 1), (Regions::aws(5), 2)] {
        let (quiet, read) = (leased(regions.clone(), faults, 0, None), leased(regions, faults, 5000, None));
        let (without, with) = (quiet.run(), read.run());
        assert_eq!(without.costs.bytes, with.costs.bytes, "reads send nothing");
        assert_eq!((without.costs.news, without.costs.beats), (with.costs.news, with.costs.beats));
        assert_eq!(with.reads.at_once + with.reads.waited_ns.len() as u64 + with.reads.not_held, 5000);
        assert_eq!(with.reads.not_held, 0, "nothing breaks, so leases are renewed in time");
        assert!(with.reads.at_once > 2000 && with.reads.waited_ns.len() > 100, "{:?}", with.reads.at_once);
        for (region, name) in read.regions.names.iter().enumerate() {
            let (latencies, limit) = (with.latencies_ns(region), read.leased_limit_ns(region));
            let (least, most) = (*latencies.first().unwrap(), *latencies.last().unwrap());
            assert!(least >= limit, "{name}: {least} ns, below the limit of {limit} ns");
            assert!(most * 100 <= limit * 105, "{name}: {most} ns, the limit is {limit} ns");
        }
    }
}

#[test]
fn a_dead_holder_stalls_its_zone_for_one_term_at_most() {
    for dies in 0..3 {
        let scenario = leased(Regions::gcp(3), 1, 0, Some(dies));
        let samples = scenario.run();
        let others: Vec<usize> = (0..3).filter(|region| *region != dies).collect();
        let longest = others.iter().map(|region| *samples.latencies_ns(*region).last().unwrap()).max().unwrap();
        let trip = others.iter().map(|region| scenario.leased_limit_ns(*region)).max().unwrap();
        assert!(longest > TERM_NS / 2, "it stalls: {longest}");
        // The last request may still be under way when its sender dies, and what was held back still has to be decided.
        assert!(longest <= TERM_NS + 2 * trip, "{longest} ns for a term of {TERM_NS} ns");
    }
}

/// A change of members stalls writes for less than two round trips at p50.
#[test]
fn a_change_of_members_stalls_writes_for_two_round_trips_at_most() {
    for regions in [Regions::gcp(3), Regions::aws(5)] {
        for (change, is_leased) in [
            (Change::Add, false),
            (Change::Remove, false),
            (Change::Replace, false),
            (Change::Add, true),
            (Change::Replace, true),
        ] {
            let mut ratios = Vec::new();
            for proposer in 0..regions.count() - 1 {
                let changing = Changing { regions: regions.clone(), change, proposer, is_leased, seed: 1 };
                ratios.extend(changing.run().iter().map(Stall::round_trips));
            }
            ratios.sort_by(f64::total_cmp);
            let p50 = ratios[ratios.len() / 2];
            assert!(p50 > 0.1, "{change:?}, leases {is_leased}: nothing stalls ({ratios:?})");
            assert!(p50 <= 2.0, "{change:?}, leases {is_leased}: {p50} round trips ({ratios:?})");
        }
    }
}

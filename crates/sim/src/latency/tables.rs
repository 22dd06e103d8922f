//! The tables of `docs/consensus.md`, as Markdown.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

use super::samples::percentile;
use super::{Change, Changing, FLUSH_NS, Gaps, Leases, Load, Regions, RegionsError, Samples, Scenario};

const MS: u64 = 1_000_000;

/// What the design says of one slot written from everywhere (section 11): gap in ms, mean of latency by limit. At 2 ms
/// it says "10 ms and below".
const ONE_SLOT: [(u64, f64); 5] = [(400, 1.05), (200, 1.1), (50, 1.4), (10, 1.9), (2, 1.9)];

/// Commands of a run.
const COMMANDS: usize = 2000;

/// All of them. Round trips come from the `rtt_*.csv` in `directory`, if one is given, else from those built in.
pub fn tables(directory: Option<&Path>) -> Result<String, RegionsError> {
    let from = |regions: Regions| match directory {
        Some(directory) => regions.read(directory),
        None => Ok(regions),
    };
    let sets = [
        (from(Regions::gcp(3))?, 1),
        (from(Regions::gcp(5))?, 1),
        (from(Regions::aws(3))?, 1),
        (from(Regions::aws(5))?, 1),
    ];
    let wide = [(from(Regions::gcp(5))?, 2), (from(Regions::aws(5))?, 2)];
    let seven = from(Regions::gcp(7))?;
    let mut out = String::new();
    let runs: Vec<(Scenario, Samples)> = sets
        .iter()
        .chain(&wide)
        .map(|(regions, faults)| {
            let load = Load::Apart { gap_ns: 200 * MS };
            let scenario = Scenario::new(regions.clone(), *faults, load, COMMANDS);
            let samples = scenario.run();
            (scenario, samples)
        })
        .collect();
    low_contention(&mut out, &runs);
    clocks(&mut out, &sets[0].0, &sets[3].0);
    one_slot(&mut out, &[&sets[0], &sets[1], &sets[2], &sets[3], &wide[1]]);
    bursts(&mut out);
    home(&mut out, &[&sets[0].0, &sets[3].0]);
    blocks(&mut out, &runs);
    costs(&mut out, &[&sets[0].0, &sets[1].0, &seven]);
    leases(&mut out, &runs);
    dead_holders(&mut out, &runs);
    changes(&mut out, &[&sets[0].0, &sets[3].0]);
    Ok(out)
}

/// A line of a table. Writing to a string cannot fail.
macro_rules! line {
    ($out:expr, $($format:tt)*) => { writeln!($out, $($format)*).expect("a string takes all") };
}

fn ms(ns: u64) -> f64 {
    ns as f64 / MS as f64
}

/// Changes of members, proposed in each region that stays, a few times.
fn changes(out: &mut String, sets: &[&Regions]) {
    line!(
        out,
        "\nA change of members. How much longer than usual the longest write of a region that stays took (ms; `x`: by a usual write there):\n"
    );
    line!(out, "| set | change | leases | to decide it, p50 | p50 | max | p50 x | max x |");
    line!(out, "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |");
    for regions in sets {
        for (change, is_leased) in [Change::Add, Change::Remove, Change::Replace]
            .into_iter()
            .flat_map(|change| [(change, false), (change, true)])
        {
            let (mut trips, mut stalls, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
            for (proposer, seed) in
                (0..regions.count() - 1).flat_map(|proposer| (0..10).map(move |seed| (proposer, seed)))
            {
                let changing = Changing { regions: (*regions).clone(), change, proposer, is_leased, seed };
                let trip = changing.round_trip_ns();
                trips.push(trip);
                for stall in changing.run() {
                    stalls.push(stall.ns());
                    ratios.push(stall.round_trips());
                }
            }
            trips.sort_unstable();
            stalls.sort_unstable();
            ratios.sort_by(f64::total_cmp);
            line!(
                out,
                "| {} | {change:?} | {} | {:.1} | {:.1} | {:.1} | {:.2} | {:.2} |",
                regions.title,
                if is_leased { "all" } else { "none" },
                ms(percentile(&trips, 50)),
                ms(percentile(&stalls, 50)),
                ms(percentile(&stalls, 100)),
                ratios[ratios.len() / 2],
                ratios[ratios.len() - 1],
            );
        }
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn title(scenario: &Scenario) -> String {
    format!("{}, f = {}", scenario.regions.title, scenario.faults)
}

fn low_contention(out: &mut String, runs: &[(Scenario, Samples)]) {
    line!(out, "Each region writes slots of its own, a command every 200 ms in the mean (ms; `x`: by the limit):\n");
    line!(out, "| set | region | p50 | max | limit | p50 x | max x | Raft: best leader | worst | one for all |");
    line!(out, "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for (scenario, samples) in runs {
        let regions = &scenario.regions;
        let home = regions.raft_home();
        for region in 0..regions.count() {
            let latencies = samples.latencies_ns(region);
            let (p50, max) = (percentile(&latencies, 50), percentile(&latencies, 100));
            let limit = scenario.limit_ns(region);
            let raft = |leader| regions.raft_ns(region, leader);
            let leaders = 0..regions.count();
            let (best, worst) = (leaders.clone().map(raft).min(), leaders.map(raft).max());
            line!(
                out,
                "| {} | {} | {:.1} | {:.1} | {:.1} | {:.3} | {:.3} | {:.1} | {:.1} | {:.1} |",
                title(scenario),
                regions.names[region],
                ms(p50),
                ms(max),
                ms(limit),
                ms(p50) / ms(limit),
                ms(max) / ms(limit),
                ms(best.unwrap_or_default()),
                ms(worst.unwrap_or_default()),
                ms(raft(home)),
            );
        }
    }
}

fn clocks(out: &mut String, three: &Regions, five: &Regions) {
    line!(
        out,
        "\nThe same with clocks that are wrong (every second one fast, the others slow), all regions together:\n"
    );
    line!(out, "| set | wrong by ms | p50 x | p99 x | max x |\n| --- | ---: | ---: | ---: | ---: |");
    for (regions, error_ms) in [three, five].into_iter().flat_map(|regions| [1, 10, 100].map(|error| (regions, error)))
    {
        let load = Load::Apart { gap_ns: 200 * MS };
        let mut scenario = Scenario::new(regions.clone(), 1, load, COMMANDS);
        scenario.clock_error_ns = error_ms * MS;
        let ratios = scenario.run().ratios(|region| scenario.limit_ns(region));
        let at = |percent| percentile(&ratios, percent);
        line!(out, "| {} | {error_ms} | {:.3} | {:.3} | {:.3} |", title(&scenario), at(50), at(99), at(100));
    }
}

fn one_slot(out: &mut String, sets: &[&(Regions, usize)]) {
    line!(out, "\nOne slot from all regions, latency by limit:\n");
    line!(out, "| set | gap ms | mean | p99 | max | fast path | design: mean |");
    line!(out, "| --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    for (regions, faults) in sets {
        for (gap_ms, design) in ONE_SLOT {
            let load = Load::OneSlot { gap_ns: gap_ms * MS };
            let scenario = Scenario::new(regions.clone(), *faults, load, COMMANDS);
            let samples = scenario.run();
            let ratios = samples.ratios(|region| scenario.limit_ns(region));
            let costs = samples.costs;
            let fast = costs.fast as f64 * 100.0 / (costs.fast + costs.slow).max(1) as f64;
            let (mean, at) = (mean(&ratios), |percent| percentile(&ratios, percent));
            let design = if *faults == 1 { design.to_string() } else { String::from("-") };
            line!(
                out,
                "| {} | {gap_ms} | {mean:.2} | {:.2} | {:.2} | {fast:.0}% | {design} |",
                title(&scenario),
                at(99),
                at(100)
            );
        }
    }
}

/// The workload of the design's estimate: runs of 29 commands from rest, even gaps.
fn bursts(out: &mut String) {
    line!(out, "\nOne slot from all regions, 29 commands from rest, even gaps, latency by limit:\n");
    line!(out, "| set | gap ms | mean | p99 | max | mean, promise 110 ms behind | design: mean |");
    line!(out, "| --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    for count in [3, 5] {
        for (gap_ms, design) in ONE_SLOT {
            let mut scenario = Scenario::new(Regions::design(count), 1, Load::OneSlot { gap_ns: gap_ms * MS }, 29);
            scenario.gaps = Gaps::Uniform;
            scenario.clock_error_ns = MS;
            let ratios = |scenario: &mut Scenario| {
                let mut samples = Samples::default();
                for seed in 0..100 {
                    scenario.seed = seed;
                    samples.extend(&scenario.run());
                }
                samples.ratios(|region| scenario.limit_ns(region))
            };
            let now = ratios(&mut scenario);
            scenario.promise_lag_ns = Some(110 * MS);
            let behind = mean(&ratios(&mut scenario));
            let (mean, at) = (mean(&now), |percent| percentile(&now, percent));
            let title = title(&scenario);
            line!(out, "| {title} | {gap_ms} | {mean:.2} | {:.2} | {:.2} | {behind:.2} | {design} |", at(99), at(100));
        }
    }
}

/// One slot with a home.
fn home(out: &mut String, sets: &[&Regions]) {
    line!(out, "\nOne slot written by one region, latency by limit; and the same if it proposed at its clock:\n");
    line!(out, "| set | gap ms | mean | p99 | max | mean, at the clock | max, at the clock |");
    line!(out, "| --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    for (regions, gap_ms) in sets.iter().flat_map(|regions| [400, 10, 2].map(|gap_ms| (*regions, gap_ms))) {
        let load = Load::Home { gap_ns: gap_ms * MS };
        let mut scenario = Scenario::new(regions.clone(), 1, load, COMMANDS);
        let ratios = |scenario: &Scenario| scenario.run().ratios(|region| scenario.limit_ns(region));
        let ahead = ratios(&scenario);
        scenario.is_ahead = false;
        let at_the_clock = ratios(&scenario);
        line!(
            out,
            "| {} | {gap_ms} | {:.3} | {:.3} | {:.3} | {:.3} | {:.3} |",
            title(&scenario),
            mean(&ahead),
            percentile(&ahead, 99),
            percentile(&ahead, 100),
            mean(&at_the_clock),
            percentile(&at_the_clock, 100)
        );
    }
}

fn blocks(out: &mut String, runs: &[(Scenario, Samples)]) {
    line!(out, "\nFrom the answer to the block that holds the command, at the coordinator (ms):\n");
    line!(
        out,
        "| set | region | a command in 5 s: p50 | p99 | in 200 ms: p50 | p99 | one way to the nearest majority |"
    );
    line!(out, "| --- | --- | ---: | ---: | ---: | ---: | ---: |");
    for (scenario, busy) in runs {
        let regions = &scenario.regions;
        let rare = Scenario { load: Load::Apart { gap_ns: 5000 * MS }, commands: 500, ..scenario.clone() }.run();
        for region in 0..regions.count() {
            let at = |samples: &Samples, percent| {
                let mut cuts = samples.cuts_ns[region].clone();
                cuts.sort_unstable();
                ms(percentile(&cuts, percent))
            };
            let way = ms(regions.nearest_ns(region, regions.count() / 2) / 2);
            line!(
                out,
                "| {} | {} | {:.1} | {:.1} | {:.1} | {:.1} | {way:.1} |",
                title(scenario),
                regions.names[region],
                at(&rare, 50),
                at(&rare, 99),
                at(busy, 50),
                at(busy, 99),
            );
        }
    }
}

fn costs(out: &mut String, sets: &[&Regions]) {
    line!(out, "\nPer command of 256 bytes, f = 1, by the rate of each region:\n");
    line!(
        out,
        "| n | commands/s a region | sends with news | beats alone | bytes sent | entries said | entries kept | core events | \
         core events/s | mean x |"
    );
    line!(out, "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for regions in sets {
        for (gap_ns, commands) in [(200 * MS, COMMANDS), (MS, 10 * COMMANDS), (MS / 4, 10 * COMMANDS)] {
            let scenario = Scenario::new((*regions).clone(), 1, Load::Apart { gap_ns }, commands);
            let began = Instant::now();
            let samples = scenario.run();
            let seconds = began.elapsed().as_secs_f64();
            let (costs, count) = (samples.costs, samples.count().max(1) as f64);
            let each = |total: u64| total as f64 / count;
            let ratios = samples.ratios(|region| scenario.limit_ns(region));
            line!(
                out,
                "| {} | {} | {:.1} | {:.1} | {:.0} | {:.1} | {:.1} | {:.1} | {:.0} | {:.3} |",
                regions.count(),
                1000 * MS / gap_ns,
                each(costs.news),
                each(costs.beats),
                each(costs.bytes),
                each(costs.said),
                each(costs.kept),
                each(costs.events),
                costs.events as f64 / seconds,
                mean(&ratios),
            );
        }
    }
    line!(out, "\nA flush takes {} ms.", FLUSH_NS / MS);
}

/// What everybody's lease of everything means for reads and for writes.
fn leases(out: &mut String, runs: &[(Scenario, Samples)]) {
    line!(out, "\nEvery replica holds the lease of everything; reads of the slot that was written last:\n");
    line!(
        out,
        "| set | reads at once | waited: p50 ms | max ms | not held | sends, without a read | with reads | write p50 x | max x |"
    );
    line!(out, "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for (scenario, _) in runs {
        let leases = Leases { term_ns: TERM_NS, reads: 0, read_gap_ns: MS, dies: None };
        let with = |reads| Scenario { leases: Some(Leases { reads, ..leases }), ..scenario.clone() };
        let (without, with) = (with(0).run(), with(20_000).run());
        let mut waited = with.reads.waited_ns.clone();
        waited.sort_unstable();
        let ratios = with.ratios(|region| scenario.leased_limit_ns(region));
        line!(
            out,
            "| {} | {} | {:.1} | {:.1} | {} | {} | {} | {:.3} | {:.3} |",
            title(scenario),
            with.reads.at_once,
            ms(percentile(&waited, 50)),
            ms(percentile(&waited, 100)),
            with.reads.not_held,
            without.costs.news + without.costs.beats,
            with.costs.news + with.costs.beats,
            percentile(&ratios, 50),
            percentile(&ratios, 100),
        );
    }
}

/// How long a grant runs in these tables.
const TERM_NS: u64 = 2000 * MS;

/// How long a holder that dies stalls the others.
fn dead_holders(out: &mut String, runs: &[(Scenario, Samples)]) {
    line!(out, "\nThe same, and the replica of one region dies; D = {} ms:\n", TERM_NS / MS);
    line!(out, "| set | dies | longest write elsewhere, ms | by D | longest limit, ms |");
    line!(out, "| --- | --- | ---: | ---: | ---: |");
    for (scenario, _) in runs {
        for dies in 0..scenario.regions.count() {
            let leases = Leases { term_ns: TERM_NS, reads: 0, read_gap_ns: MS, dies: Some(dies) };
            let samples = Scenario { leases: Some(leases), ..scenario.clone() }.run();
            let others = (0..scenario.regions.count()).filter(|region| *region != dies);
            let limit = others.clone().map(|region| scenario.leased_limit_ns(region)).max().unwrap_or(0);
            let longest = others.filter_map(|region| samples.latencies_ns(region).last().copied()).max().unwrap_or(0);
            let name = &scenario.regions.names[dies];
            let by_term = longest as f64 / TERM_NS as f64;
            line!(out, "| {} | {name} | {:.1} | {by_term:.3} | {:.1} |", title(scenario), ms(longest), ms(limit));
        }
    }
}

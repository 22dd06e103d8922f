//! Where the demo's regions lie: measured round trips, and what they allow.

use std::time::Duration;

use crate::exit::Failure;
use crate::settings::nearest;

/// The regions that the demo starts if none are named.
pub(super) const DEFAULT: [&str; 3] = ["us-east4", "europe-west2", "asia-northeast1"];
const TABLE: &str = include_str!("rtt_gcp.csv");

/// The regions of a demo and the round trips between them.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Regions {
    pub(super) names: Vec<&'static str>,
    /// In milliseconds, by the places of both in `names`.
    round_trips_ms: Vec<Vec<f64>>,
}

/// What writes would cost if all were ordered by one leader.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Leader {
    /// Its place among the regions.
    pub(super) place: usize,
    /// For a client in each region, in milliseconds.
    pub(super) costs_ms: Vec<f64>,
}

impl Regions {
    /// Three or five different regions of the table.
    pub(super) fn choose(names: &[String]) -> Result<Self, Failure> {
        let table = Table::read();
        if names.len() != 3 && names.len() != 5 {
            return Err(Failure::usage(format!(
                "--regions names {} regions; name three or five of: {}",
                names.len(),
                table.names.join(", ")
            )));
        }
        let mut places = Vec::new();
        for name in names {
            let place = table.place(name)?;
            if places.contains(&place) {
                return Err(Failure::usage(format!("--regions names {name} twice; name each once")));
            }
            places.push(place);
        }
        let row = |from: &usize| places.iter().map(|to| table.round_trips_ms[*from][*to]).collect();
        Ok(Self {
            names: places.iter().map(|place| table.names[*place]).collect(),
            round_trips_ms: places.iter().map(row).collect(),
        })
    }

    /// From one region to another: half the round trip.
    pub(super) fn one_way(&self, from: usize, to: usize) -> Duration {
        Duration::from_secs_f64(self.round_trips_ms[from][to] / 2000.0)
    }

    /// No write can be safe sooner: the round trip to the nearest others that make a majority with this region.
    pub(super) fn limit_ms(&self, region: usize) -> f64 {
        let mut round_trips = self.round_trips_ms[region].clone();
        // The region itself comes first, at 0.
        round_trips.sort_by(f64::total_cmp);
        round_trips[self.names.len() / 2]
    }

    /// The leader that makes the mean over all regions least: a write goes to it, and it waits for its majority.
    pub(super) fn best_leader(&self) -> Leader {
        let led_by = |place: usize| {
            let cost = |region: usize| self.round_trips_ms[region][place] + self.limit_ms(place);
            Leader { place, costs_ms: (0..self.names.len()).map(cost).collect() }
        };
        let total = |leader: &Leader| leader.costs_ms.iter().sum::<f64>();
        (1..self.names.len())
            .map(led_by)
            .fold(led_by(0), |best, other| if total(&other) < total(&best) { other } else { best })
    }
}

/// The whole table.
struct Table {
    names: Vec<&'static str>,
    round_trips_ms: Vec<Vec<f64>>,
}

impl Table {
    /// The table is part of the program, and a test reads all of it.
    fn read() -> Self {
        let mut lines = TABLE.lines().filter(|line| !line.starts_with('#'));
        let names = lines.next().map(|head| head.split(',').skip(1).collect()).unwrap_or_default();
        let row = |line: &str| line.split(',').skip(1).map(|cell| cell.parse().unwrap_or(f64::NAN)).collect();
        Self { names, round_trips_ms: lines.map(row).collect() }
    }

    fn place(&self, name: &str) -> Result<usize, Failure> {
        self.names.iter().position(|known| *known == name).ok_or_else(|| {
            let known = self.names.join(", ");
            Failure::usage(match nearest(name, self.names.iter().copied()) {
                Some(meant) => {
                    format!("--regions: no region is called {name:?}; did you mean {meant}? There are {known}")
                }
                None => format!("--regions: no region is called {name:?}; there are {known}"),
            })
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn choose(names: &[&str]) -> Result<Regions, Failure> {
        Regions::choose(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn the_table_is_square_and_symmetric() {
        let table = Table::read();
        assert_eq!((table.names.len(), table.round_trips_ms.len()), (12, 12));
        for (from, row) in table.round_trips_ms.iter().enumerate() {
            assert_eq!(row.len(), 12);
            for (to, cell) in row.iter().enumerate() {
                assert!(*cell >= 0.0 && (*cell == 0.0) == (from == to), "{from} to {to}: {cell}");
                assert!((cell - table.round_trips_ms[to][from]).abs() < 1e-9, "{from} to {to}");
            }
        }
    }

    #[test]
    fn limits_and_leaders_of_three_and_five() {
        let three = choose(&DEFAULT).unwrap();
        assert_eq!([0, 1, 2].map(|region| three.limit_ms(region)), [75.6, 75.6, 146.4]);
        assert_eq!(three.one_way(0, 2), Duration::from_micros(73_200));
        let leader = three.best_leader();
        assert_eq!(leader.place, 0);
        assert_eq!(leader.costs_ms, [75.6, 151.2, 222.0]);
        let five = choose(&["us-west1", "us-east4", "europe-west2", "asia-south1", "asia-northeast1"]).unwrap();
        assert_eq!(five.limit_ms(0), 88.3, "us-east4, then asia-northeast1");
    }

    #[test]
    fn what_is_no_choice_is_refused_with_advice() {
        for (names, complaint) in [
            (&["us-east4", "europe-west2"][..], "names 2 regions; name three or five of: us-west1, "),
            (&["us-east4", "europe-west2", "us-east4"], "names us-east4 twice"),
            (&["us-east4", "europe-west2", "asia-northeast"], "did you mean asia-northeast1?"),
            (&["us-east4", "europe-west2", "xyzzy"], "no region is called \"xyzzy\"; there are us-west1, "),
        ] {
            let refused = choose(names).unwrap_err();
            assert!(refused.sentence.contains(complaint), "{refused}");
            assert_eq!(refused.exit, crate::exit::Exit::Usage);
        }
    }
}

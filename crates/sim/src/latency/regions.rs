//! Regions and the round trips between them.

use std::path::Path;

/// Microseconds between two regions there and back, and what follows from that alone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Regions {
    /// How a table calls the set.
    pub title: String,
    /// Their names.
    pub names: Vec<String>,
    rtt_us: Vec<Vec<u64>>,
}

/// Why a matrix could not be used.
#[derive(Debug)]
pub enum RegionsError {
    /// The file cannot be read.
    File {
        /// The file.
        file: String,
        /// Why.
        error: std::io::Error,
    },
    /// A region of the set is missing, or its figure is none.
    Missing {
        /// One region.
        from: String,
        /// Another.
        to: String,
    },
}

impl std::fmt::Display for RegionsError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File { file, error } => write!(formatter, "{file}: {error}"),
            Self::Missing { from, to } => write!(formatter, "the round trip from {from} to {to} is not in the matrix"),
        }
    }
}

impl std::error::Error for RegionsError {}

/// Mean round trips in tenths of a millisecond between Google Cloud regions: folder `latency_gcp` of the public
/// repository vitorenesduarte/fantoch (2020), the two directions averaged.
const GCP: (&[&str], &[&[u64]]) = (
    &[
        "us-east4",
        "europe-west2",
        "asia-northeast1",
        "us-west1",
        "asia-southeast1",
        "southamerica-east1",
        "australia-southeast1",
    ],
    &[
        &[0, 756, 1464, 620, 2114, 1294, 1960],
        &[756, 0, 2147, 1260, 2808, 2030, 2655],
        &[1464, 2147, 0, 883, 676, 2598, 1141],
        &[620, 1260, 883, 0, 1517, 1718, 1615],
        &[2114, 2808, 676, 1517, 0, 3234, 918],
        &[1294, 2030, 2598, 1718, 3234, 0, 3027],
        &[1960, 2655, 1141, 1615, 918, 3027, 0],
    ],
);

/// The same between AWS regions: folder `latency_aws/2020_06_05` of that repository.
const AWS: (&[&str], &[&[u64]]) = (
    &["us-east-1", "eu-west-1", "ap-northeast-1", "us-west-2", "eu-central-1"],
    &[
        &[0, 705, 1524, 725, 856],
        &[705, 0, 2044, 1273, 238],
        &[1524, 2044, 0, 1009, 2439],
        &[725, 1273, 1009, 0, 1576],
        &[856, 238, 2439, 1576, 0],
    ],
);

/// The regions for which the design's figures were estimated.
const DESIGN: (&[&str], &[&[u64]]) = (
    &["a", "c", "d", "b", "e"],
    &[
        &[0, 750, 1500, 620, 2150],
        &[750, 0, 2100, 1300, 1700],
        &[1500, 2100, 0, 1050, 700],
        &[620, 1300, 1050, 0, 1650],
        &[2150, 1700, 700, 1650, 0],
    ],
);

impl Regions {
    /// Three or five regions with the round trips for which the design's figures were estimated.
    #[must_use]
    pub fn design(count: usize) -> Self {
        Self::built_in("Design", DESIGN, count)
    }

    /// The first `count` of seven Google Cloud regions.
    #[must_use]
    pub fn gcp(count: usize) -> Self {
        Self::built_in("GCP", GCP, count)
    }

    /// The first `count` of five AWS regions.
    #[must_use]
    pub fn aws(count: usize) -> Self {
        Self::built_in("AWS", AWS, count)
    }

    fn built_in(cloud: &str, (names, tenths): (&[&str], &[&[u64]]), count: usize) -> Self {
        Self {
            title: format!("{cloud}, n = {count}"),
            names: names[..count].iter().map(|name| (*name).to_owned()).collect(),
            rtt_us: tenths[..count].iter().map(|row| row[..count].iter().map(|tenth| tenth * 100).collect()).collect(),
        }
    }

    /// The same regions with the round trips of `rtt_gcp.csv` or `rtt_aws.csv` in `directory`: regions in the first
    /// line and the first column, milliseconds between them.
    pub fn read(self, directory: &Path) -> Result<Self, RegionsError> {
        let cloud = if self.title.starts_with("GCP") { "gcp" } else { "aws" };
        let file = directory.join(format!("rtt_{cloud}.csv"));
        let text = std::fs::read_to_string(&file)
            .map_err(|error| RegionsError::File { file: file.display().to_string(), error })?;
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').map(str::trim).collect()).collect();
        let cell = |from: &String, to: &String| {
            let column = rows.first()?.iter().position(|name| name == to)?;
            let row = rows.iter().find(|row| row.first() == Some(&from.as_str()))?;
            let ms: f64 = row.get(column)?.parse().ok()?;
            Some((ms * 1000.0).round() as u64)
        };
        let trip = |from: &String, to: &String| {
            cell(from, to).ok_or_else(|| RegionsError::Missing { from: from.clone(), to: to.clone() })
        };
        let rows = self.names.iter().map(|from| self.names.iter().map(|to| trip(from, to)).collect());
        let rtt_us = rows.collect::<Result<_, _>>()?;
        Ok(Self { rtt_us, ..self })
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> usize {
        self.names.len()
    }

    /// There and back.
    #[must_use]
    pub fn round_trip_ns(&self, a: usize, b: usize) -> u64 {
        self.rtt_us[a][b] * 1000
    }

    /// One way: half of that.
    #[must_use]
    pub fn one_way_ns(&self, a: usize, b: usize) -> u64 {
        self.rtt_us[a][b] * 500
    }

    /// The other regions, the nearest first.
    #[must_use]
    pub fn nearest(&self, region: usize) -> Vec<usize> {
        let mut others: Vec<usize> = (0..self.count()).filter(|other| *other != region).collect();
        others.sort_by_key(|other| self.rtt_us[region][*other]);
        others
    }

    /// The round trip to the `others`-th nearest of the others.
    #[must_use]
    pub fn nearest_ns(&self, region: usize, others: usize) -> u64 {
        self.round_trip_ns(region, self.nearest(region)[others - 1])
    }

    /// A write of a client in `region` with a Raft leader in `leader`: to it and back, its round trip to the nearest
    /// majority, and one flush, the follower's: the leader's own runs while the entry travels.
    #[must_use]
    pub fn raft_ns(&self, region: usize, leader: usize) -> u64 {
        self.round_trip_ns(region, leader) + self.nearest_ns(leader, self.count() / 2) + super::FLUSH_NS
    }

    /// The leader with the lowest mean over all regions.
    #[must_use]
    pub fn raft_home(&self) -> usize {
        let total = |leader: &usize| (0..self.count()).map(|region| self.raft_ns(region, *leader)).sum::<u64>();
        (0..self.count()).min_by_key(total).expect("a set has regions")
    }
}

//! What kind of world a seed gives: distances, disks, clocks, timers, and which faults there are (swarm
//! testing: what is rare in one run is common in another).

use super::queue::MS;
use crate::latency::Regions;
use crate::random::Random;

/// The kinds of faults.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Fault {
    /// A process ends, and starts again after a while.
    Crash,
    /// Every process ends at once.
    CrashAll,
    /// A process stops for a while, and does not know it.
    Pause,
    /// A stream breaks.
    Break,
    /// Nothing passes in one direction.
    OneWay,
    /// Two sides do not hear each other.
    Partition,
    /// A machine is heard and hears nothing.
    HalfDeaf,
    /// A link is slow.
    SlowLink,
    /// A disk is slow.
    SlowDisk,
    /// A disk is full: the next flush fails.
    FullDisk,
    /// A wall clock is set forth or back.
    Jump,
    /// An oscillator changes its rate.
    Drift,
    /// A machine is gone for good.
    Gone,
    /// A disk is replaced by an older copy of itself.
    RollBack,
    /// The nearest quorum is another one.
    Prefer,
    /// Someone is suspected wrongly.
    Suspect,
}

impl Fault {
    /// All kinds.
    pub(crate) const ALL: [Self; 16] = [
        Self::Crash,
        Self::CrashAll,
        Self::Pause,
        Self::Break,
        Self::OneWay,
        Self::Partition,
        Self::HalfDeaf,
        Self::SlowLink,
        Self::SlowDisk,
        Self::FullDisk,
        Self::Jump,
        Self::Drift,
        Self::Gone,
        Self::RollBack,
        Self::Prefer,
        Self::Suspect,
    ];
}

/// What a seed decides before anything happens.
pub(crate) struct Plan {
    /// One-way delays in ns.
    pub(crate) delays: Vec<Vec<u64>>,
    /// They are those between regions of a cloud.
    pub(crate) is_earthly: bool,
    /// In per mille of the delay.
    pub(crate) jitter: u64,
    /// Datagrams lost and doubled, of 1000.
    pub(crate) loss: u64,
    pub(crate) doubling: u64,
    /// A flush takes between the two, in ns.
    pub(crate) flush: (u64, u64),
    /// How long a driver waits for more before it sends, in ns.
    pub(crate) ship: u64,
    /// Between beats while there is something to tell.
    pub(crate) beat: u64,
    pub(crate) checkpoint: u64,
    pub(crate) hints: u64,
    /// How long a silence makes suspect.
    pub(crate) silence: u64,
    /// Time-outs of the cores in the storm.
    pub(crate) give_up: u64,
    pub(crate) recover: u64,
    /// The same before and after it, long enough for anything.
    pub(crate) calm_give_up: u64,
    pub(crate) calm_recover: u64,
    pub(crate) fetch: u64,
    pub(crate) read: u64,
    pub(crate) promise_lag: u64,
    /// How far ahead of the clock a busy coordinator proposes.
    pub(crate) ahead: u64,
    pub(crate) clients: usize,
    pub(crate) operations: u64,
    /// Between an answer and the next ask.
    pub(crate) think: u64,
    /// How long a client waits before it gives up.
    pub(crate) patience: u64,
    /// How long faults happen at most.
    pub(crate) storm: u64,
    /// Mean time between faults.
    pub(crate) calm: u64,
    /// How long most of them last.
    pub(crate) fault_len: u64,
    /// Weights of [`Fault::ALL`].
    pub(crate) faults: [u64; Fault::ALL.len()],
}

impl Plan {
    /// The plan of a seed.
    pub(crate) fn new(seed: u64, nodes: usize, faults: usize, is_calm: bool) -> Self {
        let mut random = Random::new(seed, "group plan");
        let drawn = delays(&mut random, nodes);
        let measured = regions(seed, nodes);
        let is_earthly = measured.is_some();
        let delays = measured.unwrap_or(drawn);
        let longest = delays.iter().flatten().copied().max().unwrap_or(MS);
        let base = longest.max(2 * MS);
        let flush_least = *random.pick(&[MS / 10, MS / 2, MS]);
        let flush_most = flush_least * *random.pick(&[1, 2, 8, 40]);
        let trip = 2 * base + 3 * flush_most;
        let usual = [10, 1, 5, 6, 4, 4, 3, 4, 3, 2, 4, 3, 1, 5, 6, 6];
        let mut weights = usual.map(|weight| if random.one_in(3) { 0 } else { weight * (1 + random.below(3)) });
        if is_calm || random.one_in(20) {
            weights = [0; Fault::ALL.len()];
        }
        // In some runs nobody waits for anybody: recoveries meet commits, and one another, all the time.
        let is_hasty = random.one_in(3);
        let haste = |usual: u64| if is_hasty { usual / 8 + MS / 10 } else { usual };
        let promise_lag = if faults <= 1 { 0 } else { base };
        Self {
            jitter: *random.pick(&[0, 50, 300, 2000, 20_000]),
            loss: *random.pick(&[0, 0, 20, 200]),
            doubling: *random.pick(&[0, 20, 200]),
            flush: (flush_least, flush_most),
            ship: *random.pick(&[0, 0, MS / 20, MS]),
            beat: *random.pick(&[2, 5, 10]) * MS,
            checkpoint: *random.pick(&[20, 60, 200, 1000]) * MS,
            hints: *random.pick(&[20, 50]) * MS,
            silence: 3 * trip + 60 * MS + random.below(200 * MS),
            give_up: haste(trip * (1 + random.below(3)) + 5 * MS),
            recover: haste(trip * (2 + random.below(4)) + 10 * MS),
            calm_give_up: 2 * trip + 5 * MS,
            calm_recover: 4 * trip + 20 * MS,
            fetch: trip * (1 + random.below(2)),
            read: trip * (1 + random.below(2)),
            promise_lag,
            ahead: *random.pick(&[0, 0, base, 4 * base]),
            clients: 2 + random.index(8),
            operations: 60 + random.below(200),
            think: *random.pick(&[0, 2, 10, 50]) * MS,
            patience: trip * 20 + 300 * MS,
            storm: 60 * trip + 1500 * MS,
            calm: trip * *random.pick(&[1, 4, 12]),
            fault_len: trip * *random.pick(&[2, 6, 20]),
            delays,
            is_earthly,
            faults: weights,
        }
    }
}

/// Machines on a plane: symmetric delays that keep the triangle inequality, from one room to the whole Earth.
fn delays(random: &mut Random, nodes: usize) -> Vec<Vec<u64>> {
    let extent = *random.pick(&[MS / 2, 3 * MS, 20 * MS, 80 * MS]);
    let places: Vec<(u64, u64)> = (0..nodes).map(|_| (random.below(extent), random.below(extent))).collect();
    let delay = |a: &(u64, u64), b: &(u64, u64)| MS / 20 + a.0.abs_diff(b.0) + a.1.abs_diff(b.1);
    places.iter().map(|a| places.iter().map(|b| delay(a, b)).collect()).collect()
}

/// In one run of four: some regions of a cloud, half of the measured round trips apart. Drawn by itself, and from what
/// is built in, so that a seed alone decides.
fn regions(seed: u64, nodes: usize) -> Option<Vec<Vec<u64>>> {
    let mut random = Random::new(seed, "group regions");
    let is_chosen = random.one_in(4);
    let maps: Vec<Regions> =
        [Regions::aws(5), Regions::gcp(7)].into_iter().filter(|map| is_chosen && map.count() >= nodes).collect();
    if maps.is_empty() {
        return None;
    }
    let map = random.pick(&maps);
    let mut places: Vec<(u64, usize)> = (0..map.count()).map(|place| (random.word(), place)).collect();
    places.sort_unstable();
    let places: Vec<usize> = places.into_iter().take(nodes).map(|(_, place)| place).collect();
    let delay = |a: usize, b: usize| map.one_way_ns(a, b).max(MS / 20);
    Some(places.iter().map(|a| places.iter().map(|b| delay(*a, *b)).collect()).collect())
}

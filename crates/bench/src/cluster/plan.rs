//! The faults of a run, one after the other: the same for the same seed.

use std::fmt;

use crate::random::Random;

/// What goes wrong. Places count from 0.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    /// `kill -9`, and a start when it is over.
    Kill(Vec<usize>),
    /// The same, and the node is killed a few times while it starts.
    KillAtStart(usize),
    /// SIGSTOP, and SIGCONT when it is over.
    Pause(Vec<usize>),
    /// Two nodes do not hear each other.
    CutPair(usize, usize),
    /// The second does not hear the first.
    CutOneWay(usize, usize),
    /// Nobody hears it, and it hears nobody.
    Isolate(usize),
    /// Nobody hears it, but it hears the others.
    Mute(usize),
    /// These on one side, the others, more of them, on the other.
    Partition(Vec<usize>),
    /// Nobody hears anybody.
    Shatter,
    /// All links of a place are slow and lossy.
    Slow(usize, u64, u64),
    /// All nodes are killed at once.
    KillAll,
    /// Every flush of a node takes so many ms longer.
    SlowFlush(usize, u64),
    /// The wall clock of a node is off by so many seconds, and right again when it is over.
    ClockJump(usize, i64),
    /// A fresh node comes in the place of one that runs, or of one that was killed.
    Replace(usize, bool),
}

impl Fault {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Kill(_) => "kill -9",
            Self::KillAtStart(_) => "kill -9, again while starting",
            Self::Pause(_) => "SIGSTOP",
            Self::CutPair(..) => "cut pair",
            Self::CutOneWay(..) => "one-way cut",
            Self::Isolate(_) => "isolated",
            Self::Mute(_) => "not heard by anybody",
            Self::Partition(_) => "partition",
            Self::Shatter => "all links cut",
            Self::Slow(..) => "slow and lossy links",
            Self::KillAll => "all killed",
            Self::SlowFlush(..) => "slow flushes",
            Self::ClockJump(..) => "clock jump",
            Self::Replace(_, false) => "replaced",
            Self::Replace(_, true) => "replaced when dead",
        }
    }

    /// The places at which it may be noticed for as long as it lasts.
    pub(super) fn struck(&self, places: usize) -> Vec<usize> {
        match self {
            Self::Kill(places) | Self::Pause(places) | Self::Partition(places) => places.clone(),
            Self::KillAtStart(place) | Self::Isolate(place) | Self::Mute(place) => vec![*place],
            Self::Replace(place, _) | Self::Slow(place, ..) => vec![*place],
            Self::SlowFlush(place, _) | Self::ClockJump(place, _) => vec![*place],
            Self::CutPair(one, other) | Self::CutOneWay(one, other) => vec![*one, *other],
            Self::Shatter | Self::KillAll => (0..places).collect(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |places: &[usize]| places.iter().map(|place| (place + 1).to_string()).collect::<Vec<_>>().join(", ");
        let kind = self.kind();
        match self {
            Self::Kill(places) | Self::Pause(places) | Self::Partition(places) => write!(f, "{kind}: {}", list(places)),
            Self::KillAtStart(place) | Self::Isolate(place) | Self::Mute(place) | Self::Replace(place, _) => {
                write!(f, "{kind}: {}", place + 1)
            }
            Self::CutPair(one, other) => write!(f, "{kind}: {} and {}", one + 1, other + 1),
            Self::CutOneWay(from, to) => write!(f, "{kind}: from {} to {}", from + 1, to + 1),
            Self::Slow(place, delay, loss) => write!(f, "{kind}: {}, {delay} ms, {loss} %", place + 1),
            Self::SlowFlush(place, delay) => write!(f, "{kind}: {}, {delay} ms", place + 1),
            Self::ClockJump(place, offset) => write!(f, "{kind}: {}, {offset:+} s", place + 1),
            Self::Shatter | Self::KillAll => write!(f, "{kind}"),
        }
    }
}

/// Gives fault after fault: all kinds in an order of chance, then all again in another.
pub(super) struct Plan {
    random: Random,
    places: usize,
    faults: usize,
    /// How many kinds there are.
    kinds: u64,
    left: Vec<u64>,
}

/// How many kinds any build can suffer.
const KINDS: u64 = 13;
/// How many a build with faults of its own can suffer.
const KINDS_WITH_HOOKS: u64 = 15;

impl Plan {
    /// Of a cluster with so many members, of which `faults` may fail. `has_hooks`: their build has faults of its own.
    pub(super) fn new(seed: u64, places: usize, faults: usize, has_hooks: bool) -> Self {
        let kinds = if has_hooks { KINDS_WITH_HOOKS } else { KINDS };
        Self { random: Random::new(seed), places, faults, kinds, left: Vec::new() }
    }

    /// The next fault, and how long it lasts, in milliseconds.
    pub(super) fn next(&mut self) -> (Fault, u64) {
        if self.left.is_empty() {
            self.left = (0..self.kinds).collect();
        }
        let chosen = self.random.below(self.left.len() as u64);
        let kind = self.left.swap_remove(usize::try_from(chosen).unwrap_or(0));
        (self.fault(kind), 1_500 + self.random.below(4_000))
    }

    fn fault(&mut self, kind: u64) -> Fault {
        let (one, other) = self.two();
        match kind {
            0 => Fault::Kill(self.few()),
            1 => Fault::KillAtStart(one),
            2 => Fault::Pause(self.few()),
            3 => Fault::CutPair(one, other),
            4 => Fault::CutOneWay(one, other),
            5 => Fault::Isolate(one),
            6 => Fault::Mute(one),
            7 => Fault::Partition(self.minority()),
            8 => Fault::Shatter,
            9 => Fault::Slow(one, 10 + self.random.below(120), self.random.below(20)),
            10 => Fault::KillAll,
            // The founder stays: it lets newcomers in.
            11 => Fault::Replace(one.max(1), false),
            12 => Fault::Replace(one.max(1), true),
            13 => Fault::SlowFlush(one, 20 + self.random.below(400)),
            _ => Fault::ClockJump(one, if self.random.chance(50) { 3_600 } else { -3_600 }),
        }
    }

    fn place(&mut self) -> usize {
        usize::try_from(self.random.below(self.places as u64)).unwrap_or(0)
    }

    fn two(&mut self) -> (usize, usize) {
        let one = self.place();
        loop {
            let other = self.place();
            if other != one {
                return (one, other);
            }
        }
    }

    /// As many as may fail, or fewer.
    fn few(&mut self) -> Vec<usize> {
        let count = 1 + usize::try_from(self.random.below(self.faults.max(1) as u64)).unwrap_or(0);
        self.some(count)
    }

    fn minority(&mut self) -> Vec<usize> {
        self.some(self.faults.max(1))
    }

    fn some(&mut self, count: usize) -> Vec<usize> {
        let mut chosen = Vec::new();
        while chosen.len() < count {
            let place = self.place();
            if !chosen.contains(&place) {
                chosen.push(place);
            }
        }
        chosen.sort_unstable();
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_plan_with_every_kind_in_it() {
        let faults = |seed| {
            let mut plan = Plan::new(seed, 5, 2, true);
            (0..KINDS_WITH_HOOKS).map(|_| plan.next().0).collect::<Vec<_>>()
        };
        assert_eq!(faults(7), faults(7));
        assert_ne!(faults(7), faults(8));
        let mut kinds: Vec<&str> = faults(7).iter().map(Fault::kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        assert_eq!(kinds.len() as u64, KINDS_WITH_HOOKS);
    }
}

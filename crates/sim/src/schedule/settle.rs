//! The end of a schedule: everything is mended but what is gone for good, and then what is known must be decided.

use types::CommandId;

use super::check::Judge;
use super::node::Fate;
use super::world::{MS, World};
use crate::group::check::{Checked, ensure, violation};

/// Times that the clocks go on before a group counts as stuck.
const ROUNDS: u64 = 300;
/// By how much: little at first, then more, since a clock that is far behind is slewed by an eighth only.
const STEPS_NS: [u64; 3] = [20 * MS, 20 * MS, 200 * MS];
/// How often everybody reads from everybody before time passes.
const EXCHANGES: usize = 40;

impl World {
    /// `deaf`: who speaks and never hears again. What it says must not hold up the others for ever.
    pub(super) fn settle(&mut self, gone: &[usize], deaf: Option<usize>) -> Checked {
        let well =
            |world: &Self, at: usize| world.nodes[at].fate == Fate::Well && world.nodes[at].rolled_back.is_none();
        let already = (0..self.nodes.len()).filter(|at| !well(self, *at)).count();
        for at in gone.iter().copied().take(self.setting.faults.saturating_sub(already)) {
            if self.is_member(at) {
                if self.is_up(at) {
                    self.crash(at, 0)?;
                }
                self.nodes[at].fate = Fate::Gone;
            }
        }
        let speaking: Vec<usize> = (0..self.nodes.len()).filter(|at| well(self, *at)).collect();
        // One that is lost already counts as the failure.
        let deaf = deaf.filter(|_| already < self.setting.faults);
        let live: Vec<usize> = speaking.iter().copied().filter(|at| deaf != Some(*at)).collect();
        // Slewing by an eighth hardly makes up for clocks that are a tenth off.
        self.drifts = false;
        let wall_ns = self.nodes.iter().map(|node| node.now.wall_ns).max().unwrap_or(0);
        for at in speaking.iter().copied() {
            self.nodes[at].now.wall_ns = wall_ns;
            self.start(at)?;
        }
        for round in 0..ROUNDS {
            self.exchange(&speaking, &live)?;
            if self.unsettled(&live).is_none() {
                return self.nothing_is_lost(&live);
            }
            let phase = usize::try_from(round * 3 / ROUNDS).unwrap_or(0);
            self.advance(STEPS_NS[phase]);
            for at in speaking.iter().copied() {
                self.tick(at)?;
            }
        }
        let reason = self.unsettled(&live).unwrap_or_default();
        violation("liveness", reason)
    }

    /// Everybody reads from everybody, and hears what is on the way, until nothing moves.
    fn exchange(&mut self, speaking: &[usize], live: &[usize]) -> Checked {
        for _ in 0..EXCHANGES {
            let before = self.progress();
            for from in speaking.iter().copied() {
                self.flush(from, 0)?;
                for to in live.iter().copied().filter(|to| *to != from) {
                    self.read_all(from, to)?;
                    self.flush(to, 0)?;
                }
            }
            while let Some((from, to, _)) = self.messages.front() {
                let (from, to) = (*from, *to);
                if speaking.contains(&to) && !live.contains(&to) {
                    self.messages.pop_front();
                } else {
                    self.give(from, to)?;
                }
            }
            self.fetch_snapshots(live)?;
            if self.progress() == before {
                return Ok(());
            }
        }
        Ok(())
    }

    /// What changes while there is something to do.
    fn progress(&self) -> Vec<u64> {
        let of = |world: &Self, at: usize| {
            let core = world.nodes[at].core.as_ref()?;
            let status = core.status();
            let executed = status.executed.map_or(0, |(timestamp, _)| timestamp.0);
            Some([
                status.appended,
                status.durable,
                executed,
                status.cut.0,
                status.committed as u64,
                status.known as u64,
            ])
        };
        (0..self.nodes.len()).filter_map(|at| of(self, at)).flatten().collect()
    }

    fn fetch_snapshots(&mut self, live: &[usize]) -> Checked {
        for to in live.iter().copied() {
            let Some(wanted) = self.nodes[to].wants else { continue };
            if self.judge.cut_of(to) >= wanted {
                self.nodes[to].wants = None;
                continue;
            }
            let source = live.iter().copied().find(|from| *from != to && self.judge.cut_of(*from) >= wanted);
            let Some(source) = source else { continue };
            if self.nodes[source].stored < wanted {
                self.store(source);
            }
            self.install(source, to)?;
        }
        Ok(())
    }

    /// What is not as it must be in the end.
    fn unsettled(&self, live: &[usize]) -> Option<String> {
        let judge = &self.judge;
        for at in live.iter().copied() {
            let node = &self.nodes[at];
            let core = node.core.as_ref()?;
            if core.status().committed > 0 {
                return Some(format!("replica {} has not executed all that is decided: {:?}", at + 1, core.status()));
            }
            let stuck = core.blocking().find(|(writer, _, first)| {
                let writer = usize::try_from(writer.0).map_or(0, |number| number - 1);
                live.contains(&writer) && first.is_some()
            });
            if let Some((writer, _, first)) = stuck {
                return Some(format!(
                    "replica {} does not know the decision of {first:?} in the journal of {writer}",
                    at + 1
                ));
            }
            if let Some(read) = node.reads.keys().next() {
                return Some(format!("read {read} at replica {} does not end", at + 1));
            }
            if let Some(id) = self.known(live).into_iter().find(|id| !judge.sees(at, *id)) {
                return Some(format!("replica {} has not executed {id}, which is known", at + 1));
            }
            if judge.cut_of(at) < judge.last() {
                return Some(format!("replica {} has cut up to {} only", at + 1, judge.cut_of(at)));
            }
            if let Some(id) = node.waiting.keys().next() {
                return Some(format!("the client of {id} waits for its answer"));
            }
        }
        None
    }

    /// The commands that live replicas hold, or that were executed anywhere.
    fn known(&self, live: &[usize]) -> Vec<CommandId> {
        let held = live.iter().flat_map(|at| self.nodes[*at].holds());
        let mut known: Vec<CommandId> = held.chain(executed_at(&self.judge, live)).collect();
        known.sort_unstable();
        known.dedup();
        known
    }

    fn nothing_is_lost(&self, live: &[usize]) -> Checked {
        for id in self.judge.executed_anywhere().filter(|id| self.judge.is_shown(*id)) {
            for at in live.iter().copied() {
                ensure(self.judge.sees(at, id), "lost", || format!("{id} was shown, and replica {} lacks it", at + 1))?;
            }
        }
        Ok(())
    }
}

/// What the live replicas have executed.
fn executed_at(judge: &Judge, live: &[usize]) -> impl Iterator<Item = CommandId> {
    judge.executed_anywhere().filter(move |id| live.iter().any(|at| judge.sees(*at, *id)))
}

//! Schedules by chance. A seed gives a schedule; what applies is drawn more often than what does not.
//!
//! No two schedules are out for the same: each draws its own weights, links that are slow or silent, clocks that
//! are ahead, and a [`Profile`], which says what it has much of.

use types::{Slot, SlotSet};

use super::step::Step;
use super::world::{MS, World};
use super::{Done, SLOTS, Setting, asserted};
use crate::group::{Violation, panics};
use crate::random::Random;

/// What a schedule has much of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Profile {
    /// A little of everything.
    Mixed,
    /// Coordinators that give up and recoveries, few crashes.
    Recovery,
    /// Several recoveries of the same command.
    Duel,
    /// Crashes with tails that were read and are not durable.
    Crash,
    /// Quorum reads, also of several slots.
    Reads,
    /// Stored states, trimmed journals, snapshots.
    Trim,
    /// Leases that come and go, and reads under them.
    Leases,
    /// Disks that are rolled back.
    RollBacks,
    /// A recovery, or a decision, that overtakes a proposal.
    Late,
}

const PROFILES: [Profile; 13] = [
    Profile::Mixed,
    Profile::Mixed,
    Profile::Recovery,
    Profile::Duel,
    Profile::Crash,
    Profile::Crash,
    Profile::Reads,
    Profile::Trim,
    Profile::Leases,
    Profile::Leases,
    Profile::RollBacks,
    Profile::Late,
    Profile::Late,
];

macro_rules! kinds {
    ($($kind:ident,)*) => {
        /// What is drawn.
        #[derive(Clone, Copy)]
        enum Kind {
            $($kind,)*
        }

        const KINDS: &[Kind] = &[$(Kind::$kind,)*];
    };
}

kinds! {
    Submit,
    Flush,
    Read,
    ReadSome,
    Beat,
    GiveUp,
    Recover,
    Pass,
    Skew,
    Crash,
    Start,
    Message,
    Get,
    Store,
    Trim,
    Snapshot,
    Suspect,
    Prefer,
    Exchange,
    Want,
    Unwant,
    Leased,
    RollBack,
}

/// What a schedule is drawn from.
struct Plan {
    weights: [u64; KINDS.len()],
    /// By writer and reader.
    links: Vec<Vec<u64>>,
    flushes: Vec<u64>,
    submissions: usize,
    crashes: usize,
    slots: u64,
    /// One in so many commands touches several slots, or all.
    wide: u64,
    down_max: usize,
    relink: u64,
    len: usize,
    /// The replica that holds leases, if the schedule is about them.
    holder: Option<usize>,
    /// Whether it begins with something that comes too late.
    is_late: bool,
}

impl Plan {
    fn new(setting: Setting, random: &mut Random) -> Self {
        let profile = *random.pick(&PROFILES);
        let rare = |random: &mut Random| *random.pick(&[0, 0, 1, 3]);
        let (recover, crash, get, trim) = match profile {
            Profile::Mixed => (3, 1, rare(random), rare(random)),
            Profile::Recovery => (8, 0, 0, 0),
            Profile::Duel => (14, rare(random), 0, 0),
            Profile::Crash => (4, 5, 0, 0),
            Profile::Reads => (2, 1, 8, 0),
            Profile::Trim => (2, 2, 0, 8),
            Profile::Leases => (3, rare(random), 0, 0),
            Profile::RollBacks => (3, 3, rare(random), 0),
            Profile::Late => (4, rare(random), 0, 0),
        };
        let (want, leased) = if profile == Profile::Leases { (2, *random.pick(&[8, 20])) } else { (0, 0) };
        let weights = [
            5,
            *random.pick(&[10, 25, 50]),
            *random.pick(&[20, 40]),
            *random.pick(&[5, 20, 40]),
            *random.pick(&[0, 3, 8]),
            *random.pick(&[0, 2, 4]),
            recover,
            *random.pick(&[1, 4, 8]),
            rare(random),
            crash,
            crash * 3,
            *random.pick(&[2, 6]),
            get,
            trim,
            trim,
            trim,
            rare(random),
            1,
            *random.pick(&[0, 1, 2]),
            want,
            want / 2,
            leased,
            if profile == Profile::RollBacks { 3 } else { 0 },
        ];
        let replicas = setting.replicas;
        let mut plan = Self {
            weights,
            links: vec![vec![1; replicas]; replicas],
            flushes: vec![1; replicas],
            submissions: 1 + random.index(*random.clone().pick(&[2, 3, 6])),
            crashes: if crash == 0 { 0 } else { 1 + random.index(4) },
            slots: 1 + random.below(*random.clone().pick(&[1, 3])),
            wide: *random.pick(&[3, 6, 100]),
            down_max: if random.one_in(2) { setting.faults } else { replicas },
            relink: *random.pick(&[10, 25, 60, 1000]),
            len: *random.pick(&[20, 40, 80, 140]),
            holder: None,
            is_late: profile == Profile::Late,
        };
        if profile == Profile::Leases {
            plan.holder = Some(random.index(replicas));
        }
        if profile == Profile::Trim {
            plan.submissions += 3;
        }
        plan.redraw(random);
        plan
    }

    /// Other links are slow from now on.
    fn redraw(&mut self, random: &mut Random) {
        let style = random.below(4);
        for link in self.links.iter_mut().flatten() {
            *link = match style {
                0 => 10,
                1 => *random.pick(&[0, 1, 10, 100]),
                2 => *random.pick(&[0, 0, 20, 100]),
                _ => *random.pick(&[1, 10, 100]),
            };
        }
        for flush in &mut self.flushes {
            *flush = *random.pick(&[0, 1, 5, 20]);
        }
    }

    fn link(&self, random: &mut Random) -> Option<(usize, usize)> {
        let count = self.links.len();
        let mut weights: Vec<u64> = self.links.iter().flatten().copied().collect();
        (0..count).for_each(|at| weights[at * count + at] = 0);
        if weights.iter().sum::<u64>() == 0 {
            return None;
        }
        let at = random.weighted(&weights);
        Some((at / count, at % count))
    }
}

/// A schedule being drawn.
struct Drawing<'a> {
    world: World,
    plan: Plan,
    random: Random,
    steps: &'a mut Vec<Step>,
}

/// Draws the schedule of a seed and runs it: its steps, the last of them a `settle`, and what came of them.
pub fn draw(setting: Setting, seed: u64) -> (Vec<Step>, Result<Done, Box<Violation>>) {
    panics::watch();
    let mut steps = Vec::new();
    let ran = panics::caught(|| {
        let mut random = Random::new(seed, "schedule");
        let plan = Plan::new(setting, &mut random);
        let mut drawing = Drawing { world: World::new(setting), plan, random, steps: &mut steps };
        drawing.run()
    });
    (steps, ran.unwrap_or_else(asserted))
}

impl Drawing<'_> {
    fn run(&mut self) -> Result<Done, Box<Violation>> {
        if let Some(holder) = self.plan.holder.filter(|_| !self.random.one_in(4)) {
            self.lease(holder)?;
        }
        if self.plan.is_late {
            self.late()?;
        }
        for _ in 0..self.plan.len {
            if self.random.one_in(self.plan.relink) {
                self.plan.redraw(&mut self.random);
            }
            let kind = KINDS[self.random.weighted(&self.plan.weights)];
            self.kind(kind)?;
        }
        let mut gone = Vec::new();
        for _ in 0..self.world.setting.faults {
            if self.random.one_in(2) {
                gone.push(self.any());
            }
        }
        gone.sort_unstable();
        gone.dedup();
        let deaf = self.plan.holder.filter(|_| gone.is_empty() && self.random.one_in(2));
        self.step(deaf.map_or(Step::Settle(gone), Step::SettleDeaf))?;
        self.world.finish()
    }

    /// Applies a step, and notes it if it applied.
    fn step(&mut self, step: Step) -> Result<bool, Box<Violation>> {
        self.steps.push(step);
        let applied = self.world.apply(self.steps.last().expect("it was just pushed"))?;
        if !applied {
            self.steps.pop();
        }
        Ok(applied)
    }

    fn step_anywhere(&mut self, step: fn(usize) -> Step) -> Result<(), Box<Violation>> {
        let at = self.any();
        self.step(step(at)).map(drop)
    }

    fn any(&mut self) -> usize {
        self.random.index(self.world.setting.replicas)
    }

    fn slots(&mut self) -> SlotSet {
        let count = self.plan.slots.min(u64::from(SLOTS));
        let one = |random: &mut Random| Slot(u16::try_from(random.below(count)).expect("few slots"));
        if !self.random.one_in(self.plan.wide) {
            return SlotSet::of(vec![one(&mut self.random)]);
        }
        match self.random.below(3) {
            0 => SlotSet::All,
            _ => SlotSet::of((0..3).map(|_| one(&mut self.random)).collect()),
        }
    }

    fn kind(&mut self, kind: Kind) -> Result<(), Box<Violation>> {
        match kind {
            Kind::Submit => self.submit()?,
            Kind::Flush => self.flush()?,
            Kind::Read => {
                if let Some((from, to)) = self.plan.link(&mut self.random) {
                    self.step(Step::ReadAll(from, to))?;
                }
            }
            Kind::ReadSome => {
                if let Some((from, to)) = self.plan.link(&mut self.random) {
                    let count = 1 + self.random.index(3);
                    self.step(Step::Read(from, to, count))?;
                }
            }
            Kind::Beat => {
                let at = self.any();
                self.step(Step::Beat(at))?;
            }
            Kind::GiveUp => self.wait(&[50, 60])?,
            Kind::Recover => self.wait(&[100, 150, 200, 300, 400])?,
            Kind::Pass => {
                let ns = *self.random.pick(&[MS / 1000, MS, 10 * MS, 40 * MS]);
                self.step(Step::Advance(ns))?;
            }
            Kind::Skew => {
                let (at, ns) = (self.any(), *self.random.pick(&[MS, 5 * MS, 40 * MS, 300 * MS]));
                self.step(Step::AdvanceOne(at, ns))?;
            }
            Kind::Crash => self.crash()?,
            Kind::Start => {
                let at = self.any();
                if self.step(Step::Start(at))? && self.random.one_in(2) {
                    self.step(Step::Flush(at, 0))?;
                }
            }
            Kind::Message => self.message()?,
            Kind::Get => {
                let (at, slots) = (self.any(), self.slots());
                self.step(Step::Get(at, slots))?;
            }
            Kind::Store => self.step_anywhere(Step::Store)?,
            Kind::Trim => self.step_anywhere(Step::Trim)?,
            Kind::Snapshot => {
                let (from, to) = (self.any(), self.any());
                if from != to {
                    self.step(Step::Snapshot(from, to))?;
                }
            }
            Kind::Suspect => {
                let (at, of) = (self.any(), self.any());
                let step = if self.random.one_in(3) { Step::Trust(at, of) } else { Step::Suspect(at, of) };
                self.step(step)?;
            }
            Kind::Prefer => {
                let (at, first) = (self.any(), self.any());
                self.step(Step::Prefer(at, vec![first]))?;
            }
            Kind::Exchange => self.exchange()?,
            Kind::Want => {
                let at = self.holder();
                self.step(Step::Want(at))?;
            }
            Kind::Unwant => self.step_anywhere(Step::Unwant)?,
            Kind::Leased => {
                let (at, slots) = (self.holder(), self.slots());
                self.step(Step::Leased(at, slots))?;
            }
            Kind::RollBack => self.roll_back()?,
        }
        Ok(())
    }

    /// A disk goes back to what it was, and the replica is started on it: mostly while another, too, has just restarted.
    fn roll_back(&mut self) -> Result<(), Box<Violation>> {
        let (at, other, items) = (self.any(), self.any(), 1 + self.random.index(6));
        if at == other {
            return Ok(());
        }
        self.step(Step::Crash(at, 0))?;
        if !self.step(Step::RollBack(at, items))? {
            return Ok(());
        }
        if !self.random.one_in(3) && self.step(Step::Crash(other, 0))? {
            self.step(Step::Start(other))?;
            self.step(Step::Flush(other, 0))?;
        }
        if self.step(Step::Start(at))? {
            self.step(Step::Flush(at, 0))?;
        }
        Ok(())
    }

    /// Mostly the one that holds leases.
    fn holder(&mut self) -> usize {
        match self.plan.holder.filter(|_| !self.random.one_in(8)) {
            Some(holder) => holder,
            None => self.any(),
        }
    }

    /// The holder gets a lease, of as few others as it takes; whoever else proposes may not know of it.
    fn lease(&mut self, holder: usize) -> Result<(), Box<Violation>> {
        self.step(Step::Want(holder))?;
        self.step(Step::Flush(holder, 0))?;
        let mut others: Vec<usize> = (0..self.world.setting.replicas).filter(|at| *at != holder).collect();
        let grants = self.world.setting.replicas - self.world.setting.faults - 1;
        while others.len() > grants {
            let left_out = others.remove(self.random.index(others.len()));
            let first = *self.random.pick(&others);
            self.step(Step::Prefer(left_out, vec![first]))?;
        }
        for grantor in others {
            self.step(Step::ReadAll(holder, grantor))?;
            self.step(Step::Flush(grantor, 0))?;
            self.step(Step::ReadAll(grantor, holder))?;
        }
        Ok(())
    }

    /// A proposal is on its way to the second member of its quorum while a third replica goes ahead: it recovers the
    /// command, or has one of its own in the same slot decided. Each step may be left out.
    fn late(&mut self) -> Result<(), Box<Violation>> {
        let mut order: Vec<usize> = (0..self.world.setting.replicas).collect();
        for index in (1..order.len()).rev() {
            let other = self.random.index(index + 1);
            order.swap(index, other);
        }
        let [first, second, third, ..] = order[..] else { return Ok(()) };
        let slots = self.slots();
        let ahead = *self.random.pick(&[MS, 5 * MS, 40 * MS]);
        let overtakes = if self.random.one_in(2) {
            let (wait, order) = (*self.random.pick(&[100, 150, 200]) * MS, vec![second]);
            vec![
                Step::AdvanceOne(third, ahead),
                Step::Prefer(first, order),
                Step::Submit(first, slots),
                Step::Flush(first, 0),
                Step::ReadAll(first, third),
                Step::Advance(wait),
                Step::Tick(third),
                Step::Flush(third, 0),
                Step::ReadAll(third, second),
                Step::ReadAll(first, second),
                Step::Flush(second, 0),
            ]
        } else {
            vec![
                Step::Submit(first, slots.clone()),
                Step::Flush(first, 0),
                Step::AdvanceOne(third, ahead),
                Step::Prefer(third, vec![first]),
                Step::Submit(third, slots),
                Step::Flush(third, 0),
                Step::AdvanceOne(third, 4 * ahead),
                Step::Beat(third),
                Step::AdvanceOne(first, 2 * ahead),
                Step::Beat(first),
                Step::ReadAll(third, first),
                Step::Flush(first, 0),
                Step::ReadAll(first, third),
                Step::Flush(third, 0),
                Step::ReadAll(third, second),
                Step::ReadAll(second, third),
                Step::Crash(second, 0),
                Step::Start(second),
                Step::Flush(second, 0),
            ]
        };
        for step in overtakes {
            if !self.random.one_in(16) {
                self.step(step)?;
            }
        }
        Ok(())
    }

    fn submit(&mut self) -> Result<(), Box<Violation>> {
        if self.plan.submissions == 0 {
            return Ok(());
        }
        let (at, slots) = (self.any(), self.slots());
        if self.step(Step::Submit(at, slots))? {
            self.plan.submissions -= 1;
            if self.random.one_in(2) {
                self.step(Step::Flush(at, 0))?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Box<Violation>> {
        if self.plan.flushes.iter().sum::<u64>() == 0 {
            return Ok(());
        }
        let at = self.random.weighted(&self.plan.flushes);
        let but = if self.random.one_in(4) { 1 + self.random.below(3) } else { 0 };
        self.step(Step::Flush(at, but)).map(drop)
    }

    /// Time passes, and somebody notices.
    fn wait(&mut self, ms: &[u64]) -> Result<(), Box<Violation>> {
        let (at, ns) = (self.any(), *self.random.pick(ms) * MS);
        if self.random.one_in(2) {
            self.step(Step::Advance(ns))?;
        } else {
            self.step(Step::AdvanceOne(at, ns))?;
        }
        if self.step(Step::Tick(at))? && self.random.one_in(2) {
            self.step(Step::Flush(at, 0))?;
        }
        Ok(())
    }

    fn crash(&mut self) -> Result<(), Box<Violation>> {
        let down = (0..self.world.setting.replicas).filter(|at| !self.world.is_up(*at)).count();
        if self.plan.crashes == 0 || down >= self.plan.down_max {
            return Ok(());
        }
        let at = self.any();
        let keep = if self.random.one_in(3) { self.random.index(4) } else { 0 };
        if self.step(Step::Crash(at, keep))? {
            self.plan.crashes -= 1;
            if self.random.one_in(2) {
                self.step(Step::Start(at))?;
                self.step(Step::Flush(at, 0))?;
            }
        }
        Ok(())
    }

    fn message(&mut self) -> Result<(), Box<Violation>> {
        let count = self.world.messages.len();
        if count == 0 {
            return Ok(());
        }
        let at = self.random.index(count);
        let (from, to) = (self.world.messages[at].0, self.world.messages[at].1);
        let step = if self.random.one_in(8) { Step::Drop(from, to) } else { Step::Give(from, to) };
        self.step(step).map(drop)
    }

    /// Some replicas tell each other all.
    fn exchange(&mut self) -> Result<(), Box<Violation>> {
        let left_out = self.any();
        for from in (0..self.world.setting.replicas).filter(|at| *at != left_out) {
            self.step(Step::Flush(from, 0))?;
            for to in (0..self.world.setting.replicas).filter(|to| *to != from && *to != left_out) {
                self.step(Step::ReadAll(from, to))?;
            }
        }
        Ok(())
    }
}

//! A siege: links to and from one holder go down and up while one client writes a key of its zone elsewhere and another
//! one reads it there, so that leases begin and end right where writes are decided without their holder. Half of the sieges
//! follow a plot: what each rule of leases is for happens by chance too rarely.

use std::ops::Range;

use dace::Zone;
use types::{Epoch, SlotSet};

use super::check::{Ask, Checked};
use super::client::{self, Client};
use super::event::Event;
use super::machine::Fate;
use super::queue::MS;
use super::world::{Phase, World};
use crate::random::Random;

/// Clients that a siege employs.
const GUESTS: usize = 12;
/// Steps of all sieges of a run; one without a plot counts for four, since it takes longer.
const STEPS_MAX: u64 = 800;
/// As many are made, if the storm lasts long enough.
const STEPS_MIN: u64 = 480;
const STEP_OF_LINKS: u64 = 4;
/// Steps for which a plot waits until nothing is under way, and the epoch before is over.
pub(super) const CALMS_MAX: u64 = 160;
/// Steps of one siege at most.
const AGE_MAX: u64 = 400;

/// What a siege is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Plot {
    /// Links go down and up.
    Links,
    /// The holder is cut off until behind the end of its lease, its clock as slow as it may be and the others' as fast.
    End,
    /// The same for a clock that is far too slow, and nobody reads until something was written: a lease that is not over
    /// there when it is elsewhere shows.
    Slow,
    /// The holder asks; what it is granted comes late, and what it says later comes to nobody.
    Late,
    /// All others start again. As soon as one has, it does not hear the holder any more.
    Amnesia,
    /// The holder starts again, holds the lease, and starts once more while writes wait for it. Then it hears one replica only,
    /// which has granted it the lease before, and soon nothing.
    Revenant,
    /// The holder starts again when all that it was granted has ended, and then hears of it once more, and nobody of what it asks.
    Namesake,
    /// The holder hears one replica only, and wants the lease anew again and again.
    Fresh,
    /// The writer alone grants the lease, and then hears the holder no more, nor the holder it.
    Single,
    /// The epoch ends, and the holder is cut off before it hears of that (`turnover.rs`).
    Unaware,
    /// The same, when it has attached the Reconfig; later it hears again.
    Attached,
    /// The same, when it has executed it.
    Executed,
}

impl Plot {
    /// Those that every group knows.
    const ALL: [Self; 12] = [
        Self::Links,
        Self::Links,
        Self::Links,
        Self::End,
        Self::Late,
        Self::Late,
        Self::Amnesia,
        Self::Revenant,
        Self::Namesake,
        Self::Namesake,
        Self::Fresh,
        Self::Single,
    ];
    /// Where a clock runs beyond the bound, the end of a lease is all that matters.
    const BEYOND: [Self; 3] = [Self::Links, Self::Slow, Self::Slow];

    /// Whether nobody else writes meanwhile.
    fn is_hushed(self) -> bool {
        self.is_turnover() || matches!(self, Self::Slow | Self::Namesake)
    }

    /// The stage in which nothing is left to happen but reads and writes.
    fn last(self) -> u8 {
        match self {
            Self::Links | Self::Fresh => 0,
            Self::End => 1,
            Self::Slow | Self::Late | Self::Amnesia | Self::Single => 2,
            Self::Namesake => 6,
            Self::Revenant | Self::Unaware | Self::Attached | Self::Executed => 4,
        }
    }
}

/// Who is besieged, and with what.
#[derive(Clone)]
pub(crate) struct Siege {
    pub(super) holder: usize,
    pub(super) zone: Zone,
    /// The read.
    ask: Ask,
    /// Where the key is written mostly.
    pub(super) writer: usize,
    /// Steps to come.
    pub(super) left: u64,
    /// For how many steps yet it waits until the lease is held: what goes before is no news.
    waits: u64,
    /// Nothing else breaks meanwhile.
    is_quiet: bool,
    pub(super) plot: Plot,
    /// How far the plot is, and since when.
    pub(super) stage: u8,
    pub(super) since: u64,
    /// In which epoch it began.
    pub(super) epoch: Epoch,
    /// The guest that wrote last.
    pub(super) wrote: Option<usize>,
    /// Steps made.
    pub(super) age: u64,
    /// Links that are down: from, to, and between which steps to come.
    cuts: Vec<(usize, usize, Range<u64>)>,
}

impl Siege {
    /// Which links go down when. In half of the sieges all that lead to the holder go down at once, to the end: the lease
    /// runs out while it hears nothing.
    fn cuts(random: &mut Random, holder: usize, nodes: usize, steps: u64) -> Vec<(usize, usize, Range<u64>)> {
        let is_deaf = random.one_in(2);
        let (from, is_dumb) = (steps - random.below(steps / 2), random.one_in(2));
        let mut cuts = Vec::new();
        for peer in (0..nodes).filter(|peer| *peer != holder) {
            for (one, other, is_down) in [(peer, holder, is_deaf), (holder, peer, is_deaf && is_dumb)] {
                let begins = random.below(steps + 1);
                let is_chosen = random.one_in(2);
                if is_down {
                    // Some of them are up again sooner than others.
                    let lifted = if random.one_in(2) { 0 } else { random.below(from) };
                    cuts.push((one, other, lifted..from));
                } else if is_chosen {
                    cuts.push((one, other, random.below(begins + 1)..begins));
                }
            }
        }
        cuts
    }
}

impl World {
    /// Clients that do nothing but what a siege tells them.
    pub(crate) fn begin_guests(&mut self) {
        for _ in 0..GUESTS {
            self.clients.push(Client { home: 0, waiting: None, retries: None, turn: 0 });
        }
        let end = self.clients.len();
        self.leases.guests = end - GUESTS..end;
    }

    /// Besieges someone who holds a zone, or will soon.
    pub(crate) fn besiege(&mut self, at: usize, zone: &Zone) -> Checked {
        let others = self.machines.len() - 1;
        let writer = (at + 1 + self.leases.random.index(others)) % self.machines.len();
        let plots = if self.leases.bound_ppb().is_some() { &Plot::ALL[..] } else { &Plot::BEYOND };
        let usual = (*self.leases.random.pick(plots), writer);
        let (plot, writer) = self.draw_turnover(at).unwrap_or(usual);
        if plot == Plot::Namesake && !self.is_term_long() {
            return Ok(());
        }
        self.begin_siege(at, zone, plot, writer)
    }

    /// Begins a siege, if one is possible here and now.
    pub(super) fn begin_siege(&mut self, at: usize, zone: &Zone, plot: Plot, writer: usize) -> Checked {
        let ask = (0..16)
            .map(|_| self.mix.read(at))
            .find(|ask| matches!(ask, Ask::Get { bucket, key } if catalog::zone::holds_key(&zone.0, bucket, key)));
        let is_free = self.leases.siege.is_none() && self.leases.siege_steps < STEPS_MAX;
        let is_possible = !self.options.is_calm && self.machines[at].is_awake();
        let Some(ask) = ask.filter(|_| is_free && is_possible) else {
            return Ok(());
        };
        let left = 12 + self.leases.random.below(36);
        let waits = if self.leases.random.one_in(4) { 0 } else { 24 };
        let is_quiet = self.leases.random.one_in(2) || plot != Plot::Links;
        let cuts = Siege::cuts(&mut self.leases.random, at, self.machines.len(), left);
        // A plot goes on at another pace than links, and some begin when the lease is held.
        let (left, waits) = match plot {
            Plot::Links => (left, waits),
            Plot::End | Plot::Slow | Plot::Amnesia | Plot::Unaware | Plot::Attached | Plot::Executed => (70, 60),
            Plot::Late | Plot::Revenant | Plot::Namesake | Plot::Fresh | Plot::Single => (70, 0),
        };
        let now = self.queue.now();
        self.trace.say(now, || format!("a siege of r{at}: {plot:?}, {zone:?}, {ask:?}", at = at + 1));
        self.coverage.sieges += 1;
        self.leases.siege = Some(Siege {
            holder: at,
            zone: zone.clone(),
            ask,
            writer,
            left,
            waits,
            is_quiet,
            plot,
            stage: 0,
            since: now,
            epoch: self.reconf.newest().epoch,
            wrote: None,
            age: 0,
            cuts,
        });
        self.queue.after(0, Event::Siege);
        if self.leases.random.one_in(2) { self.want_zone(at, zone) } else { Ok(()) }
    }

    /// Whether sieges are to come yet before a storm may end.
    pub(crate) fn is_siege_due(&self) -> bool {
        self.leases.is_on && !self.options.is_calm && self.leases.siege_steps < STEPS_MIN
    }

    /// Whether nothing but a siege is to happen.
    pub(crate) fn is_siege_quiet(&self) -> bool {
        self.leases.siege.as_ref().is_some_and(|siege| siege.is_quiet)
    }

    /// The next step of a siege.
    pub(crate) fn siege(&mut self) -> Checked {
        let Some(mut siege) = self.leases.siege.take() else { return Ok(()) };
        let is_there =
            self.machines[siege.holder].life.is_some() || matches!(siege.plot, Plot::Revenant | Plot::Namesake);
        if self.phase != Phase::Storm || siege.left == 0 || siege.age > AGE_MAX || !is_there {
            return Ok(());
        }
        // While it is away, and when a flush matters, steps say nothing of time.
        siege.age += u64::from(siege.plot != Plot::Namesake || !(2..4).contains(&siege.stage));
        self.leases.siege_steps += if siege.plot == Plot::Links { STEP_OF_LINKS } else { 1 };
        siege.waits = if self.holds(siege.holder, &siege.zone) { 0 } else { siege.waits.saturating_sub(1) };
        if siege.waits == 0 {
            self.follow(&mut siege)?;
        }
        let random = &mut self.leases.random;
        let writer = if random.one_in(4) { random.index(self.machines.len()) } else { siege.writer };
        let writer = if siege.plot.is_hushed() { siege.writer } else { writer };
        let (writes, reads, renews) = match siege.plot {
            // Before that a write would only be waited for, and one that is not answered need not be seen.
            Plot::Slow | Plot::Namesake | Plot::Unaware | Plot::Attached | Plot::Executed => {
                let is_time = siege.stage + 1 >= siege.plot.last();
                (is_time && random.one_in(4), siege.stage == siege.plot.last() && random.one_in(4), false)
            }
            Plot::Links => (random.one_in(2), !random.one_in(4), random.one_in(24)),
            _ => (random.one_in(4), random.one_in(2), siege.plot == Plot::Fresh && random.one_in(8)),
        };
        if renews {
            self.unwant_zone(siege.holder, &siege.zone)?;
            self.want_zone(siege.holder, &siege.zone)?;
        }
        if writes && let Ask::Get { bucket, key } = &siege.ask {
            let put = self.mix.overwrite(bucket, key);
            siege.wrote = self.employ(writer, put)?.or(siege.wrote);
        }
        if reads {
            self.employ(siege.holder, siege.ask.clone())?;
        }
        let pace = match siege.plot {
            Plot::Links => self.leases.term_ns() / 4,
            // It is a matter of one flush.
            Plot::Namesake if (2..4).contains(&siege.stage) && self.has_started(siege.holder) => self.plan.flush.0,
            plot if plot.is_turnover() || plot == Plot::Namesake => self.trip() / 4,
            _ => self.leases.term_ns() / 24,
        };
        let next = 1 + self.leases.random.below(pace);
        self.queue.after(next, Event::Siege);
        self.leases.siege = Some(siege);
        Ok(())
    }

    /// What happens in a step, but for reads and writes.
    fn follow(&mut self, siege: &mut Siege) -> Checked {
        if siege.stage == siege.plot.last() {
            siege.left -= 1;
        }
        let before = siege.stage;
        match siege.plot {
            Plot::Links => self.cut_off(siege),
            Plot::End => self.plot_end(siege),
            Plot::Slow => self.plot_slow(siege),
            Plot::Late => self.plot_late(siege)?,
            Plot::Amnesia => self.plot_amnesia(siege)?,
            Plot::Revenant => self.plot_revenant(siege)?,
            Plot::Namesake => self.plot_namesake(siege)?,
            Plot::Fresh => self.deafen_to_all_but(siege.holder, siege.writer),
            Plot::Single => self.plot_single(siege)?,
            Plot::Unaware | Plot::Attached | Plot::Executed => self.plot_turnover(siege)?,
        }
        if siege.stage != before {
            let now = self.queue.now();
            self.trace.say(now, || format!("the siege comes to stage {}", siege.stage));
            siege.since = now;
        }
        Ok(())
    }

    /// For how long links stay down in a plot, at least: until it is over.
    fn plot_ends(&self) -> u64 {
        self.queue.now() + 2 * self.leases.term_ns()
    }

    pub(super) fn others(&self, holder: usize) -> Vec<usize> {
        let is_left = |at: &usize| *at != holder && self.machines[*at].fate == Fate::Well;
        (0..self.options.nodes).filter(is_left).collect()
    }

    pub(super) fn silence(&mut self, holder: usize) {
        let until = self.plot_ends();
        (0..self.options.nodes).filter(|peer| *peer != holder).for_each(|peer| self.net.cut(holder, peer, until));
    }

    pub(super) fn deafen(&mut self, holder: usize) {
        let until = self.plot_ends();
        (0..self.options.nodes).filter(|peer| *peer != holder).for_each(|peer| self.net.cut(peer, holder, until));
    }

    /// See [`Plot::End`].
    fn plot_end(&mut self, siege: &mut Siege) {
        if siege.stage == 0 {
            let now = self.queue.now();
            if let Some(bound) = self.leases.bound_ppb() {
                for at in 0..self.options.nodes {
                    self.machines[at].clock.drift(now, if at == siege.holder { -bound } else { bound });
                }
            }
            self.silence(siege.holder);
            self.deafen(siege.holder);
            siege.stage = 1;
        }
    }

    /// See [`Plot::Slow`].
    fn plot_slow(&mut self, siege: &mut Siege) {
        match siege.stage {
            0 if siege.age > CALMS_MAX => siege.left = 0,
            0 if self.is_calm() && self.holds(siege.holder, &siege.zone) => {
                self.silence(siege.holder);
                self.deafen(siege.holder);
                siege.stage = 1;
            }
            1 if self.is_answered(siege) => siege.stage = 2,
            _ => {}
        }
    }

    /// Whether what was written last is answered.
    pub(super) fn is_answered(&self, siege: &Siege) -> bool {
        siege.wrote.is_some_and(|guest| self.clients[guest].waiting.is_none())
    }

    /// Whether nothing is under way anywhere.
    pub(super) fn is_calm(&self) -> bool {
        let lives = self.machines.iter().filter_map(|machine| machine.life.as_ref());
        lives.into_iter().all(|life| life.in_flight() == 0 && life.again.is_empty() && life.leased.pending.is_empty())
    }

    /// Whether only a siege may write or change anything.
    pub(crate) fn is_hushed(&self) -> bool {
        self.leases.siege.as_ref().is_some_and(|siege| siege.plot.is_hushed())
    }

    /// See [`Plot::Late`].
    fn plot_late(&mut self, siege: &mut Siege) -> Checked {
        let (now, trip) = (self.queue.now(), self.trip());
        if siege.stage == 0 {
            let until = self.plot_ends();
            for peer in self.others(siege.holder) {
                self.net.slow(peer, siege.holder, until, 20);
            }
            self.unwant_zone(siege.holder, &siege.zone)?;
            self.want_zone(siege.holder, &siege.zone)?;
            siege.stage = 1;
        } else if siege.stage == 1 && now >= siege.since + trip {
            self.silence(siege.holder);
            siege.stage = 2;
        }
        Ok(())
    }

    /// See [`Plot::Amnesia`].
    fn plot_amnesia(&mut self, siege: &mut Siege) -> Checked {
        let others = self.others(siege.holder);
        match siege.stage {
            0 => {
                let trip = self.trip();
                siege.stage = 1;
                for at in others {
                    if self.machines[at].life.is_none() || !self.may_forget(at) {
                        siege.left = 0;
                        break;
                    }
                    self.end_for(at, MS, MS + trip / 4)?;
                }
            }
            1 => {
                let until = self.plot_ends();
                let started: Vec<usize> = others.iter().copied().filter(|at| self.has_started(*at)).collect();
                started.iter().for_each(|at| self.net.cut(siege.holder, *at, until));
                if started.len() == others.len() {
                    self.deafen(siege.holder);
                    siege.stage = 2;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// See [`Plot::Single`].
    fn plot_single(&mut self, siege: &mut Siege) -> Checked {
        let (now, term, at) = (self.queue.now(), self.leases.term_ns(), siege.holder);
        match siege.stage {
            0 => {
                for peer in self.others(at).into_iter().filter(|peer| *peer != siege.writer) {
                    self.net.cut(at, peer, now + 4 * term);
                    self.net.cut(peer, at, now + 4 * term);
                }
                if !self.is_wanted(at, &siege.zone) {
                    self.want_zone(at, &siege.zone)?;
                }
                siege.stage = 1;
            }
            // By then the grants of the others have ended.
            1 if now >= siege.since + term * 3 / 2 && self.holds(at, &siege.zone) => {
                self.silence(at);
                self.deafen(at);
                siege.stage = 2;
            }
            _ => {}
        }
        Ok(())
    }

    /// The holder hears one replica only, which is not the writer.
    pub(super) fn deafen_to_all_but(&mut self, holder: usize, writer: usize) {
        let until = self.plot_ends();
        let heard = self.others(holder).into_iter().find(|at| *at != writer);
        for peer in self.others(holder).into_iter().filter(|peer| Some(*peer) != heard) {
            self.net.cut(peer, holder, until);
        }
    }

    /// A round trip to the farthest replica, and what is flushed on the way.
    pub(super) fn trip(&self) -> u64 {
        2 * self.net.longest() + 3 * self.plan.flush.1
    }

    pub(super) fn has_started(&self, at: usize) -> bool {
        self.machines[at].life.as_ref().is_some_and(|life| life.waits_since.is_none())
    }

    /// A process ends, with all that it has flushed or is flushing, and is back after `least` and up to `more`.
    pub(super) fn end_for(&mut self, at: usize, least: u64, more: u64) -> Checked {
        self.crash(at, 1000)?;
        let back = self.queue.now() + least + self.leases.random.below(more + 1);
        self.restart_at(at, back);
        Ok(())
    }

    /// Some of the links of the one who is besieged are down for a while.
    fn cut_off(&mut self, siege: &Siege) {
        let (now, term) = (self.queue.now(), self.leases.term_ns());
        for (from, to, _) in siege.cuts.iter().filter(|(.., steps)| steps.contains(&siege.left)) {
            self.net.cut(*from, *to, now + term / 3);
        }
        for peer in (0..self.machines.len()).filter(|peer| *peer != siege.holder) {
            let random = &mut self.leases.random;
            if random.one_in(24) {
                let (until, slowness) = (now + 1 + random.below(2 * term), 2 + random.below(20));
                self.net.slow(siege.holder, peer, until, slowness);
                self.net.slow(peer, siege.holder, until, slowness);
            }
        }
    }

    /// A guest who has nothing to wait for asks.
    fn employ(&mut self, at: usize, ask: Ask) -> Result<Option<usize>, Box<super::Violation>> {
        let machine = &self.machines[at];
        let free = self.leases.guests.clone().find(|guest| self.clients[*guest].waiting.is_none());
        let Some(guest) = free.filter(|_| machine.is_awake() && !machine.is_rolled_back) else { return Ok(None) };
        self.clients[guest].retries = None;
        let slots: SlotSet = client::slots(&ask);
        let operation = self.judge.history.begin(self.queue.now(), ask, slots);
        self.ask(guest, at, operation)?;
        Ok(self.clients[guest].waiting.is_some().then_some(guest))
    }
}

//! A siege: links to and from one holder go down and up while one client writes a key of its zone elsewhere and another
//! one reads it there, so that leases begin and end right where writes are decided without their holder.

use std::ops::Range;

use dace::Zone;
use types::SlotSet;

use super::check::{Ask, Checked};
use super::client::{self, Client};
use super::event::Event;
use super::world::{Phase, World};
use crate::random::Random;

/// Clients that a siege employs.
const GUESTS: usize = 12;
/// Steps of all sieges of a run.
const STEPS_MAX: u64 = 200;
/// As many are made, if the storm lasts long enough.
const STEPS_MIN: u64 = 80;

/// Who is besieged, and with what.
#[derive(Clone)]
pub(crate) struct Siege {
    holder: usize,
    zone: Zone,
    /// The read.
    ask: Ask,
    /// Where the key is written mostly.
    writer: usize,
    /// Steps to come.
    left: u64,
    /// For how many steps yet it waits until the lease is held: what goes before is no news.
    waits: u64,
    /// Nothing else breaks meanwhile.
    is_quiet: bool,
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
        let ask = (0..16)
            .map(|_| self.mix.read(at))
            .find(|ask| matches!(ask, Ask::Get { bucket, key } if catalog::zone::holds_key(&zone.0, bucket, key)));
        let is_free = self.leases.siege.is_none() && self.leases.siege_steps < STEPS_MAX;
        let is_possible = !self.options.is_calm && self.machines[at].is_awake();
        let Some(ask) = ask.filter(|_| is_free && is_possible) else {
            return Ok(());
        };
        let others = self.machines.len() - 1;
        let writer = (at + 1 + self.leases.random.index(others)) % self.machines.len();
        let left = 12 + self.leases.random.below(36);
        let waits = if self.leases.random.one_in(4) { 0 } else { 24 };
        let is_quiet = self.leases.random.one_in(2);
        let cuts = Siege::cuts(&mut self.leases.random, at, self.machines.len(), left);
        let now = self.queue.now();
        self.trace.say(now, || format!("a siege of r{at}: {zone:?}, {ask:?}", at = at + 1));
        self.coverage.sieges += 1;
        self.leases.siege = Some(Siege { holder: at, zone: zone.clone(), ask, writer, left, waits, is_quiet, cuts });
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
        if self.phase != Phase::Storm || siege.left == 0 || self.machines[siege.holder].life.is_none() {
            return Ok(());
        }
        self.leases.siege_steps += 1;
        siege.waits = if self.holds(siege.holder, &siege.zone) { 0 } else { siege.waits.saturating_sub(1) };
        if siege.waits == 0 {
            siege.left -= 1;
            self.cut_off(&siege);
        }
        let random = &mut self.leases.random;
        let writer = if random.one_in(4) { random.index(self.machines.len()) } else { siege.writer };
        let (writes, reads, renews) = (random.one_in(2), !random.one_in(4), random.one_in(24));
        if renews {
            self.unwant_zone(siege.holder, &siege.zone)?;
            self.want_zone(siege.holder, &siege.zone)?;
        }
        if writes && let Ask::Get { bucket, key } = &siege.ask {
            let put = self.mix.overwrite(bucket, key);
            self.employ(writer, put)?;
        }
        if reads {
            self.employ(siege.holder, siege.ask.clone())?;
        }
        let term = self.leases.term_ns();
        let next = 1 + self.leases.random.below(term / 4);
        self.queue.after(next, Event::Siege);
        self.leases.siege = Some(siege);
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
    fn employ(&mut self, at: usize, ask: Ask) -> Checked {
        let machine = &self.machines[at];
        let free = self.leases.guests.clone().find(|guest| self.clients[*guest].waiting.is_none());
        let Some(guest) = free.filter(|_| machine.is_awake() && !machine.is_rolled_back) else { return Ok(()) };
        self.clients[guest].retries = None;
        let slots: SlotSet = client::slots(&ask);
        let operation = self.judge.history.begin(self.queue.now(), ask, slots);
        self.ask(guest, at, operation)
    }
}

//! The network: directed links with delay, jitter, loss and cuts; sessions of ordered streams over them.

use super::queue::{Instant, MS};
use crate::random::Random;

/// The largest jitter of a network that works, in per mille.
pub(crate) const JITTER_CALM: u64 = 300;

/// One direction between two machines.
#[derive(Clone)]
struct Link {
    /// One-way delay in ns.
    delay: u64,
    /// Nothing passes until then.
    blocked_until: Instant,
    /// Delay is multiplied until then.
    slow_until: Instant,
    /// By this.
    slowness: u64,
    /// The ordered stream over it: every loss of connection begins a new one.
    session: u64,
    /// When its last parcel arrives.
    last: Instant,
}

/// All links.
pub(crate) struct Net {
    links: Vec<Vec<Link>>,
    /// Largest part of the delay, in per mille, that chance adds.
    pub(crate) jitter: u64,
    /// Of 1000 datagrams, so many are lost.
    pub(crate) loss: u64,
    /// Of 1000 datagrams, so many come twice.
    pub(crate) doubling: u64,
}

impl Net {
    pub(crate) fn new(delays: &[Vec<u64>], jitter: u64) -> Self {
        let link =
            |delay: &u64| Link { delay: *delay, blocked_until: 0, slow_until: 0, slowness: 1, session: 0, last: 0 };
        let links = delays.iter().map(|row| row.iter().map(link).collect()).collect();
        Self { links, jitter, loss: 0, doubling: 0 }
    }

    /// The usual one-way delay.
    pub(crate) fn delay(&self, from: usize, to: usize) -> u64 {
        self.links[from][to].delay
    }

    /// Whether anything passes at `now`.
    pub(crate) fn passes(&self, from: usize, to: usize, now: Instant) -> bool {
        self.links[from][to].blocked_until <= now
    }

    /// The session of the stream `from` writes to `to`.
    pub(crate) fn session(&self, from: usize, to: usize) -> u64 {
        self.links[from][to].session
    }

    /// The stream is lost, and what is in flight on it; gives the session of the next one.
    pub(crate) fn reset(&mut self, from: usize, to: usize) -> u64 {
        let link = &mut self.links[from][to];
        link.session += 1;
        link.session
    }

    fn flight(&self, from: usize, to: usize, now: Instant, random: &mut Random) -> u64 {
        let link = &self.links[from][to];
        let factor = if link.slow_until > now { link.slowness } else { 1 };
        let delay = link.delay * factor;
        delay + random.below(delay * self.jitter / 1000 + 1)
    }

    /// When a datagram sent now arrives.
    pub(crate) fn datagram(&self, from: usize, to: usize, now: Instant, random: &mut Random) -> Instant {
        now + self.flight(from, to, now, random)
    }

    /// When a parcel of the ordered stream sent now arrives: after all before it.
    pub(crate) fn parcel(&mut self, from: usize, to: usize, now: Instant, random: &mut Random) -> Instant {
        let arrival = now + self.flight(from, to, now, random);
        let link = &mut self.links[from][to];
        link.last = arrival.max(link.last + 1);
        link.last
    }

    /// Nothing passes for a while, and the stream is lost.
    pub(crate) fn cut(&mut self, from: usize, to: usize, until: Instant) {
        let link = &mut self.links[from][to];
        link.blocked_until = link.blocked_until.max(until);
        link.session += 1;
    }

    /// What was cut passes again.
    pub(crate) fn mend(&mut self, from: usize, to: usize, now: Instant) {
        let link = &mut self.links[from][to];
        link.blocked_until = link.blocked_until.min(now);
    }

    /// Everything takes longer for a while.
    pub(crate) fn slow(&mut self, from: usize, to: usize, until: Instant, slowness: u64) {
        let link = &mut self.links[from][to];
        link.slow_until = until;
        link.slowness = slowness;
    }

    /// All links are good again.
    pub(crate) fn heal(&mut self, now: Instant) {
        for link in self.links.iter_mut().flatten() {
            link.blocked_until = link.blocked_until.min(now);
            link.slow_until = link.slow_until.min(now);
        }
        self.loss = 0;
        self.doubling = 0;
        self.jitter = self.jitter.min(JITTER_CALM);
    }

    /// The longest one-way delay.
    pub(crate) fn longest(&self) -> u64 {
        self.links.iter().flatten().map(|link| link.delay).max().unwrap_or(MS)
    }

    /// The machines in rising distance from `from`, itself first.
    pub(crate) fn nearest(&self, from: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.links.len()).collect();
        order.sort_by_key(|to| (if *to == from { 0 } else { 1 + self.delay(from, *to) }, *to));
        order
    }
}

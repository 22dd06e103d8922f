//! Between replicas: streams are opened, written and read; suspicions and preferences change.

use dace::StreamError;

use super::check::{Checked, ensure, violation};
use super::event::{Event, Note, Parcel, Turn};
use super::machine::{Fate, Stream};
use super::queue::MS;
use super::world::{Phase, World};

/// How long a hello waits for its answer, at least.
const HELLO_PATIENCE: u64 = 10 * MS;

impl World {
    /// Opens the streams that are closed.
    pub(crate) fn connect(&mut self, at: usize) -> Checked {
        let period = HELLO_PATIENCE + 3 * self.net.longest() + self.random.below(10 * MS);
        self.turn_after(at, period, Turn::Connect);
        self.claim(at)?;
        let Some(life) = self.machines[at].life.as_mut() else { return Ok(()) };
        let Some(hello) = life.core.hello() else { return Ok(()) };
        for peer in (0..self.options.nodes).filter(|peer| *peer != at) {
            let Some(life) = self.machines[at].life.as_mut() else { return Ok(()) };
            let current = self.net.session(at, peer);
            if matches!(life.streams[peer], Stream::Open { session, .. } if session == current) {
                continue;
            }
            let session = self.net.reset(at, peer);
            life.streams[peer] = Stream::Asked { session };
            self.send(at, peer, Note::Hello { session, hello });
        }
        self.drain(at)
    }

    /// A message outside the streams has come.
    pub(crate) fn note(&mut self, from: usize, to: usize, note: Note) -> Checked {
        if !self.hears(from, to) || self.machines[to].life.is_none() {
            return Ok(());
        }
        let (replica, clock, now) = (self.replica(from), self.clock(to), self.queue.now());
        match note {
            Note::Claim { life, claim } => self.claimed(from, to, life, claim)?,
            Note::Vouch { life } => self.vouched(from, to, life)?,
            Note::Doubt { life } => self.doubted(to, life)?,
            Note::Refused => self.refused(to)?,
            // The others wait until it has started.
            _ if self.machines[to].life.as_ref().is_some_and(|life| life.waits_since.is_some()) => {}
            Note::Hello { session, hello } => self.hello(from, to, session, hello)?,
            Note::Want { session, position } => self.want(to, from, session, position)?,
            Note::Message(message) => {
                self.coverage.messages += 1;
                self.trace.mark(&[7, now, from as u64, to as u64]);
                self.trace.say(now, || format!("r{to} reads of r{from}: {message:?}", to = to + 1, from = from + 1));
                if let Some(life) = self.life(to) {
                    life.core.handle_message(clock, replica, message);
                }
            }
            Note::AskSnapshot { cut } => {
                let image = self.machines[to].disk.checkpoint.clone();
                if let Some(image) = image.filter(|image| image.cut >= cut) {
                    self.send(to, from, Note::Snapshot { image });
                }
            }
            Note::Snapshot { image } => self.install(to, image),
        }
        self.drain(to)
    }

    fn hello(&mut self, from: usize, to: usize, session: u64, hello: dace::Hello) -> Checked {
        if self.net.session(from, to) != session {
            return Ok(());
        }
        let (replica, clock, now) = (self.replica(from), self.clock(to), self.queue.now());
        let left = self.machines[from].rolled_back_to;
        let Some(life) = self.machines[to].life.as_mut() else { return Ok(()) };
        let answer = life.core.handle_hello(clock, replica, hello);
        self.trace.say(now, || format!("r{to} hears {hello:?} of r{from}: {answer:?}", to = to + 1, from = from + 1));
        match answer {
            Ok(position) => {
                let counted = life.counted[from];
                ensure(counted <= left, "refusal", || {
                    format!(
                        "r{to} takes r{from}, whose journal was rolled back to #{left}, though it counted #{counted} durable",
                        to = to + 1,
                        from = from + 1
                    )
                })?;
                life.hears[from] = Some(session);
                self.send(to, from, Note::Want { session, position });
            }
            Err(refused) => {
                self.coverage.refusals += 1;
                // One that has lost its disk may well doubt the others.
                let is_failed = self.machines[from].is_rolled_back || self.machines[to].is_rolled_back;
                ensure(is_failed, "refusal", || {
                    format!(
                        "r{to} refuses r{from}, whose disk was never rolled back: {refused}",
                        to = to + 1,
                        from = from + 1
                    )
                })?;
                if self.machines[from].is_rolled_back {
                    self.send(to, from, Note::Refused);
                }
            }
        }
        Ok(())
    }

    fn want(&mut self, at: usize, peer: usize, session: u64, position: u64) -> Checked {
        let Some(life) = self.machines[at].life.as_mut() else { return Ok(()) };
        if life.streams[peer] != (Stream::Asked { session }) || self.net.session(at, peer) != session {
            return Ok(());
        }
        life.streams[peer] = Stream::Open { session, next: position };
        self.coverage.connections += 1;
        self.ship_to(at, &[peer])
    }

    /// A peer will not have this replica: it halts for good.
    pub(crate) fn refused(&mut self, at: usize) -> Checked {
        let now = self.queue.now();
        self.trace.say(now, || format!("r{at} is refused for good", at = at + 1));
        self.crash(at, 0)?;
        self.machines[at].fate = Fate::Refused;
        Ok(())
    }

    /// Sends what is new to everyone who listens.
    pub(crate) fn ship(&mut self, at: usize) -> Checked {
        if let Some(life) = self.life(at) {
            life.is_shipping = false;
        }
        let peers: Vec<usize> = (0..self.options.nodes).filter(|peer| *peer != at).collect();
        self.ship_to(at, &peers)?;
        self.drain(at)
    }

    fn ship_to(&mut self, at: usize, peers: &[usize]) -> Checked {
        let (now, clock) = (self.queue.now(), self.clock(at));
        let machine = &mut self.machines[at];
        let Some(life) = machine.life.as_mut() else { return Ok(()) };
        let net = &self.net;
        let listens = |stream: &Stream, peer: usize| match stream {
            Stream::Open { session, next } if net.session(at, peer) == *session => Some((*session, *next)),
            _ => None,
        };
        let open: Vec<(usize, u64, u64)> = peers
            .iter()
            .filter_map(|peer| listens(&life.streams[*peer], *peer).map(|(session, next)| (*peer, session, next)))
            .collect();
        let appended = machine.disk.appended();
        life.shipped = (appended, machine.disk.durable_position());
        life.shipped_at = now;
        if open.is_empty() {
            return Ok(());
        }
        let beat = life.core.beat(clock);
        self.outputs(at)?;
        for (peer, session, next) in open {
            let machine = &mut self.machines[at];
            let Some(life) = machine.life.as_mut() else { return Ok(()) };
            let (base, from) = match machine.disk.said_after(next) {
                Some(_) => (None, next),
                None => {
                    let base = life.core.peer_base();
                    let position = base.position;
                    (Some(base), position)
                }
            };
            self.coverage.bases += u64::from(base.is_some());
            let end = beat.appended;
            let records = machine.disk.said_after(from).into_iter().flatten();
            let records = records.take_while(|record| record.header.position <= end).cloned().collect();
            life.streams[peer] = Stream::Open { session, next: end };
            let parcel = Box::new(Parcel { session, base, records, beat });
            let arrival = self.net.parcel(at, peer, now, &mut self.random);
            self.queue.at(arrival, Event::Parcel { from: at, to: peer, parcel });
        }
        Ok(())
    }

    /// A piece of a stream has come.
    pub(crate) fn parcel(&mut self, from: usize, to: usize, parcel: Parcel) -> Checked {
        let (replica, clock, now) = (self.replica(from), self.clock(to), self.queue.now());
        let Parcel { session, base, records, beat } = parcel;
        let is_current = self.net.session(from, to) == session && self.hears(from, to);
        let Some(life) = self.machines[to].life.as_mut() else { return Ok(()) };
        if !is_current || life.hears[from] != Some(session) {
            return Ok(());
        }
        if let Some(base) = base {
            if let Err(error) = life.core.handle_base(clock, replica, base) {
                return self.broken(from, to, error);
            }
            self.outputs(to)?;
        }
        for record in records {
            self.coverage.records_read += 1;
            let Some(life) = self.machines[to].life.as_mut() else { return Ok(()) };
            self.trace.mark(&[8, now, from as u64, to as u64, record.header.position]);
            if let Err(error) = life.core.handle_record(clock, replica, record) {
                return self.broken(from, to, error);
            }
            self.outputs(to)?;
        }
        let Some(life) = self.machines[to].life.as_mut() else { return Ok(()) };
        self.coverage.beats += 1;
        self.trace.mark(&[9, now, from as u64, to as u64, beat.durable]);
        life.heard[from] = now;
        life.counted[from] = life.counted[from].max(beat.durable);
        self.trace.say(now, || format!("r{to} reads of r{from}: {beat:?}", to = to + 1, from = from + 1));
        if let Err(error) = life.core.handle_beat(clock, replica, beat) {
            return self.broken(from, to, error);
        }
        self.drain(to)
    }

    /// A stream cannot go on: it is closed, and opened again later.
    fn broken(&mut self, from: usize, to: usize, error: StreamError) -> Checked {
        let now = self.queue.now();
        self.trace.say(now, || format!("r{to} cannot read on in r{from}: {error}", to = to + 1, from = from + 1));
        self.net.reset(from, to);
        if self.machines[from].is_rolled_back {
            self.send(to, from, Note::Refused);
            return self.drain(to);
        }
        match error {
            StreamError::Behind(behind) => {
                self.coverage.behind += 1;
                self.want_snapshot(to, behind.cut);
                self.drain(to)
            }
            StreamError::Closed(_) => self.drain(to),
            // Others speak of what it has forgotten.
            StreamError::Nonsense { .. } | StreamError::Refused(_) if self.machines[to].is_rolled_back => {
                self.drain(to)
            }
            error => violation("stream", format!("r{to} reads r{from}: {error}", to = to + 1, from = from + 1)),
        }
    }

    /// Time for a beat: sends one if there is something to tell, or none was sent for long.
    pub(crate) fn beat(&mut self, at: usize) -> Checked {
        let now = self.queue.now();
        self.turn_after(at, self.plan.beat, Turn::Beat);
        let Some(life) = self.machines[at].life.as_ref() else { return Ok(()) };
        let is_busy = !life.unsealed.is_empty() || life.core.status().in_flight > 0;
        // Waiting for clocks that were set ahead by an hour is dull, and readings stay fresh for 5 s.
        let is_long = self.phase != Phase::Storm && life.core.status().in_flight == 0 && self.ahead_ns() > 20_000 * MS;
        let idle = if is_long { 1_000 * MS } else { 50 * MS };
        if life.is_shipping || ((!is_busy || is_long) && now < life.shipped_at + idle) {
            return Ok(());
        }
        self.ship(at)
    }

    /// Suspicions and preferences: right ones, and in a storm wrong ones.
    pub(crate) fn hints(&mut self, at: usize) -> Checked {
        self.turn_after(at, self.plan.hints, Turn::Hints);
        let (now, clock, silence) = (self.queue.now(), self.clock(at), self.plan.silence);
        for peer in (0..self.options.nodes).filter(|peer| *peer != at) {
            let replica = self.replica(peer);
            let Some(life) = self.machines[at].life.as_mut() else { return Ok(()) };
            let is_silent = now > life.heard[peer] + silence;
            life.core.suspect(clock, replica, is_silent);
            self.outputs(at)?;
        }
        if self.phase != Phase::Storm {
            let nearest: Vec<_> = self.net.nearest(at).into_iter().map(|index| self.replica(index)).collect();
            if let Some(life) = self.life(at) {
                life.core.prefer(&nearest);
            }
        }
        self.ask_snapshot(at);
        self.drain(at)
    }
}

//! Between replicas: streams are opened, written and read; suspicions and preferences change.

use dace::{Entry, HelloError, StreamError};
use types::Epoch;

use super::check::{Checked, ensure, violation};
use super::event::{Event, Note, Parcel, Turn};
use super::machine::{Fate, Session, Stream};
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
        self.tell_news(at);
        self.tell_all(at);
        for peer in (0..self.machines.len()).filter(|peer| *peer != at) {
            self.connect_to(at, peer);
        }
        self.drain(at)
    }

    /// Opens the streams to a peer that are closed: on the connection that there is, if another one goes over it.
    fn connect_to(&mut self, at: usize, peer: usize) {
        let replica = self.replica(peer);
        let Some(life) = self.machines[at].life.as_mut().filter(|life| life.waits_since.is_none()) else { return };
        let link = self.net.session(at, peer);
        let is_open = |epoch: Epoch| matches!(life.streams.get(&(epoch, peer)), Some(Stream::Open { session, .. }) if session.link == link);
        let shared = life.replica.epochs().filter(|served| served.has(replica)).map(|served| served.epoch);
        let (open, closed): (Vec<Epoch>, Vec<Epoch>) = shared.partition(|epoch| is_open(*epoch));
        let hellos: Vec<_> = closed.into_iter().filter_map(|epoch| Some((epoch, life.replica.hello(epoch)?))).collect();
        if hellos.is_empty() {
            return;
        }
        let link = if open.is_empty() { self.net.reset(at, peer) } else { link };
        for (epoch, (entry, hello)) in hellos {
            self.attempts += 1;
            let session = Session { link, attempt: self.attempts };
            if let Some(life) = self.life(at) {
                life.streams.insert((epoch, peer), Stream::Asked { session });
            }
            self.send(at, peer, Note::Hello { session, epoch, entry, hello });
        }
    }

    /// A message outside the streams has come.
    pub(crate) fn note(&mut self, from: usize, to: usize, note: Note) -> Checked {
        if !self.hears(from, to) || self.machines[to].life.is_none() {
            return Ok(());
        }
        let (replica, clock, now) = (self.replica(from), self.clock(to), self.queue.now());
        match note {
            Note::Claims { life, claims } => self.claimed(from, to, life, &claims)?,
            Note::Vouch { life, vouch } => self.vouched(from, to, life, &vouch)?,
            Note::Doubt { life } => self.doubted(to, life)?,
            Note::Notice(notice) => self.noticed(from, to, &notice),
            Note::Refused => self.refused(to)?,
            // The others wait until it has started.
            _ if self.machines[to].life.as_ref().is_some_and(|life| life.waits_since.is_some()) => {}
            Note::Hello { session, epoch, entry, hello } => self.hello(from, to, session, epoch, (entry, hello))?,
            Note::Want { session, epoch, position } => self.want(to, from, session, (epoch, position))?,
            Note::Message(epoch, message) => {
                self.coverage.messages += 1;
                self.trace.mark(&[7, now, from as u64, to as u64]);
                self.trace.say(now, || format!("r{to} reads of r{from}: {message:?}", to = to + 1, from = from + 1));
                if let Some(life) = self.life(to) {
                    life.replica.handle_message(clock, replica, epoch, message);
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

    fn hello(
        &mut self,
        from: usize,
        to: usize,
        session: Session,
        epoch: Epoch,
        (entry, hello): (Option<Entry>, dace::Hello),
    ) -> Checked {
        if self.net.session(from, to) != session.link {
            return Ok(());
        }
        let (replica, clock, now) = (self.replica(from), self.clock(to), self.queue.now());
        let left = self.machines[from].left(epoch);
        let Some(life) = self.machines[to].life.as_mut() else { return Ok(()) };
        // An answer to an older one is on its way, or a stream goes on: this one must not take its place.
        if life
            .hears
            .get(&(epoch, from))
            .is_some_and(|heard| heard.link == session.link && heard.attempt > session.attempt)
        {
            return Ok(());
        }
        let answer = life.replica.handle_hello(clock, replica, epoch, entry, hello);
        self.trace.say(now, || format!("r{to} hears {hello:?} of r{from}: {answer:?}", to = to + 1, from = from + 1));
        match answer {
            Ok(position) => {
                let counted = life.counted(epoch, from);
                ensure(counted <= left, "refusal", || {
                    format!(
                        "r{to} takes r{from}, whose journal was rolled back to #{left}, though it counted #{counted} durable",
                        to = to + 1,
                        from = from + 1
                    )
                })?;
                life.hears.insert((epoch, from), session);
                self.send(to, from, Note::Want { session, epoch, position });
            }
            Err(HelloError::Unknown(_)) => self.answer_notice(from, to),
            Err(HelloError::Refused(refused)) => {
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

    fn want(&mut self, at: usize, peer: usize, session: Session, (epoch, position): (Epoch, u64)) -> Checked {
        let Some(life) = self.machines[at].life.as_mut() else { return Ok(()) };
        let is_asked = life.streams.get(&(epoch, peer)) == Some(&Stream::Asked { session });
        if !is_asked || self.net.session(at, peer) != session.link {
            return Ok(());
        }
        life.streams.insert((epoch, peer), Stream::Open { session, next: position });
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
        let peers: Vec<usize> = (0..self.machines.len()).filter(|peer| *peer != at).collect();
        self.ship_to(at, &peers)?;
        self.drain(at)
    }

    fn ship_to(&mut self, at: usize, peers: &[usize]) -> Checked {
        let now = self.queue.now();
        let machine = &mut self.machines[at];
        let Some(life) = machine.life.as_mut() else { return Ok(()) };
        life.shipped = machine.disk.news();
        life.shipped_at = now;
        let epochs: Vec<Epoch> = life.replica.epochs().map(|served| served.epoch).collect();
        epochs.into_iter().try_for_each(|epoch| self.ship_epoch(at, epoch, peers))
    }

    fn ship_epoch(&mut self, at: usize, epoch: Epoch, peers: &[usize]) -> Checked {
        let (now, clock) = (self.queue.now(), self.clock(at));
        let Some(life) = self.machines[at].life.as_mut() else { return Ok(()) };
        let net = &self.net;
        let listens = |peer: usize| match life.streams.get(&(epoch, peer)) {
            Some(Stream::Open { session, next }) if net.session(at, peer) == session.link => Some((*session, *next)),
            _ => None,
        };
        let open: Vec<(usize, Session, u64)> =
            peers.iter().filter_map(|peer| listens(*peer).map(|(session, next)| (*peer, session, next))).collect();
        if open.is_empty() {
            return Ok(());
        }
        let Some(beat) = life.replica.beat(clock, epoch) else { return Ok(()) };
        self.outputs(at)?;
        for (peer, session, next) in open {
            let machine = &mut self.machines[at];
            let Some(life) = machine.life.as_mut() else { return Ok(()) };
            let Some(base) = life.replica.peer_base(epoch) else { return Ok(()) };
            let (base, from) = match machine.disk.said_after(epoch, next) {
                Some(_) => (None, next),
                None => {
                    let position = base.position;
                    (Some(base), position)
                }
            };
            self.coverage.bases += u64::from(base.is_some());
            let end = beat.appended;
            let records = machine.disk.said_after(epoch, from).into_iter().flatten();
            let records = records.take_while(|record| record.header.position <= end).cloned().collect();
            life.streams.insert((epoch, peer), Stream::Open { session, next: end });
            let parcel = Box::new(Parcel { epoch, session, base, records, beat });
            let arrival = self.net.parcel(at, peer, now, &mut self.random);
            self.queue.at(arrival, Event::Parcel { from: at, to: peer, parcel });
        }
        Ok(())
    }

    /// A piece of a stream has come.
    pub(crate) fn parcel(&mut self, from: usize, to: usize, parcel: Parcel) -> Checked {
        let (replica, clock, now) = (self.replica(from), self.clock(to), self.queue.now());
        let Parcel { epoch, session, base, records, beat } = parcel;
        let is_current = self.net.session(from, to) == session.link && self.hears(from, to);
        let Some(life) = self.machines[to].life.as_mut() else { return Ok(()) };
        if !is_current || life.hears.get(&(epoch, from)) != Some(&session) {
            return Ok(());
        }
        if let Some(base) = base {
            if let Err(error) = life.replica.handle_base(clock, replica, epoch, base) {
                return self.broken(from, to, error);
            }
            self.outputs(to)?;
        }
        for record in records {
            self.coverage.records_read += 1;
            let Some(life) = self.machines[to].life.as_mut() else { return Ok(()) };
            self.trace.mark(&[8, now, from as u64, to as u64, record.header.position]);
            if let Err(error) = life.replica.handle_record(clock, replica, epoch, record) {
                return self.broken(from, to, error);
            }
            self.outputs(to)?;
        }
        let Some(life) = self.machines[to].life.as_mut() else { return Ok(()) };
        self.coverage.beats += 1;
        self.trace.mark(&[9, now, from as u64, to as u64, beat.durable]);
        life.heard[from] = now;
        let counted = life.counted.entry((epoch, from)).or_default();
        *counted = (*counted).max(beat.durable);
        self.trace.say(now, || format!("r{to} reads of r{from}: {beat:?}", to = to + 1, from = from + 1));
        if let Err(error) = life.replica.handle_beat(clock, replica, epoch, beat) {
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
        let is_busy = !life.unsealed.is_empty() || life.in_flight() > 0;
        // Waiting for clocks that were set ahead by an hour is dull, and readings stay fresh for 5 s.
        let is_long = self.phase != Phase::Storm && life.in_flight() == 0 && self.ahead_ns() > 20_000 * MS;
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
        let peers = self.machines[at].life.as_ref().map(|life| life.replica.peers());
        for replica in peers.into_iter().flatten() {
            let peer = self.index(replica);
            let Some(life) = self.machines[at].life.as_mut() else { return Ok(()) };
            let is_silent = now > life.heard[peer] + silence;
            life.replica.suspect(clock, replica, is_silent);
            self.outputs(at)?;
        }
        if self.phase != Phase::Storm {
            let nearest: Vec<_> = self.net.nearest(at).into_iter().map(|index| self.replica(index)).collect();
            if let Some(life) = self.life(at) {
                life.replica.prefer(&nearest);
            }
        }
        self.ask_snapshot(at);
        self.drain(at)
    }
}

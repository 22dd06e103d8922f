//! What the loop does about the other members: it is vouched for before it starts, offers them its journal, reads
//! theirs, and tells the core who is near and who is silent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use dace::{Claim, Hello, StreamError, Vouched};
use store::journal::Reader;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use types::limits::AHEAD_NS_MAX;
use types::{GroupId, Now, ReplicaId};

use super::Loop;
use crate::clock;
use crate::keys::random;
use crate::peer::feed::Feed;
use crate::peer::tail::Tail;
use crate::peer::wire::{Frame, Piece};
use crate::peer::{Heard, Link};
use crate::replica::overlay::Layered;

const MS: u64 = 1_000_000;
/// Between two attempts to be vouched for, or to open a stream.
const CONNECT_NS: u64 = 200 * MS;
/// Between two looks at who is near and who is silent.
const HINTS_NS: u64 = 100 * MS;
/// Between two beats while something waits for promises, and while nothing does.
const BEAT_BUSY_NS: u64 = 5 * MS;
const BEAT_IDLE_NS: u64 = 50 * MS;
/// A peer that was silent for so long is suspected.
const SILENCE_NS: u64 = 1_000 * MS;
/// How long a replica waits for the last of the others to vouch for it, when those that did would do.
const VOUCH_PATIENCE_NS: u64 = 3_000 * MS;
/// Between two looks whether the group is founded.
const FOUND_NS: u64 = 20 * MS;
/// How long a member leaves it to those before it to found the group, for each of them.
const FOUND_PATIENCE_NS: u64 = 2_000 * MS;

/// The own journal's way to a peer.
enum Outgoing {
    /// Nothing was offered on this link.
    Closed,
    /// A hello was sent in a session.
    Asked(u64),
    /// The peer is fed in a session.
    Open(u64, AbortHandle),
}

impl Outgoing {
    fn session(&self) -> Option<u64> {
        match self {
            Self::Closed => None,
            Self::Asked(session) | Self::Open(session, _) => Some(*session),
        }
    }
}

struct Neighbour {
    link: Option<Arc<dyn Link>>,
    outgoing: Outgoing,
    /// The session in which its journal is read.
    hears: Option<u64>,
    /// When something of it came last.
    heard_ns: u64,
    suspected: bool,
}

/// The other members, and what goes to all of them.
pub(crate) struct Neighbours {
    peers: BTreeMap<ReplicaId, Neighbour>,
    f: usize,
    tail: Arc<Tail>,
    reader: Reader,
    group: GroupId,
    runtime: Handle,
    /// Names this life to those who vouch for it.
    life: u64,
    /// Since when it waits to be vouched for; `None` once it has started.
    waits_since: Option<u64>,
    last_session: u64,
    connect_due_ns: u64,
    hints_due_ns: u64,
    /// Appended and durable position of the last beat, and when that was.
    told: (u64, u64),
    told_ns: u64,
}

impl Neighbours {
    pub(crate) fn new(
        others: impl Iterator<Item = ReplicaId>,
        f: u32,
        (group, reader): (GroupId, Reader),
        runtime: Handle,
    ) -> Self {
        let now = clock::now().mono_ns;
        let new = || Neighbour { link: None, outgoing: Outgoing::Closed, hears: None, heard_ns: now, suspected: false };
        Self {
            peers: others.map(|peer| (peer, new())).collect(),
            f: usize::try_from(f).unwrap_or(usize::MAX),
            tail: Arc::new(Tail::new()),
            reader,
            group,
            runtime,
            life: u64::from_be_bytes(random()),
            waits_since: Some(now),
            last_session: 0,
            connect_due_ns: now,
            hints_due_ns: now,
            told: (0, 0),
            told_ns: 0,
        }
    }

    pub(crate) fn tail(&self) -> &Tail {
        &self.tail
    }

    pub(crate) fn is_started(&self) -> bool {
        self.waits_since.is_none()
    }

    /// When the loop is to look after them again.
    pub(crate) fn due_ns(&self, is_busy: bool) -> u64 {
        let beat = self.told_ns + if is_busy { BEAT_BUSY_NS } else { BEAT_IDLE_NS };
        let beat = if self.is_started() { beat } else { u64::MAX };
        self.connect_due_ns.min(self.hints_due_ns).min(beat)
    }

    /// Says something urgent to a peer, if there is a link.
    pub(crate) fn send(&self, to: ReplicaId, frame: &Frame) {
        if let Some(link) = self.peers.get(&to).and_then(|peer| peer.link.as_ref()) {
            link.send_urgent(frame.to_bytes());
        }
    }

    fn close(&mut self, from: ReplicaId, link: Option<Arc<dyn Link>>) {
        let Some(peer) = self.peers.get_mut(&from) else { return };
        if let Outgoing::Open(_, feeder) = core::mem::replace(&mut peer.outgoing, Outgoing::Closed) {
            feeder.abort();
        }
        peer.hears = None;
        peer.link = link;
    }

    /// Feeds a peer that answered the hello of the present session.
    fn feed(&mut self, to: ReplicaId, session: u64, after: u64) {
        let Some(peer) = self.peers.get_mut(&to) else { return };
        let Some(link) =
            peer.link.clone().filter(|_| matches!(peer.outgoing, Outgoing::Asked(asked) if asked == session))
        else {
            return;
        };
        let (tail, reader, group) = (self.tail.clone(), self.reader.clone(), self.group);
        let feed = Feed { link, tail, reader, group, session, after };
        let task = self.runtime.spawn(async move {
            let end = feed.run().await;
            tracing::debug!(peer = %to, %end, "a peer is not fed any more");
        });
        peer.outgoing = Outgoing::Open(session, task.abort_handle());
    }

    /// A peer reads no further in a session.
    fn stop(&mut self, from: ReplicaId, session: u64) {
        let peer = self.peers.get_mut(&from).filter(|peer| peer.outgoing.session() == Some(session));
        let outgoing = peer.map(|peer| core::mem::replace(&mut peer.outgoing, Outgoing::Closed));
        if let Some(Outgoing::Open(_, feeder)) = outgoing {
            feeder.abort();
        }
    }

    /// Opens what is closed: claims before the start, hellos after it.
    fn connect(&mut self, claim: Option<Claim>, hello: Option<Hello>) {
        for peer in self.peers.values_mut() {
            let Some(link) = &peer.link else { continue };
            if matches!(&peer.outgoing, Outgoing::Open(_, feeder) if !feeder.is_finished()) {
                continue;
            }
            if let Some(claim) = claim {
                link.send_urgent(Frame::Claim { life: self.life, claim }.to_bytes());
            }
            if let Some(hello) = hello {
                self.last_session += 1;
                peer.outgoing = Outgoing::Asked(self.last_session);
                link.send_urgent(Frame::Hello { session: self.last_session, hello }.to_bytes());
            }
        }
    }

    /// Members that can be reached, this one among them.
    fn reachable(&self) -> usize {
        1 + self.peers.values().filter(|peer| peer.link.is_some() && !peer.suspected).count()
    }
}

impl Loop {
    /// Something came of a peer.
    pub(crate) fn hear(&mut self, from: ReplicaId, heard: Heard) -> Result<(), String> {
        let Some(neighbours) = self.neighbours.as_mut() else { return Ok(()) };
        match heard {
            Heard::Up(link) => {
                neighbours.close(from, Some(link));
                neighbours.connect_due_ns = 0;
            }
            Heard::Down => neighbours.close(from, None),
            Heard::Frame(frame, room) => {
                if let Some(peer) = neighbours.peers.get_mut(&from) {
                    peer.heard_ns = clock::now().mono_ns;
                }
                self.frame(from, *frame)?;
                drop(room);
            }
        }
        Ok(())
    }

    fn frame(&mut self, from: ReplicaId, frame: Frame) -> Result<(), String> {
        let now = clock::now();
        let Some(neighbours) = self.neighbours.as_mut() else { return Ok(()) };
        match frame {
            Frame::Claim { life, claim } => {
                let answer = self.replica.core().handle_claim(from, claim);
                let frame = match answer {
                    Ok(()) => Frame::Vouch { life },
                    Err(refused) => Frame::Unvouched { life, reason: refused.to_string() },
                };
                neighbours.send(from, &frame);
            }
            Frame::Vouch { life } if life == neighbours.life => self.replica.core().handle_vouch(from),
            Frame::Unvouched { life, reason } if life == neighbours.life && !neighbours.is_started() => {
                return Err(refusal(from, &reason));
            }
            Frame::Refused { session, reason } => {
                let current = neighbours.peers.get(&from).and_then(|peer| peer.outgoing.session());
                if current == Some(session) {
                    return Err(refusal(from, &reason));
                }
            }
            Frame::Vouch { .. } | Frame::Unvouched { .. } => {}
            // The others wait until this replica has started.
            _ if !neighbours.is_started() => {}
            Frame::Hello { session, hello } => self.hello(now, from, session, hello),
            Frame::Want { session, position } => neighbours.feed(from, session, position),
            Frame::Piece(piece) => self.piece(now, from, piece)?,
            Frame::Stop { session } => neighbours.stop(from, session),
            Frame::Message(message) => self.replica.core().handle_message(now, from, message),
        }
        self.drain(None)
    }

    fn hello(&mut self, now: Now, from: ReplicaId, session: u64, hello: Hello) {
        let answer = self.replica.core().handle_hello(now, from, hello);
        let Some(neighbours) = self.neighbours.as_mut() else { return };
        let frame = match answer {
            Ok(position) => {
                if let Some(peer) = neighbours.peers.get_mut(&from) {
                    peer.hears = Some(session);
                }
                Frame::Want { session, position }
            }
            Err(refused) => {
                tracing::warn!(peer = %from, reason = %refused, "a peer is refused");
                Frame::Refused { session, reason: refused.to_string() }
            }
        };
        neighbours.send(from, &frame);
    }

    /// A piece of a peer's journal.
    fn piece(&mut self, now: Now, from: ReplicaId, piece: Piece) -> Result<(), String> {
        let neighbours = self.neighbours.as_ref();
        let hears = neighbours.and_then(|neighbours| neighbours.peers.get(&from)).and_then(|peer| peer.hears);
        let session = piece.session;
        if hears != Some(session) {
            return Ok(());
        }
        let Err(error) = self.read(now, from, piece)? else { return Ok(()) };
        match &error {
            StreamError::Behind(behind) => {
                tracing::info!(peer = %from, cut = %behind.cut, "a peer has trimmed what comes next here: its state is needed");
            }
            other => tracing::warn!(peer = %from, reason = %other, "a peer's journal cannot be read on; trying again"),
        }
        let Some(neighbours) = self.neighbours.as_mut() else { return Ok(()) };
        if let Some(peer) = neighbours.peers.get_mut(&from) {
            peer.hears = None;
        }
        neighbours.send(from, &Frame::Stop { session });
        Ok(())
    }

    fn read(&mut self, now: Now, from: ReplicaId, piece: Piece) -> Result<Result<(), StreamError>, String> {
        if let Some(base) = piece.base {
            if let Err(error) = self.replica.core().handle_base(now, from, base) {
                return Ok(Err(error));
            }
            self.drain(None)?;
        }
        for record in piece.records {
            if let Err(error) = self.replica.core().handle_record(now, from, record) {
                return Ok(Err(error));
            }
            self.drain(None)?;
        }
        if let Some(beat) = piece.beat {
            return Ok(self.replica.core().handle_beat(now, from, beat));
        }
        Ok(Ok(()))
    }

    /// Does what is due about the other members.
    pub(crate) fn look_after_peers(&mut self) -> Result<(), String> {
        if self.neighbours.is_none() {
            return Ok(());
        }
        self.start_vouched()?;
        self.connect();
        self.hint()?;
        self.found()?;
        self.tell_peers()
    }

    /// Starts the core once its journal is vouched for, or barely so for long.
    fn start_vouched(&mut self) -> Result<(), String> {
        let now = clock::now();
        let Some(neighbours) = self.neighbours.as_mut() else { return Ok(()) };
        let Some(since) = neighbours.waits_since else { return Ok(()) };
        match self.replica.core().vouched() {
            Vouched::Fully => {}
            Vouched::Barely if now.mono_ns >= since + VOUCH_PATIENCE_NS => {
                tracing::warn!("not all members could vouch for this replica's journal; those that did are enough");
            }
            Vouched::Barely | Vouched::Lacking => return Ok(()),
        }
        neighbours.waits_since = None;
        neighbours.connect_due_ns = 0;
        self.replica.handle_start(now).map_err(|error| error.to_string())?;
        self.shared.incarnation.store(self.replica.status().incarnation.0, Ordering::Relaxed);
        self.started_ns = now.mono_ns;
        self.drain(None)
    }

    fn connect(&mut self) {
        let now = clock::now().mono_ns;
        let Some(neighbours) = self.neighbours.as_mut().filter(|neighbours| now >= neighbours.connect_due_ns) else {
            return;
        };
        neighbours.connect_due_ns = now + CONNECT_NS;
        let core = self.replica.core();
        let claim = (!neighbours.is_started()).then(|| core.claim());
        neighbours.connect(claim, core.hello());
    }

    /// Tells the core who is silent and who is near, and the node whether there is a quorum.
    fn hint(&mut self) -> Result<(), String> {
        let now = clock::now();
        let Some(neighbours) = self.neighbours.as_mut().filter(|neighbours| now.mono_ns >= neighbours.hints_due_ns)
        else {
            return Ok(());
        };
        neighbours.hints_due_ns = now.mono_ns + HINTS_NS;
        let core = self.replica.core();
        let mut near = Vec::new();
        for (replica, peer) in &mut neighbours.peers {
            let is_silent = peer.link.is_none() || now.mono_ns > peer.heard_ns + SILENCE_NS;
            if is_silent != peer.suspected {
                tracing::info!(peer = %replica, silent = is_silent, "a peer is silent, or is heard again");
            }
            peer.suspected = is_silent;
            core.suspect(now, *replica, is_silent);
            near.push((peer.link.as_ref().and_then(|link| link.round_trip()), *replica));
        }
        // Those of unknown distance come last.
        near.sort_by_key(|(delay, replica)| (delay.is_none(), *delay, *replica));
        let order: Vec<ReplicaId> = near.iter().map(|(_, replica)| *replica).collect();
        core.prefer(&order);
        let n = near.len() + 1;
        let fast = (n / 2 + 1).max(n / 2 + neighbours.f);
        let farthest = near.get(fast.saturating_sub(2)).and_then(|(delay, _)| *delay).unwrap_or_default();
        let one_way = u64::try_from(farthest.as_nanos() / 2).unwrap_or(AHEAD_NS_MAX).min(AHEAD_NS_MAX);
        core.set_ahead(one_way);
        core.set_promise_lag(if neighbours.f >= 2 { one_way } else { 0 });
        self.shared.reachable.store(neighbours.reachable(), Ordering::Relaxed);
        self.drain(None)
    }

    /// Sees to it that the group is founded: its first member proposes that, and after a while the others, too. Only one
    /// of these commands has an effect.
    fn found(&mut self) -> Result<(), String> {
        let now = clock::now();
        let is_running = self.replica.status().phase == dace::Phase::Running;
        self.shared.opened.store(is_running, Ordering::Relaxed);
        if self.shared.founded.load(Ordering::Relaxed) || now.mono_ns < self.found_due_ns {
            return Ok(());
        }
        let state = Layered { overlay: &self.shared.overlay, state: self.shared.state.as_ref() };
        let found = catalog::query::genesis(&state).map_err(|error| error.to_string())?;
        if let Some(found) = found {
            if found.genesis != self.shared.genesis {
                return Err("the group was founded with other members or keys than this node was told of".to_owned());
            }
            self.shared.founded.store(true, Ordering::Relaxed);
            return Ok(());
        }
        self.found_due_ns = now.mono_ns + FOUND_NS;
        let place = self.shared.genesis.members.iter().position(|member| member.replica == self.shared.replica);
        let patience = FOUND_PATIENCE_NS * u64::try_from(place.unwrap_or(0)).unwrap_or(0);
        let is_turn = now.mono_ns >= self.started_ns + patience;
        if !is_turn || self.proposed_founding || !is_running {
            return Ok(());
        }
        let (command, submission) = crate::start::founding(&self.shared.genesis).map_err(|error| error.to_string())?;
        // Refused while the clocks of the others are not known: tried again.
        self.proposed_founding = self.replica.handle_submit(now, command, submission).is_ok();
        self.drain(None)
    }

    /// A beat, when there is news or it is time.
    fn tell_peers(&mut self) -> Result<(), String> {
        let now = clock::now();
        let is_busy = self.is_busy();
        let status = self.replica.status();
        let Some(neighbours) = self.neighbours.as_ref().filter(|neighbours| neighbours.is_started()) else {
            return Ok(());
        };
        let every = if is_busy { BEAT_BUSY_NS } else { BEAT_IDLE_NS };
        let is_news = (status.appended, status.durable) != neighbours.told;
        if !is_news && now.mono_ns < neighbours.told_ns + every {
            return Ok(());
        }
        let beat = self.replica.core().beat(now);
        self.drain(None)?;
        let base = self.replica.core().peer_base();
        let Some(neighbours) = self.neighbours.as_mut() else { return Ok(()) };
        neighbours.told = (beat.appended, beat.durable);
        neighbours.told_ns = now.mono_ns;
        neighbours.tail.publish(beat, base);
        Ok(())
    }

    /// Whether something waits for promises.
    pub(crate) fn is_busy(&mut self) -> bool {
        let status = self.replica.status();
        let undecided = self.replica.core().blocking().any(|(_, _, first)| first.is_some());
        undecided || status.in_flight > 0 || status.committed > 0 || self.replica.unsealed_len() > 0
    }
}

fn refusal(from: ReplicaId, reason: &str) -> String {
    format!("replica {from} refuses this one for good: {reason}")
}

//! What the loop does about other nodes: it is vouched for before it starts, offers them its journals, reads theirs,
//! tells them of epochs, and tells the core who is near and who is silent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dace::{Claims, Entry, Hello, HelloError, Membership, Notice, StreamError, Vouched};
use mesh::links::probe::{Detector, Patience};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use types::limits::AHEAD_NS_MAX;
use types::{Epoch, Now, ReplicaId};

use super::Loop;
use super::journals::EpochJournal;
use crate::clock;
use crate::keys::random;
use crate::peer::feed::Feed;
use crate::peer::wire::{Frame, Piece};
use crate::peer::{Heard, Link, PeerAccount};
use crate::replica::overlay::Layered;

const MS: u64 = 1_000_000;
/// Between two attempts to be vouched for, or to open a stream.
const CONNECT_NS: u64 = 200 * MS;
/// How long the answer to a hello is waited for: longer than to the other end of the world and back.
const HELLO_NS: u64 = 2_000 * MS;
/// Between two looks at who is near and who is silent.
const HINTS_NS: u64 = 100 * MS;
/// Between two beats while something waits for promises, and while nothing does.
const BEAT_BUSY_NS: u64 = 5 * MS;
const BEAT_IDLE_NS: u64 = 50 * MS;
/// How much longer than the way a proposal may take, with `f >= 2`: it is flushed first, and clocks differ.
const PROMISE_SLACK_NS: u64 = 20 * MS;
/// How patient this replica is with a peer whose journal it reads. Beats come every 50 ms, so two may be late. The floor
/// is what a loaded machine was measured to need (docs/testing.md, suspicion); the ceiling bounds what a bad link teaches.
/// The round trip comes on top: what was lost once is there one round trip later.
const PATIENCE: Patience = Patience {
    interval: Duration::from_nanos(BEAT_IDLE_NS),
    threshold: 8,
    floor: Duration::from_millis(150),
    ceiling: Duration::from_millis(500),
};
/// A node whose journal is not read here says little: it is suspected when it was silent for so long.
const SILENCE_NS: u64 = 1_000 * MS;
/// A loop that comes round this much late was held up itself: what it did not hear meanwhile is nobody's silence.
const STALL_NS: u64 = 2 * BEAT_IDLE_NS;
/// How long a replica waits for the last of the others to vouch for it, when those that did would do.
const VOUCH_PATIENCE_NS: u64 = 3_000 * MS;
/// Between two looks whether the group is founded.
const FOUND_NS: u64 = 20 * MS;
/// How long a member leaves it to those before it to found the group, for each of them.
const FOUND_PATIENCE_NS: u64 = 2_000 * MS;
/// Between two notices of the same epochs: one may be lost, and who is no member hears nothing else.
const NOTICE_NS: u64 = 250 * MS;

/// The own journal's way to a peer.
#[derive(Default)]
enum Outgoing {
    /// Nothing was offered on this link.
    #[default]
    Closed,
    /// A hello was sent in a session, at this time.
    Asked(u64, u64),
    /// The peer is fed in a session.
    Open(u64, AbortHandle),
}

impl Outgoing {
    fn session(&self) -> Option<u64> {
        match self {
            Self::Closed => None,
            Self::Asked(session, _) | Self::Open(session, _) => Some(*session),
        }
    }

    /// Whether a hello is needless now.
    fn is_under_way(&self, now_ns: u64) -> bool {
        match self {
            Self::Closed => false,
            Self::Asked(_, since) => now_ns < since + HELLO_NS,
            Self::Open(_, feeder) => !feeder.is_finished(),
        }
    }

    fn close(&mut self) {
        // A hello that was refused for now is said again at the next turn.
        if let Self::Open(_, feeder) = core::mem::take(self) {
            feeder.abort();
        }
    }
}

/// What goes both ways between this replica and a peer in an epoch.
#[derive(Default)]
struct Streams {
    outgoing: Outgoing,
    /// The session in which its journal is read.
    hears: Option<u64>,
}

struct Neighbour {
    link: Option<Arc<dyn Link>>,
    streams: BTreeMap<Epoch, Streams>,
    /// Its silences on this link.
    detector: Detector,
    /// Whether it was heard on this link as one that has started: before that, it votes on nothing.
    is_running: bool,
    suspected: bool,
    /// Whether it was suspected for its silence alone: if it is heard again on this link, it was there all the time.
    was_silent: bool,
    /// As measured lately; 0 if it was not.
    round_trip_ns: u64,
    /// How often it was suspected and heard again on the same link.
    false_suspicions: u64,
}

impl Neighbour {
    fn new(now_ns: u64) -> Self {
        Self {
            link: None,
            streams: BTreeMap::new(),
            detector: Detector::new(PATIENCE, Duration::from_nanos(now_ns)),
            is_running: false,
            suspected: true,
            was_silent: false,
            round_trip_ns: 0,
            false_suspicions: 0,
        }
    }

    /// The silence at which it is suspected.
    fn limit_ns(&self) -> u64 {
        if self.streams.values().all(|streams| streams.hears.is_none()) {
            return SILENCE_NS;
        }
        let limit = u64::try_from(self.detector.limit().as_nanos()).unwrap_or(SILENCE_NS);
        limit.saturating_add(self.round_trip_ns)
    }

    /// When it will be suspected, if nothing comes of it.
    fn suspect_due_ns(&self, now_ns: u64) -> u64 {
        if self.suspected || self.link.is_none() {
            return u64::MAX;
        }
        let silence = self.detector.silence(Duration::from_nanos(now_ns));
        let silence_ns = u64::try_from(silence.as_nanos()).unwrap_or(u64::MAX);
        now_ns.saturating_add(self.limit_ns().saturating_sub(silence_ns)).saturating_add(1)
    }

    fn is_silent(&self, now_ns: u64) -> bool {
        self.detector.silence(Duration::from_nanos(now_ns)) > Duration::from_nanos(self.limit_ns())
    }

    fn close(&mut self) {
        self.streams.values_mut().for_each(|streams| streams.outgoing.close());
        self.streams.clear();
    }

    /// The epoch whose journal is fed to it in a session, or offered.
    fn fed_in(&self, session: u64) -> Option<Epoch> {
        let found = self.streams.iter().find(|(_, streams)| streams.outgoing.session() == Some(session));
        found.map(|(epoch, _)| *epoch)
    }

    /// The epoch in which its journal is read in a session.
    fn heard_in(&self, session: u64) -> Option<Epoch> {
        self.streams.iter().find(|(_, streams)| streams.hears == Some(session)).map(|(epoch, _)| *epoch)
    }
}

/// The other nodes.
pub(crate) struct Neighbours {
    peers: BTreeMap<ReplicaId, Neighbour>,
    runtime: Handle,
    /// Names this life to those who vouch for it.
    life: u64,
    /// Since when it waits to be vouched for; `None` once it has started.
    waits_since: Option<u64>,
    last_session: u64,
    connect_due_ns: u64,
    hints_due_ns: u64,
    /// When the silences of all were judged last.
    judged_ns: u64,
    told_ns: u64,
    /// The notice that was told last, and when it is due again.
    notice: Option<Notice>,
    notice_due_ns: u64,
}

impl Neighbours {
    /// `is_started`: a lone replica, which needs nobody's word, has started before.
    pub(crate) fn new(runtime: Handle, is_started: bool) -> Self {
        let now = clock::now().mono_ns;
        Self {
            peers: BTreeMap::new(),
            runtime,
            life: u64::from_be_bytes(random()),
            waits_since: (!is_started).then_some(now),
            last_session: 0,
            connect_due_ns: now,
            hints_due_ns: now,
            judged_ns: now,
            told_ns: 0,
            notice: None,
            notice_due_ns: now,
        }
    }

    pub(crate) fn is_started(&self) -> bool {
        self.waits_since.is_none()
    }

    /// When the loop is to look after them again.
    pub(crate) fn due_ns(&self, is_busy: bool) -> u64 {
        let beat = self.told_ns + if is_busy { BEAT_BUSY_NS } else { BEAT_IDLE_NS };
        let beat = if self.is_started() && !self.peers.is_empty() { beat } else { u64::MAX };
        let silent = self.peers.values().map(|peer| peer.suspect_due_ns(self.judged_ns)).min().unwrap_or(u64::MAX);
        self.connect_due_ns.min(self.hints_due_ns).min(beat).min(silent)
    }

    /// Says something urgent to a peer, if there is a link.
    pub(crate) fn send(&self, to: ReplicaId, frame: &Frame) {
        if let Some(link) = self.peers.get(&to).and_then(|peer| peer.link.as_ref()) {
            link.send_urgent(frame.to_bytes());
        }
    }

    /// There is news of epochs: streams are opened, and notices sent, at once.
    pub(crate) fn look_again(&mut self) {
        self.connect_due_ns = 0;
        self.notice_due_ns = 0;
    }

    /// An epoch is not served any more.
    pub(crate) fn end(&mut self, epoch: Epoch) {
        for peer in self.peers.values_mut() {
            if let Some(mut streams) = peer.streams.remove(&epoch) {
                streams.outgoing.close();
            }
        }
    }

    fn peer(&mut self, of: ReplicaId) -> &mut Neighbour {
        self.peers.entry(of).or_insert_with(|| Neighbour::new(clock::now().mono_ns))
    }

    fn link(&mut self, of: ReplicaId, link: Option<Arc<dyn Link>>) {
        let now = Duration::from_nanos(clock::now().mono_ns);
        let peer = self.peer(of);
        peer.close();
        peer.link = link;
        peer.detector = Detector::new(PATIENCE, now);
        (peer.is_running, peer.was_silent) = (false, false);
    }

    /// A frame of a peer came.
    fn heard(&mut self, of: ReplicaId, frame: &Frame) {
        let now = Duration::from_nanos(clock::now().mono_ns);
        let peer = self.peer(of);
        peer.detector.heard(now);
        // These are said before a start, too.
        let is_early = matches!(frame, Frame::Claims { .. } | Frame::Vouch { .. } | Frame::Unvouched { .. });
        peer.is_running |= !is_early && !matches!(frame, Frame::Stop { .. });
    }

    /// The links that are up, the nearest first.
    pub(crate) fn links(&self) -> Vec<Arc<dyn Link>> {
        let mut links: Vec<_> = self.peers.values().filter_map(|peer| peer.link.clone()).collect();
        links.sort_by_key(|link| (link.round_trip().is_none(), link.round_trip()));
        links
    }

    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Feeds a peer that answered the hello of the present session.
    fn feed(
        &mut self,
        to: ReplicaId,
        session: u64,
        after: u64,
        journals: &BTreeMap<Epoch, EpochJournal>,
        group: types::GroupId,
    ) {
        let Some(peer) = self.peers.get_mut(&to) else { return };
        let Some(epoch) = peer.fed_in(session) else { return };
        let (Some(link), Some(journal)) = (peer.link.clone(), journals.get(&epoch)) else { return };
        let Some(streams) = peer.streams.get_mut(&epoch).filter(|of| matches!(of.outgoing, Outgoing::Asked(..))) else {
            return;
        };
        let feed = Feed { link, tail: journal.tail.clone(), reader: journal.writer.reader(), group, session, after };
        let task = self.runtime.spawn(async move {
            let end = feed.run().await;
            tracing::debug!(peer = %to, %end, "a peer is not fed any more");
        });
        streams.outgoing = Outgoing::Open(session, task.abort_handle());
    }

    /// Opens a stream to every member of the epoch that is not fed.
    fn offer(&mut self, membership: &Membership, entry: Option<Entry>, hello: Hello) {
        let (epoch, now_ns) = (membership.epoch, clock::now().mono_ns);
        for (_, peer) in self.peers.iter_mut().filter(|(replica, _)| membership.has(**replica)) {
            let Some(link) = &peer.link else { continue };
            let streams = peer.streams.entry(epoch).or_default();
            if streams.outgoing.is_under_way(now_ns) {
                continue;
            }
            self.last_session += 1;
            streams.outgoing = Outgoing::Asked(self.last_session, now_ns);
            link.send_urgent(Frame::Hello { epoch, entry, session: self.last_session, hello }.to_bytes());
        }
    }

    fn claim(&self, claims: &Claims) {
        let bytes = Frame::Claims { life: self.life, claims: claims.clone() }.to_bytes();
        self.peers.values().filter_map(|peer| peer.link.as_ref()).for_each(|link| link.send_urgent(bytes.clone()));
    }

    /// Members that can be reached, this one among them.
    fn reachable(&self, own: ReplicaId, membership: &Membership) -> usize {
        let is_there = |replica: &&ReplicaId| {
            let peer = self.peers.get(*replica);
            **replica == own || peer.is_some_and(|peer| peer.link.is_some() && !peer.suspected)
        };
        membership.members.iter().filter(is_there).count()
    }

    /// Nodes that are taken for failed.
    fn suspects(&self) -> BTreeSet<ReplicaId> {
        self.peers.iter().filter(|(_, peer)| peer.suspected).map(|(replica, _)| *replica).collect()
    }

    /// Who is there, apart from this one.
    pub(crate) fn connected(&self) -> Vec<ReplicaId> {
        let there = self.peers.iter().filter(|(_, peer)| peer.link.is_some() && !peer.suspected);
        there.map(|(replica, _)| *replica).collect()
    }
}

impl Loop {
    /// Something came of a peer.
    pub(crate) fn hear(&mut self, from: ReplicaId, heard: Heard) -> Result<(), String> {
        match heard {
            Heard::Up(link) => {
                self.neighbours.link(from, Some(link));
                self.neighbours.look_again();
            }
            Heard::Down => self.neighbours.link(from, None),
            Heard::Frame(frame, room) => {
                self.neighbours.heard(from, &frame);
                self.frame(from, *frame)?;
                drop(room);
            }
        }
        Ok(())
    }

    fn frame(&mut self, from: ReplicaId, frame: Frame) -> Result<(), String> {
        let now = clock::now();
        let life = self.neighbours.life;
        match frame {
            Frame::Claims { life, claims } => {
                let frame = match self.replica.consensus().handle_claims(from, &claims) {
                    Ok(vouch) => Frame::Vouch { life, vouch },
                    Err(refused) => Frame::Unvouched { life, reason: refused.to_string() },
                };
                self.neighbours.send(from, &frame);
            }
            Frame::Vouch { life: of, vouch } if of == life => self.replica.consensus().handle_vouch(from, &vouch),
            Frame::Unvouched { life: of, reason } if of == life && !self.neighbours.is_started() => {
                return Err(refusal(from, &reason));
            }
            Frame::Vouch { .. } | Frame::Unvouched { .. } => {}
            Frame::Notice(notice) => self.replica.consensus().handle_notice(now, from, &notice),
            Frame::Refused { session, reason } => {
                if self.neighbours.peer(from).fed_in(session).is_some() {
                    return Err(refusal(from, &reason));
                }
            }
            // Offered again soon: without an answer the peer would wait for as long as one may take, and this replica
            // for its journal, and so for a clock to compare its own with.
            Frame::Hello { session, .. } if !self.neighbours.is_started() => {
                self.neighbours.send(from, &Frame::Stop { session });
            }
            // The others wait until this replica has started.
            _ if !self.neighbours.is_started() => {}
            Frame::Hello { epoch, entry, session, hello } => self.hello(now, from, (epoch, entry), session, hello),
            Frame::Want { session, position } => {
                self.neighbours.feed(from, session, position, &self.journals.by_epoch, self.shared.group);
            }
            Frame::Piece(piece) => self.piece(now, from, piece)?,
            Frame::Stop { session } => {
                let peer = self.neighbours.peer(from);
                let epoch = peer.fed_in(session);
                epoch.and_then(|epoch| peer.streams.get_mut(&epoch)).into_iter().for_each(|of| of.outgoing.close());
            }
            Frame::Message(epoch, message) => self.replica.consensus().handle_message(now, from, epoch, message),
        }
        self.drain(None)
    }

    fn hello(&mut self, now: Now, from: ReplicaId, (epoch, entry): (Epoch, Option<Entry>), session: u64, hello: Hello) {
        let answer = self.replica.consensus().handle_hello(now, from, epoch, entry, hello);
        let frame = match answer {
            Ok(position) => {
                self.neighbours.peer(from).streams.entry(epoch).or_default().hears = Some(session);
                // It has started a moment ago, and what was offered before that was not taken. What is offered and not
                // answered yet is not offered anew: two that do that to each other on a slow machine never come to an end.
                self.neighbours.connect_due_ns = 0;
                Frame::Want { session, position }
            }
            // Offered again in a while, if it is still needed then.
            Err(HelloError::Unknown(_)) => Frame::Stop { session },
            Err(HelloError::Refused(refused)) => {
                tracing::warn!(peer = %from, reason = %refused, "a peer is refused");
                Frame::Refused { session, reason: refused.to_string() }
            }
        };
        self.neighbours.send(from, &frame);
    }

    /// A piece of a peer's journal.
    fn piece(&mut self, now: Now, from: ReplicaId, piece: Piece) -> Result<(), String> {
        let session = piece.session;
        let Some(epoch) = self.neighbours.peer(from).heard_in(session) else { return Ok(()) };
        let Err(error) = self.read(now, from, epoch, piece)? else { return Ok(()) };
        match &error {
            StreamError::Behind(behind) => {
                tracing::info!(peer = %from, cut = %behind.cut, "a peer has trimmed what comes next here: its state is needed");
            }
            other => tracing::debug!(peer = %from, reason = %other, "a peer's journal cannot be read on; trying again"),
        }
        if let Some(streams) = self.neighbours.peer(from).streams.get_mut(&epoch) {
            streams.hears = None;
        }
        self.neighbours.send(from, &Frame::Stop { session });
        Ok(())
    }

    fn read(
        &mut self,
        now: Now,
        from: ReplicaId,
        epoch: Epoch,
        piece: Piece,
    ) -> Result<Result<(), StreamError>, String> {
        if let Some(base) = piece.base {
            if let Err(error) = self.replica.consensus().handle_base(now, from, epoch, base) {
                return Ok(Err(error));
            }
            self.drain(None)?;
        }
        for record in piece.records {
            if let Err(error) = self.replica.consensus().handle_record(now, from, epoch, record) {
                return Ok(Err(error));
            }
            self.drain(None)?;
            self.tell_in_time()?;
        }
        if let Some(beat) = piece.beat {
            return Ok(self.replica.consensus().handle_beat(now, from, epoch, beat));
        }
        Ok(Ok(()))
    }

    /// Does what is due about the other nodes.
    pub(crate) fn look_after_peers(&mut self) -> Result<(), String> {
        self.start_vouched()?;
        self.connect();
        self.judge()?;
        self.hint()?;
        self.found()?;
        self.look_after_zones()?;
        self.tell_epochs();
        self.tell_peers()?;
        self.take_turns()
    }

    /// Starts the cores once the journals are vouched for, or barely so for long.
    fn start_vouched(&mut self) -> Result<(), String> {
        let now = clock::now();
        let Some(since) = self.neighbours.waits_since else { return Ok(()) };
        match self.replica.consensus().vouched() {
            Vouched::Fully => {}
            Vouched::Barely if now.mono_ns >= since + VOUCH_PATIENCE_NS => {
                tracing::warn!("not all members could vouch for this replica's journal; those that did are enough");
            }
            Vouched::Barely | Vouched::Lacking => return Ok(()),
        }
        self.neighbours.waits_since = None;
        self.neighbours.look_again();
        self.replica.handle_start(now).map_err(|error| error.to_string())?;
        self.started_ns = now.mono_ns;
        self.drain(None)
    }

    fn connect(&mut self) {
        let now = clock::now().mono_ns;
        if now < self.neighbours.connect_due_ns {
            return;
        }
        self.neighbours.connect_due_ns = now + CONNECT_NS;
        if !self.neighbours.is_started() {
            let claims = self.replica.consensus().claims();
            return self.neighbours.claim(&claims);
        }
        for journal in self.journals.by_epoch.values().filter(|journal| journal.membership.members.len() > 1) {
            if let Some((entry, hello)) = self.replica.consensus().hello(journal.membership.epoch) {
                self.neighbours.offer(&journal.membership, entry, hello);
            }
        }
    }

    /// Tells the core who is silent, as soon as that is so, and the node whether there is a quorum.
    fn judge(&mut self) -> Result<(), String> {
        let now = clock::now();
        let stall_ns = now.mono_ns.saturating_sub(self.neighbours.judged_ns);
        self.neighbours.judged_ns = now.mono_ns;
        let excused = Duration::from_nanos(if stall_ns > STALL_NS { stall_ns } else { 0 });
        let mut has_changed = false;
        for (replica, peer) in &mut self.neighbours.peers {
            peer.detector.excuse(excused, Duration::from_nanos(now.mono_ns));
            let is_silent = peer.link.is_some() && peer.is_running && peer.is_silent(now.mono_ns);
            let is_suspect = peer.link.is_none() || !peer.is_running || is_silent;
            if is_suspect == peer.suspected {
                continue;
            }
            has_changed = true;
            peer.suspected = is_suspect;
            let silence_ms = u64::try_from(peer.detector.silence(Duration::from_nanos(now.mono_ns)).as_millis());
            if is_suspect {
                self.shared.metrics.suspected();
                peer.was_silent = is_silent;
                let (silence_ms, has_link) = (silence_ms.unwrap_or(u64::MAX), peer.link.is_some());
                tracing::info!(peer = %replica, has_link, silence_ms, "a peer is silent: it is suspected");
            } else {
                let was_there = core::mem::take(&mut peer.was_silent);
                if was_there {
                    peer.false_suspicions += 1;
                    self.shared.metrics.suspected_falsely();
                }
                tracing::info!(peer = %replica, was_there, "a peer is heard again");
            }
            self.replica.consensus().suspect(now, *replica, is_suspect);
        }
        if !has_changed {
            return Ok(());
        }
        self.note_peers(now.mono_ns);
        self.drain(None)
    }

    /// What others may know of the peers.
    fn note_peers(&self, now_ns: u64) {
        let membership = self.shared.membership();
        let reachable = self.neighbours.reachable(self.shared.replica, &membership);
        self.shared.reachable.store(reachable, Ordering::Relaxed);
        let suspects = self.neighbours.suspects();
        if **self.shared.suspects.load() != suspects {
            self.shared.suspects.store(Arc::new(suspects));
        }
        let account = |(replica, peer): (&ReplicaId, &Neighbour)| PeerAccount {
            replica: replica.0,
            suspected: peer.suspected,
            suspicion: peer.detector.phi(Duration::from_nanos(now_ns)),
            suspected_after_ms: peer.limit_ns() / MS,
            false_suspicions: peer.false_suspicions,
        };
        self.shared.peers.note(self.neighbours.peers.iter().map(account).collect());
    }

    /// Tells the core who is near, and of whom nothing was heard yet.
    fn hint(&mut self) -> Result<(), String> {
        let now = clock::now();
        if now.mono_ns < self.neighbours.hints_due_ns {
            return Ok(());
        }
        self.neighbours.hints_due_ns = now.mono_ns + HINTS_NS;
        let membership = self.shared.membership();
        let mut near = Vec::new();
        let consensus = self.replica.consensus();
        for (replica, peer) in &mut self.neighbours.peers {
            let delay = peer.link.as_ref().and_then(|link| link.round_trip());
            peer.round_trip_ns = delay.map_or(0, |delay| u64::try_from(delay.as_nanos()).unwrap_or(0));
            consensus.suspect(now, *replica, peer.suspected);
            if membership.has(*replica) {
                near.push((delay, *replica));
            }
        }
        // Members of which nothing was heard yet are silent, too.
        for replica in
            consensus.peers().filter(|replica| !self.neighbours.peers.contains_key(replica)).collect::<Vec<_>>()
        {
            consensus.suspect(now, replica, true);
        }
        // Those of unknown distance come last.
        near.sort_by_key(|(delay, replica)| (delay.is_none(), *delay, *replica));
        let order: Vec<ReplicaId> = near.iter().map(|(_, replica)| *replica).collect();
        consensus.prefer(&order);
        let n = membership.members.len();
        let f = usize::try_from(membership.f).unwrap_or(0);
        let delays: Vec<Option<Duration>> = near.iter().map(|(delay, _)| *delay).collect();
        let (ahead_ns, promise_lag_ns) = distances(n, f, &delays);
        consensus.set_distances(ahead_ns, promise_lag_ns);
        self.note_peers(now.mono_ns);
        self.drain(None)
    }

    /// Sees to it that the group is founded: its first member proposes that, and after a while the others, too. Only one
    /// of these commands has an effect.
    fn found(&mut self) -> Result<(), String> {
        let now = clock::now();
        let status = self.replica.status();
        let is_running = status.is_some_and(|status| status.phase == dace::Phase::Running);
        if is_running {
            // What comes while a later epoch opens waits for it.
            self.shared.opened.store(true, Ordering::Relaxed);
        }
        if let Some(status) = status {
            self.shared.incarnation.store(status.incarnation.0, Ordering::Relaxed);
        }
        if self.shared.founded.load(Ordering::Relaxed) || now.mono_ns < self.found_due_ns {
            return Ok(());
        }
        self.found_due_ns = now.mono_ns + FOUND_NS;
        let state = self.shared.state.load();
        let state = Layered { overlay: &self.shared.overlay, state: state.as_ref() };
        let found = catalog::query::genesis(&state).map_err(|error| error.to_string())?;
        if let Some(found) = found {
            if found.genesis != self.shared.genesis {
                return Err("the group was founded with other members or keys than this node was told of".to_owned());
            }
            self.shared.founded.store(true, Ordering::Relaxed);
            return Ok(());
        }
        let place = self.shared.genesis.members.iter().position(|member| member.replica == self.shared.replica);
        let Some(place) = place.filter(|_| self.shared.membership().entry.is_none()) else { return Ok(()) };
        let patience = FOUND_PATIENCE_NS * u64::try_from(place).unwrap_or(0);
        let is_turn = now.mono_ns >= self.started_ns + patience;
        if !is_turn || self.proposed_founding || !is_running {
            return Ok(());
        }
        let (command, submission) =
            crate::recover::founding(&self.shared.genesis).map_err(|error| error.to_string())?;
        // Refused while the clocks of the others are not known: tried again.
        self.proposed_founding = self.replica.handle_submit(now, command, submission).is_ok();
        self.drain(None)
    }

    /// Tells everyone of the epochs, when there is news, a new link, or it is time.
    fn tell_epochs(&mut self) {
        let now = clock::now().mono_ns;
        if !self.neighbours.is_started() || self.neighbours.peers.is_empty() {
            return;
        }
        let is_due = now >= self.neighbours.notice_due_ns;
        if !is_due && !self.replica.consensus().is_changing() {
            return;
        }
        let notice = self.replica.consensus().notice();
        if !is_due && self.neighbours.notice.as_ref() == Some(&notice) {
            return;
        }
        self.neighbours.notice_due_ns = now + NOTICE_NS;
        let bytes = Frame::Notice(notice.clone()).to_bytes();
        let links = self.neighbours.peers.values().filter_map(|peer| peer.link.as_ref());
        links.for_each(|link| link.send_urgent(bytes.clone()));
        self.neighbours.notice = Some(notice);
    }

    /// In the midst of much to do, as when it catches up: a beat that is overdue, so that nobody takes this replica for
    /// silent.
    pub(crate) fn tell_in_time(&mut self) -> Result<(), String> {
        if clock::now().mono_ns < self.neighbours.told_ns + BEAT_IDLE_NS {
            return Ok(());
        }
        self.tell_peers()
    }

    /// A beat of each journal, when there is news or it is time.
    fn tell_peers(&mut self) -> Result<(), String> {
        if !self.neighbours.is_started() || self.neighbours.peers.is_empty() {
            return Ok(());
        }
        let now = clock::now();
        let every = if self.is_busy() { BEAT_BUSY_NS } else { BEAT_IDLE_NS };
        let is_due = now.mono_ns >= self.neighbours.told_ns + every;
        let is_shared = |journal: &&EpochJournal| journal.membership.members.len() > 1;
        let epochs: Vec<Epoch> =
            self.journals.by_epoch.values().filter(is_shared).map(|of| of.membership.epoch).collect();
        for epoch in epochs {
            let Some(status) = self.replica.consensus().core(epoch).map(dace::Core::status) else { continue };
            let is_news = |journal: &EpochJournal| (status.appended, status.durable) != journal.told;
            if !is_due && !self.journals.by_epoch.get(&epoch).is_some_and(is_news) {
                continue;
            }
            let Some(beat) = self.replica.consensus().beat(now, epoch) else { continue };
            self.drain(None)?;
            let base = self.replica.consensus().peer_base(epoch);
            if let (Some(journal), Some(base)) = (self.journals.by_epoch.get_mut(&epoch), base) {
                journal.told = (beat.appended, beat.durable);
                journal.tail.publish(beat, base);
            }
            self.neighbours.told_ns = now.mono_ns;
        }
        if is_due {
            // Also where there is no journal to tell of.
            self.neighbours.told_ns = now.mono_ns;
        }
        Ok(())
    }

    /// Whether something waits for promises.
    pub(crate) fn is_busy(&mut self) -> bool {
        if self.replica.unsealed_len() > 0 || !self.voided.is_empty() || !self.again.is_empty() {
            return true;
        }
        self.journals.by_epoch.keys().any(|epoch| {
            self.replica.core_of(*epoch).is_some_and(|core| {
                let status = core.status();
                status.in_flight > 0 || status.committed > 0 || core.blocking().any(|(_, _, first)| first.is_some())
            })
        })
    }
}

/// How far ahead proposals of a busy slot begin, and how far promises stay behind the clock, in ns: of the round trips to the
/// others, nearest first.
fn distances(n: usize, f: usize, delays: &[Option<Duration>]) -> (u64, u64) {
    let one_way = |trip: Duration| u64::try_from(trip.as_nanos() / 2).unwrap_or(AHEAD_NS_MAX).min(AHEAD_NS_MAX);
    let fast = (n / 2 + 1).max(n / 2 + f);
    let farthest = delays.get(fast.saturating_sub(2)).copied().flatten().map_or(0, one_way);
    // Who is far from its quorum counts on members that are near to theirs: a promise that has passed the time of its
    // proposal before that comes costs it the fast path.
    let longest = delays.iter().flatten().copied().max().map_or(0, one_way);
    (farthest, if f >= 2 { longest + PROMISE_SLACK_NS } else { 0 })
}

fn refusal(from: ReplicaId, reason: &str) -> String {
    format!("replica {from} refuses this one for good: {reason}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promises_wait_for_the_farthest_coordinator_where_proposals_must_be_equal() {
        let ms = |ms| Some(Duration::from_millis(ms));
        // Frankfurt's: Dublin, Virginia, Oregon, Tokyo. Its own quorum of four ends at Oregon, but Tokyo counts on it, too.
        let near = [ms(25), ms(86), ms(158), ms(230)];
        assert_eq!(distances(5, 2, &near), (79 * MS, 115 * MS + PROMISE_SLACK_NS));
        assert_eq!(distances(5, 1, &near), (43 * MS, 0));
        assert_eq!(distances(5, 2, &[ms(25), ms(86), None, None]), (0, 43 * MS + PROMISE_SLACK_NS));
        assert_eq!(distances(1, 0, &[]), (0, 0));
    }
}

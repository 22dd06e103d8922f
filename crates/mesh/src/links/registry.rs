//! Which of several connections between two replicas is kept. Both may dial at once, either may have been restarted, and
//! each must come to the same choice without asking. Pure: no IO, no clock.
//!
//! The rules, in short: a connection that the other side no longer knows gives way to a new one; of two that both sides
//! know, the one that the lower replica dialled stays. `docs/formats/mesh.md`, greeting.

use types::ReplicaId;

/// What one greeting says for the choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Greeting {
    /// Drawn by the dialling endpoint when it was bound: another one means that it was restarted.
    pub(super) instance: u64,
    /// Drawn for this connection by the dialler.
    pub(super) link: u64,
    /// The last connection to the other side that was up at the dialler and is no longer; zero if there was none.
    pub(super) ended: u64,
}

/// The link that is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Current {
    id: u64,
    instance: u64,
    dialled: bool,
}

/// What is to be done with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is the link from now on; one that was up is closed as replaced.
    Keep,
    /// It is closed as a duplicate.
    Close,
}

/// The connections to one peer, as this side knows them.
#[derive(Debug)]
pub(super) struct Pair {
    own: ReplicaId,
    peer: ReplicaId,
    current: Option<Current>,
    /// Our own greeting is on its way, and not answered.
    greeting: bool,
    ended: u64,
}

impl Pair {
    pub(super) fn new(own: ReplicaId, peer: ReplicaId) -> Self {
        Self { own, peer, current: None, greeting: false, ended: 0 }
    }

    /// Asked before our greeting is sent on a connection that we dialled: whether to go on, and what to name as ended.
    pub(super) fn greet(&mut self) -> Option<u64> {
        if self.current.is_some() {
            return None;
        }
        self.greeting = true;
        Some(self.ended)
    }

    /// Our greeting came to nothing.
    pub(super) fn greeting_failed(&mut self) {
        self.greeting = false;
    }

    /// Our greeting was answered by the peer's endpoint `instance`.
    pub(super) fn greeting_answered(&mut self, link: u64, instance: u64) -> Verdict {
        self.greeting = false;
        if self.current.is_some() && self.own > self.peer {
            return Verdict::Close;
        }
        self.current = Some(Current { id: link, instance, dialled: true });
        Verdict::Keep
    }

    /// The peer greets us on a connection that it dialled.
    pub(super) fn greeted(&mut self, by: Greeting) -> Verdict {
        let lower = self.own < self.peer;
        let refused = match self.current {
            // the peer was restarted, or knows that this link has ended, or dials again though it dialled this one: for
            // the peer it does not exist
            Some(up) if up.instance != by.instance || up.id == by.ended || !up.dialled => false,
            Some(_) => lower,
            None => self.greeting && lower,
        };
        if refused {
            return Verdict::Close;
        }
        self.current = Some(Current { id: by.link, instance: by.instance, dialled: false });
        Verdict::Keep
    }

    /// A link went down. Tells whether it was the current one.
    pub(super) fn down(&mut self, link: u64) -> bool {
        let was_current = self.current.is_some_and(|up| up.id == link);
        if was_current {
            self.current = None;
            self.ended = link;
        }
        was_current
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LOW: ReplicaId = ReplicaId(1);
    const HIGH: ReplicaId = ReplicaId(2);

    fn greeting(instance: u64, link: u64, ended: u64) -> Greeting {
        Greeting { instance, link, ended }
    }

    #[test]
    fn when_both_dial_at_once_the_lower_ones_stays() {
        let (mut low, mut high) = (Pair::new(LOW, HIGH), Pair::new(HIGH, LOW));
        assert_eq!((low.greet(), high.greet()), (Some(0), Some(0)));
        assert_eq!(low.greeted(greeting(22, 200, 0)), Verdict::Close);
        assert_eq!(high.greeted(greeting(11, 100, 0)), Verdict::Keep);
        high.greeting_failed();
        assert_eq!(low.greeting_answered(100, 22), Verdict::Keep);
        assert_eq!((low.greet(), high.greet()), (None, None));
        // the greeting that crossed comes late: the link is there already
        assert_eq!(low.greeted(greeting(22, 201, 0)), Verdict::Close);
    }

    #[test]
    fn what_the_other_side_no_longer_knows_gives_way() {
        let mut low = Pair::new(LOW, HIGH);
        low.greet();
        assert_eq!(low.greeting_answered(100, 22), Verdict::Keep);
        // it has given the link up
        assert_eq!(low.greeted(greeting(22, 200, 100)), Verdict::Keep);
        assert!(!low.down(100), "it was replaced before");
        // it dials again though its last dial is up here: it never heard of that
        assert_eq!(low.greeted(greeting(22, 201, 0)), Verdict::Keep);
        // it was restarted
        low.down(201);
        low.greet();
        assert_eq!(low.greeting_answered(101, 22), Verdict::Keep);
        assert_eq!(low.greeted(greeting(23, 202, 0)), Verdict::Keep);
        assert!(low.down(202));
        assert_eq!(low.greet(), Some(202));
    }

    /// One message on its way.
    #[derive(Debug, Clone, Copy)]
    enum Message {
        Hello { from: usize, greeting: Greeting },
        Welcome { to: usize, link: u64 },
        Closed { to: usize, link: u64, was_up: bool },
    }

    proptest! {
        /// Two sides that dial and lose links as they like, over messages that arrive in any order: when all is quiet, both
        /// have the same link, or neither has one and either may dial.
        #[test]
        fn both_sides_choose_the_same(choices in proptest::collection::vec(any::<u16>(), 1..200)) {
            let mut sides = [Pair::new(LOW, HIGH), Pair::new(HIGH, LOW)];
            let mut dialling: [Option<u64>; 2] = [None; 2];
            let mut messages: Vec<Message> = Vec::new();
            let mut next = 1;
            let quiet = core::iter::repeat_n(u16::MAX, 100);
            for choice in choices.into_iter().chain(quiet) {
                let side = usize::from(choice % 2);
                match choice / 2 % 4 {
                    0 if dialling[side].is_none() => {
                        if let Some(ended) = sides[side].greet() {
                            dialling[side] = Some(next);
                            let greeting = Greeting { instance: side as u64, link: next, ended };
                            messages.push(Message::Hello { from: side, greeting });
                            next += 1;
                        }
                    }
                    1 if choice > 40_000 => {
                        if let Some(up) = sides[side].current {
                            sides[side].down(up.id);
                            messages.push(Message::Closed { to: 1 - side, link: up.id, was_up: true });
                        }
                    }
                    _ if messages.is_empty() => {}
                    _ => deliver(&mut sides, &mut dialling, &mut messages, usize::from(choice / 8)),
                }
            }
            while !messages.is_empty() {
                deliver(&mut sides, &mut dialling, &mut messages, 0);
            }
            let ids = sides.each_ref().map(|side| side.current.map(|up| up.id));
            prop_assert_eq!(ids[0], ids[1]);
        }
    }

    fn deliver(sides: &mut [Pair; 2], dialling: &mut [Option<u64>; 2], messages: &mut Vec<Message>, pick: usize) {
        let message = messages.remove(pick % messages.len());
        let replaced = |before: Option<Current>, side: usize, messages: &mut Vec<Message>| {
            if let Some(before) = before {
                messages.push(Message::Closed { to: 1 - side, link: before.id, was_up: true });
            }
        };
        match message {
            Message::Hello { from, greeting } => {
                let side = 1 - from;
                let before = sides[side].current;
                if sides[side].greeted(greeting) == Verdict::Keep {
                    replaced(before, side, messages);
                    messages.push(Message::Welcome { to: from, link: greeting.link });
                } else {
                    messages.push(Message::Closed { to: from, link: greeting.link, was_up: false });
                }
            }
            Message::Welcome { to, link } => {
                // a dial that was closed meanwhile is answered for nobody
                if dialling[to] != Some(link) {
                    return;
                }
                dialling[to] = None;
                let before = sides[to].current;
                if sides[to].greeting_answered(link, 1 - to as u64) == Verdict::Keep {
                    replaced(before, to, messages);
                } else {
                    messages.push(Message::Closed { to: 1 - to, link, was_up: true });
                }
            }
            Message::Closed { to, link, was_up } => {
                if dialling[to] == Some(link) {
                    dialling[to] = None;
                    sides[to].greeting_failed();
                }
                if was_up {
                    sides[to].down(link);
                }
            }
        }
    }
}

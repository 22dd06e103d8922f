//! What must hold after every step of a schedule: agreement, order, blocks, real time, reads, durability of answers.

use std::collections::{BTreeMap, BTreeSet};

use types::{CommandId, SlotSet, Timestamp};

use super::SLOTS;
use crate::group::check::{Checked, ensure, violation};

pub(super) type Place = (Timestamp, CommandId);

/// What is known of a command.
#[derive(Clone)]
struct Command {
    slots: SlotSet,
    /// The instant of its submission.
    begun: u64,
    /// The instant from which everybody may know of it: its client was answered, or a read has shown it.
    shown: Option<u64>,
    decided: Option<Timestamp>,
    /// Whether it was executed somewhere.
    is_executed: bool,
    /// What was executed before it in each of its slots, as its client was told.
    told: Option<Vec<Option<Place>>>,
}

/// A read that is over: where its replica stood in each slot (`None`: not asked for).
#[derive(Clone)]
struct Reading {
    begun: u64,
    ended: u64,
    at: Vec<Option<usize>>,
}

/// A block: where the one before ended, and what is in it.
type Block = (Timestamp, BTreeSet<Place>);

/// What one replica has shown.
#[derive(Clone)]
struct Seen {
    /// By slot: how far it came in the chain.
    at: Vec<usize>,
    cut: Timestamp,
    /// Executed above its last cut.
    above: BTreeSet<Place>,
    /// Everything that is in its state.
    visible: BTreeSet<CommandId>,
}

/// The judge.
#[derive(Clone)]
pub(super) struct Judge {
    faults: usize,
    instant: u64,
    commands: BTreeMap<CommandId, Command>,
    /// By slot: what was executed, in order.
    chains: Vec<Vec<Place>>,
    blocks: BTreeMap<Timestamp, Block>,
    seen: Vec<Seen>,
    /// Reads under way: replica and number, and when they began.
    begun: BTreeMap<(usize, u64), u64>,
    readings: Vec<Reading>,
}

/// A set of slots as indices.
fn indices(slots: &SlotSet) -> Vec<usize> {
    match slots {
        SlotSet::All => (0..usize::from(SLOTS)).collect(),
        SlotSet::Some(slots) => slots.iter().map(|slot| usize::from(slot.0)).collect(),
    }
}

impl Judge {
    pub(super) fn new(replicas: usize, faults: usize) -> Self {
        let slots = usize::from(SLOTS);
        let seen = Seen { at: vec![0; slots], cut: Timestamp::ZERO, above: BTreeSet::new(), visible: BTreeSet::new() };
        Self {
            faults,
            instant: 0,
            commands: BTreeMap::new(),
            chains: vec![Vec::new(); slots],
            blocks: BTreeMap::new(),
            seen: vec![seen; replicas],
            begun: BTreeMap::new(),
            readings: Vec::new(),
        }
    }

    fn instant(&mut self) -> u64 {
        self.instant += 1;
        self.instant
    }

    pub(super) fn submitted(&mut self, id: CommandId, slots: &SlotSet) -> Checked {
        let begun = self.instant();
        let command =
            Command { slots: slots.clone(), begun, shown: None, decided: None, is_executed: false, told: None };
        let before = self.commands.insert(id, command);
        // A restart opens a new incarnation, and that is durable before it names a command.
        ensure(before.is_none_or(|before| before.shown.is_none()), "identity", || format!("{id} names two commands"))
    }

    /// A decision counts: it is durable, or durably accepted.
    pub(super) fn decided(&mut self, at: usize, id: CommandId, timestamp: Timestamp) -> Checked {
        let Some(command) = self.commands.get_mut(&id) else {
            return violation("agreement", format!("replica {} decides {id}, which nobody submitted", at + 1));
        };
        let first = *command.decided.get_or_insert(timestamp);
        ensure(first == timestamp, "agreement", || {
            format!("replica {} decides {id} at {timestamp}, and it is decided at {first}", at + 1)
        })
    }

    /// A replica has executed a command, whose body says these slots.
    pub(super) fn executed(&mut self, at: usize, place: Place, slots: &SlotSet) -> Checked {
        self.decided(at, place.1, place.0)?;
        let before = self.before(at, slots);
        for slot in indices(slots) {
            self.step(at, place, slot)?;
        }
        self.real_time(place)?;
        let cut = self.seen[at].cut;
        ensure(place.0 > cut, "cut", || {
            format!("replica {} executes {} at {}, at or below its cut {cut}", at + 1, place.1, place.0)
        })?;
        if let Some((end, (begin, block))) = self.blocks.range(place.0..).next() {
            ensure(*begin >= place.0 || block.contains(&place), "blocks", || {
                format!("replica {} executes {} at {}, which the block at {end} lacks", at + 1, place.1, place.0)
            })?;
        }
        self.seen[at].above.insert(place);
        self.seen[at].visible.insert(place.1);
        let Some(command) = self.commands.get_mut(&place.1) else { return Ok(()) };
        command.is_executed = true;
        ensure(command.told.as_ref().is_none_or(|told| *told == before), "answer", || {
            format!(
                "the client of {} was told that it came after {:?}, and replica {} executes it after {before:?}",
                place.1,
                command.told,
                at + 1
            )
        })
    }

    /// What a replica has executed last in each of these slots: the outcome of a command executed now.
    fn before(&self, at: usize, slots: &SlotSet) -> Vec<Option<Place>> {
        let last =
            |slot: usize| self.seen[at].at[slot].checked_sub(1).and_then(|last| self.chains[slot].get(last).copied());
        indices(slots).into_iter().map(last).collect()
    }

    fn step(&mut self, at: usize, place: Place, slot: usize) -> Checked {
        let position = self.seen[at].at[slot];
        let chain = &mut self.chains[slot];
        match chain.get(position) {
            Some(next) => ensure(*next == place, "order", || {
                format!(
                    "in slot {slot} replica {} executes {} at {} where others executed {} at {}",
                    at + 1,
                    place.1,
                    place.0,
                    next.1,
                    next.0
                )
            })?,
            None => {
                let last = chain.last().copied();
                ensure(last.is_none_or(|last| last < place), "order", || {
                    format!("in slot {slot} replica {} executes {} at {} after {last:?}", at + 1, place.1, place.0)
                })?;
                chain.push(place);
            }
        }
        self.seen[at].at[slot] += 1;
        Ok(())
    }

    /// What was shown before a command began comes before it in their common slots.
    fn real_time(&self, place: Place) -> Checked {
        let Some(command) = self.commands.get(&place.1) else { return Ok(()) };
        for (id, earlier) in &self.commands {
            let is_earlier = earlier.shown.is_some_and(|shown| shown < command.begun);
            let Some(timestamp) = earlier.decided.filter(|_| is_earlier && earlier.slots.meets(&command.slots)) else {
                continue;
            };
            ensure((timestamp, *id) < place, "real time", || {
                format!("{} is at {}, and {id}, shown before it began, at {timestamp}", place.1, place.0)
            })?;
        }
        Ok(())
    }

    /// The client of a command is answered by its coordinator, with what it makes of it now.
    pub(super) fn answered(&mut self, at: usize, id: CommandId, holders: usize) -> Checked {
        let instant = self.instant();
        let Some(command) = self.commands.get(&id) else { return Ok(()) };
        let told = match command.is_executed && self.seen[at].visible.contains(&id) {
            // It was executed just now: the order of the slots has shown what came before.
            true => None,
            false => Some(self.before(at, &command.slots)),
        };
        if let Some(command) = self.commands.get_mut(&id) {
            command.told = told;
            command.shown = command.shown.or(Some(instant));
        }
        let needed = self.faults + 1;
        ensure(holders >= needed, "durability", || {
            format!("{id} is answered while {holders} replicas hold it durably, and {needed} must")
        })
    }

    /// A replica has taken a cut.
    pub(super) fn cut(&mut self, at: usize, cut: Timestamp) -> Checked {
        let seen = &mut self.seen[at];
        let begin = core::mem::replace(&mut seen.cut, cut);
        ensure(cut > begin, "cut", || format!("replica {} takes cut {cut} after {begin}", at + 1))?;
        let above = seen.above.split_off(&(cut.next(), CommandId::default()));
        let block = core::mem::replace(&mut seen.above, above);
        if let Some((passed, _)) = self.blocks.range(begin.next()..cut).next() {
            return violation(
                "blocks",
                format!("replica {} goes from {begin} to {cut} and passes over {passed}", at + 1),
            );
        }
        let first = self.blocks.entry(cut).or_insert_with(|| (begin, block.clone()));
        ensure(*first == (begin, block.clone()), "blocks", || {
            format!(
                "at cut {cut} replica {} has {block:?} since {begin}, and others {:?} since {}",
                at + 1,
                first.1,
                first.0
            )
        })
    }

    /// A replica goes on from the state at a cut.
    pub(super) fn restored(&mut self, at: usize, cut: Timestamp) {
        let executed = |command: &Command| command.is_executed && command.decided.is_some_and(|place| place <= cut);
        let visible = self.commands.iter().filter(|(_, command)| executed(command)).map(|(id, _)| *id).collect();
        let reached = |chain: &Vec<Place>| chain.partition_point(|(timestamp, _)| *timestamp <= cut);
        let ats = self.chains.iter().map(reached).collect();
        self.seen[at] = Seen { at: ats, cut, above: BTreeSet::new(), visible };
        self.begun.retain(|(replica, _), _| *replica != at);
    }

    pub(super) fn read_begun(&mut self, at: usize, read: u64) {
        let begun = self.instant();
        self.begun.insert((at, read), begun);
    }

    /// A read is answered from what its replica has executed by now.
    pub(super) fn read_ended(&mut self, at: usize, read: u64, slots: &SlotSet) -> Checked {
        let ended = self.instant();
        let Some(begun) = self.begun.remove(&(at, read)) else { return Ok(()) };
        let visible = &self.seen[at].visible;
        for (id, command) in self.commands.iter().filter(|(_, command)| command.slots.meets(slots)) {
            ensure(visible.contains(id) || command.shown.is_none_or(|shown| shown > begun), "read", || {
                format!("a read at replica {} does not see {id}, which was shown before it began", at + 1)
            })?;
        }
        for id in visible {
            let Some(command) = self.commands.get_mut(id).filter(|command| command.slots.meets(slots)) else {
                continue;
            };
            command.shown = command.shown.or(Some(ended));
        }
        let asked = indices(slots);
        let at = (0..usize::from(SLOTS)).map(|slot| asked.contains(&slot).then(|| self.seen[at].at[slot])).collect();
        self.readings.push(Reading { begun, ended, at });
        Ok(())
    }

    /// A read was given up.
    pub(super) fn read_dropped(&mut self, at: usize, read: u64) {
        self.begun.remove(&(at, read));
    }

    pub(super) fn reads_finished(&self) -> usize {
        self.readings.len()
    }

    /// The commands that were executed somewhere.
    pub(super) fn executed_anywhere(&self) -> impl Iterator<Item = CommandId> + '_ {
        self.commands.iter().filter(|(_, command)| command.is_executed).map(|(id, _)| *id)
    }

    pub(super) fn cuts(&self) -> usize {
        self.blocks.len()
    }

    pub(super) fn sees(&self, at: usize, id: CommandId) -> bool {
        self.seen[at].visible.contains(&id)
    }

    pub(super) fn cut_of(&self, at: usize) -> Timestamp {
        self.seen[at].cut
    }

    /// The last executed timestamp of all.
    pub(super) fn last(&self) -> Timestamp {
        self.chains
            .iter()
            .filter_map(|chain| chain.last())
            .map(|(timestamp, _)| *timestamp)
            .max()
            .unwrap_or(Timestamp::ZERO)
    }

    /// Whether a command was shown to somebody.
    pub(super) fn is_shown(&self, id: CommandId) -> bool {
        self.commands.get(&id).is_some_and(|command| command.shown.is_some())
    }

    /// Strict serializability: slot order, real time and what reads saw have no cycle.
    pub(super) fn serializable(&self) -> Checked {
        let ids: Vec<CommandId> = self.executed_anywhere().collect();
        let node = |id: CommandId| ids.iter().position(|other| *other == id).expect("what is in a chain was executed");
        let count = ids.len();
        let mut edges = vec![BTreeSet::new(); count + self.readings.len()];
        for chain in &self.chains {
            for pair in chain.windows(2) {
                edges[node(pair[0].1)].insert(node(pair[1].1));
            }
        }
        for (number, reading) in self.readings.iter().enumerate() {
            for (slot, at) in reading.at.iter().enumerate() {
                let Some(at) = at else { continue };
                if let Some(last) = at.checked_sub(1) {
                    edges[node(self.chains[slot][last].1)].insert(count + number);
                }
                if let Some((_, next)) = self.chains[slot].get(*at) {
                    edges[count + number].insert(node(*next));
                }
            }
        }
        let spans: Vec<(u64, u64)> = ids
            .iter()
            .map(|id| &self.commands[id])
            .map(|command| (command.begun, command.shown.unwrap_or(u64::MAX)))
            .chain(self.readings.iter().map(|reading| (reading.begun, reading.ended)))
            .collect();
        for (before, (_, ended)) in spans.iter().enumerate() {
            for (after, (begun, _)) in spans.iter().enumerate() {
                if ended < begun {
                    edges[before].insert(after);
                }
            }
        }
        ensure(is_acyclic(&edges), "serializable", || {
            format!("slot order, real time and reads have a cycle over {ids:?} and {} reads", self.readings.len())
        })
    }
}

/// Whether a graph has no cycle: what has no way in is taken away until nothing is left.
fn is_acyclic(edges: &[BTreeSet<usize>]) -> bool {
    let mut left: BTreeSet<usize> = (0..edges.len()).collect();
    loop {
        let is_reached = |node: &usize| left.iter().any(|from| edges[*from].contains(node));
        let free: Vec<usize> = left.iter().copied().filter(|node| !is_reached(node)).collect();
        if free.is_empty() {
            return left.is_empty();
        }
        left.retain(|node| !free.contains(node));
    }
}

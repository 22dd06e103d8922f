//! Strict serializability: the order of every slot, real time, and what reads saw, taken together, must have
//! no cycle.

use std::collections::BTreeMap;

use types::SlotSet;

use super::history::{Ask, History, Operation, Read};
use super::order::Order;
use super::{Checked, violation};
use crate::group::queue::Instant;
use crate::group::state::Place;

/// What happens at an instant: first those who begin, then those who end, so that only a strict order counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    Begins,
    Ends,
}

struct Graph {
    names: Vec<String>,
    edges: Vec<Vec<u32>>,
    moments: Vec<(Instant, Moment, u32)>,
}

impl Graph {
    fn node(&mut self, name: String) -> u32 {
        self.names.push(name);
        self.edges.push(Vec::new());
        u32::try_from(self.names.len() - 1).expect("few operations")
    }

    fn edge(&mut self, before: u32, after: u32) {
        self.edges[before as usize].push(after);
    }

    fn span(&mut self, node: u32, invoked: Instant, answered: Option<Instant>) {
        self.moments.push((invoked, Moment::Begins, node));
        if let Some(answered) = answered {
            self.moments.push((answered, Moment::Ends, node));
        }
    }

    /// Who ended before others began: through a chain of instants, so that the edges stay few.
    fn real_time(&mut self) {
        let mut moments = core::mem::take(&mut self.moments);
        moments.sort_unstable();
        let mut last = None;
        for (at, moment, node) in moments {
            match (moment, last) {
                (Moment::Begins, Some(instant)) => self.edge(instant, node),
                (Moment::Begins, None) => {}
                (Moment::Ends, before) => {
                    let instant = self.node(format!("instant {at}"));
                    self.edge(node, instant);
                    if let Some(before) = before {
                        self.edge(before, instant);
                    }
                    last = Some(instant);
                }
            }
        }
    }

    /// A cycle, if there is one (Kahn's algorithm; what is left over holds one).
    fn cycle(&self) -> Option<String> {
        let mut waits_for = vec![0_u32; self.names.len()];
        for after in self.edges.iter().flatten() {
            waits_for[*after as usize] += 1;
        }
        let mut free: Vec<usize> = (0..waits_for.len()).filter(|node| waits_for[*node] == 0).collect();
        let mut sorted = 0;
        while let Some(node) = free.pop() {
            sorted += 1;
            for after in &self.edges[node] {
                let left = &mut waits_for[*after as usize];
                *left -= 1;
                if *left == 0 {
                    free.push(*after as usize);
                }
            }
        }
        (sorted < self.names.len()).then(|| self.explain(&waits_for))
    }

    /// Walks backwards among those left over until one comes again.
    fn explain(&self, waits_for: &[u32]) -> String {
        let left = |node: usize| waits_for[node] > 0;
        let mut before = vec![None; self.names.len()];
        for (node, afters) in self.edges.iter().enumerate().filter(|(node, _)| left(*node)) {
            for after in afters {
                before[*after as usize] = Some(node);
            }
        }
        let Some(mut node) = (0..self.names.len()).find(|node| left(*node) && before[*node].is_some()) else {
            return String::new();
        };
        let mut seen = vec![false; self.names.len()];
        while !seen[node] {
            seen[node] = true;
            node = before[node].expect("what is left over follows something left over");
        }
        let (first, mut path) = (node, vec![self.names[node].clone()]);
        loop {
            node = before[node].expect("a cycle goes on");
            path.push(self.names[node].clone());
            if node == first {
                break;
            }
        }
        path.reverse();
        path.join("\n  before ")
    }
}

/// Demands that the witness is an order: of commands and of reads of one key first, then with listings too.
pub(crate) fn serializable(order: &Order, history: &History) -> Checked {
    let without = witness(order, history, |slots| *slots != SlotSet::All);
    if let Some(cycle) = without.cycle() {
        return violation("serializability", format!("no order is possible:\n  {cycle}"));
    }
    match witness(order, history, |_| true).cycle() {
        None => Ok(()),
        Some(cycle) => violation("listing", format!("a listing is no snapshot:\n  {cycle}")),
    }
}

fn witness(order: &Order, history: &History, counts: impl Fn(&SlotSet) -> bool) -> Graph {
    let mut graph = Graph { names: Vec::new(), edges: Vec::new(), moments: Vec::new() };
    let mut nodes: BTreeMap<Place, u32> = BTreeMap::new();
    for (place, _) in order.all() {
        let node = graph.node(format!("{} at {}", place.1, place.0));
        nodes.insert(*place, node);
        if let Some(submitted) = history.submitted.get(&place.1) {
            graph.span(node, submitted.invoked, submitted.answered);
        }
    }
    for chain in order.chains() {
        for pair in chain.windows(2) {
            graph.edge(nodes[&pair[0]], nodes[&pair[1]]);
        }
    }
    for (index, operation) in history.operations.iter().enumerate() {
        if let Some(read) = operation.read.as_ref().filter(|_| counts(&operation.slots)) {
            let node = graph.node(format!("read {index} answered at {}", read.answered));
            graph.span(node, operation.invoked, Some(read.answered));
            place_read(&mut graph, &nodes, (order, history), node, operation, read);
        }
    }
    graph.real_time();
    graph
}

/// A read stands behind what it saw, and before what came after that.
fn place_read(
    graph: &mut Graph,
    nodes: &BTreeMap<Place, u32>,
    (order, history): (&Order, &History),
    node: u32,
    operation: &Operation,
    read: &Read,
) {
    let chains: Vec<usize> = match &operation.slots {
        SlotSet::All => (0..order.chains().len()).collect(),
        SlotSet::Some(slots) => slots.iter().map(|slot| order.chain_of(*slot)).collect(),
    };
    for chain in chains {
        let (places, at) = (&order.chains()[chain], read.reading.in_chain(chain));
        let matters = |place: &&Place| !operation.is_leased || may_change(history, place, &operation.ask);
        if let Some(seen) = places[..at].iter().rev().find(matters) {
            graph.edge(nodes[seen], node);
        }
        if let Some(unseen) = places[at..].iter().find(matters) {
            graph.edge(node, nodes[unseen]);
        }
    }
}

/// Whether a command may change what a read shows: it writes one of its keys, or what keys share. Knows nothing of zones.
fn may_change(history: &History, place: &Place, ask: &Ask) -> bool {
    let Some(command) = history.command(place.1) else { return true };
    if command.slots() == SlotSet::All {
        return true;
    }
    super::search::written(command).into_iter().any(|(in_bucket, written)| match ask {
        Ask::Get { bucket, key } => in_bucket == bucket && written == key,
        Ask::List { bucket } => in_bucket == bucket,
        Ask::Write(_) => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(spans: &[(Instant, Instant)]) -> Graph {
        let mut graph = Graph { names: Vec::new(), edges: Vec::new(), moments: Vec::new() };
        for (invoked, answered) in spans {
            let node = graph.node(format!("{invoked}"));
            graph.span(node, *invoked, Some(*answered));
        }
        graph
    }

    #[test]
    fn an_order_against_real_time_is_a_cycle() {
        let mut against = graph(&[(0, 10), (20, 30)]);
        against.edge(1, 0);
        against.real_time();
        assert!(against.cycle().is_some());
        let mut concurrent = graph(&[(0, 25), (20, 30)]);
        concurrent.edge(1, 0);
        concurrent.real_time();
        assert_eq!(concurrent.cycle(), None);
    }
}

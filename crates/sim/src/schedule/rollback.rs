//! Disks that are rolled back, and how a replica that starts is vouched for.

use dace::Vouched;

use super::node::{Fate, Node};
use super::world::{Applied, World};
use crate::group::check::ensure;

impl World {
    /// The disk of a replica that is down loses its last `items` items. It has failed by that: never more than `f` do.
    pub(super) fn roll_back(&mut self, at: usize, items: usize) -> bool {
        let failed = |node: &Node| node.fate == Fate::Gone || node.rolled_back.is_some();
        let others = self.nodes.iter().enumerate().filter(|(other, node)| *other != at && failed(node)).count();
        if others >= self.setting.faults {
            return false;
        }
        let node = &mut self.nodes[at];
        let left = node.items.len().saturating_sub(items);
        if node.core.is_some() || items == 0 || left == node.items.len() {
            return false;
        }
        node.items.truncate(left);
        node.durable_items = left;
        node.durable = 0;
        node.harden_items(left);
        node.rolled_back = Some(node.durable);
        // No time passes in a schedule by itself, and no two lives open at one instant.
        node.now.mono_ns += 1;
        node.now.wall_ns += 1;
        true
    }

    /// Whether a restored replica may start: those that are up are asked. Nobody waits here, so those that are down are
    /// taken to have been asked in vain for long enough. That never helps a rolled-back disk, by what a group bears, and
    /// one whose peers have all restarted and forgotten is more than anybody could notice: it does not start.
    pub(super) fn is_vouched(&mut self, at: usize) -> Applied {
        if self.nodes[at].core().vouched() == Vouched::Fully {
            return Ok(true);
        }
        let (claim, left) = (self.nodes[at].core().claim(), self.nodes[at].rolled_back);
        let mut refused = None;
        for other in (0..self.nodes.len()).filter(|other| *other != at) {
            if !self.is_up(other) {
                continue;
            }
            let node = &mut self.nodes[other];
            let (_, counted) = node.core().read_of(Self::replica(at)).expect("a member");
            match node.core().handle_claim(Self::replica(at), claim) {
                Ok(()) => ensure(left.is_none_or(|left| counted <= left), "refusal", || {
                    format!(
                        "replica {} vouches for replica {}, whose journal was rolled back to {left:?}, though it counted {counted} durable",
                        other + 1,
                        at + 1
                    )
                })?,
                Err(error) => refused = Some((other, error)),
            }
        }
        if let Some((other, error)) = refused {
            ensure(left.is_some(), "refusal", || format!("replica {} refuses replica {}: {error}", other + 1, at + 1))?;
            self.say(at, || format!("is refused: {error}"));
            self.nodes[at].fate = Fate::Gone;
        }
        if left.is_some() {
            self.nodes[at].core = None;
            return Ok(false);
        }
        for other in 0..self.nodes.len() {
            self.nodes[at].core().handle_vouch(Self::replica(other));
        }
        Ok(true)
    }
}

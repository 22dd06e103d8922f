//! Reads of a schedule, with leases and without.

use bytes::Bytes;
use dace::Zone;
use types::SlotSet;

use super::world::{Applied, World};

/// What hides the zone in a request.
pub(super) const SALT: [u8; 32] = [9; 32];

/// The zone that is leased: everything.
pub(super) fn zone() -> Zone {
    Zone(Bytes::new())
}

impl World {
    pub(super) fn get(&mut self, at: usize, slots: &SlotSet) -> Applied {
        let node = &mut self.nodes[at];
        let now = node.now;
        let Ok(read) = node.core().handle_read(now, slots.clone()) else { return Ok(false) };
        node.reads.insert(read, slots.clone());
        self.judge.read_begun(at, read);
        self.drain(at)?;
        Ok(true)
    }

    pub(super) fn want(&mut self, at: usize) -> Applied {
        (self.has_leases, self.drifts) = (true, true);
        let node = &mut self.nodes[at];
        let now = node.now;
        node.core().want_lease(now, &zone(), SALT).expect("one zone is not too many");
        self.drain(at)?;
        Ok(true)
    }

    pub(super) fn unwant(&mut self, at: usize) -> Applied {
        let node = &mut self.nodes[at];
        let now = node.now;
        node.core().drop_lease(now, &zone());
        self.drain(at)?;
        Ok(true)
    }

    pub(super) fn leased(&mut self, at: usize, slots: &SlotSet) -> Applied {
        let node = &mut self.nodes[at];
        let now = node.now;
        let Ok(read) = node.core().handle_leased_read(now, &zone(), slots.clone()) else { return Ok(false) };
        node.reads.insert(read, slots.clone());
        self.judge.read_begun(at, read);
        self.drain(at)?;
        Ok(true)
    }
}

//! Reads under a lease, beside the loop (`consensus.md`, section 6). The loop publishes until when the lease of each zone is held,
//! and which slots have a write that is attached and not executed; a reader looks at those and needs nobody.
//!
//! In this order: until when the lease is held; whether a write of the slot is pending; what the clock shows; whether the lease
//! was taken back meanwhile. The deadline goes before the pending writes: behind them, the lease might begin in between,
//! with a write pending that was not, and that anybody could see before the read began. And it is looked at again behind them:
//! an epoch may have ended in between, its Reconfig being executed and pending no more, and the next one owes this lease
//! nothing. What may be answered is then in the state: whatever anybody could see before the read began was pending at
//! the look, or executed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use dace::Zone;
use types::command::PutZone;
use types::limits::SLOTS;
use types::{Command, Epoch, ReplicaId, Slot, SlotSet};

use crate::clock;

/// Says of the core's zones which commands touch them.
pub(crate) struct CatalogZones;

impl dace::Zones for CatalogZones {
    fn touches(&self, payload: &[u8], zone: &Zone) -> bool {
        // What cannot be read may touch any.
        zone.0.is_empty()
            || Command::from_bytes(payload).map_or(true, |command| catalog::zone::touches(&zone.0, &command))
    }
}

/// Until when a lease is held, as the loop publishes it.
pub(crate) struct Lease {
    pub(crate) zone: Zone,
    /// In ns of the monotonic clock; 0: not held.
    until: AtomicU64,
    /// How often it was taken back.
    ended: AtomicU64,
    /// The epoch that it is of. Of the loop alone.
    epoch: AtomicU32,
}

impl Lease {
    fn new(zone: Zone) -> Self {
        Self { zone, until: AtomicU64::new(0), ended: AtomicU64::new(0), epoch: AtomicU32::new(0) }
    }

    fn end(&self) {
        self.until.store(0, Ordering::SeqCst);
        self.ended.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether it is held now.
    pub(crate) fn is_held(&self) -> bool {
        clock::now().mono_ns < self.until.load(Ordering::SeqCst)
    }
}

/// Writes that are attached here, or known to be decided, and not executed: how many, by slot.
struct Pending {
    slots: Box<[AtomicU32]>,
    all: AtomicU32,
}

impl Pending {
    fn each(&self, slots: &SlotSet, count: impl Fn(&AtomicU32) -> u32) {
        match slots {
            SlotSet::All => {
                count(&self.all);
            }
            SlotSet::Some(slots) => {
                for slot in slots {
                    count(&self.slots[usize::from(slot.0)]);
                }
            }
        }
    }

    fn is_any(&self, slot: Slot) -> bool {
        self.all.load(Ordering::SeqCst) > 0 || self.slots[usize::from(slot.0)].load(Ordering::SeqCst) > 0
    }
}

/// What is said of zones, and the leases that this replica is to hold.
#[derive(Default)]
pub(crate) struct ZoneTable {
    /// In byte order of the zones: the narrowest that a key lies in is the last.
    pub(crate) said: Vec<PutZone>,
    pub(crate) leases: Vec<Arc<Lease>>,
}

/// What a reader finds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Look {
    /// The state has all that the read must see.
    Ready,
    /// A lease is held, and a write is pending: the loop knows when it is executed.
    Pending(Zone),
    /// No lease.
    Unleased,
}

/// What the loop publishes for readers beside it.
pub(crate) struct Leased {
    table: ArcSwap<ZoneTable>,
    pending: Pending,
}

impl Default for Leased {
    fn default() -> Self {
        let slots = (0..SLOTS).map(|_| AtomicU32::new(0)).collect();
        Self { table: ArcSwap::default(), pending: Pending { slots, all: AtomicU32::new(0) } }
    }
}

impl Leased {
    pub(crate) fn table(&self) -> arc_swap::Guard<Arc<ZoneTable>> {
        self.table.load()
    }

    /// Whether a read of one slot may be answered from the state, under the lease of a zone that `holds` what is read.
    pub(crate) fn look(&self, slot: Slot, holds: impl Fn(&[u8]) -> bool) -> Look {
        let table = self.table.load();
        let mut pending = None;
        for lease in table.leases.iter().filter(|lease| holds(&lease.zone.0)) {
            let ended = lease.ended.load(Ordering::SeqCst);
            let until = lease.until.load(Ordering::SeqCst);
            if until == 0 {
                continue;
            }
            let is_pending = self.pending.is_any(slot) && !crate::faults::is_without(dace::Mutant::LeasedReadNoWait);
            if clock::now().mono_ns >= until || lease.ended.load(Ordering::SeqCst) != ended {
                continue;
            }
            if !is_pending {
                return Look::Ready;
            }
            pending.get_or_insert_with(|| lease.zone.clone());
        }
        pending.map_or(Look::Unleased, Look::Pending)
    }

    /// A zone that `holds` what is read and whose lease seems to be held: the loop knows.
    pub(crate) fn held(&self, holds: impl Fn(&[u8]) -> bool) -> Option<Zone> {
        let table = self.table.load();
        let held = table.leases.iter().find(|lease| holds(&lease.zone.0) && lease.is_held());
        held.map(|lease| lease.zone.clone())
    }

    /// Who coordinates the writes of a key, if that is said.
    pub(crate) fn home(&self, bucket: &str, key: &str) -> Option<ReplicaId> {
        let table = self.table.load();
        if table.said.is_empty() {
            return None;
        }
        let mut narrowest = table.said.iter().rev();
        narrowest.find(|said| catalog::zone::holds_key(said.zone.as_bytes(), bucket, key))?.home
    }

    // ---- the loop's side

    /// A write of these slots is pending from now on.
    pub(crate) fn pends(&self, slots: &SlotSet) {
        self.pending.each(slots, |count| count.fetch_add(1, Ordering::SeqCst));
    }

    /// Such a write is in the state.
    pub(crate) fn settles(&self, slots: &SlotSet) {
        self.pending.each(slots, |count| count.fetch_sub(1, Ordering::SeqCst));
    }

    /// The lease of a zone is held until then in an epoch; 0: no more.
    pub(crate) fn lease(&self, epoch: Epoch, zone: &Zone, until: u64) {
        let table = self.table.load();
        let Some(lease) = table.leases.iter().find(|lease| lease.zone == *zone) else { return };
        let of = lease.epoch.load(Ordering::Relaxed);
        if epoch.0 < of {
            return;
        }
        if until == 0 || epoch.0 > of {
            lease.end();
        }
        lease.epoch.store(epoch.0, Ordering::Relaxed);
        lease.until.store(until, Ordering::SeqCst);
    }

    /// Something else is said of zones; `is_wanted`: which of them this replica is to hold. Gives the zones whose lease was
    /// not wanted and is, and those whose lease is not wanted any more.
    pub(crate) fn say(&self, said: Vec<PutZone>, is_wanted: impl Fn(&PutZone) -> bool) -> (Vec<Zone>, Vec<Zone>) {
        let before = self.table.load_full();
        let wanted = said.iter().filter(|zone| is_wanted(zone));
        let wanted: Vec<Zone> = wanted.map(|zone| Zone(zone.zone.clone().into_bytes().into())).collect();
        let known = |zone: &Zone| before.leases.iter().find(|lease| lease.zone == *zone);
        let new: Vec<Zone> = wanted.iter().filter(|zone| known(zone).is_none()).cloned().collect();
        let old = before.leases.iter().map(|lease| &lease.zone).filter(|zone| !wanted.contains(zone));
        let old: Vec<Zone> = old.cloned().collect();
        let leases = wanted.into_iter().map(|zone| match known(&zone) {
            Some(lease) => lease.clone(),
            None => Arc::new(Lease::new(zone)),
        });
        let leases = leases.collect();
        self.table.store(Arc::new(ZoneTable { said, leases }));
        // A reader may still have the table before. Nobody tells it when the epoch ends.
        before.leases.iter().filter(|lease| old.contains(&lease.zone)).for_each(|lease| lease.end());
        (new, old)
    }
}

#[cfg(test)]
mod tests {
    use types::command::Holders;

    use super::*;

    const FAR: u64 = u64::MAX;

    fn all(zone: &str) -> PutZone {
        PutZone { zone: zone.to_owned(), holders: Holders::Everyone, home: None }
    }

    fn zone(zone: &str) -> Zone {
        Zone(zone.to_owned().into_bytes().into())
    }

    fn holding(zones: &[&str]) -> Leased {
        let leased = Leased::default();
        let (new, old) = leased.say(zones.iter().map(|zone| all(zone)).collect(), |_| true);
        assert_eq!((new.len(), old.len()), (zones.len(), 0));
        leased
    }

    #[test]
    fn a_read_needs_a_lease_of_a_zone_that_holds_it_and_no_pending_write() {
        let leased = holding(&["logs/", "photos/"]);
        let slot = Slot::of("photos", "cat");
        let look = |leased: &Leased| leased.look(slot, |zone| catalog::zone::holds_key(zone, "photos", "cat"));
        assert_eq!(look(&leased), Look::Unleased);
        leased.lease(Epoch(1), &zone("logs/"), FAR);
        assert_eq!(look(&leased), Look::Unleased, "that is another zone");
        leased.lease(Epoch(1), &zone("photos/"), FAR);
        assert_eq!(look(&leased), Look::Ready);
        for slots in [SlotSet::of(vec![slot]), SlotSet::All] {
            leased.pends(&slots);
            assert_eq!(look(&leased), Look::Pending(zone("photos/")));
            leased.settles(&slots);
            assert_eq!(look(&leased), Look::Ready);
        }
        leased.pends(&SlotSet::of(vec![Slot(slot.0 ^ 1)]));
        assert_eq!(look(&leased), Look::Ready, "a write of another key");
        leased.lease(Epoch(1), &zone("photos/"), 1);
        assert_eq!(look(&leased), Look::Unleased, "it has run out");
    }

    #[test]
    fn a_lease_ends_with_its_epoch_and_an_older_epoch_says_no_more_of_it() {
        let leased = holding(&[""]);
        let is_held = |leased: &Leased| leased.look(Slot(1), |_| true) == Look::Ready;
        leased.lease(Epoch(1), &zone(""), FAR);
        assert!(is_held(&leased));
        leased.lease(Epoch(1), &zone(""), 0);
        assert!(!is_held(&leased));
        leased.lease(Epoch(2), &zone(""), FAR);
        leased.lease(Epoch(1), &zone(""), 0);
        assert!(is_held(&leased), "the older one has nothing to take back");
        let ended = leased.table().leases[0].ended.load(Ordering::SeqCst);
        leased.lease(Epoch(3), &zone(""), FAR);
        assert!(leased.table().leases[0].ended.load(Ordering::SeqCst) > ended, "a reader between the two is told");
    }

    #[test]
    fn what_is_said_again_keeps_its_lease() {
        let leased = holding(&["a/", "b/"]);
        leased.lease(Epoch(1), &zone("b/"), FAR);
        let (new, old) = leased.say(vec![all("b/"), all("c/")], |_| true);
        assert_eq!((new, old), (vec![zone("c/")], vec![zone("a/")]));
        assert_eq!(leased.held(|zone| zone == b"b/"), Some(zone("b/")));
        assert_eq!(leased.held(|zone| zone == b"c/"), None);
    }

    /// Nothing more is heard of it, not even that its epoch has ended: whoever still looks at it is told now.
    #[test]
    fn a_lease_that_is_not_wanted_any_more_ends_for_those_who_look_at_it() {
        let leased = holding(&["a/", "b/"]);
        leased.lease(Epoch(1), &zone("a/"), FAR);
        leased.lease(Epoch(1), &zone("b/"), FAR);
        let table = leased.table().clone();
        let ended = |zone: usize| table.leases[zone].ended.load(Ordering::SeqCst);
        let before = [ended(0), ended(1)];
        leased.say(vec![all("b/")], |_| true);
        assert_eq!([ended(0), ended(1)], [before[0] + 1, before[1]]);
        assert!(!table.leases[0].is_held() && table.leases[1].is_held());
        // Wanted again, it is another one, which has to be granted.
        leased.say(vec![all("a/"), all("b/")], |_| true);
        leased.lease(Epoch(1), &zone("a/"), FAR);
        assert!(!table.leases[0].is_held() && leased.table().leases[0].is_held());
    }

    #[test]
    fn the_narrowest_zone_says_where_a_key_is_at_home() {
        let leased = Leased::default();
        let said = |zone: &str, home: Option<u32>| PutZone { home: home.map(ReplicaId), ..all(zone) };
        leased.say(vec![said("", Some(1)), said("logs/", None), said("logs/hot/", Some(3))], |_| false);
        assert_eq!(leased.home("photos", "cat"), Some(ReplicaId(1)));
        assert_eq!(leased.home("logs", "cold"), None, "what is said of a part holds there");
        assert_eq!(leased.home("logs", "hot/1"), Some(ReplicaId(3)));
    }
}

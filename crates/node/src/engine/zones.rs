//! The loop publishes leases and pending writes for readers beside it, and sees to the leases that this replica is to hold.

use dace::{Core, LeaseTiming, Zone};
use std::sync::Arc;
use types::fact::FactKind;

use super::Loop;
use crate::clock;
use crate::keys::random;
use crate::read::leased::CatalogZones;
use crate::replica::overlay::Layered;
use crate::write::apply::Executed;

/// How wrong a clock may run: an NTP client may have it run a tenth too fast or too slow for a while (`adjtimex`; chrony does
/// so by a twelfth if it has to), and the oscillator has its error, too.
const RATE_ERROR_PPM: u64 = 102_000;

/// Makes a core ready for leases before it starts. Alone, nobody is asked, and nothing is published.
pub(crate) fn set_up(core: &mut Core) {
    crate::faults::break_core(core);
    if core.members() > 1 {
        core.set_lease_timing(LeaseTiming { rate_error_ppm: RATE_ERROR_PPM, ..LeaseTiming::default() });
        core.set_zones(Arc::new(CatalogZones));
        core.publish_pending();
    }
}

impl Loop {
    /// Whether something else is said of zones by what was executed.
    pub(crate) fn notes_zones(&mut self, executed: &Executed) {
        self.zones_changed |= executed.facts.iter().any(|fact| fact.kind == FactKind::ZonePut);
    }

    /// Wants the leases that this replica is to hold, and those alone.
    pub(crate) fn look_after_zones(&mut self) -> Result<(), String> {
        if !self.zones_changed || !self.neighbours.is_started() {
            return Ok(());
        }
        self.zones_changed = false;
        let state = self.shared.state.load();
        let rows = Layered { overlay: &self.shared.overlay, state: state.as_ref() };
        let rows = catalog::query::zones(&rows).map_err(|error| error.to_string())?;
        let said = rows.into_iter().map(|row| row.zone).collect();
        let (new, old) = self.shared.leased.say(said, |zone| zone.holders.has(self.shared.replica));
        let now = clock::now();
        for zone in old {
            self.replica.consensus().drop_lease(now, &zone);
        }
        for zone in new {
            self.want(&zone);
        }
        self.drain(None)
    }

    fn want(&mut self, zone: &Zone) {
        if let Err(error) = self.replica.consensus().want_lease(clock::now(), zone, random()) {
            tracing::warn!(?zone, %error, "the lease of a zone cannot be had");
        }
    }
}

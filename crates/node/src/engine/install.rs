//! The loop changes the members, and takes the state of another member in place of its own.

use std::sync::mpsc::sync_channel;

use dace::{Membership, Stored};
use types::{ReplicaId, Timestamp};

use super::{Changing, Event, Loop, SealingMessage};
use crate::change::ChangeError;
use crate::clock;
use crate::keys::random;
use crate::peer::intake::{self, Incoming};
use crate::replica::overlay::Layered;

/// Between two attempts to fetch a state, in ns.
const FETCH_NS: u64 = 500_000_000;

impl Loop {
    /// Somebody wants other members.
    pub(crate) fn change(&mut self, changing: Changing) {
        let connected = self.neighbours.connected();
        let present = self.shared.membership();
        let is_absent = |node: &&ReplicaId| !present.has(**node) && !connected.contains(*node);
        let proposed = match changing.next.members.iter().find(is_absent) {
            Some(absent) => Err(ChangeError::Absent(*absent)),
            None => {
                let consensus = self.replica.consensus();
                consensus.handle_reconfig(clock::now(), &changing.next, &connected, random()).map_err(Into::into)
            }
        };
        // Who asked may be gone.
        let _ = changing.answer.send(proposed);
    }

    /// This replica is too far behind to go on by journals, or is new.
    pub(crate) fn want_snapshot(&mut self, cut: Timestamp) {
        tracing::info!(%cut, "the state of another member is needed");
        self.wanted = Some(self.wanted.map_or(cut, |wanted| wanted.min(cut)));
    }

    /// Fetches the state that is wanted, unless that is under way.
    pub(crate) fn fetch_wanted(&mut self) {
        let now = clock::now().mono_ns;
        let Some(wanted) = self.wanted.filter(|_| !self.fetching && now >= self.fetch_due_ns) else { return };
        let links = self.neighbours.links();
        if links.is_empty() {
            return;
        }
        self.fetching = true;
        let (shared, inbox) = (self.shared.clone(), self.inbox.clone());
        self.neighbours.runtime().spawn(async move {
            let fetched = intake::fetch(&shared, links, wanted).await;
            let incoming = match fetched {
                Ok(incoming) => Some(Box::new(incoming)),
                Err(error) => {
                    tracing::warn!(%error, "the state of another member could not be fetched; trying again");
                    None
                }
            };
            inbox.tell(Event::Fetched(incoming));
        });
    }

    /// A state was fetched: it takes the place of the one here, if it is newer.
    pub(crate) fn install(&mut self, incoming: Option<Box<Incoming>>) -> Result<(), String> {
        self.fetching = false;
        self.fetch_due_ns = clock::now().mono_ns + FETCH_NS;
        let Some(incoming) = incoming else { return Ok(()) };
        let Incoming { cut, state, folder } = *incoming;
        if self.wanted.is_none_or(|wanted| cut < wanted) {
            return Ok(());
        }
        self.wanted = None;
        if cut <= self.replica.cut() {
            tracing::info!(%cut, "the state that was fetched is not needed any more");
            return Ok(());
        }
        let membership = membership_of(&state, &self.shared)?;
        let state = std::sync::Arc::new(state);
        let (done, installed) = sync_channel(1);
        self.tell_sealing(SealingMessage::Install(state.clone(), folder.clone(), done));
        let installed = installed.recv().map_err(|_| "the sealer has ended".to_owned())?;
        installed?;
        let shared = self.shared.clone();
        // Nobody reads between the old state and what is executed again on the new one.
        let exchange = shared.exchange.write();
        shared.state.store(state.clone());
        *shared.state_folder.lock() = folder;
        self.replica.handle_snapshot(clock::now(), state, &Stored { cut, membership: membership.clone() });
        if membership.epoch > shared.membership().epoch {
            shared.set_membership(membership);
        }
        self.zones_changed = true;
        self.drain(None)?;
        drop(exchange);
        shared.metrics.installed();
        tracing::info!(%cut, "the state of another member was installed");
        Ok(())
    }
}

/// The epoch that a state is of.
pub(crate) fn membership_of(
    state: &store::state::FjallState,
    shared: &crate::node::Shared,
) -> Result<Membership, String> {
    let rows = Layered { overlay: &crate::replica::overlay::Overlay::default(), state };
    stored_membership(&rows)?.map_or_else(|| Ok(shared.first.clone()), Ok)
}

/// The epoch that stands in the state; `None`: the first.
pub(crate) fn stored_membership(rows: &dyn types::state::StateRead) -> Result<Option<Membership>, String> {
    let Some(row) = catalog::query::epoch(rows).map_err(|error| error.to_string())? else { return Ok(None) };
    Membership::from_bytes(&row.membership)
        .map(Some)
        .ok_or_else(|| "the state holds an epoch that cannot be read".to_owned())
}

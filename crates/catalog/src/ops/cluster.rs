//! `*` The first configuration, access keys, nodes, epochs, and zones.

use core::ops::ControlFlow;

use types::command::{BeginEpoch, DeleteAccessKey, Genesis, PutAccessKey, PutNode, PutZone};
use types::limits::{ACCESS_KEYS_MAX, NODES_MAX, ZONES_MAX};
use types::state::{ReadError, Table};
use types::{Outcome, Refusal};

use crate::draft::Draft;
use crate::execute::{Run, Stop};
use crate::rows::{AccessKeyRow, EpochRow, GenesisRow, NodeRow, ZoneRow, key};

/// Counts rows whose key starts with `prefix`, up to `enough`. Only `*` commands may: the count spans slots.
pub(super) fn count(draft: &Draft<'_>, prefix: &[u8], enough: usize) -> Result<usize, ReadError> {
    let mut count = 0;
    draft.scan_prefix(Table::Catalog, prefix, &mut |_, _| {
        count += 1;
        if count < enough { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(count)
}

/// Writes the first configuration, once.
pub(super) fn genesis(run: &mut Run<'_>, op: &Genesis) -> Result<Outcome, Stop> {
    let place = key::genesis();
    if run.draft.row::<GenesisRow>(&place)?.is_some() {
        return Err(Refusal::Invalid("the group has its first configuration".to_owned()).into());
    }
    run.draft.put_row(place, &GenesisRow { order: run.order(0), genesis: op.clone() });
    Ok(Outcome::Done)
}

/// Adds or replaces an access key.
pub(super) fn put_access_key(run: &mut Run<'_>, op: &PutAccessKey) -> Result<Outcome, Stop> {
    let place = key::access_key(&op.access_key);
    let new = run.draft.row::<AccessKeyRow>(&place)?.is_none();
    if new && count(&run.draft, &key::all_access_keys(), ACCESS_KEYS_MAX)? >= ACCESS_KEYS_MAX {
        return Err(Refusal::TooManyAccessKeys.into());
    }
    let row = AccessKeyRow { order: run.order(0), sealed: op.sealed.clone(), description: op.description.clone() };
    run.draft.put_row(place, &row);
    Ok(Outcome::Done)
}

/// Removes an access key, but never the last: nobody could add one afterwards.
pub(super) fn delete_access_key(run: &mut Run<'_>, op: &DeleteAccessKey) -> Result<Outcome, Stop> {
    let place = key::access_key(&op.access_key);
    if run.draft.row::<AccessKeyRow>(&place)?.is_none() {
        return Err(Refusal::NoSuchAccessKey.into());
    }
    if count(&run.draft, &key::all_access_keys(), 2)? < 2 {
        return Err(Refusal::LastAccessKey.into());
    }
    run.draft.delete(Table::Catalog, place);
    Ok(Outcome::Done)
}

/// Adds a node to the directory, or replaces what stands there. A replica keeps its key for ever: what it signed is verified
/// with it.
pub(super) fn put_node(run: &mut Run<'_>, op: &PutNode) -> Result<Outcome, Stop> {
    let place = key::node(op.member.replica);
    let known = run.draft.row::<NodeRow>(&place)?;
    let founding = run.draft.row::<GenesisRow>(&key::genesis())?;
    let mut founders = founding.iter().flat_map(|row| &row.genesis.members);
    let founder = founders.find(|member| member.replica == op.member.replica);
    let key_before = known.as_ref().map(|row| row.node.member.key).or(founder.map(|member| member.key));
    if key_before.is_some_and(|before| before != op.member.key) {
        return Err(
            Refusal::Invalid("a node of this number has another key: a new node gets a new number".to_owned()).into()
        );
    }
    if known.is_none() && count(&run.draft, &key::all_nodes(), NODES_MAX)? >= NODES_MAX {
        return Err(Refusal::Invalid(format!("a cluster has at most {NODES_MAX} nodes")).into());
    }
    run.draft.put_row(place, &NodeRow { order: run.order(0), node: op.clone() });
    Ok(Outcome::Done)
}

/// Says something of a zone, or takes back what was said.
pub(super) fn put_zone(run: &mut Run<'_>, op: &PutZone) -> Result<Outcome, Stop> {
    let place = key::zone(&op.zone);
    if op.is_default() {
        run.draft.delete(Table::Catalog, place);
        return Ok(Outcome::Done);
    }
    let is_new = run.draft.row::<ZoneRow>(&place)?.is_none();
    if is_new && count(&run.draft, &key::all_zones(), ZONES_MAX)? >= ZONES_MAX {
        return Err(Refusal::Invalid(format!("something is said of at most {ZONES_MAX} zones")).into());
    }
    run.draft.put_row(place, &ZoneRow { order: run.order(0), zone: op.clone() });
    Ok(Outcome::Done)
}

/// The next epoch stands in the state.
pub(super) fn begin_epoch(run: &mut Run<'_>, op: &BeginEpoch) -> Result<Outcome, Stop> {
    let mut ever = match run.draft.row::<EpochRow>(&key::epoch())? {
        Some(before) => before.ever,
        None => {
            let founding = run.draft.row::<GenesisRow>(&key::genesis())?;
            founding.iter().flat_map(|row| &row.genesis.members).map(|member| member.replica).collect()
        }
    };
    ever.extend(&op.members);
    ever.sort_unstable();
    ever.dedup();
    run.draft.put_row(key::epoch(), &EpochRow { order: run.order(0), membership: op.membership.clone(), ever });
    Ok(Outcome::Done)
}

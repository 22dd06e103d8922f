//! `*` The first configuration, access keys, nodes, epochs, and zones.

use core::ops::ControlFlow;

use types::command::{AdmitNode, BeginEpoch, DeleteAccessKey, Genesis, Member, PutAccessKey, PutNode, PutZone};
use types::fact::Fact;
use types::limits::{ACCESS_KEYS_MAX, NODES_MAX, ZONES_MAX};
use types::state::{ReadError, Table};
use types::{Outcome, Refusal, ReplicaId};

use crate::draft::Draft;
use crate::execute::{Run, Stop};
use crate::rows::{AccessKeyRow, EpochRow, GenesisRow, NodeRow, Row, TokenRow, ZoneRow, key};

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

/// Takes a node in for its token: once, and for who comes again with the same key (its answer was lost), as before. Numbers
/// rise, and none is given twice: members count what a number has said.
pub(super) fn admit_node(run: &mut Run<'_>, op: &AdmitNode, fact: &mut Fact) -> Result<Outcome, Stop> {
    let now_s = run.timestamp.unix_ms() / 1000;
    if now_s > op.expires_s {
        return Err(Refusal::TokenExpired.into());
    }
    let place = key::token(&op.token);
    if let Some(used) = run.draft.row::<TokenRow>(&place)? {
        if used.identity != op.identity {
            return Err(Refusal::TokenUsed.into());
        }
        fact.key = used.replica.to_string();
        return Ok(Outcome::Admitted(used.replica));
    }
    let Some(founding) = run.draft.row::<GenesisRow>(&key::genesis())? else {
        return Err(Refusal::Invalid("the group has no first configuration".to_owned()).into());
    };
    let nodes = rows::<NodeRow>(&run.draft, &key::all_nodes())?;
    if nodes.len() >= NODES_MAX {
        return Err(Refusal::Invalid(format!("a cluster has at most {NODES_MAX} nodes")).into());
    }
    if let Some((_, other)) = nodes.iter().find(|(_, row)| row.node.label == op.label) {
        return Err(Refusal::NameTaken(other.node.member.replica).into());
    }
    let ever = run.draft.row::<EpochRow>(&key::epoch())?.map(|row| row.ever).unwrap_or_default();
    let known = nodes.iter().map(|(_, row)| row.node.member.replica);
    let founders = founding.genesis.members.iter().map(|member| member.replica);
    let highest = known.chain(founders).chain(ever).max().unwrap_or_default();
    let replica =
        ReplicaId(highest.0.checked_add(1).ok_or_else(|| Refusal::Invalid("numbers are used up".to_owned()))?);
    // A token is refused once it has expired, with or without the mark of its use.
    for (gone, _) in
        rows::<TokenRow>(&run.draft, &key::all_tokens())?.into_iter().filter(|(_, row)| now_s > row.expires_s)
    {
        run.draft.delete(Table::Catalog, gone);
    }
    let order = run.order(0);
    let member = Member { replica, name: Member::name_of(founding.genesis.cluster, replica), key: op.key };
    let node = PutNode { member, region: op.region.clone(), mesh: op.mesh.clone(), label: op.label.clone() };
    run.draft.put_row(key::node(replica), &NodeRow { order, node });
    let used = TokenRow { order, expires_s: op.expires_s, identity: op.identity, replica };
    run.draft.put_row(place, &used);
    fact.key = replica.to_string();
    Ok(Outcome::Admitted(replica))
}

/// All rows under a prefix, with their keys. Only `*` commands may: they span slots.
fn rows<R: Row>(draft: &Draft<'_>, prefix: &[u8]) -> Result<Vec<(Vec<u8>, R)>, ReadError> {
    let (mut found, mut failed) = (Vec::new(), None);
    draft.scan_prefix(Table::Catalog, prefix, &mut |place, value| match R::from_value(value) {
        Ok(row) => {
            found.push((place.to_vec(), row));
            ControlFlow::Continue(())
        }
        Err(error) => {
            failed = Some(error);
            ControlFlow::Break(())
        }
    })?;
    failed.map_or(Ok(found), Err)
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

//! `*` The first configuration, and access keys.

use core::ops::ControlFlow;

use types::command::{DeleteAccessKey, Genesis, PutAccessKey};
use types::limits::ACCESS_KEYS_MAX;
use types::state::{ReadError, Table};
use types::{Outcome, Refusal};

use crate::draft::Draft;
use crate::execute::{Run, Stop};
use crate::rows::{AccessKeyRow, GenesisRow, key};

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

//! The versions of one key: which row is current, which are below it, and what goes when one goes.
//!
//! Whoever has any version has a current row; it is the newest. At most one version is `null`: the current
//! one, or the noncurrent one that the current row names in `null_below`.

use core::ops::ControlFlow;

use types::OrderKey;
use types::command::{VersionSelector, Versioning};
use types::state::{ReadError, Table};

use crate::draft::Draft;
use crate::rows::{BodyAt, ObjectRow, PartRow, Row, body_key, key};

/// A key of a bucket.
#[derive(Clone, Copy)]
pub(crate) struct Name<'a> {
    pub(crate) bucket: &'a str,
    pub(crate) key: &'a str,
}

/// The current row, which may be a delete marker.
pub(crate) fn current(draft: &Draft<'_>, name: Name<'_>) -> Result<Option<ObjectRow>, ReadError> {
    draft.row(&key::object(name.bucket, name.key))
}

/// The version that a client names, given the current row.
pub(crate) fn named(
    draft: &Draft<'_>,
    name: Name<'_>,
    current: Option<&ObjectRow>,
    version: VersionSelector,
) -> Result<Option<ObjectRow>, ReadError> {
    let Some(current) = current else { return Ok(None) };
    if current.selector() == version {
        return Ok(Some(current.clone()));
    }
    let order = match version {
        VersionSelector::Id(order) => order,
        VersionSelector::Null => match current.null_below {
            Some(order) => order,
            None => return Ok(None),
        },
    };
    let row: Option<ObjectRow> = draft.row(&key::version(name.bucket, name.key, order))?;
    Ok(row.filter(|row| row.selector() == version))
}

/// Makes `new` the current version, over `current`, as the versioning of the bucket has it.
pub(crate) fn write(
    draft: &mut Draft<'_>,
    name: Name<'_>,
    versioning: Versioning,
    current: Option<ObjectRow>,
    mut new: ObjectRow,
) -> Result<(), ReadError> {
    new.null = versioning != Versioning::Enabled;
    new.null_below = None;
    if let Some(current) = current {
        let null_below = current.null_below;
        if new.null && current.null {
            remove_bytes(draft, &current)?;
        } else {
            let below = if current.null { Some(current.order) } else { null_below };
            demote(draft, name, current);
            match below {
                Some(order) if new.null => remove_below(draft, name, order)?,
                _ => new.null_below = below,
            }
        }
    }
    draft.put_row(key::object(name.bucket, name.key), &new);
    Ok(())
}

/// Removes a version for good. `version` is one that [`named`] gave, or the current row.
pub(crate) fn remove(
    draft: &mut Draft<'_>,
    name: Name<'_>,
    mut current: ObjectRow,
    version: OrderKey,
) -> Result<(), ReadError> {
    if version != current.order {
        remove_below(draft, name, version)?;
        if current.null_below == Some(version) {
            current.null_below = None;
            draft.put_row(key::object(name.bucket, name.key), &current);
        }
        return Ok(());
    }
    remove_bytes(draft, &current)?;
    match newest_below(draft, name)? {
        None => draft.delete(Table::Catalog, key::object(name.bucket, name.key)),
        Some(mut next) => {
            draft.delete(Table::Catalog, key::version(name.bucket, name.key, next.order));
            next.null_below = current.null_below.filter(|order| *order != next.order);
            draft.put_row(key::object(name.bucket, name.key), &next);
        }
    }
    Ok(())
}

fn demote(draft: &mut Draft<'_>, name: Name<'_>, mut row: ObjectRow) {
    row.null_below = None;
    draft.put_row(key::version(name.bucket, name.key, row.order), &row);
}

fn newest_below(draft: &Draft<'_>, name: Name<'_>) -> Result<Option<ObjectRow>, ReadError> {
    let mut found = None;
    draft.scan_prefix(Table::Catalog, &key::versions_of(name.bucket, name.key), &mut |_, value| {
        found = Some(ObjectRow::from_value(value));
        ControlFlow::Break(())
    })?;
    found.transpose()
}

fn remove_below(draft: &mut Draft<'_>, name: Name<'_>, order: OrderKey) -> Result<(), ReadError> {
    let place = key::version(name.bucket, name.key, order);
    if let Some(row) = draft.row::<ObjectRow>(&place)? {
        remove_bytes(draft, &row)?;
        draft.delete(Table::Catalog, place);
    }
    Ok(())
}

/// Removes what holds, or refers to, the bytes of a version.
pub(crate) fn remove_bytes(draft: &mut Draft<'_>, row: &ObjectRow) -> Result<(), ReadError> {
    if let BodyAt::Parts(holder) = row.body {
        for (number, part) in parts(draft, holder)? {
            remove_part(draft, holder, number, &part);
        }
        draft.delete(Table::Catalog, key::part_index(holder));
    } else {
        detach(draft, &row.body, row.order, 0);
    }
    Ok(())
}

/// All parts under a holder, in rising order of number.
pub(crate) fn parts(draft: &Draft<'_>, holder: OrderKey) -> Result<Vec<(u16, PartRow)>, ReadError> {
    let mut found: Result<Vec<(u16, PartRow)>, ReadError> = Ok(Vec::new());
    draft.scan_prefix(Table::Catalog, &key::parts(holder), &mut |place, value| {
        let part = key::read_part(place).and_then(|(_, number)| Ok((number, PartRow::from_value(value)?)));
        match (&mut found, part) {
            (Ok(parts), Ok(part)) => parts.push(part),
            (_, Err(error)) => found = Err(error),
            (Err(_), Ok(_)) => {}
        }
        if found.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    found
}

/// Removes a part row and its bytes.
pub(crate) fn remove_part(draft: &mut Draft<'_>, holder: OrderKey, number: u16, part: &PartRow) {
    detach(draft, &part.body, part.order, number);
    draft.delete(Table::Catalog, key::part(holder, number));
}

/// Removes the inline bytes, or the reference to the placement, of a body that `order` wrote.
fn detach(draft: &mut Draft<'_>, body: &BodyAt, order: OrderKey, number: u16) {
    match body {
        BodyAt::Inline => draft.delete(Table::Bodies, body_key(order, number).to_vec()),
        BodyAt::Placed(placement) => draft.delete(Table::Catalog, key::reference(placement.id, order, number)),
        BodyAt::Nothing | BodyAt::Parts(_) => {}
    }
}

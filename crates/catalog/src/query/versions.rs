//! The listing of versions: current and noncurrent rows, merged by key, newest first.

use types::OrderKey;
use types::command::VersionSelector;
use types::limits::LIST_PAGE_MAX;
use types::state::{ReadError, StateRead};

use super::cursor::Cursor;
use super::list::common_prefix;
use crate::check;
use crate::rows::{ObjectRow, Row, key};

/// What to list.
#[derive(Clone, Copy, Debug, Default)]
pub struct ListVersions<'a> {
    /// The bucket.
    pub bucket: &'a str,
    /// Only keys that start with this.
    pub prefix: &'a str,
    /// Rolls up keys that share what comes before it (and it), after the prefix. Empty: none.
    pub delimiter: &'a str,
    /// Only keys above this, or, with `version_after`, also older versions of this key.
    pub key_after: Option<&'a str>,
    /// Only versions of `key_after` older than this.
    pub version_after: Option<VersionSelector>,
    /// Entries wanted; never more than [`LIST_PAGE_MAX`].
    pub max: usize,
}

/// A version or delete marker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VersionEntry {
    /// Its key.
    pub key: String,
    /// The version; [`ObjectRow::marker`] tells a delete marker.
    pub row: ObjectRow,
    /// It is the current one.
    pub is_latest: bool,
}

/// Where a page ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VersionMarker {
    /// The key, or the common prefix.
    pub key: String,
    /// The version; `None` after a common prefix.
    pub version: Option<VersionSelector>,
}

/// A page of versions.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct VersionsPage {
    /// By key, and for one key newest first.
    pub versions: Vec<VersionEntry>,
    /// Common prefixes.
    pub prefixes: Vec<String>,
    /// When there are more: what to go on after.
    pub next: Option<VersionMarker>,
}

/// Current and noncurrent rows side by side.
struct Merge<'a> {
    bucket: &'a str,
    current: Cursor<'a>,
    below: Cursor<'a>,
}

impl Merge<'_> {
    /// Takes the next version in the order of the listing.
    fn pop(&mut self) -> Result<Option<VersionEntry>, ReadError> {
        let current = self.current.peek()?.map(|(place, _)| key::read_object(place)).transpose()?;
        let below = self.below.peek()?.map(|(place, _)| key::read_version(place)).transpose()?;
        let is_latest = match (&current, &below) {
            (None, None) => return Ok(None),
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some((_, current)), Some((_, below, _))) => current <= below,
        };
        let (cursor, object) = if is_latest {
            (&mut self.current, current.map(|(_, object)| object))
        } else {
            (&mut self.below, below.map(|(_, object, _)| object))
        };
        let (Some(object), Some((_, value))) = (object, cursor.pop()?) else { return Ok(None) };
        Ok(Some(VersionEntry { key: object, row: ObjectRow::from_value(&value)?, is_latest }))
    }

    fn seek_past_prefix(&mut self, prefix: &str) {
        self.current.seek(&key::successor(&key::objects(self.bucket, prefix)));
        self.below.seek(&key::successor(&key::versions(self.bucket, prefix)));
    }

    fn seek_past_key(&mut self, object: &str) {
        self.seek_past_current(object);
        self.below.seek(&key::successor(&key::versions_of(self.bucket, object)));
    }

    fn seek_past_current(&mut self, object: &str) {
        let mut next = key::object(self.bucket, object);
        next.push(0);
        self.current.seek(&next);
    }

    fn seek_past_version(&mut self, object: &str, order: OrderKey) {
        let mut next = key::version(self.bucket, object, order);
        next.push(0);
        self.below.seek(&next);
    }

    /// Where the versions of a key below the current one start.
    fn seek_below(&mut self, object: &str) {
        self.below.seek(&key::versions_of(self.bucket, object));
    }

    fn seek_key(&mut self, object: &str) {
        self.current.seek(&key::object(self.bucket, object));
        self.seek_below(object);
    }
}

/// Lists versions and delete markers.
pub fn list_versions(state: &dyn StateRead, list: &ListVersions<'_>) -> Result<VersionsPage, ReadError> {
    let mut page = VersionsPage::default();
    let max = list.max.min(LIST_PAGE_MAX);
    if max == 0 || !check::is_bucket_name(list.bucket) {
        return Ok(page);
    }
    let mut merge = Merge {
        bucket: list.bucket,
        current: Cursor::new(state, &key::objects(list.bucket, list.prefix)),
        below: Cursor::new(state, &key::versions(list.bucket, list.prefix)),
    };
    if let Some(after) = list.key_after {
        start(&mut merge, state, list, after)?;
    }
    let mut last = None;
    while let Some(entry) = merge.pop()? {
        if page.versions.len() + page.prefixes.len() == max {
            page.next = last;
            break;
        }
        match common_prefix(&entry.key, list.prefix, list.delimiter) {
            Some(common) => {
                merge.seek_past_prefix(common);
                page.prefixes.push(common.to_owned());
                last = Some(VersionMarker { key: common.to_owned(), version: None });
            }
            None => {
                last = Some(VersionMarker { key: entry.key.clone(), version: Some(entry.row.selector()) });
                page.versions.push(entry);
            }
        }
    }
    Ok(page)
}

/// Goes to where the page before ended.
fn start(merge: &mut Merge<'_>, state: &dyn StateRead, list: &ListVersions<'_>, after: &str) -> Result<(), ReadError> {
    let Some(version) = list.version_after else {
        if common_prefix(after, list.prefix, list.delimiter) == Some(after) {
            merge.seek_past_prefix(after);
        } else {
            merge.seek_past_key(after);
        }
        return Ok(());
    };
    let order = match version {
        VersionSelector::Id(order) => Some(order),
        VersionSelector::Null => super::object(state, list.bucket, after, Some(version))?.map(|row| row.order),
    };
    let current = super::object(state, list.bucket, after, None)?;
    match (order, current) {
        // The version `null` has gone since: better to list the key again than to leave versions out.
        (None, _) => merge.seek_key(after),
        // The current version is older than the marker: what the marker named has gone, and was newer.
        (Some(order), Some(current)) if current.order < order => merge.seek_key(after),
        (Some(order), _) => {
            merge.seek_past_current(after);
            merge.seek_past_version(after, order);
        }
    }
    Ok(())
}

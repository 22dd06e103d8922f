//! Listings of current objects and of uploads. Keys stand in UTF-8 byte order; a common prefix counts towards
//! the page as one entry, and what it holds is skipped by seeking past it.

use types::OrderKey;
use types::limits::{LIST_PAGE_MAX, LIST_VISITS_MAX};
use types::state::{ReadError, StateRead};

use super::cursor::Cursor;
use crate::check;
use crate::rows::{ObjectRow, Row, UploadRow, key};

/// What to list.
#[derive(Clone, Copy, Debug, Default)]
pub struct ListObjects<'a> {
    /// The bucket; one that does not exist has no objects.
    pub bucket: &'a str,
    /// Only keys that start with this.
    pub prefix: &'a str,
    /// Rolls up keys that share what comes before it (and it), after the prefix. Empty: none.
    pub delimiter: &'a str,
    /// Only keys and common prefixes above this: a marker, or [`ObjectsPage::next`].
    pub after: Option<&'a str>,
    /// Entries wanted; never more than [`LIST_PAGE_MAX`].
    pub max: usize,
}

/// A page of a listing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ObjectsPage {
    /// Current objects; delete markers are not among them.
    pub objects: Vec<(String, ObjectRow)>,
    /// Common prefixes.
    pub prefixes: Vec<String>,
    /// When there may be more: what to go on after. A page may end early, even empty, if it visited
    /// [`LIST_VISITS_MAX`] rows (delete markers, above all).
    pub next: Option<String>,
}

/// The common prefix of a key, if it has one.
pub(super) fn common_prefix<'k>(object: &'k str, prefix: &str, delimiter: &str) -> Option<&'k str> {
    if delimiter.is_empty() {
        return None;
    }
    let rest = object.get(prefix.len()..)?;
    let at = rest.find(delimiter)?;
    Some(&object[..prefix.len() + at + delimiter.len()])
}

/// Lists current objects.
pub fn list_objects(state: &dyn StateRead, list: &ListObjects<'_>) -> Result<ObjectsPage, ReadError> {
    let mut page = ObjectsPage::default();
    let max = list.max.min(LIST_PAGE_MAX);
    if max == 0 || !check::is_bucket_name(list.bucket) {
        return Ok(page);
    }
    let mut cursor = Cursor::new(state, &key::objects(list.bucket, list.prefix));
    if let Some(after) = list.after {
        seek_after(&mut cursor, list, after);
    }
    let mut last = None;
    while let Some((place, value)) = cursor.pop()? {
        let (_, object) = key::read_object(&place)?;
        let full = page.objects.len() + page.prefixes.len() == max;
        let row = ObjectRow::from_value(&value)?;
        if row.marker {
            if cursor.visits() >= LIST_VISITS_MAX {
                page.next = Some(object);
                break;
            }
            continue;
        }
        if full {
            page.next = last;
            break;
        }
        match common_prefix(&object, list.prefix, list.delimiter) {
            Some(common) => {
                cursor.seek(&key::successor(&key::objects(list.bucket, common)));
                page.prefixes.push(common.to_owned());
                last = Some(common.to_owned());
            }
            None => {
                last = Some(object.clone());
                page.objects.push((object, row));
            }
        }
    }
    Ok(page)
}

/// Goes past `after`: the key, or all of the common prefix that it is.
fn seek_after(cursor: &mut Cursor<'_>, list: &ListObjects<'_>, after: &str) {
    let at = key::objects(list.bucket, after);
    if after.starts_with(list.prefix) && common_prefix(after, list.prefix, list.delimiter) == Some(after) {
        cursor.seek(&key::successor(&at));
    } else {
        let mut next = at;
        next.push(0);
        cursor.seek(&next);
    }
}

/// Which uploads to list.
#[derive(Clone, Copy, Debug, Default)]
pub struct ListUploads<'a> {
    /// The bucket.
    pub bucket: &'a str,
    /// Only keys that start with this.
    pub prefix: &'a str,
    /// Rolls up keys that share what comes before it (and it), after the prefix. Empty: none.
    pub delimiter: &'a str,
    /// Only keys above this, or, with `upload_after`, also later uploads of this key.
    pub key_after: Option<&'a str>,
    /// Only uploads of `key_after` above this.
    pub upload_after: Option<OrderKey>,
    /// Entries wanted; never more than [`LIST_PAGE_MAX`].
    pub max: usize,
}

/// An upload in progress.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UploadEntry {
    /// Its key.
    pub key: String,
    /// Its id; says when it was started, too.
    pub upload: OrderKey,
    /// What is known of it.
    pub row: UploadRow,
}

/// A page of uploads.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct UploadsPage {
    /// By key, and for one key oldest first.
    pub uploads: Vec<UploadEntry>,
    /// Common prefixes.
    pub prefixes: Vec<String>,
    /// When there are more: what to go on after. Without an upload it is a common prefix.
    pub next: Option<(String, Option<OrderKey>)>,
}

/// Lists uploads in progress.
pub fn list_uploads(state: &dyn StateRead, list: &ListUploads<'_>) -> Result<UploadsPage, ReadError> {
    let mut page = UploadsPage::default();
    let max = list.max.min(LIST_PAGE_MAX);
    if max == 0 || !check::is_bucket_name(list.bucket) {
        return Ok(page);
    }
    let mut cursor = Cursor::new(state, &key::uploads(list.bucket, list.prefix));
    if let Some(after) = list.key_after {
        match list.upload_after {
            Some(upload) => {
                let mut next = key::upload(list.bucket, after, upload);
                next.push(0);
                cursor.seek(&next);
            }
            None if common_prefix(after, list.prefix, list.delimiter) == Some(after) => {
                cursor.seek(&key::successor(&key::uploads(list.bucket, after)));
            }
            None => cursor.seek(&key::successor(&key::uploads_of(list.bucket, after))),
        }
    }
    let mut last = None;
    while let Some((place, value)) = cursor.pop()? {
        if page.uploads.len() + page.prefixes.len() == max {
            page.next = last;
            break;
        }
        let (_, object, upload) = key::read_upload(&place)?;
        match common_prefix(&object, list.prefix, list.delimiter) {
            Some(common) => {
                cursor.seek(&key::successor(&key::uploads(list.bucket, common)));
                page.prefixes.push(common.to_owned());
                last = Some((common.to_owned(), None));
            }
            None => {
                last = Some((object.clone(), Some(upload)));
                page.uploads.push(UploadEntry { key: object, upload, row: UploadRow::from_value(&value)? });
            }
        }
    }
    Ok(page)
}

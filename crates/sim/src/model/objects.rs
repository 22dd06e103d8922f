//! Objects and their versions, as S3 has them.

use types::command::Condition;
use types::command::{CopyObject, DeleteItem, DeleteObjects, EtagMatch, PutObject, VersionSelector, Versioning};
use types::object::{Body, Metadata};
use types::outcome::{DeleteResult, Written};
use types::{OrderKey, Outcome, Refusal};

use super::{Bucket, Model, Place};

/// What a version holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Content {
    /// Length in bytes.
    pub len: u64,
    /// The ETag, without quotes.
    pub etag: String,
    /// The bodies of which it consists, in order: one, or one per part.
    pub bodies: Vec<(Body, [u8; 32])>,
    /// Number of parts; 0 when it was not uploaded in parts.
    pub parts: u16,
    /// Headers kept with it.
    pub metadata: Metadata,
}

/// A version of a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Version {
    /// Its name.
    pub order: OrderKey,
    /// It is the version `null`.
    pub null: bool,
    /// What it holds; a delete marker holds nothing.
    pub content: Option<Content>,
}

impl Version {
    fn selector(&self) -> VersionSelector {
        if self.null { VersionSelector::Null } else { VersionSelector::Id(self.order) }
    }

    fn id(&self) -> Option<OrderKey> {
        (!self.null).then_some(self.order)
    }
}

impl Bucket {
    fn current(&self, key: &str) -> Option<&Version> {
        self.keys.get(key)?.last()
    }

    /// Puts a version on top.
    pub(super) fn write(&mut self, key: &str, order: OrderKey, content: Option<Content>) {
        let null = self.versioning != Versioning::Enabled;
        let versions = self.keys.entry(key.to_owned()).or_default();
        if null {
            versions.retain(|version| !version.null);
        }
        versions.push(Version { order, null, content });
    }

    fn remove(&mut self, key: &str, order: OrderKey) {
        let versions = self.keys.get_mut(key).expect("a version of it was found");
        versions.retain(|version| version.order != order);
        if versions.is_empty() {
            self.keys.remove(key);
        }
    }

    /// Whether the condition holds for the current version, where a delete marker counts as nothing.
    pub(super) fn judge(&self, key: &str, condition: &Condition) -> Result<(), Refusal> {
        let current = self.current(key).and_then(|version| Some((version.order, version.content.as_ref()?)));
        let Some((order, content)) = current else {
            let missed =
                condition.if_match.is_some() || condition.if_size.is_some() || condition.if_modified_at.is_some();
            return if missed { Err(Refusal::NoSuchKey) } else { Ok(()) };
        };
        let holds = condition.if_match.as_ref().is_none_or(|tags| matches(tags, &content.etag))
            && !condition.if_none_match.as_ref().is_some_and(|tags| matches(tags, &content.etag))
            && condition.if_size.is_none_or(|len| len == content.len)
            && condition.if_modified_at.is_none_or(|secs| secs == order.timestamp.unix_secs());
        if holds { Ok(()) } else { Err(Refusal::PreconditionFailed) }
    }

    /// What a client is told of a new version.
    pub(super) fn written(&self, order: OrderKey, content: &Content) -> Written {
        Written {
            order,
            version: (self.versioning == Versioning::Enabled).then_some(order),
            null_version: self.versioning == Versioning::Suspended,
            etag: content.etag.clone(),
            checksum: None,
            modified_ms: order.timestamp.unix_ms(),
            source_version: None,
            parts: content.parts,
            len: content.len,
        }
    }
}

fn matches(tags: &EtagMatch, etag: &str) -> bool {
    match tags {
        EtagMatch::Any => true,
        EtagMatch::OneOf(tags) => tags.iter().any(|tag| tag == etag),
    }
}

/// Lower-case hex, as ETags are written.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Model {
    pub(super) fn put(&mut self, place: Place<'_>, op: &PutObject) -> Result<Outcome, Refusal> {
        let bucket = self.bucket(&op.bucket)?;
        Self::fresh(place.timestamp, &op.body)?;
        bucket.judge(&op.key, &op.condition)?;
        let order = place.order(0);
        let content = Content {
            len: op.len,
            etag: hex(&op.md5),
            bodies: vec![(op.body.clone(), op.digest)],
            parts: 0,
            metadata: op.metadata.clone(),
        };
        let written = bucket.written(order, &content);
        bucket.write(&op.key, order, Some(content));
        Ok(Outcome::Written(written))
    }

    pub(super) fn copy(&mut self, place: Place<'_>, op: &CopyObject) -> Result<Outcome, Refusal> {
        let from = self.buckets.get(&op.source.bucket).ok_or(Refusal::NoSuchBucket)?;
        let bucket = self.buckets.get(&op.bucket).ok_or(Refusal::NoSuchBucket)?;
        let versions = from.keys.get(&op.source.key).into_iter().flatten();
        let source = match op.source.version {
            None => {
                from.current(&op.source.key).filter(|version| version.content.is_some()).ok_or(Refusal::NoSuchKey)?
            }
            Some(named) => {
                versions.into_iter().find(|version| version.selector() == named).ok_or(Refusal::NoSuchVersion)?
            }
        };
        let mut content = source.content.clone().ok_or(Refusal::DeleteMarker)?;
        if op.source.condition.if_match.as_ref().is_some_and(|tags| !matches(tags, &content.etag)) {
            return Err(Refusal::SourcePreconditionFailed);
        }
        let same_key = op.source.bucket == op.bucket && op.source.key == op.key;
        let current = bucket.current(&op.key).map(|version| version.order);
        if same_key && current == Some(source.order) && op.metadata.is_none() {
            return Err(Refusal::CopyOntoItself);
        }
        bucket.judge(&op.key, &op.condition)?;
        let source_version = source.id();
        if let Some(metadata) = &op.metadata {
            content.metadata = metadata.clone();
        }
        let order = place.order(0);
        let bucket = self.bucket(&op.bucket)?;
        let written = Written { source_version, ..bucket.written(order, &content) };
        bucket.write(&op.key, order, Some(content));
        Ok(Outcome::Written(written))
    }

    pub(super) fn delete(&mut self, place: Place<'_>, op: &DeleteObjects) -> Result<Outcome, Refusal> {
        let bucket = self.bucket(&op.bucket)?;
        let results: Vec<DeleteResult> =
            op.items.iter().enumerate().map(|(index, item)| delete_one(bucket, place.order(index), item)).collect();
        self.facts += results.len() as u64 - 1;
        Ok(Outcome::Deleted(results))
    }
}

fn delete_one(bucket: &mut Bucket, order: OrderKey, item: &DeleteItem) -> DeleteResult {
    let nothing =
        DeleteResult { order, refused: None, marker: None, removed: None, removed_marker: false, null_version: false };
    if let Err(refusal) = bucket.judge(&item.key, &item.condition) {
        return DeleteResult { refused: Some(refusal), ..nothing };
    }
    let versions = bucket.keys.get(&item.key).into_iter().flatten();
    match item.version {
        Some(named) => {
            let Some(found) = versions.into_iter().find(|version| version.selector() == named).cloned() else {
                return nothing;
            };
            bucket.remove(&item.key, found.order);
            let removed_marker = found.content.is_none();
            DeleteResult { removed: found.id(), removed_marker, null_version: found.null, ..nothing }
        }
        None if bucket.versioning == Versioning::Off => {
            if let Some(current) = bucket.current(&item.key).map(|version| version.order) {
                bucket.remove(&item.key, current);
            }
            nothing
        }
        None => {
            bucket.write(&item.key, order, None);
            let null_version = bucket.versioning == Versioning::Suspended;
            DeleteResult { marker: Some(order), null_version, ..nothing }
        }
    }
}

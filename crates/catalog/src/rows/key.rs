//! Keys of the rows. Byte order is listing order; `docs/formats/catalog.md` has every layout.
//!
//! A bucket name holds no NUL, so a NUL ends it. An object key may hold any character, NUL too: it either
//! comes last, or is escaped (`00` becomes `00 ff`) and ended by `00 00`, which keeps the order.

use types::object::PlacementId;
use types::state::ReadError;
use types::{OrderKey, ReplicaId};

const GENESIS: u8 = b'g';
const NODE: u8 = b'n';
const EPOCH: u8 = b'e';
const ZONE: u8 = b'z';
const TOKEN: u8 = b't';
const BUCKET: u8 = b'b';
const ACCESS_KEY: u8 = b'k';
const OBJECT: u8 = b'o';
const VERSION: u8 = b'v';
const UPLOAD: u8 = b'u';
const PART: u8 = b'p';
const INDEX: u8 = b'i';
const REFERENCE: u8 = b'r';
const WINDOW: u8 = b'w';
const SHARED_WINDOW: u8 = b's';
const COMPLETED: u8 = b'c';

/// Length of a key in [`types::state::Table::Bodies`]: the order key of the write, then the part number (0 for what is no
/// part).
pub const BODY_KEY_LEN: usize = OrderKey::LEN + 2;

/// The key in [`types::state::Table::Bodies`] of the inline bytes that `order` wrote.
#[must_use]
pub fn body_key(order: OrderKey, number: u16) -> [u8; BODY_KEY_LEN] {
    let mut key = [0; BODY_KEY_LEN];
    key[..OrderKey::LEN].copy_from_slice(&order.to_bytes());
    key[OrderKey::LEN..].copy_from_slice(&number.to_be_bytes());
    key
}

fn named(tag: u8, name: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + name.len());
    key.push(tag);
    key.extend_from_slice(name.as_bytes());
    key
}

/// `tag bucket 00`
fn in_bucket(tag: u8, bucket: &str, spare: usize) -> Vec<u8> {
    let mut key = Vec::with_capacity(2 + bucket.len() + spare);
    key.push(tag);
    key.extend_from_slice(bucket.as_bytes());
    key.push(0);
    key
}

fn escape_onto(out: &mut Vec<u8>, text: &str) {
    for &byte in text.as_bytes() {
        out.push(byte);
        if byte == 0 {
            out.push(0xff);
        }
    }
}

/// `tag bucket 00 escaped(key) 00 00`
fn escaped(tag: u8, bucket: &str, object: &str) -> Vec<u8> {
    let mut key = in_bucket(tag, bucket, object.len() + 2 + OrderKey::LEN);
    escape_onto(&mut key, object);
    key.extend_from_slice(&[0, 0]);
    key
}

pub(crate) fn genesis() -> Vec<u8> {
    vec![GENESIS]
}

pub(crate) fn node(replica: ReplicaId) -> Vec<u8> {
    [&[NODE][..], &replica.0.to_be_bytes()].concat()
}

pub(crate) fn all_nodes() -> Vec<u8> {
    vec![NODE]
}

pub(crate) fn epoch() -> Vec<u8> {
    vec![EPOCH]
}

pub(crate) fn zone(zone: &str) -> Vec<u8> {
    named(ZONE, zone)
}

pub(crate) fn all_zones() -> Vec<u8> {
    vec![ZONE]
}

pub(crate) fn token(name: &[u8; 32]) -> Vec<u8> {
    [&[TOKEN][..], name].concat()
}

pub(crate) fn all_tokens() -> Vec<u8> {
    vec![TOKEN]
}

pub(crate) fn bucket(name: &str) -> Vec<u8> {
    named(BUCKET, name)
}

pub(crate) fn access_key(id: &str) -> Vec<u8> {
    named(ACCESS_KEY, id)
}

pub(crate) fn object(bucket: &str, object: &str) -> Vec<u8> {
    let mut key = in_bucket(OBJECT, bucket, object.len());
    key.extend_from_slice(object.as_bytes());
    key
}

/// Current rows whose object key starts with `prefix`.
pub(crate) fn objects(bucket: &str, prefix: &str) -> Vec<u8> {
    object(bucket, prefix)
}

/// Noncurrent versions of one object key, newest first.
pub(crate) fn versions_of(bucket: &str, object: &str) -> Vec<u8> {
    escaped(VERSION, bucket, object)
}

pub(crate) fn version(bucket: &str, object: &str, order: OrderKey) -> Vec<u8> {
    let mut key = escaped(VERSION, bucket, object);
    key.extend(order.to_bytes().map(|byte| !byte));
    key
}

/// Noncurrent versions whose object key starts with `prefix`.
pub(crate) fn versions(bucket: &str, prefix: &str) -> Vec<u8> {
    let mut key = in_bucket(VERSION, bucket, prefix.len());
    escape_onto(&mut key, prefix);
    key
}

/// Uploads of one object key, oldest first.
pub(crate) fn uploads_of(bucket: &str, object: &str) -> Vec<u8> {
    escaped(UPLOAD, bucket, object)
}

pub(crate) fn upload(bucket: &str, object: &str, upload: OrderKey) -> Vec<u8> {
    let mut key = escaped(UPLOAD, bucket, object);
    key.extend_from_slice(&upload.to_bytes());
    key
}

/// Uploads whose object key starts with `prefix`.
pub(crate) fn uploads(bucket: &str, prefix: &str) -> Vec<u8> {
    let mut key = in_bucket(UPLOAD, bucket, prefix.len());
    escape_onto(&mut key, prefix);
    key
}

/// Parts under one holder: an upload, or the object that a copy made.
pub(crate) fn parts(holder: OrderKey) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + OrderKey::LEN + 2);
    key.push(PART);
    key.extend_from_slice(&holder.to_bytes());
    key
}

pub(crate) fn part(holder: OrderKey, number: u16) -> Vec<u8> {
    let mut key = parts(holder);
    key.extend_from_slice(&number.to_be_bytes());
    key
}

pub(crate) fn part_index(holder: OrderKey) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + OrderKey::LEN);
    key.push(INDEX);
    key.extend_from_slice(&holder.to_bytes());
    key
}

/// References to one placement.
pub(crate) fn references(placement: PlacementId) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + 16 + BODY_KEY_LEN);
    key.push(REFERENCE);
    key.extend_from_slice(&placement.0);
    key
}

pub(crate) fn reference(placement: PlacementId, order: OrderKey, number: u16) -> Vec<u8> {
    let mut key = references(placement);
    key.extend_from_slice(&body_key(order, number));
    key
}

/// The retry window of an object key.
pub(crate) fn window(bucket: &str, object: &str) -> Vec<u8> {
    let mut key = in_bucket(WINDOW, bucket, object.len());
    key.extend_from_slice(object.as_bytes());
    key
}

/// The retry window of what `*` commands name: a bucket or an access key.
pub(crate) fn shared_window(kind: u8, name: &str) -> Vec<u8> {
    let mut key = vec![SHARED_WINDOW, kind];
    key.extend_from_slice(name.as_bytes());
    key
}

/// The marker of a completed upload.
pub(crate) fn completed(bucket: &str, object: &str, upload: OrderKey) -> Vec<u8> {
    let mut key = escaped(COMPLETED, bucket, object);
    key.extend_from_slice(&upload.to_bytes());
    key
}

/// All buckets, all access keys, all references: for scans.
pub(crate) const fn all_buckets() -> [u8; 1] {
    [BUCKET]
}

pub(crate) const fn all_access_keys() -> [u8; 1] {
    [ACCESS_KEY]
}

pub(crate) const fn all_references() -> [u8; 1] {
    [REFERENCE]
}

pub(crate) const fn all_objects() -> [u8; 1] {
    [OBJECT]
}

pub(crate) const fn all_versions() -> [u8; 1] {
    [VERSION]
}

pub(crate) const fn all_parts() -> [u8; 1] {
    [PART]
}

/// The smallest key above all that start with `prefix`; empty (no bound) when there is none.
pub(crate) fn successor(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            break;
        }
    }
    end
}

fn foreign(key: &[u8]) -> ReadError {
    ReadError(format!("a catalog row has a key that no row has: {key:02x?}"))
}

fn text(bytes: Vec<u8>, key: &[u8]) -> Result<String, ReadError> {
    String::from_utf8(bytes).map_err(|_| foreign(key))
}

/// The name in the key of a bucket row or of an access key row.
pub(crate) fn read_named(key: &[u8]) -> Result<String, ReadError> {
    text(key.get(1..).ok_or_else(|| foreign(key))?.to_vec(), key)
}

/// Bucket and object key in the key of a current row.
pub(crate) fn read_object(key: &[u8]) -> Result<(String, String), ReadError> {
    let (bucket, object) = split_bucket(key)?;
    Ok((text(bucket.to_vec(), key)?, text(object.to_vec(), key)?))
}

/// Bucket, object key and order in the key of a noncurrent row.
pub(crate) fn read_version(key: &[u8]) -> Result<(String, String, OrderKey), ReadError> {
    let (bucket, object, order) = read_escaped(key)?;
    Ok((bucket, object, OrderKey::from_bytes(&order.map(|byte| !byte))))
}

/// Bucket, object key and upload in the key of an upload row.
pub(crate) fn read_upload(key: &[u8]) -> Result<(String, String, OrderKey), ReadError> {
    let (bucket, object, order) = read_escaped(key)?;
    Ok((bucket, object, OrderKey::from_bytes(&order)))
}

/// Holder and number in the key of a part row.
pub(crate) fn read_part(key: &[u8]) -> Result<(OrderKey, u16), ReadError> {
    let rest: &[u8; BODY_KEY_LEN] = key.get(1..).and_then(|rest| rest.try_into().ok()).ok_or_else(|| foreign(key))?;
    Ok(read_body_key(rest))
}

/// The inverse of [`body_key`].
pub(crate) fn read_body_key(key: &[u8; BODY_KEY_LEN]) -> (OrderKey, u16) {
    let mut order = [0; OrderKey::LEN];
    order.copy_from_slice(&key[..OrderKey::LEN]);
    (OrderKey::from_bytes(&order), u16::from_be_bytes([key[OrderKey::LEN], key[OrderKey::LEN + 1]]))
}

/// Placement, and who refers to it, in the key of a reference row.
pub(crate) fn read_reference(key: &[u8]) -> Result<(PlacementId, OrderKey, u16), ReadError> {
    let placement: [u8; 16] = key.get(1..17).and_then(|id| id.try_into().ok()).ok_or_else(|| foreign(key))?;
    let holder: &[u8; BODY_KEY_LEN] = key.get(17..).and_then(|id| id.try_into().ok()).ok_or_else(|| foreign(key))?;
    let (order, number) = read_body_key(holder);
    Ok((PlacementId(placement), order, number))
}

fn split_bucket(key: &[u8]) -> Result<(&[u8], &[u8]), ReadError> {
    let rest = key.get(1..).ok_or_else(|| foreign(key))?;
    let end = rest.iter().position(|&byte| byte == 0).ok_or_else(|| foreign(key))?;
    Ok((&rest[..end], &rest[end + 1..]))
}

fn read_escaped(key: &[u8]) -> Result<(String, String, [u8; OrderKey::LEN]), ReadError> {
    let (bucket, rest) = split_bucket(key)?;
    let cut = rest.len().checked_sub(OrderKey::LEN + 2).ok_or_else(|| foreign(key))?;
    let (escaped, tail) = rest.split_at(cut);
    let (end, order) = tail.split_at(2);
    let mut object = Vec::with_capacity(escaped.len());
    let mut bytes = escaped.iter();
    while let Some(&byte) = bytes.next() {
        if byte == 0 && bytes.next() != Some(&0xff) {
            return Err(foreign(key));
        }
        object.push(byte);
    }
    let order = order.try_into().map_err(|_| foreign(key))?;
    if end != [0, 0] {
        return Err(foreign(key));
    }
    Ok((text(bucket.to_vec(), key)?, text(object, key)?, order))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use types::{CommandId, Timestamp};

    fn order(timestamp: u64) -> OrderKey {
        OrderKey { timestamp: Timestamp(timestamp), id: CommandId::default(), item: 3 }
    }

    fn text() -> impl Strategy<Value = String> {
        proptest::collection::vec(prop::sample::select(vec!['\0', '\u{1}', 'a', 'b', '/', 'ÿ', '\u{10ffff}']), 0..5)
            .prop_map(|chars| chars.into_iter().collect())
    }

    proptest! {
        #[test]
        fn rows_stand_in_the_order_of_their_keys(a in text(), b in text(), early in any::<u64>(), late in any::<u64>()) {
            prop_assert_eq!(object("bucket", &a).cmp(&object("bucket", &b)), a.as_bytes().cmp(b.as_bytes()));
            // Newest first below a key, oldest first for uploads.
            let by_version = (a.as_bytes(), late).cmp(&(b.as_bytes(), early));
            let (left, right) = (version("bucket", &a, order(early)), version("bucket", &b, order(late)));
            prop_assert_eq!(left.cmp(&right), if a == b { late.cmp(&early) } else { by_version });
            let (left, right) = (upload("bucket", &a, order(early)), upload("bucket", &b, order(late)));
            prop_assert_eq!(left.cmp(&right), (a.as_bytes(), early).cmp(&(b.as_bytes(), late)));
        }

        #[test]
        fn a_prefix_of_keys_is_a_prefix_of_rows(a in text(), b in text()) {
            let at = order(7);
            prop_assert_eq!(object("bucket", &a).starts_with(&objects("bucket", &b)), a.starts_with(&b));
            prop_assert_eq!(version("bucket", &a, at).starts_with(&versions("bucket", &b)), a.starts_with(&b));
            prop_assert_eq!(version("bucket", &a, at).starts_with(&versions_of("bucket", &b)), a == b);
            prop_assert_eq!(upload("bucket", &a, at).starts_with(&uploads("bucket", &b)), a.starts_with(&b));
        }

        #[test]
        fn what_is_in_a_key_is_read_from_it(name in text(), at in any::<u64>(), number in any::<u16>()) {
            let at = order(at);
            let bucket = "bucket".to_owned();
            prop_assert_eq!(read_object(&object("bucket", &name)).unwrap(), (bucket.clone(), name.clone()));
            let placed = read_version(&version("bucket", &name, at)).unwrap();
            prop_assert_eq!(placed, (bucket.clone(), name.clone(), at));
            prop_assert_eq!(read_upload(&upload("bucket", &name, at)).unwrap(), (bucket, name, at));
            prop_assert_eq!(read_part(&part(at, number)).unwrap(), (at, number));
            let id = PlacementId([9; 16]);
            prop_assert_eq!(read_reference(&reference(id, at, number)).unwrap(), (id, at, number));
        }

        #[test]
        fn no_key_makes_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = (read_object(&bytes), read_version(&bytes), read_upload(&bytes), read_named(&bytes));
            let _ = (read_part(&bytes), read_reference(&bytes));
        }
    }

    #[test]
    fn the_successor_is_above_all_that_start_so() {
        assert_eq!(successor(b"a"), b"b");
        assert_eq!(successor(b"a\xff"), b"b");
        assert_eq!(successor(b"\xff\xff"), b"");
    }
}

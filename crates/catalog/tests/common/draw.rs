//! Random commands, from a seed or from bytes that a property test can shrink. Names and times are few, so
//! that commands meet; some break every rule that there is.

use bytes::Bytes;
use types::command::*;
use types::object::*;
use types::{ClusterId, OrderKey, ReplicaId, Timestamp};

use super::ops;

/// Where choices come from.
pub struct Draw {
    next: Box<dyn FnMut() -> u64>,
    /// How often, in a thousand, a field breaks its rule.
    pub wild: u64,
    /// Order keys that versions and uploads are drawn from.
    pub orders: Vec<OrderKey>,
    /// Uploads that were started, and what was stored under them: so that some commands find what they name.
    pub uploads: Vec<(String, String, OrderKey)>,
    pub parts: Vec<(OrderKey, CompletedPart)>,
    /// The time of the command.
    pub now: Timestamp,
}

impl Draw {
    /// SplitMix64 (Steele and others, 2014).
    pub fn from_seed(mut seed: u64) -> Self {
        Self::new(Box::new(move || {
            seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = seed;
            z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ z >> 31
        }))
    }

    /// Two bytes a choice, then zeros: shorter bytes are simpler commands.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        let mut bytes = bytes.into_iter();
        Self::new(Box::new(move || u64::from(bytes.next().unwrap_or(0)) << 8 | u64::from(bytes.next().unwrap_or(0))))
    }

    fn new(next: Box<dyn FnMut() -> u64>) -> Self {
        Self { next, wild: 0, orders: Vec::new(), uploads: Vec::new(), parts: Vec::new(), now: Timestamp(0) }
    }

    pub fn below(&mut self, end: u64) -> u64 {
        (self.next)() % end
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == n - 1
    }

    fn breaks_rule(&mut self) -> bool {
        self.wild > 0 && self.below(1000) >= 1000 - self.wild
    }

    fn pick<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.below(choices.len() as u64)).unwrap()].clone()
    }

    fn option<T>(&mut self, some: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if self.one_in(3) { Some(some(self)) } else { None }
    }

    fn strange(&mut self) -> String {
        self.pick(&["", "\0", "a\0b", "\u{10ffff}", "a\r\nb", "long"]).replace("long", &"x".repeat(5000))
    }

    fn bucket(&mut self) -> String {
        if self.breaks_rule() { self.strange() } else { self.pick(&["bucket", "bucket", "bucket", "other"]).to_owned() }
    }

    fn key(&mut self) -> String {
        if self.breaks_rule() { self.strange() } else { self.pick(&["a", "b", "c/d", "c/e\0", "é"]).to_owned() }
    }

    pub fn order(&mut self) -> OrderKey {
        let orders = self.orders.clone();
        if orders.is_empty() || self.breaks_rule() { OrderKey::default() } else { self.pick(&orders) }
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        [u8::try_from(self.below(4)).unwrap(); N]
    }

    fn text(&mut self) -> String {
        if self.breaks_rule() { self.strange() } else { self.pick(&["one", "two", "three"]).to_owned() }
    }

    fn number(&mut self) -> u16 {
        if self.breaks_rule() { self.pick(&[0, 10_001, u16::MAX]) } else { self.pick(&[1, 2, 3, 10_000]) }
    }

    fn body(&mut self) -> (Body, u64, [u8; 32]) {
        let (body, len, digest) = if self.one_in(2) {
            let len = self.pick(&[1, 300_000, ops::MIB5]);
            let id = u8::try_from(self.below(250)).unwrap();
            let age = self.pick(&[0, 1_000_000_000, 7_200_000_000_000]);
            let placement = ops::placement(id, len, self.now.minus_ns(age));
            let digest = ops::content_digest(&placement.chunks);
            (Body::Placed(placement), len, digest)
        } else {
            let text = self.pick(&["", "one", "two", "three"]);
            (
                Body::Inline(Bytes::from_static(text.as_bytes())),
                text.len() as u64,
                *blake3::hash(text.as_bytes()).as_bytes(),
            )
        };
        let len = if self.breaks_rule() { self.pick(&[0, 1, u64::MAX]) } else { len };
        let digest = if self.breaks_rule() { self.array() } else { digest };
        (body, len, digest)
    }

    fn checksum(&mut self) -> Checksum {
        let algorithm = self.algorithm();
        let kind = if self.breaks_rule() { ChecksumKind::Composite } else { ChecksumKind::FullObject };
        let len = if self.breaks_rule() { 3 } else { algorithm.value_len() };
        Checksum { algorithm, kind, value: vec![7; len].into() }
    }

    fn algorithm(&mut self) -> ChecksumAlgorithm {
        use ChecksumAlgorithm::{Crc32, Crc32c, Crc64Nvme, Sha1, Sha256};
        self.pick(&[Crc32, Crc32c, Crc64Nvme, Sha1, Sha256])
    }

    fn metadata(&mut self) -> Metadata {
        Metadata {
            content_type: self.option(Self::text),
            content_encoding: self.option(Self::text),
            content_disposition: self.option(Self::text),
            content_language: self.option(Self::text),
            cache_control: self.option(Self::text),
            expires: self.option(Self::text),
            website_redirect: self.option(Self::text),
            user: (0..self.below(3)).map(|n| (format!("name-{n}"), self.text())).collect(),
        }
    }

    fn etag(&mut self) -> String {
        let text = self.text();
        if self.breaks_rule() { text } else { ops::etag_of(&text) }
    }

    fn tags(&mut self) -> EtagMatch {
        if self.one_in(2) {
            EtagMatch::Any
        } else {
            EtagMatch::OneOf((0..=self.below(2)).map(|_| self.etag()).collect())
        }
    }

    fn condition(&mut self, of_source: bool) -> Condition {
        let mut condition = Condition::default();
        if self.one_in(4) {
            condition.if_match = self.option(Self::tags);
            condition.if_none_match = self.option(Self::tags);
            let secs = self.now.unix_secs();
            if of_source || self.breaks_rule() {
                condition.if_modified_since = self.option(|draw| draw.pick(&[0, secs]));
                condition.if_unmodified_since = self.option(|draw| draw.pick(&[0, secs]));
            }
            if !of_source || self.breaks_rule() {
                condition.if_size = self.option(|draw| draw.pick(&[0, 3]));
                condition.if_modified_at = self.option(|draw| draw.pick(&[0, secs]));
            }
        }
        condition
    }

    fn version(&mut self) -> VersionSelector {
        if self.one_in(2) { VersionSelector::Null } else { VersionSelector::Id(self.order()) }
    }

    fn completed(&mut self, upload: OrderKey) -> Vec<CompletedPart> {
        let stored: Vec<_> = self.parts.iter().filter(|(of, _)| *of == upload).map(|(_, part)| part.clone()).collect();
        if !stored.is_empty() && !self.one_in(6) {
            return vec![self.pick(&stored)];
        }
        let mut parts: Vec<_> = (0..=self.below(2))
            .map(|_| {
                let checksum = if self.one_in(8) { Some(self.checksum()) } else { None };
                CompletedPart { number: self.number(), etag: self.etag(), checksum }
            })
            .collect();
        if !self.breaks_rule() {
            parts.sort_by_key(|part| part.number);
            parts.dedup_by_key(|part| part.number);
        }
        parts
    }

    /// Lets later commands name what this one makes.
    pub fn remember(&mut self, order: OrderKey, command: &Command) {
        self.orders.push(order);
        match &command.op {
            Op::CreateUpload(op) => self.uploads.push((op.bucket.clone(), op.key.clone(), order)),
            Op::UploadPart(op) => self.parts.push((op.upload, ops::listed(op))),
            _ => {}
        }
        let excess = |len: usize| len.saturating_sub(8);
        self.orders.drain(..excess(self.orders.len()));
        self.uploads.drain(..excess(self.uploads.len()));
        self.parts.drain(..excess(self.parts.len()));
    }

    /// Bucket, key and id of an upload: often one that was started.
    fn upload(&mut self) -> (String, String, OrderKey) {
        let uploads = self.uploads.clone();
        if uploads.is_empty() || self.one_in(6) {
            (self.bucket(), self.key(), self.order())
        } else {
            self.pick(&uploads)
        }
    }

    /// A command for `now`.
    pub fn command(&mut self) -> Command {
        let request = self.option(|draw| RequestToken {
            id: if draw.breaks_rule() { draw.strange() } else { draw.pick(&["1", "2", "3"]).to_owned() },
            digest: [draw.pick(&[0, 0, 0, 0, 1]); 32],
        });
        let principal = if self.breaks_rule() { self.strange() } else { self.pick(&["alice", "bob"]).to_owned() };
        Command { salt: self.array(), principal, request, op: self.op() }
    }

    /// One in twenty touches every slot: more would leave nothing to interleave.
    fn op(&mut self) -> Op {
        match self.below(120) {
            0..44 => Op::PutObject(self.put()),
            44..58 => {
                let mut items = Vec::new();
                for _ in 0..=self.below(3) {
                    let version = if self.one_in(2) { Some(self.version()) } else { None };
                    items.push(DeleteItem { key: self.key(), version, condition: self.condition(false) });
                }
                Op::DeleteObjects(DeleteObjects { bucket: self.bucket(), items })
            }
            58..72 => Op::CopyObject(self.copy()),
            72..80 => {
                let kind = self.pick(&[ChecksumKind::FullObject, ChecksumKind::Composite]);
                let checksum = if self.one_in(8) { Some((self.algorithm(), kind)) } else { None };
                let (bucket, key, metadata) = (self.bucket(), self.key(), self.metadata());
                Op::CreateUpload(CreateUpload { bucket, key, metadata, checksum })
            }
            80..98 => {
                let (body, len, digest) = self.body();
                let md5 = ops::md5_of(self.text().as_bytes());
                let checksum = if self.one_in(8) { Some(self.checksum()) } else { None };
                let (bucket, key, upload) = self.upload();
                let number = self.number();
                Op::UploadPart(UploadPart { bucket, key, upload, number, body, len, digest, md5, checksum })
            }
            98..112 => {
                let (bucket, key, upload) = self.upload();
                Op::CompleteUpload(CompleteUpload {
                    bucket,
                    key,
                    upload,
                    parts: self.completed(upload),
                    condition: self.condition(false),
                    checksum: if self.one_in(8) { Some(self.checksum()) } else { None },
                    len: if self.one_in(8) { Some(3) } else { None },
                })
            }
            112..114 => {
                let (bucket, key, upload) = self.upload();
                Op::AbortUpload(AbortUpload { bucket, key, upload })
            }
            _ => self.shared(),
        }
    }

    fn shared(&mut self) -> Op {
        match self.below(8) {
            0..2 => Op::CreateBucket(CreateBucket { bucket: self.bucket(), region: self.option(Self::text) }),
            2 => Op::DeleteBucket(DeleteBucket { bucket: self.bucket() }),
            3..5 => {
                let versioning = self.pick(&[Versioning::Enabled, Versioning::Suspended, Versioning::Off]);
                Op::SetVersioning(SetVersioning { bucket: self.bucket(), versioning })
            }
            5 => Op::PutAccessKey(PutAccessKey {
                access_key: self.text(),
                sealed: Bytes::from_static(b"sealed"),
                description: self.text(),
            }),
            6 => Op::DeleteAccessKey(DeleteAccessKey { access_key: self.text() }),
            _ => Op::Genesis(Genesis {
                cluster: ClusterId(self.array()),
                origin: self.text(),
                members: (1..=self.below(3))
                    .map(|n| Member {
                        replica: ReplicaId(u32::try_from(n).unwrap()),
                        name: self.text(),
                        key: self.array(),
                    })
                    .collect(),
                quorum: u32::try_from(self.below(3)).unwrap(),
            }),
        }
    }

    fn put(&mut self) -> PutObject {
        let (body, len, digest) = self.body();
        PutObject {
            bucket: self.bucket(),
            key: self.key(),
            body,
            len,
            digest,
            md5: ops::md5_of(self.text().as_bytes()),
            checksum: if self.one_in(4) { Some(self.checksum()) } else { None },
            metadata: self.metadata(),
            condition: self.condition(false),
        }
    }

    fn copy(&mut self) -> CopyObject {
        let version = if self.one_in(3) { Some(self.version()) } else { None };
        let expect = if self.one_in(8) { Some(self.array()) } else { None };
        CopyObject {
            source: Source { bucket: self.bucket(), key: self.key(), version, condition: self.condition(true) },
            bucket: self.bucket(),
            key: self.key(),
            metadata: self.option(Self::metadata),
            condition: self.condition(false),
            checksum: if expect.is_some() || self.breaks_rule() { Some(self.checksum()) } else { None },
            expect,
        }
    }
}

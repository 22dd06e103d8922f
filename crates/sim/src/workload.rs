//! What clients ask for: many small and large writes over few keys, so that they meet.

use std::collections::VecDeque;

use bytes::Bytes;
use types::command::{
    AbortUpload, Command, CompleteUpload, CompletedPart, Condition, CopyObject, CreateBucket, CreateUpload,
    DeleteAccessKey, DeleteBucket, DeleteItem, DeleteObjects, EtagMatch, Op, PutAccessKey, PutObject, RequestToken,
    SetVersioning, Source, UploadPart, VersionSelector, Versioning,
};
use types::limits::CHUNK_LEN;
use types::object::{Body, Chunk, Metadata, Placement, PlacementId};
use types::{OrderKey, Outcome, Timestamp};

use crate::random::Random;

const BUCKETS: [&str; 3] = ["apples", "pears", "plums"];
const KEYS: [&str; 5] = ["a", "a/b", "a/c", "z", "\u{e4}/\0odd"];
const ACCESS_KEYS: [&str; 2] = ["root", "guest"];
/// How much of what clients were told is remembered, to be asked for again.
const KNOWN_MAX: usize = 12;

/// Makes commands. What clients learn from answers flows back in.
pub struct Workload {
    random: Random,
    weights: [u64; 13],
    /// Bytes of the largest inline body in this run.
    body_len_max: u64,
    /// One command in so many carries a request token.
    token_in: u64,
    versions: VecDeque<(String, String, OrderKey)>,
    etags: VecDeque<String>,
    uploads: VecDeque<KnownUpload>,
    made: u64,
}

#[derive(Clone)]
struct KnownUpload {
    bucket: String,
    key: String,
    upload: OrderKey,
    parts: Vec<(u16, String)>,
}

impl Workload {
    /// A workload of its own kind for each seed (swarm testing: what is rare in one run is common in another).
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed, "workload");
        let usual = [30, 12, 6, 4, 8, 4, 2, 2, 1, 2, 1, 1, 6];
        let weights = usual.map(|weight| if random.one_in(4) { 0 } else { weight * (1 + random.below(3)) });
        let body_len_max = *random.pick(&[0, 40, 400, 4000]);
        let token_in = *random.pick(&[1, 3, 10]);
        let mut workload = Self {
            random,
            weights,
            body_len_max,
            token_in,
            versions: VecDeque::new(),
            etags: VecDeque::new(),
            uploads: VecDeque::new(),
            made: 0,
        };
        workload.weights[0] += 5;
        workload
    }

    /// The next command of a client.
    pub fn next(&mut self, principal: &str, clock: Timestamp) -> Command {
        self.made += 1;
        // Without buckets nothing else happens.
        let op = if self.made <= BUCKETS.len() as u64 { self.first_bucket() } else { self.op(clock) };
        let request = self
            .random
            .one_in(self.token_in)
            .then(|| RequestToken { id: format!("{principal}-{}", self.made), digest: self.random.bytes() });
        Command { salt: self.random.bytes(), principal: principal.to_owned(), request, op }
    }

    /// What a client was told of its command.
    pub fn learn(&mut self, command: &Command, outcome: &Outcome) {
        match (&command.op, outcome) {
            (Op::PutObject(PutObject { bucket, key, .. }), Outcome::Written(written))
            | (Op::CopyObject(CopyObject { bucket, key, .. }), Outcome::Written(written))
            | (Op::CompleteUpload(CompleteUpload { bucket, key, .. }), Outcome::Written(written)) => {
                push(&mut self.versions, (bucket.clone(), key.clone(), written.order));
                push(&mut self.etags, written.etag.clone());
            }
            (Op::DeleteObjects(delete), Outcome::Deleted(results)) => {
                for (item, result) in delete.items.iter().zip(results) {
                    if let Some(marker) = result.marker {
                        push(&mut self.versions, (delete.bucket.clone(), item.key.clone(), marker));
                    }
                }
            }
            (Op::CreateUpload(create), Outcome::UploadCreated(upload)) => {
                let (bucket, key) = (create.bucket.clone(), create.key.clone());
                push(&mut self.uploads, KnownUpload { bucket, key, upload: *upload, parts: Vec::new() });
            }
            (Op::UploadPart(part), Outcome::PartStored(etag)) => {
                if let Some(known) = self.uploads.iter_mut().find(|known| known.upload == part.upload) {
                    known.parts.retain(|(number, _)| *number != part.number);
                    known.parts.push((part.number, etag.clone()));
                    known.parts.sort();
                }
            }
            _ => {}
        }
    }

    fn first_bucket(&self) -> Op {
        let index = usize::try_from(self.made - 1).expect("few buckets");
        Op::CreateBucket(CreateBucket { bucket: BUCKETS[index].to_owned(), region: None })
    }

    fn op(&mut self, clock: Timestamp) -> Op {
        let weights = self.weights;
        match self.random.weighted(&weights) {
            0 => self.put(clock),
            1 => self.delete(),
            2 => self.copy(),
            3 => self.create_upload(),
            4 => self.upload_part(clock),
            5 => self.complete(),
            6 => self.abort(),
            7 => Op::CreateBucket(CreateBucket { bucket: self.bucket(), region: Some("here".to_owned()) }),
            8 => Op::DeleteBucket(DeleteBucket { bucket: self.bucket() }),
            9 => {
                let versioning = *self.random.pick(&[Versioning::Enabled, Versioning::Enabled, Versioning::Suspended]);
                Op::SetVersioning(SetVersioning { bucket: self.bucket(), versioning })
            }
            10 => {
                let sealed = Bytes::copy_from_slice(&self.random.bytes());
                Op::PutAccessKey(PutAccessKey { access_key: self.access_key(), sealed, description: String::new() })
            }
            11 => Op::DeleteAccessKey(DeleteAccessKey { access_key: self.access_key() }),
            _ => self.delete_many(),
        }
    }

    fn put(&mut self, clock: Timestamp) -> Op {
        let (bucket, key) = (self.bucket(), self.key());
        let (body, len, digest, md5) = self.body(clock, false);
        let condition = self.condition();
        let metadata = self.metadata();
        Op::PutObject(PutObject { bucket, key, body, len, digest, md5, checksum: None, metadata, condition })
    }

    fn delete(&mut self) -> Op {
        if let Some((bucket, key, order)) = self.known_version().filter(|_| self.random.one_in(2)) {
            let version = Some(VersionSelector::Id(order));
            let item = DeleteItem { key, version, condition: Condition::default() };
            return Op::DeleteObjects(DeleteObjects { bucket, items: vec![item] });
        }
        let bucket = self.bucket();
        let items = vec![self.delete_item()];
        Op::DeleteObjects(DeleteObjects { bucket, items })
    }

    fn delete_many(&mut self) -> Op {
        let bucket = self.bucket();
        let count = 1 + self.random.below(6);
        let items = (0..count).map(|_| self.delete_item()).collect();
        Op::DeleteObjects(DeleteObjects { bucket, items })
    }

    fn delete_item(&mut self) -> DeleteItem {
        let version = match self.random.below(6) {
            0 => Some(VersionSelector::Null),
            1 => self.known_version().map(|(_, _, order)| VersionSelector::Id(order)),
            _ => None,
        };
        let condition = if self.random.one_in(4) { self.condition() } else { Condition::default() };
        DeleteItem { key: self.key(), version, condition }
    }

    fn copy(&mut self) -> Op {
        let version = self.known_version().filter(|_| self.random.one_in(3));
        let (bucket, key, version) = match version {
            Some((bucket, key, order)) => (bucket, key, Some(VersionSelector::Id(order))),
            None => (self.bucket(), self.key(), None),
        };
        let if_match = self.tags().filter(|_| self.random.one_in(5));
        let condition = Condition { if_match, ..Condition::default() };
        let metadata = if self.random.one_in(2) { Some(self.metadata()) } else { None };
        Op::CopyObject(CopyObject {
            source: Source { bucket, key, version, condition },
            bucket: self.bucket(),
            key: self.key(),
            metadata,
            condition: self.condition(),
            checksum: None,
            expect: None,
        })
    }

    fn create_upload(&mut self) -> Op {
        let metadata = self.metadata();
        Op::CreateUpload(CreateUpload { bucket: self.bucket(), key: self.key(), metadata, checksum: None })
    }

    fn upload_part(&mut self, clock: Timestamp) -> Op {
        let Some(KnownUpload { bucket, key, upload, .. }) = self.known_upload() else { return self.create_upload() };
        let number = 1 + u16::try_from(self.random.below(3)).expect("below 3");
        let large = self.random.one_in(2);
        let (body, len, digest, md5) = self.body(clock, large);
        Op::UploadPart(UploadPart { bucket, key, upload, number, body, len, digest, md5, checksum: None })
    }

    fn complete(&mut self) -> Op {
        let Some(KnownUpload { bucket, key, upload, parts }) = self.known_upload() else { return self.create_upload() };
        let mut parts: Vec<CompletedPart> =
            parts.into_iter().map(|(number, etag)| CompletedPart { number, etag, checksum: None }).collect();
        if parts.is_empty() || self.random.one_in(8) {
            parts.insert(0, CompletedPart { number: 2, etag: "0".repeat(32), checksum: None });
        }
        let condition = self.condition();
        Op::CompleteUpload(CompleteUpload { bucket, key, upload, parts, condition, checksum: None, len: None })
    }

    fn abort(&mut self) -> Op {
        let Some(KnownUpload { bucket, key, upload, .. }) = self.known_upload() else { return self.create_upload() };
        Op::AbortUpload(AbortUpload { bucket, key, upload })
    }

    fn body(&mut self, clock: Timestamp, large: bool) -> (Body, u64, [u8; 32], [u8; 16]) {
        let mut md5 = [0; 16];
        md5.copy_from_slice(&self.random.bytes()[..16]);
        if large || self.random.one_in(12) {
            let len = if large { 5 << 20 } else { 1 + self.random.below(9 << 20) };
            let (placement, digest) = self.placement(clock, len);
            return (Body::Placed(placement), len, digest, md5);
        }
        let len = self.random.below(self.body_len_max + 1);
        let seed = self.random.bytes();
        let bytes: Bytes = (0..len).map(|at| seed[usize::try_from(at % 32).expect("below 32")]).collect();
        let digest = *blake3::hash(&bytes).as_bytes();
        (Body::Inline(bytes), len, digest, md5)
    }

    /// A body in the vaults, of which only the commitments exist here.
    fn placement(&mut self, clock: Timestamp, len: u64) -> (Placement, [u8; 32]) {
        let full = CHUNK_LEN as u64;
        let mut id = [0; 16];
        id.copy_from_slice(&self.random.bytes()[..16]);
        let mut chunks = Vec::new();
        let mut left = len;
        while left > 0 {
            let len = u32::try_from(left.min(full)).expect("a chunk fits u32");
            chunks.push(Chunk { len, digest: self.random.bytes() });
            left -= u64::from(len);
        }
        let digest = match &chunks[..] {
            [only] => only.digest,
            several => {
                let mut hasher = blake3::Hasher::new();
                hasher.update(b"entangle/content/v1\n");
                for chunk in several {
                    hasher.update(&chunk.len.to_be_bytes()).update(&chunk.digest);
                }
                *hasher.finalize().as_bytes()
            }
        };
        (Placement { id: PlacementId(id), placed_at: clock, chunks }, digest)
    }

    fn condition(&mut self) -> Condition {
        match self.random.below(12) {
            0 => Condition { if_none_match: Some(EtagMatch::Any), ..Condition::default() },
            1 => Condition { if_match: Some(EtagMatch::Any), ..Condition::default() },
            2 => Condition { if_match: self.tags(), ..Condition::default() },
            3 => Condition { if_none_match: self.tags(), ..Condition::default() },
            4 => Condition { if_size: Some(self.random.below(3)), ..Condition::default() },
            _ => Condition::default(),
        }
    }

    fn tags(&mut self) -> Option<EtagMatch> {
        let etags: Vec<String> = self.etags.iter().cloned().collect();
        if etags.is_empty() {
            return None;
        }
        let one = self.random.pick(&etags).clone();
        let other = self.random.pick(&etags).clone();
        Some(EtagMatch::OneOf(if self.random.one_in(2) { vec![one] } else { vec![one, other] }))
    }

    fn metadata(&mut self) -> Metadata {
        if self.random.one_in(3) {
            return Metadata::default();
        }
        let number = self.random.below(1000);
        Metadata {
            content_type: Some("text/plain".to_owned()),
            user: vec![("number".to_owned(), number.to_string())],
            ..Metadata::default()
        }
    }

    fn bucket(&mut self) -> String {
        // The first bucket is hot.
        BUCKETS[self.random.weighted(&[6, 3, 1])].to_owned()
    }

    fn key(&mut self) -> String {
        (*self.random.pick(&KEYS)).to_owned()
    }

    fn access_key(&mut self) -> String {
        (*self.random.pick(&ACCESS_KEYS)).to_owned()
    }

    fn known_version(&mut self) -> Option<(String, String, OrderKey)> {
        let index = self.random.index(self.versions.len().max(1));
        self.versions.get(index).cloned()
    }

    fn known_upload(&mut self) -> Option<KnownUpload> {
        let index = self.random.index(self.uploads.len().max(1));
        self.uploads.get(index).cloned()
    }
}

fn push<T>(known: &mut VecDeque<T>, item: T) {
    known.push_back(item);
    if known.len() > KNOWN_MAX {
        known.pop_front();
    }
}

//! What clients ask for: puts and gets, conditional ones, deletes over several slots, copies, listings and
//! bucket commands, over few keys so that they meet; in some runs everything that the one-node world knows.

use bytes::Bytes;
use types::command::{
    Command, Condition, CopyObject, CreateBucket, DeleteBucket, DeleteItem, DeleteObjects, EtagMatch, Op, PutObject,
    RequestToken, SetVersioning, Source, Versioning,
};
use types::object::{Body, Metadata};
use types::{Outcome, SlotSet, Timestamp};

use super::check::Ask;
use crate::random::Random;
use crate::workload::Workload;

/// The bucket that is made first and never changed itself.
pub(crate) const STABLE_BUCKET: &str = "stable";
/// The bucket that comes, goes, and changes its versioning.
const WILD_BUCKET: &str = "wilderness";

/// How the keys of a run are chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Keys {
    /// All alike.
    Uniform,
    /// The first ones far more often (Zipf with exponent 1).
    Zipf,
    /// Each region has its own, and sometimes asks for others'.
    PerRegion,
    /// One.
    One,
}

/// What a client waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Waiting {
    pub(crate) operation: usize,
    pub(crate) machine: usize,
}

/// A client: asks for one thing at a time.
pub(crate) struct Client {
    /// The machine that it usually asks.
    pub(crate) home: usize,
    pub(crate) waiting: Option<Waiting>,
    /// A write to be asked for again under its token.
    pub(crate) retries: Option<usize>,
    /// Counts what it did; what was scheduled for an earlier turn is void.
    pub(crate) turn: u64,
}

/// Makes what clients ask for.
pub(crate) struct Mix {
    random: Random,
    keys: Keys,
    count: u64,
    nodes: usize,
    weights: [u64; WEIGHTS],
    /// One write in so many carries a request token.
    token_in: u64,
    general: Workload,
    general_in: u64,
    etags: Vec<String>,
    made: u64,
}

const WEIGHTS: usize = 8;

impl Mix {
    /// A mix of its own kind for each seed.
    pub(crate) fn new(seed: u64, nodes: usize) -> Self {
        let mut random = Random::new(seed, "group workload");
        let usual = [30, 20, 8, 6, 5, 4, 2, 3];
        let mut weights = usual.map(|weight| if random.one_in(4) { 0 } else { weight * (1 + random.below(3)) });
        weights[0] += 5;
        if random.one_in(3) {
            weights[6] = 0;
        }
        let keys = *random.pick(&[Keys::Uniform, Keys::Zipf, Keys::PerRegion, Keys::One]);
        let count = *random.pick(&[2, 4, 8, 24]);
        let token_in = *random.pick(&[2, 5, 20]);
        let general_in = *random.pick(&[u64::MAX, u64::MAX, 2, 6]);
        Self {
            random,
            keys,
            count,
            nodes,
            weights,
            token_in,
            general: Workload::new(seed),
            general_in,
            etags: Vec::new(),
            made: 0,
        }
    }

    /// The first commands of a group, before anything else.
    pub(crate) fn first(&mut self, index: u64) -> Option<Ask> {
        let bucket = [STABLE_BUCKET, WILD_BUCKET].get(usize::try_from(index).ok()?)?;
        Some(self.write("founder", Op::CreateBucket(CreateBucket { bucket: (*bucket).to_owned(), region: None })))
    }

    /// A plain put, by which a replica shows that it works.
    pub(crate) fn probe(&mut self, machine: usize) -> Ask {
        let op = self.put(STABLE_BUCKET.to_owned(), format!("probe{machine}"), Condition::default());
        self.write("prober", op)
    }

    fn write(&mut self, principal: &str, op: Op) -> Ask {
        self.made += 1;
        let token = self.random.one_in(self.token_in);
        let request =
            token.then(|| RequestToken { id: format!("{principal}-{}", self.made), digest: self.random.bytes() });
        Ask::Write(Box::new(Command { salt: self.random.bytes(), principal: principal.to_owned(), request, op }))
    }

    /// What a client of a region asks next.
    pub(crate) fn next(&mut self, client: usize, region: usize, wall: Timestamp) -> Ask {
        let principal = format!("client{client}");
        if self.general_in != u64::MAX && self.random.one_in(self.general_in) {
            return Ask::Write(Box::new(self.general.next(&principal, wall)));
        }
        let weights = self.weights;
        let bucket = (if self.random.one_in(4) { WILD_BUCKET } else { STABLE_BUCKET }).to_owned();
        let key = self.key(region);
        match self.random.weighted(&weights) {
            0 => {
                let op = self.put(bucket, key, Condition::default());
                self.write(&principal, op)
            }
            1 => Ask::Get { bucket, key },
            2 => {
                let condition = self.condition();
                let op = self.put(bucket, key, condition);
                self.write(&principal, op)
            }
            3 => {
                let condition = if self.random.one_in(4) { self.condition() } else { Condition::default() };
                let items = vec![DeleteItem { key, version: None, condition }];
                self.write(&principal, Op::DeleteObjects(DeleteObjects { bucket, items }))
            }
            4 => {
                let count = 2 + self.random.below(4);
                let item = |key| DeleteItem { key, version: None, condition: Condition::default() };
                let items = (0..count).map(|_| item(self.key(region))).collect();
                self.write(&principal, Op::DeleteObjects(DeleteObjects { bucket, items }))
            }
            5 => {
                let op = self.copy(bucket, key, region);
                self.write(&principal, op)
            }
            6 => {
                let op = self.bucket_op();
                self.write(&principal, op)
            }
            _ => Ask::List { bucket },
        }
    }

    /// What someone who only reads asks next.
    pub(crate) fn read(&mut self, region: usize) -> Ask {
        let bucket = (if self.random.one_in(6) { WILD_BUCKET } else { STABLE_BUCKET }).to_owned();
        let key = self.key(region);
        if self.random.one_in(12) { Ask::List { bucket } } else { Ask::Get { bucket, key } }
    }

    /// A put of a key, whatever is there.
    pub(crate) fn overwrite(&mut self, bucket: &str, key: &str) -> Ask {
        let op = self.put(bucket.to_owned(), key.to_owned(), Condition::default());
        self.write("guest", op)
    }

    fn copy(&mut self, bucket: String, key: String, region: usize) -> Op {
        let source = Source {
            bucket: (if self.random.one_in(4) { WILD_BUCKET } else { STABLE_BUCKET }).to_owned(),
            key: self.key(region),
            version: None,
            condition: Condition::default(),
        };
        let condition = if self.random.one_in(4) { self.condition() } else { Condition::default() };
        Op::CopyObject(CopyObject {
            source,
            bucket,
            key,
            metadata: Some(Metadata::default()),
            condition,
            checksum: None,
            expect: None,
        })
    }

    fn bucket_op(&mut self) -> Op {
        let bucket = WILD_BUCKET.to_owned();
        match self.random.below(4) {
            0 => Op::DeleteBucket(DeleteBucket { bucket }),
            1 => Op::SetVersioning(SetVersioning { bucket, versioning: Versioning::Enabled }),
            2 => Op::SetVersioning(SetVersioning { bucket, versioning: Versioning::Suspended }),
            _ => Op::CreateBucket(CreateBucket { bucket, region: None }),
        }
    }

    fn put(&mut self, bucket: String, key: String, condition: Condition) -> Op {
        let bytes = Bytes::copy_from_slice(&self.random.bytes()[..16]);
        let mut md5 = [0; 16];
        md5.copy_from_slice(&self.random.bytes()[..16]);
        Op::PutObject(PutObject {
            bucket,
            key,
            len: bytes.len() as u64,
            digest: *blake3::hash(&bytes).as_bytes(),
            body: Body::Inline(bytes),
            md5,
            checksum: None,
            metadata: Metadata::default(),
            condition,
        })
    }

    fn condition(&mut self) -> Condition {
        let tag = if self.etags.is_empty() { None } else { Some(self.random.pick(&self.etags).clone()) };
        let tags = tag.map_or(EtagMatch::Any, |tag| EtagMatch::OneOf(vec![tag]));
        match self.random.below(4) {
            0 | 1 => Condition { if_none_match: Some(EtagMatch::Any), ..Condition::default() },
            2 => Condition { if_match: Some(tags), ..Condition::default() },
            _ => Condition { if_match: Some(EtagMatch::Any), ..Condition::default() },
        }
    }

    fn key(&mut self, region: usize) -> String {
        let number = match self.keys {
            Keys::One => 0,
            Keys::Uniform => self.random.below(self.count),
            Keys::Zipf => {
                let weights: Vec<u64> = (1..=self.count).map(|rank| 1000 / rank).collect();
                self.random.weighted(&weights) as u64
            }
            Keys::PerRegion => {
                let region = if self.random.one_in(8) { self.random.index(self.nodes) } else { region };
                region as u64 * 100 + self.random.below(self.count)
            }
        };
        format!("k{number}")
    }

    /// What a client was told.
    pub(crate) fn learn(&mut self, command: &Command, outcome: &Outcome) {
        if let Outcome::Written(written) = outcome {
            self.etags.push(written.etag.clone());
            if self.etags.len() > 6 {
                self.etags.remove(0);
            }
        }
        self.general.learn(command, outcome);
    }
}

/// The slots that an ask reads or writes.
pub(crate) fn slots(ask: &Ask) -> SlotSet {
    match ask {
        Ask::Write(command) => command.slots(),
        Ask::Get { bucket, key } => SlotSet::of(vec![types::Slot::of(bucket, key)]),
        Ask::List { .. } => SlotSet::All,
    }
}

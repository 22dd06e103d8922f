//! What the tests share: a world that executes commands and checks the state after each, and short ways to
//! write commands.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

pub mod draw;
pub mod invariants;
pub mod ops;

use bytes::Bytes;
use catalog::testing::MemoryState;
use catalog::{Execution, execute, query};
use types::command::{Command, Op, RequestToken, VersionSelector};
use types::outcome::{DeleteResult, Written};
use types::{CommandId, Incarnation, OrderKey, Outcome, Refusal, ReplicaId, Timestamp};

/// The bucket that most tests use.
pub const BUCKET: &str = "bucket";

/// A replica's state, and a clock that the tests move.
pub struct World {
    pub state: MemoryState,
    pub now: Timestamp,
    pub counter: u64,
    pub principal: String,
    /// The last execution.
    pub last: Option<Execution>,
}

pub fn command_id(counter: u64) -> CommandId {
    CommandId { replica: ReplicaId(1), incarnation: Incarnation(1), counter }
}

impl World {
    /// Without any bucket, an hour after the epoch of all clocks that matter.
    pub fn empty() -> Self {
        Self {
            state: MemoryState::default(),
            now: Timestamp(1_700_000_000_000_000_000),
            counter: 0,
            principal: "alice".to_owned(),
            last: None,
        }
    }

    /// With an unversioned bucket.
    pub fn new() -> Self {
        let mut world = Self::empty();
        assert_eq!(world.run(ops::create_bucket(BUCKET)), Outcome::Done);
        world
    }

    /// With a bucket whose versioning is enabled.
    pub fn versioned() -> Self {
        let mut world = Self::new();
        assert_eq!(world.run(ops::enable(BUCKET)), Outcome::Done);
        world
    }

    /// Executes one second after the command before.
    pub fn run(&mut self, op: Op) -> Outcome {
        self.call(op, None)
    }

    /// The same, with a request token.
    pub fn call(&mut self, op: Op, request: Option<RequestToken>) -> Outcome {
        self.now = self.now.plus_ns(1_000_000_000);
        self.counter += 1;
        let command = Command { salt: [3; 32], principal: self.principal.clone(), request, op };
        let done = execute(&self.state, self.now, command_id(self.counter), &command).unwrap();
        assert!(!done.facts.is_empty(), "{command:?} told no fact");
        assert!(done.writes.is_sorted_by(|a, b| (a.table, &a.key) < (b.table, &b.key)), "one change per row");
        self.state.apply(&done.writes);
        invariants::check(&self.state);
        let outcome = done.outcome.clone();
        self.last = Some(done);
        outcome
    }

    /// Executes a write that succeeds.
    pub fn written(&mut self, op: Op) -> Written {
        match self.run(op) {
            Outcome::Written(written) => written,
            other => panic!("not written: {other:?}"),
        }
    }

    /// Executes what is refused, and changes nothing but the retry window.
    pub fn refused(&mut self, op: Op) -> Refusal {
        let before = self.state.digest.clone();
        match self.run(op) {
            Outcome::Refused(refusal) => {
                assert_eq!(before, self.state.digest, "a refused command changed the catalog");
                refusal
            }
            other => panic!("not refused: {other:?}"),
        }
    }

    /// Deletes one key or version.
    pub fn delete(&mut self, key: &str, version: Option<VersionSelector>) -> DeleteResult {
        match self.run(ops::delete(BUCKET, key, version)) {
            Outcome::Deleted(mut results) => results.remove(0),
            other => panic!("not deleted: {other:?}"),
        }
    }

    /// Starts an upload of `key`.
    pub fn upload(&mut self, key: &str) -> OrderKey {
        self.start(ops::create_upload(key, None))
    }

    /// Executes a `CreateUpload`.
    pub fn start(&mut self, op: Op) -> OrderKey {
        match self.run(op) {
            Outcome::UploadCreated(upload) => upload,
            other => panic!("no upload: {other:?}"),
        }
    }

    /// The current bytes of a key, put together from wherever they are; placed bodies give their chunks' digests.
    pub fn read(&self, key: &str) -> Option<String> {
        self.read_version(key, None)
    }

    pub fn read_version(&self, key: &str, version: Option<VersionSelector>) -> Option<String> {
        let row = query::object(&self.state, BUCKET, key, version).unwrap()?;
        if row.marker {
            return None;
        }
        let mut out = Vec::new();
        let mut offset = 0;
        for segment in query::layout(&self.state, &row, 0..row.len).unwrap() {
            assert_eq!(segment.offset, offset, "segments follow each other");
            offset += segment.len;
            match segment.at {
                query::SegmentAt::Inline(place) => {
                    let bytes = query::inline_body(&self.state, &place).unwrap();
                    assert_eq!(bytes.len() as u64, segment.len);
                    out.extend_from_slice(&bytes);
                }
                query::SegmentAt::Placed(placement) => {
                    out.extend_from_slice(format!("<placed {}>", placement.id.0[0]).as_bytes());
                }
            }
        }
        assert_eq!(offset, row.len, "the segments are the whole object");
        Some(String::from_utf8(out).unwrap())
    }
}

/// A request token.
pub fn token(id: &str, digest: u8) -> Option<RequestToken> {
    Some(RequestToken { id: id.to_owned(), digest: [digest; 32] })
}

pub fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

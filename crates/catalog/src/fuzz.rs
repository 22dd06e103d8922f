//! What a fuzzer calls: bytes in, no panic out.

use types::command::{Command, Condition, CreateBucket, CreateUpload, Op, PutObject};
use types::object::{Body, Metadata};
use types::{CommandId, Timestamp};

use crate::execute;
use crate::testing::MemoryState;

/// Decodes a command and executes it on a small state: twice, since the second finds what the first wrote.
pub fn command(bytes: &[u8]) {
    let Ok(command) = Command::from_bytes(bytes) else { return };
    run(&command);
}

/// Executes a command on a small state, twice.
pub fn run(command: &Command) {
    let mut state = small_state();
    for counter in 100..102 {
        let id = CommandId { counter, ..CommandId::default() };
        let done = execute(&state, Timestamp(counter * 1_000_000), id, command).expect("memory can be read");
        assert!(!done.facts.is_empty(), "every command tells a fact");
        let places: std::collections::BTreeSet<_> = done.writes.iter().map(|write| (write.table, &write.key)).collect();
        assert_eq!(places.len(), done.writes.len(), "a row is changed at most once");
        state.apply(&done.writes);
    }
}

/// A bucket with an object, a key with an upload.
fn small_state() -> MemoryState {
    let mut state = MemoryState::default();
    let (bucket, key) = ("bucket".to_owned(), "key".to_owned());
    let put = PutObject {
        bucket: bucket.clone(),
        key: key.clone(),
        body: Body::Inline(bytes::Bytes::from_static(b"body")),
        len: 4,
        digest: *blake3::hash(b"body").as_bytes(),
        md5: [7; 16],
        checksum: None,
        metadata: Metadata::default(),
        condition: Condition::default(),
    };
    let upload = CreateUpload { bucket: bucket.clone(), key, metadata: Metadata::default(), checksum: None };
    let ops = [Op::CreateBucket(CreateBucket { bucket, region: None }), Op::PutObject(put), Op::CreateUpload(upload)];
    for (counter, op) in (1..).zip(ops) {
        let command = Command { salt: [0; 32], principal: "fuzz".to_owned(), request: None, op };
        let id = CommandId { counter, ..CommandId::default() };
        let done = execute(&state, Timestamp(counter), id, &command).expect("memory can be read");
        state.apply(&done.writes);
    }
    state
}

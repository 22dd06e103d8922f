//! Measures the journal, the vault and the state on the disk of a folder:
//! `cargo run --release -p store --example measure -- FOLDER`.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a tool for whoever works on this crate")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ed25519_dalek::{Signer as _, SigningKey};
use parking_lot::{Condvar, Mutex};
use store::disk::RealDisk;
use store::journal::{Append, Event, Journal, JournalOptions, Record, Writer, WriterOptions};
use store::state::{FjallOptions, FjallState, State, StateBatch};
use store::vault::Vault;
use types::journal::{RecordHeader, RecordKind, body_hash};
use types::object::{Placement, PlacementId};
use types::sign::Signer;
use types::state::{StateRead, Table, Write};
use types::{ClusterId, CommandId, Epoch, GroupId, Incarnation, ReplicaId, Timestamp};

struct Key(SigningKey);

impl Signer for Key {
    fn public_key(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

fn main() {
    let folder = std::env::args().nth(1).unwrap_or_else(|| ".".to_owned());
    let folder = Path::new(&folder).join("store-measure");
    std::fs::create_dir_all(&folder).unwrap();
    println!("journal: records of 1 KiB, each waiting client appends the next when the last is durable");
    for (clients, delay_ms) in [(1, 0), (16, 0), (64, 0), (256, 0), (64, 5), (256, 5)] {
        journal(&folder, clients, Duration::from_millis(delay_ms), true);
    }
    println!("the same without zeros written ahead");
    for clients in [1, 64] {
        journal(&folder, clients, Duration::ZERO, false);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    for at_once in [1, 4] {
        runtime.block_on(vault(&folder, at_once));
    }
    state(&folder);
    std::fs::remove_dir_all(&folder).unwrap();
}

fn record(position: u64, body: &Bytes) -> Record {
    let header = RecordHeader {
        kind: RecordKind::Propose,
        flags: 0,
        epoch: Epoch(1),
        position,
        id: CommandId::default(),
        timestamp: Timestamp(position),
        ballot: 0,
        aux: 1,
        body_len: 1024,
        body_hash: body_hash(&[1; 32], body),
    };
    Record { header, salt: [1; 32], body: body.clone() }
}

/// How many records are durable, and a bell for those who wait.
#[derive(Default)]
struct Durable {
    position: Mutex<u64>,
    bell: Condvar,
}

fn journal(folder: &Path, clients: u64, flush_delay: Duration, fill_spare: bool) {
    let path = folder.join("journal");
    let disk = Arc::new(RealDisk::open(&path).unwrap());
    let signer = Arc::new(Key(SigningKey::from_bytes(&[3; 32])));
    let options = JournalOptions { fill_spare, ..JournalOptions::new(ClusterId([1; 16]), ReplicaId(1)) };
    let (mut journal, _) = Journal::open(disk, options, signer).unwrap();
    journal.prepare();
    let durable = Arc::new(Durable::default());
    let bell = Arc::clone(&durable);
    let writer = Writer::start(journal, WriterOptions { flush_delay }, move |event| {
        let Event::Flushed(flushed, _) = event else { panic!("{event:?}") };
        let last = &flushed.batches.last().unwrap().head;
        *bell.position.lock() = last.position + u64::from(last.count) - 1;
        bell.bell.notify_all();
    });
    let writer = writer.unwrap();
    let body = Bytes::from(vec![7; 1024]);
    let next = Mutex::new(1);
    let waited = AtomicU64::new(0);
    let (began, time) = (Instant::now(), Duration::from_secs(4));
    std::thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                while began.elapsed() < time {
                    let start = Instant::now();
                    let mut next = next.lock();
                    let position = *next;
                    *next += 1;
                    let said = vec![record(position, &body)];
                    let append = Append { group: GroupId(1), incarnation: Incarnation(1), said, kept: Vec::new() };
                    writer.append(append).unwrap();
                    drop(next);
                    let mut reached = durable.position.lock();
                    while *reached < position {
                        durable.bell.wait(&mut reached);
                    }
                    drop(reached);
                    waited.fetch_add(start.elapsed().as_micros() as u64, Ordering::Relaxed);
                }
            });
        }
    });
    let seconds = began.elapsed().as_secs_f64();
    let s = writer.statistics();
    let per_flush = |time: Duration| time.as_micros() as u64 / s.flushes;
    println!(
        "{clients:>4} clients, flush + {:>2} ms: {:>7.0} records/s, {:>6.0} flushes/s, {:>5.1} records/flush, wait {:>6} us; per flush: seal {} us, write {} us, flush {} us (max {} us)",
        flush_delay.as_millis(),
        s.records as f64 / seconds,
        s.flushes as f64 / seconds,
        s.records as f64 / s.flushes as f64,
        waited.into_inner() / s.records.max(1),
        per_flush(s.sealing),
        per_flush(s.writing),
        per_flush(s.flushing),
        s.flushing_max.as_micros(),
    );
    drop(writer);
    std::fs::remove_dir_all(path).unwrap();
}

async fn vault(folder: &Path, at_once: u32) {
    const CHUNKS: u32 = 128;
    let vault = Vault::local(folder.join("vault")).unwrap();
    let body = Bytes::from(vec![3; types::limits::CHUNK_LEN]);
    let mut placement = Placement { id: PlacementId([at_once as u8; 16]), placed_at: Timestamp(1), chunks: Vec::new() };
    let mb = f64::from(CHUNKS) * body.len() as f64 / 1e6;
    let began = Instant::now();
    for first in (0..CHUNKS).step_by(at_once as usize) {
        let puts = (first..first + at_once)
            .map(|index| vault.put_chunk(placement.id, placement.placed_at, index, body.clone()));
        placement.chunks.extend(futures::future::try_join_all(puts).await.unwrap());
    }
    let put = mb / began.elapsed().as_secs_f64();
    let began = Instant::now();
    for first in (0..CHUNKS).step_by(at_once as usize) {
        let gets = (first..first + at_once).map(|index| vault.get_chunk(&placement, index));
        futures::future::try_join_all(gets).await.unwrap();
    }
    let get = mb / began.elapsed().as_secs_f64();
    println!("vault, {at_once} chunks of 4 MiB at once: put {put:.0} MB/s, get {get:.0} MB/s (page cache)");
    vault.delete(&placement).await.unwrap();
}

fn resident_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default().to_owned();
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).unwrap_or(0) / 1024
}

fn state(folder: &Path) {
    const ROWS: u64 = 1_000_000;
    let before = resident_mb();
    let state = FjallState::open(folder.join("state"), FjallOptions::default()).unwrap();
    let key = |row: u64| Bytes::from(format!("bucket/object-{:08x}", row.wrapping_mul(0x9e37_79b1) as u32));
    let value = Bytes::from(vec![5; 300]);
    let began = Instant::now();
    for first in (0..ROWS).step_by(100) {
        let writes = (first..first + 100).flat_map(|row| {
            let catalog = Write { table: Table::Catalog, key: key(row), value: Some(value.clone()) };
            let body = Write { table: Table::Bodies, key: key(row), value: Some(Bytes::from(vec![6; 1024])) };
            [catalog, body]
        });
        let batch = StateBatch { writes: writes.collect(), applied: first.to_be_bytes().to_vec() };
        state.apply(batch).unwrap();
    }
    let applied = began.elapsed().as_secs_f64();
    let began = Instant::now();
    for row in (0..ROWS).step_by(37) {
        assert!(state.get(Table::Catalog, &key(row)).unwrap().is_some());
    }
    let read = began.elapsed().as_secs_f64();
    println!(
        "state: a million objects of 300 B row and 1 KiB body: {:.0} objects/s applied in batches of 100, {:.0} random gets/s, {} MiB resident ({before} before), {} MiB on disk",
        ROWS as f64 / applied,
        ROWS as f64 / 37.0 / read,
        resident_mb(),
        state.disk_len().unwrap() / (1 << 20),
    );
}

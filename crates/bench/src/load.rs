//! A closed loop: every client sends its next request when it has the answer to the one before.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::random::{Random, bytes};
use crate::s3::{Client, Target};
use crate::sign::Request;

/// What is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    /// Every request writes a new object.
    Put,
    /// Every request reads one of the objects that were written first.
    Get,
    /// Writes and reads, half and half.
    Mixed,
}

/// When it ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extent {
    /// After this long.
    Time(Duration),
    /// After this many requests of all clients together.
    Requests(u64),
}

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// The server.
    pub target: Target,
    /// The bucket; made if it is not there.
    pub bucket: String,
    /// What is asked.
    pub op: Op,
    /// Bytes of an object.
    pub size: usize,
    /// Clients at the same time.
    pub clients: usize,
    /// When it ends, not counting the warm-up.
    pub extent: Extent,
    /// How long requests are made before they are counted.
    pub warm_up: Duration,
    /// Objects that are written first and then read.
    pub keys: u64,
    /// Distinguishes the keys of this run from those of others.
    pub run: u64,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What was asked.
    pub op: Op,
    /// Bytes of an object.
    pub size: usize,
    /// Clients at the same time.
    pub clients: usize,
    /// How long it was measured.
    pub seconds: f64,
    /// Requests that succeeded.
    pub requests: u64,
    /// Requests that did not, by status (0: no answer).
    pub errors: BTreeMap<u16, u64>,
    /// Successful requests a second.
    pub per_second: f64,
    /// Bytes of bodies a second, in millions.
    pub megabytes_per_second: f64,
    /// Median latency in microseconds.
    pub p50_us: u64,
    /// The latency that 99 % stay below, in microseconds.
    pub p99_us: u64,
    /// The longest, in microseconds.
    pub max_us: u64,
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The server could not be asked, or did not make the bucket.
    #[error("the server at {address} cannot be used: {source}")]
    Server {
        /// Its address.
        address: String,
        /// What happened.
        source: std::io::Error,
    },
    /// An object to be read later could not be written.
    #[error("the objects to read could not be written: the server answered {0}")]
    Prepare(u16),
    /// Nothing succeeded.
    #[error("not one request succeeded; the answers were {0:?}")]
    Nothing(BTreeMap<u16, u64>),
}

/// A client gives up after this many failures in a row.
const FAILURES_MAX: u32 = 100;
/// Latencies above a minute count as a minute.
const LATENCY_US_MAX: u64 = 60_000_000;

struct Shared {
    options: Options,
    counted: AtomicBool,
    stop: AtomicBool,
    left: AtomicU64,
}

struct Tally {
    latencies: Histogram<u64>,
    errors: BTreeMap<u16, u64>,
}

/// Makes the bucket, writes what will be read, and measures.
pub async fn run(options: Options) -> Result<Report, LoadError> {
    prepare(&options).await?;
    let left = match options.extent {
        Extent::Time(_) => u64::MAX,
        Extent::Requests(count) => count,
    };
    let warm = options.warm_up.is_zero();
    let shared = Arc::new(Shared {
        counted: AtomicBool::new(warm),
        stop: AtomicBool::new(false),
        left: AtomicU64::new(left),
        options,
    });
    let clients: Vec<_> =
        (0..shared.options.clients).map(|number| tokio::spawn(client(Arc::clone(&shared), number))).collect();
    tokio::time::sleep(shared.options.warm_up).await;
    shared.counted.store(true, Ordering::Relaxed);
    let started = Instant::now();
    if let Extent::Time(duration) = shared.options.extent {
        tokio::time::sleep(duration).await;
        shared.stop.store(true, Ordering::Relaxed);
    }
    let mut seconds = started.elapsed();
    let mut total = Tally::new();
    for client in clients {
        let Ok(tally) = client.await else { continue };
        total.add(&tally);
    }
    if matches!(shared.options.extent, Extent::Requests(_)) {
        seconds = started.elapsed();
    }
    total.report(&shared.options, seconds)
}

async fn prepare(options: &Options) -> Result<(), LoadError> {
    let server = |source| LoadError::Server { address: options.target.address.clone(), source };
    let mut client = Client::new(&options.target);
    client.create_bucket(&options.bucket).await.map_err(server)?;
    if options.op == Op::Put {
        return Ok(());
    }
    // Eight at a time, so that they share flushes.
    let mut writers = Vec::new();
    for part in 0..8 {
        let options = options.clone();
        writers.push(tokio::spawn(async move {
            let mut client = Client::new(&options.target);
            let body = bytes(options.run, options.size);
            for key in (part..options.keys).step_by(8) {
                let path = readable(&options, key);
                let answer =
                    client.ask(&Request { method: "PUT", path: &path, query: "", headers: &[], body: &body }).await;
                match answer {
                    Ok(answer) if answer.is_success() => {}
                    Ok(answer) => return Err(LoadError::Prepare(answer.status)),
                    Err(source) => return Err(LoadError::Server { address: options.target.address.clone(), source }),
                }
            }
            Ok(())
        }));
    }
    for writer in writers {
        writer.await.unwrap_or(Err(LoadError::Prepare(0)))?;
    }
    Ok(())
}

fn readable(options: &Options, key: u64) -> String {
    format!("/{}/read/{:x}/{key:08}", options.bucket, options.run)
}

async fn client(shared: Arc<Shared>, number: usize) -> Tally {
    let options = &shared.options;
    let seed = options.run ^ (number as u64) << 32;
    let mut random = Random::new(seed);
    let mut client = Client::new(&options.target);
    let mut body = bytes(seed, options.size);
    let mut tally = Tally::new();
    let mut failures = 0;
    for count in 0_u64.. {
        if shared.stop.load(Ordering::Relaxed) || failures == FAILURES_MAX || !shared.take() {
            break;
        }
        let writes = options.op == Op::Put || options.op == Op::Mixed && random.chance(50);
        let path = if writes {
            // No two bodies are equal.
            let stamp = count.to_le_bytes();
            let len = stamp.len().min(body.len());
            body[..len].copy_from_slice(&stamp[..len]);
            format!("/{}/put/{:x}/{number:04}/{count:08}", options.bucket, options.run)
        } else {
            readable(options, random.below(options.keys.max(1)))
        };
        let (method, sent): (&str, &[u8]) = if writes { ("PUT", &body) } else { ("GET", b"") };
        let mut received = 0;
        let started = Instant::now();
        let answer = client
            .send(&Request { method, path: &path, query: "", headers: &[], body: sent }, &mut |piece| {
                received += piece.len();
            })
            .await;
        let elapsed = started.elapsed();
        let status = answer.map_or(0, |head| head.status);
        let success = status == 200 && (writes || received == options.size);
        failures = if success { 0 } else { failures + 1 };
        if shared.counted.load(Ordering::Relaxed) {
            tally.count(success, status, elapsed);
        }
    }
    tally
}

impl Shared {
    /// Takes one of the requests that are left to be made.
    fn take(&self) -> bool {
        matches!(self.options.extent, Extent::Time(_))
            || self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }
}

impl Tally {
    fn new() -> Self {
        let latencies =
            Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("1 is below a minute, 3 digits are allowed");
        Self { latencies, errors: BTreeMap::new() }
    }

    fn count(&mut self, success: bool, status: u16, elapsed: Duration) {
        if success {
            self.latencies
                .saturating_record(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX).clamp(1, LATENCY_US_MAX));
        } else {
            *self.errors.entry(status).or_default() += 1;
        }
    }

    fn add(&mut self, other: &Self) {
        self.latencies.add(&other.latencies).expect("all histograms have the same bounds");
        for (status, count) in &other.errors {
            *self.errors.entry(*status).or_default() += count;
        }
    }

    fn report(self, options: &Options, elapsed: Duration) -> Result<Report, LoadError> {
        let requests = self.latencies.len();
        if requests == 0 {
            return Err(LoadError::Nothing(self.errors));
        }
        let seconds = elapsed.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let per_second = requests as f64 / seconds;
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let megabytes_per_second = per_second * options.size as f64 / 1e6;
        Ok(Report {
            op: options.op,
            size: options.size,
            clients: options.clients,
            seconds,
            requests,
            errors: self.errors,
            per_second,
            megabytes_per_second,
            p50_us: self.latencies.value_at_quantile(0.5),
            p99_us: self.latencies.value_at_quantile(0.99),
            max_us: self.latencies.max(),
        })
    }
}

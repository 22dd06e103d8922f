//! Load: in a closed loop, where every client sends its next request when it has the answer to the one before; or at a
//! rate, where requests are due at times that no answer moves, and count from when they were due, not from when a client
//! was free to send them (no coordinated omission).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use parking_lot::Mutex;
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
    /// Requests a second of all clients together, at times of their own; `None`: a closed loop.
    pub rate: Option<f64>,
    /// Distinguishes the keys of this run from those of others.
    pub run: u64,
}

/// One request that was counted.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// When it was due, in microseconds since the load began.
    pub at_us: u64,
    /// From then to its answer, in microseconds.
    pub took_us: u64,
    /// The status (0: no answer).
    pub status: u16,
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
    /// The shortest latency in microseconds.
    pub min_us: u64,
    /// The median.
    pub p50_us: u64,
    /// The latency that 90 % stay below.
    pub p90_us: u64,
    /// The latency that 99 % stay below.
    pub p99_us: u64,
    /// Every request, in the order in which they were answered to each client.
    #[serde(skip)]
    pub log: Vec<Seen>,
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

/// Latencies that are kept one by one.
const LOG_LEN_MAX: usize = 1 << 20;

struct Shared {
    options: Options,
    began: Instant,
    schedule: Mutex<Schedule>,
    counted: AtomicBool,
    stop: AtomicBool,
    left: AtomicU64,
}

struct Tally {
    latencies: Histogram<u64>,
    errors: BTreeMap<u16, u64>,
    log: Vec<Seen>,
}

/// When requests are due: a steady rate, each gap between half and one and a half of the mean, so that several
/// generators do not fall into step.
struct Schedule {
    random: Random,
    next: Instant,
}

impl Schedule {
    fn take(&mut self, rate: f64) -> Instant {
        let due = self.next;
        #[expect(clippy::cast_precision_loss, reason = "three digits are enough")]
        let share = 0.5 + self.random.below(1_000) as f64 / 1_000.0;
        self.next += Duration::try_from_secs_f64(share / rate).unwrap_or(Duration::MAX);
        due
    }
}

/// Makes the bucket, writes what will be read, and measures.
pub async fn run(options: Options) -> Result<Report, LoadError> {
    prepare(&options).await?;
    let left = match options.extent {
        Extent::Time(_) => u64::MAX,
        Extent::Requests(count) => count,
    };
    let warm = options.warm_up.is_zero();
    let began = Instant::now();
    let shared = Arc::new(Shared {
        began,
        schedule: Mutex::new(Schedule { random: Random::new(options.run), next: began }),
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
        let started = shared.due().await;
        if shared.stop.load(Ordering::Relaxed) {
            break;
        }
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
            tally.count(success, status, elapsed, started - shared.began);
        }
    }
    tally
}

impl Shared {
    /// Waits until the next request is due, and says since when it counts: in a closed loop, or where a client waited for
    /// its time, from now (timers are coarser than an answer is late); where no client was free in time, from that time.
    async fn due(&self) -> Instant {
        let Some(rate) = self.options.rate else { return Instant::now() };
        let due = self.schedule.lock().take(rate);
        if due < Instant::now() {
            return due;
        }
        tokio::time::sleep_until(due.into()).await;
        Instant::now()
    }

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
        Self { latencies, errors: BTreeMap::new(), log: Vec::new() }
    }

    fn count(&mut self, success: bool, status: u16, elapsed: Duration, since: Duration) {
        let us = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        let took_us = us(elapsed).clamp(1, LATENCY_US_MAX);
        if self.log.len() < LOG_LEN_MAX {
            self.log.push(Seen { at_us: us(since), took_us, status });
        }
        if success {
            self.latencies.saturating_record(took_us);
        } else {
            *self.errors.entry(status).or_default() += 1;
        }
    }

    fn add(&mut self, other: &Self) {
        self.latencies.add(&other.latencies).expect("all histograms have the same bounds");
        self.log.extend_from_slice(&other.log);
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
            min_us: self.latencies.min(),
            p50_us: self.latencies.value_at_quantile(0.5),
            p90_us: self.latencies.value_at_quantile(0.9),
            p99_us: self.latencies.value_at_quantile(0.99),
            max_us: self.latencies.max(),
            log: self.log,
        })
    }
}

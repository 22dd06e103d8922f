//! What the gateway counts, and the document that shows it together with what the node counts.
//! `docs/metrics.md` lists the names.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use node::Node;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _, text};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Answered {
    operation: &'static str,
    status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Operation {
    operation: &'static str,
}

type Histograms = Family<Operation, Histogram, fn() -> Histogram>;

/// The gateway's counters and the registry that shows them.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Answered, Counter>,
    durations: Histograms,
    in_flight: Gauge,
    connections: Gauge,
    received: Counter<u64, AtomicU64>,
    sent: Counter<u64, AtomicU64>,
}

fn buckets() -> Histogram {
    Histogram::new([
        0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    ])
}

impl Metrics {
    pub(crate) fn new(node: Node) -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("entangle"),
            requests: Family::default(),
            durations: Histograms::new_with_constructor(buckets),
            in_flight: Gauge::default(),
            connections: Gauge::default(),
            received: Counter::default(),
            sent: Counter::default(),
        };
        let registry = &mut metrics.registry;
        registry.register("s3_requests", "Requests answered on the S3 port", metrics.requests.clone());
        registry.register_with_unit(
            "s3_request_duration",
            "Time from the head of a request to the end of its answer",
            Unit::Seconds,
            metrics.durations.clone(),
        );
        registry.register("s3_requests_in_flight", "Requests being answered", metrics.in_flight.clone());
        registry.register("s3_connections", "Open connections on the S3 port", metrics.connections.clone());
        registry.register_with_unit("s3_received", "Bytes of request bodies", Unit::Bytes, metrics.received.clone());
        registry.register_with_unit("s3_sent", "Bytes of answer bodies", Unit::Bytes, metrics.sent.clone());
        registry.register_collector(Box::new(NodeCollector(node)));
        metrics
    }

    /// The OpenMetrics document.
    pub(crate) fn document(&self) -> Result<String, fmt::Error> {
        let mut document = String::new();
        text::encode(&mut document, &self.registry)?;
        Ok(document)
    }

    /// Counts a request in flight until what is given back is dropped.
    pub(crate) fn request_started(self: &Arc<Self>) -> InFlight {
        self.in_flight.inc();
        InFlight(Arc::clone(self))
    }

    /// Counts an open connection until what is given back is dropped.
    pub(crate) fn connection_opened(self: &Arc<Self>) -> OpenConnection {
        self.connections.inc();
        OpenConnection(Arc::clone(self))
    }
}

/// A request in flight.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Metrics>);

impl InFlight {
    /// Counts the request as answered.
    pub(crate) fn ended(&self, operation: &'static str, status: u16, took: Duration, received: u64, sent: u64) {
        let metrics = &self.0;
        metrics.requests.get_or_create(&Answered { operation, status }).inc();
        metrics.durations.get_or_create(&Operation { operation }).observe(took.as_secs_f64());
        metrics.received.inc_by(received);
        metrics.sent.inc_by(sent);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.dec();
    }
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct OpenConnection(Arc<Metrics>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.connections.dec();
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// What the node tells of itself, read when the document is asked for.
struct NodeCollector(Node);

impl fmt::Debug for NodeCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeCollector")
    }
}

impl Collector for NodeCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let status = self.0.status();
        let mut counter = |name: &str, help: &str, unit: Option<&Unit>, value: u64| {
            let metric = ConstCounter::new(value);
            metric.encode(encoder.encode_descriptor(name, help, unit, metric.metric_type())?)
        };
        let (journal, counters) = (&status.journal, &status.counters);
        counter("journal_flushes", "Flushes of the journal", None, journal.flushes)?;
        counter("journal_records", "Records made durable by them", None, journal.records)?;
        counter("journal_written", "Bytes written to the journal", Some(&Unit::Bytes), journal.bytes)?;
        counter("journal_flush_microseconds", "Time spent in flushes, in microseconds", None, journal.flush_us)?;
        counter("commands_executed", "Commands executed", None, counters.executed)?;
        counter("object_cache_hits", "Object reads answered from memory", None, counters.cache_hits)?;
        counter("object_cache_misses", "Object reads that went to the state", None, counters.cache_misses)?;
        counter("vault_placed", "Bytes written to the vault", Some(&Unit::Bytes), counters.placed_bytes)?;
        counter("vault_collected_bodies", "Bodies removed from the vault", None, counters.collected_bodies)?;
        counter("states_installed", "States taken over from other members", None, counters.installed_states)?;
        counter("listings_ordered", "Listings that were ordered among the writes", None, counters.ordered_reads)?;
        counter(
            "states_fetched",
            "Bytes of states that came from other members",
            Some(&Unit::Bytes),
            counters.fetched_state_bytes,
        )?;
        counter("reads_leased", "Reads answered under a lease, without a message", None, counters.leased_reads)?;
        counter("reads_quorum", "Reads for which a quorum was asked", None, counters.quorum_reads)?;
        counter("writes_forwarded", "Writes that the home of their zone coordinated", None, counters.forwarded_writes)?;
        counter("suspicions", "Times that another node was taken for failed", None, counters.suspicions)?;
        counter("false_suspicions", "Suspected nodes heard again on the same link", None, counters.false_suspicions)?;
        let mut gauge = |name: &str, help: &str, unit: Option<&Unit>, value: u64| {
            let metric = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            metric.encode(encoder.encode_descriptor(name, help, unit, metric.metric_type())?)
        };
        let space = &status.space;
        gauge("ready", "1 while the node takes reads and writes", None, u64::from(status.ready))?;
        gauge("epoch", "The newest epoch that is known", None, u64::from(status.epoch))?;
        gauge("members", "Members of that epoch", None, status.members.len() as u64)?;
        gauge("ledger_entries", "Entries under the newest signed head", None, status.ledger.size)?;
        gauge("ledger_cut_milliseconds", "Cut of that head, unix milliseconds", None, status.ledger.cut_ms)?;
        gauge("started_milliseconds", "Start of the node, unix milliseconds", None, status.started_ms)?;
        gauge("disk_free", "Free bytes where the data lies", Some(&Unit::Bytes), space.disk_free)?;
        gauge("disk_reserve", "Free bytes below which writes are refused", Some(&Unit::Bytes), space.disk_reserve)?;
        gauge("state", "Bytes of the stored state", Some(&Unit::Bytes), space.state_len)?;
        gauge("overlay", "Bytes executed and not yet sealed", Some(&Unit::Bytes), space.overlay_len)?;
        gauge("object_cache", "Bytes of the object cache", Some(&Unit::Bytes), space.cache_len)
    }
}

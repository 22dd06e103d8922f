//! What was done, as it is told line by line, or at the end in one document.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::console::{Console, Report, wrap};
use crate::exit::Exit;

/// Lines of a receipt that are shown.
const RECEIPT_LINES: usize = 3;

/// The story so far.
pub(super) struct Story {
    pub(super) console: Console,
    began: Instant,
    steps: Vec<(&'static str, String)>,
    latencies: Value,
    receipt: String,
    /// What the receipt says.
    pub(super) sentence: String,
}

/// What a region's writes took, and what they could have taken.
pub(super) struct Latency {
    pub(super) region: &'static str,
    pub(super) median: Duration,
    pub(super) limit_ms: f64,
    pub(super) led_ms: f64,
}

impl Story {
    pub(super) fn new(console: Console) -> Self {
        Self {
            console,
            began: Instant::now(),
            steps: Vec::new(),
            latencies: Value::Null,
            receipt: String::new(),
            sentence: String::new(),
        }
    }

    pub(super) fn head(&self, regions: usize) {
        self.say(&format!(
            "\n  {}  one store in {} regions: a node each, in this process, over links as long as the real ones\n",
            self.console.style.bold("Entangle"),
            spelled(regions)
        ));
    }

    pub(super) fn step(&mut self, name: &'static str, what: String) {
        let style = self.console.style;
        let shown = wrap(&what, 104, &" ".repeat(20));
        self.say(&format!("  {} {}  {shown}", style.good("✓"), style.bold(&format!("{name:<14}"))));
        self.steps.push((name, what));
    }

    /// The table of latencies: measured, possible, and what the best single leader would give.
    pub(super) fn latencies(&mut self, writes: usize, leader: &'static str, rows: &[Latency]) {
        let style = self.console.style;
        let width = rows.iter().map(|row| row.region.len()).max().unwrap_or(0);
        let one = |ms: f64| format!("{ms:.1} ms");
        self.say(&format!(
            "\n    {}  {}  {}  {}",
            style.dim(&format!("{:<width$}", format!("p50 of {writes} writes"), width = width.max(16))),
            style.dim(&format!("{:>9}", "measured")),
            style.dim("physical limit"),
            style.dim(&format!("with a leader, best in {leader}")),
        ));
        for row in rows {
            let measured = row.median.as_secs_f64() * 1000.0;
            self.say(&format!(
                "    {:<width$}  {}  {:>14}  {}",
                row.region,
                style.bold(&format!("{:>9}", one(measured))),
                one(row.limit_ms),
                format_args!("{:>9}", one(row.led_ms)),
                width = width.max(16),
            ));
        }
        self.say(&format!(
            "    {}\n",
            style.dim(
                "one region at a time; limit: a round trip to the nearest majority; leader: to it, then to its majority"
            )
        ));
        let documents: Vec<Value> = rows
            .iter()
            .map(|row| {
                json!({
                    "region": row.region,
                    "p50_ms": row.median.as_secs_f64() * 1000.0,
                    "limit_ms": row.limit_ms,
                    "with_leader_ms": row.led_ms,
                })
            })
            .collect();
        self.latencies = json!({ "writes": writes, "best_leader": leader, "regions": documents });
    }

    /// The receipt itself, or its beginning.
    pub(super) fn show_receipt(&mut self, receipt: &[u8]) {
        self.receipt = String::from_utf8_lossy(receipt).into_owned();
        let style = self.console.style;
        let block = self.receipt.lines().skip_while(|line| !line.starts_with("-----BEGIN ENTANGLE"));
        let shown: Vec<&str> = block.take_while(|line| !line.is_empty()).take(RECEIPT_LINES).collect();
        self.say(&format!("\n    {}\n    {}\n", style.dim(&shown.join("\n    ")), style.dim("…")));
    }

    pub(super) fn document(&self) -> Value {
        let steps: Vec<Value> = self.steps.iter().map(|(name, what)| json!({ "step": name, "what": what })).collect();
        json!({
            "ok": true,
            "steps": steps,
            "latencies": self.latencies,
            "receipt": self.receipt,
            "sentence": self.sentence,
            "duration_ms": u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// The receipt's sentence under its heading.
    pub(super) fn proved(&self) -> String {
        format!("\n  {} {}", self.console.style.good("Proved."), wrap(&self.sentence, 104, "  "))
    }

    pub(super) fn end(self) -> Report {
        let next = "Next: `entangle demo --stay` keeps the regions up, `entangle serve` starts a node that stays.";
        let seconds = self.began.elapsed().as_secs_f64();
        let text =
            format!("{}\n\n  {}\n", self.proved(), self.console.style.dim(&format!("It took {seconds:.1} s. {next}")));
        Report { exit: Exit::Done, json: self.document(), text }
    }

    /// A line for people.
    fn say(&self, text: &str) {
        if !self.console.json {
            self.console.line(text);
        }
    }
}

fn spelled(number: usize) -> &'static str {
    match number {
        3 => "three",
        5 => "five",
        _ => "several",
    }
}

/// Milliseconds, to a tenth where that can be seen.
pub(super) fn ms(elapsed: Duration) -> String {
    if elapsed < Duration::from_millis(10) {
        format!("{:.1} ms", elapsed.as_secs_f64() * 1000.0)
    } else if elapsed < Duration::from_secs(1) {
        format!("{} ms", elapsed.as_millis())
    } else {
        format!("{:.1} s", elapsed.as_secs_f64())
    }
}

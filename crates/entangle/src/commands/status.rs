//! `entangle status`

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::cli::StatusArgs;
use crate::console::{Console, Report, Style, bytes, columns, count};
use crate::exit::Exit;
use crate::remote::Remote;
use crate::settings::Environment;

pub(super) async fn run(args: &StatusArgs, console: Console, environment: &Environment) -> anyhow::Result<Report> {
    let remote = Remote::open(&args.remote, environment)?;
    let status = remote.client.status().await.map_err(|error| remote.failure(&error))?;
    let endpoint = remote.client.endpoint().to_string();
    let ready = status["ready"].as_bool().unwrap_or(true);
    let text = describe(&status, &endpoint, ready, console);
    let exit = if ready { Exit::Done } else { Exit::Unavailable };
    Ok(Report { exit, json: json!({ "endpoint": endpoint, "status": status }), text })
}

fn describe(status: &Value, endpoint: &str, ready: bool, console: Console) -> String {
    let style = console.style;
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    let state = if ready { style.good("ready") } else { style.bad(&format!("not ready: {}", text(&status["reason"]))) };
    let head = format!("{} {} {}\n\n", style.bold("Entangle"), text(&status["version"]), state);
    let (ledger, journal, space) = (&status["ledger"], &status["journal"], &status["space"]);
    let replica = format!(
        "{} of group {}, epoch {}, incarnation {}",
        status["replica"], status["group"], status["epoch"], status["incarnation"]
    );
    let rows = [
        ("endpoint", endpoint.to_owned()),
        ("cluster", text(&status["cluster"])),
        ("replica", replica),
        ("region", text(&status["region"])),
        ("up", up(number(&status["started_ms"]))),
        ("data", text(&status["data"])),
        ("ledger", format!("{} entries, origin {}", count(number(&ledger["size"])), text(&ledger["origin"]))),
        ("root", text(&ledger["root"])),
        (
            "journal",
            format!(
                "{} records in {} flushes since the start, {}",
                count(number(&journal["records"])),
                count(number(&journal["flushes"])),
                bytes(number(&journal["bytes"]))
            ),
        ),
        (
            "disk",
            format!(
                "{} free, {} kept in reserve, state {}",
                bytes(number(&space["disk_free"])),
                bytes(number(&space["disk_reserve"])),
                bytes(number(&space["state_len"]))
            ),
        ),
    ];
    head + &columns(style, &rows) + &links(&status["mesh"], &status["peers"], console)
}

/// Columns of the table of links.
const COLUMNS: usize = 10;

/// A table of the links to other nodes; nothing where there are none. `accounts`: what the node thinks of them.
fn links(mesh: &Value, accounts: &Value, console: Console) -> String {
    let Some(peers) = mesh["peers"].as_array().filter(|peers| !peers.is_empty()) else { return String::new() };
    let style = console.style;
    let head = ["link to", "p50", "p90", "p99", "loss", "bandwidth", "sent", "received", "sent again", "certificate"];
    let mut rows: Vec<[String; COLUMNS]> = vec![head.map(str::to_owned)];
    let mut notes = String::new();
    for peer in peers {
        let name = format!("{} (r{})", peer["name"].as_str().unwrap_or("?"), peer["replica"]);
        let delay = |quantile: &str| match peer["round_trip_us"][quantile].as_u64() {
            Some(us) => format!("{}.{} ms", us / 1000, us % 1000 / 100),
            None => "-".to_owned(),
        };
        let amount = |name: &str| peer[name].as_u64().map_or_else(|| "-".to_owned(), bytes);
        let loss = peer["loss"].as_f64().map_or_else(|| "-".to_owned(), |loss| format!("{:.1} %", loss * 100.0));
        let days = peer["certificate_days_left"].as_i64().map_or_else(|| "-".to_owned(), |days| format!("{days} days"));
        let account = accounts.as_array().into_iter().flatten().find(|account| account["replica"] == peer["replica"]);
        let account = account.unwrap_or(&Value::Null);
        if peer["up"] != true {
            let trouble = peer["trouble"].as_str().unwrap_or("nothing was heard of it yet");
            notes.push_str(&format!("  {} {name}: {trouble}\n", style.bad("no link to")));
        } else if account["suspected"] == true {
            notes.push_str(&format!("  {} {name}: it has not started, or is silent\n", style.bad("suspected")));
        }
        if let Some(times) = account["false_suspicions"].as_u64().filter(|times| *times > 0) {
            let after = &account["suspected_after_ms"];
            notes.push_str(&format!("  {name}: suspected {times} times and heard again; now after {after} ms\n"));
        }
        rows.push([
            name,
            delay("p50"),
            delay("p90"),
            delay("p99"),
            loss,
            peer["bandwidth_bytes_per_s"].as_u64().map_or_else(|| "-".to_owned(), |rate| bytes(rate) + "/s"),
            amount("bytes_sent"),
            amount("bytes_received"),
            amount("bytes_retransmitted"),
            days,
        ]);
    }
    let exchanges: BTreeSet<&str> = peers.iter().filter_map(|peer| peer["key_exchange"].as_str()).collect();
    let mut text = format!("\n{}", table(style, &rows));
    if !exchanges.is_empty() {
        text.push_str(
            &style.dim(&format!("  key exchange {}\n", exchanges.into_iter().collect::<Vec<_>>().join(", "))),
        );
    }
    text + &notes
}

/// The first row is the head; the first column is aligned left, the others right.
fn table(style: Style, rows: &[[String; COLUMNS]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let line = |row: &[String; COLUMNS]| {
        let mut line = format!("  {:<width$}", row[0], width = width(0));
        for (column, cell) in row.iter().enumerate().skip(1) {
            line.push_str(&format!("  {cell:>width$}", width = width(column)));
        }
        line
    };
    let (head, body) = rows.split_at(1);
    let head = head.iter().map(|row| style.dim(&line(row)));
    head.chain(body.iter().map(line)).map(|line| line + "\n").collect()
}

/// How long ago that was, by this machine's clock.
fn up(started_ms: u64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let seconds = now.as_secs().saturating_sub(started_ms / 1000);
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_a_table_and_what_is_wrong_stands_below() {
        let console = Console { json: false, terminal: false, error_terminal: false, style: Style::default() };
        let mesh = json!({ "peers": [
            {
                "replica": 2, "name": "b", "up": true, "loss": 0.015, "suspicion": 9.0,
                "round_trip_us": { "p50": 75_640, "p90": 80_000, "p99": 99_950 }, "key_exchange": "X25519MLKEM768",
                "bandwidth_bytes_per_s": 3 << 20,
                "certificate_days_left": 89, "bytes_sent": 2048, "bytes_received": 10, "bytes_retransmitted": 0,
            },
            { "replica": 13, "name": "c", "up": false, "trouble": "no answer" },
        ]});
        let accounts = json!([
            { "replica": 2, "suspected": true, "suspected_after_ms": 161, "false_suspicions": 3 },
            { "replica": 13, "suspected": true, "suspected_after_ms": 150, "false_suspicions": 0 },
        ]);
        assert_eq!(
            links(&mesh, &accounts, console),
            "
  link to      p50      p90      p99   loss  bandwidth     sent  received  sent again  certificate
  b (r2)   75.6 ms  80.0 ms  99.9 ms  1.5 %  3.0 MiB/s  2.0 KiB      10 B         0 B      89 days
  c (r13)        -        -        -      -          -        -         -           -            -
  key exchange X25519MLKEM768
  suspected b (r2): it has not started, or is silent
  b (r2): suspected 3 times and heard again; now after 161 ms
  no link to c (r13): no answer
"
        );
        assert_eq!(links(&Value::Null, &Value::Null, console), "");
    }
}

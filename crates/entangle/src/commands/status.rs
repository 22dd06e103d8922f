//! `entangle status`

use serde_json::{Value, json};

use crate::cli::StatusArgs;
use crate::console::{Console, Report, bytes, columns, count};
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
    head + &columns(style, &rows)
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

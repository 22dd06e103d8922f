//! `entangle cluster nodes`, `add`, `remove`, `replace`, `faults` and `upgrade`

use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::{ClusterChangeArgs, ClusterFaultsArgs, ClusterNodesArgs, ClusterReplaceArgs, RemoteArgs};
use crate::console::{Console, Report, columns};
use crate::remote::Remote;
use crate::settings::Environment;

/// A new member fetches the state first, and a member that leaves waits until others have its bodies.
const CHANGE_PATIENCE: Duration = Duration::from_secs(900);

pub(super) async fn run_nodes(
    args: &ClusterNodesArgs,
    console: Console,
    environment: &Environment,
) -> anyhow::Result<Report> {
    let remote = Remote::open(&args.remote, environment)?;
    let members = remote.client.members().await.map_err(|error| remote.failure(&error))?;
    Ok(Report::done(members.clone(), describe(&members, console)))
}

pub(super) async fn run_add(
    args: &ClusterChangeArgs,
    console: Console,
    environment: &Environment,
) -> anyhow::Result<Report> {
    change(&args.remote, &json!({ "add": args.node }), console, environment).await
}

pub(super) async fn run_remove(
    args: &ClusterChangeArgs,
    console: Console,
    environment: &Environment,
) -> anyhow::Result<Report> {
    change(&args.remote, &json!({ "remove": args.node }), console, environment).await
}

pub(super) async fn run_replace(
    args: &ClusterReplaceArgs,
    console: Console,
    environment: &Environment,
) -> anyhow::Result<Report> {
    change(&args.remote, &json!({ "replace": [args.old, args.new] }), console, environment).await
}

pub(super) async fn run_upgrade(
    args: &ClusterNodesArgs,
    console: Console,
    environment: &Environment,
) -> anyhow::Result<Report> {
    change(&args.remote, &json!({ "upgrade": true }), console, environment).await
}

pub(super) async fn run_faults(
    args: &ClusterFaultsArgs,
    console: Console,
    environment: &Environment,
) -> anyhow::Result<Report> {
    change(&args.remote, &json!({ "faults": args.number }), console, environment).await
}

async fn change(
    args: &RemoteArgs,
    wanted: &Value,
    console: Console,
    environment: &Environment,
) -> anyhow::Result<Report> {
    let remote = Remote::open_for(args, environment, CHANGE_PATIENCE)?;
    let members = remote.client.change_members(wanted).await.map_err(|error| remote.failure(&error))?;
    Ok(Report::done(members.clone(), describe(&members, console)))
}

fn describe(members: &Value, console: Console) -> String {
    let style = console.style;
    let text = |value: &Value| value.as_str().unwrap_or("?").escape_debug().to_string();
    let nodes = members["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let numbers = members["members"].as_array().map(Vec::as_slice).unwrap_or_default();
    let lines: Vec<(String, String)> = nodes
        .iter()
        .map(|node| {
            let state = if node["member"] == true { style.good("member") } else { style.dim("no member") };
            let mesh = text(&node["mesh"]);
            let mesh = if mesh.is_empty() { "dials the others".to_owned() } else { mesh };
            let name = format!("{} (r{})", text(&node["name"]), node["replica"]);
            (name, format!("{state}, in {}, {mesh}", text(&node["region"])))
        })
        .collect();
    let rows: Vec<(&str, String)> = lines.iter().map(|(name, rest)| (name.as_str(), rest.clone())).collect();
    let survives = match members["faults"].as_u64() {
        Some(0) | None => "none of them may fail".to_owned(),
        Some(faults) => format!("{faults} of them may fail"),
    };
    let head = format!("Epoch {}: {} members, {survives}.", members["epoch"], numbers.len());
    format!("{}\n\n{}", style.bold(&head), columns(style, &rows))
}

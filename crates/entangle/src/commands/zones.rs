//! `entangle cluster zones` and `zone`

use serde_json::{Value, json};

use crate::cli::{ClusterNodesArgs, ClusterZoneArgs};
use crate::console::{Console, Report, columns};
use crate::exit::Failure;
use crate::remote::Remote;
use crate::settings::Environment;

pub(super) async fn run_zones(
    args: &ClusterNodesArgs,
    console: Console,
    environment: &Environment,
) -> anyhow::Result<Report> {
    let remote = Remote::open(&args.remote, environment)?;
    let zones = remote.client.zones().await.map_err(|error| remote.failure(&error))?;
    Ok(Report::done(zones.clone(), describe(&zones, console)))
}

pub(super) async fn run_zone(
    args: &ClusterZoneArgs,
    console: Console,
    environment: &Environment,
) -> anyhow::Result<Report> {
    let zone = zone_of(&args.zone)?;
    if args.leases.is_none() && args.home.is_none() {
        return Err(Failure::usage("say what is to hold of the zone: --leases, --home, or both").into());
    }
    let remote = Remote::open(&args.remote, environment)?;
    let known = remote.client.zones().await.map_err(|error| remote.failure(&error))?;
    let known =
        known["zones"].as_array().and_then(|all| all.iter().find(|said| said["zone"] == zone.as_str())).cloned();
    let before = known.unwrap_or_else(|| json!({ "leases": "nobody", "home": null }));
    let leases = match args.leases.as_deref() {
        None => before["leases"].clone(),
        Some([one]) if one == "everyone" || one == "nobody" => json!(one),
        Some(nodes) => json!(nodes),
    };
    let home = match args.home.as_deref() {
        None => before["home"].clone(),
        Some("nobody") => Value::Null,
        Some(node) => json!(node),
    };
    let wanted = json!({ "zone": zone, "leases": leases, "home": home });
    let zones = remote.client.put_zone(&wanted).await.map_err(|error| remote.failure(&error))?;
    Ok(Report::done(zones.clone(), describe(&zones, console)))
}

/// `s3://BUCKET`, `s3://BUCKET/PREFIX` or `s3://` as a prefix of `bucket/key`.
fn zone_of(text: &str) -> Result<String, Failure> {
    let Some(name) = text.strip_prefix("s3://") else {
        return Err(Failure::usage(format!(
            "{text:?} is no zone; write it as s3://BUCKET, s3://BUCKET/PREFIX, or s3:// for everything"
        )));
    };
    Ok(if name.is_empty() || name.contains('/') { name.to_owned() } else { format!("{name}/") })
}

fn describe(zones: &Value, console: Console) -> String {
    let style = console.style;
    let text = |value: &Value| value.as_str().unwrap_or("?").escape_debug().to_string();
    let all = zones["zones"].as_array().map(Vec::as_slice).unwrap_or_default();
    if all.is_empty() {
        return "No zone has a lease or a home: every node asks a quorum for reads, and coordinates what it is given."
            .to_owned();
    }
    let lines: Vec<(String, String)> = all
        .iter()
        .map(|zone| {
            let leases = match &zone["leases"] {
                Value::Array(nodes) => format!("leased by {}", nodes.iter().map(text).collect::<Vec<_>>().join(", ")),
                Value::String(all) if all == "everyone" => "leased by every member".to_owned(),
                _ => "not leased".to_owned(),
            };
            let home = zone["home"].as_str().map(|home| format!(", at home in {}", home.escape_debug()));
            let held = if zone["held"] == true { style.good(", held here now") } else { String::new() };
            (format!("s3://{}", text(&zone["zone"])), format!("{leases}{}{held}", home.unwrap_or_default()))
        })
        .collect();
    let rows: Vec<(&str, String)> = lines.iter().map(|(name, rest)| (name.as_str(), rest.clone())).collect();
    columns(style, &rows)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_a_bucket_a_part_of_one_or_everything() {
        assert_eq!(zone_of("s3://photos").unwrap(), "photos/");
        assert_eq!(zone_of("s3://photos/").unwrap(), "photos/");
        assert_eq!(zone_of("s3://photos/2026/").unwrap(), "photos/2026/");
        assert_eq!(zone_of("s3://").unwrap(), "");
        assert!(zone_of("photos").is_err());
    }
}

//! `entangle cluster init` and `token`

use std::path::{Path, PathBuf};

use serde_json::json;

use super::serve::{absolute, quoted};
use crate::cli::{ClusterInitArgs, ClusterTokenArgs};
use crate::cluster::{Founding, found, issue_token};
use crate::console::{Console, Report, columns};
use crate::settings::{Origin, Sourced, reached, region};

const DAY_S: u64 = 24 * 60 * 60;

pub(super) fn run_init(args: &ClusterInitArgs, console: Console) -> anyhow::Result<Report> {
    let flag = |text: &str, name| Sourced { text: text.to_owned(), origin: Origin::Flag(name) };
    let (region, mesh) = (region(&flag(&args.region, "region"))?, reached(&flag(&args.mesh, "mesh"))?);
    let keys = keys_of(args.keys.as_deref(), &args.data);
    let (identity, _) =
        found(&Founding { data: &args.data, keys: &keys, name: args.name.as_deref(), region: &region, mesh: &mesh })?;
    let style = console.style;
    let (data, folder) = (absolute(&args.data).display().to_string(), absolute(&keys).display().to_string());
    let rows = [
        ("cluster", identity.cluster().to_string()),
        ("node", format!("{}, replica {}, in {region}", identity.name(), identity.replica())),
        ("mesh", mesh.clone()),
        ("data", data.clone()),
        (
            "keys",
            format!(
                "{folder} (who has authority.key can make nodes of this cluster: keep a copy, and keep it to yourself)"
            ),
        ),
    ];
    let place = folders(&args.data, args.keys.as_deref());
    let mut text = format!(
        "{}\n\n{}\nNext, serve it, and print a token for each further node:\n\n  entangle serve {place}\n  entangle cluster token {place}\n",
        style.bold("The cluster is founded."),
        columns(style, &rows)
    );
    if mesh.starts_with("127.") || mesh.starts_with("localhost:") {
        let note = "Only nodes on this machine reach it there; for others, start it with --mesh-advertise HOST:PORT.";
        text.push_str(&format!("\n{}\n", style.dim(note)));
    }
    let json = json!({
        "cluster": identity.cluster().to_string(),
        "replica": identity.replica().0,
        "name": identity.name(),
        "region": region,
        "mesh": mesh,
        "data": data,
        "keys": folder,
    });
    Ok(Report::done(json, text))
}

pub(super) fn run_token(args: &ClusterTokenArgs, console: Console) -> anyhow::Result<Report> {
    let keys = keys_of(args.keys.as_deref(), &args.data);
    let address = args
        .address
        .as_deref()
        .map(|text| reached(&Sourced { text: text.to_owned(), origin: Origin::Flag("address") }));
    let address = address.transpose()?;
    let token = issue_token(&keys, address.as_deref(), u64::from(args.days) * DAY_S)?;
    let text = token.to_string();
    let json = json!({
        "token": text,
        "cluster": token.cluster().to_string(),
        "addresses": token.addresses(),
        "expires_s": token.expires_s(),
    });
    // Alone where a program or a file takes it.
    if !console.terminal {
        return Ok(Report::done(json, text));
    }
    let note = format!(
        "Good once, for {} days, at any node of the cluster that is up. On the new machine, on an empty folder:\n  \
         ENTANGLE_JOIN=… entangle serve --data DIR --region REGION --mesh-advertise HOST:PORT",
        args.days
    );
    Ok(Report::done(json, format!("{text}\n\n{}", console.style.dim(&note))))
}

fn keys_of(named: Option<&Path>, data: &Path) -> PathBuf {
    named.map_or_else(|| node::keys_beside(data), Path::to_owned)
}

/// The flags that name the folders, to be pasted.
fn folders(data: &Path, keys: Option<&Path>) -> String {
    let flag = |name: &str, path: &Path| format!("--{name} {}", quoted(&path.display().to_string()));
    let mut text = flag("data", data);
    if let Some(keys) = keys {
        text.push_str(&format!(" {}", flag("keys", keys)));
    }
    text
}

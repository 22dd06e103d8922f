//! `entangle keys add`, `list` and `remove`

use std::io::Read as _;

use anyhow::Context as _;
use client::AccessKeyRequest;
use serde_json::json;
use zeroize::Zeroizing;

use crate::cli::{KeysAddArgs, KeysListArgs, KeysRemoveArgs};
use crate::console::{Console, Report, columns, counted};
use crate::credentials::{check_access_key, check_secret_key};
use crate::exit::Failure;
use crate::remote::Remote;
use crate::settings::Environment;

pub(super) async fn run_add(args: &KeysAddArgs, console: Console, environment: &Environment) -> anyhow::Result<Report> {
    if let Some(access_key) = &args.new_key {
        check_access_key(access_key)
            .map_err(|rule| Failure::usage(format!("{access_key:?} cannot be used: {rule}")))?;
    }
    let secret_key = read_secret(args)?;
    let remote = Remote::open(&args.remote, environment)?;
    let request =
        AccessKeyRequest { access_key: args.new_key.clone(), secret_key, description: args.description.clone() };
    let made = remote.client.add_access_key(request).await.map_err(|error| remote.failure(&error))?;
    let (access_key, secret_key) = (made.access_key(), made.secret_key());
    let rows = [("access key", access_key.to_owned()), ("secret key", secret_key.to_owned())];
    let note = console.style.dim("The secret is shown this once; it cannot be read back.");
    let text = format!("{}\n{note}", columns(console.style, &rows));
    Ok(Report::done(json!({ "access_key": access_key, "secret_key": secret_key }), text))
}

fn read_secret(args: &KeysAddArgs) -> anyhow::Result<Option<Zeroizing<String>>> {
    let Some(path) = &args.secret_file else { return Ok(None) };
    let mut text = Zeroizing::new(String::new());
    let read = if path.as_os_str() == "-" {
        std::io::stdin().read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text))
    };
    read.with_context(|| format!("{} cannot be read; name the file with the secret in --secret-file", path.display()))?;
    let secret = Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned());
    check_secret_key(&secret)
        .map_err(|rule| Failure::usage(format!("the secret in {} cannot be used: {rule}", path.display())))?;
    Ok(Some(secret))
}

pub(super) async fn run_list(
    args: &KeysListArgs,
    console: Console,
    environment: &Environment,
) -> anyhow::Result<Report> {
    let remote = Remote::open(&args.remote, environment)?;
    let keys = remote.client.access_keys().await.map_err(|error| remote.failure(&error))?;
    let rows: Vec<(&str, String)> =
        keys.iter().map(|key| (key.access_key.as_str(), key.description.escape_debug().to_string())).collect();
    let total = counted(keys.len() as u64, "access key", "access keys");
    let text = format!("{}\n{}", total, columns(console.style, &rows));
    let list: Vec<_> =
        keys.iter().map(|key| json!({ "access_key": key.access_key, "description": key.description })).collect();
    Ok(Report::done(json!({ "keys": list }), text))
}

pub(super) async fn run_remove(args: &KeysRemoveArgs, environment: &Environment) -> anyhow::Result<Report> {
    let access_key = &args.old_key;
    check_access_key(access_key).map_err(|rule| Failure::usage(format!("{access_key:?} is none: {rule}")))?;
    let remote = Remote::open(&args.remote, environment)?;
    remote.client.remove_access_key(access_key).await.map_err(|error| remote.failure(&error))?;
    Ok(Report::done(json!({ "access_key": access_key }), format!("Removed the access key {access_key}.")))
}

//! `entangle receipt get` and `verify`

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use ledger::receipt::{FILE_LEN_MAX, Level, Verified};
use ledger::{Policy, ReceiptFile};
use serde_json::{Value, json};

use crate::cli::{PolicyArgs, ReceiptGetArgs, ReceiptVerifyArgs};
use crate::console::{Console, Report};
use crate::exit::{Exit, Failure};
use crate::remote::{DEFAULT_KEYS, Remote};
use crate::server::POLICY_FILE;
use crate::settings::Environment;

pub(super) async fn run_get(args: &ReceiptGetArgs, environment: &Environment) -> anyhow::Result<Report> {
    let (bucket, key) = split_object(&args.object)?;
    let remote = Remote::open(&args.remote, environment)?;
    let answer = remote.client.receipt(bucket, key, args.version_id.as_deref()).await;
    let receipt = answer.map_err(|error| remote.failure(&error))?;
    // Whatever answers there: what is written to a file named receipt must be one.
    ReceiptFile::from_bytes(&receipt)
        .map_err(|error| Failure::failed(format!("the node's answer is no receipt: {error}; check the endpoint")))?;
    let text = String::from_utf8_lossy(&receipt).into_owned();
    let Some(path) = &args.out else {
        return Ok(Report::done(json!({ "object": args.object, "receipt": text }), text));
    };
    write_file(path, text.as_bytes())?;
    let path = path.display().to_string();
    let sentence =
        format!("The receipt of {} is in {path}; check it with: entangle receipt verify {path}", args.object);
    Ok(Report::done(json!({ "object": args.object, "file": path }), sentence))
}

/// Writes a file whole or not at all, so that a full disk leaves no half receipt.
pub(super) fn write_file(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut name = path.file_name().with_context(|| format!("{} names no file", path.display()))?.to_os_string();
    name.push(".partial");
    let partial = path.with_file_name(name);
    let advice = || format!("{} cannot be written; check the folder and the space on its disk", path.display());
    std::fs::write(&partial, bytes).and_then(|()| std::fs::rename(&partial, path)).with_context(advice)
}

/// `s3://BUCKET/KEY`
fn split_object(text: &str) -> Result<(&str, &str), Failure> {
    text.strip_prefix("s3://")
        .and_then(|rest| rest.split_once('/'))
        .filter(|(bucket, key)| !bucket.is_empty() && !key.is_empty())
        .ok_or_else(|| Failure::usage(format!("{text:?} is no object; write it as s3://BUCKET/KEY")))
}

pub(super) fn run_verify(
    args: &ReceiptVerifyArgs,
    console: Console,
    environment: &Environment,
) -> anyhow::Result<Report> {
    let name = args.file.display();
    let bytes = read_bounded(&args.file)
        .with_context(|| format!("{name} cannot be read; name the file that `entangle receipt get --out` wrote"))?;
    let (path, policy) = find_policy(&args.policy, environment)?;
    let (exit, text, result) = match check(&bytes, &policy) {
        Ok(verified) => {
            let sentence = verified.sentence();
            (Exit::Done, format!("{} {sentence}", console.style.good("Verified.")), describe(&verified, &sentence))
        }
        Err(reason) => {
            let text = format!("{} {reason}.", console.style.bad("Not verified:"));
            (Exit::Unverified, text, json!({ "verified": false, "reason": reason }))
        }
    };
    let mut document = json!({ "file": name.to_string(), "policy": path.display().to_string() });
    if let (Value::Object(into), Value::Object(from)) = (&mut document, result) {
        into.extend(from);
    }
    Ok(Report { exit, json: document, text })
}

/// The whole offline check; the reason if it fails.
pub(super) fn check(bytes: &[u8], policy: &Policy) -> Result<Verified, String> {
    let file = ReceiptFile::from_bytes(bytes).map_err(|error| error.to_string())?;
    file.receipt.verify(policy).map_err(|error| error.to_string())
}

fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    let limit = FILE_LEN_MAX as u64 + 1;
    let mut bytes = Vec::new();
    if path.as_os_str() == "-" {
        std::io::stdin().take(limit).read_to_end(&mut bytes)?;
    } else {
        std::fs::File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// Whom to trust: a file that was named, or the one that a node of this machine wrote into its keys folder. Never
/// the policy that comes with a receipt: it proves nothing about itself.
pub(super) fn find_policy(args: &PolicyArgs, environment: &Environment) -> Result<(PathBuf, Policy), Failure> {
    let named = args.policy.clone().or_else(|| environment.get("ENTANGLE_POLICY").map(PathBuf::from));
    let keys = environment.get("ENTANGLE_KEYS").unwrap_or(DEFAULT_KEYS);
    let path = match named {
        Some(path) => path,
        None => Some(Path::new(keys).join(POLICY_FILE)).filter(|path| path.exists()).ok_or_else(|| {
            Failure::usage(
                "no policy says whom to trust; name the cluster's policy with --policy \
                 (`entangle ledger policy --out FILE` fetches it from a node that you trust)",
            )
        })?,
    };
    let advice = "name the cluster's policy with --policy";
    let bytes = std::fs::read(&path)
        .map_err(|error| Failure::failed(format!("{} cannot be read: {error}; {advice}", path.display())))?;
    let policy = Policy::from_bytes(&bytes)
        .map_err(|error| Failure::failed(format!("{} is no policy: {error}; {advice}", path.display())))?;
    Ok((path, policy))
}

fn describe(verified: &Verified, sentence: &str) -> Value {
    let mut json = json!({
        "verified": true,
        "sentence": sentence,
        "order": verified.entry.order.to_hex(),
        "committed_ms": verified.entry.order.timestamp.unix_ms(),
        "kind": format!("{:?}", verified.entry.kind),
        "outcome": format!("{:?}", verified.entry.outcome),
    });
    if let Some((bucket, key)) = &verified.name {
        json["bucket"] = json!(bucket);
        json["key"] = json!(key);
    }
    match &verified.level {
        Level::Commit { vouched_by, stated_by, .. } => {
            json["level"] = json!("committed");
            json["vouched_by"] = json!(vouched_by);
            json["stated_by"] = json!(stated_by);
        }
        Level::Included { origin, index, size, cosigned } => {
            let names: Vec<&str> = cosigned.iter().map(|(name, _)| name.as_str()).collect();
            json["level"] = json!("included");
            json["origin"] = json!(origin);
            json["index"] = json!(index);
            json["size"] = json!(size);
            json["cosigned_by"] = json!(names);
        }
    }
    json
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_urls() {
        assert_eq!(split_object("s3://b/a/b c").unwrap(), ("b", "a/b c"));
        for text in ["b/k", "s3://b", "s3://b/", "s3:///k", "http://b/k"] {
            assert!(split_object(text).is_err(), "{text}");
        }
    }
}

//! `entangle ledger verify`, `checkpoint` and `policy`

use std::collections::BTreeMap;

use client::Client;
use ledger::entry::Entry;
use ledger::policy::Accepted;
use ledger::tile::{TileKind, TilePath, unbundle};
use ledger::tree::StoredHash;
use ledger::verify::{Summary, Walker};
use ledger::{Policy, SignedCheckpoint};
use serde_json::{Value, json};

use super::receipt::{find_policy, write_file};
use crate::cli::{LedgerCheckpointArgs, LedgerPolicyArgs, LedgerVerifyArgs};
use crate::console::{Console, Report, columns, count, counted};
use crate::exit::{Exit, Failure};
use crate::progress::Progress;
use crate::remote::Remote;
use crate::settings::Environment;

/// Hashes of a full tile, entries of a full bundle.
const TILE_WIDTH: usize = 256;

pub(super) async fn run_verify(
    args: &LedgerVerifyArgs,
    console: Console,
    environment: &Environment,
) -> anyhow::Result<Report> {
    if let Some(data) = &args.data {
        return super::folder::run_verify(data, args.remote.keys.clone(), console).await;
    }
    let remote = Remote::open(&args.remote, environment)?;
    // Without a policy of its own, the check still shows that the log is whole; it cannot show whose it is.
    let named = args.policy.policy.is_some() || environment.get("ENTANGLE_POLICY").is_some();
    let (policy, trusted) = match find_policy(&args.policy, environment) {
        Ok((_, policy)) => (policy, true),
        Err(failure) if named || failure.exit != Exit::Usage => return Err(failure.into()),
        Err(_) => (fetch_policy(&remote).await?, false),
    };
    let mut progress = Progress::new(&console);
    let verified = verify(&remote.client, &policy, |done, total| progress.show("entries", done, total, false)).await;
    drop(progress);
    let endpoint = remote.client.endpoint().to_string();
    match verified {
        Ok((accepted, summary)) => Ok(describe(console, &endpoint, trusted, &accepted, &summary)),
        Err(Unverified::Unreachable(error)) => Err(remote.failure(&error).into()),
        Err(Unverified::Wrong(reason)) => {
            let text = format!("{} {reason}.", console.style.bad("The ledger does not verify:"));
            let json = json!({ "verified": false, "endpoint": endpoint, "reason": reason });
            Ok(Report { exit: Exit::Unverified, json, text })
        }
    }
}

/// Why a ledger is not verified.
pub(super) enum Unverified {
    /// It could not be read.
    Unreachable(client::Error),
    /// It is not as it should be.
    Wrong(String),
}

impl From<client::Error> for Unverified {
    fn from(error: client::Error) -> Self {
        match error {
            // The checkpoint speaks of it, so it has to be there.
            client::Error::Refused(refused) if refused.status == 404 => {
                Self::Wrong(format!("something that the checkpoint covers is missing: {}", refused.message))
            }
            error => Self::Unreachable(error),
        }
    }
}

fn wrong(reason: impl Into<String>) -> Unverified {
    Unverified::Wrong(reason.into())
}

/// Fetches the whole log of a node, recomputes it, and compares every tile.
pub(super) async fn verify(
    client: &Client,
    policy: &Policy,
    mut show: impl FnMut(u64, u64),
) -> Result<(Accepted, Summary), Unverified> {
    let note = client.checkpoint().await?;
    let accepted = policy.check(&note).map_err(|error| wrong(error.to_string()))?;
    let size = accepted.checkpoint.size;
    let mut walker = Walker::new(vec![(size, accepted.checkpoint.root)]);
    let mut tiles = Tiles::default();
    for path in TilePath::all_of(TileKind::Entries, size) {
        let bundle = client.tile(&path.to_string()).await?;
        let entries = unbundle(&bundle).map_err(|error| wrong(format!("{path}: {error}")))?;
        if entries.len() != usize::from(path.width()) {
            return Err(wrong(format!("{path} holds {} entries instead of {}", entries.len(), path.width())));
        }
        for entry in entries {
            let entry: &[u8; Entry::LEN] =
                entry.try_into().map_err(|_| wrong(format!("{path} holds an entry that has not 128 bytes")))?;
            walker.push(entry, None, |stored| tiles.push(stored)).map_err(|error| wrong(error.to_string()))?;
        }
        for (full, expected) in tiles.take_full() {
            compare(client, full, &expected).await?;
        }
        show(path.range().end, size);
    }
    for (partial, expected) in tiles.take_rest() {
        compare(client, partial, &expected).await?;
    }
    Ok((accepted, walker.finish(None).map_err(|error| wrong(error.to_string()))?))
}

/// Hashes that tiles have to hold, until their tile is complete.
#[derive(Default)]
struct Tiles {
    /// By level: the index of the first hash, and the hashes from there on.
    levels: BTreeMap<u8, (u64, Vec<[u8; 32]>)>,
}

impl Tiles {
    /// Indexes rise by one within a level.
    fn push(&mut self, stored: StoredHash) {
        let (_, hashes) = self.levels.entry(stored.level).or_insert((stored.index, Vec::new()));
        hashes.push(stored.hash);
    }

    /// The complete tiles, with their bytes.
    fn take_full(&mut self) -> Vec<(Option<TilePath>, Vec<u8>)> {
        let mut full = Vec::new();
        for (level, (first, hashes)) in &mut self.levels {
            while hashes.len() >= TILE_WIDTH {
                let bytes = hashes.drain(..TILE_WIDTH).flatten().collect();
                full.push((TilePath::new(TileKind::Hashes(*level), *first / 256, 256).ok(), bytes));
                *first += 256;
            }
        }
        full
    }

    /// The partial tiles at the end.
    fn take_rest(self) -> Vec<(Option<TilePath>, Vec<u8>)> {
        let partial = self.levels.into_iter().filter(|(_, (_, hashes))| !hashes.is_empty());
        partial
            .map(|(level, (first, hashes))| {
                let width = u16::try_from(hashes.len()).unwrap_or(u16::MAX);
                (TilePath::new(TileKind::Hashes(level), first / 256, width).ok(), hashes.concat())
            })
            .collect()
    }
}

async fn compare(client: &Client, path: Option<TilePath>, expected: &[u8]) -> Result<(), Unverified> {
    let path = path.ok_or_else(|| wrong("the log is larger than tiles can be named"))?;
    let found = client.tile(&path.to_string()).await?;
    if found != expected {
        return Err(wrong(format!("{path} does not hold the hashes of its entries")));
    }
    Ok(())
}

fn describe(console: Console, endpoint: &str, trusted: bool, accepted: &Accepted, summary: &Summary) -> Report {
    let root: String = summary.root.iter().map(|byte| format!("{byte:02x}")).collect();
    let signers: Vec<&str> = accepted.cosigned.iter().map(|(name, _)| name.as_str()).collect();
    let rows = [
        ("origin", accepted.checkpoint.origin.clone()),
        ("entries", format!("{} in {}", count(summary.entries), counted(summary.blocks, "block", "blocks"))),
        ("root", root.clone()),
        ("signed by", format!("the log, {}", signers.join(", "))),
    ];
    let style = console.style;
    let mut text = format!(
        "{} {endpoint}: every entry, every tile and the signed head agree.\n\n{}",
        style.good("The ledger is verified."),
        columns(style, &rows)
    );
    if !trusted {
        text.push('\n');
        text.push_str(&style.dim(
            "Checked with the node's own policy: the ledger is whole, but whose it is rests on the node's word (--policy).",
        ));
    }
    let json = json!({
        "verified": true,
        "endpoint": endpoint,
        "origin": accepted.checkpoint.origin,
        "entries": summary.entries,
        "blocks": summary.blocks,
        "root": root,
        "cosigned_by": signers,
        "policy_trusted": trusted,
    });
    Report::done(json, text)
}

async fn fetch_policy(remote: &Remote) -> anyhow::Result<Policy> {
    let bytes = remote.client.policy().await.map_err(|error| remote.failure(&error))?;
    Policy::from_bytes(&bytes).map_err(|error| {
        Failure::failed(format!("what {} gives as its policy is none: {error}", remote.client.endpoint())).into()
    })
}

pub(super) async fn run_checkpoint(args: &LedgerCheckpointArgs, environment: &Environment) -> anyhow::Result<Report> {
    let remote = Remote::open(&args.remote, environment)?;
    let note = remote.client.checkpoint().await.map_err(|error| remote.failure(&error))?;
    let signed = SignedCheckpoint::from_bytes(&note).map_err(|error| {
        Failure::failed(format!("what {} gives as its checkpoint is none: {error}", remote.client.endpoint()))
    })?;
    let head = signed.checkpoint();
    let root: String = head.root.iter().map(|byte| format!("{byte:02x}")).collect();
    let text = String::from_utf8_lossy(&note).into_owned();
    let json = json!({ "origin": head.origin, "size": head.size, "root": root, "note": text });
    Ok(Report::done(json, text))
}

pub(super) async fn run_policy(args: &LedgerPolicyArgs, environment: &Environment) -> anyhow::Result<Report> {
    let remote = Remote::open(&args.remote, environment)?;
    let text = fetch_policy(&remote).await?.to_string();
    let Some(path) = &args.out else {
        return Ok(Report::done(json!({ "policy": text }), text));
    };
    write_file(path, text.as_bytes())?;
    let path = path.display().to_string();
    let sentence = format!(
        "The policy of {} is in {path}; compare it with one from elsewhere before you trust it.",
        remote.client.endpoint()
    );
    Ok(Report::done(json!({ "file": path, "policy": Value::String(text) }), sentence))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn tiles_come_out_in_full_and_then_the_rest() {
        let mut tiles = Tiles::default();
        for index in 0..600_u64 {
            tiles.push(StoredHash { level: 0, index, hash: [u8::try_from(index % 251).unwrap(); 32] });
        }
        tiles.push(StoredHash { level: 1, index: 0, hash: [7; 32] });
        let full = tiles.take_full();
        let names: Vec<String> = full.iter().map(|(path, _)| path.unwrap().to_string()).collect();
        assert_eq!(names, ["tile/0/000", "tile/0/001"]);
        assert_eq!(full[1].1[..32], [5; 32], "256 modulo 251");
        let rest = tiles.take_rest();
        let names: Vec<String> = rest.iter().map(|(path, _)| path.unwrap().to_string()).collect();
        assert_eq!(names, ["tile/0/002.p/88", "tile/1/000.p/1"]);
        assert_eq!((rest[0].1.len(), rest[1].1.len()), (88 * 32, 32));
    }
}

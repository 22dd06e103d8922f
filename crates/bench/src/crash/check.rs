//! What must be there after a restart, and what must not.

use std::collections::BTreeMap;

use anyhow::{Context as _, anyhow, bail, ensure};
use tokio::task::JoinSet;

use super::BUCKET;
use super::model::{Content, Known, Value};
use super::writer::{Contest, ContestOutcome, Writer, completion, describe, path_of};
use crate::s3::{Client, Target, elements};
use crate::sign::Request;

/// What was checked.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Checked {
    pub(super) keys: u64,
    pub(super) unanswered_written: u64,
}

/// Size and ETag of an object.
type Listed = BTreeMap<String, (usize, String)>;

/// Checks every key of every writer, the keys they competed for, and that the listing says the same.
pub(super) async fn all(target: &Target, writers: &mut Vec<Writer>, contests: &[Contest]) -> anyhow::Result<Checked> {
    let mut checked = Checked::default();
    let mut seen = Listed::new();
    let mut running = JoinSet::new();
    for writer in writers.drain(..) {
        let target = target.clone();
        running.spawn(async move { check_writer(&target, writer).await });
    }
    while let Some(joined) = running.join_next().await {
        let (writer, found, written) = joined.context("a check panicked")??;
        checked.keys += writer.keys.len() as u64;
        checked.unanswered_written += written;
        seen.extend(found);
        writers.push(writer);
    }
    writers.sort_by_key(Writer::number);
    checked.keys += check_contests(target, contests).await?;
    check_listing(target, &seen).await?;
    Ok(checked)
}

/// The object's bytes and ETag, if there is one.
async fn read(client: &mut Client, key: &str) -> anyhow::Result<Option<(Vec<u8>, String)>> {
    let path = path_of(key);
    let answer = client.ask(&Request { method: "GET", path: &path, query: "", headers: &[], body: b"" }).await;
    let answer = answer.with_context(|| format!("GET {key}"))?;
    match answer.status {
        200 => Ok(Some((answer.body, answer.etag.context("a GET without an ETag")?))),
        404 => Ok(None),
        _ => bail!("GET {key} was answered with {}", describe(&answer)),
    }
}

async fn check_writer(target: &Target, mut writer: Writer) -> anyhow::Result<(Writer, Listed, u64)> {
    let mut client = Client::new(target);
    complete_upload(&mut client, &mut writer).await?;
    let (mut found, mut written) = (Listed::new(), 0);
    for (key, known) in &mut writer.keys {
        let object = read(&mut client, key).await?;
        let value =
            known.judge(object.as_ref().map(|(bytes, _)| bytes.as_slice())).map_err(|why| anyhow!("{key}: {why}"))?;
        written += u64::from(known.unanswered.as_ref() == Some(&value));
        let etag = object.as_ref().map(|(_, etag)| etag.clone());
        if let Some((bytes, etag)) = object {
            found.insert(key.clone(), (bytes.len(), etag));
        }
        *known = Known { acknowledged: value, unanswered: None, etag };
    }
    Ok((writer, found, written))
}

/// An upload whose parts were acknowledged can still be completed.
async fn complete_upload(client: &mut Client, writer: &mut Writer) -> anyhow::Result<()> {
    let Some(upload) = writer.upload.take() else { return Ok(()) };
    let (path, query) = (path_of(&upload.key), format!("uploadId={}", upload.id));
    if upload.parts.is_empty() {
        let request = Request { method: "DELETE", path: &path, query: &query, headers: &[], body: b"" };
        let answer = client.ask(&request).await.context("an abort")?;
        ensure!(answer.is_success(), "an upload that was acknowledged cannot be aborted: {}", describe(&answer));
        return Ok(());
    }
    let body = completion(&upload.parts);
    let request = Request { method: "POST", path: &path, query: &query, headers: &[], body: body.as_bytes() };
    let answer = client.ask(&request).await.context("a completion")?;
    let done = answer.is_success() && answer.element("Code").is_none();
    ensure!(done, "parts that were acknowledged cannot be completed: {}", describe(&answer));
    let content = Content(upload.parts.iter().map(|part| (part.seed, part.len)).collect());
    let known = Known { acknowledged: Value::Present(content), unanswered: None, etag: None };
    writer.keys.insert(upload.key, known);
    Ok(())
}

/// Of those who tried to be the first, one was: the key holds what that one wrote.
async fn check_contests(target: &Target, contests: &[Contest]) -> anyhow::Result<u64> {
    let mut by_key: BTreeMap<&str, Vec<&Contest>> = BTreeMap::new();
    for contest in contests {
        by_key.entry(&contest.key).or_default().push(contest);
    }
    let mut client = Client::new(target);
    for (key, tries) in &by_key {
        let with = |outcome| tries.iter().filter(move |contest| contest.outcome == outcome);
        let won: Vec<_> = with(ContestOutcome::Won).collect();
        ensure!(won.len() <= 1, "{key}: {} writers were told that they were the first", won.len());
        let lost = with(ContestOutcome::Lost).count();
        let object = read(&mut client, key).await?;
        match (&object, won.first()) {
            (Some((bytes, _)), Some(winner)) => {
                ensure!(winner.content.bytes() == *bytes, "{key} does not hold what its winner wrote");
            }
            (Some((bytes, _)), None) => {
                let by_one = with(ContestOutcome::Unanswered).any(|contest| contest.content.bytes() == *bytes);
                ensure!(by_one, "{key} holds {} bytes that nobody wrote", bytes.len());
            }
            (None, winner) => {
                ensure!(winner.is_none(), "{key} is missing, and its write was acknowledged");
                ensure!(lost == 0, "{key} is missing, and {lost} writers were refused because it was there");
            }
        }
    }
    Ok(by_key.len() as u64)
}

/// The listing has the same objects as the reads, with the same sizes and ETags.
async fn check_listing(target: &Target, seen: &Listed) -> anyhow::Result<()> {
    let mut client = Client::new(target);
    let mut listed = Listed::new();
    let mut token: Option<String> = None;
    loop {
        // Parameters are signed in order.
        let query = match &token {
            Some(token) => format!("continuation-token={token}&list-type=2&prefix=w"),
            None => "list-type=2&prefix=w".to_owned(),
        };
        let path = format!("/{BUCKET}");
        let answer =
            client.ask(&Request { method: "GET", path: &path, query: &query, headers: &[], body: b"" }).await?;
        ensure!(answer.is_success(), "the listing was answered with {}", describe(&answer));
        let xml = String::from_utf8_lossy(&answer.body).into_owned();
        for entry in elements(&xml, "Contents") {
            let field = |name| elements(entry, name).next().with_context(|| format!("no {name} in {entry}"));
            let (key, etag) = (field("Key")?.to_owned(), field("ETag")?.replace("&quot;", "\""));
            listed.insert(key, (field("Size")?.parse()?, etag));
        }
        token = answer.element("NextContinuationToken").map(|token| encode(&token));
        if token.is_none() {
            break;
        }
    }
    let missing: Vec<_> = seen.iter().filter(|(key, _)| !listed.contains_key(*key)).collect();
    let extra: Vec<_> = listed.iter().filter(|(key, _)| !seen.contains_key(*key)).collect();
    ensure!(missing.is_empty() && extra.is_empty(), "the listing differs: not listed {missing:?}, not there {extra:?}");
    for (key, object) in seen {
        ensure!(listed.get(key) == Some(object), "{key} is listed as {:?} and read as {object:?}", listed.get(key));
    }
    Ok(())
}

/// Percent-encodes all but unreserved characters, as SigV4 wants a query.
fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

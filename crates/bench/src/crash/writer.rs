//! One of the writers: makes requests on keys of its own, remembers what was acknowledged, and competes for keys of all.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use anyhow::{bail, ensure};

use super::BUCKET;
use super::model::{Content, Known, Value};
use crate::random::{Random, bytes};
use crate::s3::{Answer, Client, Target};
use crate::sign::Request;

/// Keys of a writer.
const KEYS: u64 = 24;
/// A request without an answer after this long hangs: a violation.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Smallest part of an upload but the last.
const PART_LEN_MIN: usize = 5 * 1024 * 1024;

pub(super) struct Writer {
    number: u64,
    random: Random,
    pub(super) keys: BTreeMap<String, Known>,
    pub(super) upload: Option<Upload>,
    contests: Vec<Contest>,
    acknowledged: u64,
    unanswered: u64,
}

/// A multipart upload whose completion was not sent yet: its acknowledged parts must survive.
#[derive(Clone, Debug)]
pub(super) struct Upload {
    pub(super) key: String,
    pub(super) id: String,
    pub(super) parts: Vec<Part>,
}

#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) seed: u64,
    pub(super) len: usize,
    pub(super) etag: String,
}

/// What one writer saw when it tried to be the first to write a key.
#[derive(Clone, Debug)]
pub(super) struct Contest {
    pub(super) key: String,
    pub(super) content: Content,
    pub(super) outcome: ContestOutcome,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ContestOutcome {
    Won,
    Lost,
    Unanswered,
}

/// How a request ended.
enum Ended {
    Answered(Answer),
    /// The node died, or answered that it does not know: the request may or may not have taken effect.
    Unanswered,
    /// Refused before anything was done: the queue was full.
    Refused,
}

impl Writer {
    pub(super) fn new(number: u64, seed: u64) -> Self {
        let keys = (0..KEYS).map(|key| (format!("w{number}/{key:02}"), Known::absent())).collect();
        let random = Random::new(seed);
        Self { number, random, keys, upload: None, contests: Vec::new(), acknowledged: 0, unanswered: 0 }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn take_contests(&mut self) -> Vec<Contest> {
        std::mem::take(&mut self.contests)
    }

    /// Acknowledged and unanswered requests since the last call.
    pub(super) fn take_counts(&mut self) -> (u64, u64) {
        (std::mem::take(&mut self.acknowledged), std::mem::take(&mut self.unanswered))
    }

    /// Writes until a request gets no answer. An error is a violation: an answer that cannot be.
    pub(super) async fn write_until_no_answer(&mut self, target: &Target, round: u64) -> anyhow::Result<()> {
        let mut client = Client::new(target);
        let mut contest = 0;
        loop {
            let goes_on = match self.random.below(100) {
                0..50 => self.put(&mut client).await?,
                50..65 => self.delete(&mut client).await?,
                65..80 => self.replace(&mut client).await?,
                80..92 => {
                    contest += 1;
                    self.compete(&mut client, round, contest).await?
                }
                _ => self.upload(&mut client).await?,
            };
            if !goes_on {
                return Ok(());
            }
        }
    }

    fn pick(&mut self) -> String {
        format!("w{}/{:02}", self.number, self.random.below(KEYS))
    }

    fn known(&mut self, key: &str) -> &mut Known {
        self.keys.entry(key.to_owned()).or_insert_with(Known::absent)
    }

    /// Mostly small, some around and above the inline limit, a few of several chunks.
    fn content(&mut self) -> Content {
        let len = match self.random.below(100) {
            0..50 => self.random.below(4096),
            50..75 => self.random.below(128 * 1024),
            75..80 => 128 * 1024 - 1 + self.random.below(3),
            80..97 => 128 * 1024 + self.random.below(900 * 1024),
            _ => 4 * 1024 * 1024 + self.random.below(3 * 1024 * 1024),
        };
        Content::piece(self.random.word(), usize::try_from(len).unwrap_or(0))
    }

    /// Sends a write of `key` that makes `value` of it, and notes what came of it. `Some` is the answer.
    async fn write(
        &mut self,
        client: &mut Client,
        request: &Request<'_>,
        key: &str,
        value: Value,
    ) -> anyhow::Result<Option<Answer>> {
        match send(client, request).await? {
            Ended::Answered(answer) => {
                ensure!(
                    answer.is_success(),
                    "{} {} was answered with {}",
                    request.method,
                    request.path,
                    describe(&answer)
                );
                self.acknowledged += 1;
                let etag = answer.etag.clone();
                *self.known(key) = Known { acknowledged: value, unanswered: None, etag };
                Ok(Some(answer))
            }
            Ended::Unanswered => {
                self.unanswered += 1;
                self.known(key).unanswered = Some(value);
                Ok(None)
            }
            Ended::Refused => Ok(Some(Answer { status: 503, etag: None, body: Vec::new() })),
        }
    }

    async fn put(&mut self, client: &mut Client) -> anyhow::Result<bool> {
        let (key, content) = (self.pick(), self.content());
        let (path, body) = (path_of(&key), content.bytes());
        let request = Request { method: "PUT", path: &path, query: "", headers: &[], body: &body };
        Ok(self.write(client, &request, &key, Value::Present(content)).await?.is_some())
    }

    async fn delete(&mut self, client: &mut Client) -> anyhow::Result<bool> {
        let key = self.pick();
        let path = path_of(&key);
        let request = Request { method: "DELETE", path: &path, query: "", headers: &[], body: b"" };
        Ok(self.write(client, &request, &key, Value::Absent).await?.is_some())
    }

    /// A conditional write on a key of its own: the outcome is known beforehand, a success or a refusal.
    async fn replace(&mut self, client: &mut Client) -> anyhow::Result<bool> {
        let (key, content) = (self.pick(), self.content());
        let (path, body) = (path_of(&key), content.bytes());
        let current = self.known(&key).etag.clone();
        let must_fail = self.random.chance(30);
        let stale = "\"0123456789abcdef0123456789abcdef\"".to_owned();
        let header = match (&current, must_fail) {
            (Some(etag), false) => ("if-match", etag.clone()),
            (Some(_), true) if self.random.chance(50) => ("if-match", stale),
            (Some(_), true) => ("if-none-match", "*".to_owned()),
            (None, false) => ("if-none-match", "*".to_owned()),
            (None, true) => ("if-match", stale),
        };
        let headers = [(header.0, header.1.as_str())];
        let request = Request { method: "PUT", path: &path, query: "", headers: &headers, body: &body };
        if !must_fail {
            return Ok(self.write(client, &request, &key, Value::Present(content)).await?.is_some());
        }
        match send(client, &request).await? {
            Ended::Answered(answer) => {
                let wanted = if current.is_some() { 412 } else { 404 };
                ensure!(answer.status == wanted, "{key} with {header:?}: {}, wanted {wanted}", describe(&answer));
                Ok(true)
            }
            Ended::Unanswered => Ok(false),
            Ended::Refused => Ok(true),
        }
    }

    /// Tries to be the first to write a key that all writers try.
    async fn compete(&mut self, client: &mut Client, round: u64, number: u64) -> anyhow::Result<bool> {
        let (key, content) = (format!("contest/{round:05}/{number:05}"), self.content());
        let (path, body) = (path_of(&key), content.bytes());
        let request =
            Request { method: "PUT", path: &path, query: "", headers: &[("if-none-match", "*")], body: &body };
        let outcome = match send(client, &request).await? {
            Ended::Answered(answer) if answer.is_success() => ContestOutcome::Won,
            Ended::Answered(answer) if answer.status == 412 => ContestOutcome::Lost,
            Ended::Answered(answer) => bail!("a conditional PUT was answered with {}", describe(&answer)),
            Ended::Unanswered => ContestOutcome::Unanswered,
            Ended::Refused => return Ok(true),
        };
        match outcome {
            ContestOutcome::Won => self.acknowledged += 1,
            ContestOutcome::Unanswered => self.unanswered += 1,
            ContestOutcome::Lost => {}
        }
        self.contests.push(Contest { key, content, outcome });
        Ok(outcome != ContestOutcome::Unanswered)
    }

    /// A step of a multipart upload: start it, send a part, complete it.
    async fn upload(&mut self, client: &mut Client) -> anyhow::Result<bool> {
        let Some(upload) = self.upload.clone() else { return self.start_upload(client).await };
        let parts_max = if self.random.chance(20) { 2 } else { 1 };
        let last_is_short = upload.parts.last().is_some_and(|part| part.len < PART_LEN_MIN);
        if upload.parts.len() < parts_max && !last_is_short {
            return self.send_part(client, &upload, parts_max).await;
        }
        let content = Content(upload.parts.iter().map(|part| (part.seed, part.len)).collect());
        let (path, query, body) = (path_of(&upload.key), format!("uploadId={}", upload.id), completion(&upload.parts));
        let request = Request { method: "POST", path: &path, query: &query, headers: &[], body: body.as_bytes() };
        // Once it is sent, whether it is still there depends on the answer.
        self.upload = None;
        let answer = self.write(client, &request, &upload.key, Value::Present(content)).await?;
        match &answer {
            Some(answer) if answer.status == 503 => self.upload = Some(upload),
            Some(answer) => {
                self.known(&upload.key).etag = answer.element("ETag").map(|etag| etag.replace("&quot;", "\""));
            }
            None => {}
        }
        Ok(answer.is_some())
    }

    async fn start_upload(&mut self, client: &mut Client) -> anyhow::Result<bool> {
        let key = self.pick();
        let path = path_of(&key);
        let request = Request { method: "POST", path: &path, query: "uploads=", headers: &[], body: b"" };
        match send(client, &request).await? {
            Ended::Answered(answer) => {
                let Some(id) = answer.element("UploadId").filter(|_| answer.is_success()) else {
                    bail!("an upload was not started: {}", describe(&answer));
                };
                self.acknowledged += 1;
                self.upload = Some(Upload { key, id, parts: Vec::new() });
                Ok(true)
            }
            Ended::Unanswered => Ok(false),
            Ended::Refused => Ok(true),
        }
    }

    async fn send_part(&mut self, client: &mut Client, upload: &Upload, parts_max: usize) -> anyhow::Result<bool> {
        let is_last = upload.parts.len() + 1 == parts_max;
        let len = if is_last { self.random.below(300_000) } else { self.random.below(1_000_000) + PART_LEN_MIN as u64 };
        let (seed, len) = (self.random.word(), usize::try_from(len).unwrap_or(0));
        let query = format!("partNumber={}&uploadId={}", upload.parts.len() + 1, upload.id);
        let (path, body) = (path_of(&upload.key), bytes(seed, len));
        let request = Request { method: "PUT", path: &path, query: &query, headers: &[], body: &body };
        match send(client, &request).await? {
            Ended::Answered(answer) => {
                let Some(etag) = answer.etag.clone().filter(|_| answer.is_success()) else {
                    bail!("a part was not taken: {}", describe(&answer));
                };
                self.acknowledged += 1;
                if let Some(upload) = &mut self.upload {
                    upload.parts.push(Part { seed, len, etag });
                }
                Ok(true)
            }
            Ended::Unanswered => {
                self.unanswered += 1;
                Ok(false)
            }
            Ended::Refused => Ok(true),
        }
    }
}

/// The body that completes an upload of these parts.
pub(super) fn completion(parts: &[Part]) -> String {
    let parts: String = (1..)
        .zip(parts)
        .map(|(number, part)| format!("<Part><PartNumber>{number}</PartNumber><ETag>{}</ETag></Part>", part.etag))
        .collect();
    format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>")
}

pub(super) fn path_of(key: &str) -> String {
    format!("/{BUCKET}/{key}")
}

pub(super) fn describe(answer: &Answer) -> String {
    format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body[..answer.body.len().min(600)]))
}

async fn send(client: &mut Client, request: &Request<'_>) -> anyhow::Result<Ended> {
    let asked: io::Result<Answer> = match tokio::time::timeout(ANSWER_WITHIN, client.ask(request)).await {
        Ok(asked) => asked,
        Err(_) => bail!("no answer to {} {} within {} s", request.method, request.path, ANSWER_WITHIN.as_secs()),
    };
    match asked {
        Err(_) => Ok(Ended::Unanswered),
        Ok(answer) if answer.element("Code").as_deref() == Some("SlowDown") => Ok(Ended::Refused),
        // No 5xx is expected of a node that is alive; were one given, it would not say what happened.
        Ok(answer) if answer.status >= 500 => {
            bail!("{} {} was answered with {}", request.method, request.path, describe(&answer))
        }
        // A completion may fail after its 200 was sent: the body tells.
        Ok(answer) if answer.is_success() && answer.element("Code").is_some() => {
            bail!("{} {} was answered with {}", request.method, request.path, describe(&answer))
        }
        Ok(answer) => Ok(Ended::Answered(answer)),
    }
}

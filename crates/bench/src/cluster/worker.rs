//! A client of one place: asks its node for one thing after the other, and records what it was told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use client::{Client, Credentials, Error, Options, Request, Response};
use http::header::{IF_MATCH, IF_NONE_MATCH};
use http::{HeaderValue, Method};
use parking_lot::{Mutex, RwLock};

use super::history::{Action, Call, Condition, History, Key, Micros, Outcome, Value};
use super::rolling::Second;
use crate::random::Random;

/// The bucket of the run.
pub(super) const BUCKET: &str = "cluster";
/// Keys at the same time.
pub(super) const KEYS: u32 = 8;
/// After so long, others are taken: a key's history stays short enough to search.
const GENERATION: Duration = Duration::from_secs(4);
/// What has no answer after this long has an unknown outcome.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);
/// The longest body that is read.
const BODY_LEN_MAX: usize = 1 << 20;

/// What all clients share.
pub(super) struct Shared {
    began: Instant,
    places: Vec<Place>,
    pub(super) history: History,
    pub(super) ending: AtomicBool,
    /// What was seen that cannot be, beside what the history shows.
    pub(super) violations: Mutex<Vec<String>>,
    /// Whether clients ask once more, at another node, what theirs did not answer; then one of the two has to.
    asks_twice: bool,
    /// How often they did.
    pub(super) second: Second,
}

struct Place {
    client: RwLock<Client>,
    /// When the acknowledged write that began last began.
    served: AtomicU64,
    /// What its node said when it declined last.
    excuse: Mutex<String>,
}

impl Shared {
    /// Clients of these nodes.
    pub(super) fn new(clients: Vec<Client>) -> Self {
        let place = |client| Place {
            client: RwLock::new(client),
            served: AtomicU64::new(0),
            excuse: Mutex::new("it cannot be reached".to_owned()),
        };
        Self {
            began: Instant::now(),
            places: clients.into_iter().map(place).collect(),
            history: History::default(),
            ending: AtomicBool::new(false),
            violations: Mutex::new(Vec::new()),
            asks_twice: false,
            second: Second::default(),
        }
    }

    /// Has clients ask once more at another node.
    pub(super) fn asking_twice(mut self) -> Self {
        self.asks_twice = true;
        self
    }

    pub(super) fn now(&self) -> Micros {
        Micros::try_from(self.began.elapsed().as_micros()).unwrap_or(Micros::MAX)
    }

    pub(super) fn places(&self) -> usize {
        self.places.len()
    }

    /// A client of the node that is at a place now.
    pub(super) fn client(&self, place: usize) -> Client {
        self.places[place].client.read().clone()
    }

    /// Another node is at a place now.
    pub(super) fn move_in(&self, place: usize, client: Client) {
        *self.places[place].client.write() = client;
    }

    /// When the write began that began last of those that were acknowledged at a place.
    pub(super) fn served(&self, place: usize) -> Micros {
        self.places[place].served.load(Ordering::Relaxed)
    }

    /// What the node at a place said when it declined last.
    pub(super) fn excuse(&self, place: usize) -> String {
        self.places[place].excuse.lock().clone()
    }

    pub(super) fn violated(&self, what: String) {
        self.violations.lock().push(what);
    }

    /// Reads a key at a place, and records it.
    pub(super) async fn get(&self, place: usize, key: Key) -> Outcome {
        let begin = self.now();
        let outcome = self.read(place, key).await;
        self.record(Call { key, place, begin, end: self.now(), action: Action::Get, outcome });
        outcome
    }

    fn record(&self, call: Call) {
        if call.action.is_write() && call.outcome == Outcome::Done {
            self.places[call.place].served.fetch_max(call.begin, Ordering::Relaxed);
        }
        self.history.record(call);
    }

    async fn read(&self, place: usize, key: Key) -> Outcome {
        let answer = ask(&self.client(place), Request::new(Method::GET, format!("/{BUCKET}/{key}"))).await;
        match answer {
            Asked::Answered(200, _, body) => match Value::of(&body) {
                Some(value) => Outcome::Saw(Some(value)),
                None => {
                    self.violated(format!("{key} at place {} holds {} bytes that nobody wrote", place + 1, body.len()));
                    Outcome::Unknown
                }
            },
            Asked::Answered(404, _, body) if element(&body, "Code") == "NoSuchKey" => Outcome::Saw(None),
            other => other.outcome(self, place, "GET"),
        }
    }

    async fn put(&self, place: usize, key: Key, condition: Condition, value: Value) -> Outcome {
        let mut request = Request::new(Method::PUT, format!("/{BUCKET}/{key}")).body(value.body());
        match condition {
            Condition::Always => {}
            Condition::Absent => request = request.header(IF_NONE_MATCH, HeaderValue::from_static("*")),
            Condition::Is(old) => {
                if let Ok(tag) = HeaderValue::from_str(&format!("\"{}\"", old.etag())) {
                    request = request.header(IF_MATCH, tag);
                }
            }
        }
        match ask(&self.client(place), request).await {
            Asked::Answered(200, tag, _) => {
                if tag.trim_matches('"') != value.etag() {
                    self.violated(format!("{key} was given {tag}, the ETag of other bytes"));
                }
                Outcome::Done
            }
            Asked::Answered(412, ..) if condition != Condition::Always => Outcome::Refused { present: true },
            Asked::Answered(404, _, body)
                if element(&body, "Code") == "NoSuchKey" && condition != Condition::Always =>
            {
                Outcome::Refused { present: false }
            }
            other => other.outcome(self, place, "PUT"),
        }
    }

    async fn delete(&self, place: usize, key: Key) -> Outcome {
        match ask(&self.client(place), Request::new(Method::DELETE, format!("/{BUCKET}/{key}"))).await {
            Asked::Answered(204, ..) => Outcome::Done,
            other => other.outcome(self, place, "DELETE"),
        }
    }

    /// What a listing says of all keys of a generation.
    async fn list(&self, place: usize, generation: u32, known: &Known) -> Outcome {
        let begin = self.now();
        let request = Request::new(Method::GET, format!("/{BUCKET}"))
            .query("list-type", "2")
            .query("prefix", format!("g{generation:05}/"));
        let answer = ask(&self.client(place), request).await;
        let end = self.now();
        let Asked::Answered(200, _, body) = answer else {
            let outcome = answer.outcome(self, place, "LIST");
            self.history.record_listing(&[], outcome);
            return outcome;
        };
        let rows = rows(&String::from_utf8_lossy(&body));
        let mut calls = Vec::new();
        for number in 0..KEYS {
            let key = Key { generation, number };
            let row = rows.iter().find(|(name, _)| *name == key.to_string());
            let value = row.map(|(_, tag)| known.value(tag));
            if value == Some(None) {
                self.violated(format!("a listing at place {} shows {row:?}, which nobody wrote", place + 1));
                continue;
            }
            let outcome = Outcome::Saw(value.flatten());
            calls.push(Call { key, place, begin, end, action: Action::List, outcome });
        }
        self.history.record_listing(&calls, Outcome::Saw(None));
        Outcome::Saw(None)
    }
}

/// The ETags of all values that were sent anywhere.
#[derive(Default)]
pub(super) struct Known {
    values: Mutex<std::collections::HashMap<String, Value>>,
}

impl Known {
    fn note(&self, value: Value) {
        self.values.lock().insert(value.etag(), value);
    }

    fn value(&self, tag: &str) -> Option<Value> {
        self.values.lock().get(tag).copied()
    }
}

/// Keys and ETags of a listing.
fn rows(text: &str) -> Vec<(String, String)> {
    let element = |part: &str, name: &str| {
        let (_, rest) = part.split_once(&format!("<{name}>"))?;
        Some(rest.split_once(&format!("</{name}>"))?.0.replace("&quot;", "").replace('"', ""))
    };
    text.split("<Contents>").skip(1).filter_map(|part| Some((element(part, "Key")?, element(part, "ETag")?))).collect()
}

/// An element of an answer that says no: its S3 code or its message.
fn element(body: &[u8], name: &str) -> String {
    let text = String::from_utf8_lossy(body);
    let rest = text.split_once(&format!("<{name}>")).map_or("", |(_, rest)| rest);
    rest.split_once(&format!("</{name}>")).map_or(String::new(), |(element, _)| element.to_owned())
}

/// How a request ended.
enum Asked {
    /// Status, ETag, body.
    Answered(u16, String, Bytes),
    /// 503, and it was not done: with what the node said.
    Declined(String),
    /// No connection: it was never sent.
    NotSent,
    Lost,
}

impl Asked {
    /// What is left when no good answer came.
    fn outcome(self, shared: &Shared, place: usize, asked: &str) -> Outcome {
        match self {
            Self::Declined(excuse) => {
                *shared.places[place].excuse.lock() = excuse;
                Outcome::Declined
            }
            Self::NotSent => Outcome::Declined,
            Self::Lost => Outcome::Unknown,
            Self::Answered(status, _, body) => {
                let text = String::from_utf8_lossy(&body[..body.len().min(300)]).into_owned();
                shared.violated(format!("{asked} was answered with {status}: {text}"));
                Outcome::Unknown
            }
        }
    }
}

async fn ask(client: &Client, request: Request) -> Asked {
    let answered = async {
        let response: Response = client.send(request).await?;
        let status = response.status.as_u16();
        let tag = response.header("etag").to_owned();
        let is_unknown = response.header("x-entangle-outcome") == "unknown";
        let body = response.bytes(BODY_LEN_MAX).await?;
        Ok::<_, Error>((status, tag, is_unknown, body))
    };
    match tokio::time::timeout(ANSWER_WITHIN, answered).await {
        Ok(Ok((503, _, false, body))) => Asked::Declined(element(&body, "Message")),
        Ok(Ok((500.., ..))) => Asked::Lost,
        Ok(Ok((status, tag, _, body))) => Asked::Answered(status, tag, body),
        Ok(Err(Error::Connect { .. })) => Asked::NotSent,
        Ok(Err(_)) | Err(_) => Asked::Lost,
    }
}

/// A client of a node.
pub(super) fn client(endpoint: &str, credentials: &Credentials) -> anyhow::Result<Client> {
    let mut options = Options::new(endpoint.parse()?);
    options.credentials = Some(credentials.clone());
    Ok(Client::new(options)?)
}

/// One client.
pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) known: Arc<Known>,
    pub(super) place: usize,
    /// Its own among all clients.
    pub(super) number: u64,
    pub(super) random: Random,
}

impl Worker {
    /// Asks until the run ends.
    pub(super) async fn run(mut self) {
        let mut writes = 0;
        // What it saw last of a key that it may replace.
        let mut seen: Option<(Key, Value)> = None;
        while !self.shared.ending.load(Ordering::Relaxed) {
            let mut key = self.pick();
            let value = Value(self.number << 32 | writes);
            let action = match self.random.below(100) {
                0..30 => Action::Put(Condition::Always, value),
                30..40 => Action::Put(Condition::Absent, value),
                40..52 => match seen.take() {
                    Some((of, old)) => {
                        key = of;
                        Action::Put(Condition::Is(old), value)
                    }
                    None => Action::Get,
                },
                52..62 => Action::Delete,
                62..94 => Action::Get,
                _ => Action::List,
            };
            let outcome = self.call(key, action).await;
            match (action, outcome) {
                (Action::Put(..), Outcome::Done) => seen = Some((key, value)),
                (Action::Get, Outcome::Saw(Some(value))) => seen = Some((key, value)),
                _ => {}
            }
            writes += u64::from(matches!(action, Action::Put(..)));
            let pause_ms = match outcome {
                Outcome::Declined | Outcome::Unknown => 20 + self.random.below(40),
                _ => self.random.below(16),
            };
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        }
    }

    async fn call(&self, key: Key, action: Action) -> Outcome {
        let shared = &self.shared;
        let begin = shared.now();
        let first = self.call_at(self.place, key, action).await;
        if !shared.asks_twice {
            return first;
        }
        if first.is_answer() {
            shared.second.note(false, shared.now() - begin);
            return first;
        }
        let other = (self.place + 1) % shared.places();
        let second = self.call_at(other, key, action).await;
        shared.second.note(true, shared.now() - begin);
        if !second.is_answer() {
            let said = |place: usize, outcome: Outcome| {
                format!("{} at place {} ({})", outcome.name(), place + 1, shared.excuse(place))
            };
            let (one, two) = (said(self.place, first), said(other, second));
            shared.violated(format!("{} of {key} failed: {one}, then {two}", action.name()));
        }
        second
    }

    async fn call_at(&self, place: usize, key: Key, action: Action) -> Outcome {
        let shared = &self.shared;
        let begin = shared.now();
        let outcome = match action {
            Action::Get => return shared.get(place, key).await,
            Action::List => return shared.list(place, key.generation, &self.known).await,
            Action::Delete => shared.delete(place, key).await,
            Action::Put(condition, value) => {
                self.known.note(value);
                shared.put(place, key, condition, value).await
            }
        };
        shared.record(Call { key, place, begin, end: shared.now(), action, outcome });
        outcome
    }

    /// Mostly a key of now, sometimes one of earlier.
    fn pick(&mut self) -> Key {
        let span = Micros::try_from(GENERATION.as_micros()).unwrap_or(Micros::MAX);
        let newest = self.shared.now() / span;
        let chosen = if self.random.chance(10) { self.random.below(newest + 1) } else { newest };
        let number = u32::try_from(self.random.below(KEYS.into())).unwrap_or(0);
        Key { generation: u32::try_from(chosen).unwrap_or(0), number }
    }
}

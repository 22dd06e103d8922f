//! A client that signs what it is told to and sends the bytes that it is told to, right or wrong.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::{digest, hmac};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

#[derive(Clone)]
pub(crate) struct Credentials {
    access_key: String,
    secret: String,
}

impl Credentials {
    pub(crate) fn new(access_key: &str, secret: &str) -> Self {
        Self { access_key: access_key.to_owned(), secret: secret.to_owned() }
    }
}

#[derive(Clone)]
pub(crate) struct Client {
    address: SocketAddr,
    credentials: Credentials,
}

/// How the payload travels and what vouches for it.
#[derive(Clone)]
pub(crate) enum Payload {
    /// Its SHA-256.
    Signed,
    /// `UNSIGNED-PAYLOAD`.
    Unsigned,
    /// aws-chunked with this trailer, unsigned.
    UnsignedTrailer(&'static str, String),
    /// aws-chunked with signed chunks, and a signed trailer if given.
    SignedChunks(Option<(&'static str, String)>),
    /// Whatever header value.
    Claim(String),
}

#[derive(Clone)]
pub(crate) struct Request {
    client: Client,
    method: String,
    path: String,
    query: Vec<(String, String)>,
    headers: BTreeMap<String, String>,
    unsigned_headers: Vec<(String, String)>,
    body: Vec<u8>,
    payload: Payload,
    skew_secs: i64,
    anonymous: bool,
    chunk_len: usize,
    /// Sent instead of the body, with the head as it would be for the body.
    wire_body: Option<Vec<u8>>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Client {
    pub(crate) fn new(address: SocketAddr, credentials: Credentials) -> Self {
        Self { address, credentials }
    }

    pub(crate) fn with_credentials(&self, access_key: &str, secret: &str) -> Self {
        Self { address: self.address, credentials: Credentials::new(access_key, secret) }
    }

    /// `target` is path and query, both as they are (not encoded).
    pub(crate) fn request(&self, method: &str, target: &str) -> Request {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (name.to_owned(), value.to_owned())
        };
        Request {
            client: self.clone(),
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.split('&').filter(|text| !text.is_empty()).map(pair).collect(),
            headers: BTreeMap::from([("host".to_owned(), self.address.to_string())]),
            unsigned_headers: Vec::new(),
            body: Vec::new(),
            payload: Payload::Signed,
            skew_secs: 0,
            anonymous: false,
            chunk_len: 64 * 1024,
            wire_body: None,
        }
    }

    pub(crate) fn get(&self, target: &str) -> Request {
        self.request("GET", target)
    }

    pub(crate) fn head(&self, target: &str) -> Request {
        self.request("HEAD", target)
    }

    pub(crate) fn put(&self, target: &str) -> Request {
        self.request("PUT", target)
    }

    pub(crate) fn post(&self, target: &str) -> Request {
        self.request("POST", target)
    }

    pub(crate) fn delete(&self, target: &str) -> Request {
        self.request("DELETE", target)
    }
}

impl Request {
    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.insert(name.to_owned(), value.into());
        self
    }

    pub(crate) fn unsigned_header(mut self, name: &str, value: &str) -> Self {
        self.unsigned_headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn query(mut self, name: &str, value: &str) -> Self {
        self.query.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) fn payload(mut self, payload: Payload) -> Self {
        self.payload = payload;
        self
    }

    pub(crate) fn chunk_len(mut self, len: usize) -> Self {
        self.chunk_len = len;
        self
    }

    pub(crate) fn skewed(mut self, secs: i64) -> Self {
        self.skew_secs = secs;
        self
    }

    pub(crate) fn anonymous(mut self) -> Self {
        self.anonymous = true;
        self
    }

    pub(crate) fn wire_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.wire_body = Some(body.into());
        self
    }

    pub(crate) async fn send(self) -> Answer {
        let method = self.method.clone();
        let address = self.client.address;
        let wire = self.into_wire();
        let mut stream = TcpStream::connect(address).await.unwrap();
        // A server may answer and close before it has read everything.
        let _ = stream.write_all(&wire).await;
        read_answer(&mut stream, &method).await
    }

    /// Sends head and body, and keeps the connection open without sending more.
    pub(crate) async fn open(self) -> (TcpStream, String) {
        let method = self.method.clone();
        let wire = self.clone().into_wire();
        let mut stream = TcpStream::connect(self.client.address).await.unwrap();
        stream.write_all(&wire).await.unwrap();
        (stream, method)
    }

    /// The bytes of the request.
    pub(crate) fn into_wire(mut self) -> Vec<u8> {
        let (date, day) = now(self.skew_secs);
        let decoded_len = self.body.len();
        let claim = match &self.payload {
            Payload::Signed => hex(digest::digest(&digest::SHA256, &self.body).as_ref()),
            Payload::Unsigned => "UNSIGNED-PAYLOAD".to_owned(),
            Payload::UnsignedTrailer(..) => "STREAMING-UNSIGNED-PAYLOAD-TRAILER".to_owned(),
            Payload::SignedChunks(None) => "STREAMING-AWS4-HMAC-SHA256-PAYLOAD".to_owned(),
            Payload::SignedChunks(Some(_)) => "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER".to_owned(),
            Payload::Claim(claim) => claim.clone(),
        };
        match &self.payload {
            Payload::UnsignedTrailer(name, _) | Payload::SignedChunks(Some((name, _))) => {
                self.headers.insert("x-amz-trailer".to_owned(), (*name).to_owned());
            }
            _ => {}
        }
        if matches!(self.payload, Payload::UnsignedTrailer(..) | Payload::SignedChunks(_)) {
            self.headers.insert("x-amz-decoded-content-length".to_owned(), decoded_len.to_string());
            self.headers.insert("content-encoding".to_owned(), "aws-chunked".to_owned());
        }
        let mut signature = String::new();
        let scope = format!("{day}/eu-central-7/s3/aws4_request");
        let key = signing_key(&self.client.credentials.secret, &scope);
        if !self.anonymous {
            self.headers.insert("x-amz-date".to_owned(), date.clone());
            self.headers.insert("x-amz-content-sha256".to_owned(), claim.clone());
            let signed = self.headers.keys().cloned().collect::<Vec<_>>().join(";");
            signature = self.signature(&self.canonical_query(), &self.headers, &signed, &claim, (&date, &scope), &key);
            let access_key = &self.client.credentials.access_key;
            let value = format!(
                "AWS4-HMAC-SHA256 Credential={access_key}/{scope}, SignedHeaders={signed}, Signature={signature}"
            );
            self.headers.entry("authorization".to_owned()).or_insert(value);
        }
        let body = match &self.payload {
            Payload::UnsignedTrailer(name, value) => {
                let mut body = Vec::new();
                for chunk in self.body.chunks(self.chunk_len) {
                    body.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                    body.extend_from_slice(chunk);
                    body.extend_from_slice(b"\r\n");
                }
                body.extend_from_slice(format!("0\r\n{name}:{value}\r\n\r\n").as_bytes());
                body
            }
            Payload::SignedChunks(trailer) => {
                signed_chunks(&self.body, self.chunk_len, trailer.as_ref(), (&date, &scope), &key, signature)
            }
            _ => self.body.clone(),
        };
        self.write_out(&self.canonical_query(), &body)
    }

    /// The bytes of the same request as a presigned URL would make them.
    pub(crate) fn into_presigned_wire(mut self, expires: i64, extra_headers: &[(&str, &str)]) -> Vec<u8> {
        let (date, day) = now(self.skew_secs);
        let scope = format!("{day}/eu-central-7/s3/aws4_request");
        let credential = format!("{}/{scope}", self.client.credentials.access_key);
        for (name, value) in [
            ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
            ("X-Amz-Credential", &credential),
            ("X-Amz-Date", &date),
            ("X-Amz-Expires", &expires.to_string()),
            ("X-Amz-SignedHeaders", "host"),
        ] {
            self.query.push((name.to_owned(), value.to_owned()));
        }
        let key = signing_key(&self.client.credentials.secret, &scope);
        let query = self.canonical_query();
        let host = BTreeMap::from([("host".to_owned(), self.headers["host"].clone())]);
        let signature = self.signature(&query, &host, "host", "UNSIGNED-PAYLOAD", (&date, &scope), &key);
        for (name, value) in extra_headers {
            self.headers.insert((*name).to_owned(), (*value).to_owned());
        }
        let body = self.body.clone();
        self.write_out(&format!("{query}&X-Amz-Signature={signature}"), &body)
    }

    pub(crate) async fn send_presigned(self, expires: i64, extra_headers: &[(&str, &str)]) -> Answer {
        let (address, method) = (self.client.address, self.method.clone());
        send_raw(address, &self.into_presigned_wire(expires, extra_headers), &method).await
    }

    fn write_out(&self, query: &str, body: &[u8]) -> Vec<u8> {
        let target =
            if query.is_empty() { encode(&self.path, true) } else { format!("{}?{query}", encode(&self.path, true)) };
        let mut wire = format!("{} {target} HTTP/1.1\r\n", self.method);
        for (name, value) in self.headers.iter().chain(self.unsigned_headers.iter().map(|(name, value)| (name, value)))
        {
            wire.push_str(&format!("{name}: {value}\r\n"));
        }
        if !self.headers.contains_key("connection") {
            wire.push_str("connection: close\r\n");
        }
        let has_len = self.headers.contains_key("content-length") || self.headers.contains_key("transfer-encoding");
        if !has_len && (!body.is_empty() || matches!(self.method.as_str(), "PUT" | "POST")) {
            wire.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        wire.push_str("\r\n");
        let mut wire = wire.into_bytes();
        wire.extend_from_slice(self.wire_body.as_deref().unwrap_or(body));
        wire
    }

    fn canonical_query(&self) -> String {
        let mut pairs: Vec<(String, String)> =
            self.query.iter().map(|(name, value)| (encode(name, false), encode(value, false))).collect();
        pairs.sort();
        pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
    }

    fn signature(
        &self,
        query: &str,
        headers: &BTreeMap<String, String>,
        signed: &str,
        claim: &str,
        (date, scope): (&str, &str),
        key: &hmac::Key,
    ) -> String {
        let headers: String = headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
        let request = format!("{}\n{}\n{query}\n{headers}\n{signed}\n{claim}", self.method, encode(&self.path, true));
        let hash = hex(digest::digest(&digest::SHA256, request.as_bytes()).as_ref());
        let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{hash}");
        hex(hmac::sign(key, text.as_bytes()).as_ref())
    }
}

fn signed_chunks(
    body: &[u8],
    chunk_len: usize,
    trailer: Option<&(&'static str, String)>,
    (date, scope): (&str, &str),
    key: &hmac::Key,
    seed: String,
) -> Vec<u8> {
    let empty = hex(digest::digest(&digest::SHA256, b"").as_ref());
    let mut previous = seed;
    let mut wire = Vec::new();
    for chunk in body.chunks(chunk_len).chain([&[][..]]) {
        let hash = hex(digest::digest(&digest::SHA256, chunk).as_ref());
        let text = format!("AWS4-HMAC-SHA256-PAYLOAD\n{date}\n{scope}\n{previous}\n{empty}\n{hash}");
        previous = hex(hmac::sign(key, text.as_bytes()).as_ref());
        wire.extend_from_slice(format!("{:x};chunk-signature={previous}\r\n", chunk.len()).as_bytes());
        wire.extend_from_slice(chunk);
        if !chunk.is_empty() {
            wire.extend_from_slice(b"\r\n");
        }
    }
    if let Some((name, value)) = trailer {
        let hash = hex(digest::digest(&digest::SHA256, format!("{name}:{value}\n").as_bytes()).as_ref());
        let text = format!("AWS4-HMAC-SHA256-TRAILER\n{date}\n{scope}\n{previous}\n{hash}");
        let signature = hex(hmac::sign(key, text.as_bytes()).as_ref());
        wire.extend_from_slice(format!("{name}:{value}\r\nx-amz-trailer-signature:{signature}\r\n").as_bytes());
    }
    wire.extend_from_slice(b"\r\n");
    wire
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub(crate) fn expect_status(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{:?} {}", self.headers, self.text());
        self
    }

    /// Expects an S3 error, complete with message, resource and request id.
    #[track_caller]
    pub(crate) fn expect_error(self, status: u16, code: &str) -> Self {
        let answer = self.expect_status(status);
        assert_eq!(answer.element("Code"), code, "{}", answer.text());
        assert!(!answer.element("Message").is_empty(), "{}", answer.text());
        assert_eq!(answer.element("RequestId"), answer.header("x-amz-request-id"));
        assert!(answer.text().contains("<Resource>"));
        answer
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The text of the first element of this name; empty if there is none.
    pub(crate) fn element(&self, name: &str) -> String {
        self.elements(name).into_iter().next().unwrap_or_default()
    }

    /// The texts of all elements of this name.
    pub(crate) fn elements(&self, name: &str) -> Vec<String> {
        let text = self.text();
        let (open, close) = (format!("<{name}>"), format!("</{name}>"));
        let mut rest = text.as_str();
        let mut found = Vec::new();
        while let Some((_, after)) = rest.split_once(&open) {
            let Some((inner, after)) = after.split_once(&close) else { break };
            found.push(inner.replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"));
            rest = after;
        }
        found
    }
}

pub(crate) async fn send_raw(address: SocketAddr, wire: &[u8], method: &str) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let _ = stream.write_all(wire).await;
    read_answer(&mut stream, method).await
}

/// Reads one answer; the connection must be closed behind it.
pub(crate) async fn read_answer(stream: &mut (impl tokio::io::AsyncRead + Unpin), method: &str) -> Answer {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read =
            tokio::time::timeout(Duration::from_secs(30), stream.read(&mut buffer)).await.expect("an answer in time");
        match read {
            Ok(0) | Err(_) => break,
            Ok(len) => bytes.extend_from_slice(&buffer[..len]),
        }
    }
    parse_answer(&bytes, method)
}

pub(crate) fn parse_answer(bytes: &[u8], method: &str) -> Answer {
    let mut rest = bytes;
    while let Some(after) = rest.strip_prefix(b"HTTP/1.1 100 Continue\r\n\r\n".as_slice()) {
        rest = after;
    }
    let split = rest.windows(4).position(|window| window == b"\r\n\r\n");
    let split = split.unwrap_or_else(|| panic!("no answer: {:?}", String::from_utf8_lossy(bytes)));
    let head = String::from_utf8(rest[..split].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: BTreeMap<String, String> = lines
        .map(|line| line.split_once(':').unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let body = &rest[split + 4..];
    let body = if headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked") {
        dechunk(body)
    } else {
        if method != "HEAD"
            && let Some(len) = headers.get("content-length")
        {
            assert_eq!(body.len().to_string(), *len, "the body has its declared length");
        }
        body.to_vec()
    };
    Answer { status, headers, body }
}

fn dechunk(mut body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let end = body.windows(2).position(|window| window == b"\r\n").expect("a chunk header");
        let len = usize::from_str_radix(core::str::from_utf8(&body[..end]).unwrap(), 16).unwrap();
        if len == 0 {
            return out;
        }
        out.extend_from_slice(&body[end + 2..end + 2 + len]);
        body = &body[end + 2 + len + 2..];
    }
}

fn signing_key(secret: &str, scope: &str) -> hmac::Key {
    let mut key = format!("AWS4{secret}").into_bytes();
    for part in scope.split('/') {
        key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), part.as_bytes()).as_ref().to_vec();
    }
    hmac::Key::new(hmac::HMAC_SHA256, &key)
}

fn now(skew_secs: i64) -> (String, String) {
    let secs = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().checked_add_signed(skew_secs).unwrap();
    let (days, second) = (secs / 86_400, secs % 86_400);
    // Days to a date: Howard Hinnant's algorithm.
    let z = days + 719_468;
    let (era, of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let day = format!("{year:04}{month:02}{day:02}");
    (format!("{day}T{:02}{:02}{:02}Z", second / 3600, second / 60 % 60, second % 60), day)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Percent-encodes as SigV4 does.
pub(crate) fn encode(text: &str, keep_slashes: bool) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b'/' if keep_slashes => out.push('/'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

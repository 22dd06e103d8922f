//! The `aws-chunked` transfer coding: framing, chunk signatures and trailers, decoded as they stream.
//!
//! A chunk's bytes are passed on before its signature is known to be right; nobody may act on them before
//! the whole body was decoded. AWS: *Signature calculations for the Authorization header: transferring
//! payload in multiple chunks*.

use aws_lc_rs::{digest, hmac};
use bytes::Bytes;

use super::BodyFault;
use crate::limits::{CHUNK_LINE_LEN_MAX, TRAILERS_LEN_MAX};

/// What chunk signatures are computed from beside the chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChunkScope {
    /// `x-amz-date`.
    pub(crate) date: String,
    /// `date/region/service/aws4_request`.
    pub(crate) scope: String,
    /// The signature of the head.
    pub(crate) seed: String,
}

/// How a body is chunked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chunking {
    /// Chunks are signed.
    pub(crate) signed: Option<ChunkScope>,
    /// Trailers follow the last chunk.
    pub(crate) trailer: bool,
}

/// SHA-256 of nothing.
const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

struct Signatures {
    key: hmac::Key,
    scope: ChunkScope,
    previous: String,
    chunk: digest::Context,
    claimed: String,
}

impl Signatures {
    fn new(scope: ChunkScope, secret: &str) -> Self {
        let mut key = [b"AWS4".as_slice(), secret.as_bytes()].concat();
        for part in scope.scope.split('/') {
            key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), part.as_bytes()).as_ref().to_vec();
        }
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            previous: scope.seed.clone(),
            scope,
            chunk: digest::Context::new(&digest::SHA256),
            claimed: String::new(),
        }
    }

    fn sign(&self, algorithm: &str, rest: &str) -> String {
        let text = format!("{algorithm}\n{}\n{}\n{}\n{rest}", self.scope.date, self.scope.scope, self.previous);
        hex(hmac::sign(&self.key, text.as_bytes()).as_ref())
    }

    fn close_chunk(&mut self) -> Result<(), BodyFault> {
        let chunk = core::mem::replace(&mut self.chunk, digest::Context::new(&digest::SHA256)).finish();
        let rest = format!("{EMPTY_SHA256}\n{}", hex(chunk.as_ref()));
        let computed = self.sign("AWS4-HMAC-SHA256-PAYLOAD", &rest);
        self.accept(computed)
    }

    fn close_trailers(&mut self, trailers: &[(String, String)], claimed: &str) -> Result<(), BodyFault> {
        let mut lines: Vec<String> = trailers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        lines.sort();
        let canonical = digest::digest(&digest::SHA256, lines.concat().as_bytes());
        let computed = self.sign("AWS4-HMAC-SHA256-TRAILER", &hex(canonical.as_ref()));
        claimed.clone_into(&mut self.claimed);
        self.accept(computed)
    }

    fn accept(&mut self, computed: String) -> Result<(), BodyFault> {
        let equal = aws_lc_rs::constant_time::verify_slices_are_equal(computed.as_bytes(), self.claimed.as_bytes());
        if equal.is_err() {
            return Err(BodyFault::ChunkSignature);
        }
        self.previous = computed;
        Ok(())
    }
}

/// Where the decoder stands in the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In a chunk's header line. Entered at the start and after each chunk.
    Line,
    /// In a chunk's bytes, this many to go. Left for `Close`.
    Data(u64),
    /// At the line end behind a chunk's bytes.
    Close,
    /// In the trailers; entered after the empty chunk where trailers are announced, left at the end.
    Trailers,
    /// After the empty chunk where none are announced: only a line end may come.
    End,
}

/// Decodes one body.
pub(crate) struct ChunkDecoder {
    state: State,
    line: Vec<u8>,
    trailer: bool,
    signatures: Option<Signatures>,
    trailers: Vec<(String, String)>,
}

impl ChunkDecoder {
    /// `secret` is that of the access key that signed the head.
    pub(crate) fn new(chunking: Chunking, secret: &str) -> Self {
        Self {
            state: State::Line,
            line: Vec::new(),
            trailer: chunking.trailer,
            signatures: chunking.signed.map(|scope| Signatures::new(scope, secret)),
            trailers: Vec::new(),
        }
    }

    /// Takes from `input` up to the next piece of payload; `None` when all of `input` is used up.
    pub(crate) fn decode(&mut self, input: &mut Bytes) -> Result<Option<Bytes>, BodyFault> {
        while !input.is_empty() {
            match self.state {
                State::Line => {
                    if let Some(line) = self.take_line(input, CHUNK_LINE_LEN_MAX)? {
                        self.open_chunk(&line)?;
                    }
                }
                State::Data(left) => {
                    let take = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                    let data = input.split_to(take);
                    if let Some(signatures) = &mut self.signatures {
                        signatures.chunk.update(&data);
                    }
                    let left = left - data.len() as u64;
                    self.state = if left == 0 { State::Close } else { State::Data(left) };
                    return Ok(Some(data));
                }
                State::Close => {
                    if let Some(line) = self.take_line(input, 2)? {
                        if !line.is_empty() {
                            return Err(BodyFault::Framing("a chunk is longer than it says"));
                        }
                        if let Some(signatures) = &mut self.signatures {
                            signatures.close_chunk()?;
                        }
                        self.state = State::Line;
                    }
                }
                State::Trailers => {
                    if self.line.len() + input.len() > TRAILERS_LEN_MAX {
                        return Err(BodyFault::Framing("the trailers are too long"));
                    }
                    self.line.extend_from_slice(&input.split_to(input.len()));
                }
                State::End => {
                    let rest = input.split_to(input.len());
                    self.line.extend_from_slice(&rest[..rest.len().min(3)]);
                    if !b"\r\n".starts_with(&self.line) {
                        return Err(BodyFault::Framing("bytes follow the last chunk"));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Called at the end of the body: checks that it ended where it may.
    pub(crate) fn finish(&mut self) -> Result<(), BodyFault> {
        match self.state {
            State::Trailers => self.close_trailers(),
            State::End => Ok(()),
            State::Line | State::Data(_) | State::Close => Err(BodyFault::Framing("the last chunk is missing")),
        }
    }

    /// The trailers, names in lower case; complete after [`ChunkDecoder::finish`].
    pub(crate) fn trailers(&self) -> &[(String, String)] {
        &self.trailers
    }

    /// A line without its end, once it is complete.
    fn take_line(&mut self, input: &mut Bytes, len_max: usize) -> Result<Option<Vec<u8>>, BodyFault> {
        let end = input.iter().position(|&byte| byte == b'\n');
        let taken = input.split_to(end.map_or(input.len(), |at| at + 1));
        if self.line.len() + taken.len() > len_max {
            return Err(BodyFault::Framing("a chunk header is too long"));
        }
        self.line.extend_from_slice(&taken);
        if end.is_none() {
            return Ok(None);
        }
        let mut line = core::mem::take(&mut self.line);
        line.pop();
        if line.pop() != Some(b'\r') {
            return Err(BodyFault::Framing("a line does not end in CR LF"));
        }
        Ok(Some(line))
    }

    fn open_chunk(&mut self, line: &[u8]) -> Result<(), BodyFault> {
        let line = core::str::from_utf8(line).map_err(|_| BodyFault::Framing("a chunk header is not text"))?;
        let (len, extension) = line.split_once(';').unwrap_or((line, ""));
        if len.is_empty() || len.len() > 16 || !len.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(BodyFault::Framing("a chunk length is no hexadecimal number"));
        }
        let len = u64::from_str_radix(len, 16).map_err(|_| BodyFault::Framing("a chunk length is too large"))?;
        if let Some(signatures) = &mut self.signatures {
            let claimed = extension.strip_prefix("chunk-signature=").filter(|claimed| claimed.len() == 64);
            claimed.ok_or(BodyFault::Framing("a chunk has no signature"))?.clone_into(&mut signatures.claimed);
        }
        if len > 0 {
            self.state = State::Data(len);
            return Ok(());
        }
        if let Some(signatures) = &mut self.signatures {
            signatures.close_chunk()?;
        }
        self.state = if self.trailer { State::Trailers } else { State::End };
        Ok(())
    }

    fn close_trailers(&mut self) -> Result<(), BodyFault> {
        let text = core::mem::take(&mut self.line);
        let text = String::from_utf8(text).map_err(|_| BodyFault::Framing("the trailers are not text"))?;
        let mut claimed = None;
        for line in text.split('\n').map(str::trim).filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').ok_or(BodyFault::Framing("a trailer has no value"))?;
            let (name, value) = (name.trim().to_ascii_lowercase(), value.trim().to_owned());
            if name == "x-amz-trailer-signature" {
                claimed = Some(value);
            } else {
                self.trailers.push((name, value));
            }
        }
        if let Some(signatures) = &mut self.signatures {
            let claimed = claimed.ok_or(BodyFault::Framing("the trailers have no signature"))?;
            signatures.close_trailers(&self.trailers, &claimed)?;
        }
        self.state = State::End;
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|b| [b >> 4, b & 15]).map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

    fn run(decoder: &mut ChunkDecoder, body: &[u8], step: usize) -> Result<Vec<u8>, BodyFault> {
        let mut out = Vec::new();
        for piece in body.chunks(step) {
            let mut input = Bytes::copy_from_slice(piece);
            while let Some(data) = decoder.decode(&mut input)? {
                out.extend_from_slice(&data);
            }
        }
        decoder.finish()?;
        Ok(out)
    }

    fn unsigned(trailer: bool) -> ChunkDecoder {
        ChunkDecoder::new(Chunking { signed: None, trailer }, "")
    }

    #[test]
    fn unsigned_chunks_and_trailers_in_any_slicing() {
        let body = b"5\r\nhello\r\n6\r\n world\r\n0\r\nx-amz-checksum-crc32:DUoRhQ==\r\n\r\n";
        for step in 1..=body.len() {
            let mut decoder = unsigned(true);
            assert_eq!(run(&mut decoder, body, step).unwrap(), b"hello world", "step {step}");
            assert_eq!(decoder.trailers(), [("x-amz-checksum-crc32".to_owned(), "DUoRhQ==".to_owned())]);
        }
    }

    #[test]
    fn malformed_framing_is_refused() {
        for body in [
            &b"5\r\nhello world\r\n0\r\n\r\n"[..],
            b"5\nhello\r\n0\r\n\r\n",
            b"x\r\nhello\r\n0\r\n\r\n",
            b"\r\n",
            b"5\r\nhello\r\n",
            b"5\r\nhel",
            b"0\r\n\r\nmore",
            b"fffffffffffffffff\r\n",
            b"+5\r\nhello\r\n0\r\n\r\n",
        ] {
            for step in [1, 3, 100] {
                let result = run(&mut unsigned(false), body, step);
                assert!(matches!(result, Err(BodyFault::Framing(_))), "{:?}", String::from_utf8_lossy(body));
            }
        }
        let long = [b"0\r\n".to_vec(), vec![b'a'; TRAILERS_LEN_MAX + 1]].concat();
        assert!(matches!(run(&mut unsigned(true), &long, 100), Err(BodyFault::Framing(_))));
    }

    /// The example of the AWS documentation: 64 KiB and 1 KiB of `a`.
    fn aws_example() -> (Chunking, Vec<u8>) {
        let scope = ChunkScope {
            date: "20130524T000000Z".to_owned(),
            scope: "20130524/us-east-1/s3/aws4_request".to_owned(),
            seed: "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9".to_owned(),
        };
        let mut body = Vec::new();
        for (len, signature) in [
            (65536, "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"),
            (1024, "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"),
            (0, "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"),
        ] {
            body.extend_from_slice(format!("{len:x};chunk-signature={signature}\r\n").as_bytes());
            body.extend(std::iter::repeat_n(b'a', len));
            body.extend_from_slice(b"\r\n");
        }
        (Chunking { signed: Some(scope), trailer: false }, body)
    }

    #[test]
    fn signed_chunks_of_the_documentation_verify() {
        let (chunking, body) = aws_example();
        for step in [7, 1000, body.len()] {
            let mut decoder = ChunkDecoder::new(chunking.clone(), SECRET);
            assert_eq!(run(&mut decoder, &body, step).unwrap().len(), 66_560);
        }
        let mut changed = body.clone();
        changed[70_000 - 4_000] ^= 1;
        assert_eq!(
            run(&mut ChunkDecoder::new(chunking.clone(), SECRET), &changed, 4096),
            Err(BodyFault::ChunkSignature)
        );
        assert_eq!(run(&mut ChunkDecoder::new(chunking, "other"), &body, 4096), Err(BodyFault::ChunkSignature));
    }
}

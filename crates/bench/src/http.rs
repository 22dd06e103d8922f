//! HTTP/1.1 over one kept-alive connection: as little work per request as can be.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Bodies up to this many bytes are sent together with the head, in one write.
const JOINED_LEN_MAX: usize = 64 * 1024;
/// Bytes that are read at once.
const READ_LEN: usize = 256 * 1024;
/// Bytes of a response's head.
const HEAD_LEN_MAX: usize = 64 * 1024;

/// What a response's head says, as far as anybody here wants to know.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Head {
    /// The status.
    pub status: u16,
    /// `ETag`, with its quotes.
    pub etag: Option<String>,
    length: Length,
    closes: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Length {
    /// `Content-Length`, or no body at all.
    Known(usize),
    Chunked,
    /// Up to the end of the connection.
    #[default]
    Unknown,
}

/// A connection. After an error, or when [`Connection::is_usable`] says so, it must be dropped.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that were read and not yet used: from `start` to its end.
    start: usize,
    usable: bool,
}

impl Connection {
    /// Connects to `host:port`.
    pub async fn open(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(READ_LEN), start: 0, usable: true })
    }

    /// Whether another request may be sent.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.usable
    }

    /// Sends a request whose head is in `head`, and reads the answer; `take` gets the pieces of its body. `head` is scratch.
    pub async fn call(
        &mut self,
        head: &mut Vec<u8>,
        body: &[u8],
        is_head: bool,
        take: &mut (dyn FnMut(&[u8]) + Send),
    ) -> io::Result<Head> {
        // Stays false if this is given up in the middle.
        self.usable = false;
        if body.len() <= JOINED_LEN_MAX {
            head.extend_from_slice(body);
            self.stream.write_all(head).await?;
        } else {
            self.stream.write_all(head).await?;
            self.stream.write_all(body).await?;
        }
        let mut answer = self.read_head().await?;
        if is_head || matches!(answer.status, 204 | 304) {
            answer.length = Length::Known(0);
        }
        match answer.length {
            Length::Known(len) => self.read_exactly(len, take).await?,
            Length::Chunked => self.read_chunks(take).await?,
            Length::Unknown => self.read_to_end(take).await?,
        }
        self.usable = !answer.closes && answer.length != Length::Unknown;
        Ok(answer)
    }

    async fn read_head(&mut self) -> io::Result<Head> {
        loop {
            if let Some((head, len)) = parse_head(&self.buffer[self.start..])? {
                self.start += len;
                if head.status >= 200 {
                    return Ok(head);
                }
                continue;
            }
            if self.buffer.len() - self.start > HEAD_LEN_MAX {
                return Err(invalid("a response head without end"));
            }
            self.read_more().await?;
        }
    }

    /// Reads something; an end of the connection is an error.
    async fn read_more(&mut self) -> io::Result<()> {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        } else if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.reserve(READ_LEN);
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    async fn read_exactly(&mut self, mut len: usize, take: &mut (dyn FnMut(&[u8]) + Send)) -> io::Result<()> {
        while len > 0 {
            if self.start == self.buffer.len() {
                self.read_more().await?;
            }
            let piece = &self.buffer[self.start..];
            let piece = &piece[..piece.len().min(len)];
            take(piece);
            len -= piece.len();
            self.start += piece.len();
        }
        Ok(())
    }

    async fn read_line(&mut self) -> io::Result<String> {
        loop {
            let unread = &self.buffer[self.start..];
            if let Some(at) = unread.windows(2).position(|pair| pair == b"\r\n") {
                let line = String::from_utf8_lossy(&unread[..at]).into_owned();
                self.start += at + 2;
                return Ok(line);
            }
            if unread.len() > HEAD_LEN_MAX {
                return Err(invalid("a line without end"));
            }
            self.read_more().await?;
        }
    }

    async fn read_chunks(&mut self, take: &mut (dyn FnMut(&[u8]) + Send)) -> io::Result<()> {
        loop {
            let line = self.read_line().await?;
            let digits = line.split(';').next().unwrap_or_default().trim();
            let len = usize::from_str_radix(digits, 16).map_err(|_| invalid("a malformed chunk length"))?;
            if len == 0 {
                while !self.read_line().await?.is_empty() {}
                return Ok(());
            }
            self.read_exactly(len, take).await?;
            self.read_line().await?;
        }
    }

    async fn read_to_end(&mut self, take: &mut (dyn FnMut(&[u8]) + Send)) -> io::Result<()> {
        loop {
            take(&self.buffer[self.start..]);
            self.start = self.buffer.len();
            match self.read_more().await {
                Ok(()) => {}
                Err(end) if end.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// The head at the beginning of `bytes` and its length, once it is there as a whole.
fn parse_head(bytes: &[u8]) -> io::Result<Option<(Head, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let len = match response.parse(bytes) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(invalid(&error.to_string())),
    };
    let mut head = Head { status: response.code.unwrap_or_default(), ..Head::default() };
    for header in response.headers.iter() {
        let value = String::from_utf8_lossy(header.value);
        if header.name.eq_ignore_ascii_case("content-length") {
            head.length = Length::Known(value.trim().parse().map_err(|_| invalid("a malformed content-length"))?);
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            head.length = Length::Chunked;
        } else if header.name.eq_ignore_ascii_case("etag") {
            head.etag = Some(value.into_owned());
        } else if header.name.eq_ignore_ascii_case("connection") {
            head.closes = value.eq_ignore_ascii_case("close");
        }
    }
    Ok(Some((head, len)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Serves the same bytes to one connection, in pieces, however often it asks.
    async fn answers(pieces: &'static [&'static [u8]]) -> Connection {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut request = [0; 4];
            while stream.read_exact(&mut request).await.is_ok() {
                for piece in pieces {
                    stream.write_all(piece).await.expect("the client reads");
                    stream.flush().await.expect("the client reads");
                }
            }
        });
        Connection::open(&address).await.expect("a server")
    }

    async fn body_of(connection: &mut Connection) -> (Head, Vec<u8>) {
        let mut body = Vec::new();
        let head = connection.call(&mut b"ask!".to_vec(), b"", false, &mut |piece| body.extend_from_slice(piece)).await;
        (head.expect("an answer"), body)
    }

    #[tokio::test]
    async fn reads_bodies_of_known_length_and_in_chunks() {
        let mut known = answers(&[
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nETag: \"x\"\r\ncontent-le",
            b"ngth: 5\r\n\r\nhel",
            b"lo",
        ])
        .await;
        for _ in 0..3 {
            let (head, body) = body_of(&mut known).await;
            assert_eq!((head.status, head.etag.as_deref(), body.as_slice()), (200, Some("\"x\""), &b"hello"[..]));
            assert!(known.is_usable());
        }
        let mut chunked = answers(&[
            b"HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r",
            b"\n2;x=y\r\nlo\r\n0\r\n\r\n",
        ])
        .await;
        for _ in 0..3 {
            let (head, body) = body_of(&mut chunked).await;
            assert_eq!((head.status, body.as_slice()), (404, &b"hello"[..]));
        }
    }

    #[tokio::test]
    async fn a_closed_connection_is_not_used_again() {
        let mut closing = answers(&[b"HTTP/1.1 204 No\r\nConnection: close\r\n\r\n"]).await;
        assert_eq!(body_of(&mut closing).await.0.status, 204);
        assert!(!closing.is_usable());
    }
}

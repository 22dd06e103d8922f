//! The few S3 requests that load and crash tests make.

use std::io;

use crate::http::{Connection, Head};
use crate::sign::{Payload, Request, Signer};

/// Where a server is and who asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// `host:port`, plain HTTP.
    pub address: String,
    /// The access key id.
    pub access_key: String,
    /// Its secret.
    pub secret_key: String,
    /// Whether bodies are signed.
    pub payload: Payload,
}

/// An answer with its body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// `ETag`, with its quotes.
    pub etag: Option<String>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// Whether the status is 2xx.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The text of the first XML element of this name in the body. Good for what S3 answers; no XML parser.
    #[must_use]
    pub fn element(&self, name: &str) -> Option<String> {
        elements(&String::from_utf8_lossy(&self.body), name).next().map(str::to_owned)
    }
}

/// The texts of all XML elements of this name, as they stand there.
pub fn elements<'a>(xml: &'a str, name: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut rest = xml;
    std::iter::from_fn(move || {
        let start = rest.find(&open)? + open.len();
        let end = start + rest[start..].find(&close)?;
        let found = &rest[start..end];
        rest = &rest[end..];
        Some(found)
    })
}

/// A client: one connection, opened when it is needed, opened anew after an error.
#[derive(Debug)]
pub struct Client {
    address: String,
    signer: Signer,
    connection: Option<Connection>,
    head: Vec<u8>,
}

impl Client {
    /// A client of a server. Nothing is sent yet.
    #[must_use]
    pub fn new(target: &Target) -> Self {
        Self {
            address: target.address.clone(),
            signer: Signer::new(&target.address, &target.access_key, &target.secret_key, target.payload),
            connection: None,
            head: Vec::new(),
        }
    }

    /// Sends a request; `take` gets the pieces of the answer's body. An error says nothing about whether it took effect.
    pub async fn send(&mut self, request: &Request<'_>, take: &mut (dyn FnMut(&[u8]) + Send)) -> io::Result<Head> {
        let mut connection = match self.connection.take().filter(Connection::is_usable) {
            Some(connection) => connection,
            None => Connection::open(&self.address).await?,
        };
        self.head.clear();
        self.signer.write_head(request, &mut self.head);
        let head = connection.call(&mut self.head, request.body, request.method == "HEAD", take).await?;
        self.connection = Some(connection);
        Ok(head)
    }

    /// Sends a request and collects the answer.
    pub async fn ask(&mut self, request: &Request<'_>) -> io::Result<Answer> {
        let mut body = Vec::new();
        let head = self.send(request, &mut |piece| body.extend_from_slice(piece)).await?;
        Ok(Answer { status: head.status, etag: head.etag, body })
    }

    /// Makes a bucket; one that is already there is fine.
    pub async fn create_bucket(&mut self, bucket: &str) -> io::Result<()> {
        let path = format!("/{bucket}");
        let answer = self.ask(&Request { method: "PUT", path: &path, query: "", headers: &[], body: b"" }).await?;
        if answer.is_success() || answer.status == 409 {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&answer.body).into_owned();
        Err(io::Error::other(format!("the bucket was not made: {} {said}", answer.status)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_elements() {
        let xml = "<A><Key>one</Key><Size>1</Size><Key>two</Key><Key>cut";
        assert_eq!(elements(xml, "Key").collect::<Vec<_>>(), ["one", "two"]);
        assert_eq!(elements(xml, "Nothing").next(), None);
    }
}

//! What bad input gets: each a clear error with its S3 code, and nothing half-written.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::client::{Payload, parse_answer, read_answer, send_raw};
use crate::server::Server;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_credentials_and_dates() {
    let (server, client) = Server::with_bucket().await;
    let other = client.with_credentials("AKTEST", "wrong-secret");
    other.put("/bkt/k").body("x").send().await.expect_error(403, "SignatureDoesNotMatch");
    let unknown = client.with_credentials("AKNOBODY", "wrong-secret");
    unknown.get("/bkt/k").send().await.expect_error(403, "InvalidAccessKeyId");
    client.put("/bkt/k").anonymous().body("x").send().await.expect_error(403, "AccessDenied");
    for skew in [-1000, 1000] {
        client.put("/bkt/k").skewed(skew).body("x").send().await.expect_error(403, "RequestTimeTooSkewed");
    }
    client.put("/bkt/fine").skewed(-600).body("x").send().await.expect_status(200);
    let v2 = client.get("/bkt/k").anonymous().header("authorization", "AWS AKTEST:c2lnbmF0dXJl");
    v2.send().await.expect_error(400, "InvalidRequest");
    let v2 = client.get("/bkt/k?AWSAccessKeyId=AKTEST&Expires=4000000000&Signature=c2ln").anonymous();
    v2.send().await.expect_error(400, "InvalidRequest");
    let broken = client.get("/bkt/k").anonymous().header("authorization", "AWS4-HMAC-SHA256 nonsense");
    broken.send().await.expect_error(400, "AuthorizationHeaderMalformed");
    let unsigned = client.put("/bkt/k").unsigned_header("x-amz-meta-a", "1").body("x");
    unsigned.send().await.expect_error(403, "AccessDenied");
    let token = client.get("/bkt/k").header("x-amz-security-token", "t");
    token.send().await.expect_error(400, "InvalidToken");
    client.get("/bkt/k").send().await.expect_error(404, "NoSuchKey");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_of_names_metadata_and_lengths() {
    let (server, client) = Server::with_bucket().await;
    let longest = "k".repeat(1024);
    client.put(&format!("/bkt/{longest}")).body("x").send().await.expect_status(200);
    client.get(&format!("/bkt/{longest}")).send().await.expect_status(200);
    client.put(&format!("/bkt/{longest}k")).body("x").send().await.expect_error(400, "KeyTooLongError");
    let meta = |len: usize| client.put("/bkt/k").header("x-amz-meta-a", "v".repeat(len)).body("x").send();
    meta(2047).await.expect_status(200);
    meta(2048).await.expect_error(400, "MetadataTooLarge");
    let huge = client.put("/bkt/k").header("content-length", (5_u64 * 1024 * 1024 * 1024 + 1).to_string());
    huge.payload(Payload::Unsigned).wire_body("").send().await.expect_error(400, "EntityTooLarge");
    for (name, value) in [
        ("x-amz-server-side-encryption", "AES256"),
        ("x-amz-server-side-encryption", "aws:kms"),
        ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
        ("x-amz-acl", "public-read"),
        ("x-amz-tagging", "a=b"),
        ("x-amz-storage-class", "GLACIER"),
        ("x-amz-object-lock-mode", "GOVERNANCE"),
        ("x-entangle-wait", "witnessed"),
    ] {
        let put = client.put("/bkt/refused").header(name, value).body("x");
        put.send().await.expect_error(501, "NotImplemented");
    }
    let put = client.put("/bkt/refused").header("x-entangle-wait", "sometimes").body("x");
    put.send().await.expect_error(400, "InvalidArgument");
    client.get("/bkt/refused").send().await.expect_error(404, "NoSuchKey");
    let form = client.post("/bkt").header("content-type", "multipart/form-data; boundary=x").body("--x--");
    form.send().await.expect_error(501, "NotImplemented");
    client.post("/bkt/k?select&select-type=2").body("<x/>").send().await.expect_status(400);
    client.get("/bkt/%FF").send().await.expect_error(404, "NoSuchKey");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn short_bodies() {
    let (server, client) = Server::with_bucket().await;
    // The client closes its side before the body is complete: inline, placed, chunked.
    for (len, payload) in
        [(1000, Payload::Unsigned), (1_000_000, Payload::Unsigned), (1_000_000, Payload::SignedChunks(None))]
    {
        let put = client.put("/bkt/k").body(vec![b'x'; len]).payload(payload);
        let mut wire = put.into_wire();
        wire.truncate(wire.len() - 10);
        let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
        stream.write_all(&wire).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        if !answer.is_empty() {
            parse_answer(&answer, "PUT").expect_error(400, "IncompleteBody");
        }
    }
    // A decoded length that is not that of the chunks.
    let put = client.put("/bkt/k").body("hello").payload(Payload::SignedChunks(None));
    let chunked = put.clone().into_wire();
    let body = chunked.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    let longer = client
        .put("/bkt/k")
        .body("hello, longer")
        .payload(Payload::UnsignedTrailer("x-amz-checksum-crc32", "NhCmhg==".to_owned()));
    let short = "5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n";
    longer
        .header("content-length", short.len().to_string())
        .wire_body(short)
        .send()
        .await
        .expect_error(400, "IncompleteBody");
    let malformed = put.header("content-length", "12").wire_body("5\r\nhello\r\n0\n");
    malformed.send().await.expect_error(400, "InvalidRequest");
    assert!(body < chunked.len());
    client.get("/bkt/k").send().await.expect_error(404, "NoSuchKey");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled_bodies() {
    let server = Server::start_with(|config| config.body_idle_timeout = Duration::from_millis(300)).await;
    let client = server.client();
    client.put("/bkt").send().await.expect_status(200);
    for request in [
        client.put("/bkt/k").body(vec![b'x'; 1000]).payload(Payload::Unsigned).wire_body("only this"),
        client.put("/bkt/k").body(vec![b'x'; 1_000_000]).wire_body("only this"),
        client.post("/bkt?delete").body(vec![b'x'; 1000]).wire_body("<Delete>"),
    ] {
        let (mut stream, method) = request.open().await;
        read_answer(&mut stream, &method).await.expect_error(400, "RequestTimeout");
    }
    client.get("/bkt/k").send().await.expect_error(404, "NoSuchKey");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_body_does_not_hide_the_answer() {
    let (server, client) = Server::with_bucket().await;
    let body = vec![b'x'; 8 * 1024 * 1024];
    let unknown = client.with_credentials("AKNOBODY", "wrong-secret");
    unknown.put("/bkt/k").body(body.clone()).send().await.expect_error(403, "InvalidAccessKeyId");
    client.put("/none/k").body(body.clone()).send().await.expect_error(404, "NoSuchBucket");
    client.put("/bkt/k").header("x-amz-acl", "public-read").body(body).send().await.expect_error(501, "NotImplemented");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expect_100_continue() {
    let (server, client) = Server::with_bucket().await;
    let head = |target: &str, client: &crate::client::Client| {
        client.put(target).header("expect", "100-continue").body("hello").wire_body("").open()
    };
    // Refused by its head: no 100, the body is never asked for, the connection is closed.
    let unknown = client.with_credentials("AKNOBODY", "wrong-secret");
    let (mut stream, method) = head("/bkt/k", &unknown).await;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(!answer.starts_with(b"HTTP/1.1 100"), "{:?}", String::from_utf8_lossy(&answer));
    parse_answer(&answer, &method).expect_error(403, "InvalidAccessKeyId");
    let (mut stream, method) = head("/none/k", &client).await;
    read_answer(&mut stream, &method).await.expect_error(404, "NoSuchBucket");
    // Accepted: 100 first, then the body.
    let (mut stream, method) = head("/bkt/k", &client).await;
    let mut go = [0; 25];
    stream.read_exact(&mut go).await.unwrap();
    assert_eq!(&go, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"hello").await.unwrap();
    read_answer(&mut stream, &method).await.expect_status(200);
    assert_eq!(client.get("/bkt/k").send().await.text(), "hello");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_requests() {
    let (server, client) = Server::with_bucket().await;
    client.request("PATCH", "/bkt/k").send().await.expect_error(501, "NotImplemented");
    client.post("/").send().await.expect_error(501, "NotImplemented");
    client.get("/bkt/k?torrent").send().await.expect_error(501, "NotImplemented");
    for wire in [
        "GET /%FF%FE HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        "GET /bkt/%zz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    ] {
        let answer = send_raw(server.address, wire.as_bytes(), "GET").await;
        assert!(matches!(answer.status, 400 | 403), "{wire}: {}", answer.text());
    }
    let large = client.post("/bkt?delete").body(vec![b' '; 9 * 1024 * 1024]).send().await;
    large.expect_error(400, "MaxMessageLengthExceeded");
    // The connection stays usable after a refusal with a small body.
    let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let first = client.put("/none/k").header("connection", "keep-alive").body("x").into_wire();
    stream.write_all(&first).await.unwrap();
    let mut buffer = vec![0; 4096];
    let len = stream.read(&mut buffer).await.unwrap();
    assert!(buffer[..len].starts_with(b"HTTP/1.1 404"));
    stream.write_all(&client.put("/bkt/k").body("x").into_wire()).await.unwrap();
    read_answer(&mut stream, "PUT").await.expect_status(200);
    server.stop().await;
}

//! How bodies travel and what vouches for them: checksums, aws-chunked, trailers, presigned URLs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::client::Payload;
use crate::server::Server;

/// Of `hello`.
const CHECKSUMS: [(&str, &str); 5] = [
    ("x-amz-checksum-crc32", "NhCmhg=="),
    ("x-amz-checksum-crc32c", "mnG7TA=="),
    ("x-amz-checksum-crc64nvme", "M3eFcAZSQlc="),
    ("x-amz-checksum-sha1", "qvTGHdzF6KLavt4PO0gs2a6pQ00="),
    ("x-amz-checksum-sha256", "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ="),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checksums_in_headers_and_trailers() {
    let (server, client) = Server::with_bucket().await;
    for (name, value) in CHECKSUMS {
        let algorithm = name.rsplit('-').next().unwrap().to_uppercase();
        let head = || client.put("/bkt/k").header("x-amz-sdk-checksum-algorithm", algorithm.clone()).body("hello");
        let trailing = |value: &str| head().payload(Payload::UnsignedTrailer(leak(name), value.to_owned()));
        let signed = |value: &str| head().payload(Payload::SignedChunks(Some((leak(name), value.to_owned()))));
        for put in [head().header(name, value), trailing(value), signed(value)] {
            client.delete("/bkt/k").send().await.expect_status(204);
            let put = put.send().await.expect_status(200);
            assert_eq!(put.header(name), value);
            let got = client.get("/bkt/k").header("x-amz-checksum-mode", "ENABLED").send().await.expect_status(200);
            assert_eq!((got.text().as_str(), got.header(name)), ("hello", value));
            assert_eq!(got.header("content-encoding"), "", "aws-chunked is not kept");
        }
        // One bit off: refused, and nothing is stored.
        let mut wrong = BASE64.decode(value).unwrap();
        wrong[0] ^= 1;
        let wrong = BASE64.encode(wrong);
        client.delete("/bkt/k").send().await.expect_status(204);
        head().header(name, wrong.clone()).send().await.expect_error(400, "BadDigest");
        trailing(&wrong).send().await.expect_error(400, "BadDigest");
        signed(&wrong).send().await.expect_error(400, "BadDigest");
        trailing("nonsense").send().await.expect_error(400, "InvalidRequest");
        head().header(name, "nonsense").send().await.expect_error(400, "InvalidRequest");
        client.get("/bkt/k").send().await.expect_error(404, "NoSuchKey");
    }
    server.stop().await;
}

fn leak(text: &str) -> &'static str {
    CHECKSUMS.iter().map(|(name, _)| *name).find(|name| *name == text).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_chunked_bodies_in_chunks_of_any_size() {
    let (server, client) = Server::with_bucket().await;
    let body: Vec<u8> = (0..6_000_000_u32).map(|i| (i * 31 % 253) as u8).collect();
    // One chunk for all of it, as some SDKs send: it must stream.
    for chunk_len in [8 * 1024, 1024 * 1024, body.len()] {
        let put = client.put("/bkt/signed").body(body.clone()).chunk_len(chunk_len);
        put.payload(Payload::SignedChunks(None)).send().await.expect_status(200);
        assert!(client.get("/bkt/signed").send().await.body == body, "{chunk_len}");
    }
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, &body).to_be_bytes();
    let trailer = Payload::UnsignedTrailer("x-amz-checksum-crc32", BASE64.encode(&crc[4..]));
    let put = client.put("/bkt/trailer").body(body.clone()).payload(trailer.clone());
    put.send().await.expect_status(200);
    assert!(client.get("/bkt/trailer").send().await.body == body);

    // A byte changed on the way: the chunk's signature, or the checksum, finds it; nothing is stored.
    let changed = |request: crate::client::Request| {
        let mut wire = request.into_wire();
        let at = wire.len() - 1_000_000;
        wire[at] ^= 1;
        wire
    };
    let request = client.put("/bkt/changed").body(body.clone()).payload(Payload::SignedChunks(None));
    let answer = crate::client::send_raw(server.address, &changed(request), "PUT").await;
    answer.expect_error(403, "SignatureDoesNotMatch");
    let request = client.put("/bkt/changed").body(body).payload(trailer);
    let answer = crate::client::send_raw(server.address, &changed(request), "PUT").await;
    answer.expect_error(400, "BadDigest");
    client.get("/bkt/changed").send().await.expect_error(404, "NoSuchKey");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_md5_and_payload_hash() {
    let (server, client) = Server::with_bucket().await;
    for len in [5, 300_000] {
        let body = vec![b'x'; len];
        let good = BASE64.encode(md5(&body));
        client.put("/bkt/k").header("content-md5", good.clone()).body(body.clone()).send().await.expect_status(200);
        client.delete("/bkt/k").send().await.expect_status(204);
        let other = vec![b'y'; len];
        let put = client.put("/bkt/k").header("content-md5", good).body(other.clone());
        put.send().await.expect_error(400, "BadDigest");
        // Signed for one body, sent with another.
        let put = client.put("/bkt/k").body(body).wire_body(other);
        put.send().await.expect_error(400, "XAmzContentSHA256Mismatch");
        client.put("/bkt/k").header("content-md5", "AAAA").body("x").send().await.expect_error(400, "InvalidDigest");
        client.get("/bkt/k").send().await.expect_error(404, "NoSuchKey");
    }
    // The same for documents.
    let delete = "<Delete><Object><Key>k</Key></Object></Delete>";
    let md5_of_other = BASE64.encode(md5(b"other"));
    let post = || client.post("/bkt?delete").body(delete);
    post().header("content-md5", md5_of_other).send().await.expect_error(400, "BadDigest");
    post().header("content-md5", BASE64.encode(md5(delete.as_bytes()))).send().await.expect_status(200);
    post().header("x-amz-checksum-crc32", "AAAAAA==").send().await.expect_error(400, "BadDigest");
    let other = "<Delete><Object><Key>x</Key></Object></Delete>";
    post().wire_body(other).send().await.expect_error(400, "XAmzContentSHA256Mismatch");
    server.stop().await;
}

fn md5(bytes: &[u8]) -> [u8; 16] {
    use md5::Digest as _;
    md5::Md5::digest(bytes).into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn presigned_urls() {
    let (server, client) = Server::with_bucket().await;
    client.put("/bkt/k").body("hello").send_presigned(600, &[]).await.expect_status(200);
    assert_eq!(client.get("/bkt/k").send_presigned(604_800, &[]).await.expect_status(200).text(), "hello");
    let too_long = client.get("/bkt/k").send_presigned(604_801, &[]).await;
    too_long.expect_error(400, "AuthorizationQueryParametersError");
    client.get("/bkt/k").skewed(-700).send_presigned(600, &[]).await.expect_error(403, "AccessDenied");
    client.get("/bkt/k").skewed(1000).send_presigned(600, &[]).await.expect_error(403, "RequestTimeTooSkewed");
    let mut wire = client.get("/bkt/k").into_presigned_wire(600, &[]);
    let at = wire.windows(3).position(|window| window == b"/k?").unwrap() + 1;
    wire[at] = b'j';
    let other = crate::client::send_raw(server.address, &wire, "GET").await;
    other.expect_error(403, "SignatureDoesNotMatch");
    // Whoever holds a URL to put an object must not be able to copy another one with it.
    client.put("/bkt/secret").body("secret").send().await.expect_status(200);
    let smuggled = client.put("/bkt/mine").send_presigned(600, &[("x-amz-copy-source", "/bkt/secret")]).await;
    smuggled.expect_error(403, "AccessDenied");
    // A payload hash may be given unsigned, and is checked.
    let hash = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    let put = client.put("/bkt/k2").body("hello");
    put.send_presigned(600, &[("x-amz-content-sha256", hash)]).await.expect_status(200);
    let put = client.put("/bkt/k3").body("hellx");
    let wrong = put.send_presigned(600, &[("x-amz-content-sha256", hash)]).await;
    wrong.expect_error(400, "XAmzContentSHA256Mismatch");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unsigned_payload() {
    let (server, client) = Server::with_bucket().await;
    client.put("/bkt/k").body("hello").payload(Payload::Unsigned).send().await.expect_status(200);
    let chunked = client.put("/bkt/k").payload(Payload::Unsigned).header("transfer-encoding", "chunked");
    chunked.wire_body("5\r\nhello\r\n0\r\n\r\n").send().await.expect_error(411, "MissingContentLength");
    let claim = client.put("/bkt/k").body("hello").payload(Payload::Claim("nonsense".to_owned()));
    claim.send().await.expect_error(400, "InvalidArgument");
    server.stop().await;
}

//! Put, get, head, delete, copy: bytes, headers, ranges, conditions.

use crate::server::Server;

const MD5_HELLO: &str = "\"5d41402abc4b2a76b9719d911017c592\"";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_comes_back_as_it_was_put() {
    let (server, client) = Server::with_bucket().await;
    let put = client
        .put("/bkt/dir/key with + and ü")
        .header("content-type", "text/plain")
        .header("cache-control", "max-age=60")
        .header("content-disposition", "attachment; filename=x")
        .header("content-language", "de")
        .header("content-encoding", "br")
        .header("expires", "Wed, 21 Oct 2037 07:28:00 GMT")
        .header("x-amz-meta-color", "blue")
        .header("x-amz-website-redirect-location", "/elsewhere")
        .body("hello")
        .send()
        .await
        .expect_status(200);
    assert_eq!(put.header("etag"), MD5_HELLO);
    assert_eq!(put.header("x-amz-version-id"), "");
    assert_eq!(put.header("x-amz-checksum-crc64nvme"), "M3eFcAZSQlc=");
    assert!(put.header("x-entangle-receipt").len() > 400, "{:?}", put.headers);
    assert_eq!(put.header("x-entangle-order").len(), 56);
    assert_eq!(put.header("x-amz-request-id").len(), 16);
    for method in ["GET", "HEAD"] {
        let got = client.request(method, "/bkt/dir/key with + and ü").send().await.expect_status(200);
        assert_eq!(got.text(), if method == "GET" { "hello" } else { "" });
        for (name, value) in [
            ("content-length", "5"),
            ("etag", MD5_HELLO),
            ("content-type", "text/plain"),
            ("cache-control", "max-age=60"),
            ("content-disposition", "attachment; filename=x"),
            ("content-language", "de"),
            ("content-encoding", "br"),
            ("expires", "Wed, 21 Oct 2037 07:28:00 GMT"),
            ("x-amz-meta-color", "blue"),
            ("x-amz-website-redirect-location", "/elsewhere"),
            ("accept-ranges", "bytes"),
            ("x-amz-version-id", ""),
            ("x-amz-checksum-crc64nvme", ""),
            ("server", "Entangle"),
        ] {
            assert_eq!(got.header(name), value, "{method} {name}");
        }
        assert!(got.header("last-modified").ends_with(" GMT"));
    }
    let checked = client.get("/bkt/dir/key with + and ü").header("x-amz-checksum-mode", "ENABLED").send().await;
    assert_eq!(checked.header("x-amz-checksum-crc64nvme"), "M3eFcAZSQlc=");
    assert_eq!(checked.header("x-amz-checksum-type"), "FULL_OBJECT");
    client.delete("/bkt/dir/key with + and ü").send().await.expect_status(204);
    client.get("/bkt/dir/key with + and ü").send().await.expect_error(404, "NoSuchKey");
    client.delete("/bkt/dir/key with + and ü").send().await.expect_status(204);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_of_all_sizes_and_their_ranges() {
    let (server, client) = Server::with_bucket().await;
    const MIB: usize = 1024 * 1024;
    for len in [0, 1, 1024, 128 * 1024, 128 * 1024 + 1, 4 * MIB, 9 * MIB + 17] {
        let body: Vec<u8> = (0..len).map(|i| u8::try_from(i * 7 % 251).unwrap()).collect();
        let put = client.put("/bkt/k").body(body.clone()).send().await.expect_status(200);
        let got = client.get("/bkt/k").send().await.expect_status(200);
        assert!(got.body == body, "{len} bytes");
        assert_eq!(got.header("etag"), put.header("etag"));
        assert_eq!(got.header("content-type"), "binary/octet-stream");
        if len < 1024 {
            continue;
        }
        let last = len - 1;
        for (range, from, to) in [
            ("bytes=0-0".to_owned(), 0, 1),
            ("bytes=5-99".to_owned(), 5, 100),
            (format!("bytes={}-", len - 3), len - 3, len),
            ("bytes=-7".to_owned(), len - 7, len),
            (format!("bytes=1-{}", len * 2), 1, len),
            (format!("bytes=-{}", len * 2), 0, len),
            (format!("bytes={}-{last}", len / 2), len / 2, len),
        ] {
            let part = client.get("/bkt/k").header("range", range.clone()).send().await.expect_status(206);
            assert!(part.body == body[from..to], "{len} {range}");
            assert_eq!(part.header("content-range"), format!("bytes {from}-{}/{len}", to - 1));
            assert_eq!(part.header("content-length"), (to - from).to_string());
            let head = client.head("/bkt/k").header("range", range).send().await.expect_status(206);
            assert_eq!(head.header("content-length"), (to - from).to_string());
        }
        let beyond = client.get("/bkt/k").header("range", format!("bytes={len}-")).send().await;
        assert_eq!(beyond.expect_error(416, "InvalidRange").header("content-range"), format!("bytes */{len}"));
        let checked = client.get("/bkt/k").header("range", "bytes=0-1").header("x-amz-checksum-mode", "ENABLED");
        assert_eq!(checked.send().await.header("x-amz-checksum-crc64nvme"), "", "not of a part");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_with_conditions_and_overrides() {
    let (server, client) = Server::with_bucket().await;
    client.put("/bkt/k").body("hello").send().await.expect_status(200);
    let past = "Wed, 21 Oct 2015 07:28:00 GMT";
    let future = "Wed, 21 Oct 2037 07:28:00 GMT";
    for (name, value, status) in [
        ("if-match", MD5_HELLO, 200),
        ("if-match", "*", 200),
        ("if-match", "\"other\"", 412),
        ("if-match", "\"other\", \"5d41402abc4b2a76b9719d911017c592\"", 200),
        ("if-none-match", MD5_HELLO, 304),
        ("if-none-match", "W/\"5d41402abc4b2a76b9719d911017c592\"", 304),
        ("if-none-match", "\"other\"", 200),
        ("if-modified-since", past, 200),
        ("if-modified-since", future, 304),
        ("if-unmodified-since", past, 412),
        ("if-unmodified-since", future, 200),
    ] {
        for method in ["GET", "HEAD"] {
            let answer = client.request(method, "/bkt/k").header(name, value).send().await;
            assert_eq!(answer.status, status, "{method} {name}: {value}");
            if status == 304 {
                assert_eq!((answer.header("etag"), answer.text().as_str()), (MD5_HELLO, ""));
                assert!(!answer.header("last-modified").is_empty());
            }
        }
    }
    let both = client.get("/bkt/k").header("if-match", MD5_HELLO).header("if-unmodified-since", past);
    both.send().await.expect_status(200);
    for method in ["GET", "HEAD"] {
        let answer = client
            .request(method, "/bkt/k?response-content-type=text/html&response-cache-control=no-store")
            .query("response-content-disposition", "attachment; filename=\"a b\"")
            .query("response-content-language", "fr")
            .query("response-content-encoding", "gzip")
            .query("response-expires", future)
            .send()
            .await
            .expect_status(200);
        for (name, value) in [
            ("content-type", "text/html"),
            ("cache-control", "no-store"),
            ("content-disposition", "attachment; filename=\"a b\""),
            ("content-language", "fr"),
            ("content-encoding", "gzip"),
            ("expires", future),
        ] {
            assert_eq!(answer.header(name), value, "{method}");
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_with_conditions() {
    let (server, client) = Server::with_bucket().await;
    let put = |condition: &'static str, value: String, body: &'static str| {
        client.put("/bkt/k").header(condition, value).body(body).send()
    };
    put("if-match", "*".into(), "x").await.expect_error(404, "NoSuchKey");
    put("if-none-match", "*".into(), "hello").await.expect_status(200);
    let refused = put("if-none-match", "*".into(), "other").await.expect_error(412, "PreconditionFailed");
    assert!(!refused.header("x-entangle-order").is_empty(), "a refusal stands in the ledger too");
    put("if-match", "\"0123\"".into(), "other").await.expect_error(412, "PreconditionFailed");
    assert_eq!(client.get("/bkt/k").send().await.text(), "hello");
    put("if-match", MD5_HELLO.into(), "second").await.expect_status(200);
    assert_eq!(client.get("/bkt/k").send().await.text(), "second");
    let delete = client.delete("/bkt/k").header("if-match", MD5_HELLO).send().await;
    delete.expect_error(412, "PreconditionFailed");
    let tag = client.head("/bkt/k").send().await.header("etag").to_owned();
    client.delete("/bkt/k").header("if-match", tag.clone()).send().await.expect_status(204);
    client.delete("/bkt/k").header("if-match", tag).send().await.expect_error(404, "NoSuchKey");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_with_the_same_invocation_gets_the_first_answer() {
    let (server, client) = Server::with_bucket().await;
    let put = |id: &'static str, body: &'static str| {
        client.put("/bkt/k").header("amz-sdk-invocation-id", id).header("if-none-match", "*").body(body).send()
    };
    let first = put("one", "hello").await.expect_status(200);
    let again = put("one", "hello").await.expect_status(200);
    assert_eq!(again.header("etag"), first.header("etag"));
    put("two", "hello").await.expect_error(412, "PreconditionFailed");
    put("one", "other").await.expect_error(400, "InvalidRequest");
    let unsigned = client.put("/bkt/k").unsigned_header("amz-sdk-invocation-id", "one").header("if-none-match", "*");
    unsigned.body("hello").send().await.expect_error(412, "PreconditionFailed");
    let long = "x".repeat(200);
    let long = client.put("/bkt/k").header("x-entangle-request-id", long).body("hello").send().await;
    long.expect_error(400, "InvalidArgument");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies() {
    let (server, client) = Server::with_bucket().await;
    client.put("/cpy").send().await.expect_status(200);
    let put = client.put("/bkt/from ü").header("x-amz-meta-a", "1").header("content-type", "text/x");
    put.body("hello").send().await.expect_status(200);
    let copy = |to: &str| client.put(to).header("x-amz-copy-source", "/bkt/from%20%C3%BC");
    let copied = copy("/cpy/to").send().await.expect_status(200);
    assert_eq!(copied.element("ETag"), MD5_HELLO);
    assert!(copied.element("LastModified").ends_with('Z'));
    let got = client.get("/cpy/to").send().await;
    assert_eq!((got.text().as_str(), got.header("x-amz-meta-a")), ("hello", "1"));
    let replaced = copy("/cpy/to").header("x-amz-metadata-directive", "REPLACE").header("x-amz-meta-b", "2");
    replaced.send().await.expect_status(200);
    let got = client.get("/cpy/to").send().await;
    assert_eq!((got.header("x-amz-meta-a"), got.header("x-amz-meta-b")), ("", "2"));
    assert_eq!(got.header("content-type"), "binary/octet-stream");
    // Conditions on the source, and on the destination.
    copy("/cpy/x").header("x-amz-copy-source-if-match", "\"no\"").send().await.expect_error(412, "PreconditionFailed");
    copy("/cpy/x").header("x-amz-copy-source-if-match", MD5_HELLO).send().await.expect_status(200);
    copy("/cpy/x").header("x-amz-copy-source-if-none-match", MD5_HELLO).send().await.expect_status(412);
    copy("/cpy/x").header("if-none-match", "*").send().await.expect_error(412, "PreconditionFailed");
    copy("/cpy/new").header("if-none-match", "*").send().await.expect_status(200);
    // Another checksum than the source has.
    let summed = copy("/cpy/summed").header("x-amz-checksum-algorithm", "SHA256").send().await.expect_status(200);
    assert_eq!(summed.element("ChecksumSHA256"), "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=");
    // What cannot be copied.
    copy("/bkt/from ü").send().await.expect_error(400, "InvalidRequest");
    client.put("/cpy/y").header("x-amz-copy-source", "/bkt/none").send().await.expect_error(404, "NoSuchKey");
    client.put("/cpy/y").header("x-amz-copy-source", "/none/k").send().await.expect_error(404, "NoSuchBucket");
    let odd = copy("/cpy/y").header("x-amz-metadata-directive", "MAYBE").send().await;
    odd.expect_error(400, "InvalidArgument");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attributes_acl_and_tagging() {
    let (server, client) = Server::with_bucket().await;
    client.put("/bkt/k").body("hello").send().await.expect_status(200);
    let attributes = |names: &str| client.get("/bkt/k?attributes").header("x-amz-object-attributes", names).send();
    let all = attributes("ETag,Checksum,ObjectParts,StorageClass,ObjectSize").await.expect_status(200);
    assert_eq!(all.element("ETag"), "5d41402abc4b2a76b9719d911017c592");
    assert_eq!(all.element("ObjectSize"), "5");
    assert_eq!(all.element("StorageClass"), "STANDARD");
    assert_eq!(all.element("ChecksumCRC64NVME"), "M3eFcAZSQlc=");
    attributes("Colour").await.expect_error(400, "InvalidArgument");
    let acl = client.get("/bkt/k?acl").send().await.expect_status(200);
    assert_eq!(acl.elements("Permission"), ["FULL_CONTROL"]);
    client.get("/bkt/k?tagging").send().await.expect_status(200);
    client.get("/bkt/none?tagging").send().await.expect_error(404, "NoSuchKey");
    client.put("/bkt/k?tagging").body("<Tagging><TagSet/></Tagging>").send().await.expect_error(501, "NotImplemented");
    client.get("/bkt/k?retention").send().await.expect_error(400, "InvalidRequest");
    server.stop().await;
}

//! Multipart uploads from start to end, and what goes wrong on the way.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::client::{Client, hex};
use crate::server::Server;

const PART: usize = 5 * 1024 * 1024;

fn part(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|i| u8::try_from((i + seed) * 13 % 251).unwrap()).collect()
}

fn md5(bytes: &[u8]) -> [u8; 16] {
    use md5::Digest as _;
    md5::Md5::digest(bytes).into()
}

async fn start(client: &Client, target: &str) -> String {
    let started = client.post(target).query("uploads", "").send().await.expect_status(200);
    started.element("UploadId")
}

fn completion(parts: &[(u16, &str)]) -> String {
    let parts: String = parts
        .iter()
        .map(|(number, tag)| format!("<Part><ETag>{tag}</ETag><PartNumber>{number}</PartNumber></Part>"))
        .collect();
    format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_becomes_an_object() {
    let (server, client) = Server::with_bucket().await;
    let started = client.post("/bkt/k?uploads").header("x-amz-meta-a", "1").header("content-type", "text/x");
    let upload = started.send().await.expect_status(200).element("UploadId");
    let (one, two) = (part(1, PART), part(2, 1000));
    let send = |number: u16, body: Vec<u8>| {
        client.put("/bkt/k").query("partNumber", &number.to_string()).query("uploadId", &upload).body(body).send()
    };
    let first = send(1, one.clone()).await.expect_status(200).header("etag").to_owned();
    assert_eq!(first, format!("\"{}\"", hex(&md5(&one))));
    send(7, part(9, 10)).await.expect_status(200);
    let second = send(7, two.clone()).await.expect_status(200).header("etag").to_owned();
    client.get("/bkt/k").send().await.expect_error(404, "NoSuchKey");

    let listed = client.get("/bkt/k").query("uploadId", &upload).send().await.expect_status(200);
    assert_eq!(listed.elements("PartNumber"), ["1", "7"]);
    assert_eq!(listed.elements("Size"), [PART.to_string(), "1000".to_owned()]);
    let page = client.get("/bkt/k?max-parts=1").query("uploadId", &upload).send().await;
    assert_eq!((page.element("IsTruncated").as_str(), page.element("NextPartNumberMarker").as_str()), ("true", "1"));
    let page = client.get("/bkt/k?max-parts=1&part-number-marker=1").query("uploadId", &upload).send().await;
    assert_eq!((page.elements("PartNumber"), page.element("IsTruncated").as_str()), (vec!["7".to_owned()], "false"));
    let uploads = client.get("/bkt?uploads").send().await.expect_status(200);
    assert_eq!(uploads.elements("UploadId"), std::slice::from_ref(&upload));

    let complete = |parts: String| client.post("/bkt/k").query("uploadId", &upload).body(parts);
    let done = complete(completion(&[(1, &first), (7, &second)])).send().await.expect_status(200);
    let tag = format!("\"{}-2\"", hex(&md5(&[md5(&one), md5(&two)].concat())));
    assert_eq!(done.element("ETag"), tag);
    assert!(done.element("Location").ends_with("/bkt/k"));
    assert!(!done.header("x-entangle-receipt").is_empty());
    let again = complete(completion(&[(1, &first), (7, &second)])).send().await.expect_status(200);
    assert_eq!(again.element("ETag"), tag, "a repeated completion answers the same");

    let whole = [one.clone(), two.clone()].concat();
    let got = client.get("/bkt/k").send().await.expect_status(200);
    assert!(got.body == whole);
    assert_eq!(
        (got.header("etag"), got.header("x-amz-meta-a"), got.header("content-type")),
        (tag.as_str(), "1", "text/x")
    );
    let across = client.get("/bkt/k").header("range", format!("bytes={}-{}", PART - 5, PART + 4)).send().await;
    assert!(across.expect_status(206).body == whole[PART - 5..PART + 5]);
    let by_number = client.get("/bkt/k?partNumber=7").send().await.expect_status(206);
    assert!(by_number.body == two);
    assert_eq!(by_number.header("x-amz-mp-parts-count"), "2");
    assert_eq!(by_number.header("content-range"), format!("bytes {PART}-{}/{}", whole.len() - 1, whole.len()));
    client.get("/bkt/k?partNumber=2").send().await.expect_error(416, "InvalidPartNumber");
    let attributes = client.get("/bkt/k?attributes").header("x-amz-object-attributes", "ObjectParts,ObjectSize");
    let attributes = attributes.send().await.expect_status(200);
    assert_eq!(
        (attributes.element("PartsCount").as_str(), attributes.element("ObjectSize")),
        ("2", whole.len().to_string())
    );
    assert_eq!(client.get("/bkt?uploads").send().await.elements("UploadId").len(), 0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_wrong() {
    let (server, client) = Server::with_bucket().await;
    let upload = start(&client, "/bkt/k").await;
    let small = client.put("/bkt/k?partNumber=1").query("uploadId", &upload).body("small").send().await;
    let small = small.expect_status(200).header("etag").to_owned();
    let last = client.put("/bkt/k?partNumber=2").query("uploadId", &upload).body("last").send().await;
    let last = last.expect_status(200).header("etag").to_owned();
    let complete = |body: String| client.post("/bkt/k").query("uploadId", &upload).body(body).send();
    complete(completion(&[(1, &small), (2, &last)])).await.expect_error(400, "EntityTooSmall");
    complete(completion(&[(2, &last), (1, &small)])).await.expect_error(400, "InvalidPartOrder");
    complete(completion(&[(1, "\"00000000000000000000000000000000\"")])).await.expect_error(400, "InvalidPart");
    complete(completion(&[(3, &last)])).await.expect_error(400, "InvalidPart");
    complete(completion(&[])).await.expect_error(400, "MalformedXML");
    complete("<Complete".to_owned()).await.expect_error(400, "MalformedXML");
    client.get("/bkt/k").send().await.expect_error(404, "NoSuchKey");
    client
        .put("/bkt/k?partNumber=0")
        .query("uploadId", &upload)
        .body("x")
        .send()
        .await
        .expect_error(400, "InvalidArgument");
    let over = client.put("/bkt/k?partNumber=10001").query("uploadId", &upload).body("x").send().await;
    over.expect_error(400, "InvalidArgument");
    for id in ["nonsense", &"0".repeat(56)] {
        let part = client.put("/bkt/k?partNumber=1").query("uploadId", id).body("x").send().await;
        part.expect_error(404, "NoSuchUpload");
        client.get("/bkt/k").query("uploadId", id).send().await.expect_error(404, "NoSuchUpload");
        client.delete("/bkt/k").query("uploadId", id).send().await.expect_error(404, "NoSuchUpload");
    }
    // Conditions are judged at completion.
    client.put("/bkt/k").body("there already").send().await.expect_status(200);
    let conditional = client.post("/bkt/k").query("uploadId", &upload).header("if-none-match", "*");
    conditional.body(completion(&[(1, &small)])).send().await.expect_error(412, "PreconditionFailed");
    client.delete("/bkt/k").query("uploadId", &upload).send().await.expect_status(204);
    complete(completion(&[(1, &small)])).await.expect_error(404, "NoSuchUpload");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checksums_of_parts_and_of_the_whole() {
    let (server, client) = Server::with_bucket().await;
    let crc = |bytes: &[u8]| {
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, bytes).to_be_bytes();
        BASE64.encode(&crc[4..])
    };
    let (one, two) = (part(1, PART), part(2, 1000));
    let whole = [one.clone(), two.clone()].concat();
    for (kind, expected) in [
        ("FULL_OBJECT", crc(&whole)),
        ("COMPOSITE", {
            let parts = [BASE64.decode(crc(&one)).unwrap(), BASE64.decode(crc(&two)).unwrap()].concat();
            format!("{}-2", crc(&parts))
        }),
    ] {
        let started = client.post("/bkt/k?uploads").header("x-amz-checksum-algorithm", "CRC32");
        let started = started.header("x-amz-checksum-type", kind).send().await.expect_status(200);
        assert_eq!(
            (started.header("x-amz-checksum-algorithm"), started.header("x-amz-checksum-type")),
            ("CRC32", kind)
        );
        let upload = started.element("UploadId");
        let mut parts = String::new();
        for (number, body) in [(1, &one), (2, &two)] {
            let put = client.put("/bkt/k").query("partNumber", &number.to_string()).query("uploadId", &upload);
            let stored = put.body(body.clone()).send().await.expect_status(200);
            assert_eq!(stored.header("x-amz-checksum-crc32"), crc(body), "made where the client sends none");
            parts.push_str(&format!(
                "<Part><ETag>{}</ETag><PartNumber>{number}</PartNumber><ChecksumCRC32>{}</ChecksumCRC32></Part>",
                stored.header("etag"),
                crc(body)
            ));
        }
        let other = client
            .put("/bkt/k?partNumber=3")
            .query("uploadId", &upload)
            .header("x-amz-checksum-sha1", "qvTGHdzF6KLavt4PO0gs2a6pQ00=");
        other.body("hello").send().await.expect_error(400, "InvalidRequest");
        let body = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
        let complete = || client.post("/bkt/k").query("uploadId", &upload).body(body.clone());
        if kind == "FULL_OBJECT" {
            let wrong = complete().header("x-amz-checksum-crc32", "AAAAAA==").header("x-amz-checksum-type", kind);
            wrong.send().await.expect_error(400, "BadDigest");
        }
        let done = complete().send().await.expect_status(200);
        assert_eq!((done.element("ChecksumCRC32"), done.element("ChecksumType").as_str()), (expected.clone(), kind));
        let got = client.head("/bkt/k").header("x-amz-checksum-mode", "ENABLED").send().await;
        assert_eq!((got.header("x-amz-checksum-crc32"), got.header("x-amz-checksum-type")), (expected.as_str(), kind));
    }
    for (algorithm, kind) in [("SHA256", "FULL_OBJECT"), ("CRC64NVME", "COMPOSITE")] {
        let start = client.post("/bkt/k?uploads").header("x-amz-checksum-algorithm", algorithm);
        start.header("x-amz-checksum-type", kind).send().await.expect_error(400, "InvalidRequest");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_copied_from_objects() {
    let (server, client) = Server::with_bucket().await;
    let source = part(3, 2 * PART);
    client.put("/bkt/source").body(source.clone()).send().await.expect_status(200);
    let upload = start(&client, "/bkt/k").await;
    let copy = |number: u16| {
        let put = client.put("/bkt/k").query("partNumber", &number.to_string()).query("uploadId", &upload);
        put.header("x-amz-copy-source", "/bkt/source")
    };
    let one =
        copy(1).header("x-amz-copy-source-range", format!("bytes=100-{}", PART + 99)).send().await.expect_status(200);
    let two = copy(2).send().await.expect_status(200);
    let done = client.post("/bkt/k").query("uploadId", &upload);
    let done = done.body(completion(&[(1, &one.element("ETag")), (2, &two.element("ETag"))]));
    done.send().await.expect_status(200);
    assert!(client.get("/bkt/k").send().await.body == [&source[100..PART + 100], &source].concat());
    let upload = start(&client, "/bkt/other").await;
    let copy = |range: String| {
        let put = client.put("/bkt/other?partNumber=1").query("uploadId", &upload);
        put.header("x-amz-copy-source", "/bkt/source").header("x-amz-copy-source-range", range)
    };
    copy("bytes=0-".to_owned()).send().await.expect_error(400, "InvalidArgument");
    copy(format!("bytes=0-{}", 2 * PART)).send().await.expect_error(400, "InvalidArgument");
    let conditional = copy("bytes=0-9".to_owned()).header("x-amz-copy-source-if-match", "\"no\"");
    conditional.send().await.expect_error(412, "PreconditionFailed");
    server.stop().await;
}

//! Versioned and suspended buckets.

use crate::server::Server;

fn versioning(status: &str) -> String {
    format!("<VersioningConfiguration><Status>{status}</Status></VersioningConfiguration>")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_markers_and_null() {
    let (server, client) = Server::with_bucket().await;
    client.put("/bkt/k").body("null one").send().await.expect_status(200);
    assert_eq!(client.get("/bkt?versioning").send().await.element("Status"), "");
    client.put("/bkt?versioning").body(versioning("Sometimes")).send().await.expect_error(400, "MalformedXML");
    client.put("/bkt?versioning").body("<VersioningConfiguration/>").send().await.expect_status(400);
    client.put("/bkt?versioning").body(versioning("Enabled")).send().await.expect_status(200);
    assert_eq!(client.get("/bkt?versioning").send().await.element("Status"), "Enabled");
    let one = client.put("/bkt/k").body("one").send().await.expect_status(200).header("x-amz-version-id").to_owned();
    let two = client.put("/bkt/k").body("two").send().await.expect_status(200).header("x-amz-version-id").to_owned();
    assert!(one.len() == 56 && two.len() == 56 && one < two);
    let read = |version: &str| client.get(&format!("/bkt/k?versionId={version}")).send();
    assert_eq!(client.get("/bkt/k").send().await.header("x-amz-version-id"), two);
    assert_eq!(read(&one).await.text(), "one");
    let null = read("null").await.expect_status(200);
    assert_eq!((null.text().as_str(), null.header("x-amz-version-id")), ("null one", "null"));
    read("nonsense").await.expect_error(400, "InvalidArgument");
    read(&"0".repeat(56)).await.expect_error(404, "NoSuchVersion");

    // A delete marker counts as missing; by its id it may only be deleted.
    let marked = client.delete("/bkt/k").send().await.expect_status(204);
    assert_eq!(marked.header("x-amz-delete-marker"), "true");
    let marker = marked.header("x-amz-version-id").to_owned();
    let gone = client.get("/bkt/k").send().await.expect_error(404, "NoSuchKey");
    assert_eq!((gone.header("x-amz-delete-marker"), gone.header("x-amz-version-id")), ("true", marker.as_str()));
    let by_id = read(&marker).await.expect_error(405, "MethodNotAllowed");
    assert_eq!((by_id.header("allow"), by_id.header("x-amz-delete-marker")), ("DELETE", "true"));
    client.put("/bkt/k").header("if-match", "*").body("x").send().await.expect_error(404, "NoSuchKey");
    let listed = client.get("/bkt?versions").send().await.expect_status(200);
    assert_eq!(listed.elements("VersionId"), [marker.clone(), two.clone(), one.clone(), "null".to_owned()]);
    assert_eq!(listed.elements("IsLatest"), ["true", "false", "false", "false"]);
    let unmarked = client.delete(&format!("/bkt/k?versionId={marker}")).send().await.expect_status(204);
    assert_eq!(
        (unmarked.header("x-amz-delete-marker"), unmarked.header("x-amz-version-id")),
        ("true", marker.as_str())
    );
    assert_eq!(client.get("/bkt/k").send().await.text(), "two");
    let removed = client.delete(&format!("/bkt/k?versionId={two}")).send().await.expect_status(204);
    assert_eq!((removed.header("x-amz-delete-marker"), removed.header("x-amz-version-id")), ("", two.as_str()));
    assert_eq!(client.get("/bkt/k").send().await.text(), "one");

    // Suspended: writes replace the version `null`.
    client.put("/bkt?versioning").body(versioning("Suspended")).send().await.expect_status(200);
    let null = client.put("/bkt/k").body("null two").send().await.expect_status(200);
    assert_eq!(null.header("x-amz-version-id"), "null");
    assert_eq!(client.get("/bkt/k").send().await.header("x-amz-version-id"), "null");
    let listed = client.get("/bkt?versions").send().await;
    assert_eq!(listed.elements("VersionId"), ["null".to_owned(), one.clone()]);
    let copy = client.put("/bkt/copy").header("x-amz-copy-source", format!("bkt/k?versionId={one}")).send().await;
    assert_eq!(copy.expect_status(200).header("x-amz-copy-source-version-id"), one);
    assert_eq!(client.get("/bkt/copy").send().await.text(), "one");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listing_of_versions_pages() {
    let (server, client) = Server::with_bucket().await;
    client.put("/bkt?versioning").body(versioning("Enabled")).send().await.expect_status(200);
    for key in ["a", "a", "b/1", "b/2", "c", "c", "c"] {
        client.put(&format!("/bkt/{key}")).body(key).send().await.expect_status(200);
    }
    let (mut keys, mut key, mut version) = (Vec::new(), String::new(), String::new());
    loop {
        let mut request = client.get("/bkt?versions&max-keys=2&delimiter=/");
        if !key.is_empty() {
            request = request.query("key-marker", &key);
        }
        if !version.is_empty() {
            request = request.query("version-id-marker", &version);
        }
        let page = request.send().await.expect_status(200);
        keys.extend(page.elements("Key"));
        keys.extend(
            page.elements("CommonPrefixes")
                .iter()
                .map(|prefix| prefix.replace("<Prefix>", "").replace("</Prefix>", "")),
        );
        (key, version) = (page.element("NextKeyMarker"), page.element("NextVersionIdMarker"));
        if page.element("IsTruncated") == "false" {
            break;
        }
        assert!(!key.is_empty());
    }
    keys.sort();
    assert_eq!(keys, ["a", "a", "b/", "c", "c", "c"]);
    let lonely = client.get("/bkt?versions&version-id-marker=null").send().await;
    lonely.expect_error(400, "InvalidArgument");
    server.stop().await;
}

//! Listings: pages, prefixes, delimiters, encodings; multi-delete.

use std::collections::BTreeSet;

use crate::client::Client;
use crate::server::Server;

/// All keys and common prefixes that a V2 listing pages through.
async fn all_v2(client: &Client, target: &str) -> (Vec<String>, Vec<String>, usize) {
    let (mut keys, mut prefixes, mut token, mut pages) = (Vec::new(), Vec::new(), String::new(), 0);
    loop {
        let mut request = client.get(target);
        if !token.is_empty() {
            request = request.query("continuation-token", &token);
        }
        let page = request.send().await.expect_status(200);
        pages += 1;
        assert_eq!(
            page.element("KeyCount"),
            (page.elements("Key").len() + page.elements("CommonPrefixes").len()).to_string()
        );
        keys.extend(page.elements("Key"));
        prefixes.extend(
            page.elements("CommonPrefixes").iter().map(|text| text.replace("<Prefix>", "").replace("</Prefix>", "")),
        );
        token = page.element("NextContinuationToken");
        assert_eq!(page.element("IsTruncated"), (!token.is_empty()).to_string());
        if token.is_empty() {
            return (keys, prefixes, pages);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifteen_hundred_keys() {
    let (server, client) = Server::with_bucket().await;
    let mut expected = BTreeSet::new();
    let mut puts = tokio::task::JoinSet::new();
    for i in 0..1500 {
        let key = format!("d{}/{i:04}", i % 3);
        expected.insert(key.clone());
        let put = client.put(&format!("/bkt/{key}")).body("x");
        puts.spawn(put.send());
        while puts.len() >= 32 {
            puts.join_next().await.unwrap().unwrap().expect_status(200);
        }
    }
    while let Some(put) = puts.join_next().await {
        put.unwrap().expect_status(200);
    }
    let expected: Vec<String> = expected.into_iter().collect();
    let (keys, prefixes, pages) = all_v2(&client, "/bkt?list-type=2").await;
    assert_eq!((keys == expected, prefixes.len(), pages), (true, 0, 2));
    let (keys, _, pages) = all_v2(&client, "/bkt?list-type=2&max-keys=400").await;
    assert_eq!((keys == expected, pages), (true, 4));
    let (keys, prefixes, _) = all_v2(&client, "/bkt?list-type=2&delimiter=/").await;
    assert_eq!((keys.len(), prefixes), (0, vec!["d0/".to_owned(), "d1/".to_owned(), "d2/".to_owned()]));
    let (keys, prefixes, pages) = all_v2(&client, "/bkt?list-type=2&delimiter=/&max-keys=1").await;
    assert_eq!((keys.len(), prefixes.len(), pages), (0, 3, 3), "common prefixes count");
    let (keys, _, _) = all_v2(&client, "/bkt?list-type=2&prefix=d1/&delimiter=/&max-keys=333").await;
    assert_eq!(keys.len(), 500);
    let (keys, _, _) = all_v2(&client, "/bkt?list-type=2&start-after=d1/9999").await;
    assert_eq!(keys, expected[1000..]);
    let none = client.get("/bkt?list-type=2&max-keys=0").send().await.expect_status(200);
    assert_eq!((none.elements("Key").len(), none.element("IsTruncated").as_str()), (0, "false"));

    // V1, by marker.
    let (mut v1, mut marker) = (Vec::new(), String::new());
    loop {
        let page = client.get("/bkt?max-keys=700").query("marker", &marker).send().await.expect_status(200);
        v1.extend(page.elements("Key"));
        if page.element("IsTruncated") == "false" {
            break;
        }
        marker = v1.last().unwrap().clone();
    }
    assert!(v1 == expected);

    // Multi-delete, 1,000 at a time.
    for part in expected.chunks(1000) {
        let objects: String = part.iter().map(|key| format!("<Object><Key>{key}</Key></Object>")).collect();
        let delete = client.post("/bkt?delete").body(format!("<Delete>{objects}</Delete>"));
        let deleted = delete.send().await.expect_status(200);
        assert_eq!(deleted.elements("Key").len(), part.len());
        assert_eq!(deleted.elements("Error").len(), 0);
    }
    assert_eq!(all_v2(&client, "/bkt?list-type=2").await.0.len(), 0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_every_kind() {
    let (server, client) = Server::with_bucket().await;
    for key in ["a b+c", "ü/ß", "x<y>&\"z\"", "tab\t", "%41"] {
        client.put(&format!("/bkt/{key}")).body("x").send().await.expect_status(200);
    }
    let encoded = client.get("/bkt?list-type=2&encoding-type=url").send().await.expect_status(200);
    assert_eq!(encoded.elements("Key"), ["%2541", "a%20b%2Bc", "tab%09", "x%3Cy%3E%26%22z%22", "%C3%BC/%C3%9F"]);
    assert_eq!(encoded.element("EncodingType"), "url");
    let plain = client.get("/bkt?list-type=2&prefix=x").send().await;
    assert_eq!(plain.elements("Key"), ["x<y>&\"z\""]);
    let prefix = client.get("/bkt?list-type=2&encoding-type=url&delimiter=/").query("prefix", "ü").send().await;
    assert_eq!(prefix.element("Prefix"), "%C3%BC");
    assert!(prefix.text().contains("<CommonPrefixes><Prefix>%C3%BC/</Prefix></CommonPrefixes>"), "{}", prefix.text());
    let object = client.get("/bkt?list-type=2&prefix=a&fetch-owner=true").send().await;
    assert!(object.element("ETag").starts_with('"'));
    assert_eq!((object.element("Size").as_str(), object.element("StorageClass").as_str()), ("1", "STANDARD"));
    assert_eq!(object.element("DisplayName"), "entangle");
    for (target, code) in [
        ("/bkt?list-type=2&max-keys=-1", "InvalidArgument"),
        ("/bkt?list-type=2&max-keys=x", "InvalidArgument"),
        ("/bkt?list-type=2&continuation-token=x", "InvalidArgument"),
        ("/bkt?list-type=2&encoding-type=rot13", "InvalidArgument"),
    ] {
        client.get(target).send().await.expect_error(400, code);
    }
    client.get("/none?list-type=2").send().await.expect_error(404, "NoSuchBucket");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn multi_delete_item_by_item() {
    let (server, client) = Server::with_bucket().await;
    for key in ["a", "b", "c"] {
        client.put(&format!("/bkt/{key}")).body(key).send().await.expect_status(200);
    }
    let long = "k".repeat(1025);
    let body = format!(
        "<Delete><Object><Key>a</Key></Object><Object><Key>none</Key></Object><Object><Key>b</Key><ETag>\"0123\"</ETag></Object>\
         <Object><Key>{long}</Key></Object><Object><Key>c</Key><VersionId>bad</VersionId></Object></Delete>"
    );
    let answer = client.post("/bkt?delete").body(body).send().await.expect_status(200);
    assert_eq!(answer.elements("Deleted").len(), 2, "{}", answer.text());
    let mut codes = answer.elements("Code");
    codes.sort();
    assert_eq!(codes, ["KeyTooLongError", "NoSuchVersion", "PreconditionFailed"]);
    let quiet = "<Delete><Quiet>true</Quiet><Object><Key>b</Key></Object></Delete>";
    assert_eq!(client.post("/bkt?delete").body(quiet).send().await.expect_status(200).elements("Deleted").len(), 0);
    assert_eq!(client.get("/bkt").send().await.elements("Key"), ["c"]);
    for bad in ["<Delete></Delete>", "<Delete><Object></Object></Delete>", "<Delete>", "nonsense", ""] {
        let answer = client.post("/bkt?delete").body(bad).send().await;
        assert_eq!(answer.status, 400, "{bad}: {}", answer.text());
    }
    let objects = "<Object><Key>k</Key></Object>".repeat(1001);
    let many = client.post("/bkt?delete").body(format!("<Delete>{objects}</Delete>")).send().await;
    many.expect_error(400, "MalformedXML");
    client.post("/none?delete").body(quiet).send().await.expect_error(404, "NoSuchBucket");
    server.stop().await;
}

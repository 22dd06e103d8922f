//! Buckets, their versioning switch, and configuration that is not set.

use crate::server::Server;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_lives_and_goes() {
    let server = Server::start_with(|config| config.region = "eu-west-1".to_owned()).await;
    let client = server.client();
    client.head("/b-1").send().await.expect_status(404);
    client.get("/b-1").send().await.expect_error(404, "NoSuchBucket");
    let made = client.put("/b-1").send().await.expect_status(200);
    assert_eq!(made.header("location"), "/b-1");
    client.put("/b-1").send().await.expect_error(409, "BucketAlreadyOwnedByYou");
    assert_eq!(client.head("/b-1").send().await.expect_status(200).header("x-amz-bucket-region"), "eu-west-1");
    let location = client.get("/b-1?location").send().await.expect_status(200);
    assert!(location.text().contains(">eu-west-1</LocationConstraint>"), "{}", location.text());
    let elsewhere =
        "<CreateBucketConfiguration><LocationConstraint>us-west-2</LocationConstraint></CreateBucketConfiguration>";
    client.put("/b-2").body(elsewhere).send().await.expect_status(200);
    let listed = client.get("/").send().await.expect_status(200);
    assert_eq!(listed.elements("Name"), ["b-1", "b-2"]);
    let page = client.get("/?max-buckets=1").send().await;
    assert_eq!(page.elements("Name"), ["b-1"]);
    let token = page.element("ContinuationToken");
    let rest = client.get("/?max-buckets=1").query("continuation-token", &token).send().await;
    assert_eq!((rest.elements("Name"), rest.element("ContinuationToken")), (vec!["b-2".to_owned()], String::new()));
    assert_eq!(client.get("/?prefix=b-2").send().await.elements("Name"), ["b-2"]);
    client.put("/b-1/k").body("x").send().await.expect_status(200);
    client.delete("/b-1").send().await.expect_error(409, "BucketNotEmpty");
    client.delete("/b-1/k").send().await.expect_status(204);
    client.delete("/b-1").send().await.expect_status(204);
    client.delete("/b-1").send().await.expect_error(404, "NoSuchBucket");
    client.put("/b-1/k").body("x").send().await.expect_error(404, "NoSuchBucket");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_follow_the_rules() {
    let server = Server::start().await;
    let client = server.client();
    for name in ["ab", "Upper", "under_score", "-edge", "a..b", "192.168.5.4", "xn--x", "x-s3alias"] {
        client.put(&format!("/{name}")).send().await.expect_error(400, "InvalidBucketName");
    }
    for header in [
        ("x-amz-acl", "public-read"),
        ("x-amz-bucket-object-lock-enabled", "true"),
        ("x-amz-object-ownership", "ObjectWriter"),
        ("x-amz-grant-read", "id=x"),
    ] {
        client.put("/fine").header(header.0, header.1).send().await.expect_error(501, "NotImplemented");
    }
    client.put("/fine").header("x-amz-acl", "private").send().await.expect_status(200);
    client.put("/bad-xml").body("<Create").send().await.expect_error(400, "MalformedXML");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn configuration_that_is_not_set() {
    let (server, client) = Server::with_bucket().await;
    for (name, status, code) in [
        ("cors", 404, "NoSuchCORSConfiguration"),
        ("encryption", 404, "ServerSideEncryptionConfigurationNotFoundError"),
        ("lifecycle", 404, "NoSuchLifecycleConfiguration"),
        ("ownershipControls", 404, "OwnershipControlsNotFoundError"),
        ("policy", 404, "NoSuchBucketPolicy"),
        ("policyStatus", 404, "NoSuchBucketPolicy"),
        ("replication", 404, "ReplicationConfigurationNotFoundError"),
        ("tagging", 404, "NoSuchTagSet"),
        ("website", 404, "NoSuchWebsiteConfiguration"),
        ("object-lock", 404, "ObjectLockConfigurationNotFoundError"),
        ("publicAccessBlock", 404, "NoSuchPublicAccessBlockConfiguration"),
    ] {
        client.get(&format!("/bkt?{name}")).send().await.expect_error(status, code);
        client.get(&format!("/none?{name}")).send().await.expect_error(404, "NoSuchBucket");
    }
    for name in ["versioning", "logging", "notification", "accelerate", "requestPayment", "analytics", "inventory"] {
        client.get(&format!("/bkt?{name}")).send().await.expect_status(200);
    }
    assert_eq!(client.get("/bkt?acl").send().await.elements("Permission"), ["FULL_CONTROL"]);
    let cors = "<CORSConfiguration><CORSRule><AllowedMethod>GET</AllowedMethod><AllowedOrigin>*</AllowedOrigin></CORSRule></CORSConfiguration>";
    for (name, body) in [("cors", cors), ("policy", "{}"), ("tagging", "<Tagging><TagSet/></Tagging>")] {
        client.put(&format!("/bkt?{name}")).body(body).send().await.expect_error(501, "NotImplemented");
    }
    client.delete("/bkt?policy").send().await.expect_error(501, "NotImplemented");
    client.head("/bkt").send().await.expect_status(200);
    server.stop().await;
}

//! The native routes: status, ledger, receipts, access keys.

use ledger::policy::Policy;
use ledger::receipt::ReceiptFile;
use serde_json::Value;

use crate::server::Server;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_and_policy() {
    let (server, client) = Server::with_bucket().await;
    let status = client.get("/_entangle/v1/status").send().await.expect_status(200);
    assert_eq!(status.header("content-type"), "application/json");
    let status: Value = serde_json::from_slice(&status.body).unwrap();
    assert_eq!(status["ready"], true);
    let policy = client.get("/_entangle/v1/policy").send().await.expect_status(200);
    assert!(Policy::from_bytes(&policy.body).is_ok());
    client.get("/_entangle/v1/nothing").send().await.expect_error(404, "NoSuchRoute");
    client.get("/_entangle").send().await.expect_error(404, "NoSuchRoute");
    client.delete("/_entangle/v1/status").send().await.expect_error(405, "MethodNotAllowed");
    for route in ["status", "policy", "checkpoint", "keys", "receipt/bkt/k", "tile/0/000"] {
        let anonymous = client.get(&format!("/_entangle/v1/{route}")).anonymous();
        anonymous.send().await.expect_error(403, "AccessDenied");
    }
    client.put("/_entangle").send().await.expect_error(404, "NoSuchRoute");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receipts_verify_offline() {
    let (server, client) = Server::with_bucket().await;
    let policy = client.get("/_entangle/v1/policy").send().await.expect_status(200);
    let policy = Policy::from_bytes(&policy.body).unwrap();
    client.put("/bkt/dir/a key").body("hello").send().await.expect_status(200);
    let file = client.get("/_entangle/v1/receipt/bkt/dir/a key").send().await.expect_status(200);
    let receipt = ReceiptFile::from_bytes(&file.body).unwrap().receipt;
    let verified = receipt.verify(&policy).unwrap();
    assert!(verified.sentence().contains("dir/a key"), "{}", verified.sentence());
    let by_query = client.get("/_entangle/v1/receipt/bkt").query("key", "dir/a key").send().await.expect_status(200);
    assert!(ReceiptFile::from_bytes(&by_query.body).unwrap().receipt.verify(&policy).is_ok());
    // The commit receipt in the header of a write.
    let put = client.put("/bkt/k").header("x-entangle-wait", "included").body("x").send().await.expect_status(200);
    let receipt = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, put.header("x-entangle-receipt"));
    let receipt = ledger::receipt::Receipt::from_bytes(&receipt.unwrap()).unwrap();
    assert!(receipt.verify(&policy).is_ok());
    client.get("/_entangle/v1/receipt/bkt/none").send().await.expect_error(404, "NoSuchKey");
    client.get("/_entangle/v1/receipt/none/k").send().await.expect_error(404, "NoSuchBucket");
    let version = client.get("/_entangle/v1/receipt/bkt/k?versionId=nonsense").send().await;
    version.expect_error(400, "InvalidArgument");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_public_ledger_is_read_by_anyone() {
    let server = Server::start_with(|config| config.ledger_public = true).await;
    let client = server.client();
    client.put("/bkt").header("x-entangle-wait", "included").send().await.expect_status(200);
    let checkpoint = client.get("/_entangle/v1/checkpoint").anonymous().send().await.expect_status(200);
    let size: u64 = checkpoint.text().lines().nth(1).unwrap().parse().unwrap();
    let entries = format!("/_entangle/v1/tile/entries/000.p/{size}");
    assert!(client.get(&entries).anonymous().send().await.expect_status(200).body.len() as u64 >= 128 * size);
    let tile = format!("/_entangle/v1/tile/0/000.p/{size}");
    assert_eq!(client.get(&tile).anonymous().send().await.expect_status(200).body.len() as u64, 32 * size);
    client.get("/_entangle/v1/tile/0/999").anonymous().send().await.expect_error(404, "NotInLedger");
    client.get("/_entangle/v1/tile/nonsense").anonymous().send().await.expect_error(404, "NotInLedger");
    for route in ["status", "policy", "keys", "receipt/bkt/k"] {
        let anonymous = client.get(&format!("/_entangle/v1/{route}")).anonymous();
        anonymous.send().await.expect_error(403, "AccessDenied");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn access_keys_come_and_go() {
    let (server, client) = Server::with_bucket().await;
    let made = client.post("/_entangle/v1/keys").body(r#"{"description":"mine"}"#).send().await.expect_status(201);
    let made: Value = serde_json::from_slice(&made.body).unwrap();
    let (id, secret) = (made["access_key"].as_str().unwrap(), made["secret_key"].as_str().unwrap());
    assert_eq!((id.len(), secret.len()), (20, 40));
    let mine = client.with_credentials(id, secret);
    mine.put("/bkt/k").body("x").send().await.expect_status(200);
    let listed = client.get("/_entangle/v1/keys").send().await.expect_status(200);
    assert!(!listed.text().contains(secret));
    let listed: Value = serde_json::from_slice(&listed.body).unwrap();
    assert_eq!(listed["keys"].as_array().unwrap().len(), 2);
    client.delete(&format!("/_entangle/v1/keys/{id}")).send().await.expect_status(204);
    mine.get("/bkt/k").send().await.expect_error(403, "InvalidAccessKeyId");
    client.delete(&format!("/_entangle/v1/keys/{id}")).send().await.expect_error(404, "NoSuchAccessKey");
    client.delete("/_entangle/v1/keys/AKTEST").send().await.expect_error(409, "LastAccessKey");
    let chosen = r#"{"access_key":"chosen","secret_key":"chosen-secret"}"#;
    client.post("/_entangle/v1/keys").body(chosen).send().await.expect_status(201);
    client.with_credentials("chosen", "chosen-secret").get("/bkt/k").send().await.expect_status(200);
    for bad in ["{", r#"{"secret_key":"short"}"#, r#"{"access_key":"a b"}"#, r#"{"unknown":1}"#] {
        client.post("/_entangle/v1/keys").body(bad).send().await.expect_error(400, "InvalidArgument");
    }
    server.stop().await;
}

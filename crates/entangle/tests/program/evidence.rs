//! Receipts and the ledger of a running node, and what tampering with them gives.

use std::process::Command;

use crate::support::{Ended, Place, Serving};

fn at(place: &Place, serving: &Serving, arguments: &[&str]) -> Ended {
    let mut command: Command = place.command(arguments);
    command.args(["--endpoint", serving.endpoint(), "--keys", "data-keys"]);
    Ended::of(command)
}

#[tokio::test]
async fn a_receipt_verifies_offline_and_a_forged_one_does_not() {
    let place = Place::new();
    let serving = place.serve(&[]);
    let client = serving.client();
    client.create_bucket("box").await.unwrap();
    client.put_object("box", "a key/with ü", "value").await.unwrap();
    let got = at(&place, &serving, &["receipt", "get", "s3://box/a key/with ü", "--out", "receipt"]);
    assert_eq!(got.code, 0, "{got:?}");
    let policy = at(&place, &serving, &["ledger", "policy", "--out", "policy"]);
    assert_eq!(policy.code, 0, "{policy:?}");
    let missing = at(&place, &serving, &["receipt", "get", "s3://box/other"]);
    assert_eq!(missing.code, 4, "{missing:?}");
    serving.stop();

    let verified = place.run(&["receipt", "verify", "receipt", "--policy", "policy", "--json"]);
    assert_eq!(verified.code, 0, "{verified:?}");
    let document = verified.json();
    assert_eq!((&document["bucket"], &document["key"]), (&"box".into(), &"a key/with ü".into()), "{document}");
    assert_eq!(document["level"], "included", "{document}");

    // The folder of the node has the same policy, but nobody may fall back to the one inside the receipt.
    let without = place.run(&["receipt", "verify", "receipt"]);
    assert_eq!(without.code, 2, "{without:?}");
    assert!(without.sentence().contains("--policy"), "{without:?}");
    let mut command = place.command(&["receipt", "verify", "receipt"]);
    command.env("ENTANGLE_KEYS", "data-keys");
    assert_eq!(Ended::of(command).code, 0);

    let receipt = std::fs::read_to_string(place.path("receipt")).unwrap();
    let begin = receipt.find("-----BEGIN ENTANGLE RECEIPT-----\n").unwrap() + 33;
    let end = receipt.find("-----END ENTANGLE RECEIPT-----").unwrap();
    let mut tried = 0;
    for at in (begin..end).step_by(61).filter(|at| receipt.as_bytes()[*at].is_ascii_alphanumeric()) {
        let mut forged = receipt.clone().into_bytes();
        forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
        std::fs::write(place.path("forged"), forged).unwrap();
        let refused = place.run(&["receipt", "verify", "forged", "--policy", "policy"]);
        assert_eq!(refused.code, 3, "byte {at}: {refused:?}");
        assert!(refused.out.starts_with("Not verified: "), "{refused:?}");
        tried += 1;
    }
    assert!(tried > 10, "{tried}");
}

#[tokio::test]
async fn anothers_policy_does_not_accept_it() {
    let (place, other) = (Place::new(), Place::new());
    let (serving, stranger) = (place.serve(&[]), other.serve(&[]));
    serving.client().create_bucket("box").await.unwrap();
    serving.client().put_object("box", "k", "v").await.unwrap();
    assert_eq!(at(&place, &serving, &["receipt", "get", "s3://box/k", "--out", "receipt"]).code, 0);
    let policy = other.path("data-keys/policy");
    let policy = policy.to_str().unwrap();
    let refused = place.run(&["receipt", "verify", "receipt", "--policy", policy, "--json"]);
    assert_eq!(refused.code, 3, "{refused:?}");
    assert_eq!(refused.json()["verified"], false);
    let ledger = at(&place, &serving, &["ledger", "verify", "--policy", policy]);
    assert_eq!(ledger.code, 3, "{ledger:?}");
    stranger.stop();
}

#[tokio::test]
async fn the_ledger_of_a_running_node_is_recomputed() {
    let place = Place::new();
    let serving = place.serve(&[]);
    let client = serving.client();
    client.create_bucket("box").await.unwrap();
    // Enough for full tiles and bundles, and for partial ones.
    let writers: Vec<_> = (0..16)
        .map(|writer| {
            let client = client.clone();
            tokio::spawn(async move {
                for index in 0..25 {
                    client.put_object("box", &format!("{writer}/{index}"), "v").await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    // A receipt waits until its write is in the log.
    assert_eq!(at(&place, &serving, &["receipt", "get", "s3://box/15/24"]).code, 0);
    let verified = at(&place, &serving, &["ledger", "verify", "--json"]);
    assert_eq!(verified.code, 0, "{verified:?}");
    let document = verified.json();
    assert_eq!(document["policy_trusted"], false, "{document}");
    assert!(document["entries"].as_u64().unwrap() > 400, "{document}");
    let trusted = at(&place, &serving, &["ledger", "verify", "--json", "--policy", "data-keys/policy"]);
    assert_eq!(trusted.json()["policy_trusted"], true, "{trusted:?}");
    let checkpoint = at(&place, &serving, &["ledger", "checkpoint", "--json"]);
    assert_eq!(checkpoint.code, 0, "{checkpoint:?}");
    assert!(checkpoint.json()["size"].as_u64() >= document["entries"].as_u64(), "{checkpoint:?}");
}

#[test]
fn checkpoints_are_private_unless_the_ledger_is_public() {
    let place = Place::new();
    let serving = place.serve(&[]);
    let anyone = place.run(&["ledger", "checkpoint", "--endpoint", serving.endpoint()]);
    assert_eq!(anyone.code, 1, "{anyone:?}");
    assert!(anyone.sentence().contains("asks for an access key"), "{anyone:?}");
    serving.stop();
    let serving = place.serve(&["--ledger-public"]);
    let anyone = place.run(&["ledger", "checkpoint", "--endpoint", serving.endpoint()]);
    assert_eq!(anyone.code, 0, "{anyone:?}");
}

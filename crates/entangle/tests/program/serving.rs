//! `entangle serve`: what is acknowledged stays, whatever ends the process; who may know the secret; stopping.

use std::os::unix::fs::PermissionsExt as _;

use client::{Credentials, Request};
use http::Method;
use rustix::process::Signal;

use crate::support::{Ended, Place, Serving, client};

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() {
    let place = Place::new();
    let serving = place.serve(&[]);
    let client = serving.client();
    client.create_bucket("kept").await.unwrap();
    let large: Vec<u8> = (0..3_000_000_u32).map(|index| (index % 253) as u8).collect();
    for index in 0..20 {
        client.put_object("kept", &format!("key-{index}"), format!("value {index}")).await.unwrap();
    }
    client.put_object("kept", "large", large.clone()).await.unwrap();
    client.delete_object("kept", "key-3").await.unwrap();
    serving.kill();

    let serving = place.serve(&[]);
    let client = serving.client();
    for index in (0..20).filter(|index| *index != 3) {
        let found = client.read_object("kept", &format!("key-{index}"), 100).await.unwrap();
        assert_eq!(found, format!("value {index}"));
    }
    assert!(client.read_object("kept", "large", large.len()).await.unwrap() == large);
    let gone = client.read_object("kept", "key-3", 100).await.unwrap_err();
    assert!(gone.to_string().starts_with("NoSuchKey"), "{gone}");
    serving.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_drains_and_exits_with_0() {
    let place = Place::new();
    let serving = place.serve(&[]);
    let client = serving.client();
    client.create_bucket("drained").await.unwrap();
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let client = client.clone();
            tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                for index in 0.. {
                    let key = format!("w{writer}/{index}");
                    match client.put_object("drained", &key, key.clone()).await {
                        Ok(_) => acknowledged.push(key),
                        Err(_) => break,
                    }
                }
                acknowledged
            })
        })
        .collect();
    // In the middle of it: some writes are through, and all writers are still at it.
    let probe = "w0/20";
    let mut seen = false;
    for _ in 0..10_000 {
        seen = client.read_object("drained", probe, 100).await.is_ok();
        if seen {
            break;
        }
    }
    assert!(seen, "no writer came as far as {probe}");
    serving.stop();

    let serving = place.serve(&[]);
    let client = serving.client();
    let mut total = 0;
    for writer in writers {
        for key in writer.await.unwrap() {
            assert_eq!(client.read_object("drained", &key, 100).await.unwrap(), key);
            total += 1;
        }
    }
    assert!(total > 20, "{total}");
}

#[tokio::test]
async fn the_first_credentials_go_to_a_private_file_and_nowhere_else() {
    let place = Place::new();
    let mut command =
        place.command(&["serve", "--s3", "127.0.0.1:0", "--admin", "off", "--log", "trace", "--log-format", "json"]);
    let out = std::fs::File::create(place.path("out")).unwrap();
    let err = std::fs::File::create(place.path("log")).unwrap();
    let mut child = command.stdout(out).stderr(err).spawn().unwrap();
    let ready = || std::fs::read_to_string(place.path("out")).unwrap().contains("aws s3 mb");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !ready() && std::time::Instant::now() < deadline {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let text = std::fs::read_to_string(place.path("out")).unwrap();
    let path = place.path("entangle-data-keys/credentials");
    assert!(text.contains("entangle-data-keys/credentials"), "the path is printed: {text}");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let pair = std::fs::read_to_string(&path).unwrap();
    let value = |name: &str| {
        pair.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim_start_matches(" = ").to_owned()
    };
    let (access_key, secret_key) = (value("aws_access_key_id"), value("aws_secret_access_key"));
    assert!(text.contains(&access_key) && !text.contains(&secret_key), "{text}");

    // Use it, and make another one, with everything logged that can be.
    let endpoint = text.split_whitespace().find(|word| word.starts_with("http://")).unwrap();
    let node = client(endpoint, Some(Credentials::new(&access_key, &secret_key)));
    node.create_bucket("logged").await.unwrap();
    node.put_object("logged", "key", "value").await.unwrap();
    let chosen = client::AccessKeyRequest {
        access_key: Some("another-key".to_owned()),
        secret_key: Some("a-secret-that-nobody-may-log".to_owned().into()),
        description: String::new(),
    };
    node.add_access_key(chosen).await.unwrap();
    let made = node.add_access_key(client::AccessKeyRequest::default()).await.unwrap();
    node.access_keys().await.unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let log = std::fs::read_to_string(place.path("log")).unwrap();
    assert!(log.lines().count() > 3 && log.lines().all(|line| line.starts_with('{')), "{log}");
    for secret in [secret_key.as_str(), "a-secret-that-nobody-may-log", made.secret_key()] {
        assert!(!log.contains(secret), "a secret is in the log");
        for file in crate::support::files(&place.path("entangle-data")) {
            assert!(!holds(&std::fs::read(&file).unwrap(), secret), "a secret lies open in {}", file.display());
        }
    }
}

/// Whether the bytes hold the text; the zeros at the end of a preallocated file are not looked through one by one.
fn holds(bytes: &[u8], text: &str) -> bool {
    let pages = bytes.chunks(4096);
    let used = pages.len() - pages.rev().take_while(|page| **page == [0; 4096][..page.len()]).count();
    let used = &bytes[..bytes.len().min(used * 4096)];
    used.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test]
async fn credentials_of_the_environment_count_and_may_change() {
    let place = Place::new();
    let first = [("ENTANGLE_ACCESS_KEY", "operator"), ("ENTANGLE_SECRET_KEY", "the-first-secret")];
    let serving = Serving::start(&place, &[], &first);
    assert_eq!(serving.text("access_key"), "operator");
    assert!(!place.path("data-keys/credentials").exists(), "what the operator keeps is not written down");
    let with = |endpoint: &str, secret: &str| client(endpoint, Some(Credentials::new("operator", secret)));
    with(serving.endpoint(), "the-first-secret").create_bucket("box").await.unwrap();
    assert!(with(serving.endpoint(), "another-secret").create_bucket("other").await.is_err());
    serving.stop();

    let second = [("ENTANGLE_ACCESS_KEY", "operator"), ("ENTANGLE_SECRET_KEY", "the-second-secret")];
    let serving = Serving::start(&place, &[], &second);
    with(serving.endpoint(), "the-second-secret").put_object("box", "k", "v").await.unwrap();
    let old = with(serving.endpoint(), "the-first-secret").put_object("box", "k", "w").await.unwrap_err();
    assert!(old.to_string().starts_with("SignatureDoesNotMatch"), "{old}");
}

#[tokio::test]
async fn https_with_a_certificate_of_ones_own() {
    let place = Place::new();
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(place.path("cert.pem"), certified.cert.pem()).unwrap();
    std::fs::write(place.path("key.pem"), certified.signing_key.serialize_pem()).unwrap();
    let serving = place.serve(&["--s3-tls-cert", "cert.pem", "--s3-tls-key", "key.pem"]);
    let endpoint = serving.endpoint();
    assert!(endpoint.starts_with("https://localhost:"), "{endpoint}");
    let status = place.run(&["status", "--endpoint", endpoint, "--keys", "data-keys", "--ca", "cert.pem", "--json"]);
    assert_eq!(status.code, 0, "{status:?}");
    let stranger = place.run(&["status", "--endpoint", endpoint, "--keys", "data-keys"]);
    assert_eq!(stranger.code, 1, "{stranger:?}");
    assert!(stranger.sentence().contains("--ca"), "{stranger:?}");
    let plain = endpoint.replace("https://", "http://");
    let plain = place.run(&["status", "--endpoint", &plain, "--keys", "data-keys"]);
    assert_ne!(plain.code, 0, "{plain:?}");
    assert!(plain.sentence().contains("HTTPS"), "{plain:?}");
}

#[tokio::test]
async fn presigned_urls_work_without_credentials() {
    let place = Place::new();
    let serving = place.serve(&[]);
    let node = serving.client();
    node.create_bucket("shared").await.unwrap();
    node.put_object("shared", "a key/with ü.txt", "shared").await.unwrap();
    let url = node.presign_read("shared", "a key/with ü.txt", 60).unwrap();
    let query = url.split_once('?').unwrap().1;
    let anyone = client(serving.endpoint(), None);
    let mut request = Request::new(Method::GET, "/shared/a key/with ü.txt");
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap();
        request = request.query(name, value.replace("%2F", "/"));
    }
    assert_eq!(anyone.send_ok(request.clone()).await.unwrap().bytes(100).await.unwrap(), "shared");
    request.path = "/shared/another key".to_owned();
    assert!(anyone.send_ok(request).await.is_err(), "signed for one key only");
}

#[test]
fn status_is_json_and_text() {
    let place = Place::new();
    let serving = place.serve(&["--region", "mars-1"]);
    // The node serves before the block of its first command is sealed.
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let document = loop {
        let status = place.run(&["status", "--json", "--endpoint", serving.endpoint(), "--keys", "data-keys"]);
        assert_eq!(status.code, 0, "{status:?}");
        let document = status.json();
        if document["status"]["ledger"]["size"].as_u64().unwrap() > 0 || std::time::Instant::now() > patience {
            break document;
        }
    };
    assert_eq!(document["status"]["region"], "mars-1", "{document}");
    assert!(document["status"]["ledger"]["size"].as_u64().unwrap() > 0, "{document}");
    let mut command = place.command(&["status"]);
    command.env("ENTANGLE_ENDPOINT", serving.endpoint()).env("ENTANGLE_KEYS", "data-keys");
    let status = Ended::of(command);
    assert!(status.code == 0 && status.out.contains("mars-1") && !status.out.contains('\x1b'), "{status:?}");
}

#[test]
fn sigint_drains_too() {
    let place = Place::new();
    let serving = place.serve(&[]);
    serving.signal(Signal::INT);
    assert_eq!(serving.wait().code(), Some(0));
}

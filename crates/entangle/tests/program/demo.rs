//! `entangle demo`

use std::net::TcpListener;

use rustix::process::Signal;

use crate::support::{Ended, Place, Serving, client};

#[test]
fn it_tells_its_story_and_cleans_up() {
    let place = Place::new();
    let folder = place.path("tmp");
    std::fs::create_dir(&folder).unwrap();
    let mut command = place.command(&["demo"]);
    command.env("TMPDIR", &folder);
    let ended = Ended::of(command);
    assert_eq!(ended.code, 0, "{ended:?}");
    for part in [
        "us-east4, europe-west2, asia-northeast1: ready",
        "X25519MLKEM768",
        "with a leader, best in us-east4",
        "asia-northeast1: nothing passes on its links",
        "answers reads and writes with 503: \"1 of 3 members can be reached, and 2 are needed",
        "asia-northeast1 reads what was written meanwhile",
        "-----BEGIN ENTANGLE RECEIPT-----",
        "verified offline",
        "one byte flipped, refused",
        "recomputed at every region: the same root",
    ] {
        let told = ended.out.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(told.contains(part), "no {part:?} in {ended:?}");
    }
    assert!(!ended.out.contains('\x1b'), "colours go to a terminal only: {ended:?}");
    assert_eq!(ended.err, "", "{ended:?}");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0, "the temporary folder is gone");
}

#[test]
fn in_json_it_is_one_document_also_of_five_regions() {
    let regions = "us-west1,us-east4,northamerica-northeast1,europe-west2,europe-north1";
    let ended = Place::new().run(&["demo", "--json", "--regions", regions]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let document = ended.json();
    assert_eq!(document["ok"], true);
    assert!(document["sentence"].as_str().unwrap().contains("s3://demo/letters/first.txt"), "{document}");
    assert!(document["receipt"].as_str().unwrap().starts_with("entangle/receipt-file/"), "{document}");
    let latencies = document["latencies"]["regions"].as_array().unwrap();
    let names: Vec<&str> = latencies.iter().map(|row| row["region"].as_str().unwrap()).collect();
    assert_eq!(names.join(","), regions);
    for row in latencies {
        let [measured, limit, led] = ["p50_ms", "limit_ms", "with_leader_ms"].map(|name| row[name].as_f64().unwrap());
        assert!(measured >= limit, "nothing is faster than the links: {document}");
        assert!(led >= limit, "{document}");
    }
}

#[tokio::test]
async fn it_stays_until_it_is_told_to_go() {
    let place = Place::new();
    let folder = place.path("tmp");
    std::fs::create_dir(&folder).unwrap();
    let mut command = place.command(&["demo", "--stay", "--json"]);
    command.env("TMPDIR", &folder);
    let staying = Serving::spawn(command, place.path("log"));
    let credentials = client::Credentials::new(staying.text("access_key"), staying.text("secret_key"));
    let endpoints = staying.document["endpoints"].as_array().unwrap().clone();
    assert_eq!(endpoints.len(), 3);
    for (number, endpoint) in endpoints.iter().enumerate() {
        let client = client(endpoint["endpoint"].as_str().unwrap(), Some(credentials.clone()));
        let letter = client.read_object("demo", "letters/first.txt", 1000).await.unwrap();
        assert!(letter.starts_with(b"Nothing here travels faster than light"));
        if number > 0 {
            let before = client.read_object("demo", "handed-on", 100).await.unwrap();
            assert_eq!(before, format!("{}", number - 1), "written at the region before");
        }
        client.put_object("demo", "handed-on", format!("{number}")).await.unwrap();
    }
    staying.signal(Signal::INT);
    assert_eq!(staying.wait().code(), Some(0));
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0, "the temporary folder is gone");
}

#[test]
fn what_it_cannot_do_it_says_before_it_starts() {
    let place = Place::new();
    let unknown = place.run(&["demo", "--regions", "us-east4,europe-west2,asia-northeast"]);
    assert_eq!(unknown.code, 2, "{unknown:?}");
    assert!(unknown.sentence().contains("did you mean asia-northeast1?"), "{unknown:?}");
    let two = place.run(&["demo", "--regions", "us-east4,europe-west2"]);
    assert_eq!(two.code, 2, "{two:?}");
    assert!(two.sentence().contains("name three or five of"), "{two:?}");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let in_use = place.run(&["demo", "--port", &port]);
    assert_eq!(in_use.code, 1, "{in_use:?}");
    let sentence = in_use.sentence();
    assert!(sentence.contains(&format!("127.0.0.1:{port} is in use")) && sentence.contains("--port"), "{in_use:?}");
}

//! `entangle demo`

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
        "-----BEGIN ENTANGLE RECEIPT-----",
        "verified offline",
        "one byte flipped, refused",
        "every byte of it verified",
    ] {
        assert!(ended.out.contains(part), "no {part:?} in {ended:?}");
    }
    assert!(!ended.out.contains('\x1b'), "colours go to a terminal only: {ended:?}");
    assert_eq!(ended.err, "", "{ended:?}");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0, "the temporary folder is gone");
}

#[test]
fn in_json_it_is_one_document() {
    let ended = Place::new().run(&["demo", "--json"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let document = ended.json();
    assert_eq!(document["ok"], true);
    assert!(document["sentence"].as_str().unwrap().contains("s3://demo/letters/first.txt"), "{document}");
    assert!(document["receipt"].as_str().unwrap().starts_with("entangle/receipt-file/"), "{document}");
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
    let client = client(staying.endpoint(), Some(credentials));
    let letter = client.read_object("demo", "letters/first.txt", 1000).await.unwrap();
    assert!(letter.starts_with(b"Nothing here travels faster than light"));
    staying.signal(Signal::INT);
    assert_eq!(staying.wait().code(), Some(0));
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0, "the temporary folder is gone");
}

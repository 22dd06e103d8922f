//! Stopped data folders: verified, backed up, restored.

use crate::support::{Place, files};

async fn filled(place: &Place) {
    let serving = place.serve(&[]);
    let client = serving.client();
    client.create_bucket("box").await.unwrap();
    for index in 0..30 {
        client.put_object("box", &format!("small-{index}"), format!("value {index}")).await.unwrap();
    }
    client.put_object("box", "large", vec![7; 5_000_000]).await.unwrap();
    serving.stop();
}

#[tokio::test]
async fn every_byte_of_a_stopped_folder_is_verified() {
    let place = Place::new();
    filled(&place).await;
    let verified = place.run(&["ledger", "verify", "--data", "data", "--json"]);
    assert_eq!(verified.code, 0, "{verified:?}");
    assert_eq!(verified.json()["verified"], true, "{verified:?}");

    let chunk = files(&place.path("data/vault")).into_iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let mut bytes = std::fs::read(&chunk).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&chunk, bytes).unwrap();
    let damaged = place.run(&["ledger", "verify", "--data", "data", "--json"]);
    assert_eq!(damaged.code, 3, "{damaged:?}");
    assert_eq!(damaged.json()["verified"], false, "{damaged:?}");
    let damaged = place.run(&["ledger", "verify", "--data", "data"]);
    assert!(damaged.code == 3 && damaged.out.contains("does not verify"), "{damaged:?}");
}

#[tokio::test]
async fn a_backup_restores_into_a_new_folder_and_serves() {
    let place = Place::new();
    filled(&place).await;
    let made = place.run(&["backup", "--data", "data", "--to", "copy", "--json"]);
    assert_eq!(made.code, 0, "{made:?}");
    let again = place.run(&["backup", "--data", "data", "--to", "copy"]);
    assert_eq!(again.code, 1, "a backup is never overwritten: {again:?}");
    let restored = place.run(&["restore", "--from", "copy", "--data", "new", "--keys", "data-keys", "--json"]);
    assert_eq!(restored.code, 0, "{restored:?}");
    let keyless = place.run(&["restore", "--from", "copy", "--data", "newer"]);
    assert_eq!(keyless.code, 1, "{keyless:?}");
    assert!(keyless.sentence().contains("newer-keys does not exist"), "{keyless:?}");
    let again = place.run(&["restore", "--from", "copy", "--data", "new", "--keys", "data-keys"]);
    assert_eq!(again.code, 1, "a folder is never overwritten: {again:?}");
    std::fs::remove_dir_all(place.path("data")).unwrap();
    std::fs::rename(place.path("new"), place.path("data")).unwrap();
    let serving = place.serve(&[]);
    let client = serving.client();
    assert_eq!(client.read_object("box", "small-29", 100).await.unwrap(), "value 29");
    assert_eq!(client.read_object("box", "large", 5_000_000).await.unwrap(), vec![7; 5_000_000]);
    client.put_object("box", "after", "x").await.unwrap();
}

#[test]
fn folders_that_do_not_exist() {
    let place = Place::new();
    for arguments in [
        &["ledger", "verify", "--data", "nowhere"][..],
        &["backup", "--data", "nowhere", "--to", "copy"][..],
        &["restore", "--from", "nowhere", "--data", "new"][..],
    ] {
        let ended = place.run(arguments);
        assert_eq!(ended.code, 1, "{ended:?}");
        assert!(ended.sentence().contains("nowhere"), "{ended:?}");
    }
    assert!(!place.path("new").exists() && !place.path("copy").exists(), "nothing was made");
}

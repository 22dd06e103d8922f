//! `entangle keys`

use client::Credentials;

use crate::support::{Place, client};

#[tokio::test]
async fn a_key_comes_and_goes() {
    let place = Place::new();
    let serving = place.serve(&[]);
    let endpoint = serving.endpoint();
    serving.client().create_bucket("box").await.unwrap();
    let run = |arguments: &[&str]| {
        let mut all = vec!["keys"];
        all.extend(arguments);
        all.extend(["--endpoint", endpoint, "--keys", "data-keys", "--json"]);
        place.run(&all)
    };
    let made = run(&["add", "--description", "for the archive"]);
    assert_eq!(made.code, 0, "{made:?}");
    let made = made.json();
    let (access_key, secret_key) = (made["access_key"].as_str().unwrap(), made["secret_key"].as_str().unwrap());
    let archive = client(endpoint, Some(Credentials::new(access_key, secret_key)));
    archive.put_object("box", "k", "v").await.unwrap();

    std::fs::write(place.path("secret"), "chosen-by-the-operator\n").unwrap();
    let chosen = run(&["add", "operator-key", "--secret-file", "secret"]);
    assert_eq!(chosen.code, 0, "{chosen:?}");
    let operator = client(endpoint, Some(Credentials::new("operator-key", "chosen-by-the-operator")));
    assert_eq!(operator.read_object("box", "k", 10).await.unwrap(), "v");

    let list = run(&["list"]);
    assert_eq!(list.code, 0, "{list:?}");
    assert!(!list.out.contains(secret_key), "{list:?}");
    let list = list.json();
    let list = list["keys"].as_array().unwrap();
    assert_eq!(list.len(), 3, "{list:?}");
    assert!(
        list.iter().any(|key| key["access_key"] == access_key && key["description"] == "for the archive"),
        "{list:?}"
    );

    assert_eq!(run(&["remove", access_key]).code, 0);
    let refused = archive.read_object("box", "k", 10).await.unwrap_err();
    assert!(refused.to_string().starts_with("InvalidAccessKeyId"), "{refused}");
    assert_eq!(run(&["remove", access_key]).code, 4, "it is gone");
    assert_eq!(run(&["remove", "operator-key"]).code, 0);
    let last = run(&["remove", serving.text("access_key")]);
    assert_eq!(last.code, 1, "the last one stays: {last:?}");
    assert!(serving.client().read_object("box", "k", 10).await.is_ok());
}

#[test]
fn keys_that_cannot_be_are_refused_before_anything_is_sent() {
    let place = Place::new();
    let ended = place.run(&["keys", "add", "a/b"]);
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.sentence().contains("3 to 128 characters"), "{ended:?}");
    std::fs::write(place.path("secret"), "short").unwrap();
    let ended = place.run(&["keys", "add", "abc", "--secret-file", "secret"]);
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(!ended.err.contains("\"short\""), "{ended:?}");
}

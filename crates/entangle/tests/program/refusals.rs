//! Bad input: one sentence that says what to do next, and the right exit code.

use std::os::unix::fs::PermissionsExt as _;

use crate::support::{Ended, Place};

const QUIET: [&str; 5] = ["serve", "--s3", "127.0.0.1:0", "--admin", "off"];

fn serve(place: &Place, arguments: &[&str]) -> Ended {
    let arguments: Vec<&str> = QUIET.iter().chain(["--log", "off"].iter()).chain(arguments).copied().collect();
    place.run(&arguments)
}

#[test]
fn an_unknown_key_of_the_file_is_refused_by_name() {
    let place = Place::new();
    std::fs::write(place.path("entangle.toml"), "[s3]\nlissten = \"127.0.0.1:0\"\n").unwrap();
    let ended = serve(&place, &["--config", "entangle.toml"]);
    assert_eq!(ended.code, 2, "{ended:?}");
    assert_eq!(ended.sentence(), "entangle.toml: the key s3.lissten is unknown; did you mean s3.listen?");
    assert!(!place.path("entangle-data").exists(), "nothing was done");
}

#[test]
fn an_unknown_variable_is_refused_by_name() {
    let place = Place::new();
    let mut command = place.command(&QUIET);
    command.env("ENTANGLE_DTAA", "x");
    let ended = Ended::of(command);
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.sentence().contains("ENTANGLE_DTAA is unknown; did you mean ENTANGLE_DATA?"), "{ended:?}");
}

#[test]
fn settings_that_make_no_sense_name_their_origin() {
    let place = Place::new();
    for (arguments, part) in [
        (&["--s3", "nowhere"][..], "--s3: \"nowhere\" is no address"),
        (&["--memory-state", "lots"][..], "--memory-state: \"lots\" is no size"),
        (&["--s3-tls-cert", "cert.pem"][..], "--s3-tls-key"),
        (&["--config", "missing.toml"][..], "missing.toml"),
        (&["--log", "a=b=c"][..], "--log: \"a=b=c\" is no log filter"),
    ] {
        let mut all = vec!["serve"];
        all.extend(arguments);
        let ended = place.run(&all);
        assert_eq!(ended.code, 2, "{ended:?}");
        assert!(ended.sentence().contains(part), "{ended:?}");
    }
}

#[test]
fn failures_are_json_when_asked() {
    let place = Place::new();
    for (arguments, exit, code) in [
        (&["serve", "--s3", "nowhere", "--json"][..], 2, "usage"),
        (&["no-such-command", "--json"][..], 2, "usage"),
        (
            &["status", "--json", "--endpoint", "http://127.0.0.1:9", "--access-key", "abc", "--secret-key", "x"][..],
            5,
            "unavailable",
        ),
        (&["receipt", "verify", "missing", "--json"][..], 1, "failed"),
    ] {
        let ended = place.run(arguments);
        assert_eq!(ended.code, exit, "{ended:?}");
        let document = ended.json();
        assert_eq!(document["ok"], false, "{ended:?}");
        assert_eq!(document["error"]["code"], code, "{ended:?}");
        assert_eq!(document["error"]["exit"], exit, "{ended:?}");
        assert_eq!(ended.err, "", "{ended:?}");
    }
}

#[test]
fn half_a_pair_of_credentials_is_refused() {
    let place = Place::new();
    let mut command = place.command(&QUIET);
    command.env("ENTANGLE_ACCESS_KEY", "operator");
    let ended = Ended::of(command);
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.sentence().contains("set ENTANGLE_SECRET_KEY as well"), "{ended:?}");
}

#[test]
fn a_second_process_on_the_folder_is_refused() {
    let place = Place::new();
    let serving = place.serve(&[]);
    let ended = serve(&place, &["--data", "data"]);
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.sentence().contains("is in use by another process; stop that one first"), "{ended:?}");
    let ended = place.run(&["ledger", "verify", "--data", "data"]);
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.sentence().contains("in use by another process"), "{ended:?}");
    serving.stop();
}

#[test]
fn a_port_in_use_is_named() {
    let place = Place::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ended = place.run(&["serve", "--log", "off", "--s3", &address, "--admin", "off"]);
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.sentence().contains(&address) && ended.sentence().contains("--s3"), "{ended:?}");
    let ended = place.run(&["serve", "--log", "off", "--s3", "127.0.0.1:0", "--admin", &address]);
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.sentence().contains(&address) && ended.sentence().contains("--admin"), "{ended:?}");
}

#[test]
fn folders_that_are_not_ours_or_of_another_version() {
    let place = Place::new();
    std::fs::create_dir(place.path("data")).unwrap();
    std::fs::write(place.path("data/holiday.jpg"), "x").unwrap();
    let ended = serve(&place, &["--data", "data"]);
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.sentence().contains("is no Entangle data folder"), "{ended:?}");

    place.serve(&["--data", "later"]).stop();
    std::fs::write(place.path("later/format"), "entangle-data-v99\n").unwrap();
    let ended = serve(&place, &["--data", "later"]);
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.sentence().contains("entangle-data-v99"), "{ended:?}");
    assert!(ended.sentence().contains("start it with the build that wrote it"), "{ended:?}");
}

#[test]
fn keys_that_are_missing_open_to_others_or_broken() {
    let place = Place::new();
    place.serve(&[]).stop();
    let key = place.path("data-keys/node.key");
    let good = std::fs::read(&key).unwrap();
    let refused = |part: &str| {
        let ended = serve(&place, &["--data", "data"]);
        assert_eq!(ended.code, 1, "{ended:?}");
        assert!(ended.sentence().contains("node.key") && ended.sentence().contains(part), "{ended:?}");
    };
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    refused("chmod 600");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&key, "no key").unwrap();
    refused("restore it from a copy");
    std::fs::remove_file(&key).unwrap();
    refused("put the keys folder back");
    std::fs::write(&key, good).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    place.serve(&[]).stop();
}

#[test]
fn a_tls_file_that_is_none() {
    let place = Place::new();
    std::fs::write(place.path("cert.pem"), "no certificate").unwrap();
    std::fs::write(place.path("key.pem"), "no key").unwrap();
    let ended = serve(&place, &["--s3-tls-cert", "cert.pem", "--s3-tls-key", "key.pem"]);
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.sentence().contains("cert.pem"), "{ended:?}");
}

#[test]
fn nobody_at_the_endpoint() {
    let place = Place::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let endpoint = format!("http://{free}");
    let ended = place.run(&["ledger", "checkpoint", "--endpoint", &endpoint]);
    assert_eq!(ended.code, 5, "{ended:?}");
    assert!(ended.sentence().starts_with(&format!("nothing answers at {endpoint}")), "{ended:?}");
    assert!(ended.sentence().contains("entangle serve"), "{ended:?}");
}

#[test]
fn completions_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ended = Place::new().run(&["completions", shell]);
        assert!(ended.code == 0 && ended.out.contains("entangle") && ended.out.contains("demo"), "{ended:?}");
    }
    assert_eq!(Place::new().run(&["completions", "cmd"]).code, 2);
}

#[test]
fn a_missing_argument_is_named_in_json_too() {
    let place = Place::new();
    let ended = place.run(&["--json", "keys", "remove"]);
    assert_eq!(ended.code, 2, "{ended:?}");
    let message = ended.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("<OLD_KEY>"), "{message}");
}

#[test]
fn a_data_folder_that_is_not_there_is_named_without_error_numbers() {
    let place = Place::new();
    for command in [&["ledger", "verify", "--data", "none"][..], &["backup", "--data", "none", "--to", "copy"]] {
        let ended = place.run(command);
        assert_eq!(ended.code, 1, "{ended:?}");
        assert!(ended.sentence().starts_with("none: there is no data folder; "), "{ended:?}");
    }
    assert!(!place.path("none").exists());
}

//! `entangle cluster`, and nodes that join

use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use mesh::links::Clock;
use mesh::links::identity::{Authority, Grant};
use serde_json::Value;

use crate::support::{Ended, Place, Serving, files};

/// A founded cluster in `data` whose first node runs, with its mesh on a free port.
pub(crate) fn founded(place: &Place) -> Serving {
    let made = place.run(&["--json", "cluster", "init", "--data", "data", "--name", "first", "--region", "us-east4"]);
    assert_eq!(made.code, 0, "{made:?}");
    assert_eq!((&made.json()["replica"], &made.json()["name"]), (&Value::from(1), &Value::from("first")));
    place.serve(&["--mesh", "127.0.0.1:0"])
}

fn token(place: &Place) -> String {
    token_of(place, "data")
}

/// A token that the node with this folder gives out, whether it runs or not.
pub(crate) fn token_of(place: &Place, data: &str) -> String {
    let made = place.run(&["cluster", "token", "--data", data]);
    assert_eq!(made.code, 0, "{made:?}");
    assert_eq!(made.out.lines().count(), 1, "a file or a variable takes the token as it is: {made:?}");
    made.out.trim_end().to_owned()
}

/// Starts a node on a folder of its own that is not to come up.
fn refused(place: &Place, folder: &str, token: &str) -> Ended {
    let mut command =
        place.command(&["serve", "--data", folder, "--s3", "127.0.0.1:0", "--admin", "off", "--log", "off"]);
    command.args(["--mesh", "127.0.0.1:0"]).env("ENTANGLE_JOIN", token);
    Ended::of(command)
}

/// What a running node shows of its links, as soon as one is up.
async fn linked(node: &Serving) -> Value {
    let client = node.client();
    let began = Instant::now();
    loop {
        let status = client.status().await.unwrap();
        let peer = &status["mesh"]["peers"][0];
        if peer["up"] == true && peer["round_trip_us"]["p50"].is_u64() {
            return peer.clone();
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{}\n{}", status["mesh"], node.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn keys_are_private(keys: &Path) {
    assert_eq!(std::fs::metadata(keys).unwrap().permissions().mode() & 0o777, 0o700);
    for path in files(keys).iter().filter(|path| !path.ends_with("policy")) {
        let mode = std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", path.display());
    }
}

#[tokio::test]
async fn a_node_joins_once_and_comes_back_without_a_token() {
    let place = Place::new();
    let first = founded(&place);
    first.client().create_bucket("photos").await.unwrap();
    let token = token(&place);
    std::fs::write(place.path("token"), format!("{token}\n")).unwrap();
    let second = ["--data", "second", "--mesh", "127.0.0.1:0"];
    let join = [&second[..], &["--join", "@token", "--region", "europe-west2", "--name", "second"]].concat();
    let joined = place.serve(&join);
    assert_eq!((&joined.document["replica"], &joined.document["member"]), (&Value::from(2), &Value::from(false)));
    let peer = linked(&first).await;
    assert_eq!((&peer["name"], &peer["region"]), (&Value::from("second"), &Value::from("europe-west2")));
    assert_eq!(peer["key_exchange"], "X25519MLKEM768");
    assert!(peer["certificate_days_left"].as_i64().unwrap() >= 89, "{peer}");
    let shown = place.run(&["status", "--endpoint", first.endpoint(), "--keys", "data-keys"]);
    assert_eq!(shown.code, 0, "{shown:?}");
    for part in ["second (r2)", "sent again", "key exchange X25519MLKEM768"] {
        assert!(shown.out.contains(part), "no {part:?} in {shown:?}");
    }
    keys_are_private(&place.path("data-keys"));
    keys_are_private(&place.path("second-keys"));
    let cluster_key = |keys: &str| std::fs::read_to_string(place.path(keys).join("cluster.key")).unwrap();
    assert_eq!(cluster_key("data-keys"), cluster_key("second-keys"));
    let secret = cluster_key("data-keys").lines().nth(1).unwrap().to_owned();
    for log in [first.log(), joined.log()] {
        assert!(!log.contains(&secret) && !log.contains(&token), "{log}");
    }
    // Neither needs its token again, and one that is still given does not matter.
    joined.stop();
    let again = place.serve(&second);
    linked(&first).await;
    first.stop();
    again.stop();
    let joined = place.serve(&join);
    let first = place.serve(&["--mesh", "127.0.0.1:0"]);
    assert!(
        first.client().create_bucket("more").await.is_ok(),
        "the first node serves what it has, alone in its group"
    );
    drop((first, joined));
}

/// What one of these nodes answers, as soon as it does.
pub(crate) async fn read_at(place: &Place, node: &Serving, key: &str) -> Vec<u8> {
    let began = Instant::now();
    loop {
        match node.client_with(place, "data-keys").read_object("photos", key, 1 << 20).await {
            Ok(bytes) => return bytes.to_vec(),
            Err(error) => {
                assert!(began.elapsed() < Duration::from_secs(30), "{key}: {error}\n{}", node.log());
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Starts a node that joins with a token of another one, in a folder that is called like itself.
pub(crate) fn join(place: &Place, name: &str, token_of: &str) -> Serving {
    let token = self::token_of(place, token_of);
    let mesh = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let arguments = ["--data", name, "--name", name, "--mesh", &mesh];
    Serving::start(place, &arguments, &[("ENTANGLE_JOIN", &token)])
}

/// Changes the members, at a node of the cluster; says what they are then.
pub(crate) fn change(place: &Place, at: &Serving, change: &[&str]) -> String {
    let arguments = [&["cluster"], change, &["--endpoint", at.endpoint(), "--keys", "data-keys"]].concat();
    let began = Instant::now();
    loop {
        let changed = place.run(&arguments);
        // The links to a newcomer are there a moment after it came.
        if changed.code == 0 || began.elapsed() > Duration::from_secs(30) {
            assert_eq!(changed.code, 0, "{change:?}: {changed:?}\n{}", at.log());
            return changed.out;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[tokio::test]
async fn nodes_become_members_and_one_is_replaced() {
    let place = Place::new();
    let first = founded(&place);
    first.client().create_bucket("photos").await.unwrap();
    first.client().put_object("photos", "cat", "a cat").await.unwrap();
    let large = vec![7; 300_000];
    first.client().put_object("photos", "large", large.clone()).await.unwrap();
    let join = |name: &str| join(&place, name, "data");
    let (second, third) = (join("second"), join("third"));
    let change = |at: &Serving, wanted: &[&str]| change(&place, at, wanted);
    change(&first, &["add", "second"]);
    let three = change(&first, &["add", "third"]);
    assert!(three.contains("3 members, 1 of them may fail"), "{three}");
    for node in [&second, &third] {
        assert_eq!(read_at(&place, node, "cat").await, b"a cat");
        assert_eq!(read_at(&place, node, "large").await, large);
    }
    // Twice makes no sense, and a stranger is none.
    let twice = place.run(&["cluster", "add", "third", "--endpoint", first.endpoint(), "--keys", "data-keys"]);
    assert!(twice.code == 1 && twice.sentence().contains("is a member already"), "{twice:?}");
    let nobody = place.run(&["cluster", "add", "nobody", "--endpoint", first.endpoint(), "--keys", "data-keys"]);
    assert!(nobody.sentence().contains("names no such node"), "{nobody:?}");
    let fourth = join("fourth");
    let replaced = change(&second, &["replace", "first", "fourth"]);
    assert!(replaced.contains("3 members, 1 of them may fail"), "{replaced}");
    assert_eq!(first.ended(), 0, "whoever is removed ends by itself");
    assert_eq!(read_at(&place, &fourth, "large").await, large);
    third.stop();
    second.client_with(&place, "data-keys").put_object("photos", "dog", "a dog").await.unwrap();
    assert_eq!(read_at(&place, &fourth, "dog").await, b"a dog");
}

#[test]
fn a_token_is_for_one_node_one_cluster_and_its_time() {
    let (place, other) = (Place::new(), Place::new());
    let (_first, elsewhere) = (founded(&place), founded(&other));
    let used = token(&place);
    Serving::start(&place, &["--data", "second", "--mesh", "127.0.0.1:0"], &[("ENTANGLE_JOIN", &used)]).stop();
    let ended = refused(&place, "third", &used);
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.sentence().contains("ENTANGLE_JOIN was used before"), "{ended:?}");
    assert!(ended.sentence().contains("entangle cluster token"), "{ended:?}");
    let mut namesake =
        place.command(&["serve", "--data", "third", "--name", "first", "--mesh", "127.0.0.1:0", "--log", "off"]);
    namesake.env("ENTANGLE_JOIN", token(&place));
    let ended = Ended::of(namesake);
    assert!(ended.sentence().contains("replica 1 is called first: choose another name with --name"), "{ended:?}");
    // A node that has joined does not go over to another cluster.
    let ended = refused(&place, "second", &token(&other));
    assert!(ended.sentence().contains("start it without ENTANGLE_JOIN"), "{ended:?}");
    // The address of one cluster in a token of another.
    let authority = Authority::open(&place.path("data-keys")).unwrap();
    let at = elsewhere.text("mesh").to_owned();
    let grant = |addresses, valid_s| Grant { addresses, valid_s };
    let foreign = authority.issue_token(&grant(vec![at], 60), &Clock::system()).unwrap().to_string();
    let ended = refused(&place, "fourth", &foreign);
    assert!(ended.sentence().contains("is of another cluster than the join token"), "{ended:?}");
    // Too late, and nobody there.
    let dead = || vec!["127.0.0.1:1".to_owned()];
    let late = authority.issue_token(&grant(dead(), 0), &Clock::from_fn(|| 1_700_000_000)).unwrap().to_string();
    let ended = refused(&place, "fourth", &late);
    assert!(ended.sentence().contains("days ago by the clock of this machine"), "{ended:?}");
    let ended = refused(&place, "fourth", &(token(&place) + "0"));
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.sentence().contains("the join token is damaged"), "{ended:?}");
}

#[test]
fn folders_and_ports_that_do_not_fit_are_refused_with_advice() {
    let place = Place::new();
    let none = place.run(&["cluster", "token", "--data", "nowhere"]);
    assert_eq!(none.code, 1, "{none:?}");
    assert!(none.sentence().contains("entangle cluster init"), "{none:?}");
    let odd = place.run(&["cluster", "init", "--data", "odd", "--name", "Not A Label"]);
    assert_eq!(odd.code, 2, "{odd:?}");
    assert!(odd.sentence().starts_with("--name: "), "{odd:?}");
    let odd = place.run(&["cluster", "init", "--data", "odd", "--mesh", "somewhere"]);
    assert!(odd.sentence().contains("HOST:PORT"), "{odd:?}");
    let first = founded(&place);
    let twice = place.run(&["cluster", "init", "--data", "data"]);
    assert!(twice.sentence().contains("already; serve it with `entangle serve"), "{twice:?}");
    let token = token(&place);
    first.stop();
    // A folder with data of its own does not join.
    place.serve(&["--data", "lone"]).stop();
    let ended = refused(&place, "lone", &token);
    assert!(ended.sentence().contains("holds data already"), "{ended:?}");
    let ended = refused(&place, "second", &token);
    assert_eq!(ended.code, 5, "{ended:?}");
    assert!(ended.sentence().contains("no node of the cluster answers"), "{ended:?}");
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command =
        place.command(&["serve", "--data", "data", "--s3", "127.0.0.1:0", "--admin", "off", "--log", "off"]);
    command.args(["--mesh", &address]);
    let ended = Ended::of(command);
    assert!(ended.sentence().contains("in use") && ended.sentence().contains("--mesh"), "{ended:?}");
}

#[tokio::test]
async fn a_lone_node_becomes_the_first_of_a_cluster_and_keeps_its_data() {
    let place = Place::new();
    let lone = place.serve(&[]);
    lone.client().create_bucket("photos").await.unwrap();
    lone.client().put_object("photos", "cat", "a cat").await.unwrap();
    let cluster = lone.client().status().await.unwrap()["cluster"].clone();
    lone.stop();
    let first = founded(&place);
    assert_eq!(first.client().status().await.unwrap()["cluster"], cluster);
    assert_eq!(first.client().read_object("photos", "cat", 100).await.unwrap(), "a cat");
    first.stop();
}

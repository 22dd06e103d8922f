//! Every node of a cluster can be replaced, the one that founded it, too.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use client::Client;
use mesh::links::Clock;
use mesh::links::identity::Authority;
use types::ReplicaId;

use crate::cluster::{change, founded, join, read_at, token_of};
use crate::support::{Place, Serving};

/// Writes one object after the other at nodes in turn, and tries once more at the next.
struct Load {
    nodes: Arc<Mutex<Vec<Client>>>,
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<(usize, Vec<String>)>,
}

impl Load {
    fn begin(clients: Vec<Client>) -> Self {
        let (nodes, stop) = (Arc::new(Mutex::new(clients)), Arc::new(AtomicBool::new(false)));
        let (at, until) = (nodes.clone(), stop.clone());
        let task = tokio::spawn(async move {
            let (mut number, mut failed) = (0, Vec::new());
            while !until.load(Ordering::Relaxed) {
                let clients = at.lock().unwrap().clone();
                let key = format!("object-{number}");
                let mut tries = Vec::new();
                for shift in 0..2 {
                    let client = &clients[(number + shift) % clients.len()];
                    match client.put_object("photos", &key, key.clone()).await {
                        Ok(_) => break,
                        Err(error) => tries.push(error.to_string()),
                    }
                }
                if tries.len() == 2 {
                    failed.push(format!("{key}: {tries:?}"));
                }
                number += 1;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            (number, failed)
        });
        Self { nodes, stop, task }
    }

    fn at(&self, clients: Vec<Client>) {
        *self.nodes.lock().unwrap() = clients;
    }

    async fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let (written, failed) = self.task.await.unwrap();
        assert!(failed.is_empty(), "{} of {written} failed at two nodes: {failed:#?}", failed.len());
        written
    }
}

/// Until a node takes requests.
async fn ready(place: &Place, node: &Serving) {
    let began = Instant::now();
    while node.client_with(place, "data-keys").read_object("photos", "cat", 100).await.is_err() {
        assert!(began.elapsed() < Duration::from_secs(60), "{}", node.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_node_is_replaced_in_turn_under_load_and_later_ones_take_nodes_in() {
    let place = Place::new();
    let first = founded(&place);
    first.client().create_bucket("photos").await.unwrap();
    first.client().put_object("photos", "cat", "a cat").await.unwrap();
    let (second, third) = (join(&place, "second", "data"), join(&place, "third", "second"));
    change(&place, &first, &["add", "second"]);
    change(&place, &second, &["add", "third"]);
    ready(&place, &second).await;
    ready(&place, &third).await;
    let clients =
        |nodes: &[&Serving]| nodes.iter().map(|node| node.client_with(&place, "data-keys")).collect::<Vec<_>>();
    let load = Load::begin(clients(&[&first, &second, &third]));
    // The founder is lost: its machine is gone, and with it the authority that was made there.
    first.kill();
    std::fs::rename(place.path("data-keys"), place.path("lost-keys")).unwrap();
    std::fs::create_dir(place.path("data-keys")).unwrap();
    std::fs::copy(place.path("lost-keys/credentials"), place.path("data-keys/credentials")).unwrap();
    let fourth = join(&place, "fourth", "third");
    change(&place, &second, &["replace", "first", "fourth"]);
    ready(&place, &fourth).await;
    load.at(clients(&[&second, &third, &fourth]));
    // The second one is replaced while it runs, with a token of the one that came last.
    let fifth = join(&place, "fifth", "fourth");
    change(&place, &third, &["replace", "second", "fifth"]);
    assert_eq!(second.ended(), 0, "whoever is removed ends by itself");
    ready(&place, &fifth).await;
    load.at(clients(&[&third, &fourth, &fifth]));
    third.kill();
    let sixth = join(&place, "sixth", "fifth");
    let replaced = change(&place, &fourth, &["replace", "third", "sixth"]);
    assert!(replaced.contains("3 members, 1 of them may fail"), "{replaced}");
    ready(&place, &sixth).await;
    load.at(clients(&[&fourth, &fifth, &sixth]));
    let seventh = join(&place, "seventh", "sixth");
    let four = change(&place, &fifth, &["add", "seventh"]);
    assert!(four.contains("4 members, 1 of them may fail"), "{four}");
    ready(&place, &seventh).await;
    let written = load.end().await;
    assert!(written > 20, "{written}");
    assert_eq!(read_at(&place, &seventh, "cat").await, b"a cat");
    for number in 0..written {
        let key = format!("object-{number}");
        assert_eq!(read_at(&place, &seventh, &key).await, key.as_bytes());
    }
}

#[tokio::test]
async fn a_certificate_that_expired_long_ago_renews_itself_without_the_founder() {
    let place = Place::new();
    let first = founded(&place);
    first.client().create_bucket("photos").await.unwrap();
    first.client().put_object("photos", "cat", "a cat").await.unwrap();
    let second = join(&place, "second", "data");
    let third = join(&place, "third", "data");
    change(&place, &first, &["add", "second"]);
    change(&place, &first, &["add", "third"]);
    ready(&place, &third).await;
    second.stop();
    first.kill();
    // What is in the folder of the second one is of long ago.
    let keys = place.path("second-keys");
    let authority = Authority::open(&keys).unwrap();
    let long_ago = Clock::from_fn(|| 1_600_000_000);
    let mut expired = authority.issue_identity(ReplicaId(2), "second", &long_ago).unwrap();
    for file in ["mesh.key", "mesh.crt"] {
        std::fs::remove_file(keys.join(file)).unwrap();
    }
    expired.save(&keys).unwrap();
    let second = place.serve(&["--data", "second"]);
    let client = second.client_with(&place, "data-keys");
    let began = Instant::now();
    while client.put_object("photos", "dog", "a dog").await.is_err() {
        assert!(began.elapsed() < Duration::from_secs(60), "{}", second.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let status = second.client_with(&place, "data-keys").status().await.unwrap();
    assert!(status["mesh"]["certificate_days_left"].as_i64().unwrap() >= 89, "{}", status["mesh"]);
    drop(third);
}

/// Of two that show one token at different nodes, one is let in.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_used_once_in_the_whole_cluster() {
    let place = Place::new();
    let first = founded(&place);
    let second = join(&place, "second", "data");
    change(&place, &first, &["add", "second"]);
    let address = |node: &Serving| node.text("mesh").to_owned();
    let token = token_of(&place, "second").parse::<mesh::links::identity::Token>().unwrap();
    assert!(token.addresses().contains(&address(&first)) && token.addresses().contains(&address(&second)));
    let joins = (0..4).map(|number| {
        let token = token.clone();
        tokio::spawn(async move {
            let introduction = format!("format = 1\nkey = \"{}\"\nregion = \"r\"\n", "07".repeat(32));
            mesh::links::identity::join(&token, &format!("racer-{number}"), introduction.into(), &Clock::system()).await
        })
    });
    let mut admitted = 0;
    for join in joins.collect::<Vec<_>>() {
        admitted += usize::from(join.await.unwrap().is_ok());
    }
    assert_eq!(admitted, 1, "{}", first.log());
}

#[tokio::test]
async fn the_access_key_of_the_environment_waits_until_the_node_is_a_member() {
    let place = Place::new();
    let first = founded(&place);
    first.client().create_bucket("photos").await.unwrap();
    let token = token_of(&place, "data");
    let mesh = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let arguments = ["--data", "second", "--name", "second", "--mesh", &mesh];
    let key = [("ENTANGLE_ACCESS_KEY", "AKGIVEN"), ("ENTANGLE_SECRET_KEY", "a-secret-that-was-given")];
    let second = Serving::start(&place, &arguments, &[("ENTANGLE_JOIN", &token), key[0], key[1]]);
    change(&place, &first, &["add", "second"]);
    let given =
        crate::support::client(first.endpoint(), Some(client::Credentials::new("AKGIVEN", "a-secret-that-was-given")));
    let began = Instant::now();
    while given.put_object("photos", "cat", "a cat").await.is_err() {
        assert!(began.elapsed() < Duration::from_secs(60), "{}", second.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // A start without a quorum does not fail for it, either.
    first.stop();
    second.stop();
    let second = Serving::start(&place, &["--data", "second"], &key);
    let first = place.serve(&[]);
    ready(&place, &second).await;
    let log = second.log();
    assert!(!log.contains("WARN") || !log.contains("NotAPeer"), "{log}");
    drop(first);
}

/// Whatever comes to the mesh port from strangers costs the cluster nothing.
#[tokio::test(flavor = "multi_thread")]
async fn garbage_at_the_mesh_port_is_nothing() {
    let place = Place::new();
    let first = founded(&place);
    first.client().create_bucket("photos").await.unwrap();
    first.client().put_object("photos", "cat", "a cat").await.unwrap();
    let (second, third) = (join(&place, "second", "data"), join(&place, "third", "data"));
    change(&place, &first, &["add", "second"]);
    change(&place, &first, &["add", "third"]);
    ready(&place, &third).await;
    let port = second.text("mesh").to_owned();
    let stop = Arc::new(AtomicBool::new(false));
    let throwing = {
        let stop = stop.clone();
        std::thread::spawn(move || {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
            let mut thrown = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                let mut datagram = vec![0_u8; 1 + usize::try_from(seed % 1400).unwrap()];
                for byte in &mut datagram {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    *byte = (seed >> 33) as u8;
                }
                // Some look like the beginning of a connection of QUIC version 1.
                if thrown.is_multiple_of(3) && datagram.len() > 1200 {
                    datagram[..6].copy_from_slice(&[0xc3, 0, 0, 0, 1, 8]);
                }
                let _ = socket.send_to(&datagram, &port);
                thrown += 1;
                if thrown.is_multiple_of(64) {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            thrown
        })
    };
    let load = Load::begin(
        [&first, &second, &third].iter().map(|node| node.client_with(&place, "data-keys")).collect::<Vec<_>>(),
    );
    tokio::time::sleep(Duration::from_secs(5)).await;
    let status = second.client_with(&place, "data-keys").status().await.unwrap();
    assert!(status["mesh"]["peers"].as_array().unwrap().iter().all(|peer| peer["up"] == true), "{}", status["mesh"]);
    assert!(load.end().await > 50);
    stop.store(true, Ordering::Relaxed);
    assert!(throwing.join().unwrap() > 1000);
    assert!(!second.log().contains("panicked"), "{}", second.log());
}

/// A clock an hour off, either way, costs the others nothing, and its node says what is wrong.
#[cfg(feature = "faults")]
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_an_hour_off_is_said_and_harms_nobody() {
    let place = Place::new();
    let first = founded(&place);
    first.client().create_bucket("photos").await.unwrap();
    first.client().put_object("photos", "cat", "a cat").await.unwrap();
    let (second, mut third) = (join(&place, "second", "data"), join(&place, "third", "data"));
    change(&place, &first, &["add", "second"]);
    change(&place, &first, &["add", "third"]);
    ready(&place, &third).await;
    for (round, off_s) in [3600, -3600].into_iter().enumerate() {
        third.stop();
        std::fs::write(place.path("faults"), format!("clock_offset_s = {off_s}\n")).unwrap();
        third = Serving::start(&place, &["--data", "third"], &[("ENTANGLE_FAULTS", "faults")]);
        let others = [&first, &second].map(|node| node.client_with(&place, "data-keys"));
        for number in 0..20 {
            let key = format!("{round}-{number}");
            others[number % 2].put_object("photos", &key, key.clone()).await.unwrap();
        }
        // Either it serves, as the others do, or it says that it is the clock.
        let wrong = third.client_with(&place, "data-keys");
        let began = Instant::now();
        loop {
            match wrong.put_object("photos", "of the third", "a bird").await {
                Ok(_) => break,
                Err(error) if error.to_string().contains("clock") => break,
                Err(error) => assert!(began.elapsed() < Duration::from_secs(60), "{error}\n{}", third.log()),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        third.stop();
        third = place.serve(&["--data", "third"]);
        ready(&place, &third).await;
        let key = format!("{round}-19");
        assert_eq!(read_at(&place, &third, &key).await, key.as_bytes());
        third.client_with(&place, "data-keys").put_object("photos", "again", "a bird").await.unwrap();
    }
}

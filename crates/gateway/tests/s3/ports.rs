//! The ports: virtual hosts, the admin port, HTTPS, stopping.

use gateway::{BindError, Gateway, GatewayConfig, TlsConfig};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::client::{read_answer, send_raw};
use crate::server::Server;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn buckets_in_the_host() {
    let server = Server::start_with(|config| config.domains = vec!["s3.example.com".to_owned()]).await;
    let client = server.client();
    client.put("/").header("host", "logs.s3.example.com").send().await.expect_status(200);
    let put = client.put("/_entangle/v1/status").header("host", "logs.s3.example.com:9000").body("x");
    put.send().await.expect_status(200);
    let got = client.get("/logs/_entangle/v1/status").header("host", "s3.example.com").send().await;
    assert_eq!(got.expect_status(200).text(), "x", "a key like a native route, in a bucket");
    client.get("/_entangle/v1/status").header("host", "s3.example.com").send().await.expect_status(200);
    client.head("/logs").send().await.expect_status(200);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_admin_port_tells_and_does_nothing() {
    let (server, client) = Server::with_bucket().await;
    client.put("/bkt/k").body("hello").send().await.expect_status(200);
    client.get("/bkt/none").send().await.expect_status(404);
    let ask = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").into_bytes();
    for (path, part) in [("/healthz", "ok"), ("/readyz", "ready"), ("/status", "\"ledger\"")] {
        let answer = send_raw(server.admin, &ask(path), "GET").await.expect_status(200);
        assert!(answer.text().contains(part), "{path}: {}", answer.text());
    }
    let metrics = send_raw(server.admin, &ask("/metrics"), "GET").await.expect_status(200);
    assert!(metrics.header("content-type").starts_with("application/openmetrics-text"));
    let text = metrics.text();
    for line in [
        "entangle_s3_requests_total{operation=\"PutObject\",status=\"200\"} 1",
        "entangle_s3_requests_total{operation=\"GetObject\",status=\"404\"} 1",
        "entangle_s3_request_duration_seconds_count{operation=\"PutObject\"} 1",
        "entangle_s3_received_bytes_total 5",
        "entangle_ready 1",
        "# EOF",
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
    let documented = include_str!("../../../../docs/metrics.md");
    for name in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).filter_map(|line| line.split(' ').next()) {
        assert!(documented.contains(&format!("`{name}")), "{name} is not in docs/metrics.md");
    }
    let post = b"POST /status HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    send_raw(server.admin, post, "POST").await.expect_status(405);
    send_raw(server.admin, &ask("/"), "GET").await.expect_status(404);
    server.stop().await;
}

/// Whatever a client stops in the middle of, it does not keep its place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_on_which_nothing_happens_are_closed() {
    let server = Server::start_with(|config| config.idle_timeout = Duration::from_millis(300)).await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let settings = [&preface[..], &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
    for address in [server.address, server.admin] {
        for said in [&b""[..], b"G", b"GET / HTTP/1.1\r\nhost: x\r\n", &preface[..7], &settings] {
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            stream.write_all(said).await.unwrap();
            let mut answer = Vec::new();
            let closed = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
            assert!(closed.is_ok(), "{:?} keeps its connection", String::from_utf8_lossy(said));
        }
    }
    server.stop().await;
}

/// A request that takes long is no idleness.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_upload_outlives_the_idle_time_out() {
    let server = Server::start_with(|config| config.idle_timeout = Duration::from_millis(300)).await;
    let client = server.client();
    client.put("/bkt").send().await.expect_status(200);
    let request = client.put("/bkt/k").body("hello").into_wire();
    let (head, last) = request.split_at(request.len() - 1);
    let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    stream.write_all(head).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1200)).await;
    stream.write_all(last).await.unwrap();
    read_answer(&mut stream, "PUT").await.expect_status(200);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn https() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let files = TlsConfig { cert: folder.path().join("cert.pem"), key: folder.path().join("key.pem") };
    std::fs::write(&files.cert, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    let server = Server::start_with(|config| config.tls = Some(files)).await;
    let client = server.client();
    let mut roots = tokio_rustls::rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let config = tokio_rustls::rustls::ClientConfig::builder_with_provider(
        tokio_rustls::rustls::crypto::aws_lc_rs::default_provider().into(),
    )
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_root_certificates(roots)
    .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    for (request, status) in
        [(client.put("/bkt"), 200), (client.put("/bkt/k").body("hello"), 200), (client.get("/bkt/k"), 200)]
    {
        let stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
        let name = "localhost".try_into().unwrap();
        let mut stream = connector.connect(name, stream).await.unwrap();
        stream.write_all(&request.into_wire()).await.unwrap();
        read_answer(&mut stream, "GET").await.expect_status(status);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_in_use_is_named() {
    let server = Server::start().await;
    let taken = Gateway::bind(GatewayConfig::new(server.address), server.node.clone()).await;
    let Err(error @ BindError::InUse { address }) = taken else { panic!("bound twice") };
    assert_eq!(address, server.address);
    assert!(error.to_string().contains("in use by another process"));
    let mut config = GatewayConfig::new(([127, 0, 0, 1], 0).into());
    config.domains = vec!["http://example.com".to_owned()];
    assert!(matches!(Gateway::bind(config, server.node.clone()).await, Err(BindError::Domain(_))));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_lets_a_request_end() {
    let (server, client) = Server::with_bucket().await;
    let (mut stream, method) = client.put("/bkt/k").body("hello").wire_body("hel").open().await;
    // The request is in flight once its operation asks for the rest.
    let metrics = b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    for _ in 0..500 {
        let text = send_raw(server.admin, metrics, "GET").await.text();
        if text.contains("entangle_s3_requests_in_flight 1") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let node = server.node.clone();
    let stopping = tokio::spawn(server.stop());
    stream.write_all(b"lo").await.unwrap();
    read_answer(&mut stream, &method).await.expect_status(200);
    stopping.await.unwrap();
    assert!(node.ready().is_err());
}

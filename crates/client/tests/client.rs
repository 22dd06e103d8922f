//! The client against servers that behave, that close, that stall and that refuse.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use client::{Client, Credentials, Error, Options, Request};
use http::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Reads one request, head and body, as text.
async fn read_request(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Option<String> {
    let mut seen = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&seen).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let len = head
                .lines()
                .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:").map(|v| v.trim().to_owned()))
                .map_or(0, |len| len.parse().unwrap());
            if body.len() >= len {
                return Some(text);
            }
        }
        let mut piece = [0; 4096];
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return None,
            Ok(len) => seen.extend_from_slice(&piece[..len]),
        }
    }
}

async fn answer(stream: &mut (impl tokio::io::AsyncWrite + Unpin), status: &str, body: &str) {
    let text = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(text.as_bytes()).await.unwrap();
}

/// A server that runs `serve` on each connection; the number of connections so far.
async fn server<F, R>(serve: F) -> (String, Arc<AtomicUsize>)
where
    F: Fn(TcpStream) -> R + Send + Sync + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(serve(stream));
        }
    });
    (endpoint, connections)
}

fn options(endpoint: &str) -> Options {
    let mut options = Options::new(endpoint.parse().unwrap());
    options.credentials = Some(Credentials::new("an-access-key", "a-secret-key"));
    options
}

#[tokio::test]
async fn requests_are_signed_and_connections_are_used_again() {
    let (endpoint, connections) = server(|mut stream| async move {
        while let Some(request) = read_request(&mut stream).await {
            answer(&mut stream, "200 OK", &request).await;
        }
    })
    .await;
    let client = Client::new(options(&endpoint)).unwrap();
    for _ in 0..3 {
        let request = Request::new(Method::PUT, "/b/a key").query("x", "1").body("hello");
        let seen = client.send_ok(request).await.unwrap().bytes(10_000).await.unwrap();
        let seen = String::from_utf8(seen.to_vec()).unwrap();
        assert!(seen.starts_with("PUT /b/a%20key?x=1 HTTP/1.1\r\n"), "{seen}");
        assert!(seen.ends_with("\r\n\r\nhello"), "{seen}");
        let digest = "x-amz-content-sha256: 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        assert!(seen.contains(digest), "{seen}");
        assert!(seen.contains("authorization: AWS4-HMAC-SHA256 Credential=an-access-key/"), "{seen}");
        assert!(!seen.contains("a-secret-key"), "{seen}");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_is_replaced() {
    // One answer a connection, without announcing that it closes.
    let (endpoint, connections) = server(|mut stream| async move {
        if read_request(&mut stream).await.is_some() {
            answer(&mut stream, "200 OK", "x").await;
        }
    })
    .await;
    let client = Client::new(options(&endpoint)).unwrap();
    for _ in 0..20 {
        match client.read_object("b", "k", 10).await {
            Ok(body) => assert_eq!(&body[..], b"x"),
            // The close may arrive just after the request went out: then nothing says whether it was served, and
            // only the caller may repeat it.
            Err(Error::Http { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert!(connections.load(Ordering::SeqCst) > 1);
}

#[tokio::test]
async fn refusals_carry_the_s3_code() {
    let (endpoint, _) = server(|mut stream| async move {
        while read_request(&mut stream).await.is_some() {
            let body = "<Error><Code>NoSuchKey</Code><Message>There is no such key.</Message></Error>";
            answer(&mut stream, "404 Not Found", body).await;
        }
    })
    .await;
    let client = Client::new(options(&endpoint)).unwrap();
    match client.read_object("b", "k", 10).await {
        Err(Error::Refused(refused)) => assert_eq!((refused.status, refused.code.as_str()), (404, "NoSuchKey")),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_silent_server_and_a_long_answer_are_bounded() {
    let (endpoint, _) = server(|mut stream| async move {
        while let Some(request) = read_request(&mut stream).await {
            if request.contains("/silent") {
                std::future::pending::<()>().await;
            }
            answer(&mut stream, "200 OK", "0123456789").await;
        }
    })
    .await;
    let mut options = options(&endpoint);
    options.timeout = Duration::from_millis(200);
    let client = Client::new(options).unwrap();
    assert!(matches!(client.read_object("b", "silent", 10).await, Err(Error::TimedOut { .. })));
    assert!(matches!(client.read_object("b", "k", 9).await, Err(Error::TooLong { limit: 9 })));
    assert_eq!(&client.read_object("b", "k", 10).await.unwrap()[..], b"0123456789");
}

#[tokio::test]
async fn nobody_there_is_a_connect_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = Client::new(options(&endpoint)).unwrap().status().await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error}");
    assert!(error.is_retryable());
    assert!(error.to_string().contains(&endpoint), "{error}");
}

#[tokio::test]
async fn https_trusts_the_named_certificate_and_no_other() {
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = rustls_pki_types::PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let (endpoint, _) = server(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            while let Some(request) = read_request(&mut stream).await {
                answer(&mut stream, "200 OK", &request).await;
            }
        }
    })
    .await;
    let endpoint = endpoint.replace("http://127.0.0.1", "https://localhost");
    let folder = std::env::temp_dir().join(format!("entangle-client-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (ours, other, broken) = (folder.join("ours.pem"), folder.join("other.pem"), folder.join("broken.pem"));
    std::fs::write(&ours, certified.cert.pem()).unwrap();
    let stranger = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(&other, stranger.cert.pem()).unwrap();
    std::fs::write(&broken, "no certificate at all").unwrap();

    let with_ca = |path: &std::path::Path| {
        let mut options = options(&endpoint);
        options.ca = Some(path.to_owned());
        Client::new(options)
    };
    let put = Request::new(Method::PUT, "/b/k").body("hello");
    let seen = with_ca(&ours).unwrap().send_ok(put).await.unwrap().bytes(10_000).await.unwrap();
    let seen = String::from_utf8(seen.to_vec()).unwrap();
    assert!(seen.contains("x-amz-content-sha256: UNSIGNED-PAYLOAD"), "{seen}");
    assert!(matches!(with_ca(&other).unwrap().status().await, Err(Error::Tls { .. })));
    assert!(matches!(with_ca(&broken), Err(Error::Certificates { .. })));
    assert!(matches!(with_ca(&folder.join("missing.pem")), Err(Error::Certificates { .. })));
    std::fs::remove_dir_all(&folder).unwrap();
}

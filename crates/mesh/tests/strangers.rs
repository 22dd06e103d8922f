//! Whoever is no member takes little, learns nothing, and holds up nobody.
#![allow(clippy::unwrap_used)]

mod common;

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use common::{Cluster, START_S, eventually, pair, within};
use mesh::links::emulate::Sea;
use mesh::links::{Event, RefusalKind};
use parking_lot::Mutex;
use quinn::crypto::rustls::QuicClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::{self, cipher_suite, kx_group};
use rustls::crypto::{ActiveKeyExchange, CryptoProvider, SharedSecret, SupportedKxGroup};
use rustls::{DigitallySignedStruct, NamedGroup, SignatureScheme};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use types::limits::{MESH_HANDSHAKES_FREE, MESH_HANDSHAKES_MAX, MESH_PEER_HANDSHAKES_MAX};

/// A client that believes everyone.
#[derive(Debug)]
struct Credulous;

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// A key exchange that tells whether it was carried through.
#[derive(Debug)]
struct Watched {
    group: &'static dyn SupportedKxGroup,
    completed: &'static AtomicBool,
}

impl SupportedKxGroup for Watched {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, rustls::Error> {
        Ok(Box::new(WatchedExchange { inner: self.group.start()?, completed: self.completed }))
    }

    fn name(&self) -> NamedGroup {
        self.group.name()
    }
}

struct WatchedExchange {
    inner: Box<dyn ActiveKeyExchange>,
    completed: &'static AtomicBool,
}

impl ActiveKeyExchange for WatchedExchange {
    fn complete(self: Box<Self>, share: &[u8]) -> Result<SharedSecret, rustls::Error> {
        self.completed.store(true, Ordering::Relaxed);
        self.inner.complete(share)
    }

    fn pub_key(&self) -> &[u8] {
        self.inner.pub_key()
    }

    fn group(&self) -> NamedGroup {
        self.inner.group()
    }
}

/// A client of another make: with these key exchanges, and perhaps with a certificate that it signed itself.
fn client(groups: Vec<&'static dyn SupportedKxGroup>, certificate: bool) -> quinn::ClientConfig {
    let provider = CryptoProvider { kx_groups: groups, ..aws_lc_rs::default_provider() };
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Credulous));
    let mut config = if certificate {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let own = rcgen::CertificateParams::new(vec!["r2.example".to_owned()]).unwrap().self_signed(&key).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        config.with_client_auth_cert(vec![own.der().clone()], key).unwrap()
    } else {
        config.with_no_client_auth()
    };
    config.alpn_protocols = vec![b"entangle-mesh".to_vec()];
    let initial = cipher_suite::TLS13_AES_128_GCM_SHA256.tls13().unwrap().quic_suite().unwrap();
    quinn::ClientConfig::new(Arc::new(QuicClientConfig::with_initial(Arc::new(config), initial).unwrap()))
}

/// How a connection with this configuration ends.
async fn fate(config: quinn::ClientConfig, target: SocketAddr) -> quinn::ConnectionError {
    let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    match within(endpoint.connect_with(config, target, "any.example").unwrap()).await {
        Ok(connection) => within(connection.closed()).await,
        Err(error) => error,
    }
}

/// The alert that a connection was closed with.
fn alert(error: &quinn::ConnectionError) -> u64 {
    match error {
        quinn::ConnectionError::ConnectionClosed(close) => u64::from(close.error_code) - 0x100,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn only_the_hybrid_key_exchange_is_accepted() {
    static CLASSICAL: AtomicBool = AtomicBool::new(false);
    static HYBRID: AtomicBool = AtomicBool::new(false);
    static X25519: Watched = Watched { group: kx_group::X25519, completed: &CLASSICAL };
    static X25519MLKEM768: Watched = Watched { group: kx_group::X25519MLKEM768, completed: &HYBRID };
    let cluster = Cluster::new(1);
    let mut one = cluster.node(1);
    // handshake_failure
    assert_eq!(alert(&fate(client(vec![&X25519], true), one.address()).await), 40);
    assert_eq!(alert(&fate(client(vec![kx_group::SECP256R1, kx_group::MLKEM768], true), one.address()).await), 40);
    let refusal = one.refusal().await;
    assert_eq!((refusal.kind, refusal.by_peer), (RefusalKind::Version, false));
    assert!(!CLASSICAL.load(Ordering::Relaxed));
    // preferred or not, where it is offered it is what is used: the connection gets as far as the certificate
    let offered = client(vec![&X25519, &X25519MLKEM768], true);
    assert_ne!(alert(&fate(offered, one.address()).await), 40);
    assert!(HYBRID.load(Ordering::Relaxed) && !CLASSICAL.load(Ordering::Relaxed));
}

#[tokio::test]
async fn without_a_valid_certificate_there_is_nothing_to_talk_to() {
    let cluster = Cluster::new(1);
    let mut one = cluster.node(1);
    let groups = || vec![kx_group::X25519MLKEM768];
    // certificate_required, bad_certificate
    assert_eq!(alert(&fate(client(groups(), false), one.address()).await), 116);
    assert_eq!(alert(&fate(client(groups(), true), one.address()).await), 42);
    for _ in 0..2 {
        assert_eq!(one.refusal().await.kind, RefusalKind::Certificate);
    }
    eventually(|| one.endpoint.connections() == 0).await;
}

#[tokio::test]
async fn garbage_on_the_port_is_ignored() {
    let cluster = Cluster::new(1);
    let ((one, link), (mut two, _)) = pair(&cluster).await;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut random = START_S;
    for len in (0..1500).chain([1200; 500]) {
        let garbage: Vec<u8> = (0..len)
            .map(|_| {
                // xorshift (Marsaglia, 2003): any bytes will do
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random as u8
            })
            .collect();
        let _ = socket.send_to(&garbage, one.address());
    }
    link.send_urgent(Bytes::from_static(b"undisturbed")).unwrap();
    assert_eq!(two.urgent().await, "undisturbed");
    assert_eq!(one.endpoint.connections(), 1);
}

/// The first datagrams of so many connections that are never carried on, as whole handshakes begin.
async fn beginnings(count: usize) -> Vec<Vec<u8>> {
    let sink = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let config = client(vec![kx_group::X25519MLKEM768], true);
    let (mut datagrams, mut buffer) = (Vec::new(), vec![0; 2000]);
    for _ in 0..count {
        let connecting = endpoint.connect_with(config.clone(), sink.local_addr().unwrap(), "any.example").unwrap();
        // the hybrid share does not fit into one
        for _ in 0..2 {
            let len = within(sink.recv(&mut buffer)).await.unwrap();
            datagrams.push(buffer[..len].to_vec());
        }
        drop(connecting);
    }
    datagrams
}

#[tokio::test]
async fn half_open_connections_take_bounded_memory_and_hold_up_no_peer() {
    let cluster = Cluster::new(1);
    let ((mut one, link), (mut two, _)) = pair(&cluster).await;
    let flood = beginnings(600).await;
    // from an address at which no peer is expected, and from one at which a peer is
    for source in [[127, 0, 0, 2], [127, 0, 0, 1]] {
        let socket = UdpSocket::bind((Ipv4Addr::from(source), 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        let mut most = 0;
        for batch in flood.chunks(20) {
            batch.iter().for_each(|datagram| drop(socket.send_to(datagram, one.address())));
            // the endpoint reads while we look
            tokio::time::sleep(Duration::from_millis(1)).await;
            most = most.max(one.endpoint.connections());
        }
        // none has shown that it receives: only what is free is given
        assert!(most <= 1 + 2 * MESH_HANDSHAKES_FREE, "{most} connections held");
        assert!(most <= 1 + MESH_HANDSHAKES_MAX + MESH_PEER_HANDSHAKES_MAX);
        link.send_urgent(Bytes::from_static(b"undisturbed")).unwrap();
        assert_eq!(two.urgent().await, "undisturbed");
    }
    // a peer comes in while the free room is taken
    let mut three = cluster.node(3);
    one.expect(&[2, 3]);
    three.dial(&[(1, one.address())]);
    three.up(1).await;
    one.up(3).await;
}

#[tokio::test]
async fn nothing_readable_is_on_the_wire() {
    const MARKS: [&[u8]; 4] =
        [b"urgent-in-the-clear", b"journal-in-the-clear", b"request-in-the-clear", b"answer-in-the-clear"];
    let cluster = Cluster::new(1);
    let sea = Sea::new(1);
    let seen: Arc<Mutex<Vec<u8>>> = Arc::default();
    let tap = seen.clone();
    sea.set_tap(Arc::new(move |_, _, bytes| tap.lock().extend_from_slice(bytes)));
    let (mut one, mut two) = (cluster.node(1), cluster.node(2));
    two.expect(&[1]);
    one.dial(&[(2, sea.route(1, 2, two.address()).await.unwrap())]);
    let (link, _) = (one.up(2).await, two.up(1).await);
    link.send_urgent(Bytes::from_static(MARKS[0])).unwrap();
    assert_eq!(two.urgent().await, MARKS[0]);
    link.send_journal(Bytes::from_static(MARKS[1])).await.unwrap();
    assert_eq!(two.journal().await, MARKS[1]);
    let answer = link.request(Bytes::from_static(MARKS[2])).await.unwrap();
    let Event::Request { mut responder, bytes, .. } = two.next().await else { panic!("a request comes") };
    assert_eq!(bytes, MARKS[2]);
    responder.send(Bytes::from_static(MARKS[3])).await.unwrap();
    responder.finish().await.unwrap();
    assert_eq!(answer.collect(100).await.unwrap(), MARKS[3]);
    let seen = seen.lock();
    assert!(seen.len() > 4000, "the wire was watched");
    // names of nodes stand in certificates, which are encrypted too
    for mark in MARKS.into_iter().chain([&b"node-1"[..], b"node-2", b"entangle.internal"]) {
        assert!(!seen.windows(mark.len()).any(|window| window == mark), "{}", String::from_utf8_lossy(mark));
    }
}

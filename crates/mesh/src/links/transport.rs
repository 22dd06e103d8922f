//! How the QUIC library is set up: windows, time-outs, and what strangers may take.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, EndpointConfig, IdleTimeout, ServerConfig, TransportConfig, VarInt};
use rustls_pki_types::CertificateDer;
use types::limits::{
    MESH_INCOMING_LEN_MAX, MESH_INCOMING_MAX, MESH_INCOMING_TOTAL_LEN_MAX, MESH_REASON_LEN_MAX, MESH_REQUESTS_MAX,
    MESH_STREAM_WINDOW_LEN,
};

/// Streams in one direction that a peer may open: urgent and journal.
const UNI_STREAMS_MAX: u32 = 2;
/// Streams in both directions beside those of requests: the greeting, and a renewal.
const EXTRA_STREAMS_MAX: u32 = 2;
/// Bytes of probes that wait to be sent or read: a few hundred of them.
const DATAGRAM_BUFFER_LEN: usize = 16 * 1024;

/// What a round trip is taken for before it was measured. The usual third of a second means that a first packet that was lost is
/// missed after a second; what is sent again too early on a longer path does no harm.
const INITIAL_ROUND_TRIP: Duration = Duration::from_millis(100);

/// Windows and time-outs of every connection.
///
/// Each stream has a window of its own, and the connection none: a stream that is not read holds up no other. So the most
/// that one peer can make us keep is the window times the number of streams.
fn transport(idle_timeout: Duration) -> Arc<TransportConfig> {
    let streams = MESH_REQUESTS_MAX + EXTRA_STREAMS_MAX + UNI_STREAMS_MAX;
    let idle_timeout = IdleTimeout::try_from(idle_timeout).unwrap_or(IdleTimeout::from(VarInt::from_u32(3000)));
    let mut transport = TransportConfig::default();
    transport
        .initial_rtt(INITIAL_ROUND_TRIP)
        .max_idle_timeout(Some(idle_timeout))
        .max_concurrent_bidi_streams(VarInt::from_u32(MESH_REQUESTS_MAX + EXTRA_STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(UNI_STREAMS_MAX))
        .stream_receive_window(VarInt::from_u32(MESH_STREAM_WINDOW_LEN))
        .receive_window(VarInt::from_u32(MESH_STREAM_WINDOW_LEN * streams))
        .send_window(u64::from(MESH_STREAM_WINDOW_LEN) * u64::from(2 * streams))
        .datagram_receive_buffer_size(Some(DATAGRAM_BUFFER_LEN))
        .datagram_send_buffer_size(DATAGRAM_BUFFER_LEN);
    Arc::new(transport)
}

/// For dialling.
pub(super) fn client_config(tls: QuicClientConfig, idle_timeout: Duration) -> ClientConfig {
    let mut config = ClientConfig::new(Arc::new(tls));
    config.transport_config(transport(idle_timeout));
    config
}

/// For accepting.
pub(super) fn server_config(tls: QuicServerConfig, idle_timeout: Duration) -> ServerConfig {
    let mut config = ServerConfig::with_crypto(Arc::new(tls));
    config
        .transport_config(transport(idle_timeout))
        .max_incoming(MESH_INCOMING_MAX)
        .incoming_buffer_size(MESH_INCOMING_LEN_MAX)
        .incoming_buffer_size_total(MESH_INCOMING_TOTAL_LEN_MAX)
        // a peer's address is known; one that moves is dialled again
        .migration(false);
    config
}

/// The library's endpoint on a socket of ours.
pub(super) fn endpoint(address: SocketAddr, server: Option<ServerConfig>) -> std::io::Result<quinn::Endpoint> {
    let socket = std::net::UdpSocket::bind(address)?;
    quinn::Endpoint::new(EndpointConfig::default(), server, socket, Arc::new(quinn::TokioRuntime))
}

/// An endpoint that only dials `target`.
pub(super) fn client_endpoint(target: SocketAddr) -> std::io::Result<quinn::Endpoint> {
    let any: SocketAddr = match target {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    endpoint(any, None)
}

/// The certificate that the other side proved to own.
pub(super) fn peer_certificate(connection: &quinn::Connection) -> Option<CertificateDer<'static>> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    chain.into_iter().next()
}

/// The protocol that was agreed on.
pub(super) fn protocol(connection: &quinn::Connection) -> Option<Vec<u8>> {
    connection.handshake_data()?.downcast::<quinn::crypto::rustls::HandshakeData>().ok()?.protocol
}

/// A reason, cut to what a closing frame carries.
pub(super) fn cut(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(MESH_REASON_LEN_MAX)]
}

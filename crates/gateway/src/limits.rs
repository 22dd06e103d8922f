//! Every bound of the gateway has a name here; those that the whole system shares are in [`types::limits`].

use std::time::Duration;

/// Connections served at once on the S3 port; one more waits in the listener's queue.
pub const CONNECTIONS_MAX: usize = 4096;
/// Connections served at once on the admin port.
pub const ADMIN_CONNECTIONS_MAX: usize = 64;
/// Streams of one HTTP/2 connection.
pub const HTTP2_STREAMS_MAX: u32 = 256;
/// Bytes that an HTTP/1.1 connection buffers: the largest head of a request, and reads of a body.
pub const HTTP1_BUF_LEN_MAX: usize = 128 * 1024;
/// Time a client may take to send the head of a request; also how long a connection without a request is kept.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Time a TLS handshake may take.
pub const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time without a byte after which a request body counts as stalled.
pub const BODY_IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Time that requests in flight are given when the gateway stops.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes of a refused body that are read and dropped, so that the client sees the answer.
pub const REFUSED_BODY_LEN_MAX: u64 = 16 * 1024 * 1024;
/// Time that is spent on reading and dropping a refused body.
pub const REFUSED_BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// Time without a byte after which the rest of a refused body is not waited for.
pub const REFUSED_BODY_IDLE_TIMEOUT: Duration = Duration::from_millis(500);
/// Bytes of an XML or JSON request body.
pub const DOCUMENT_LEN_MAX: usize = 8 * 1024 * 1024;
/// Bytes of a body that are hashed at a time on a blocking thread while the next ones come in.
pub const HASH_BATCH_LEN: usize = 512 * 1024;
/// Bytes of a chunk header line in an aws-chunked body.
pub const CHUNK_LINE_LEN_MAX: usize = 256;
/// Bytes of the trailers of an aws-chunked body.
pub const TRAILERS_LEN_MAX: usize = 4 * 1024;
/// Longest validity of a presigned URL, in seconds: seven days (AWS).
pub const PRESIGNED_SECONDS_MAX: u64 = 604_800;
/// Difference between the clocks of client and server above which a request is refused, in seconds (AWS).
pub const CLOCK_SKEW_SECONDS_MAX: u32 = 900;
/// Secrets of access keys that are kept unsealed in memory.
pub const SECRETS_CACHED_MAX: usize = 1024;
/// Time after which changed TLS files are noticed.
pub const TLS_RELOAD_INTERVAL: Duration = Duration::from_secs(5);

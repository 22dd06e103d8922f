//! Emulated distance and faults between endpoints, over real loopback sockets: for the demo and for tests.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// What happens to datagrams from one node to another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Path {
    /// One-way delay.
    pub delay: Duration,
    /// Share of datagrams that are lost; 0 to 1.
    pub loss: f64,
    /// Whether nothing gets through.
    pub cut: bool,
}

/// A sea with nodes around it, numbered as the caller likes. Dropped, all routes end.
pub struct Sea {}

/// Sees each datagram that enters the sea: from, to, bytes.
pub type Tap = Arc<dyn Fn(u32, u32, &[u8]) + Send + Sync>;

impl Sea {
    /// A sea without distance. `seed` decides which datagrams are lost.
    #[must_use]
    pub fn new(_seed: u64) -> Self {
        todo!()
    }

    /// Opens the route on which node `from` dials node `to`, which listens at `target`; gives the address to dial. What
    /// comes back takes the path from `to` to `from`. Needs a tokio runtime.
    ///
    /// # Errors
    /// When a socket cannot be had.
    pub async fn route(&self, _from: u32, _to: u32, _target: SocketAddr) -> std::io::Result<SocketAddr> {
        todo!()
    }

    /// Sets the path from one node to another, for datagrams that enter it from now on.
    pub fn set(&self, _from: u32, _to: u32, _path: Path) {
        todo!()
    }

    /// The path from one node to another.
    #[must_use]
    pub fn path(&self, _from: u32, _to: u32) -> Path {
        todo!()
    }

    /// Shows all traffic to `tap`.
    pub fn set_tap(&self, _tap: Tap) {
        todo!()
    }
}

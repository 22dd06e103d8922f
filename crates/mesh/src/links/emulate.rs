//! Emulated distance and faults between endpoints, over real loopback sockets: for the demo and for tests.

use core::fmt;
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use types::limits::MESH_EMULATED_MAX;

/// How long a datagram waits for those before it, at most, where the rate is bounded.
const BUFFER_MAX: Duration = Duration::from_millis(100);
/// The largest UDP payload.
const DATAGRAM_LEN_MAX: usize = 65_535;

/// What happens to datagrams from one node to another.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Path {
    /// One-way delay.
    pub delay: Duration,
    /// Share of datagrams that are lost; 0 to 1.
    pub loss: f64,
    /// Whether nothing gets through.
    pub cut: bool,
    /// Bytes per second that get through; `None` for as many as the machine carries. What would wait longer than a tenth
    /// of a second is lost, as in a router.
    pub rate: Option<u64>,
}

/// A sea with nodes around it, numbered as the caller likes. Dropped, all routes end.
pub struct Sea {
    shared: Arc<Shared>,
    _end: DropGuard,
}

/// Sees each datagram that enters the sea: from, to, bytes. It must not call the sea.
pub type Tap = Arc<dyn Fn(u32, u32, &[u8]) + Send + Sync>;

struct Shared {
    state: Mutex<State>,
    end: CancellationToken,
}

struct State {
    paths: HashMap<(u32, u32), Path>,
    /// When a path of bounded rate has sent what it took.
    free_at: HashMap<(u32, u32), Instant>,
    random: SmallRng,
    tap: Option<Tap>,
}

impl Sea {
    /// A sea without distance. `seed` decides which datagrams are lost.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let end = CancellationToken::new();
        let state =
            State { paths: HashMap::new(), free_at: HashMap::new(), random: SmallRng::seed_from_u64(seed), tap: None };
        let shared = Arc::new(Shared { state: Mutex::new(state), end: end.clone() });
        Self { shared, _end: end.drop_guard() }
    }

    /// Opens the route on which node `from` dials node `to`, which listens at `target`; gives the address to dial. What
    /// comes back takes the path from `to` to `from`. Needs a tokio runtime.
    ///
    /// # Errors
    /// When a socket cannot be had.
    pub async fn route(&self, from: u32, to: u32, target: SocketAddr) -> std::io::Result<SocketAddr> {
        let near = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?);
        let far = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?);
        let address = near.local_addr()?;
        // where `from` was last seen
        let dialler = Arc::new(Mutex::new(None));
        let there = Current { shared: self.shared.clone(), from, to };
        let back = Current { shared: self.shared.clone(), from: to, to: from };
        there.flow(
            near.clone(),
            far.clone(),
            Ends { seen: Some(dialler.clone()), target: Arc::new(Mutex::new(Some(target))) },
        );
        back.flow(far, near, Ends { seen: None, target: dialler });
        Ok(address)
    }

    /// Sets the path from one node to another, for datagrams that enter it from now on.
    pub fn set(&self, from: u32, to: u32, path: Path) {
        self.shared.state.lock().paths.insert((from, to), path);
    }

    /// The path from one node to another.
    #[must_use]
    pub fn path(&self, from: u32, to: u32) -> Path {
        self.shared.state.lock().paths.get(&(from, to)).copied().unwrap_or_default()
    }

    /// Shows all traffic to `tap`, the lost and the cut too.
    pub fn set_tap(&self, tap: Tap) {
        self.shared.state.lock().tap = Some(tap);
    }
}

impl fmt::Debug for Sea {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sea({} paths)", self.shared.state.lock().paths.len())
    }
}

/// One direction of a route.
struct Current {
    shared: Arc<Shared>,
    from: u32,
    to: u32,
}

/// Where a direction's datagrams come from, if that is to be kept, and where they go.
struct Ends {
    seen: Option<Arc<Mutex<Option<SocketAddr>>>>,
    target: Arc<Mutex<Option<SocketAddr>>>,
}

/// A datagram on its way.
struct Afloat {
    due: Instant,
    bytes: Vec<u8>,
}

impl Current {
    /// Carries datagrams from one socket to the other, until the sea ends.
    fn flow(self, enters: Arc<UdpSocket>, leaves: Arc<UdpSocket>, ends: Ends) {
        let (sender, receiver) = mpsc::channel(MESH_EMULATED_MAX);
        let end = self.shared.end.clone();
        let target = ends.target;
        tokio::spawn(end.clone().run_until_cancelled_owned(deliver(receiver, leaves, target)));
        tokio::spawn(end.run_until_cancelled_owned(async move {
            let mut buffer = vec![0; DATAGRAM_LEN_MAX];
            loop {
                // an error of a datagram socket is about a datagram of before: the other end was away
                let Ok((len, source)) = enters.recv_from(&mut buffer).await else { continue };
                if let Some(seen) = &ends.seen {
                    *seen.lock() = Some(source);
                }
                if let Some(due) = self.enter(&buffer[..len]) {
                    // one too many is lost, as in a router
                    let _ = sender.try_send(Afloat { due, bytes: buffer[..len].to_vec() });
                }
            }
        }));
    }

    /// When a datagram that enters now comes out; `None` if it is lost.
    fn enter(&self, bytes: &[u8]) -> Option<Instant> {
        let mut state = self.shared.state.lock();
        if let Some(tap) = state.tap.clone() {
            tap(self.from, self.to, bytes);
        }
        let path = state.paths.get(&(self.from, self.to)).copied().unwrap_or_default();
        if path.cut || (path.loss > 0.0 && state.random.random::<f64>() < path.loss) {
            return None;
        }
        let now = Instant::now();
        let Some(rate) = path.rate else { return Some(now + path.delay) };
        let free_at = state.free_at.entry((self.from, self.to)).or_insert(now);
        let begins = (*free_at).max(now);
        if begins - now > BUFFER_MAX {
            return None;
        }
        *free_at = begins + Duration::from_secs_f64(bytes.len() as f64 / rate.max(1) as f64);
        Some(*free_at + path.delay)
    }
}

/// In the order in which they entered: a delay that was shortened does not make the later overtake the earlier.
async fn deliver(mut afloat: mpsc::Receiver<Afloat>, socket: Arc<UdpSocket>, target: Arc<Mutex<Option<SocketAddr>>>) {
    while let Some(Afloat { due, bytes }) = afloat.recv().await {
        if due > Instant::now() {
            tokio::time::sleep_until(due).await;
        }
        let target = *target.lock();
        if let Some(target) = target {
            let _ = socket.send_to(&bytes, target).await;
        }
    }
}

//! The only place where the node reads clocks: both of them at once, for the cores that take time as an
//! argument.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use types::Now;

/// Reads both clocks. The monotonic one counts suspended time (`CLOCK_BOOTTIME`).
#[must_use]
pub fn now() -> Now {
    let boot = clock_gettime(ClockId::Boottime);
    let mono_ns = u64::try_from(boot.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(boot.tv_nsec).unwrap_or(0);
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let wall_ns = u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX);
    Now { mono_ns, wall_ns: wall_ns.saturating_add_signed(crate::faults::clock_offset_ns()) }
}

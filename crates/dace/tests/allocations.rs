//! What a command costs the allocator has a bound, so that a change which doubles it is noticed.
//! `cargo bench -p dace --bench allocations` prints the figures.
#![allow(clippy::unwrap_used)]

mod cycle;

use cycle::{Cost, costs};

#[test]
fn a_command_allocates_little() {
    for (n, limit) in [(3, 14.0), (5, 17.0)] {
        let costs = costs(n, 1, 16, 512);
        for (replica, Cost { allocations, bytes, steps }) in costs.iter().enumerate() {
            let told = format!("n = {n}, replica {replica}: {allocations} allocations, {bytes} bytes, {steps:?}");
            assert!((1.0..limit).contains(allocations) && *bytes < 2_200.0, "{told}");
        }
    }
}

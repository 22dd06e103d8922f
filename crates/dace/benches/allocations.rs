//! Allocations per command on its way from proposal to execution: `cargo bench -p dace --bench allocations`.
#![allow(clippy::print_stdout, missing_docs)]

#[path = "../tests/cycle/mod.rs"]
mod cycle;

use cycle::costs;

const COMMANDS: u64 = 2048;

fn main() {
    println!("| n, f | in a flush | replica | allocations | bytes | allocations to forget it |");
    println!("| --- | ---: | --- | ---: | ---: | ---: |");
    for (n, f) in [(3, 1), (5, 1)] {
        for in_flush in [1, 16] {
            let costs = costs(n, f, in_flush, COMMANDS);
            let of = [("coordinator", 0), ("follower in the fast quorum", 1), ("follower outside it", n - 1)];
            for (name, at) in of {
                let cost = costs[at];
                println!(
                    "| {n}, {f} | {in_flush} | {name} | {:.1} | {:.0} | {:.1} |",
                    cost.allocations, cost.bytes, cost.forgetting
                );
            }
        }
    }
}

//! Allocations per command on its way from proposal to execution: `cargo bench -p dace --bench allocations`.
#![allow(clippy::print_stdout, missing_docs)]

#[path = "../tests/cycle/mod.rs"]
mod cycle;

use cycle::{Cost, costs};

const COMMANDS: u64 = 2048;

fn main() {
    println!("| n, f | in a flush | replica | allocations | bytes | by step |");
    println!("| --- | ---: | --- | ---: | ---: | --- |");
    for (n, f) in [(3, 1), (5, 1)] {
        for in_flush in [1, 16] {
            let costs = costs(n, f, in_flush, COMMANDS);
            for (name, at) in [("coordinator", 0), ("follower", n - 1)] {
                let Cost { allocations, bytes, steps } = &costs[at];
                let steps: Vec<String> = steps
                    .iter()
                    .filter(|(_, count)| **count >= 0.05)
                    .map(|(step, count)| format!("{step:?} {count:.1}"))
                    .collect();
                println!("| {n}, {f} | {in_flush} | {name} | {allocations:.1} | {bytes:.0} | {} |", steps.join(", "));
            }
        }
    }
}

//! Cycles of submit, durable and execute per second on one core, by the number of commands in a flush:
//! `cargo bench -p dace`.
#![allow(clippy::print_stdout, clippy::disallowed_methods, missing_docs)]

use std::time::Instant;

use bytes::Bytes;
use dace::{Config, Core, Output, Restore, Submission};
use types::journal::encode_proposal;
use types::{Epoch, GroupId, Now, ReplicaId, Slot, SlotSet};

const COMMANDS: u64 = 2_000_000;

fn main() {
    for in_flush in [1, 16, 256] {
        let seconds = run(in_flush);
        println!("{in_flush:4} in a flush: {:.0} commands/s", COMMANDS as f64 / seconds);
    }
}

/// Runs [`COMMANDS`] of 1 KiB over all slots; gives the seconds that it took.
fn run(in_flush: u64) -> f64 {
    let replica = ReplicaId(1);
    let config = Config { group: GroupId(1), replica, members: vec![replica], f: 0, epoch: Epoch(1) };
    let mut core = Core::new(config, Restore::default()).expect("a group of one");
    let bodies: Vec<(SlotSet, Bytes)> = (0..4096)
        .map(|slot| {
            let slots = SlotSet::of(vec![Slot(slot)]);
            let body = Bytes::from(encode_proposal(&slots, &[7; 1024]));
            (slots, body)
        })
        .collect();
    let mut now = Now { mono_ns: 0, wall_ns: 1_700_000_000_000_000_000 };
    core.handle_start(now).expect("an empty journal");
    core.handle_durable(now, 1);
    let (mut executed, mut position) = (0, 0);
    let start = Instant::now();
    let mut submitted = 0;
    while submitted < COMMANDS {
        for _ in 0..in_flush {
            let (slots, body) = &bodies[usize::try_from(submitted * 31 % 4096).expect("small")];
            let submission = Submission { slots: slots.clone(), salt: [1; 32], body: body.clone(), body_hash: [2; 32] };
            core.handle_submit(now, submission).expect("room");
            submitted += 1;
            now.mono_ns += 1500;
            now.wall_ns += 1500;
            executed += drain(&mut core, &mut position);
        }
        core.handle_durable(now, position);
        executed += drain(&mut core, &mut position);
    }
    let seconds = start.elapsed().as_secs_f64();
    assert_eq!(executed, submitted);
    seconds
}

fn drain(core: &mut Core, position: &mut u64) -> u64 {
    let mut executed = 0;
    while let Some(output) = core.poll_output() {
        match output {
            Output::Append(record) => *position = record.header.position,
            Output::Execute { .. } => executed += 1,
            _ => {}
        }
    }
    executed
}

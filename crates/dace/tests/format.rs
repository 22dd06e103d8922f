//! The vectors of `docs/formats/consensus.md` are what the core writes.
#![allow(clippy::unwrap_used)]

mod world;

use std::fmt::Write as _;

use types::{Slot, SlotSet};
use world::World;

const DOCUMENT: &str = include_str!("../../../docs/formats/consensus.md");

#[test]
fn the_documented_headers_are_written() {
    let mut world = World::new();
    world.start().unwrap();
    world.flush(1);
    world.now.mono_ns += 3_000_000;
    world.now.wall_ns += 3_000_000;
    world.submit(&SlotSet::of(vec![Slot(1)]), b"a").0.unwrap();
    let mut text = String::new();
    for record in &world.journal {
        writeln!(text, "{:?}", record.header.kind).unwrap();
        for row in record.header.to_bytes().chunks(32) {
            row.iter().for_each(|byte| write!(text, "{byte:02x}").unwrap());
            writeln!(text).unwrap();
        }
    }
    assert!(DOCUMENT.contains(&text), "the document must show:\n{text}");
}

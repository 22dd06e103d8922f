//! The vectors of `docs/formats/consensus.md` are what the core writes.
#![allow(clippy::unwrap_used)]

mod epochs;
mod world;

use std::fmt::Write as _;

use epochs::{Cluster, of};
use types::journal::RecordHeader;
use types::{Epoch, Slot, SlotSet};
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
    assert_documented(world.journal.iter().map(|record| record.header));
}

#[test]
fn the_documented_beginning_of_an_epoch_is_written() {
    let mut cluster = Cluster::new(1, 0, 1, |_| {});
    cluster.flush(1);
    cluster.advance(3_000_000);
    cluster.reconfigure(1, &of(&[1])).unwrap();
    cluster.flush(1);
    cluster.store(1);
    let journal = &cluster.nodes[&1].journals[&Epoch(2)];
    assert_documented(journal.said().map(|record| record.header));
}

fn assert_documented(headers: impl Iterator<Item = RecordHeader>) {
    let mut text = String::new();
    for header in headers {
        writeln!(text, "{:?}", header.kind).unwrap();
        for row in header.to_bytes().chunks(32) {
            row.iter().for_each(|byte| write!(text, "{byte:02x}").unwrap());
            writeln!(text).unwrap();
        }
    }
    assert!(DOCUMENT.contains(&text), "the document must show:\n{text}");
}

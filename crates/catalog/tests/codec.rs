//! What is encoded is decoded again, and nothing that is decoded makes execution panic.
#![allow(clippy::unwrap_used)]

mod common;

use catalog::rows::*;
use catalog::testing::MemoryState;
use common::draw::Draw;
use common::{World, invariants};
use proptest::prelude::*;
use types::state::Table;
use types::{Command, Outcome};

fn wild_command(bytes: Vec<u8>) -> Command {
    let mut draw = Draw::from_bytes(bytes);
    draw.wild = 100;
    draw.command()
}

fn entropy() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..400)
}

/// Decodes and encodes again; the first byte is the version.
fn again<T: for<'b> minicbor::Decode<'b, ()> + minicbor::Encode<()>>(value: &[u8]) -> Vec<u8> {
    let row: T = minicbor::decode(&value[1..]).unwrap();
    let mut out = vec![ROW_VERSION];
    out.extend(minicbor::to_vec(row).unwrap());
    out
}

fn check_rows(state: &MemoryState) {
    for (key, value) in state.rows.get(&Table::Catalog).into_iter().flatten() {
        let encoded = match key[0] {
            b'g' => again::<GenesisRow>(value),
            b'b' => again::<BucketRow>(value),
            b'k' => again::<AccessKeyRow>(value),
            b'o' | b'v' => again::<ObjectRow>(value),
            b'u' => again::<UploadRow>(value),
            b'p' => again::<PartRow>(value),
            b'i' => again::<PartIndexRow>(value),
            b'r' => Vec::new(),
            tag => panic!("a row of the unknown kind {tag}"),
        };
        assert_eq!(encoded, value.as_ref());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_command_comes_back(bytes in entropy()) {
        let command = wild_command(bytes);
        let encoded = command.to_bytes().unwrap();
        prop_assert_eq!(Command::from_bytes(&encoded).unwrap(), command);
    }

    #[test]
    fn a_command_with_bytes_cut_changed_or_added_is_another_or_none(
        bytes in entropy(), at in any::<prop::sample::Index>(), to in any::<u8>(),
    ) {
        let command = wild_command(bytes);
        let encoded = command.to_bytes().unwrap();
        let at = at.index(encoded.len());
        prop_assert!(Command::from_bytes(&encoded[..at]).is_err());
        let mut longer = encoded.clone();
        longer.push(to);
        prop_assert!(Command::from_bytes(&longer).is_err());
        let mut changed = encoded;
        changed[at] = to;
        catalog::fuzz::command(&changed);
    }

    #[test]
    fn execution_takes_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        catalog::fuzz::command(&bytes);
    }

    #[test]
    fn execution_takes_any_command(bytes in entropy()) {
        catalog::fuzz::run(&wild_command(bytes));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Long histories: outcomes, details and rows come back, and the state stays sound.
    #[test]
    fn outcomes_details_and_rows_come_back(seed in any::<u64>()) {
        let mut world = World::new();
        let mut draw = Draw::from_seed(seed);
        draw.wild = 10;
        for _ in 0..60 {
            draw.now = world.now;
            let command = draw.command();
            world.principal = command.principal.clone();
            let outcome = world.call(command.op.clone(), command.request.clone());
            let encoded = minicbor::to_vec(&outcome).unwrap();
            prop_assert_eq!(&minicbor::decode::<Outcome>(&encoded).unwrap(), &outcome);
            let done = world.last.as_ref().unwrap();
            draw.remember(done.facts[0].order, &command);
            for fact in &done.facts {
                let encoded = minicbor::to_vec(&fact.detail).unwrap();
                prop_assert_eq!(&minicbor::decode::<types::fact::FactDetail>(&encoded).unwrap(), &fact.detail);
            }
        }
        invariants::check(&world.state);
        check_rows(&world.state);
    }
}

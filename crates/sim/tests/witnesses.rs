//! Every rule of the protocol has a witness: a schedule in which a check notices that the rule is taken out, and
//! notices nothing with the rule in place.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::PathBuf;

use dace::Mutant;
use sim::schedule::Witness;

/// Rules that no schedule can show, and why.
const WITHOUT: &[(Mutant, &str)] = &[(
    Mutant::ReportsAttachedAfterCommit,
    "a coordinator's report stands behind its own commit in its journal, which is read in order: whoever reads the \
     report has read the decision; and a decision that others know binds a recovery by rules 2 and 4 as well",
)];

fn witnesses() -> Vec<(String, Witness)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("witnesses");
    let mut found: Vec<(String, Witness)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let text = std::fs::read_to_string(&path).unwrap();
            let witness = Witness::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (name, witness)
        })
        .collect();
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    found
}

#[test]
fn every_witness_shows_its_rule() {
    let mut failed = Vec::new();
    for (name, witness) in witnesses() {
        assert_eq!(witness.setting.mutant.unwrap().name(), name, "a witness is named after its rule");
        if let Err(error) = witness.verify() {
            failed.push(format!("{name}: {error}"));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn every_rule_has_a_witness() {
    let shown: BTreeSet<String> = witnesses().into_iter().map(|(name, _)| name).collect();
    let excepted: BTreeSet<&str> = WITHOUT.iter().map(|(mutant, _)| mutant.name()).collect();
    for mutant in Mutant::ALL.iter().filter(|mutant| !Mutant::OF_RECONFIG.contains(mutant)) {
        let (is_shown, is_excepted) = (shown.contains(mutant.name()), excepted.contains(mutant.name()));
        assert!(is_shown || is_excepted, "{mutant} has no witness");
        assert!(!(is_shown && is_excepted), "{mutant} has a witness: it is no exception any more");
    }
}

#[test]
fn a_witness_is_read_back_as_it_is_written() {
    for (name, witness) in witnesses() {
        assert_eq!(Witness::parse(&witness.text()).as_ref(), Ok(&witness), "{name}");
    }
}

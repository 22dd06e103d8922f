//! The checkers have teeth: every defect put into the driver of the node is found within a few seeds.

use sim::{Mutant, catch};

#[test]
fn every_mutant_is_caught() {
    for mutant in Mutant::ALL {
        let caught = catch(mutant, 0..200);
        let Some((_, reason)) = caught else { panic!("{} survives 200 seeds", mutant.name()) };
        assert!(
            mutant.shows_as().iter().any(|words| reason.contains(words)),
            "{} is caught by another check than its own: {reason}",
            mutant.name()
        );
    }
}

#[test]
fn names_are_read_back() {
    for mutant in Mutant::ALL {
        assert_eq!(mutant.name().parse(), Ok(mutant));
    }
    assert!("no-such".parse::<Mutant>().is_err());
}

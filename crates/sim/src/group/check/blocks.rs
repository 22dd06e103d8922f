//! Equal blocks: every replica takes the same cuts, with the same root and the same state, and takes none back.

use std::collections::BTreeMap;

use types::Timestamp;

use super::{Checked, ensure, violation};
use crate::group::state::Sealed;

/// The blocks that anyone sealed, and how far each replica has come.
pub(crate) struct Blocks {
    sealed: BTreeMap<Timestamp, Sealed>,
    cuts: Vec<Timestamp>,
}

impl Blocks {
    pub(crate) fn new(nodes: usize) -> Self {
        Self { sealed: BTreeMap::new(), cuts: vec![Timestamp::ZERO; nodes] }
    }

    /// The last cut of a replica.
    pub(crate) fn cut(&self, replica: usize) -> Timestamp {
        self.cuts[replica]
    }

    pub(crate) fn cut_taken(&mut self, replica: usize, cut: Timestamp, sealed: Option<Sealed>) -> Checked {
        let previous = core::mem::replace(&mut self.cuts[replica], cut);
        ensure(cut > previous, "cut", || {
            format!("r{replica} takes cut {cut} after {previous}", replica = replica + 1)
        })?;
        let mut between = self.sealed.range(previous.next()..cut);
        if let Some((passed, _)) = between.next() {
            return violation(
                "blocks",
                format!("r{replica} goes from cut {previous} to {cut} and passes over {passed}", replica = replica + 1),
            );
        }
        let Some(sealed) = sealed else {
            return ensure(!self.sealed.contains_key(&cut), "blocks", || {
                format!("r{replica} has no command in the block at {cut}, and others have", replica = replica + 1)
            });
        };
        let first = self.sealed.entry(cut).or_insert_with(|| sealed.clone());
        ensure(*first == sealed, "blocks", || {
            format!("r{replica} forms another block at {cut}:\n  {sealed:?}\n  {first:?}", replica = replica + 1)
        })
    }

    pub(crate) fn restored(&mut self, replica: usize, cut: Timestamp) {
        self.cuts[replica] = cut;
    }

    /// Whether all of `replicas` have cut up to `last`.
    pub(crate) fn converged(&self, replicas: &[usize], last: Timestamp) -> Checked {
        for replica in replicas {
            let cut = self.cuts[*replica];
            ensure(cut >= last, "liveness", || {
                format!("r{replica} is at cut {cut}, and commands up to {last} were executed", replica = replica + 1)
            })?;
        }
        Ok(())
    }
}

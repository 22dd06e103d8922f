//! Looks for a schedule that shows what a rule is for, and makes it small.

use core::ops::Range;

use super::{Setting, Step, draw, run, shrink};
use crate::group::Violation;

/// A schedule in which a check notices a rule taken out, and notices nothing with the rule in place.
#[derive(Clone, Debug)]
pub struct Found {
    /// The group, with the rule taken out.
    pub setting: Setting,
    /// The seed that drew the schedule.
    pub seed: u64,
    /// The schedule, shrunk.
    pub steps: Vec<Step>,
    /// What was noticed.
    pub violation: Violation,
}

/// The first of `seeds` that shows the rule taken out of `setting` by a violation that is `wanted`.
pub fn search(setting: Setting, seeds: Range<u64>, wanted: impl Fn(&Violation) -> bool) -> Option<Found> {
    seeds.into_iter().find_map(|seed| {
        let (steps, outcome) = draw(setting, seed);
        let violation = outcome.err().filter(|violation| wanted(violation))?;
        run(setting.with(None), &steps).ok()?;
        Some(reduced(setting, seed, &steps, &violation))
    })
}

/// Shrinks a schedule that shows the rule taken out of `setting` by a violation.
pub(super) fn reduced(setting: Setting, seed: u64, steps: &[Step], violation: &Violation) -> Found {
    let shows = |steps: &[Step]| shown(setting, steps).is_some_and(|found| found.check == violation.check);
    let steps = shrink(steps, shows);
    let violation = shown(setting, &steps).unwrap_or_else(|| violation.clone());
    Found { setting, seed, steps, violation }
}

/// What is noticed in a schedule with the rule taken out, if nothing is with the rule in place.
fn shown(setting: Setting, steps: &[Step]) -> Option<Violation> {
    let violation = *run(setting, steps).err()?;
    run(setting.with(None), steps).ok()?;
    Some(violation)
}

//! Makes a schedule small: leaves out what is not needed to show what it shows.

use super::step::Step;

/// The smallest schedule found that `shows` the same, by leaving steps out and simplifying those that stay.
pub fn shrink(steps: &[Step], mut shows: impl FnMut(&[Step]) -> bool) -> Vec<Step> {
    let mut steps = steps.to_vec();
    loop {
        let before = steps.clone();
        leave_out(&mut steps, &mut shows);
        simplify(&mut steps, &mut shows);
        if steps == before {
            return steps;
        }
    }
}

/// Delta debugging: runs of steps, from long to single ones, then pairs.
fn leave_out(steps: &mut Vec<Step>, shows: &mut impl FnMut(&[Step]) -> bool) {
    let mut run = steps.len().div_ceil(2);
    while run > 0 {
        let mut at = steps.len();
        while at > 0 {
            let from = at.saturating_sub(run);
            let mut fewer = steps.clone();
            fewer.drain(from..at);
            if shows(&fewer) {
                *steps = fewer;
            }
            at = from.min(steps.len());
        }
        run /= 2;
    }
}

/// Replaces steps by simpler ones.
fn simplify(steps: &mut Vec<Step>, shows: &mut impl FnMut(&[Step]) -> bool) {
    for at in 0..steps.len() {
        for simpler in simpler(&steps[at]) {
            let mut others = steps.clone();
            others[at] = simpler;
            if shows(&others) {
                *steps = others;
                break;
            }
        }
    }
}

/// What could stand in place of a step, the simplest first.
fn simpler(step: &Step) -> Vec<Step> {
    const MS: u64 = 1_000_000;
    match step {
        Step::Flush(at, but) if *but > 0 => vec![Step::Flush(*at, 0)],
        Step::Crash(at, keep) if *keep > 0 => (0..*keep).map(|keep| Step::Crash(*at, keep)).collect(),
        Step::Read(from, to, _) => vec![Step::ReadAll(*from, *to)],
        Step::Settle(gone) if !gone.is_empty() => vec![Step::Settle(Vec::new())],
        Step::AdvanceOne(_, ns) => vec![Step::Advance(*ns)],
        Step::Advance(ns) => {
            let rounder = [MS, 10 * MS, 50 * MS, 100 * MS, 200 * MS, 300 * MS];
            rounder.into_iter().filter(|rounder| rounder < ns).map(Step::Advance).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_needed_stays() {
        let steps: Vec<Step> = (0..40).map(|at| Step::Advance(at + 1)).collect();
        let needs = |steps: &[Step]| {
            steps.contains(&Step::Advance(4))
                && steps.contains(&Step::Advance(33))
                && steps.contains(&Step::Advance(12))
        };
        assert_eq!(shrink(&steps, needs), [Step::Advance(4), Step::Advance(12), Step::Advance(33)]);
    }
}

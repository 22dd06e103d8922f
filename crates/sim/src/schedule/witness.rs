//! Witnesses: schedules on disk, each with the rule that it is for and the check that notices.

use core::fmt::Write as _;

use super::step::{ParseError, Step, parse};
use super::{Setting, run};
use crate::group::Violation;

/// A schedule that shows what a rule is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Witness {
    /// The group, with the rule taken out.
    pub setting: Setting,
    /// The check that notices.
    pub check: String,
    /// Why: one sentence or a few.
    pub why: String,
    /// The schedule.
    pub steps: Vec<Step>,
}

/// Why a text is no witness, or a witness shows nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WitnessError {
    /// A line of the header is missing, or makes no sense.
    Header(&'static str),
    /// A line is no step.
    Step(ParseError),
    /// Something is noticed though the rule is in place.
    NotClean(Violation),
    /// Nothing is noticed with the rule taken out.
    Silent,
    /// Another check notices.
    OtherCheck(Violation),
}

impl core::fmt::Display for WitnessError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Header(what) => write!(f, "its header has no {what}"),
            Self::Step(error) => write!(f, "{error}"),
            Self::NotClean(violation) => {
                write!(f, "with the rule in place {} is violated: {}", violation.check, violation.reason)
            }
            Self::Silent => write!(f, "nothing is noticed with the rule taken out"),
            Self::OtherCheck(violation) => {
                write!(f, "another check notices: {}: {}", violation.check, violation.reason)
            }
        }
    }
}

impl core::error::Error for WitnessError {}

impl Witness {
    /// Reads a witness: a header of comments (`# replicas: 3`, `# faults: 1`, `# mutant: ...`, `# check: ...`,
    /// `# why: ...`), and the steps.
    pub fn parse(text: &str) -> Result<Self, WitnessError> {
        let field = |name: &'static str| {
            let lines: Vec<&str> = text
                .lines()
                .filter_map(|line| line.strip_prefix("# ")?.strip_prefix(name)?.strip_prefix(": "))
                .collect();
            if lines.is_empty() { Err(WitnessError::Header(name)) } else { Ok(lines.join(" ")) }
        };
        let number = |name| field(name)?.parse::<usize>().map_err(|_| WitnessError::Header(name));
        let mutant = field("mutant")?.parse().map_err(|_| WitnessError::Header("mutant"))?;
        let setting = Setting { replicas: number("replicas")?, faults: number("faults")?, mutant: Some(mutant) };
        let steps = parse(text).map_err(WitnessError::Step)?;
        Ok(Self { setting, check: field("check")?, why: field("why")?, steps })
    }

    /// The text that [`Witness::parse`] reads.
    #[must_use]
    pub fn text(&self) -> String {
        let Setting { replicas, faults, mutant } = self.setting;
        let mutant = mutant.map_or("", dace::Mutant::name);
        let mut text =
            format!("# replicas: {replicas}\n# faults: {faults}\n# mutant: {mutant}\n# check: {}\n", self.check);
        let mut line = String::new();
        for word in self.why.split_whitespace() {
            if line.len() + word.len() > 110 {
                let _ = writeln!(text, "# why: {}", line.trim_end());
                line.clear();
            }
            line.push_str(word);
            line.push(' ');
        }
        let _ = writeln!(text, "# why: {}\n", line.trim_end());
        for step in &self.steps {
            let _ = writeln!(text, "{step}");
        }
        text
    }

    /// Checks that the check named notices with the rule taken out, and that none does with it in place.
    pub fn verify(&self) -> Result<Violation, WitnessError> {
        if let Err(violation) = run(self.setting.with(None), &self.steps) {
            return Err(WitnessError::NotClean(*violation));
        }
        match run(self.setting, &self.steps) {
            Ok(_) => Err(WitnessError::Silent),
            Err(violation) if violation.check == self.check => Ok(*violation),
            Err(violation) => Err(WitnessError::OtherCheck(*violation)),
        }
    }
}

//! Mutants: what goes wrong on purpose, so that the checkers can show that they have teeth.

use core::str::FromStr;

/// A defect put into the driver of the node, never into the node itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Mutant {
    /// A flush counts as durable as soon as it is asked for: the answer goes out before the disk has it.
    AnswerBeforeDurable,
    /// A failed flush is taken for a good one, and the process goes on.
    IgnoreFailedFlush,
    /// The state's batch is stored without its rows: the marker says more than the state holds.
    MarkerWithoutRows,
    /// The journal is trimmed up to what is sealed, though the state was not synced.
    TrimBeforeSync,
    /// `Clock` records are not written: after a restart the ceiling is unknown.
    ForgetCeiling,
    /// A restart does not replay the last record of the journal.
    SkipLastRecord,
    /// A torn flush at the end of the journal is left where it is.
    KeepTornTail,
    /// A head is signed before its kept record is durable.
    SignBeforeKept,
    /// The ledger's files are gone at a restart.
    ForgetLedgerFiles,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::AnswerBeforeDurable,
        Self::IgnoreFailedFlush,
        Self::MarkerWithoutRows,
        Self::TrimBeforeSync,
        Self::ForgetCeiling,
        Self::SkipLastRecord,
        Self::KeepTornTail,
        Self::SignBeforeKept,
        Self::ForgetLedgerFiles,
    ];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AnswerBeforeDurable => "answer-before-durable",
            Self::IgnoreFailedFlush => "ignore-failed-flush",
            Self::MarkerWithoutRows => "marker-without-rows",
            Self::TrimBeforeSync => "trim-before-sync",
            Self::ForgetCeiling => "forget-ceiling",
            Self::SkipLastRecord => "skip-last-record",
            Self::KeepTornTail => "keep-torn-tail",
            Self::SignBeforeKept => "sign-before-kept",
            Self::ForgetLedgerFiles => "forget-ledger-files",
        }
    }

    /// Words of the complaints by which it is to be found: others would mean that a check has gone blind.
    #[must_use]
    pub fn shows_as(self) -> &'static [&'static str] {
        match self {
            Self::AnswerBeforeDurable => &["was executed and acknowledged and is lost"],
            Self::IgnoreFailedFlush => &["acknowledged and is lost", "was kept first"],
            Self::MarkerWithoutRows => &["the last block commits to another state"],
            Self::TrimBeforeSync => &["the journal was trimmed at the later cut"],
            Self::ForgetCeiling => &["must come next"],
            Self::SkipLastRecord => &["is next"],
            Self::KeepTornTail => &["is damaged"],
            Self::SignBeforeKept => &["was kept first"],
            Self::ForgetLedgerFiles => &["entries are missing"],
        }
    }
}

impl FromStr for Mutant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|mutant| mutant.name() == text).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|mutant| mutant.name()).collect();
            format!("no such mutant; there are {}", names.join(", "))
        })
    }
}

//! How the program ends: exit codes, and failures that say what to do next.

use std::fmt;

/// Exit codes; `docs/cli.md` documents them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Exit {
    /// Done.
    Done = 0,
    /// It failed; the sentence says why and what to do.
    Failed = 1,
    /// Flags, environment or configuration file are not as they should be. Nothing was done.
    Usage = 2,
    /// Evidence was checked and is not right.
    Unverified = 3,
    /// What was asked for does not exist.
    NotFound = 4,
    /// The node could not be reached or has no time now: the same command may succeed later.
    Unavailable = 5,
}

impl Exit {
    /// Its name in JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::Unverified => "unverified",
            Self::NotFound => "not_found",
            Self::Unavailable => "unavailable",
        }
    }
}

/// A failure with its exit code and one sentence for the user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Failure {
    /// How to exit.
    pub(crate) exit: Exit,
    /// What happened and what to do next.
    pub(crate) sentence: String,
}

impl Failure {
    pub(crate) fn new(exit: Exit, sentence: impl Into<String>) -> Self {
        Self { exit, sentence: without_numbers(sentence.into()) }
    }

    pub(crate) fn usage(sentence: impl Into<String>) -> Self {
        Self::new(Exit::Usage, sentence)
    }

    pub(crate) fn failed(sentence: impl Into<String>) -> Self {
        Self::new(Exit::Failed, sentence)
    }

    /// The failure within an error: what a command said, or the whole chain of causes as one sentence.
    pub(crate) fn of(error: &anyhow::Error) -> Self {
        match error.downcast_ref::<Self>() {
            Some(failure) => failure.clone(),
            None => Self::failed(format!("{error:#}")),
        }
    }
}

/// Without the "(os error 111)" of the standard library, which says nothing to anyone.
fn without_numbers(mut sentence: String) -> String {
    const BEFORE: &str = " (os error ";
    while let Some(start) = sentence.find(BEFORE) {
        let number = &sentence[start + BEFORE.len()..];
        let digits = number.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 || !number[digits..].starts_with(')') {
            break;
        }
        sentence.replace_range(start..start + BEFORE.len() + digits + 1, "");
    }
    sentence
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_hold_no_error_numbers() {
        let said = |sentence: &str| Failure::failed(sentence).sentence;
        assert_eq!(said("a: gone (os error 2); b: full (os error 28)"), "a: gone; b: full");
        assert_eq!(said("a (os error x) b (os error 3)"), "a (os error x) b (os error 3)");
    }
}

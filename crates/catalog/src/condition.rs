//! Conditions: judged against the current version of a key, where a delete marker counts as missing.

use core::fmt::Write as _;

use types::Refusal;
use types::command::{Condition, EtagMatch};

use crate::rows::ObjectRow;

/// Bytes of a condition in words; what is longer is cut, since a side record is bounded.
const WORDS_LEN_MAX: usize = 1024;

/// Judges a condition on a key that is written or deleted. `current` is its current row, if there is one.
pub(crate) fn judge(condition: &Condition, current: Option<&ObjectRow>) -> Result<(), Refusal> {
    let current = current.filter(|row| !row.marker);
    let demands = condition.if_match.is_some() || condition.if_size.is_some() || condition.if_modified_at.is_some();
    let Some(row) = current else {
        // AWS answers 404, not 412, to a condition on what is not there.
        return if demands { Err(Refusal::NoSuchKey) } else { Ok(()) };
    };
    let holds = condition.if_match.as_ref().is_none_or(|tags| matches(tags, row))
        && condition.if_none_match.as_ref().is_none_or(|tags| !matches(tags, row))
        && condition.if_size.is_none_or(|len| len == row.len)
        && condition.if_modified_at.is_none_or(|secs| secs == row.order.timestamp.unix_secs());
    if holds { Ok(()) } else { Err(Refusal::PreconditionFailed) }
}

/// Judges the condition on the source of a copy. An entity tag, where given, outweighs the time of the same
/// sense (RFC 9110, section 13.2.2).
pub(crate) fn judge_source(condition: &Condition, source: &ObjectRow) -> Result<(), Refusal> {
    let modified = source.order.timestamp.unix_secs();
    let wanted = match &condition.if_match {
        Some(tags) => matches(tags, source),
        None => condition.if_unmodified_since.is_none_or(|since| modified <= since),
    };
    let unwanted = match &condition.if_none_match {
        Some(tags) => matches(tags, source),
        None => condition.if_modified_since.is_some_and(|since| modified <= since),
    };
    if wanted && !unwanted { Ok(()) } else { Err(Refusal::SourcePreconditionFailed) }
}

fn matches(tags: &EtagMatch, row: &ObjectRow) -> bool {
    match tags {
        EtagMatch::Any => true,
        EtagMatch::OneOf(tags) => tags.contains(&row.etag()),
    }
}

/// The condition in words, as a ledger's side record tells it; `None` when there is none.
pub(crate) fn words(condition: &Condition, prefix: &str) -> Option<String> {
    let mut out = String::new();
    let mut say = |name: &str, value: &str| {
        let gap = if out.is_empty() { "" } else { "; " };
        write!(out, "{gap}{prefix}{name}: {value}").expect("writing into a string cannot fail");
    };
    if let Some(tags) = &condition.if_match {
        say("if-match", &tag_words(tags));
    }
    if let Some(tags) = &condition.if_none_match {
        say("if-none-match", &tag_words(tags));
    }
    let numbers = [
        ("if-modified-since", condition.if_modified_since),
        ("if-unmodified-since", condition.if_unmodified_since),
        ("if-size", condition.if_size),
        ("if-modified-at", condition.if_modified_at),
    ];
    for (name, number) in numbers {
        if let Some(number) = number {
            say(name, &number.to_string());
        }
    }
    if out.len() > WORDS_LEN_MAX {
        out.truncate(out.floor_char_boundary(WORDS_LEN_MAX));
        out.push('…');
    }
    (!out.is_empty()).then_some(out)
}

fn tag_words(tags: &EtagMatch) -> String {
    match tags {
        EtagMatch::Any => "*".to_owned(),
        EtagMatch::OneOf(tags) => tags.iter().map(|tag| format!("{tag:?}")).collect::<Vec<_>>().join(", "),
    }
}

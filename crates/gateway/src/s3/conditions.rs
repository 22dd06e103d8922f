//! Conditions: from headers to what the state machine judges, and those that reads judge here.

use http::HeaderMap;
use s3s::dto::{ETagCondition, Timestamp};
use s3s::{S3Result, s3_error};
use types::command::{Condition, EtagMatch};

/// An entity tag condition as the state machine takes it. The opaque tags count; whether they are weak does
/// not, since S3 has no weak ones.
pub(crate) fn etag_match(condition: &ETagCondition) -> EtagMatch {
    match condition {
        ETagCondition::Any => EtagMatch::Any,
        // s3s reads a list `"a", "b"` as one tag with quotes and commas in it.
        ETagCondition::ETag(etag) => EtagMatch::OneOf(tags(etag.value())),
    }
}

fn tags(list: &str) -> Vec<String> {
    let one = |tag: &str| {
        let tag = tag.trim();
        tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"').to_owned()
    };
    list.split(',').map(one).filter(|tag| !tag.is_empty()).collect()
}

/// Conditions on the destination of a write, from what s3s parsed.
pub(crate) fn destination(if_match: Option<&ETagCondition>, if_none_match: Option<&ETagCondition>) -> Condition {
    Condition {
        if_match: if_match.map(etag_match),
        if_none_match: if_none_match.map(etag_match),
        ..Condition::default()
    }
}

/// Conditions on the destination of a copy: s3s does not parse them.
pub(crate) fn raw_destination(headers: &HeaderMap) -> S3Result<Condition> {
    let parse = |name: &'static str| -> S3Result<Option<ETagCondition>> {
        let Some(value) = headers.get(name) else { return Ok(None) };
        ETagCondition::parse_http_header(value.as_bytes())
            .map(Some)
            .map_err(|_| s3_error!(InvalidArgument, "invalid header: {name}"))
    };
    Ok(destination(parse("if-match")?.as_ref(), parse("if-none-match")?.as_ref()))
}

/// Seconds since the Unix epoch; times before it count as the epoch.
pub(crate) fn unix_secs(timestamp: &Timestamp) -> u64 {
    let mut text = Vec::new();
    let formatted = timestamp.format(s3s::dto::TimestampFormat::EpochSeconds, &mut text);
    let text = core::str::from_utf8(&text).ok().filter(|_| formatted.is_ok());
    text.and_then(|text| text.split('.').next()?.parse().ok()).unwrap_or(0)
}

/// Conditions of a GET or HEAD.
#[derive(Debug, Default)]
pub(crate) struct ReadCondition<'a> {
    /// `If-Match`.
    pub(crate) if_match: Option<&'a ETagCondition>,
    /// `If-None-Match`.
    pub(crate) if_none_match: Option<&'a ETagCondition>,
    /// `If-Modified-Since`.
    pub(crate) if_modified_since: Option<&'a Timestamp>,
    /// `If-Unmodified-Since`.
    pub(crate) if_unmodified_since: Option<&'a Timestamp>,
}

/// What a read condition asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Answer.
    Go,
    /// 304.
    NotModified,
    /// 412.
    Failed,
}

impl ReadCondition<'_> {
    /// Judges by RFC 9110, section 13.2.2, as S3 does: a tag condition overrides its date condition.
    pub(crate) fn judge(&self, etag: &str, modified_secs: u64) -> Verdict {
        let matches = |condition: &ETagCondition| match etag_match(condition) {
            EtagMatch::Any => true,
            EtagMatch::OneOf(tags) => tags.iter().any(|tag| tag == etag),
        };
        let holds = match (self.if_match, self.if_unmodified_since) {
            (Some(condition), _) => matches(condition),
            (None, Some(since)) => modified_secs <= unix_secs(since),
            (None, None) => true,
        };
        if !holds {
            return Verdict::Failed;
        }
        let unchanged = match (self.if_none_match, self.if_modified_since) {
            (Some(condition), _) => matches(condition),
            (None, Some(since)) => modified_secs <= unix_secs(since),
            (None, None) => false,
        };
        if unchanged { Verdict::NotModified } else { Verdict::Go }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use s3s::dto::TimestampFormat;

    fn tag(text: &str) -> ETagCondition {
        ETagCondition::parse_http_header(text.as_bytes()).unwrap()
    }

    fn at(secs: u64) -> Timestamp {
        Timestamp::parse(TimestampFormat::EpochSeconds, &secs.to_string()).unwrap()
    }

    #[test]
    fn tags_of_every_spelling() {
        for (text, expected) in [
            ("\"abc\"", vec!["abc"]),
            ("abc", vec!["abc"]),
            ("W/\"abc\"", vec!["abc"]),
            ("\"a\", \"b-2\",W/\"c\"", vec!["a", "b-2", "c"]),
        ] {
            assert_eq!(
                etag_match(&tag(text)),
                EtagMatch::OneOf(expected.iter().map(|&t| t.to_owned()).collect()),
                "{text}"
            );
        }
        assert_eq!(etag_match(&tag("*")), EtagMatch::Any);
    }

    #[test]
    fn read_conditions() {
        let (a, b, star) = (tag("\"a\""), tag("\"b\""), tag("*"));
        let (early, late, same) = (at(50), at(150), at(100));
        let judge = |if_match, if_none_match, since, unmodified| {
            ReadCondition { if_match, if_none_match, if_modified_since: since, if_unmodified_since: unmodified }
                .judge("a", 100)
        };
        assert_eq!(judge(None, None, None, None), Verdict::Go);
        assert_eq!(judge(Some(&a), None, None, None), Verdict::Go);
        assert_eq!(judge(Some(&b), None, None, None), Verdict::Failed);
        assert_eq!(judge(None, Some(&a), None, None), Verdict::NotModified);
        assert_eq!(judge(None, Some(&star), None, None), Verdict::NotModified);
        assert_eq!(judge(None, Some(&b), None, None), Verdict::Go);
        assert_eq!(judge(None, None, Some(&late), None), Verdict::NotModified);
        assert_eq!(judge(None, None, Some(&same), None), Verdict::NotModified);
        assert_eq!(judge(None, None, Some(&early), None), Verdict::Go);
        assert_eq!(judge(None, None, None, Some(&early)), Verdict::Failed);
        assert_eq!(judge(None, None, None, Some(&same)), Verdict::Go);
        // Tags override dates.
        assert_eq!(judge(Some(&a), None, None, Some(&early)), Verdict::Go);
        assert_eq!(judge(None, Some(&b), Some(&late), None), Verdict::Go);
    }

    #[test]
    fn destinations_of_copies_come_from_raw_headers() {
        let mut headers = HeaderMap::new();
        headers.insert("if-none-match", "*".parse().unwrap());
        assert_eq!(raw_destination(&headers).unwrap().if_none_match, Some(EtagMatch::Any));
        headers.insert("if-match", "\"".parse().unwrap());
        assert!(raw_destination(&headers).is_err());
    }
}

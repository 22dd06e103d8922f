//! What a verified receipt says, in one sentence.

use core::fmt;

use types::fact::{FactKind, FactOutcome};
use types::{OrderKey, Timestamp};

use super::{Level, Verified};
use crate::note::hex;

impl Verified {
    /// One sentence: what was written, by whom it is vouched for, and where it stands in the log.
    #[must_use]
    pub fn sentence(&self) -> String {
        let Self { entry, level, .. } = self;
        let what = self.what();
        let when = Utc(entry.order.timestamp);
        match level {
            Level::Commit { vouched_by, stated_by, .. } => format!(
                "{what} was committed at {when} as {}: {} vouched for it in signed journals, and {stated_by} states the outcome.",
                place(entry.order),
                vouched_by.join(", "),
            ),
            Level::Included { origin, index, size, cosigned } => {
                let by = match cosigned.as_slice() {
                    [] => "the log signed".to_owned(),
                    names => {
                        let names: Vec<&str> = names.iter().map(|(name, _)| name.as_str()).collect();
                        format!("the log and {} signed", names.join(", "))
                    }
                };
                format!(
                    "{what} was committed at {when} as {}: it is entry {index} of the log {origin}, of which {by} the head of {size} entries.",
                    place(entry.order),
                )
            }
        }
    }

    fn what(&self) -> String {
        let object = match &self.name {
            None => "an object whose name is not disclosed".to_owned(),
            Some((bucket, key)) if bucket.is_empty() => format!("{key:?}"),
            Some((bucket, key)) if key.is_empty() => format!("the bucket {}", Printable(bucket)),
            Some((bucket, key)) => format!("s3://{}/{}", Printable(bucket), Printable(key)),
        };
        let action = match self.entry.kind {
            FactKind::Genesis => "The first configuration".to_owned(),
            FactKind::Put => format!("The write of {object}"),
            FactKind::Delete => format!("The deletion of {object}"),
            FactKind::Copy => format!("The copy to {object}"),
            FactKind::Complete => format!("The completed multipart upload of {object}"),
            FactKind::UploadCreate => format!("The start of a multipart upload of {object}"),
            FactKind::UploadPart => format!("A part of a multipart upload of {object}"),
            FactKind::UploadAbort => format!("The abort of a multipart upload of {object}"),
            FactKind::BucketCreate => format!("The creation of {object}"),
            FactKind::BucketDelete => format!("The removal of {object}"),
            FactKind::BucketConfigure => format!("The configuration of {object}"),
            FactKind::KeyPut => format!("The access key {object}"),
            FactKind::KeyDelete => format!("The removal of the access key {object}"),
            FactKind::Block => "A block".to_owned(),
            FactKind::NodePut => format!("The entry of node {object} in the directory"),
            FactKind::EpochBegin => "The beginning of an epoch".to_owned(),
            FactKind::Barrier => "An ordered listing".to_owned(),
            FactKind::ZonePut => format!("The policy of zone {object}"),
        };
        let outcome = match self.entry.outcome {
            FactOutcome::Applied => "",
            FactOutcome::PreconditionFailed => " was refused because a condition did not hold; this",
            FactOutcome::Refused => " was refused; this",
            FactOutcome::Replayed => " was a retry of an earlier call; this",
        };
        format!("{action}{}{outcome}", self.content())
    }

    /// Length and content digest, if disclosed.
    fn content(&self) -> String {
        let Some(detail) = self.readable.as_ref().map(|readable| &readable.detail) else {
            return String::new();
        };
        match (detail.len, detail.digest) {
            (Some(len), Some(digest)) => format!(" ({len} bytes, content digest {})", hex(&digest)),
            (Some(len), None) => format!(" ({len} bytes)"),
            _ => String::new(),
        }
    }
}

fn place(order: OrderKey) -> String {
    format!("order key {}", order.to_hex())
}

/// Text of others on a terminal: control characters are escaped.
struct Printable<'a>(&'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .chars()
            .try_for_each(|c| if c.is_control() { write!(f, "{}", c.escape_unicode()) } else { write!(f, "{c}") })
    }
}

/// RFC 3339 in UTC, to the millisecond.
struct Utc(Timestamp);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (secs, ms) = (self.0.unix_secs(), self.0.unix_ms() % 1000);
        let (days, second) = (secs / 86_400, secs % 86_400);
        // Days to a civil date: eras of 400 years that begin on 1 March of year 0.
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = 400 * era + year_of_era + u64::from(month <= 2);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_civil() {
        for (secs, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (951_868_799, "2000-02-29T23:59:59.000Z"),
            (951_868_800, "2000-03-01T00:00:00.000Z"),
            (1_735_689_599, "2024-12-31T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(Utc(Timestamp(secs * 1_000_000_000)).to_string(), text);
        }
        assert_eq!(Utc(Timestamp(1_234_567_890)).to_string(), "1970-01-01T00:00:01.234Z");
    }
}

//! Names of buckets: the rules of AWS for general purpose buckets, and the one name of our own.

use std::net::Ipv4Addr;

use s3s::validation::NameValidation;

/// First path segment of the native routes. No bucket can have it.
pub(crate) const NATIVE_SEGMENT: &str = "_entangle";

/// Whether a bucket may be made under this name.
#[must_use]
pub(crate) fn is_bucket_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    let edge = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    (3..=63).contains(&bytes.len())
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-'))
        && edge(bytes.first())
        && edge(bytes.last())
        && !name.contains("..")
        && name.parse::<Ipv4Addr>().is_err()
        && !["xn--", "sthree-", "amzn-s3-demo-"].iter().any(|prefix| name.starts_with(prefix))
        && !["-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"].iter().any(|suffix| name.ends_with(suffix))
}

/// Lets s3s parse the native routes; buckets under other wrong names are refused before any lookup.
pub(crate) struct Names;

impl NameValidation for Names {
    fn validate_bucket_name(&self, name: &str) -> bool {
        name == NATIVE_SEGMENT || is_bucket_name(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_names_follow_the_rules() {
        for good in ["abc", "my-bucket", "logs.2026", "0-9", &"a".repeat(63), "300.1.1.1"] {
            assert!(is_bucket_name(good), "{good}");
        }
        let bad = [
            "ab",
            &"a".repeat(64),
            "Upper",
            "under_score",
            "-edge",
            "edge-",
            ".dot",
            "a..b",
            "192.168.5.4",
            "xn--x",
            "sthree-a",
            "bucket-s3alias",
            "bucket--ol-s3",
            "_entangle",
            "",
            "sp ace",
            "ümlaut",
        ];
        for name in bad {
            assert!(!is_bucket_name(name), "{name}");
        }
        assert!(Names.validate_bucket_name("_entangle"));
    }
}

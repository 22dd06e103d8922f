//! Checksums between the five fields that s3s has for them and one value of ours.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use s3s::dto;
use s3s::{S3Result, s3_error};
use types::object::{Checksum, ChecksumAlgorithm, ChecksumKind};

use crate::body::{algorithm_name, algorithm_of, checksum_name, parse_checksum};

/// The text of a checksum: base64, and `-N` for a composite one of `N` parts.
pub(crate) fn text(checksum: &Checksum, parts: u16) -> String {
    let value = BASE64.encode(&checksum.value);
    match checksum.kind {
        ChecksumKind::Composite if parts > 0 => format!("{value}-{parts}"),
        ChecksumKind::Composite | ChecksumKind::FullObject => value,
    }
}

/// The dto's name of what a checksum covers.
pub(crate) fn kind(kind: ChecksumKind) -> dto::ChecksumType {
    let name = match kind {
        ChecksumKind::FullObject => dto::ChecksumType::FULL_OBJECT,
        ChecksumKind::Composite => dto::ChecksumType::COMPOSITE,
    };
    dto::ChecksumType::from_static(name)
}

/// The dto's name of an algorithm.
pub(crate) fn algorithm(algorithm: ChecksumAlgorithm) -> dto::ChecksumAlgorithm {
    dto::ChecksumAlgorithm::from_static(algorithm_name(algorithm))
}

/// The algorithm that a client names.
pub(crate) fn named_algorithm(name: &str) -> S3Result<ChecksumAlgorithm> {
    algorithm_of(name).ok_or_else(|| {
        s3_error!(InvalidRequest, "Checksum algorithm provided is unsupported. Please try again with any of the valid types: [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]")
    })
}

/// Fills the five checksum fields of an s3s structure.
macro_rules! set_checksum {
    ($target:expr, $algorithm:expr, $text:expr) => {{
        let text = Some($text);
        match $algorithm {
            types::object::ChecksumAlgorithm::Crc32 => $target.checksum_crc32 = text,
            types::object::ChecksumAlgorithm::Crc32c => $target.checksum_crc32c = text,
            types::object::ChecksumAlgorithm::Crc64Nvme => $target.checksum_crc64nvme = text,
            types::object::ChecksumAlgorithm::Sha1 => $target.checksum_sha1 = text,
            types::object::ChecksumAlgorithm::Sha256 => $target.checksum_sha256 = text,
        }
    }};
}
pub(crate) use set_checksum;

/// Reads the five checksum fields of an s3s structure: at most one may be set.
macro_rules! read_checksum {
    ($source:expr) => {
        $crate::s3::checksums::one_of([
            (types::object::ChecksumAlgorithm::Crc32, $source.checksum_crc32.as_deref()),
            (types::object::ChecksumAlgorithm::Crc32c, $source.checksum_crc32c.as_deref()),
            (types::object::ChecksumAlgorithm::Crc64Nvme, $source.checksum_crc64nvme.as_deref()),
            (types::object::ChecksumAlgorithm::Sha1, $source.checksum_sha1.as_deref()),
            (types::object::ChecksumAlgorithm::Sha256, $source.checksum_sha256.as_deref()),
        ])
    };
}
pub(crate) use read_checksum;

/// The one checksum among the fields. A `-N` behind it is dropped; whether it fits the parts is judged by
/// the value.
pub(crate) fn one_of(fields: [(ChecksumAlgorithm, Option<&str>); 5]) -> S3Result<Option<(ChecksumAlgorithm, Bytes)>> {
    let mut found = None;
    for (algorithm, text) in fields {
        let Some(text) = text else { continue };
        if found.is_some() {
            return Err(s3_error!(
                InvalidRequest,
                "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed."
            ));
        }
        let text = text.split_once('-').map_or(text, |(value, _)| value);
        let value = parse_checksum(algorithm, text)
            .ok_or_else(|| s3_error!(InvalidRequest, "Value for {} header is invalid.", checksum_name(algorithm)))?;
        found = Some((algorithm, Bytes::from(value)));
    }
    Ok(found)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn composite_checksums_show_their_parts() {
        let mut checksum = Checksum {
            algorithm: ChecksumAlgorithm::Crc32,
            kind: ChecksumKind::Composite,
            value: Bytes::from_static(&[1, 2, 3, 4]),
        };
        assert_eq!(text(&checksum, 3), "AQIDBA==-3");
        checksum.kind = ChecksumKind::FullObject;
        assert_eq!(text(&checksum, 3), "AQIDBA==");
    }

    #[test]
    fn fields_are_read_once() {
        let part = dto::CompletedPart { checksum_crc32: Some("AQIDBA==-3".to_owned()), ..Default::default() };
        let (algorithm, value) = read_checksum!(part).unwrap().unwrap();
        assert_eq!((algorithm, value.as_ref()), (ChecksumAlgorithm::Crc32, &[1, 2, 3, 4][..]));
        let two = dto::CompletedPart {
            checksum_crc32: Some("AQIDBA==".to_owned()),
            checksum_crc32c: Some("AQIDBA==".to_owned()),
            ..Default::default()
        };
        assert!(read_checksum!(two).is_err());
        assert!(read_checksum!(dto::CompletedPart::default()).unwrap().is_none());
        let bad = dto::CompletedPart { checksum_sha1: Some("AQIDBA==".to_owned()), ..Default::default() };
        assert!(read_checksum!(bad).is_err());
    }
}

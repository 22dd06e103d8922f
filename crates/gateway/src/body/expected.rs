//! What a request says about its body, and whether the body keeps to it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::HeaderMap;
use s3s::{S3Result, s3_error};
use types::object::ChecksumAlgorithm;

use super::{BodyFault, Digests, Wanted, algorithm_of};
use crate::preflight::{PayloadHash, Preflight};

/// All algorithms.
pub(crate) const ALGORITHMS: [ChecksumAlgorithm; 5] = [
    ChecksumAlgorithm::Crc32,
    ChecksumAlgorithm::Crc32c,
    ChecksumAlgorithm::Crc64Nvme,
    ChecksumAlgorithm::Sha1,
    ChecksumAlgorithm::Sha256,
];

/// The header or trailer that carries a checksum.
pub(crate) fn checksum_name(algorithm: ChecksumAlgorithm) -> &'static str {
    match algorithm {
        ChecksumAlgorithm::Crc32 => "x-amz-checksum-crc32",
        ChecksumAlgorithm::Crc32c => "x-amz-checksum-crc32c",
        ChecksumAlgorithm::Crc64Nvme => "x-amz-checksum-crc64nvme",
        ChecksumAlgorithm::Sha1 => "x-amz-checksum-sha1",
        ChecksumAlgorithm::Sha256 => "x-amz-checksum-sha256",
    }
}

/// The raw value of a checksum in base64, of the right length.
pub(crate) fn parse_checksum(algorithm: ChecksumAlgorithm, text: &str) -> Option<Vec<u8>> {
    BASE64.decode(text).ok().filter(|value| value.len() == algorithm.value_len())
}

/// Where a checksum comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Claim {
    /// The head says it.
    Header(Vec<u8>),
    /// The trailer will.
    Trailer,
    /// Nobody says it; it is computed to be kept.
    Absent,
}

/// What the head of a request says about the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    md5: Option<[u8; 16]>,
    payload: Option<[u8; 32]>,
    checksum: Option<(ChecksumAlgorithm, Claim)>,
}

impl Expected {
    /// Reads the headers. `default` is the algorithm of the checksum that is made when the client sends
    /// none.
    pub(crate) fn of(headers: &HeaderMap, preflight: &Preflight, default: Option<ChecksumAlgorithm>) -> S3Result<Self> {
        let md5 = match headers.get("content-md5") {
            None => None,
            Some(value) => {
                let bytes = BASE64.decode(value).ok().and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
                Some(bytes.ok_or_else(|| s3_error!(InvalidDigest, "The Content-MD5 you specified was invalid."))?)
            }
        };
        let payload = match &preflight.payload {
            PayloadHash::Sha256(hash) => Some(*hash),
            PayloadHash::Unsigned | PayloadHash::Chunked(_) => None,
        };
        let mut checksum = claimed_checksum(headers, preflight)?;
        if checksum.is_none() {
            checksum = default.map(|algorithm| (algorithm, Claim::Absent));
        }
        Ok(Self { md5, payload, checksum })
    }

    /// The hashes that are needed to check it.
    pub(crate) fn wanted(&self) -> Wanted {
        Wanted {
            payload_sha256: self.payload.is_some(),
            checksum: self.checksum.as_ref().map(|(algorithm, _)| *algorithm),
        }
    }

    /// Whether the client itself sent a checksum.
    pub(crate) fn is_claimed(&self) -> bool {
        matches!(self.checksum, Some((_, Claim::Header(_) | Claim::Trailer)))
    }

    /// Whether the body keeps to all of it.
    pub(crate) fn check(&self, digests: &Digests, trailers: &[(String, String)]) -> Result<(), BodyFault> {
        if self.payload.is_some() && digests.sha256 != self.payload {
            return Err(BodyFault::PayloadHash);
        }
        if self.md5.is_some_and(|md5| md5 != digests.md5) {
            return Err(BodyFault::Md5);
        }
        let Some((algorithm, claim)) = &self.checksum else { return Ok(()) };
        let claimed = match claim {
            Claim::Absent => return Ok(()),
            Claim::Header(value) => value.clone(),
            Claim::Trailer => {
                let name = checksum_name(*algorithm);
                let value = trailers.iter().find(|(found, _)| found == name);
                value.and_then(|(_, value)| parse_checksum(*algorithm, value)).ok_or(BodyFault::Trailer(*algorithm))?
            }
        };
        match &digests.checksum {
            Some((_, computed)) if *computed == claimed => Ok(()),
            _ => Err(BodyFault::Checksum(*algorithm)),
        }
    }
}

fn claimed_checksum(headers: &HeaderMap, preflight: &Preflight) -> S3Result<Option<(ChecksumAlgorithm, Claim)>> {
    let mut found = None;
    for algorithm in ALGORITHMS {
        let name = checksum_name(algorithm);
        let mut values = headers.get_all(name).iter();
        let Some(value) = values.next() else { continue };
        if found.is_some() || values.next().is_some() {
            return Err(s3_error!(
                InvalidRequest,
                "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed."
            ));
        }
        let value = value.to_str().ok().and_then(|text| parse_checksum(algorithm, text));
        let value = value.ok_or_else(|| s3_error!(InvalidRequest, "Value for {name} header is invalid."))?;
        found = Some((algorithm, Claim::Header(value)));
    }
    let announced = headers.get_all("x-amz-trailer").iter().filter_map(|value| value.to_str().ok());
    for name in announced.flat_map(|value| value.split(',')).map(str::trim).filter(|name| !name.is_empty()) {
        let Some(algorithm) = ALGORITHMS.into_iter().find(|&a| checksum_name(a).eq_ignore_ascii_case(name)) else {
            // What is announced would be ignored.
            return Err(s3_error!(InvalidRequest, "The value specified in the x-amz-trailer header is not supported"));
        };
        if found.is_some() {
            return Err(s3_error!(
                InvalidRequest,
                "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed."
            ));
        }
        if !matches!(&preflight.payload, PayloadHash::Chunked(chunking) if chunking.trailer) {
            return Err(s3_error!(
                InvalidRequest,
                "x-amz-trailer needs an x-amz-content-sha256 that announces a trailer"
            ));
        }
        found = Some((algorithm, Claim::Trailer));
    }
    check_named_algorithm(headers, found.as_ref().map(|(algorithm, _)| *algorithm))?;
    Ok(found)
}

/// `x-amz-sdk-checksum-algorithm` must agree with the checksum that is sent.
fn check_named_algorithm(headers: &HeaderMap, found: Option<ChecksumAlgorithm>) -> S3Result<()> {
    let Some(named) = headers.get("x-amz-sdk-checksum-algorithm") else { return Ok(()) };
    let named = named.to_str().ok().and_then(algorithm_of);
    match (named, found) {
        (None, _) => Err(s3_error!(InvalidRequest, "Value for x-amz-sdk-checksum-algorithm header is invalid.")),
        (Some(_), None) => Err(s3_error!(
            InvalidRequest,
            "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers were found."
        )),
        (Some(named), Some(found)) if named != found => {
            Err(s3_error!(InvalidRequest, "Value for x-amz-sdk-checksum-algorithm header is invalid."))
        }
        (Some(_), Some(_)) => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::body::Chunking;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn trailing() -> Preflight {
        Preflight { payload: PayloadHash::Chunked(Chunking { signed: None, trailer: true }), ..Preflight::default() }
    }

    #[test]
    fn trailers_that_would_be_ignored_are_refused() {
        for name in ["x-amz-meta-a", "x-amz-checksum-md5", "x-amz-checksum-crc32, x-amz-meta-a"] {
            let error = Expected::of(&headers(&[("x-amz-trailer", name)]), &trailing(), None).unwrap_err();
            assert_eq!(error.code().as_str(), "InvalidRequest", "{name}");
        }
        assert!(Expected::of(&headers(&[("x-amz-trailer", "")]), &trailing(), None).is_ok());
    }

    #[test]
    fn header_claims_are_checked() {
        let crc = BASE64.encode(0xcbf4_3926_u32.to_be_bytes());
        let md5 = "JfnnlDI7RThF9RgfG2JNCw==";
        let head = headers(&[("x-amz-checksum-crc32", &crc), ("content-md5", md5)]);
        let expected = Expected::of(&head, &Preflight::default(), None).unwrap();
        assert!(expected.is_claimed());
        let mut right = Digests {
            md5: BASE64.decode(md5).unwrap().try_into().unwrap(),
            sha256: None,
            checksum: Some((ChecksumAlgorithm::Crc32, 0xcbf4_3926_u32.to_be_bytes().to_vec())),
        };
        assert_eq!(expected.check(&right, &[]), Ok(()));
        right.checksum = Some((ChecksumAlgorithm::Crc32, vec![0; 4]));
        assert_eq!(expected.check(&right, &[]), Err(BodyFault::Checksum(ChecksumAlgorithm::Crc32)));
        right.md5 = [0; 16];
        assert_eq!(expected.check(&right, &[]), Err(BodyFault::Md5));
    }

    #[test]
    fn a_trailer_must_come_and_match() {
        let head = headers(&[("x-amz-trailer", "x-amz-checksum-crc32"), ("x-amz-sdk-checksum-algorithm", "CRC32")]);
        let expected = Expected::of(&head, &trailing(), Some(ChecksumAlgorithm::Crc64Nvme)).unwrap();
        assert_eq!(expected.wanted().checksum, Some(ChecksumAlgorithm::Crc32));
        let digests = Digests { checksum: Some((ChecksumAlgorithm::Crc32, vec![1, 2, 3, 4])), ..Digests::default() };
        let trailer = |value: &str| vec![("x-amz-checksum-crc32".to_owned(), value.to_owned())];
        assert_eq!(expected.check(&digests, &trailer("AQIDBA==")), Ok(()));
        assert_eq!(expected.check(&digests, &trailer("AQIDBQ==")), Err(BodyFault::Checksum(ChecksumAlgorithm::Crc32)));
        assert_eq!(expected.check(&digests, &trailer("AQI=")), Err(BodyFault::Trailer(ChecksumAlgorithm::Crc32)));
        assert_eq!(expected.check(&digests, &[]), Err(BodyFault::Trailer(ChecksumAlgorithm::Crc32)));
    }

    #[test]
    fn wrong_heads_are_refused() {
        for (head, code) in [
            (headers(&[("content-md5", "short")]), "InvalidDigest"),
            (headers(&[("x-amz-checksum-crc32", "AQI=")]), "InvalidRequest"),
            (headers(&[("x-amz-checksum-crc32", "AQIDBA=="), ("x-amz-checksum-crc32c", "AQIDBA==")]), "InvalidRequest"),
            (headers(&[("x-amz-sdk-checksum-algorithm", "CRC32")]), "InvalidRequest"),
            (
                headers(&[("x-amz-sdk-checksum-algorithm", "CRC32C"), ("x-amz-checksum-crc32", "AQIDBA==")]),
                "InvalidRequest",
            ),
            (headers(&[("x-amz-trailer", "x-amz-checksum-crc32")]), "InvalidRequest"),
        ] {
            let error = Expected::of(&head, &Preflight::default(), None).unwrap_err();
            assert_eq!(error.code().as_str(), code, "{head:?}");
        }
        let head = headers(&[("x-amz-trailer", "x-amz-checksum-md17")]);
        assert!(Expected::of(&head, &trailing(), None).is_err());
    }

    #[test]
    fn a_default_is_computed_and_not_demanded() {
        let expected =
            Expected::of(&HeaderMap::new(), &Preflight::default(), Some(ChecksumAlgorithm::Crc64Nvme)).unwrap();
        assert_eq!(expected.wanted(), Wanted { payload_sha256: false, checksum: Some(ChecksumAlgorithm::Crc64Nvme) });
        assert!(!expected.is_claimed());
        assert_eq!(expected.check(&Digests::default(), &[]), Ok(()));
    }
}

//! The hashes that a body needs, computed together or in two lanes.

use aws_lc_rs::digest as lc;
use md5::{Digest as _, Md5};
use types::object::ChecksumAlgorithm;

/// Which hashes a body needs beside MD5.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// SHA-256 for `x-amz-content-sha256`.
    pub(crate) payload_sha256: bool,
    /// The checksum asked for, sent, or made by default.
    pub(crate) checksum: Option<ChecksumAlgorithm>,
}

impl Wanted {
    fn sha256(self) -> bool {
        self.payload_sha256 || self.checksum == Some(ChecksumAlgorithm::Sha256)
    }

    /// Whether there is slow work beside MD5, worth a lane of its own.
    pub(crate) fn is_heavy(self) -> bool {
        self.sha256() || self.checksum == Some(ChecksumAlgorithm::Sha1)
    }
}

/// What was computed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Digests {
    /// MD5.
    pub(crate) md5: [u8; 16],
    /// SHA-256, if the payload's hash or the checksum needs it.
    pub(crate) sha256: Option<[u8; 32]>,
    /// The checksum's value.
    pub(crate) checksum: Option<(ChecksumAlgorithm, Vec<u8>)>,
}

/// One or more hashes that go over the same bytes.
pub(crate) struct Hashes {
    md5: Option<Md5>,
    sha256: Option<lc::Context>,
    sha1: Option<lc::Context>,
    crc: Option<(ChecksumAlgorithm, crc_fast::Digest)>,
}

fn crc_of(algorithm: ChecksumAlgorithm) -> Option<crc_fast::CrcAlgorithm> {
    match algorithm {
        ChecksumAlgorithm::Crc32 => Some(crc_fast::CrcAlgorithm::Crc32IsoHdlc),
        ChecksumAlgorithm::Crc32c => Some(crc_fast::CrcAlgorithm::Crc32Iscsi),
        ChecksumAlgorithm::Crc64Nvme => Some(crc_fast::CrcAlgorithm::Crc64Nvme),
        ChecksumAlgorithm::Sha1 | ChecksumAlgorithm::Sha256 => None,
    }
}

impl Hashes {
    /// All of them.
    pub(crate) fn all(wanted: Wanted) -> Self {
        Self { md5: Some(Md5::new()), ..Self::without_md5(wanted) }
    }

    /// MD5 alone.
    pub(crate) fn md5_only() -> Self {
        Self { md5: Some(Md5::new()), sha256: None, sha1: None, crc: None }
    }

    /// All but MD5.
    pub(crate) fn without_md5(wanted: Wanted) -> Self {
        let crc = wanted.checksum.and_then(|algorithm| Some((algorithm, crc_fast::Digest::new(crc_of(algorithm)?))));
        Self {
            md5: None,
            sha256: wanted.sha256().then(|| lc::Context::new(&lc::SHA256)),
            sha1: (wanted.checksum == Some(ChecksumAlgorithm::Sha1))
                .then(|| lc::Context::new(&lc::SHA1_FOR_LEGACY_USE_ONLY)),
            crc,
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        if let Some(md5) = &mut self.md5 {
            md5.update(bytes);
        }
        if let Some(sha256) = &mut self.sha256 {
            sha256.update(bytes);
        }
        if let Some(sha1) = &mut self.sha1 {
            sha1.update(bytes);
        }
        if let Some((_, crc)) = &mut self.crc {
            crc.update(bytes);
        }
    }

    /// Adds what these computed to `digests`.
    pub(crate) fn finish(self, wanted: Wanted, digests: &mut Digests) {
        if let Some(md5) = self.md5 {
            digests.md5 = md5.finalize().into();
        }
        if let Some(sha256) = self.sha256 {
            let mut value = [0; 32];
            value.copy_from_slice(sha256.finish().as_ref());
            digests.sha256 = Some(value);
            if wanted.checksum == Some(ChecksumAlgorithm::Sha256) {
                digests.checksum = Some((ChecksumAlgorithm::Sha256, value.to_vec()));
            }
        }
        if let Some(sha1) = self.sha1 {
            digests.checksum = Some((ChecksumAlgorithm::Sha1, sha1.finish().as_ref().to_vec()));
        }
        if let Some((algorithm, crc)) = self.crc {
            let value = crc.finalize().to_be_bytes();
            digests.checksum = Some((algorithm, value[8 - algorithm.value_len()..].to_vec()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::expected::ALGORITHMS;

    fn digest(wanted: Wanted, bytes: &[u8]) -> Digests {
        let mut digests = Digests::default();
        let mut hashes = Hashes::all(wanted);
        for piece in bytes.chunks(3) {
            hashes.update(piece);
        }
        hashes.finish(wanted, &mut digests);
        digests
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn known_values() {
        let known = [
            "cbf43926",
            "e3069283",
            "ae8b14860a799888",
            "f7c3bc1d808e04732adf679965ccc34ca7ae3441",
            "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
        ];
        for (algorithm, value) in ALGORITHMS.into_iter().zip(known) {
            let wanted = Wanted { payload_sha256: false, checksum: Some(algorithm) };
            let digests = digest(wanted, b"123456789");
            assert_eq!(hex(&digests.md5), "25f9e794323b453885f5181f1b624d0b");
            let (found, bytes) = digests.checksum.expect("a checksum was wanted");
            assert_eq!((found, hex(&bytes).as_str()), (algorithm, value));
            assert_eq!(bytes.len(), algorithm.value_len());
        }
    }

    #[test]
    fn two_lanes_give_what_one_gives() {
        for algorithm in ALGORITHMS {
            let wanted = Wanted { payload_sha256: true, checksum: Some(algorithm) };
            let together = digest(wanted, b"some bytes");
            let mut apart = Digests::default();
            for mut lane in [Hashes::md5_only(), Hashes::without_md5(wanted)] {
                lane.update(b"some bytes");
                lane.finish(wanted, &mut apart);
            }
            assert_eq!(apart, together);
        }
    }
}

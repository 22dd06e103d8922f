//! Request bodies: read with an idle time-out, decoded, hashed, checked, and either collected or placed.
//!
//! An object's body never passes through s3s. The edge hands s3s an empty one; s3s checks the signature of
//! the head, and the operation takes the real body from the [`RequestContext`]. So a chunk of any declared
//! size streams (s3s would hold it in memory), every failure has its own error, and the hashes of the
//! payload, which s3s would compute on the connection's task, overlap with placement.

mod chunked;
mod digest;
mod document;
mod expected;
mod reader;
mod sink;

use std::fmt;

use node::WriteError;
use types::object::ChecksumAlgorithm;

pub(crate) use chunked::{ChunkScope, Chunking};
pub(crate) use digest::{Digests, Hashes, Wanted};
pub(crate) use document::Document;
pub(crate) use expected::{Expected, checksum_name, parse_checksum};
pub(crate) use reader::Payload;
pub(crate) use sink::{Sink, Stored};

#[cfg(doc)]
use crate::context::RequestContext;

/// Why a body was refused. Nothing of it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BodyFault {
    /// It ended before, or goes beyond, the declared length.
    Incomplete {
        /// Declared.
        declared: u64,
        /// What came.
        came: u64,
    },
    /// No byte came for the idle time-out.
    Stalled,
    /// It is larger than the operation takes.
    TooLarge,
    /// The aws-chunked framing is wrong.
    Framing(&'static str),
    /// A chunk's or the trailer's signature is wrong.
    ChunkSignature,
    /// It is not what `x-amz-content-sha256` says.
    PayloadHash,
    /// It is not what `Content-MD5` says.
    Md5,
    /// It is not what the checksum says.
    Checksum(ChecksumAlgorithm),
    /// A checksum was announced as a trailer and did not come, or is malformed.
    Trailer(ChecksumAlgorithm),
}

impl fmt::Display for BodyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Incomplete { declared, came } => {
                write!(f, "You declared a body of {declared} bytes, and {came} came.")
            }
            Self::Stalled => f.write_str(
                "Your socket connection to the server was not read from or written to within the timeout period.",
            ),
            Self::TooLarge => f.write_str("Your request was too big."),
            Self::Framing(what) => write!(f, "The aws-chunked body is malformed: {what}."),
            Self::ChunkSignature => f.write_str("The signature of a chunk does not match the signature you provided."),
            Self::PayloadHash => {
                f.write_str("The provided 'x-amz-content-sha256' header does not match what was computed.")
            }
            Self::Md5 => f.write_str("The Content-MD5 you specified did not match what we received."),
            Self::Checksum(algorithm) => {
                write!(f, "The {} you specified did not match the calculated checksum.", algorithm_name(*algorithm))
            }
            Self::Trailer(algorithm) => {
                write!(f, "The trailer {} is missing or malformed.", checksum_name(*algorithm))
            }
        }
    }
}

impl std::error::Error for BodyFault {}

/// Why a body was not taken in.
#[derive(Debug)]
pub(crate) enum ReceiveError {
    /// The client's side.
    Fault(BodyFault),
    /// Our side.
    Write(WriteError),
}

impl From<BodyFault> for ReceiveError {
    fn from(fault: BodyFault) -> Self {
        Self::Fault(fault)
    }
}

impl From<WriteError> for ReceiveError {
    fn from(error: WriteError) -> Self {
        Self::Write(error)
    }
}

/// The name that S3's XML and messages give an algorithm.
pub(crate) fn algorithm_name(algorithm: ChecksumAlgorithm) -> &'static str {
    match algorithm {
        ChecksumAlgorithm::Crc32 => "CRC32",
        ChecksumAlgorithm::Crc32c => "CRC32C",
        ChecksumAlgorithm::Crc64Nvme => "CRC64NVME",
        ChecksumAlgorithm::Sha1 => "SHA1",
        ChecksumAlgorithm::Sha256 => "SHA256",
    }
}

/// The inverse of [`algorithm_name`], in any case.
pub(crate) fn algorithm_of(name: &str) -> Option<ChecksumAlgorithm> {
    expected::ALGORITHMS.into_iter().find(|&algorithm| algorithm_name(algorithm).eq_ignore_ascii_case(name))
}

/// Takes a whole object body in: reads, decodes, hashes, checks; stores what passes.
pub(crate) async fn receive(mut payload: Payload, mut sink: Sink, expected: &Expected) -> Result<Stored, ReceiveError> {
    while let Some(bytes) = payload.next().await? {
        sink.push(bytes).await?;
    }
    let stored = sink.finish().await?;
    if let Err(fault) = expected.check(&stored.digests, payload.trailers()) {
        payload.fail(fault.clone());
        return Err(fault.into());
    }
    Ok(stored)
}

//! Every error's S3 code and status, in one place.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use node::{BodyError, WriteError};
use s3s::{S3Error, S3ErrorCode, s3_error};
use types::Refusal;
use types::state::ReadError;

use crate::body::{BodyFault, ReceiveError};

/// Says that a write may have taken place although it was not acknowledged.
const OUTCOME_HEADER: HeaderName = HeaderName::from_static("x-entangle-outcome");

/// An error with a code that s3s does not know, or with another status than s3s gives it.
pub(crate) fn custom(code: &'static str, status: StatusCode, message: impl Into<String>) -> S3Error {
    let code = S3ErrorCode::from_bytes(code.as_bytes()).unwrap_or(S3ErrorCode::InternalError);
    let mut error = S3Error::with_message(code, message.into());
    error.set_status_code(status);
    error
}

/// The answer to a write that the state machine refused.
pub(crate) fn refusal(refusal: &Refusal) -> S3Error {
    match refusal {
        Refusal::NoSuchBucket => s3_error!(NoSuchBucket),
        Refusal::BucketAlreadyOwnedByYou => s3_error!(BucketAlreadyOwnedByYou),
        Refusal::BucketAlreadyExists => s3_error!(BucketAlreadyExists),
        Refusal::BucketNotEmpty => s3_error!(BucketNotEmpty),
        Refusal::TooManyBuckets => s3_error!(TooManyBuckets),
        Refusal::NoSuchKey => s3_error!(NoSuchKey),
        Refusal::NoSuchVersion => s3_error!(NoSuchVersion),
        Refusal::PreconditionFailed | Refusal::SourcePreconditionFailed => s3_error!(PreconditionFailed),
        Refusal::NoSuchUpload => s3_error!(NoSuchUpload),
        Refusal::InvalidPart(number) => s3_error!(
            InvalidPart,
            "Part {number} could not be found. It may not have been uploaded, or its entity tag or checksum does not match."
        ),
        Refusal::InvalidPartOrder => s3_error!(InvalidPartOrder),
        Refusal::EntityTooSmall(number) => {
            s3_error!(EntityTooSmall, "Part {number} is smaller than 5 MiB and is not the last one.")
        }
        Refusal::BadDigest => s3_error!(BadDigest, "The checksum or size that you specified did not match the object."),
        Refusal::RequestIdReused => {
            s3_error!(InvalidRequest, "This request id was used before for another request; use a new one.")
        }
        Refusal::PlacementTooOld => {
            s3_error!(ServiceUnavailable, "The body was received too long ago to be committed; send it again.")
        }
        Refusal::SourceChanged => {
            s3_error!(ServiceUnavailable, "The source changed while it was copied; try again.")
        }
        Refusal::DeleteMarker => s3_error!(
            InvalidRequest,
            "The source of a copy request may not specifically refer to a delete marker by version id."
        ),
        Refusal::CopyOntoItself => s3_error!(
            InvalidRequest,
            "This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, storage class, website redirect location or encryption attributes."
        ),
        Refusal::TooManyAccessKeys => {
            custom("LimitExceeded", StatusCode::CONFLICT, "There are as many access keys as there may be.")
        }
        Refusal::NoSuchAccessKey => {
            custom("NoSuchAccessKey", StatusCode::NOT_FOUND, "The specified access key does not exist.")
        }
        Refusal::LastAccessKey => custom(
            "LastAccessKey",
            StatusCode::CONFLICT,
            "The last access key cannot be removed; add another one first.",
        ),
        Refusal::TokenUsed => custom("TokenUsed", StatusCode::CONFLICT, "The join token was used before."),
        Refusal::TokenExpired => custom("TokenExpired", StatusCode::CONFLICT, "The join token has expired."),
        Refusal::NameTaken(replica) => {
            custom("NameTaken", StatusCode::CONFLICT, format!("Node {replica} has this name; choose another one."))
        }
        Refusal::TooManyRows => s3_error!(SlowDown, "The request changes too much at once; ask again for this key."),
        Refusal::Invalid(rule) => s3_error!(InvalidArgument, "{rule}"),
    }
}

/// The answer to a write that was not acknowledged.
pub(crate) fn write(error: &WriteError) -> S3Error {
    let mut answer = match error {
        WriteError::SlowDown(_) => s3_error!(SlowDown, "Please reduce your request rate."),
        // A full disk is not 507: the SDKs try 503 again, and there may be room by then.
        WriteError::DiskFull { .. } | WriteError::NotReady(_) | WriteError::NoQuorum { .. } => {
            S3Error::with_message(S3ErrorCode::ServiceUnavailable, sentence(&error.to_string()))
        }
        WriteError::Stopping => s3_error!(ServiceUnavailable, "The server is stopping. Please try again."),
        WriteError::TimedOut => s3_error!(
            ServiceUnavailable,
            "No outcome is known yet; the write may have taken place. Retry with the same request id to learn it."
        ),
        WriteError::TooLarge { .. } => s3_error!(MaxMessageLengthExceeded, "Your request was too big."),
        WriteError::Failed(_) | WriteError::Body(_) => {
            tracing::error!(%error, "a write failed");
            s3_error!(InternalError, "We encountered an internal error. Please try again.")
        }
    };
    if error.is_outcome_unknown() {
        answer.set_headers(HeaderMap::from_iter([(OUTCOME_HEADER, HeaderValue::from_static("unknown"))]));
    }
    answer
}

fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", chars.as_str())
}

/// The answer when the state cannot be read.
pub(crate) fn read(error: &ReadError) -> S3Error {
    tracing::error!(%error, "a read failed");
    s3_error!(InternalError, "We encountered an internal error. Please try again.")
}

/// The answer when a stored body cannot be given.
pub(crate) fn stored_body(error: &BodyError) -> S3Error {
    tracing::error!(%error, "a stored body could not be read");
    s3_error!(InternalError, "We encountered an internal error. Please try again.")
}

/// The answer to a body that was refused.
pub(crate) fn fault(fault: &BodyFault) -> S3Error {
    let message = fault.to_string();
    match fault {
        BodyFault::Incomplete { .. } => S3Error::with_message(S3ErrorCode::IncompleteBody, message),
        BodyFault::Stalled => S3Error::with_message(S3ErrorCode::RequestTimeout, message),
        BodyFault::TooLarge => S3Error::with_message(S3ErrorCode::MaxMessageLengthExceeded, message),
        BodyFault::Framing(_) | BodyFault::Trailer(_) => S3Error::with_message(S3ErrorCode::InvalidRequest, message),
        BodyFault::ChunkSignature => S3Error::with_message(S3ErrorCode::SignatureDoesNotMatch, message),
        BodyFault::PayloadHash => custom("XAmzContentSHA256Mismatch", StatusCode::BAD_REQUEST, message),
        BodyFault::Md5 | BodyFault::Checksum(_) => S3Error::with_message(S3ErrorCode::BadDigest, message),
    }
}

/// The answer to a body that was not taken in.
pub(crate) fn receive(error: &ReceiveError) -> S3Error {
    match error {
        ReceiveError::Fault(reason) => fault(reason),
        ReceiveError::Write(error) => write(error),
    }
}

/// The sentence for a code that came without one.
pub(crate) fn default_message(code: &str) -> &'static str {
    match code {
        "AccessDenied" => "Access Denied",
        "BadDigest" => "The Content-MD5 or checksum value that you specified did not match what the server received.",
        "BucketAlreadyExists" => "The requested bucket name is not available. Select a different name and try again.",
        "BucketAlreadyOwnedByYou" => {
            "Your previous request to create the named bucket succeeded and you already own it."
        }
        "BucketNotEmpty" => "The bucket you tried to delete is not empty.",
        "EntityTooLarge" => "Your proposed upload exceeds the maximum allowed size.",
        "EntityTooSmall" => "Your proposed upload is smaller than the minimum allowed size.",
        "IncompleteBody" => "You did not provide the number of bytes specified by the Content-Length HTTP header.",
        "InternalError" => "We encountered an internal error. Please try again.",
        "InvalidAccessKeyId" => "The AWS Access Key Id you provided does not exist in our records.",
        "InvalidArgument" => "Invalid Argument",
        "InvalidBucketName" => "The specified bucket is not valid.",
        "InvalidPart" => "One or more of the specified parts could not be found.",
        "InvalidPartOrder" => "The list of parts was not in ascending order. Parts must be ordered by part number.",
        "InvalidRange" => "The requested range is not satisfiable",
        "InvalidURI" => "Couldn't parse the specified URI.",
        "KeyTooLongError" => "Your key is too long",
        "MalformedXML" => "The XML you provided was not well-formed or did not validate against our published schema.",
        "MethodNotAllowed" => "The specified method is not allowed against this resource.",
        "MissingContentLength" => "You must provide the Content-Length HTTP header.",
        "MissingRequestBodyError" => "Request body is empty.",
        "MetadataTooLarge" => "Your metadata headers exceed the maximum allowed metadata size",
        "NoSuchBucket" => "The specified bucket does not exist",
        "NoSuchBucketPolicy" => "The bucket policy does not exist",
        "NoSuchCORSConfiguration" => "The CORS configuration does not exist",
        "NoSuchKey" => "The specified key does not exist.",
        "NoSuchLifecycleConfiguration" => "The lifecycle configuration does not exist",
        "NoSuchTagSet" => "The TagSet does not exist",
        "NoSuchUpload" => {
            "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed."
        }
        "NoSuchVersion" => "The specified version does not exist.",
        "NoSuchWebsiteConfiguration" => "The specified bucket does not have a website configuration",
        "NotImplemented" => "A header or operation you provided implies functionality that is not implemented",
        "ObjectLockConfigurationNotFoundError" => "Object Lock configuration does not exist for this bucket",
        "OwnershipControlsNotFoundError" => "The bucket ownership controls were not found",
        "PreconditionFailed" => "At least one of the pre-conditions you specified did not hold",
        "ReplicationConfigurationNotFoundError" => "The replication configuration was not found",
        "RequestTimeTooSkewed" => "The difference between the request time and the current time is too large.",
        "ServiceUnavailable" => "Service is unable to handle request. Please try again.",
        "SignatureDoesNotMatch" => {
            "The request signature we calculated does not match the signature you provided. Check your key and signing method."
        }
        "SlowDown" => "Please reduce your request rate.",
        "TooManyBuckets" => "You have attempted to create more buckets than allowed",
        _ => "The request was refused.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::object::ChecksumAlgorithm;

    #[test]
    fn refusals_have_their_codes() {
        let cases = [
            (Refusal::NoSuchBucket, "NoSuchBucket", 404),
            (Refusal::BucketAlreadyOwnedByYou, "BucketAlreadyOwnedByYou", 409),
            (Refusal::BucketNotEmpty, "BucketNotEmpty", 409),
            (Refusal::NoSuchKey, "NoSuchKey", 404),
            (Refusal::PreconditionFailed, "PreconditionFailed", 412),
            (Refusal::SourcePreconditionFailed, "PreconditionFailed", 412),
            (Refusal::NoSuchUpload, "NoSuchUpload", 404),
            (Refusal::InvalidPart(3), "InvalidPart", 400),
            (Refusal::InvalidPartOrder, "InvalidPartOrder", 400),
            (Refusal::EntityTooSmall(1), "EntityTooSmall", 400),
            (Refusal::RequestIdReused, "InvalidRequest", 400),
            (Refusal::PlacementTooOld, "ServiceUnavailable", 503),
            (Refusal::LastAccessKey, "LastAccessKey", 409),
            (Refusal::NoSuchAccessKey, "NoSuchAccessKey", 404),
        ];
        for (given, code, status) in cases {
            let error = refusal(&given);
            assert_eq!(error.code().as_str(), code, "{given:?}");
            assert_eq!(error.status_code().map(|s| s.as_u16()), Some(status), "{given:?}");
        }
    }

    #[test]
    fn faults_have_their_codes() {
        let cases = [
            (BodyFault::Incomplete { declared: 2, came: 1 }, "IncompleteBody", 400),
            (BodyFault::Stalled, "RequestTimeout", 400),
            (BodyFault::ChunkSignature, "SignatureDoesNotMatch", 403),
            (BodyFault::PayloadHash, "XAmzContentSHA256Mismatch", 400),
            (BodyFault::Md5, "BadDigest", 400),
            (BodyFault::Checksum(ChecksumAlgorithm::Crc32), "BadDigest", 400),
            (BodyFault::Framing("x"), "InvalidRequest", 400),
        ];
        for (given, code, status) in cases {
            let error = fault(&given);
            assert_eq!(error.code().as_str(), code);
            assert_eq!(error.status_code().map(|s| s.as_u16()), Some(status), "{given:?}");
        }
    }

    #[test]
    fn unknown_outcomes_say_so() {
        for (error, code, unknown) in [
            (WriteError::SlowDown("x"), "SlowDown", false),
            (WriteError::TimedOut, "ServiceUnavailable", true),
            (WriteError::Failed("x".to_owned()), "InternalError", true),
            (WriteError::DiskFull { free: 1, reserve: 2 }, "ServiceUnavailable", false),
        ] {
            let answer = write(&error);
            assert_eq!(answer.code().as_str(), code);
            assert_eq!(answer.headers().is_some_and(|h| h.contains_key("x-entangle-outcome")), unknown);
        }
    }
}

//! PutObject, and what it shares with UploadPart: taking a body in.

use s3s::dto::{PutObjectInput, PutObjectOutput};
use s3s::{S3Request, S3Response, S3Result, s3_error};
use types::command::PutObject;
use types::limits::PUT_LEN_MAX;
use types::object::{Checksum, ChecksumAlgorithm, ChecksumKind};
use types::{Op, Outcome};

use super::checksums::{self, set_checksum};
use super::{Call, Frontend, conditions, etag, headers, len_i64, unexpected, version_text};
use crate::body::{Expected, Payload, Sink, Stored, receive};
use crate::error;

impl Frontend {
    pub(super) async fn put_object(
        &self,
        mut request: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        let call = Call::of(&mut request)?;
        let input = request.input;
        if input.key.is_empty() {
            return Err(s3_error!(InvalidArgument, "The key is empty."));
        }
        let metadata = headers::metadata(&call.headers, input.metadata)?;
        headers::wait(&call.headers)?;
        self.expect_bucket(&input.bucket).await?;
        let secret = request.credentials.as_ref().map(|credentials| credentials.secret_key.expose());
        let (stored, _) = self.take_body(&call, secret, Some(ChecksumAlgorithm::Crc64Nvme)).await?;
        let op = Op::PutObject(PutObject {
            bucket: input.bucket,
            key: input.key,
            checksum: checksum_of(&stored),
            body: stored.body,
            len: stored.len,
            digest: stored.digest,
            md5: stored.digests.md5,
            metadata,
            condition: conditions::destination(input.if_match.as_ref(), input.if_none_match.as_ref()),
        });
        let (outcome, headers) = self.write(&call, op).await?;
        let Outcome::Written(written) = outcome else { return Err(unexpected(&outcome)) };
        let mut output = PutObjectOutput {
            version_id: version_text(written.version, written.null_version),
            size: Some(len_i64(written.len)),
            e_tag: Some(etag(written.etag)),
            ..PutObjectOutput::default()
        };
        if let Some(checksum) = &written.checksum {
            set_checksum!(output, checksum.algorithm, checksums::text(checksum, written.parts));
            output.checksum_type = Some(checksums::kind(checksum.kind));
        }
        Ok(S3Response::with_headers(output, headers))
    }

    /// Takes the request's body in: checks its declared length, reads, hashes, checks and stores it. Tells
    /// also whether the client sent a checksum of its own.
    pub(super) async fn take_body(
        &self,
        call: &Call,
        secret: Option<&str>,
        default: Option<ChecksumAlgorithm>,
    ) -> S3Result<(Stored, bool)> {
        let preflight = &call.context.preflight;
        let len = preflight.payload_len().ok_or_else(|| s3_error!(MissingContentLength))?;
        if len > PUT_LEN_MAX {
            return Err(s3_error!(EntityTooLarge));
        }
        let expected = Expected::of(&call.headers, preflight, default)?;
        let sink = Sink::new(&self.node, len, expected.wanted()).map_err(|error| error::write(&error))?;
        let payload = Payload::new(&call.context, self.body_idle, len, secret);
        let stored = receive(payload, sink, &expected).await.map_err(|error| error::receive(&error))?;
        Ok((stored, expected.is_claimed()))
    }
}

/// The checksum that is kept of a body.
pub(super) fn checksum_of(stored: &Stored) -> Option<Checksum> {
    stored.digests.checksum.as_ref().map(|(algorithm, value)| Checksum {
        algorithm: *algorithm,
        kind: ChecksumKind::FullObject,
        value: value.clone().into(),
    })
}

//! CopyObject: the body is shared in the catalog; the gateway reads it only when another checksum is asked
//! for.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use node::CachedObject;
use s3s::dto::{CopyObjectInput, CopyObjectOutput, CopyObjectResult, CopySource, MetadataDirective};
use s3s::{S3Request, S3Response, S3Result, s3_error};
use types::command::{Condition, CopyObject, Source};
use types::limits::PUT_LEN_MAX;
use types::object::{Checksum, ChecksumAlgorithm, ChecksumKind};
use types::{Op, OrderKey, Outcome};

use super::checksums::{self, set_checksum};
use super::{Call, Frontend, conditions, etag, headers, timestamp, unexpected, version_selector, version_text};
use crate::body::{Digests, Hashes, Wanted};
use crate::error;

impl Frontend {
    pub(super) async fn copy_object(
        &self,
        mut request: S3Request<CopyObjectInput>,
    ) -> S3Result<S3Response<CopyObjectOutput>> {
        let call = Call::of(&mut request)?;
        let input = request.input;
        let source = source(
            &input.copy_source,
            Condition {
                if_match: input.copy_source_if_match.as_ref().map(conditions::etag_match),
                if_none_match: input.copy_source_if_none_match.as_ref().map(conditions::etag_match),
                if_modified_since: input.copy_source_if_modified_since.as_ref().map(conditions::unix_secs),
                if_unmodified_since: input.copy_source_if_unmodified_since.as_ref().map(conditions::unix_secs),
                ..Condition::default()
            },
        )?;
        let metadata = match input.metadata_directive.as_ref().map(MetadataDirective::as_str) {
            None | Some(MetadataDirective::COPY) => None,
            Some(MetadataDirective::REPLACE) => Some(headers::metadata(&call.headers, input.metadata)?),
            Some(_) => return Err(s3_error!(InvalidArgument, "Unknown metadata directive.")),
        };
        let asked =
            input.checksum_algorithm.as_ref().map(|name| checksums::named_algorithm(name.as_str())).transpose()?;
        let (checksum, expect) = self.checksum_of_copy(&source, asked).await?;
        let op = Op::CopyObject(CopyObject {
            source,
            bucket: input.bucket,
            key: input.key,
            metadata,
            condition: conditions::raw_destination(&call.headers)?,
            checksum,
            expect,
        });
        let (outcome, headers) = self.write(&call, op).await?;
        let Outcome::Written(written) = outcome else { return Err(unexpected(&outcome)) };
        let mut result = CopyObjectResult {
            e_tag: Some(etag(written.etag)),
            last_modified: Some(timestamp(written.modified_ms)),
            ..CopyObjectResult::default()
        };
        if let Some(checksum) = &written.checksum {
            set_checksum!(result, checksum.algorithm, checksums::text(checksum, written.parts));
            result.checksum_type = Some(checksums::kind(checksum.kind));
        }
        let output = CopyObjectOutput {
            copy_object_result: Some(result),
            copy_source_version_id: written.source_version.map(OrderKey::to_hex),
            version_id: version_text(written.version, written.null_version),
            ..CopyObjectOutput::default()
        };
        Ok(S3Response::with_headers(output, headers))
    }

    /// A checksum that the source does not have yet, and the content that it holds for. What is wrong with
    /// the source otherwise the command itself finds, so that the ledger has it.
    async fn checksum_of_copy(
        &self,
        source: &Source,
        asked: Option<ChecksumAlgorithm>,
    ) -> S3Result<(Option<Checksum>, Option<[u8; 32]>)> {
        self.catch_up(&source.bucket, &source.key).await?;
        let found =
            self.node.object(&source.bucket, &source.key, source.version).map_err(|error| error::read(&error))?;
        let Some(object) = found.filter(|object| !object.row.marker) else { return Ok((None, None)) };
        if object.row.len > PUT_LEN_MAX {
            return Err(s3_error!(
                InvalidRequest,
                "The specified copy source is larger than the maximum allowable size for a copy source: {PUT_LEN_MAX}"
            ));
        }
        let has = |algorithm| {
            object.row.checksum.as_ref().is_some_and(|c| c.algorithm == algorithm && c.kind == ChecksumKind::FullObject)
        };
        let Some(algorithm) = asked.filter(|&algorithm| !has(algorithm)) else { return Ok((None, None)) };
        let value = self.hash_stored(&object, algorithm).await?;
        let checksum = Checksum { algorithm, kind: ChecksumKind::FullObject, value };
        Ok((Some(checksum), Some(object.row.digest)))
    }

    async fn hash_stored(&self, object: &Arc<CachedObject>, algorithm: ChecksumAlgorithm) -> S3Result<Bytes> {
        let wanted = Wanted { payload_sha256: false, checksum: Some(algorithm) };
        let mut hashes = Box::new(Hashes::without_md5(wanted));
        let mut pieces = self.node.body(object, 0..object.row.len);
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|error| error::stored_body(&error))?;
            let hashed = tokio::task::spawn_blocking(move || {
                hashes.update(&piece);
                hashes
            });
            hashes = hashed.await.map_err(|_| s3_error!(ServiceUnavailable))?;
        }
        let mut digests = Digests::default();
        hashes.finish(wanted, &mut digests);
        digests.checksum.map(|(_, value)| value.into()).ok_or_else(|| s3_error!(InternalError))
    }
}

/// The source of a copy, as the command names it.
pub(super) fn source(source: &CopySource, condition: Condition) -> S3Result<Source> {
    match source {
        CopySource::Bucket { bucket, key, version_id } => Ok(Source {
            bucket: bucket.to_string(),
            key: key.to_string(),
            version: version_selector(version_id.as_deref())?,
            condition,
        }),
        CopySource::AccessPoint { .. } | CopySource::Outpost { .. } => {
            Err(s3_error!(NotImplemented, "Access points are not implemented"))
        }
    }
}

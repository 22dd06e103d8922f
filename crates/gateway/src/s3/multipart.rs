//! Multipart uploads: start, parts, completion, abort, listings.

use catalog::query;
use catalog::rows::UploadRow;
use futures::StreamExt as _;
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, ChecksumType, CompleteMultipartUploadInput,
    CompleteMultipartUploadOutput, CompletedPart as CompletedPartDto, CopyPartResult, CreateMultipartUploadInput,
    CreateMultipartUploadOutput, ListPartsInput, ListPartsOutput, Part, StorageClass, UploadPartCopyInput,
    UploadPartCopyOutput, UploadPartInput, UploadPartOutput,
};
use s3s::{S3Request, S3Response, S3Result, s3_error};
use types::command::{AbortUpload, CompleteUpload, CompletedPart, Condition, CreateUpload, UploadPart};
use types::limits::{PART_LEN_MIN, PARTS_MAX, PUT_LEN_MAX};
use types::object::{Checksum, ChecksumAlgorithm, ChecksumKind};
use types::{Op, OrderKey, Outcome};

use super::checksums::{self, read_checksum, set_checksum};
use super::conditions::{self, ReadCondition, Verdict};
use super::list::{blocking, page_len};
use super::put::checksum_of;
use super::{Call, Frontend, etag, headers, len_i64, timestamp, unexpected, upload_id, version_text};
use crate::body::{Sink, Stored, Wanted, algorithm_name};
use crate::error;

impl Frontend {
    pub(super) async fn create_multipart_upload(
        &self,
        mut request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let call = Call::of(&mut request)?;
        let input = request.input;
        let algorithm =
            input.checksum_algorithm.as_ref().map(|name| checksums::named_algorithm(name.as_str())).transpose()?;
        let checksum = upload_checksum(algorithm, input.checksum_type.as_ref())?;
        let op = Op::CreateUpload(CreateUpload {
            bucket: input.bucket.clone(),
            key: input.key.clone(),
            metadata: headers::metadata(&call.headers, input.metadata)?,
            checksum,
        });
        let (outcome, headers) = self.write(&call, op).await?;
        let Outcome::UploadCreated(upload) = outcome else { return Err(unexpected(&outcome)) };
        let output = CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(upload.to_hex()),
            checksum_algorithm: checksum.map(|(algorithm, _)| checksums::algorithm(algorithm)),
            checksum_type: checksum.map(|(_, kind)| checksums::kind(kind)),
            ..CreateMultipartUploadOutput::default()
        };
        Ok(S3Response::with_headers(output, headers))
    }

    pub(super) async fn upload_part(
        &self,
        mut request: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        let call = Call::of(&mut request)?;
        let input = request.input;
        headers::wait(&call.headers)?;
        let number = part_number(input.part_number)?;
        let upload = upload_id(&input.upload_id)?;
        let row = self.expect_upload(&input.bucket, &input.key, upload).await?;
        let default = row.checksum.map(|(algorithm, _)| algorithm);
        let secret = request.credentials.as_ref().map(|credentials| credentials.secret_key.expose());
        let (stored, claimed) = self.take_body(&call, secret, default).await?;
        let checksum = checksum_of(&stored);
        if let (Some(expected), Some(actual)) = (default, &checksum)
            && expected != actual.algorithm
            && claimed
        {
            return Err(s3_error!(
                InvalidRequest,
                "Checksum Type mismatch occurred, expected checksum Type: {}, actual checksum Type: {}",
                algorithm_name(expected).to_ascii_lowercase(),
                algorithm_name(actual.algorithm).to_ascii_lowercase()
            ));
        }
        let shown = checksum.clone();
        let part = part_of(stored, (input.bucket, input.key), upload, number, checksum);
        let (outcome, headers) = self.write(&call, Op::UploadPart(part)).await?;
        let Outcome::PartStored(tag) = outcome else { return Err(unexpected(&outcome)) };
        let mut output = UploadPartOutput { e_tag: Some(etag(tag)), ..UploadPartOutput::default() };
        if let Some(checksum) = &shown {
            set_checksum!(output, checksum.algorithm, checksums::text(checksum, 0));
        }
        Ok(S3Response::with_headers(output, headers))
    }

    pub(super) async fn upload_part_copy(
        &self,
        mut request: S3Request<UploadPartCopyInput>,
    ) -> S3Result<S3Response<UploadPartCopyOutput>> {
        let call = Call::of(&mut request)?;
        let input = request.input;
        let number = part_number(input.part_number)?;
        let upload = upload_id(&input.upload_id)?;
        let row = self.expect_upload(&input.bucket, &input.key, upload).await?;
        let source = super::copy::source(&input.copy_source, Condition::default())?;
        let version = source.version.map(super::versions::selector_text);
        let object = self.find(&source.bucket, &source.key, version.as_deref()).await?;
        let condition = ReadCondition {
            if_match: input.copy_source_if_match.as_ref(),
            if_none_match: input.copy_source_if_none_match.as_ref(),
            if_modified_since: input.copy_source_if_modified_since.as_ref(),
            if_unmodified_since: input.copy_source_if_unmodified_since.as_ref(),
        };
        if condition.judge(&object.row.etag(), object.row.modified_ms() / 1000) != Verdict::Go {
            return Err(s3_error!(PreconditionFailed));
        }
        let range = copy_range(input.copy_source_range.as_deref(), object.row.len)?;
        let wanted = Wanted { payload_sha256: false, checksum: row.checksum.map(|(algorithm, _)| algorithm) };
        let mut sink = Sink::new(&self.node, range.end - range.start, wanted).map_err(|error| error::write(&error))?;
        let mut pieces = self.node.body(&object, range);
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|error| error::stored_body(&error))?;
            sink.push(piece).await.map_err(|error| error::write(&error))?;
        }
        let stored = sink.finish().await.map_err(|error| error::write(&error))?;
        let checksum = checksum_of(&stored);
        let shown = checksum.clone();
        let part = part_of(stored, (input.bucket, input.key), upload, number, checksum);
        let (outcome, headers) = self.write(&call, Op::UploadPart(part)).await?;
        let Outcome::PartStored(tag) = outcome else { return Err(unexpected(&outcome)) };
        let modified = headers
            .get(super::ORDER_HEADER)
            .and_then(|order| OrderKey::from_hex(order.to_str().ok()?))
            .map(|order| timestamp(order.timestamp.unix_ms()));
        let mut result =
            CopyPartResult { e_tag: Some(etag(tag)), last_modified: modified, ..CopyPartResult::default() };
        if let Some(checksum) = &shown {
            set_checksum!(result, checksum.algorithm, checksums::text(checksum, 0));
        }
        let output = UploadPartCopyOutput {
            copy_part_result: Some(result),
            copy_source_version_id: object.row.version_id().map(OrderKey::to_hex),
            ..UploadPartCopyOutput::default()
        };
        Ok(S3Response::with_headers(output, headers))
    }

    pub(super) async fn complete_multipart_upload(
        &self,
        mut request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let call = Call::of(&mut request)?;
        let input = request.input;
        let upload = upload_id(&input.upload_id)?;
        let checksum = whole_checksum(&input)?;
        let parts = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
        if parts.is_empty() || parts.len() > usize::from(PARTS_MAX) {
            return Err(s3_error!(MalformedXML));
        }
        let op = Op::CompleteUpload(CompleteUpload {
            bucket: input.bucket.clone(),
            key: input.key.clone(),
            upload,
            parts: parts.iter().map(completed_part).collect::<S3Result<_>>()?,
            condition: conditions::destination(input.if_match.as_ref(), input.if_none_match.as_ref()),
            checksum,
            len: input
                .mpu_object_size
                .map(u64::try_from)
                .transpose()
                .map_err(|_| s3_error!(InvalidRequest, "Value for x-amz-mp-object-size header is invalid."))?,
        });
        let host = call.headers.get(http::header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
        let location = format!("{}://{host}/{}/{}", self.scheme, input.bucket, input.key);
        let (outcome, headers) = self.write(&call, op).await?;
        let Outcome::Written(written) = outcome else { return Err(unexpected(&outcome)) };
        let mut output = CompleteMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            location: Some(location),
            e_tag: Some(etag(written.etag)),
            version_id: version_text(written.version, written.null_version),
            ..CompleteMultipartUploadOutput::default()
        };
        if let Some(checksum) = &written.checksum {
            set_checksum!(output, checksum.algorithm, checksums::text(checksum, written.parts));
            output.checksum_type = Some(checksums::kind(checksum.kind));
        }
        Ok(S3Response::with_headers(output, headers))
    }

    pub(super) async fn abort_multipart_upload(
        &self,
        mut request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let call = Call::of(&mut request)?;
        let input = request.input;
        let upload = upload_id(&input.upload_id)?;
        if let Some(initiated) = &input.if_match_initiated_time
            && conditions::unix_secs(initiated) != upload.timestamp.unix_secs()
        {
            return Err(s3_error!(PreconditionFailed));
        }
        let op = Op::AbortUpload(AbortUpload { bucket: input.bucket, key: input.key, upload });
        let (_, headers) = self.write(&call, op).await?;
        Ok(S3Response::with_headers(AbortMultipartUploadOutput::default(), headers))
    }

    pub(super) async fn list_parts(&self, request: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        let input = request.input;
        let max = page_len(input.max_parts, "max-parts")?;
        let marker = input.part_number_marker.unwrap_or(0);
        let after = u16::try_from(marker).map_err(|_| s3_error!(InvalidArgument, "part-number-marker is invalid"))?;
        self.expect_bucket(&input.bucket).await?;
        let upload = upload_id(&input.upload_id)?;
        let (bucket, key) = (input.bucket.clone(), input.key.clone());
        let page = blocking(&self.node, Some(&input.bucket), move |view| {
            query::list_parts(view, &bucket, &key, upload, after, max)
        })
        .await?
        .ok_or_else(|| s3_error!(NoSuchUpload))?;
        let part = |(number, row): (u16, catalog::rows::PartRow)| {
            let mut part = Part {
                e_tag: Some(etag(row.etag())),
                last_modified: Some(timestamp(row.modified_ms())),
                part_number: Some(i32::from(number)),
                size: Some(len_i64(row.len)),
                ..Part::default()
            };
            if let Some(checksum) = &row.checksum {
                set_checksum!(part, checksum.algorithm, checksums::text(checksum, 0));
            }
            part
        };
        let owner = self.owner();
        Ok(S3Response::new(ListPartsOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(input.upload_id),
            max_parts: i32::try_from(max).ok(),
            part_number_marker: Some(marker),
            next_part_number_marker: page.next.map(i32::from),
            is_truncated: Some(page.next.is_some()),
            parts: Some(page.parts.into_iter().map(part).collect()),
            initiator: Some(s3s::dto::Initiator { display_name: Some(page.upload.principal), id: owner.id.clone() }),
            owner: Some(owner),
            storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
            checksum_algorithm: page.upload.checksum.map(|(algorithm, _)| checksums::algorithm(algorithm)),
            checksum_type: page.upload.checksum.map(|(_, kind)| checksums::kind(kind)),
            ..ListPartsOutput::default()
        }))
    }

    /// The upload must be in progress. Asked before a part's body is taken.
    async fn expect_upload(&self, bucket: &str, key: &str, upload: OrderKey) -> S3Result<UploadRow> {
        self.catch_up(bucket, key).await?;
        let row = self.node.upload(bucket, key, upload).map_err(|error| error::read(&error))?;
        match row {
            Some(row) => Ok(row),
            None => {
                self.expect_bucket(bucket).await?;
                Err(s3_error!(NoSuchUpload))
            }
        }
    }
}

fn part_number(number: i32) -> S3Result<u16> {
    u16::try_from(number)
        .ok()
        .filter(|number| (1..=PARTS_MAX).contains(number))
        .ok_or_else(|| s3_error!(InvalidArgument, "Part number must be an integer between 1 and 10000, inclusive"))
}

fn part_of(
    stored: Stored,
    (bucket, key): (String, String),
    upload: OrderKey,
    number: u16,
    checksum: Option<Checksum>,
) -> UploadPart {
    UploadPart {
        bucket,
        key,
        upload,
        number,
        body: stored.body,
        len: stored.len,
        digest: stored.digest,
        md5: stored.digests.md5,
        checksum,
    }
}

/// Algorithm and kind of the checksum that an upload's object is to have.
fn upload_checksum(
    algorithm: Option<ChecksumAlgorithm>,
    kind: Option<&ChecksumType>,
) -> S3Result<Option<(ChecksumAlgorithm, ChecksumKind)>> {
    let kind = kind.map(checksum_kind).transpose()?;
    let Some(algorithm) = algorithm else {
        return match kind {
            None => Ok(None),
            Some(_) => Err(s3_error!(
                InvalidRequest,
                "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header."
            )),
        };
    };
    let default = match algorithm {
        ChecksumAlgorithm::Crc64Nvme => ChecksumKind::FullObject,
        _ => ChecksumKind::Composite,
    };
    let kind = kind.unwrap_or(default);
    let possible = match (algorithm, kind) {
        (ChecksumAlgorithm::Crc64Nvme, ChecksumKind::Composite)
        | (ChecksumAlgorithm::Sha1 | ChecksumAlgorithm::Sha256, ChecksumKind::FullObject) => false,
        (_, ChecksumKind::FullObject | ChecksumKind::Composite) => true,
    };
    if !possible {
        return Err(s3_error!(
            InvalidRequest,
            "The {} checksum type cannot be used with the {} checksum algorithm.",
            checksums::kind(kind).as_str(),
            algorithm_name(algorithm).to_ascii_lowercase()
        ));
    }
    Ok(Some((algorithm, kind)))
}

fn checksum_kind(kind: &ChecksumType) -> S3Result<ChecksumKind> {
    match kind.as_str() {
        ChecksumType::FULL_OBJECT => Ok(ChecksumKind::FullObject),
        ChecksumType::COMPOSITE => Ok(ChecksumKind::Composite),
        _ => Err(s3_error!(InvalidRequest, "Value for x-amz-checksum-type header is invalid.")),
    }
}

/// The checksum of the whole that a completion expects.
fn whole_checksum(input: &CompleteMultipartUploadInput) -> S3Result<Option<Checksum>> {
    let Some((algorithm, value)) = read_checksum!(input)? else { return Ok(None) };
    let fields = [
        &input.checksum_crc32,
        &input.checksum_crc32c,
        &input.checksum_crc64nvme,
        &input.checksum_sha1,
        &input.checksum_sha256,
    ];
    let numbered = fields.into_iter().flatten().any(|text| text.contains('-'));
    let kind = match &input.checksum_type {
        Some(kind) => checksum_kind(kind)?,
        None if numbered => ChecksumKind::Composite,
        None => ChecksumKind::FullObject,
    };
    Ok(Some(Checksum { algorithm, kind, value }))
}

fn completed_part(part: &CompletedPartDto) -> S3Result<CompletedPart> {
    let number = part.part_number.ok_or_else(|| s3_error!(MalformedXML))?;
    let tag = part.e_tag.as_ref().ok_or_else(|| s3_error!(MalformedXML))?;
    let checksum = read_checksum!(part)?;
    Ok(CompletedPart {
        number: part_number(number)?,
        etag: tag.value().to_owned(),
        checksum: checksum.map(|(algorithm, value)| Checksum { algorithm, kind: ChecksumKind::FullObject, value }),
    })
}

/// `x-amz-copy-source-range`: `bytes=first-last`, both given, within the source.
fn copy_range(text: Option<&str>, len: u64) -> S3Result<std::ops::Range<u64>> {
    let range = match text {
        None => 0..len,
        Some(text) => {
            let ends = text.strip_prefix("bytes=").and_then(|range| range.split_once('-'));
            let ends = ends.and_then(|(first, last)| Some((first.parse::<u64>().ok()?, last.parse::<u64>().ok()?)));
            let Some((first, last)) = ends.filter(|(first, last)| first <= last) else {
                return Err(s3_error!(
                    InvalidArgument,
                    "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based offsets of the first and last bytes to copy"
                ));
            };
            if last >= len {
                return Err(s3_error!(
                    InvalidArgument,
                    "Range specified is not valid for source object of size: {len}"
                ));
            }
            if len <= PART_LEN_MIN {
                return Err(s3_error!(
                    InvalidRequest,
                    "The specified copy range is invalid for the source object size."
                ));
            }
            first..last + 1
        }
    };
    if range.end - range.start > PUT_LEN_MAX {
        return Err(s3_error!(
            InvalidRequest,
            "The specified copy source is larger than the maximum allowable size for a copy source: {PUT_LEN_MAX}"
        ));
    }
    Ok(range)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn copy_ranges() {
        let len = PART_LEN_MIN * 2;
        assert_eq!(copy_range(None, 3).unwrap(), 0..3);
        assert_eq!(copy_range(Some("bytes=1-2"), len).unwrap(), 1..3);
        assert_eq!(copy_range(Some(&format!("bytes=0-{}", len - 1)), len).unwrap(), 0..len);
        for bad in ["1-2", "bytes=2-1", "bytes=1-", "bytes=-5", "bytes=a-b", &format!("bytes=0-{len}")] {
            assert!(copy_range(Some(bad), len).is_err(), "{bad}");
        }
        assert!(copy_range(Some("bytes=0-1"), PART_LEN_MIN).is_err());
        assert!(copy_range(None, PUT_LEN_MAX + 1).is_err());
    }

    #[test]
    fn upload_checksums() {
        use ChecksumAlgorithm::{Crc32, Crc64Nvme, Sha256};
        let full = ChecksumType::from_static(ChecksumType::FULL_OBJECT);
        let composite = ChecksumType::from_static(ChecksumType::COMPOSITE);
        assert_eq!(upload_checksum(None, None).unwrap(), None);
        assert_eq!(upload_checksum(Some(Crc32), None).unwrap(), Some((Crc32, ChecksumKind::Composite)));
        assert_eq!(upload_checksum(Some(Crc32), Some(&full)).unwrap(), Some((Crc32, ChecksumKind::FullObject)));
        assert_eq!(upload_checksum(Some(Crc64Nvme), None).unwrap(), Some((Crc64Nvme, ChecksumKind::FullObject)));
        assert!(upload_checksum(Some(Crc64Nvme), Some(&composite)).is_err());
        assert!(upload_checksum(Some(Sha256), Some(&full)).is_err());
        assert!(upload_checksum(None, Some(&full)).is_err());
    }

    #[test]
    fn part_numbers() {
        assert_eq!(part_number(1).unwrap(), 1);
        assert_eq!(part_number(10_000).unwrap(), 10_000);
        for bad in [0, -1, 10_001, i32::MAX] {
            assert!(part_number(bad).is_err());
        }
    }
}

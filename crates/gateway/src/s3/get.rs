//! GetObject, HeadObject, GetObjectAttributes.

use std::ops::Range as Bytes;
use std::sync::Arc;

use catalog::rows::{IndexedPart, ObjectRow};
use http::{HeaderMap, HeaderValue};
use node::CachedObject;
use s3s::dto::{
    Checksum as ChecksumDto, GetObjectAttributesInput, GetObjectAttributesOutput, GetObjectAttributesParts,
    GetObjectInput, GetObjectOutput, HeadObjectInput, HeadObjectOutput, ObjectPart, Range, StreamingBlob, Timestamp,
    TimestampFormat,
};
use s3s::{Body, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};
use types::command::{VersionSelector, Versioning};
use types::limits::{LIST_PAGE_MAX, PARTS_MAX};

use super::checksums::{self, set_checksum};
use super::conditions::{ReadCondition, Verdict};
use super::{Frontend, etag, headers, len_i64, timestamp, version_selector};
use crate::error;

/// What of an object is asked for.
struct Selection {
    bytes: Bytes<u64>,
    /// It is a part of the whole: 206, and no checksum of the whole.
    partial: bool,
    /// Number of parts, where one was asked for.
    parts: Option<i32>,
}

impl Frontend {
    pub(super) async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        headers::refuse_unbuilt(&request.headers)?;
        let input = request.input;
        let object = self.find(&input.bucket, &input.key, input.version_id.as_deref()).await?;
        let row = &object.row;
        judge(
            &ReadCondition {
                if_match: input.if_match.as_ref(),
                if_none_match: input.if_none_match.as_ref(),
                if_modified_since: input.if_modified_since.as_ref(),
                if_unmodified_since: input.if_unmodified_since.as_ref(),
            },
            row,
        )?;
        let selection = select(&object, input.range.as_ref(), input.part_number)?;
        let mut output = GetObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            content_length: Some(len_i64(selection.bytes.end - selection.bytes.start)),
            content_range: content_range(&selection, row.len),
            parts_count: selection.parts,
            e_tag: Some(etag(row.etag())),
            last_modified: Some(timestamp(row.modified_ms())),
            version_id: self.shown_version(&object, input.version_id.is_some())?,
            content_type: Some(content_type(row)),
            content_encoding: row.metadata.content_encoding.clone(),
            content_disposition: row.metadata.content_disposition.clone(),
            content_language: row.metadata.content_language.clone(),
            cache_control: row.metadata.cache_control.clone(),
            expires: expires(row),
            website_redirect_location: row.metadata.website_redirect.clone(),
            metadata: user_metadata(row),
            ..GetObjectOutput::default()
        };
        if input.checksum_mode.is_some_and(|mode| mode.as_str() == "ENABLED")
            && !selection.partial
            && let Some(checksum) = &row.checksum
        {
            set_checksum!(output, checksum.algorithm, checksums::text(checksum, row.parts));
            output.checksum_type = Some(checksums::kind(checksum.kind));
        }
        output.body = Some(self.blob(&object, selection.bytes));
        Ok(S3Response::new(output))
    }

    pub(super) async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        headers::refuse_unbuilt(&request.headers)?;
        let input = request.input;
        let object = self.find(&input.bucket, &input.key, input.version_id.as_deref()).await?;
        let row = &object.row;
        judge(
            &ReadCondition {
                if_match: input.if_match.as_ref(),
                if_none_match: input.if_none_match.as_ref(),
                if_modified_since: input.if_modified_since.as_ref(),
                if_unmodified_since: input.if_unmodified_since.as_ref(),
            },
            row,
        )?;
        let selection = select(&object, input.range.as_ref(), input.part_number)?;
        let kept = &row.metadata;
        let mut output = HeadObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            content_length: Some(len_i64(selection.bytes.end - selection.bytes.start)),
            content_range: content_range(&selection, row.len),
            parts_count: selection.parts,
            e_tag: Some(etag(row.etag())),
            last_modified: Some(timestamp(row.modified_ms())),
            version_id: self.shown_version(&object, input.version_id.is_some())?,
            content_type: input.response_content_type.or_else(|| Some(content_type(row))),
            content_encoding: input.response_content_encoding.or_else(|| kept.content_encoding.clone()),
            content_disposition: input.response_content_disposition.or_else(|| kept.content_disposition.clone()),
            content_language: input.response_content_language.or_else(|| kept.content_language.clone()),
            cache_control: input.response_cache_control.or_else(|| kept.cache_control.clone()),
            expires: input.response_expires.or_else(|| expires(row)),
            website_redirect_location: kept.website_redirect.clone(),
            metadata: user_metadata(row),
            ..HeadObjectOutput::default()
        };
        if input.checksum_mode.is_some_and(|mode| mode.as_str() == "ENABLED")
            && !selection.partial
            && let Some(checksum) = &row.checksum
        {
            set_checksum!(output, checksum.algorithm, checksums::text(checksum, row.parts));
            output.checksum_type = Some(checksums::kind(checksum.kind));
        }
        Ok(S3Response::new(output))
    }

    pub(super) async fn get_object_attributes(
        &self,
        request: S3Request<GetObjectAttributesInput>,
    ) -> S3Result<S3Response<GetObjectAttributesOutput>> {
        headers::refuse_unbuilt(&request.headers)?;
        let input = request.input;
        let object = self.find(&input.bucket, &input.key, input.version_id.as_deref()).await?;
        let row = &object.row;
        // s3s takes each header line for one attribute; clients send one line with commas.
        let wanted: Vec<String> = input
            .object_attributes
            .iter()
            .flat_map(|line| line.as_str().split(','))
            .map(|name| name.trim().to_owned())
            .collect();
        let known = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"];
        if wanted.is_empty() || wanted.iter().any(|name| !known.contains(&name.as_str())) {
            return Err(s3_error!(InvalidArgument, "Invalid attribute name specified."));
        }
        let wants = |name: &str| wanted.iter().any(|wanted| wanted == name);
        let mut output = GetObjectAttributesOutput {
            last_modified: Some(timestamp(row.modified_ms())),
            version_id: self.shown_version(&object, input.version_id.is_some())?,
            e_tag: wants("ETag").then(|| etag(row.etag())),
            object_size: wants("ObjectSize").then(|| len_i64(row.len)),
            storage_class: wants("StorageClass").then(|| s3s::dto::StorageClass::from_static("STANDARD")),
            ..GetObjectAttributesOutput::default()
        };
        if wants("Checksum")
            && let Some(checksum) = &row.checksum
        {
            let mut dto = ChecksumDto { checksum_type: Some(checksums::kind(checksum.kind)), ..ChecksumDto::default() };
            // Here a composite checksum stands without its `-N`.
            set_checksum!(dto, checksum.algorithm, checksums::text(checksum, 0));
            output.checksum = Some(dto);
        }
        if wants("ObjectParts") && row.parts > 0 {
            output.object_parts = Some(attribute_parts(&object, input.max_parts, input.part_number_marker)?);
        }
        Ok(S3Response::new(output))
    }

    /// The object version that a read names, or why there is none.
    pub(super) async fn find(&self, bucket: &str, key: &str, version: Option<&str>) -> S3Result<Arc<CachedObject>> {
        let selector = version_selector(version)?;
        self.catch_up(bucket, key).await?;
        let found = self.node.object(bucket, key, selector).map_err(|error| error::read(&error))?;
        let Some(object) = found else {
            self.expect_bucket(bucket).await?;
            return Err(match selector {
                None => s3_error!(NoSuchKey),
                Some(_) => s3_error!(NoSuchVersion),
            });
        };
        if object.row.marker { Err(marker_error(&object.row, selector)) } else { Ok(object) }
    }

    /// The version id that answers show: none in a bucket that never was versioned, unless it was asked for.
    fn shown_version(&self, object: &CachedObject, asked: bool) -> S3Result<Option<String>> {
        if !object.row.null || asked {
            return Ok(Some(object.row.version_text()));
        }
        let bucket = self.node.bucket(&object.bucket).map_err(|error| error::read(&error))?;
        let versioned = bucket.is_some_and(|bucket| bucket.versioning != Versioning::Off);
        Ok(versioned.then(|| object.row.version_text()))
    }

    fn blob(&self, object: &Arc<CachedObject>, bytes: Bytes<u64>) -> StreamingBlob {
        if let Some(inline) = object.inline()
            && let (Ok(start), Ok(end)) = (usize::try_from(bytes.start), usize::try_from(bytes.end))
            && end <= inline.len()
        {
            return StreamingBlob::from(Body::from(inline.slice(start..end)));
        }
        StreamingBlob::from(Body::http_body_unsync(http_body_util::StreamBody::new(futures::StreamExt::map(
            self.node.body(object, bytes),
            |piece| piece.map(http_body::Frame::data),
        ))))
    }
}

fn attribute_parts(object: &CachedObject, max: Option<i32>, marker: Option<i32>) -> S3Result<GetObjectAttributesParts> {
    let max = usize::try_from(max.unwrap_or(1000)).map_err(|_| s3_error!(InvalidArgument))?.min(LIST_PAGE_MAX);
    let marker = marker.unwrap_or(0);
    let mut page: Vec<&IndexedPart> = object.parts.iter().filter(|part| i32::from(part.number) > marker).collect();
    let truncated = page.len() > max;
    page.truncate(max);
    let dto = |part: &&IndexedPart| {
        let mut dto = ObjectPart {
            part_number: Some(i32::from(part.number)),
            size: Some(len_i64(part.len)),
            ..ObjectPart::default()
        };
        if let Some(checksum) = &part.checksum {
            set_checksum!(dto, checksum.algorithm, checksums::text(checksum, 0));
        }
        dto
    };
    // AWS lists the parts only where they have checksums; their number it always says.
    let listed = object.parts.iter().any(|part| part.checksum.is_some());
    Ok(GetObjectAttributesParts {
        is_truncated: Some(truncated),
        max_parts: i32::try_from(max).ok(),
        next_part_number_marker: page.last().map(|part| i32::from(part.number)).or(Some(0)),
        part_number_marker: Some(marker),
        parts: listed.then(|| page.iter().map(dto).collect()),
        total_parts_count: Some(i32::from(object.row.parts)),
    })
}

fn select(object: &CachedObject, range: Option<&Range>, part: Option<i32>) -> S3Result<Selection> {
    let row = &object.row;
    match (range, part) {
        (Some(_), Some(_)) => {
            Err(s3_error!(InvalidRequest, "Cannot specify both Range header and partNumber query parameter."))
        }
        (None, None) => Ok(Selection { bytes: 0..row.len, partial: false, parts: None }),
        (Some(range), None) => {
            let bytes = range.check(row.len).map_err(|_| invalid_range(row.len))?;
            Ok(Selection { bytes, partial: true, parts: None })
        }
        (None, Some(number)) => select_part(object, number),
    }
}

fn select_part(object: &CachedObject, number: i32) -> S3Result<Selection> {
    if !(1..=i32::from(PARTS_MAX)).contains(&number) {
        return Err(s3_error!(InvalidArgument, "Part number must be an integer between 1 and 10000, inclusive"));
    }
    let row = &object.row;
    if row.parts == 0 {
        // An object that was put whole is its own first part.
        let whole = Selection { bytes: 0..row.len, partial: row.len > 0, parts: None };
        return if number == 1 { Ok(whole) } else { Err(invalid_part_number()) };
    }
    let mut offset = 0;
    for part in &object.parts {
        let end = offset + part.len;
        if i32::from(part.number) == number {
            return Ok(Selection { bytes: offset..end, partial: true, parts: Some(i32::from(row.parts)) });
        }
        offset = end;
    }
    Err(invalid_part_number())
}

fn judge(condition: &ReadCondition<'_>, row: &ObjectRow) -> S3Result<()> {
    let tag = row.etag();
    let error = match condition.judge(&tag, row.modified_ms() / 1000) {
        Verdict::Go => return Ok(()),
        Verdict::Failed => return Err(s3_error!(PreconditionFailed)),
        Verdict::NotModified => {
            let mut headers = HeaderMap::new();
            if let Ok(tag) = HeaderValue::from_str(&format!("\"{tag}\"")) {
                headers.insert(http::header::ETAG, tag);
            }
            let mut modified = Vec::new();
            if timestamp(row.modified_ms()).format(TimestampFormat::HttpDate, &mut modified).is_ok()
                && let Ok(modified) = HeaderValue::from_bytes(&modified)
            {
                headers.insert(http::header::LAST_MODIFIED, modified);
            }
            let mut error = S3Error::new(S3ErrorCode::NotModified);
            error.set_headers(headers);
            error
        }
    };
    Err(error)
}

fn marker_error(row: &ObjectRow, selector: Option<VersionSelector>) -> S3Error {
    let mut error = match selector {
        None => s3_error!(NoSuchKey),
        Some(_) => s3_error!(MethodNotAllowed),
    };
    let mut headers = HeaderMap::new();
    headers.insert("x-amz-delete-marker", HeaderValue::from_static("true"));
    if let Ok(version) = HeaderValue::from_str(&row.version_text()) {
        headers.insert("x-amz-version-id", version);
    }
    if selector.is_some() {
        headers.insert(http::header::ALLOW, HeaderValue::from_static("DELETE"));
    }
    error.set_headers(headers);
    error
}

fn invalid_range(len: u64) -> S3Error {
    let mut error = s3_error!(InvalidRange);
    let mut headers = HeaderMap::new();
    if let Ok(range) = HeaderValue::from_str(&format!("bytes */{len}")) {
        headers.insert(http::header::CONTENT_RANGE, range);
    }
    error.set_headers(headers);
    error
}

fn invalid_part_number() -> S3Error {
    error::custom(
        "InvalidPartNumber",
        http::StatusCode::RANGE_NOT_SATISFIABLE,
        "The requested partnumber is not satisfiable",
    )
}

fn content_range(selection: &Selection, len: u64) -> Option<String> {
    let Bytes { start, end } = selection.bytes;
    (selection.partial && end > start).then(|| format!("bytes {start}-{}/{len}", end - 1))
}

fn content_type(row: &ObjectRow) -> String {
    row.metadata.content_type.clone().unwrap_or_else(|| "binary/octet-stream".to_owned())
}

fn expires(row: &ObjectRow) -> Option<Timestamp> {
    row.metadata.expires.as_deref().and_then(|text| Timestamp::parse(TimestampFormat::HttpDate, text).ok())
}

fn user_metadata(row: &ObjectRow) -> Option<s3s::dto::Metadata> {
    let user = &row.metadata.user;
    (!user.is_empty()).then(|| user.iter().cloned().collect())
}

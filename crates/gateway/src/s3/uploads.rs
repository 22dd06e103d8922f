//! ListMultipartUploads.

use catalog::query::{self, UploadEntry};
use s3s::dto::{Initiator, ListMultipartUploadsInput, ListMultipartUploadsOutput, MultipartUpload, StorageClass};
use s3s::{S3Request, S3Response, S3Result, s3_error};
use types::OrderKey;

use super::list::{Encoding, blocking, page_len};
use super::{Frontend, checksums, timestamp};

impl Frontend {
    pub(super) async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let input = request.input;
        let encoding = Encoding::of(input.encoding_type.as_ref())?;
        let max = page_len(input.max_uploads, "max-uploads")?;
        self.expect_bucket(&input.bucket).await?;
        let key_after = input.key_marker.clone().filter(|marker| !marker.is_empty());
        // As AWS documents it: without a key marker the upload marker is ignored.
        let upload_after = match input.upload_id_marker.as_deref().filter(|marker| !marker.is_empty()) {
            Some(marker) if key_after.is_some() => {
                Some(OrderKey::from_hex(marker).ok_or_else(|| s3_error!(InvalidArgument, "Invalid uploadId marker"))?)
            }
            _ => None,
        };
        let (bucket, prefix) = (input.bucket.clone(), input.prefix.clone().unwrap_or_default());
        let delimiter = input.delimiter.clone().unwrap_or_default();
        let page = blocking(&self.node, Some(&input.bucket), move |view| {
            query::list_uploads(
                view,
                &query::ListUploads {
                    bucket: &bucket,
                    prefix: &prefix,
                    delimiter: &delimiter,
                    key_after: key_after.as_deref(),
                    upload_after,
                    max,
                },
            )
        })
        .await?;
        let (next_key, next_upload) = match page.next {
            Some((key, upload)) => (Some(key), upload.map(OrderKey::to_hex)),
            None => (None, None),
        };
        Ok(S3Response::new(ListMultipartUploadsOutput {
            bucket: Some(input.bucket),
            prefix: Some(encoding.name(input.prefix.as_deref().unwrap_or_default())),
            key_marker: Some(encoding.name(input.key_marker.as_deref().unwrap_or_default())),
            upload_id_marker: Some(input.upload_id_marker.unwrap_or_default()),
            max_uploads: i32::try_from(max).ok(),
            is_truncated: Some(next_key.is_some()),
            next_key_marker: next_key.map(|key| encoding.name(&key)),
            next_upload_id_marker: next_upload,
            uploads: Some(page.uploads.into_iter().map(|entry| self.upload(entry, encoding)).collect()),
            common_prefixes: encoding.prefixes(&page.prefixes),
            delimiter: input.delimiter.filter(|d| !d.is_empty()).map(|delimiter| encoding.name(&delimiter)),
            encoding_type: input.encoding_type,
            request_charged: None,
        }))
    }

    fn upload(&self, entry: UploadEntry, encoding: Encoding) -> MultipartUpload {
        let owner = self.owner();
        MultipartUpload {
            checksum_algorithm: entry.row.checksum.map(|(algorithm, _)| checksums::algorithm(algorithm)),
            checksum_type: entry.row.checksum.map(|(_, kind)| checksums::kind(kind)),
            initiated: Some(timestamp(entry.upload.timestamp.unix_ms())),
            initiator: Some(Initiator { display_name: Some(entry.row.principal), id: owner.id.clone() }),
            key: Some(encoding.name(&entry.key)),
            owner: Some(owner),
            storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
            upload_id: Some(entry.upload.to_hex()),
        }
    }
}

//! ListObjectVersions.

use catalog::query::{self, VersionEntry};
use s3s::dto::{
    DeleteMarkerEntry, ListObjectVersionsInput, ListObjectVersionsOutput, ObjectVersion, ObjectVersionStorageClass,
};
use s3s::{S3Request, S3Response, S3Result, s3_error};
use types::OrderKey;
use types::command::VersionSelector;

use super::list::{Encoding, blocking, page_len};
use super::{Frontend, checksums, etag, len_i64, timestamp, version_selector};

impl Frontend {
    pub(super) async fn list_object_versions(
        &self,
        request: S3Request<ListObjectVersionsInput>,
    ) -> S3Result<S3Response<ListObjectVersionsOutput>> {
        let input = request.input;
        let encoding = Encoding::of(input.encoding_type.as_ref())?;
        let max = page_len(input.max_keys, "max-keys")?;
        self.expect_bucket(&input.bucket).await?;
        let key_after = input.key_marker.clone().filter(|marker| !marker.is_empty());
        let version_after = version_selector(input.version_id_marker.as_deref().filter(|marker| !marker.is_empty()))?;
        if version_after.is_some() && key_after.is_none() {
            return Err(s3_error!(InvalidArgument, "A version-id marker cannot be specified without a key marker."));
        }
        let (bucket, prefix) = (input.bucket.clone(), input.prefix.clone().unwrap_or_default());
        let delimiter = input.delimiter.clone().unwrap_or_default();
        let page = blocking(&self.node, Some(&input.bucket), move |view| {
            query::list_versions(
                view,
                &query::ListVersions {
                    bucket: &bucket,
                    prefix: &prefix,
                    delimiter: &delimiter,
                    key_after: key_after.as_deref(),
                    version_after,
                    max,
                },
            )
        })
        .await?;
        let (markers, versions): (Vec<VersionEntry>, Vec<VersionEntry>) =
            page.versions.into_iter().partition(|entry| entry.row.marker);
        let next = page.next;
        Ok(S3Response::new(ListObjectVersionsOutput {
            name: Some(input.bucket),
            prefix: Some(encoding.name(input.prefix.as_deref().unwrap_or_default())),
            key_marker: Some(encoding.name(input.key_marker.as_deref().unwrap_or_default())),
            version_id_marker: Some(input.version_id_marker.unwrap_or_default()),
            max_keys: i32::try_from(max).ok(),
            is_truncated: Some(next.is_some()),
            next_key_marker: next.as_ref().map(|next| encoding.name(&next.key)),
            next_version_id_marker: next.and_then(|next| next.version).map(selector_text),
            versions: Some(versions.into_iter().map(|entry| self.version(entry, encoding)).collect()),
            delete_markers: Some(markers.iter().map(|entry| self.delete_marker(entry, encoding)).collect()),
            common_prefixes: encoding.prefixes(&page.prefixes),
            delimiter: input.delimiter.filter(|d| !d.is_empty()).map(|delimiter| encoding.name(&delimiter)),
            encoding_type: input.encoding_type,
            request_charged: None,
        }))
    }

    fn version(&self, entry: VersionEntry, encoding: Encoding) -> ObjectVersion {
        let row = entry.row;
        ObjectVersion {
            checksum_algorithm: row.checksum.as_ref().map(|checksum| vec![checksums::algorithm(checksum.algorithm)]),
            checksum_type: row.checksum.as_ref().map(|checksum| checksums::kind(checksum.kind)),
            e_tag: Some(etag(row.etag())),
            is_latest: Some(entry.is_latest),
            key: Some(encoding.name(&entry.key)),
            last_modified: Some(timestamp(row.modified_ms())),
            owner: Some(self.owner()),
            restore_status: None,
            size: Some(len_i64(row.len)),
            storage_class: Some(ObjectVersionStorageClass::from_static(ObjectVersionStorageClass::STANDARD)),
            version_id: Some(row.version_text()),
        }
    }

    fn delete_marker(&self, entry: &VersionEntry, encoding: Encoding) -> DeleteMarkerEntry {
        DeleteMarkerEntry {
            is_latest: Some(entry.is_latest),
            key: Some(encoding.name(&entry.key)),
            last_modified: Some(timestamp(entry.row.modified_ms())),
            owner: Some(self.owner()),
            version_id: Some(entry.row.version_text()),
        }
    }
}

pub(super) fn selector_text(selector: VersionSelector) -> String {
    match selector {
        VersionSelector::Null => "null".to_owned(),
        VersionSelector::Id(order) => OrderKey::to_hex(order),
    }
}

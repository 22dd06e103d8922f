//! ListObjectsV2 and ListObjects (V1).

use catalog::query::{self, ObjectsPage};
use catalog::rows::ObjectRow;
use node::{Node, ReadView};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::dto::{
    CommonPrefix, EncodingType, ListObjectsInput, ListObjectsOutput, ListObjectsV2Input, ListObjectsV2Output, Object,
    ObjectStorageClass,
};
use s3s::{S3Request, S3Response, S3Result, s3_error};
use types::limits::LIST_PAGE_MAX;
use types::state::ReadError;

use super::buckets::{read_token, write_token};
use super::checksums;
use super::{Frontend, etag, len_i64, timestamp};
use crate::error;

/// What `encoding-type=url` leaves as it is.
const UNENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// How names are given: as they are, or percent-encoded for clients whose XML parser takes no control
/// characters.
#[derive(Clone, Copy)]
pub(super) struct Encoding {
    url: bool,
}

impl Encoding {
    pub(super) fn of(asked: Option<&EncodingType>) -> S3Result<Self> {
        match asked.map(EncodingType::as_str) {
            None | Some("") => Ok(Self { url: false }),
            Some("url") => Ok(Self { url: true }),
            Some(_) => Err(s3_error!(InvalidArgument, "Invalid Encoding Method specified in Request")),
        }
    }

    pub(super) fn name(self, name: &str) -> String {
        if self.url { utf8_percent_encode(name, UNENCODED).to_string() } else { name.to_owned() }
    }

    pub(super) fn prefixes(self, prefixes: &[String]) -> Option<Vec<CommonPrefix>> {
        let prefixes: Vec<CommonPrefix> =
            prefixes.iter().map(|prefix| CommonPrefix { prefix: Some(self.name(prefix)) }).collect();
        (!prefixes.is_empty()).then_some(prefixes)
    }
}

/// `max-keys` and its like: at most a page, never negative.
pub(super) fn page_len(asked: Option<i32>, name: &str) -> S3Result<usize> {
    let asked = asked.unwrap_or(1000);
    let len = usize::try_from(asked)
        .map_err(|_| s3_error!(InvalidArgument, "Argument {name} must be an integer between 0 and 2147483647"))?;
    Ok(len.min(LIST_PAGE_MAX))
}

/// Runs a query of a bucket, or of all buckets, that may go through many rows where it blocks nobody.
pub(super) async fn blocking<T: Send + 'static>(
    node: &Node,
    bucket: Option<&str>,
    query: impl FnOnce(&ReadView) -> Result<T, ReadError> + Send + 'static,
) -> S3Result<T> {
    let view = node.read_caught_up(bucket).await.map_err(|error| error::write(&error))?;
    let result = tokio::task::spawn_blocking(move || query(&view)).await;
    result.map_err(|_| s3_error!(ServiceUnavailable))?.map_err(|error| error::read(&error))
}

struct Page<'a> {
    bucket: &'a str,
    prefix: Option<&'a str>,
    delimiter: Option<&'a str>,
    after: Option<String>,
    max: usize,
}

impl Frontend {
    async fn list_page(&self, page: Page<'_>) -> S3Result<ObjectsPage> {
        self.expect_bucket(page.bucket).await?;
        let owned = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let (bucket, prefix, delimiter) = (page.bucket.to_owned(), owned(page.prefix), owned(page.delimiter));
        let (after, max) = (page.after, page.max);
        blocking(&self.node, Some(page.bucket), move |view| {
            query::list_objects(
                view,
                &query::ListObjects {
                    bucket: &bucket,
                    prefix: &prefix,
                    delimiter: &delimiter,
                    after: after.as_deref(),
                    max,
                },
            )
        })
        .await
    }

    pub(super) async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        let encoding = Encoding::of(input.encoding_type.as_ref())?;
        let max = page_len(input.max_keys, "max-keys")?;
        let after = match input.continuation_token.as_deref() {
            Some(token) => Some(read_token(token)?),
            None => input.start_after.clone().filter(|after| !after.is_empty()),
        };
        let page = self
            .list_page(Page {
                bucket: &input.bucket,
                prefix: input.prefix.as_deref(),
                delimiter: input.delimiter.as_deref(),
                after,
                max,
            })
            .await?;
        let owner = input.fetch_owner.unwrap_or(false);
        let count = page.objects.len() + page.prefixes.len();
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: Some(encoding.name(input.prefix.as_deref().unwrap_or_default())),
            max_keys: i32::try_from(max).ok(),
            key_count: i32::try_from(count).ok(),
            continuation_token: input.continuation_token,
            is_truncated: Some(page.next.is_some()),
            next_continuation_token: page.next.as_deref().map(write_token),
            contents: self.contents(page.objects, encoding, owner),
            common_prefixes: encoding.prefixes(&page.prefixes),
            delimiter: input.delimiter.filter(|d| !d.is_empty()).map(|delimiter| encoding.name(&delimiter)),
            encoding_type: input.encoding_type,
            start_after: input.start_after.map(|after| encoding.name(&after)),
            request_charged: None,
        }))
    }

    pub(super) async fn list_objects(
        &self,
        request: S3Request<ListObjectsInput>,
    ) -> S3Result<S3Response<ListObjectsOutput>> {
        let input = request.input;
        let encoding = Encoding::of(input.encoding_type.as_ref())?;
        let max = page_len(input.max_keys, "max-keys")?;
        let page = self
            .list_page(Page {
                bucket: &input.bucket,
                prefix: input.prefix.as_deref(),
                delimiter: input.delimiter.as_deref(),
                after: input.marker.clone().filter(|marker| !marker.is_empty()),
                max,
            })
            .await?;
        Ok(S3Response::new(ListObjectsOutput {
            name: Some(input.bucket),
            prefix: Some(encoding.name(input.prefix.as_deref().unwrap_or_default())),
            marker: Some(encoding.name(input.marker.as_deref().unwrap_or_default())),
            max_keys: i32::try_from(max).ok(),
            is_truncated: Some(page.next.is_some()),
            // AWS gives it only with a delimiter; a page that ends early needs it always.
            next_marker: page.next.as_deref().map(|next| encoding.name(next)),
            contents: self.contents(page.objects, encoding, true),
            common_prefixes: encoding.prefixes(&page.prefixes),
            delimiter: input.delimiter.filter(|d| !d.is_empty()).map(|delimiter| encoding.name(&delimiter)),
            encoding_type: input.encoding_type,
            request_charged: None,
        }))
    }

    fn contents(&self, objects: Vec<(String, ObjectRow)>, encoding: Encoding, owner: bool) -> Option<Vec<Object>> {
        let owner = owner.then(|| self.owner());
        let object = |(key, row): (String, ObjectRow)| Object {
            checksum_algorithm: row.checksum.as_ref().map(|checksum| vec![checksums::algorithm(checksum.algorithm)]),
            checksum_type: row.checksum.as_ref().map(|checksum| checksums::kind(checksum.kind)),
            e_tag: Some(etag(row.etag())),
            key: Some(encoding.name(&key)),
            last_modified: Some(timestamp(row.modified_ms())),
            owner: owner.clone(),
            restore_status: None,
            size: Some(len_i64(row.len)),
            storage_class: Some(ObjectStorageClass::from_static(ObjectStorageClass::STANDARD)),
        };
        let contents: Vec<Object> = objects.into_iter().map(object).collect();
        (!contents.is_empty()).then_some(contents)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn url_encoding_survives_either_way_of_decoding() {
        let url = Encoding { url: true };
        assert_eq!(url.name("a b+c/ü\u{1}"), "a%20b%2Bc/%C3%BC%01");
        assert_eq!(Encoding { url: false }.name("a b+c"), "a b+c");
        assert!(Encoding::of(Some(&EncodingType::from("gzip".to_owned()))).is_err());
    }

    #[test]
    fn pages_are_bounded() {
        assert_eq!(page_len(None, "max-keys").unwrap(), 1000);
        assert_eq!(page_len(Some(5000), "max-keys").unwrap(), 1000);
        assert_eq!(page_len(Some(0), "max-keys").unwrap(), 0);
        assert!(page_len(Some(-1), "max-keys").is_err());
    }
}

//! Headers of writes: what is kept with an object, and what is refused because it is not built.

use http::HeaderMap;
use node::Wait;
use s3s::{S3Result, s3_error};
use types::limits::{SYSTEM_METADATA_LEN_MAX, USER_METADATA_LEN_MAX};
use types::object::Metadata;

use crate::body::algorithm_of;

/// Refuses headers that ask for something that is not built, rather than ignoring them.
pub(crate) fn refuse_unbuilt(headers: &HeaderMap) -> S3Result<()> {
    for (name, value) in headers {
        let name = name.as_str();
        let Some(rest) = name.strip_prefix("x-amz-") else { continue };
        let value = value.as_bytes();
        let built = match rest {
            // Both say what holds here anyway: the owner alone has access.
            "acl" => matches!(value, b"private" | b"bucket-owner-full-control"),
            "storage-class" => value == b"STANDARD",
            "tagging" => value.is_empty(),
            "bucket-object-lock-enabled" => value.eq_ignore_ascii_case(b"false"),
            "object-ownership" => value == b"BucketOwnerEnforced",
            "mfa" | "write-offset-bytes" => false,
            "checksum-algorithm" | "checksum-type" | "checksum-mode" => true,
            _ if rest.starts_with("checksum-") => algorithm_of(&rest["checksum-".len()..]).is_some(),
            _ => !["server-side-encryption", "copy-source-server-side-encryption", "grant-", "object-lock-"]
                .iter()
                .any(|prefix| rest.starts_with(prefix)),
        };
        if !built {
            return Err(s3_error!(
                NotImplemented,
                "A header you provided implies functionality that is not implemented: {name}"
            ));
        }
    }
    Ok(())
}

/// When the client wants its answer: `x-entangle-wait`.
pub(crate) fn wait(headers: &HeaderMap) -> S3Result<Wait> {
    match headers.get("x-entangle-wait").map(http::HeaderValue::as_bytes) {
        None | Some(b"commit") => Ok(Wait::Commit),
        Some(b"included") => Ok(Wait::Included),
        Some(b"witnessed") => Err(s3_error!(NotImplemented, "x-entangle-wait: witnessed is not implemented")),
        Some(_) => Err(s3_error!(InvalidArgument, "x-entangle-wait must be commit or included")),
    }
}

/// The headers that are kept with an object. `user` is the user metadata as s3s decoded it.
pub(crate) fn metadata(headers: &HeaderMap, user: Option<s3s::dto::Metadata>) -> S3Result<Metadata> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let mut user: Vec<(String, String)> = user.into_iter().flatten().collect();
    user.sort_unstable();
    let user_len: usize = user.iter().map(|(name, value)| name.len() + value.len()).sum();
    if user_len > USER_METADATA_LEN_MAX {
        return Err(s3_error!(MetadataTooLarge));
    }
    let metadata = Metadata {
        content_type: text("content-type").filter(|value| !value.is_empty()),
        content_encoding: text("content-encoding").and_then(|value| without_aws_chunked(&value)),
        content_disposition: text("content-disposition"),
        content_language: text("content-language"),
        cache_control: text("cache-control"),
        expires: text("expires"),
        website_redirect: text("x-amz-website-redirect-location"),
        user,
    };
    let system = [
        &metadata.content_type,
        &metadata.content_encoding,
        &metadata.content_disposition,
        &metadata.content_language,
        &metadata.cache_control,
        &metadata.expires,
        &metadata.website_redirect,
    ];
    if system.into_iter().flatten().map(String::len).sum::<usize>() > SYSTEM_METADATA_LEN_MAX {
        return Err(s3_error!(MetadataTooLarge));
    }
    if let Some(redirect) = &metadata.website_redirect
        && !["/", "http://", "https://"].iter().any(|start| redirect.starts_with(start))
    {
        return Err(s3_error!(
            InvalidArgument,
            "The website redirect location must have a prefix of 'http://' or 'https://' or '/'."
        ));
    }
    Ok(metadata)
}

/// `aws-chunked` is how the body travelled, not how it is encoded.
fn without_aws_chunked(value: &str) -> Option<String> {
    if !value.to_ascii_lowercase().contains("aws-chunked") {
        return Some(value.to_owned()).filter(|value| !value.is_empty());
    }
    let left: Vec<&str> =
        value.split(',').map(str::trim).filter(|coding| !coding.eq_ignore_ascii_case("aws-chunked")).collect();
    Some(left.join(",")).filter(|value| !value.is_empty())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn what_is_not_built_is_refused() {
        for (name, value) in [
            ("x-amz-server-side-encryption", "AES256"),
            ("x-amz-server-side-encryption", "aws:kms"),
            ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
            ("x-amz-copy-source-server-side-encryption-customer-key", "k"),
            ("x-amz-acl", "public-read"),
            ("x-amz-grant-read", "id=x"),
            ("x-amz-tagging", "a=b"),
            ("x-amz-object-lock-mode", "GOVERNANCE"),
            ("x-amz-storage-class", "GLACIER"),
            ("x-amz-bucket-object-lock-enabled", "true"),
            ("x-amz-mfa", "1 2"),
            ("x-amz-checksum-md5", "XUFAKrxLKna5cZ2REBfFkg=="),
            ("x-amz-checksum-xxhash64", "XUFAKrxLKno="),
        ] {
            let error = refuse_unbuilt(&headers(&[(name, value)])).unwrap_err();
            assert_eq!(error.code().as_str(), "NotImplemented", "{name}");
        }
        let fine = [
            ("x-amz-acl", "private"),
            ("x-amz-storage-class", "STANDARD"),
            ("x-amz-expected-bucket-owner", "123456789012"),
            ("x-amz-meta-server-side-encryption", "AES256"),
            ("x-amz-website-redirect-location", "/x"),
            ("x-amz-checksum-crc64nvme", "XUFAKrxLKno="),
            ("x-amz-checksum-algorithm", "SHA256"),
        ];
        assert!(refuse_unbuilt(&headers(&fine)).is_ok());
    }

    #[test]
    fn aws_chunked_is_not_kept() {
        for (given, kept) in [
            ("aws-chunked", None),
            ("aws-chunked,gzip", Some("gzip")),
            ("gzip, aws-chunked", Some("gzip")),
            ("gzip", Some("gzip")),
            ("gzip, br", Some("gzip, br")),
        ] {
            let kept_now = metadata(&headers(&[("content-encoding", given)]), None).unwrap().content_encoding;
            assert_eq!(kept_now.as_deref(), kept, "{given}");
        }
    }

    #[test]
    fn metadata_is_sorted_and_bounded() {
        let user = |len: usize| {
            Some([("b".to_owned(), "x".repeat(len)), ("a".to_owned(), "y".to_owned())].into_iter().collect())
        };
        let kept = metadata(&HeaderMap::new(), user(2)).unwrap();
        assert_eq!(kept.user[0].0, "a");
        assert!(metadata(&HeaderMap::new(), user(USER_METADATA_LEN_MAX - 3)).is_ok());
        let error = metadata(&HeaderMap::new(), user(USER_METADATA_LEN_MAX - 2)).unwrap_err();
        assert_eq!(error.code().as_str(), "MetadataTooLarge");
        let long = headers(&[("cache-control", &"x".repeat(SYSTEM_METADATA_LEN_MAX + 1))]);
        assert!(metadata(&long, None).is_err());
        assert!(metadata(&headers(&[("x-amz-website-redirect-location", "javascript:x")]), None).is_err());
    }

    #[test]
    fn waits() {
        assert_eq!(wait(&HeaderMap::new()).unwrap(), Wait::Commit);
        assert_eq!(wait(&headers(&[("x-entangle-wait", "included")])).unwrap(), Wait::Included);
        assert_eq!(wait(&headers(&[("x-entangle-wait", "witnessed")])).unwrap_err().code().as_str(), "NotImplemented");
        assert_eq!(wait(&headers(&[("x-entangle-wait", "x")])).unwrap_err().code().as_str(), "InvalidArgument");
    }
}

//! Buckets: make, look at, remove, list; their versioning.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as TOKEN;
use catalog::query;
use s3s::dto::{
    Bucket, BucketLocationConstraint, BucketVersioningStatus, CreateBucketInput, CreateBucketOutput, DeleteBucketInput,
    DeleteBucketOutput, GetBucketLocationInput, GetBucketLocationOutput, GetBucketVersioningInput,
    GetBucketVersioningOutput, HeadBucketInput, HeadBucketOutput, ListBucketsInput, ListBucketsOutput,
    PutBucketVersioningInput, PutBucketVersioningOutput,
};
use s3s::{S3Request, S3Response, S3Result, s3_error};
use types::Op;
use types::command::{CreateBucket, DeleteBucket, SetVersioning, Versioning};
use types::limits::BUCKETS_MAX;

use super::list::blocking;
use super::{Call, Frontend, timestamp};
use crate::names::is_bucket_name;

/// The region whose location is the empty string.
const NAMELESS_REGION: &str = "us-east-1";

impl Frontend {
    pub(super) async fn create_bucket(
        &self,
        mut request: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        let call = Call::of(&mut request)?;
        let input = request.input;
        if !is_bucket_name(&input.bucket) {
            return Err(s3_error!(InvalidBucketName));
        }
        let configuration = input.create_bucket_configuration.unwrap_or_default();
        if configuration.bucket.is_some() || configuration.location.is_some() {
            return Err(s3_error!(NotImplemented, "Directory buckets are not implemented"));
        }
        let region = configuration.location_constraint.map(|region| region.as_str().to_owned());
        let location = format!("/{}", input.bucket);
        let op = Op::CreateBucket(CreateBucket { bucket: input.bucket, region });
        let (_, headers) = self.write(&call, op).await?;
        Ok(S3Response::with_headers(CreateBucketOutput { location: Some(location) }, headers))
    }

    pub(super) async fn delete_bucket(
        &self,
        mut request: S3Request<DeleteBucketInput>,
    ) -> S3Result<S3Response<DeleteBucketOutput>> {
        let call = Call::of(&mut request)?;
        let op = Op::DeleteBucket(DeleteBucket { bucket: request.input.bucket });
        let (_, headers) = self.write(&call, op).await?;
        Ok(S3Response::with_headers(DeleteBucketOutput {}, headers))
    }

    pub(super) async fn head_bucket(
        &self,
        request: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        self.read_bucket(&request.input.bucket).await?;
        let output = HeadBucketOutput { bucket_region: Some(self.region.to_string()), ..HeadBucketOutput::default() };
        Ok(S3Response::new(output))
    }

    pub(super) async fn get_bucket_location(
        &self,
        request: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        self.read_bucket(&request.input.bucket).await?;
        let region =
            (&*self.region != NAMELESS_REGION).then(|| BucketLocationConstraint::from(self.region.to_string()));
        Ok(S3Response::new(GetBucketLocationOutput { location_constraint: region }))
    }

    pub(super) async fn list_buckets(
        &self,
        request: S3Request<ListBucketsInput>,
    ) -> S3Result<S3Response<ListBucketsOutput>> {
        let input = request.input;
        let max = match input.max_buckets {
            None => BUCKETS_MAX,
            Some(max) => usize::try_from(max)
                .ok()
                .filter(|max| (1..=BUCKETS_MAX).contains(max))
                .ok_or_else(|| s3_error!(InvalidArgument, "max-buckets must be between 1 and {BUCKETS_MAX}"))?,
        };
        let after = input.continuation_token.as_deref().map(read_token).transpose()?;
        let all = blocking(&self.node, None, |view| query::buckets(view)).await?;
        let prefix = input.prefix.as_deref().unwrap_or_default();
        // Every bucket is in the region of this node.
        let elsewhere = input.bucket_region.as_deref().is_some_and(|region| region != &*self.region);
        let mut found: Vec<Bucket> = all
            .into_iter()
            .filter(|(name, _)| {
                !elsewhere && name.starts_with(prefix) && after.as_ref().is_none_or(|after| name > after)
            })
            .take(max + 1)
            .map(|(name, row)| Bucket {
                creation_date: Some(timestamp(row.created_ms())),
                bucket_region: input.max_buckets.is_some().then(|| self.region.to_string()),
                name: Some(name),
            })
            .collect();
        let more = found.len() > max;
        found.truncate(max);
        let token = found.last().filter(|_| more).and_then(|bucket| bucket.name.as_deref()).map(write_token);
        Ok(S3Response::new(ListBucketsOutput {
            buckets: Some(found),
            continuation_token: token,
            owner: Some(self.owner()),
            prefix: input.prefix,
        }))
    }

    pub(super) async fn get_bucket_versioning(
        &self,
        request: S3Request<GetBucketVersioningInput>,
    ) -> S3Result<S3Response<GetBucketVersioningOutput>> {
        let status = match self.read_bucket(&request.input.bucket).await?.versioning {
            Versioning::Off => None,
            Versioning::Enabled => Some(BucketVersioningStatus::ENABLED),
            Versioning::Suspended => Some(BucketVersioningStatus::SUSPENDED),
        };
        let status = status.map(BucketVersioningStatus::from_static);
        Ok(S3Response::new(GetBucketVersioningOutput { status, mfa_delete: None }))
    }

    pub(super) async fn put_bucket_versioning(
        &self,
        mut request: S3Request<PutBucketVersioningInput>,
    ) -> S3Result<S3Response<PutBucketVersioningOutput>> {
        let call = Call::of(&mut request)?;
        let input = request.input;
        if input.versioning_configuration.mfa_delete.is_some_and(|mfa| mfa.as_str() != "Disabled") {
            return Err(s3_error!(NotImplemented, "MFA delete is not implemented"));
        }
        let versioning = match input.versioning_configuration.status.as_ref().map(BucketVersioningStatus::as_str) {
            Some(BucketVersioningStatus::ENABLED) => Versioning::Enabled,
            Some(BucketVersioningStatus::SUSPENDED) => Versioning::Suspended,
            Some(_) => return Err(s3_error!(MalformedXML)),
            None => {
                return Err(s3_error!(
                    IllegalVersioningConfigurationException,
                    "The Versioning element must be specified"
                ));
            }
        };
        let op = Op::SetVersioning(SetVersioning { bucket: input.bucket, versioning });
        let (_, headers) = self.write(&call, op).await?;
        Ok(S3Response::with_headers(PutBucketVersioningOutput {}, headers))
    }
}

/// A paging token: opaque to clients, the last name or key that was given.
pub(super) fn write_token(last: &str) -> String {
    TOKEN.encode(format!("1{last}"))
}

/// The inverse of [`write_token`].
pub(super) fn read_token(token: &str) -> S3Result<String> {
    let bytes = TOKEN.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let last = bytes.as_deref().and_then(|text| text.strip_prefix('1'));
    last.map(str::to_owned).ok_or_else(|| s3_error!(InvalidArgument, "The continuation token provided is incorrect"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_opaque_and_checked() {
        for last in ["a", "", "ü/\u{1}", "1"] {
            assert_eq!(read_token(&write_token(last)).unwrap(), last);
        }
        for bad in ["a", "%%", "", "Mg"] {
            assert_eq!(read_token(bad).unwrap_err().code().as_str(), "InvalidArgument", "{bad}");
        }
    }
}

//! The S3 operations, on s3s. What is not listed in `operations!` answers `NotImplemented`, by s3s's
//! defaults. `docs/s3.md` says what each one takes and answers.

mod buckets;
pub(crate) mod checksums;
mod conditions;
mod configuration;
mod copy;
mod delete;
mod get;
mod headers;
mod list;
mod multipart;
mod put;
mod uploads;
mod versions;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use node::{Node, WriteRequest, Written};
use s3s::dto::{self, ETag, Owner, Timestamp};
use s3s::{S3, S3Error, S3Request, S3Response, S3Result, s3_error};
use types::command::{RequestToken, VersionSelector};
use types::limits::REQUEST_ID_LEN_MAX;
use types::object::Body;
use types::{Op, OrderKey, Outcome};

use crate::context::RequestContext;
use crate::error;

/// Base64 of the commit receipt.
const RECEIPT_HEADER: HeaderName = HeaderName::from_static("x-entangle-receipt");
/// The order key of the write, in hex.
const ORDER_HEADER: HeaderName = HeaderName::from_static("x-entangle-order");

/// The S3 side of a node.
#[derive(Clone)]
pub(crate) struct Frontend {
    pub(crate) node: Node,
    pub(crate) region: Arc<str>,
    pub(crate) body_idle: Duration,
    owner: Arc<str>,
    /// How clients reach it: `http` or `https`.
    scheme: &'static str,
}

/// What an operation that writes knows of its request beside its input.
struct Call {
    context: Arc<RequestContext>,
    principal: String,
    headers: HeaderMap,
}

impl Call {
    fn of<T>(request: &mut S3Request<T>) -> S3Result<Self> {
        let credentials = request.credentials.as_ref().ok_or_else(|| s3_error!(AccessDenied))?;
        let principal = credentials.access_key.clone();
        let headers = core::mem::take(&mut request.headers);
        headers::refuse_unbuilt(&headers)?;
        Ok(Self { context: RequestContext::of(request)?, principal, headers })
    }
}

impl Frontend {
    pub(crate) fn new(node: Node, region: &str, body_idle: Duration, tls: bool) -> Self {
        let owner = digest::digest(&digest::SHA256, node.cluster().to_string().as_bytes());
        let owner: String = owner.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Self { node, region: region.into(), body_idle, owner: owner.into(), scheme: if tls { "https" } else { "http" } }
    }

    /// The one owner of everything: the cluster.
    fn owner(&self) -> Owner {
        Owner { display_name: Some("entangle".to_owned()), id: Some(self.owner.to_string()) }
    }

    /// Writes, and turns a refusal into its error. Both answers carry receipt and order.
    async fn write(&self, call: &Call, op: Op) -> S3Result<(Outcome, HeaderMap)> {
        let request = match &call.context.preflight.invocation {
            None => None,
            Some(id) if id.len() > REQUEST_ID_LEN_MAX => {
                return Err(s3_error!(InvalidArgument, "The request id is longer than {REQUEST_ID_LEN_MAX} bytes."));
            }
            Some(id) => Some(RequestToken { id: id.clone(), digest: call_digest(&op) }),
        };
        let wait = headers::wait(&call.headers)?;
        let request = WriteRequest { principal: call.principal.clone(), request, op, wait };
        let written = self.node.write(request).await.map_err(|error| error::write(&error))?;
        let headers = evidence(&written);
        match written.outcome {
            Outcome::Refused(refusal) => {
                let mut answer = error::refusal(&refusal);
                answer.set_headers(headers);
                Err(answer)
            }
            outcome => Ok((outcome, headers)),
        }
    }

    /// The bucket must exist. What is known here is enough to go on: the command judges again. That one is *not* there
    /// is said only by who has caught up: it may have been made at another node a moment ago.
    pub(crate) async fn expect_bucket(&self, bucket: &str) -> S3Result<Arc<catalog::rows::BucketRow>> {
        let find = || self.node.bucket(bucket).map_err(|error| error::read(&error));
        if let Some(row) = find()? {
            return Ok(row);
        }
        self.catch_up(bucket, "").await?;
        find()?.ok_or_else(|| s3_error!(NoSuchBucket))
    }

    /// The bucket as a read must see it.
    pub(crate) async fn read_bucket(&self, bucket: &str) -> S3Result<Arc<catalog::rows::BucketRow>> {
        self.catch_up(bucket, "").await?;
        let row = self.node.bucket(bucket).map_err(|error| error::read(&error))?;
        row.ok_or_else(|| s3_error!(NoSuchBucket))
    }

    /// Waits until what is answered from the state here has every write of the key, and of its bucket, that anyone was told
    /// of.
    pub(crate) async fn catch_up(&self, bucket: &str, key: &str) -> S3Result<()> {
        self.node.catch_up(bucket, key).await.map_err(|error| error::write(&error))
    }
}

/// What a call asks for, without where its body lies (a retry places it anew).
fn call_digest(op: &Op) -> [u8; 32] {
    let nowhere = Body::Inline(Bytes::new());
    let bodyless = match op {
        Op::PutObject(put) => Op::PutObject(types::command::PutObject { body: nowhere, ..put.clone() }),
        Op::UploadPart(part) => Op::UploadPart(types::command::UploadPart { body: nowhere, ..part.clone() }),
        other => other.clone(),
    };
    let mut bytes = b"entangle/call/v1\n".to_vec();
    minicbor::encode(&bodyless, &mut bytes).expect("encoding into a vector cannot fail");
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, &bytes).as_ref());
    hash
}

fn evidence(written: &Written) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(2);
    if let Ok(order) = HeaderValue::from_str(&written.order.to_hex()) {
        headers.insert(ORDER_HEADER, order);
    }
    if let Some(receipt) = &written.receipt
        && let Ok(receipt) = HeaderValue::try_from(BASE64.encode(receipt))
    {
        headers.insert(RECEIPT_HEADER, receipt);
    }
    headers
}

/// An outcome that the operation cannot have: a defect, not the client's doing.
fn unexpected(outcome: &Outcome) -> S3Error {
    tracing::error!(?outcome, "an operation had an outcome that it cannot have");
    s3_error!(InternalError)
}

/// `versionId` as clients send it.
pub(crate) fn version_selector(text: Option<&str>) -> S3Result<Option<VersionSelector>> {
    match text {
        None => Ok(None),
        Some("") => Err(s3_error!(InvalidArgument, "Version id cannot be the empty string")),
        Some("null") => Ok(Some(VersionSelector::Null)),
        Some(text) => match OrderKey::from_hex(text) {
            Some(order) => Ok(Some(VersionSelector::Id(order))),
            None => Err(s3_error!(InvalidArgument, "Invalid version id specified")),
        },
    }
}

/// The upload id as clients send it. One that cannot be one names no upload.
fn upload_id(text: &str) -> S3Result<OrderKey> {
    OrderKey::from_hex(text).ok_or_else(|| s3_error!(NoSuchUpload))
}

/// The version id of a write, as headers show it.
fn version_text(version: Option<OrderKey>, null_version: bool) -> Option<String> {
    version.map(OrderKey::to_hex).or_else(|| null_version.then(|| "null".to_owned()))
}

fn timestamp(unix_ms: u64) -> Timestamp {
    Timestamp::from(SystemTime::UNIX_EPOCH + Duration::from_millis(unix_ms))
}

fn etag(value: impl Into<String>) -> ETag {
    ETag::Strong(value.into())
}

fn len_i64(len: u64) -> i64 {
    i64::try_from(len).unwrap_or(i64::MAX)
}

/// Implements [`S3`] by methods of the same names on [`Frontend`]: an inherent method goes before that of the
/// trait.
macro_rules! operations {
    ($($method:ident($input:ident) -> $output:ident as $name:literal;)*) => {
        #[async_trait::async_trait]
        impl S3 for Frontend {
            $(async fn $method(&self, request: S3Request<dto::$input>) -> S3Result<S3Response<dto::$output>> {
                RequestContext::of(&request)?.set_operation($name);
                Self::$method(self, request).await
            })*
        }
    };
}

operations! {
    abort_multipart_upload(AbortMultipartUploadInput) -> AbortMultipartUploadOutput as "AbortMultipartUpload";
    complete_multipart_upload(CompleteMultipartUploadInput) -> CompleteMultipartUploadOutput as "CompleteMultipartUpload";
    copy_object(CopyObjectInput) -> CopyObjectOutput as "CopyObject";
    create_bucket(CreateBucketInput) -> CreateBucketOutput as "CreateBucket";
    create_multipart_upload(CreateMultipartUploadInput) -> CreateMultipartUploadOutput as "CreateMultipartUpload";
    delete_bucket(DeleteBucketInput) -> DeleteBucketOutput as "DeleteBucket";
    delete_object(DeleteObjectInput) -> DeleteObjectOutput as "DeleteObject";
    delete_objects(DeleteObjectsInput) -> DeleteObjectsOutput as "DeleteObjects";
    get_bucket_accelerate_configuration(GetBucketAccelerateConfigurationInput) -> GetBucketAccelerateConfigurationOutput as "GetBucketAccelerateConfiguration";
    get_bucket_acl(GetBucketAclInput) -> GetBucketAclOutput as "GetBucketAcl";
    get_bucket_analytics_configuration(GetBucketAnalyticsConfigurationInput) -> GetBucketAnalyticsConfigurationOutput as "GetBucketAnalyticsConfiguration";
    get_bucket_cors(GetBucketCorsInput) -> GetBucketCorsOutput as "GetBucketCors";
    get_bucket_encryption(GetBucketEncryptionInput) -> GetBucketEncryptionOutput as "GetBucketEncryption";
    get_bucket_intelligent_tiering_configuration(GetBucketIntelligentTieringConfigurationInput) -> GetBucketIntelligentTieringConfigurationOutput as "GetBucketIntelligentTieringConfiguration";
    get_bucket_inventory_configuration(GetBucketInventoryConfigurationInput) -> GetBucketInventoryConfigurationOutput as "GetBucketInventoryConfiguration";
    get_bucket_lifecycle_configuration(GetBucketLifecycleConfigurationInput) -> GetBucketLifecycleConfigurationOutput as "GetBucketLifecycleConfiguration";
    get_bucket_location(GetBucketLocationInput) -> GetBucketLocationOutput as "GetBucketLocation";
    get_bucket_logging(GetBucketLoggingInput) -> GetBucketLoggingOutput as "GetBucketLogging";
    get_bucket_metrics_configuration(GetBucketMetricsConfigurationInput) -> GetBucketMetricsConfigurationOutput as "GetBucketMetricsConfiguration";
    get_bucket_notification_configuration(GetBucketNotificationConfigurationInput) -> GetBucketNotificationConfigurationOutput as "GetBucketNotificationConfiguration";
    get_bucket_ownership_controls(GetBucketOwnershipControlsInput) -> GetBucketOwnershipControlsOutput as "GetBucketOwnershipControls";
    get_bucket_policy(GetBucketPolicyInput) -> GetBucketPolicyOutput as "GetBucketPolicy";
    get_bucket_policy_status(GetBucketPolicyStatusInput) -> GetBucketPolicyStatusOutput as "GetBucketPolicyStatus";
    get_bucket_replication(GetBucketReplicationInput) -> GetBucketReplicationOutput as "GetBucketReplication";
    get_bucket_request_payment(GetBucketRequestPaymentInput) -> GetBucketRequestPaymentOutput as "GetBucketRequestPayment";
    get_bucket_tagging(GetBucketTaggingInput) -> GetBucketTaggingOutput as "GetBucketTagging";
    get_bucket_versioning(GetBucketVersioningInput) -> GetBucketVersioningOutput as "GetBucketVersioning";
    get_bucket_website(GetBucketWebsiteInput) -> GetBucketWebsiteOutput as "GetBucketWebsite";
    get_object(GetObjectInput) -> GetObjectOutput as "GetObject";
    get_object_acl(GetObjectAclInput) -> GetObjectAclOutput as "GetObjectAcl";
    get_object_attributes(GetObjectAttributesInput) -> GetObjectAttributesOutput as "GetObjectAttributes";
    get_object_legal_hold(GetObjectLegalHoldInput) -> GetObjectLegalHoldOutput as "GetObjectLegalHold";
    get_object_lock_configuration(GetObjectLockConfigurationInput) -> GetObjectLockConfigurationOutput as "GetObjectLockConfiguration";
    get_object_retention(GetObjectRetentionInput) -> GetObjectRetentionOutput as "GetObjectRetention";
    get_object_tagging(GetObjectTaggingInput) -> GetObjectTaggingOutput as "GetObjectTagging";
    get_public_access_block(GetPublicAccessBlockInput) -> GetPublicAccessBlockOutput as "GetPublicAccessBlock";
    head_bucket(HeadBucketInput) -> HeadBucketOutput as "HeadBucket";
    head_object(HeadObjectInput) -> HeadObjectOutput as "HeadObject";
    list_bucket_analytics_configurations(ListBucketAnalyticsConfigurationsInput) -> ListBucketAnalyticsConfigurationsOutput as "ListBucketAnalyticsConfigurations";
    list_bucket_intelligent_tiering_configurations(ListBucketIntelligentTieringConfigurationsInput) -> ListBucketIntelligentTieringConfigurationsOutput as "ListBucketIntelligentTieringConfigurations";
    list_bucket_inventory_configurations(ListBucketInventoryConfigurationsInput) -> ListBucketInventoryConfigurationsOutput as "ListBucketInventoryConfigurations";
    list_bucket_metrics_configurations(ListBucketMetricsConfigurationsInput) -> ListBucketMetricsConfigurationsOutput as "ListBucketMetricsConfigurations";
    list_buckets(ListBucketsInput) -> ListBucketsOutput as "ListBuckets";
    list_multipart_uploads(ListMultipartUploadsInput) -> ListMultipartUploadsOutput as "ListMultipartUploads";
    list_object_versions(ListObjectVersionsInput) -> ListObjectVersionsOutput as "ListObjectVersions";
    list_objects(ListObjectsInput) -> ListObjectsOutput as "ListObjects";
    list_objects_v2(ListObjectsV2Input) -> ListObjectsV2Output as "ListObjectsV2";
    list_parts(ListPartsInput) -> ListPartsOutput as "ListParts";
    put_bucket_versioning(PutBucketVersioningInput) -> PutBucketVersioningOutput as "PutBucketVersioning";
    put_object(PutObjectInput) -> PutObjectOutput as "PutObject";
    upload_part(UploadPartInput) -> UploadPartOutput as "UploadPart";
    upload_part_copy(UploadPartCopyInput) -> UploadPartCopyOutput as "UploadPartCopy";
}

//! Reads of configuration that nobody can set here: they answer as AWS does for what is not set.

use http::StatusCode;
use s3s::dto::{
    GetBucketAccelerateConfigurationInput, GetBucketAccelerateConfigurationOutput, GetBucketAclInput,
    GetBucketAclOutput, GetBucketAnalyticsConfigurationInput, GetBucketAnalyticsConfigurationOutput,
    GetBucketCorsInput, GetBucketCorsOutput, GetBucketEncryptionInput, GetBucketEncryptionOutput,
    GetBucketIntelligentTieringConfigurationInput, GetBucketIntelligentTieringConfigurationOutput,
    GetBucketInventoryConfigurationInput, GetBucketInventoryConfigurationOutput, GetBucketLifecycleConfigurationInput,
    GetBucketLifecycleConfigurationOutput, GetBucketLoggingInput, GetBucketLoggingOutput,
    GetBucketMetricsConfigurationInput, GetBucketMetricsConfigurationOutput, GetBucketNotificationConfigurationInput,
    GetBucketNotificationConfigurationOutput, GetBucketOwnershipControlsInput, GetBucketOwnershipControlsOutput,
    GetBucketPolicyInput, GetBucketPolicyOutput, GetBucketPolicyStatusInput, GetBucketPolicyStatusOutput,
    GetBucketReplicationInput, GetBucketReplicationOutput, GetBucketRequestPaymentInput, GetBucketRequestPaymentOutput,
    GetBucketTaggingInput, GetBucketTaggingOutput, GetBucketWebsiteInput, GetBucketWebsiteOutput, GetObjectAclInput,
    GetObjectAclOutput, GetObjectLegalHoldInput, GetObjectLegalHoldOutput, GetObjectLockConfigurationInput,
    GetObjectLockConfigurationOutput, GetObjectRetentionInput, GetObjectRetentionOutput, GetObjectTaggingInput,
    GetObjectTaggingOutput, GetPublicAccessBlockInput, GetPublicAccessBlockOutput, Grant, Grantee,
    ListBucketAnalyticsConfigurationsInput, ListBucketAnalyticsConfigurationsOutput,
    ListBucketIntelligentTieringConfigurationsInput, ListBucketIntelligentTieringConfigurationsOutput,
    ListBucketInventoryConfigurationsInput, ListBucketInventoryConfigurationsOutput,
    ListBucketMetricsConfigurationsInput, ListBucketMetricsConfigurationsOutput, Payer, Permission, Type,
};
use s3s::{S3Error, S3Request, S3Response, S3Result, s3_error};

use super::Frontend;
use crate::error::custom;

fn no_such_configuration() -> S3Error {
    custom("NoSuchConfiguration", StatusCode::NOT_FOUND, "The specified configuration does not exist.")
}

fn no_encryption() -> S3Error {
    let code = "ServerSideEncryptionConfigurationNotFoundError";
    custom(code, StatusCode::NOT_FOUND, "The server side encryption configuration was not found")
}

fn no_public_access_block() -> S3Error {
    let code = "NoSuchPublicAccessBlockConfiguration";
    custom(code, StatusCode::NOT_FOUND, "The public access block configuration was not found")
}

fn no_object_lock() -> S3Error {
    s3_error!(InvalidRequest, "Bucket is missing Object Lock Configuration")
}

/// Reads of a bucket's configuration that answer an error, or an empty document.
macro_rules! unset {
    ($($method:ident($input:ident) -> $output:ident = $answer:expr;)*) => {
        impl Frontend {
            $(pub(super) async fn $method(&self, request: S3Request<$input>) -> S3Result<S3Response<$output>> {
                self.read_bucket(&request.input.bucket).await?;
                let answer: S3Result<$output> = $answer;
                answer.map(S3Response::new)
            })*
        }
    };
}

unset! {
    get_bucket_accelerate_configuration(GetBucketAccelerateConfigurationInput) -> GetBucketAccelerateConfigurationOutput = Ok(Default::default());
    get_bucket_analytics_configuration(GetBucketAnalyticsConfigurationInput) -> GetBucketAnalyticsConfigurationOutput = Err(no_such_configuration());
    get_bucket_cors(GetBucketCorsInput) -> GetBucketCorsOutput = Err(s3_error!(NoSuchCORSConfiguration));
    get_bucket_encryption(GetBucketEncryptionInput) -> GetBucketEncryptionOutput = Err(no_encryption());
    get_bucket_intelligent_tiering_configuration(GetBucketIntelligentTieringConfigurationInput) -> GetBucketIntelligentTieringConfigurationOutput = Err(no_such_configuration());
    get_bucket_inventory_configuration(GetBucketInventoryConfigurationInput) -> GetBucketInventoryConfigurationOutput = Err(no_such_configuration());
    get_bucket_lifecycle_configuration(GetBucketLifecycleConfigurationInput) -> GetBucketLifecycleConfigurationOutput = Err(s3_error!(NoSuchLifecycleConfiguration));
    get_bucket_logging(GetBucketLoggingInput) -> GetBucketLoggingOutput = Ok(Default::default());
    get_bucket_metrics_configuration(GetBucketMetricsConfigurationInput) -> GetBucketMetricsConfigurationOutput = Err(no_such_configuration());
    get_bucket_notification_configuration(GetBucketNotificationConfigurationInput) -> GetBucketNotificationConfigurationOutput = Ok(Default::default());
    get_bucket_ownership_controls(GetBucketOwnershipControlsInput) -> GetBucketOwnershipControlsOutput = Err(s3_error!(OwnershipControlsNotFoundError));
    get_bucket_policy(GetBucketPolicyInput) -> GetBucketPolicyOutput = Err(s3_error!(NoSuchBucketPolicy));
    get_bucket_policy_status(GetBucketPolicyStatusInput) -> GetBucketPolicyStatusOutput = Err(s3_error!(NoSuchBucketPolicy));
    get_bucket_replication(GetBucketReplicationInput) -> GetBucketReplicationOutput = Err(s3_error!(ReplicationConfigurationNotFoundError));
    get_bucket_request_payment(GetBucketRequestPaymentInput) -> GetBucketRequestPaymentOutput = Ok(GetBucketRequestPaymentOutput { payer: Some(Payer::from_static(Payer::BUCKET_OWNER)) });
    get_bucket_tagging(GetBucketTaggingInput) -> GetBucketTaggingOutput = Err(s3_error!(NoSuchTagSet));
    get_bucket_website(GetBucketWebsiteInput) -> GetBucketWebsiteOutput = Err(s3_error!(NoSuchWebsiteConfiguration));
    get_object_lock_configuration(GetObjectLockConfigurationInput) -> GetObjectLockConfigurationOutput = Err(s3_error!(ObjectLockConfigurationNotFoundError));
    get_public_access_block(GetPublicAccessBlockInput) -> GetPublicAccessBlockOutput = Err(no_public_access_block());
    list_bucket_analytics_configurations(ListBucketAnalyticsConfigurationsInput) -> ListBucketAnalyticsConfigurationsOutput = Ok(ListBucketAnalyticsConfigurationsOutput { is_truncated: Some(false), ..Default::default() });
    list_bucket_intelligent_tiering_configurations(ListBucketIntelligentTieringConfigurationsInput) -> ListBucketIntelligentTieringConfigurationsOutput = Ok(ListBucketIntelligentTieringConfigurationsOutput { is_truncated: Some(false), ..Default::default() });
    list_bucket_inventory_configurations(ListBucketInventoryConfigurationsInput) -> ListBucketInventoryConfigurationsOutput = Ok(ListBucketInventoryConfigurationsOutput { is_truncated: Some(false), ..Default::default() });
    list_bucket_metrics_configurations(ListBucketMetricsConfigurationsInput) -> ListBucketMetricsConfigurationsOutput = Ok(ListBucketMetricsConfigurationsOutput { is_truncated: Some(false), ..Default::default() });
}

impl Frontend {
    pub(super) async fn get_bucket_acl(
        &self,
        request: S3Request<GetBucketAclInput>,
    ) -> S3Result<S3Response<GetBucketAclOutput>> {
        self.read_bucket(&request.input.bucket).await?;
        Ok(S3Response::new(GetBucketAclOutput { grants: Some(vec![self.owner_grant()]), owner: Some(self.owner()) }))
    }

    pub(super) async fn get_object_acl(
        &self,
        request: S3Request<GetObjectAclInput>,
    ) -> S3Result<S3Response<GetObjectAclOutput>> {
        let input = request.input;
        self.find(&input.bucket, &input.key, input.version_id.as_deref()).await?;
        let grants = Some(vec![self.owner_grant()]);
        Ok(S3Response::new(GetObjectAclOutput { grants, owner: Some(self.owner()), ..Default::default() }))
    }

    pub(super) async fn get_object_tagging(
        &self,
        request: S3Request<GetObjectTaggingInput>,
    ) -> S3Result<S3Response<GetObjectTaggingOutput>> {
        let input = request.input;
        let object = self.find(&input.bucket, &input.key, input.version_id.as_deref()).await?;
        let version_id = object.row.version_id().map(types::OrderKey::to_hex);
        Ok(S3Response::new(GetObjectTaggingOutput { tag_set: Vec::new(), version_id }))
    }

    pub(super) async fn get_object_retention(
        &self,
        request: S3Request<GetObjectRetentionInput>,
    ) -> S3Result<S3Response<GetObjectRetentionOutput>> {
        let input = request.input;
        self.find(&input.bucket, &input.key, input.version_id.as_deref()).await?;
        Err(no_object_lock())
    }

    pub(super) async fn get_object_legal_hold(
        &self,
        request: S3Request<GetObjectLegalHoldInput>,
    ) -> S3Result<S3Response<GetObjectLegalHoldOutput>> {
        let input = request.input;
        self.find(&input.bucket, &input.key, input.version_id.as_deref()).await?;
        Err(no_object_lock())
    }

    fn owner_grant(&self) -> Grant {
        let owner = self.owner();
        Grant {
            grantee: Some(Grantee {
                display_name: owner.display_name,
                email_address: None,
                id: owner.id,
                type_: Type::from_static(Type::CANONICAL_USER),
                uri: None,
            }),
            permission: Some(Permission::from_static(Permission::FULL_CONTROL)),
        }
    }
}

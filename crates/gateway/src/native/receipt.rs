//! The receipt of an object version: proof that its entry is in the log, with the side record.

use std::time::Duration;

use http::StatusCode;
use ledger::policy::Policy;
use ledger::receipt::{Proof, Receipt, ReceiptFile};
use s3s::{Body, S3Response, S3Result, s3_error};

use super::{NativeRoutes, decode, proof, text};
use crate::error;
use crate::s3::version_selector;

/// How long a receipt is waited for while its entry is not in the log yet.
const SEAL_TIMEOUT: Duration = Duration::from_secs(10);

impl NativeRoutes {
    /// `object` is `bucket/key` as it stands in the path. A key that makes the path longer than S3's limit
    /// for keys can be given as `?key=` instead.
    pub(super) async fn receipt(&self, object: &str, query: Option<&str>) -> S3Result<S3Response<Body>> {
        let query: Vec<(String, String)> =
            form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect();
        let parameter = |name: &str| query.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str());
        let (bucket, key) = object.split_once('/').unwrap_or((object, ""));
        let (bucket, path_key) = (decode(bucket)?, decode(key)?);
        let key = parameter("key").unwrap_or(&path_key);
        let version = version_selector(parameter("versionId"))?;
        let node = &self.frontend.node;
        self.frontend.catch_up(&bucket, key).await?;
        let found = node.object(&bucket, key, version).map_err(|error| error::read(&error))?;
        let Some(object) = found else {
            self.frontend.expect_bucket(&bucket).await?;
            return Err(if version.is_some() { s3_error!(NoSuchVersion) } else { s3_error!(NoSuchKey) });
        };
        let order = object.row.order;
        if tokio::time::timeout(SEAL_TIMEOUT, node.included(order)).await.is_err() {
            return Err(s3_error!(ServiceUnavailable, "The entry is not in the ledger yet; try again."));
        }
        let inclusion = node.inclusion(order).map_err(|error| proof(&error))?;
        let side = node.side_record(&inclusion).map_err(|error| proof(&error))?;
        let mut receipt = Receipt::new(Proof::Included(inclusion.proof));
        receipt.side = Some(side);
        let policy = Policy::from_bytes(node.policy().as_bytes()).ok();
        let file = ReceiptFile { receipt, untrusted_policy: policy };
        let file = file.to_text().map_err(|error| {
            tracing::error!(%error, "a receipt could not be made");
            s3_error!(InternalError)
        })?;
        let mut answer = text(file.into_bytes());
        answer.status = Some(StatusCode::OK);
        Ok(answer)
    }
}

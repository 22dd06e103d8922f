//! DeleteObject and DeleteObjects.

use s3s::dto::{
    DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, DeletedObject, ETag, Error,
    ObjectIdentifier,
};
use s3s::{S3Error, S3Request, S3Response, S3Result, s3_error};
use types::command::{Condition, DeleteItem, DeleteObjects, EtagMatch};
use types::limits::{DELETE_ITEMS_MAX, KEY_LEN_MAX};
use types::outcome::DeleteResult;
use types::{Op, Outcome};

use super::conditions::{etag_match, unix_secs};
use super::{Call, Frontend, unexpected, version_selector, version_text};
use crate::error;

impl Frontend {
    pub(super) async fn delete_object(
        &self,
        mut request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let call = Call::of(&mut request)?;
        let input = request.input;
        let condition = Condition {
            if_match: input.if_match.as_ref().map(etag_match),
            if_size: input.if_match_size.map(size).transpose()?,
            if_modified_at: input.if_match_last_modified_time.as_ref().map(unix_secs),
            ..Condition::default()
        };
        let version = version_selector(input.version_id.as_deref())?;
        let item = DeleteItem { key: input.key, version, condition };
        let op = Op::DeleteObjects(DeleteObjects { bucket: input.bucket, items: vec![item] });
        let (outcome, headers) = self.write(&call, op).await?;
        let Outcome::Deleted(results) = &outcome else { return Err(unexpected(&outcome)) };
        let [result] = results.as_slice() else { return Err(unexpected(&outcome)) };
        if let Some(refused) = &result.refused {
            let mut answer = error::refusal(refused);
            answer.set_headers(headers);
            return Err(answer);
        }
        let output = DeleteObjectOutput {
            delete_marker: (result.marker.is_some() || result.removed_marker).then_some(true),
            version_id: version_text(
                result.marker.or(result.removed).filter(|_| !result.null_version),
                result.null_version,
            ),
            request_charged: None,
        };
        Ok(S3Response::with_headers(output, headers))
    }

    pub(super) async fn delete_objects(
        &self,
        mut request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let call = Call::of(&mut request)?;
        let input = request.input;
        let named = input.delete.objects;
        if named.is_empty() || named.len() > DELETE_ITEMS_MAX {
            return Err(s3_error!(MalformedXML));
        }
        self.expect_bucket(&input.bucket).await?;
        let mut errors = Vec::new();
        let mut items = Vec::with_capacity(named.len());
        let mut asked = Vec::with_capacity(named.len());
        for object in named {
            match item(&object) {
                Ok(item) => {
                    items.push(item);
                    asked.push(object);
                }
                Err(refused) => errors.push(failed(&object, &refused)),
            }
        }
        let mut output = DeleteObjectsOutput::default();
        let mut headers = http::HeaderMap::new();
        if !items.is_empty() {
            let op = Op::DeleteObjects(DeleteObjects { bucket: input.bucket, items });
            let (outcome, evidence) = self.write(&call, op).await?;
            headers = evidence;
            let Outcome::Deleted(results) = outcome else { return Err(unexpected(&outcome)) };
            let quiet = input.delete.quiet.unwrap_or(false);
            let mut deleted = Vec::new();
            for (object, result) in asked.into_iter().zip(results) {
                match &result.refused {
                    Some(refused) => errors.push(failed(&object, &error::refusal(refused))),
                    None if quiet => {}
                    None => deleted.push(done(object, &result)),
                }
            }
            output.deleted = Some(deleted);
        }
        output.errors = Some(errors);
        Ok(S3Response::with_headers(output, headers))
    }
}

fn size(size: i64) -> S3Result<u64> {
    u64::try_from(size).map_err(|_| s3_error!(InvalidArgument, "The size is negative."))
}

fn any_or_tag(tag: &ETag) -> EtagMatch {
    match tag.value() {
        "*" => EtagMatch::Any,
        value => EtagMatch::OneOf(vec![value.to_owned()]),
    }
}

fn item(object: &ObjectIdentifier) -> S3Result<DeleteItem> {
    if object.key.is_empty() {
        return Err(s3_error!(UserKeyMustBeSpecified, "The key is empty."));
    }
    if object.key.len() > KEY_LEN_MAX {
        return Err(s3_error!(KeyTooLongError, "Your key is too long"));
    }
    let version = object.version_id.as_deref().filter(|version| !version.is_empty());
    let version =
        version_selector(version).map_err(|_| s3_error!(NoSuchVersion, "The specified version does not exist."))?;
    let condition = Condition {
        if_match: object.e_tag.as_ref().map(any_or_tag),
        if_size: object.size.map(size).transpose()?,
        if_modified_at: object.last_modified_time.as_ref().map(unix_secs),
        ..Condition::default()
    };
    Ok(DeleteItem { key: object.key.clone(), version, condition })
}

fn done(object: ObjectIdentifier, result: &DeleteResult) -> DeletedObject {
    let marker = result.marker.is_some() || result.removed_marker;
    let marker_version = if marker {
        version_text(result.marker.or(result.removed).filter(|_| !result.null_version), result.null_version)
    } else {
        None
    };
    DeletedObject {
        delete_marker: marker.then_some(true),
        delete_marker_version_id: marker_version,
        version_id: object.version_id.filter(|version| !version.is_empty()),
        key: Some(object.key),
    }
}

fn failed(object: &ObjectIdentifier, error: &S3Error) -> Error {
    let code = error.code().as_str();
    Error {
        code: Some(code.to_owned()),
        key: Some(object.key.clone()),
        message: Some(error.message().unwrap_or_else(|| error::default_message(code)).to_owned()),
        version_id: object.version_id.clone(),
    }
}

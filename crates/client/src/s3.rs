//! The S3 calls that the command line needs, path style.

use bytes::Bytes;
use http::Method;

use crate::{Client, Error, Request, Response};

/// Answer of a PUT.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Put {
    /// The ETag, with its quotes.
    pub etag: String,
    /// The version id; empty in an unversioned bucket.
    pub version_id: String,
    /// The commit receipt (`x-entangle-receipt`); empty if the node gives none.
    pub receipt: String,
}

impl Client {
    /// Makes a bucket.
    pub async fn create_bucket(&self, bucket: &str) -> Result<(), Error> {
        self.send_ok(Request::new(Method::PUT, format!("/{bucket}"))).await?.bytes(1 << 16).await?;
        Ok(())
    }

    /// Writes an object in one request.
    pub async fn put_object(&self, bucket: &str, key: &str, body: impl Into<Bytes>) -> Result<Put, Error> {
        let request = Request::new(Method::PUT, format!("/{bucket}/{key}")).body(body);
        let response = self.send_ok(request).await?;
        let put = Put {
            etag: response.header("etag").to_owned(),
            version_id: response.header("x-amz-version-id").to_owned(),
            receipt: response.header("x-entangle-receipt").to_owned(),
        };
        response.bytes(1 << 16).await?;
        Ok(put)
    }

    /// Reads an object; its body streams.
    pub async fn open_object(&self, bucket: &str, key: &str) -> Result<Response, Error> {
        self.send_ok(Request::new(Method::GET, format!("/{bucket}/{key}"))).await
    }

    /// Reads an object of at most `limit` bytes.
    pub async fn read_object(&self, bucket: &str, key: &str, limit: usize) -> Result<Bytes, Error> {
        self.open_object(bucket, key).await?.bytes(limit).await
    }

    /// Deletes an object.
    pub async fn delete_object(&self, bucket: &str, key: &str) -> Result<(), Error> {
        self.send_ok(Request::new(Method::DELETE, format!("/{bucket}/{key}"))).await?.bytes(1 << 16).await?;
        Ok(())
    }

    /// A URL with which anyone may read an object for a while; `None` without credentials.
    #[must_use]
    pub fn presign_read(&self, bucket: &str, key: &str, expiry_seconds: u32) -> Option<String> {
        self.presign(&Method::GET, &format!("/{bucket}/{key}"), &[], expiry_seconds)
    }
}

//! Access keys: list, add, remove.

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use http::StatusCode;
use node::Secret;
use s3s::{Body, S3Request, S3Response, S3Result, s3_error};
use serde::{Deserialize, Serialize};
use types::Outcome;

use super::{NativeRoutes, document, json};
use crate::context::RequestContext;
use crate::error;

/// Bytes of an access key id and of a secret that the node makes up.
const ACCESS_KEY_LEN: usize = 20;
const SECRET_LEN: usize = 40;
/// Bytes of a description.
const DESCRIPTION_LEN_MAX: usize = 256;

/// An access key to be; what is left out is made up.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewKey {
    access_key: Option<String>,
    secret_key: Option<String>,
    #[serde(default)]
    description: String,
}

#[derive(Serialize)]
struct AddedKey<'a> {
    access_key: &'a str,
    secret_key: &'a str,
    description: &'a str,
}

#[derive(Serialize)]
struct ListedKey {
    access_key: String,
    description: String,
    created_ms: u64,
}

#[derive(Serialize)]
struct Keys {
    keys: Vec<ListedKey>,
}

impl NativeRoutes {
    pub(super) fn list_keys(&self) -> S3Result<S3Response<Body>> {
        let rows = self.frontend.node.access_keys().map_err(|error| error::read(&error))?;
        let keys = rows
            .into_iter()
            .map(|(access_key, row)| ListedKey {
                access_key,
                description: row.description,
                created_ms: row.order.timestamp.unix_ms(),
            })
            .collect();
        json(StatusCode::OK, &Keys { keys })
    }

    pub(super) async fn add_key(
        &self,
        context: &RequestContext,
        mut request: S3Request<Body>,
    ) -> S3Result<S3Response<Body>> {
        let new: Option<NewKey> = document(context, &mut request, "access key").await?;
        let new = new.unwrap_or_default();
        let access_key = match new.access_key {
            Some(access_key) => checked_access_key(access_key)?,
            None => random_text(ACCESS_KEY_LEN, b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")?,
        };
        let secret_key = match new.secret_key {
            Some(secret_key) => checked_secret(secret_key)?,
            None => random_text(SECRET_LEN, b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")?,
        };
        if new.description.len() > DESCRIPTION_LEN_MAX {
            return Err(s3_error!(InvalidArgument, "The description is longer than {DESCRIPTION_LEN_MAX} bytes."));
        }
        let secret = Secret::new(secret_key.clone());
        let node = &self.frontend.node;
        let outcome = node.put_access_key(principal(&request), &access_key, &secret, &new.description).await;
        self.secrets.forget(&access_key);
        accept(&outcome.map_err(|error| error::write(&error))?)?;
        let added = AddedKey { access_key: &access_key, secret_key: &secret_key, description: &new.description };
        json(StatusCode::CREATED, &added)
    }

    pub(super) async fn remove_key(&self, access_key: &str, request: &S3Request<Body>) -> S3Result<S3Response<Body>> {
        let outcome = self.frontend.node.delete_access_key(principal(request), access_key).await;
        self.secrets.forget(access_key);
        accept(&outcome.map_err(|error| error::write(&error))?)?;
        Ok(S3Response::with_status(Body::empty(), StatusCode::NO_CONTENT))
    }
}

pub(super) fn principal(request: &S3Request<Body>) -> &str {
    request.credentials.as_ref().map_or("", |credentials| &credentials.access_key)
}

fn accept(outcome: &Outcome) -> S3Result<()> {
    match outcome {
        Outcome::Refused(refusal) => Err(error::refusal(refusal)),
        _ => Ok(()),
    }
}

fn checked_access_key(text: String) -> S3Result<String> {
    let fine = (3..=128).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    fine.then_some(text).ok_or_else(|| {
        s3_error!(InvalidArgument, "An access key id has 3 to 128 characters: letters, digits, '.', '_' and '-'.")
    })
}

fn checked_secret(text: String) -> S3Result<String> {
    let fine = (8..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    fine.then_some(text)
        .ok_or_else(|| s3_error!(InvalidArgument, "A secret has 8 to 128 printable ASCII characters and no space."))
}

/// `alphabet` has a power of two many characters, so that none is likelier than another.
fn random_text(len: usize, alphabet: &[u8]) -> S3Result<String> {
    let mut bytes = vec![0; len];
    SystemRandom::new().fill(&mut bytes).map_err(|_| s3_error!(InternalError))?;
    Ok(bytes.iter().map(|byte| char::from(alphabet[usize::from(*byte) % alphabet.len()])).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_checked() {
        assert!(checked_access_key("AKID.test_1-x".to_owned()).is_ok());
        for bad in ["ab", "with space", "slash/", "ümlaut", &"a".repeat(129)] {
            assert!(checked_access_key(bad.to_owned()).is_err(), "{bad}");
        }
        assert!(checked_secret("pa$$w0rd/+=".to_owned()).is_ok());
        for bad in ["short", "with space", "tab\tttttt", &"a".repeat(129)] {
            assert!(checked_secret(bad.to_owned()).is_err(), "{bad}");
        }
        let made = random_text(40, b"abcdefgh").unwrap();
        assert_eq!(made.len(), 40);
        assert_ne!(made, random_text(40, b"abcdefgh").unwrap());
    }
}

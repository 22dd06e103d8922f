//! The native routes of a node, under `/_entangle/v1/`.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::{Client, Error, Request};

/// Bytes of a native answer that are read at most; a tile or an entry bundle is far shorter.
const ANSWER_LEN_MAX: usize = 16 * 1024 * 1024;
const ROOT: &str = "/_entangle/v1";

/// An access key as a node lists it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccessKey {
    /// The access key id.
    pub access_key: String,
    /// A note for people.
    pub description: String,
}

/// An access key to be; what is left out the node makes up.
#[derive(Clone, Default)]
pub struct AccessKeyRequest {
    /// The access key id.
    pub access_key: Option<String>,
    /// Its secret.
    pub secret_key: Option<Zeroizing<String>>,
    /// A note for people.
    pub description: String,
}

impl Client {
    /// What the node says of itself.
    pub async fn status(&self) -> Result<Value, Error> {
        self.json(Request::new(Method::GET, format!("{ROOT}/status"))).await
    }

    /// The receipt of an object version (`None`: the current one).
    pub async fn receipt(&self, bucket: &str, key: &str, version_id: Option<&str>) -> Result<Bytes, Error> {
        let mut request = Request::new(Method::GET, format!("{ROOT}/receipt/{bucket}/{key}"));
        if let Some(version_id) = version_id {
            request = request.query("versionId", version_id);
        }
        self.read(request).await
    }

    /// The signed checkpoint of the ledger.
    pub async fn checkpoint(&self) -> Result<Bytes, Error> {
        self.read(Request::new(Method::GET, format!("{ROOT}/checkpoint"))).await
    }

    /// A tile or an entry bundle, by its tlog-tiles path (`tile/0/000`).
    pub async fn tile(&self, path: &str) -> Result<Bytes, Error> {
        self.read(Request::new(Method::GET, format!("{ROOT}/{path}"))).await
    }

    /// The cluster's policy: what a verifier must know of it.
    pub async fn policy(&self) -> Result<Bytes, Error> {
        self.read(Request::new(Method::GET, format!("{ROOT}/policy"))).await
    }

    /// All access keys, without their secrets.
    pub async fn access_keys(&self) -> Result<Vec<AccessKey>, Error> {
        let answer = self.json(Request::new(Method::GET, format!("{ROOT}/keys"))).await?;
        let keys = answer.get("keys").and_then(Value::as_array);
        let keys = keys.ok_or_else(|| Error::Unexpected("the list of keys holds no `keys`".to_owned()))?;
        Ok(keys
            .iter()
            .map(|key| AccessKey { access_key: text_of(key, "access_key"), description: text_of(key, "description") })
            .collect())
    }

    /// Adds an access key; gives its id and its secret.
    pub async fn add_access_key(&self, request: AccessKeyRequest) -> Result<crate::Credentials, Error> {
        let mut body = json!({ "description": request.description });
        if let Some(access_key) = request.access_key {
            body["access_key"] = Value::String(access_key);
        }
        if let Some(secret_key) = request.secret_key {
            body["secret_key"] = Value::String(secret_key.to_string());
        }
        let request = Request::new(Method::POST, format!("{ROOT}/keys"))
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .body(body.to_string());
        let answer = self.json(request).await?;
        let (access_key, secret_key) = (text_of(&answer, "access_key"), text_of(&answer, "secret_key"));
        if access_key.is_empty() || secret_key.is_empty() {
            return Err(Error::Unexpected("the new key has no id or no secret".to_owned()));
        }
        Ok(crate::Credentials::new(access_key, secret_key))
    }

    /// Removes an access key.
    pub async fn remove_access_key(&self, access_key: &str) -> Result<(), Error> {
        self.read(Request::new(Method::DELETE, format!("{ROOT}/keys/{access_key}"))).await?;
        Ok(())
    }

    /// The members of the group, and the nodes of the cluster.
    pub async fn members(&self) -> Result<Value, Error> {
        self.json(Request::new(Method::GET, format!("{ROOT}/members"))).await
    }

    /// What is said of zones.
    pub async fn zones(&self) -> Result<Value, Error> {
        self.json(Request::new(Method::GET, format!("{ROOT}/zones"))).await
    }

    /// Says who is to hold the lease of a zone, and where its writes are at home: `{"zone": prefix, "leases": "everyone",
    /// "nobody" or nodes, "home": node or null}`. Gives what [`Client::zones`] does.
    pub async fn put_zone(&self, zone: &Value) -> Result<Value, Error> {
        let request = Request::new(Method::POST, format!("{ROOT}/zones"))
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .body(zone.to_string());
        self.json(request).await
    }

    /// Changes the members: `{"add": node}`, `{"remove": node}`, `{"replace": [old, new]}`, `{"faults": number}` or
    /// `{"upgrade": true}`. Gives
    /// them as they are then.
    pub async fn change_members(&self, change: &Value) -> Result<Value, Error> {
        let request = Request::new(Method::POST, format!("{ROOT}/members"))
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .body(change.to_string());
        self.json(request).await
    }

    async fn read(&self, request: Request) -> Result<Bytes, Error> {
        self.send_ok(request).await?.bytes(ANSWER_LEN_MAX).await
    }

    async fn json(&self, request: Request) -> Result<Value, Error> {
        let body = self.read(request).await?;
        serde_json::from_slice(&body).map_err(|error| Error::Unexpected(format!("no JSON: {error}")))
    }
}

fn text_of(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

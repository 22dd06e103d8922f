//! AWS Signature Version 4, in headers and in a presigned URL. Time is an argument.
//!
//! Source: "Authenticating Requests (AWS Signature Version 4)", Amazon S3 API Reference; its examples are the
//! tests here.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::{digest, hmac};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::Credentials;
use crate::encoding::{encode_path, encode_query};

/// A presigned URL may live this long: 7 days, the limit of S3.
pub const PRESIGN_EXPIRY_SECONDS_MAX: u32 = 7 * 24 * 60 * 60;

/// What stands in place of the payload's digest when it is not signed.
pub(crate) const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";
const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const SERVICE: &str = "s3";

/// A moment as SigV4 writes it: `20130524T000000Z`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignTime(String);

impl SignTime {
    /// The moment so many seconds after the Unix epoch.
    #[must_use]
    pub fn from_unix_seconds(seconds: u64) -> Self {
        let (days, second) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = civil_from_days(days);
        Self(format!("{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z", second / 3600, second / 60 % 60, second % 60))
    }

    /// Now, by the system's clock.
    #[must_use]
    pub fn now() -> Self {
        let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::from_unix_seconds(elapsed.as_secs())
    }

    fn date(&self) -> &str {
        &self.0[..8]
    }
}

/// Days since the epoch to a date of the Gregorian calendar (Howard Hinnant, "chrono-Compatible Low-Level
/// Date Algorithms").
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let era = z / 146_097;
    let day_of_era = z % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

/// What a signature covers besides headers and payload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    pub(crate) method: &'a Method,
    /// Raw, not percent-encoded.
    pub(crate) path: &'a str,
    /// Raw, not percent-encoded.
    pub(crate) query: &'a [(String, String)],
}

/// Signs with one key for one region.
#[derive(Clone, Debug)]
pub struct Signer {
    credentials: Credentials,
    region: String,
}

impl Signer {
    /// A signer for a region; Entangle accepts any.
    #[must_use]
    pub fn new(credentials: Credentials, region: impl Into<String>) -> Self {
        Self { credentials, region: region.into() }
    }

    /// Who signs.
    #[must_use]
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Adds `x-amz-date`, `x-amz-content-sha256` and `authorization`. Every header in `headers` is signed, so
    /// what a proxy may change goes in afterwards. `host` must be among them.
    pub(crate) fn sign_headers(
        &self,
        target: Target<'_>,
        headers: &mut HeaderMap,
        payload_hash: &str,
        time: &SignTime,
    ) -> Result<(), http::header::InvalidHeaderValue> {
        headers.insert("x-amz-date", HeaderValue::from_str(&time.0)?);
        headers.insert("x-amz-content-sha256", HeaderValue::from_str(payload_hash)?);
        let (canonical, signed) = canonical_headers(headers);
        let signature = self.signature(target, &encode_query(target.query), &canonical, &signed, payload_hash, time);
        let mut value = HeaderValue::from_str(&format!(
            "{ALGORITHM} Credential={}/{},SignedHeaders={signed},Signature={signature}",
            self.credentials.access_key(),
            self.scope(time)
        ))?;
        value.set_sensitive(true);
        headers.insert(http::header::AUTHORIZATION, value);
        Ok(())
    }

    /// The query of a presigned URL, encoded: its own pairs and the signature. Only `host` is signed.
    pub(crate) fn presign_query(&self, target: Target<'_>, host: &str, expiry_seconds: u32, time: &SignTime) -> String {
        let expiry = expiry_seconds.clamp(1, PRESIGN_EXPIRY_SECONDS_MAX);
        let mut pairs = target.query.to_vec();
        pairs.push(("X-Amz-Algorithm".into(), ALGORITHM.into()));
        pairs.push(("X-Amz-Credential".into(), format!("{}/{}", self.credentials.access_key(), self.scope(time))));
        pairs.push(("X-Amz-Date".into(), time.0.clone()));
        pairs.push(("X-Amz-Expires".into(), expiry.to_string()));
        pairs.push(("X-Amz-SignedHeaders".into(), "host".into()));
        let query = encode_query(&pairs);
        let signature = self.signature(target, &query, &format!("host:{host}\n"), "host", UNSIGNED_PAYLOAD, time);
        format!("{query}&X-Amz-Signature={signature}")
    }

    fn scope(&self, time: &SignTime) -> String {
        format!("{}/{}/{SERVICE}/aws4_request", time.date(), self.region)
    }

    fn signature(
        &self,
        target: Target<'_>,
        query: &str,
        canonical_headers: &str,
        signed_headers: &str,
        payload_hash: &str,
        time: &SignTime,
    ) -> String {
        let request = format!(
            "{}\n{}\n{query}\n{canonical_headers}\n{signed_headers}\n{payload_hash}",
            target.method,
            encode_path(target.path)
        );
        let to_sign = format!("{ALGORITHM}\n{}\n{}\n{}", time.0, self.scope(time), sha256_hex(request.as_bytes()));
        let mut key = hmac_sha256(format!("AWS4{}", self.credentials.secret_key()).as_bytes(), time.date());
        for part in [self.region.as_str(), SERVICE, "aws4_request"] {
            key = hmac_sha256(key.as_ref(), part);
        }
        hex::encode(hmac_sha256(key.as_ref(), &to_sign))
    }
}

/// Lower-case hex SHA-256.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, bytes))
}

fn hmac_sha256(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

/// Canonical headers and the list of their names, both sorted.
fn canonical_headers(headers: &HeaderMap) -> (String, String) {
    let mut names: Vec<&HeaderName> = headers.keys().filter(|name| *name != http::header::AUTHORIZATION).collect();
    names.sort_by_key(|name| name.as_str());
    let (mut canonical, mut signed) = (String::new(), String::new());
    for name in names {
        let values: Vec<String> = headers
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()).split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        let _ = writeln!(canonical, "{name}:{}", values.join(","));
        if !signed.is_empty() {
            signed.push(';');
        }
        signed.push_str(name.as_str());
    }
    (canonical, signed)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const HOST: &str = "examplebucket.s3.amazonaws.com";

    fn signer() -> Signer {
        let credentials = Credentials::new("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY");
        Signer::new(credentials, "us-east-1")
    }

    fn time() -> SignTime {
        SignTime::from_unix_seconds(1_369_353_600)
    }

    fn pairs(query: &[(&str, &str)]) -> Vec<(String, String)> {
        query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn signature(method: &Method, path: &str, query: &[(&str, &str)], headers: &[(&str, &str)], body: &[u8]) -> String {
        let mut map = HeaderMap::new();
        map.insert("host", HeaderValue::from_static(HOST));
        for (name, value) in headers {
            map.insert(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let query = pairs(query);
        let target = Target { method, path, query: &query };
        signer().sign_headers(target, &mut map, &sha256_hex(body), &time()).unwrap();
        let header = map["authorization"].to_str().unwrap().to_owned();
        header.rsplit_once("Signature=").unwrap().1.to_owned()
    }

    #[test]
    fn times_are_written_as_aws_writes_them() {
        assert_eq!(time().0, "20130524T000000Z");
        assert_eq!(SignTime::from_unix_seconds(0).0, "19700101T000000Z");
        assert_eq!(SignTime::from_unix_seconds(951_782_399).0, "20000228T235959Z");
        assert_eq!(SignTime::from_unix_seconds(951_782_400).0, "20000229T000000Z");
        assert_eq!(SignTime::from_unix_seconds(4_107_542_399).0, "21000228T235959Z");
        assert_eq!(SignTime::from_unix_seconds(4_107_542_400).0, "21000301T000000Z");
    }

    #[test]
    fn example_get_object() {
        let got = signature(&Method::GET, "/test.txt", &[], &[("range", "bytes=0-9")], b"");
        assert_eq!(got, "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
    }

    #[test]
    fn example_put_object() {
        let headers = [("date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-storage-class", "REDUCED_REDUNDANCY")];
        let got = signature(&Method::PUT, "/test$file.text", &[], &headers, b"Welcome to Amazon S3.");
        assert_eq!(got, "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
    }

    #[test]
    fn example_get_lifecycle() {
        let got = signature(&Method::GET, "/", &[("lifecycle", "")], &[], b"");
        assert_eq!(got, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
    }

    #[test]
    fn example_list_objects() {
        let got = signature(&Method::GET, "/", &[("prefix", "J"), ("max-keys", "2")], &[], b"");
        assert_eq!(got, "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
    }

    #[test]
    fn example_presigned_get() {
        let target = Target { method: &Method::GET, path: "/test.txt", query: &[] };
        let query = signer().presign_query(target, HOST, 86_400, &time());
        let (rest, signature) = query.rsplit_once("&X-Amz-Signature=").unwrap();
        assert_eq!(signature, "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404");
        assert!(rest.contains("X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"));
    }

    #[test]
    fn a_presigned_url_lives_a_week_at_most() {
        let target = Target { method: &Method::GET, path: "/k", query: &[] };
        let query = signer().presign_query(target, HOST, u32::MAX, &time());
        assert!(query.contains("X-Amz-Expires=604800&"), "{query}");
    }
}

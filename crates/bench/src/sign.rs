//! AWS Signature Version 4 in the `Authorization` header, with the day's signing key kept.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;

/// Whether a request's body is under its signature.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Payload {
    /// `UNSIGNED-PAYLOAD`: nobody computes SHA-256 of the body.
    Unsigned,
    /// SHA-256 of the body is computed and signed.
    Signed,
}

/// What is signed, and sent.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a str,
    /// The path, percent-encoded.
    pub path: &'a str,
    /// The query, percent-encoded, its parameters sorted; without `?`.
    pub query: &'a str,
    /// Further headers, all signed; lower-case names, values without blanks at their ends.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body.
    pub body: &'a [u8],
}

/// Signs the requests of one access key to one host.
#[derive(Debug)]
pub struct Signer {
    host: String,
    access_key: String,
    secret_key: String,
    payload: Payload,
    day: String,
    key: Option<hmac::Key>,
}

const REGION: &str = "us-east-1";

impl Signer {
    /// A signer; `host` is what the `Host` header says.
    #[must_use]
    pub fn new(host: &str, access_key: &str, secret_key: &str, payload: Payload) -> Self {
        Self {
            host: host.to_owned(),
            access_key: access_key.to_owned(),
            secret_key: secret_key.to_owned(),
            payload,
            day: String::new(),
            key: None,
        }
    }

    /// Writes request line and headers, signed now, with the empty line that closes them, into `out`.
    pub fn write_head(&mut self, request: &Request<'_>, out: &mut Vec<u8>) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.write_head_at(request, now, out);
    }

    fn write_head_at(&mut self, request: &Request<'_>, unix_secs: u64, out: &mut Vec<u8>) {
        let stamp = iso_basic(unix_secs);
        let payload = match self.payload {
            Payload::Unsigned => "UNSIGNED-PAYLOAD".to_owned(),
            Payload::Signed => hex::encode(digest(&SHA256, request.body)),
        };
        let mut headers: Vec<(&str, &str)> =
            vec![("host", &self.host), ("x-amz-content-sha256", &payload), ("x-amz-date", &stamp)];
        headers.extend_from_slice(request.headers);
        headers.sort_unstable();
        let names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");

        let mut canonical = format!("{}\n{}\n{}\n", request.method, request.path, request.query);
        for (name, value) in &headers {
            let _ = writeln!(canonical, "{name}:{value}");
        }
        let _ = write!(canonical, "\n{names}\n{payload}");

        let day = &stamp[..8];
        let scope = format!("{day}/{REGION}/s3/aws4_request");
        let hashed = hex::encode(digest(&SHA256, canonical.as_bytes()));
        let to_sign = format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashed}");
        let key = signing_key(&mut self.key, &mut self.day, &self.secret_key, day);
        let signature = hex::encode(hmac::sign(key, to_sign.as_bytes()));

        out.extend_from_slice(request.method.as_bytes());
        out.push(b' ');
        out.extend_from_slice(request.path.as_bytes());
        if !request.query.is_empty() {
            out.push(b'?');
            out.extend_from_slice(request.query.as_bytes());
        }
        out.extend_from_slice(b" HTTP/1.1\r\n");
        for (name, value) in &headers {
            for part in [name, ": ", value, "\r\n"] {
                out.extend_from_slice(part.as_bytes());
            }
        }
        let rest = format!(
            "content-length: {}\r\nauthorization: AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, \
             Signature={signature}\r\n\r\n",
            request.body.len(),
            self.access_key
        );
        out.extend_from_slice(rest.as_bytes());
    }
}

/// The key of a day, made anew when the day changes.
fn signing_key<'a>(kept: &'a mut Option<hmac::Key>, kept_day: &mut String, secret: &str, day: &str) -> &'a hmac::Key {
    if kept_day != day {
        *kept = None;
        day.clone_into(kept_day);
    }
    kept.get_or_insert_with(|| {
        let first = hmac::Key::new(hmac::HMAC_SHA256, format!("AWS4{secret}").as_bytes());
        [day, REGION, "s3", "aws4_request"]
            .iter()
            .fold(first, |key, part| hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref()))
    })
}

/// `20130524T000000Z`
fn iso_basic(unix_secs: u64) -> String {
    let (days, of_day) = (unix_secs / 86_400, unix_secs % 86_400);
    let (year, month, day) = civil(days);
    format!("{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z", of_day / 3600, of_day / 60 % 60, of_day % 60)
}

/// Year, month and day of a day since 1970 (Hinnant, `chrono`-Compatible Low-Level Date Algorithms).
fn civil(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let era = z / 146_097;
    let day_of_era = z % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of AWS, "Signature Calculations for the Authorization Header".
    fn signature_of(request: &Request<'_>) -> String {
        let mut signer = Signer::new(
            "examplebucket.s3.amazonaws.com",
            "AKIAIOSFODNN7EXAMPLE",
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            Payload::Signed,
        );
        let mut out = Vec::new();
        signer.write_head_at(request, 1_369_353_600, &mut out);
        let head = String::from_utf8(out).expect("a head is text");
        head.split_once("Signature=").expect("a signature").1.trim_end().to_owned()
    }

    #[test]
    fn signs_as_aws_does() {
        let get =
            Request { method: "GET", path: "/test.txt", query: "", headers: &[("range", "bytes=0-9")], body: b"" };
        assert_eq!(signature_of(&get), "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
        let put = Request {
            method: "PUT",
            path: "/test%24file.text",
            query: "",
            headers: &[("date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-storage-class", "REDUCED_REDUNDANCY")],
            body: b"Welcome to Amazon S3.",
        };
        assert_eq!(signature_of(&put), "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
        let list = Request { method: "GET", path: "/", query: "max-keys=2&prefix=J", headers: &[], body: b"" };
        assert_eq!(signature_of(&list), "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
    }

    #[test]
    fn knows_the_calendar() {
        assert_eq!(iso_basic(0), "19700101T000000Z");
        assert_eq!(iso_basic(951_782_399), "20000228T235959Z");
        assert_eq!(iso_basic(951_782_400), "20000229T000000Z");
        assert_eq!(iso_basic(1_735_689_599), "20241231T235959Z");
    }
}

//! Virtual-host addressing: which bucket a `Host` header names.
//!
//! s3s's own `MultiDomain` takes any unknown host for a bucket name (`localhost:9000` would be one); here a
//! host under none of the configured domains names no bucket, and the path does.

use s3s::S3Result;
use s3s::host::{S3Host, VirtualHost};

use crate::config::GatewayConfig;

/// The configured domains, lower case.
#[derive(Clone, Debug)]
pub(crate) struct Domains(Vec<String>);

/// A configured domain is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no domain name; give it without scheme, port and path, as in `s3.example.com`")]
pub struct DomainError(pub String);

impl Domains {
    pub(crate) fn new(config: &GatewayConfig) -> Result<Self, DomainError> {
        let mut domains = Vec::with_capacity(config.domains.len());
        for domain in &config.domains {
            let domain = domain.to_ascii_lowercase();
            let label =
                |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            if domain.is_empty() || domain.len() > 253 || !domain.split('.').all(label) {
                return Err(DomainError(domain));
            }
            domains.push(domain);
        }
        // The longest match wins: `a.example.com` before `example.com`.
        domains.sort_by_key(|domain| core::cmp::Reverse(domain.len()));
        Ok(Self(domains))
    }

    /// The bucket that the host names, lower case.
    pub(crate) fn bucket(&self, host: &str) -> Option<String> {
        if self.0.is_empty() {
            return None;
        }
        let host = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => host,
        };
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        for domain in &self.0 {
            if host == *domain {
                return None;
            }
            if let Some(bucket) = host.strip_suffix(domain.as_str()).and_then(|rest| rest.strip_suffix('.')) {
                return Some(bucket.to_owned());
            }
        }
        None
    }
}

impl S3Host for Domains {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        let named = VirtualHost::new(host);
        Ok(match self.bucket(host) {
            Some(bucket) => named.with_bucket(bucket),
            None => named,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn domains(names: &[&str]) -> Result<Domains, DomainError> {
        let mut config = GatewayConfig::new(([127, 0, 0, 1], 0).into());
        config.domains = names.iter().map(|&name| name.to_owned()).collect();
        Domains::new(&config)
    }

    #[test]
    fn only_configured_domains_name_buckets() {
        let two = domains(&["S3.example.com", "example.com"]).unwrap();
        for (host, bucket) in [
            ("logs.s3.example.com", Some("logs")),
            ("LOGS.S3.Example.com:9000", Some("logs")),
            ("a.b.s3.example.com", Some("a.b")),
            ("s3.example.com", None),
            ("www.example.com", Some("www")),
            ("localhost:9000", None),
            ("127.0.0.1:9000", None),
            ("nots3.example.org", None),
        ] {
            assert_eq!(two.bucket(host).as_deref(), bucket, "{host}");
        }
        assert_eq!(domains(&[]).unwrap().bucket("logs.s3.example.com"), None);
        assert!(domains(&["http://x"]).is_err());
        assert!(domains(&[""]).is_err());
    }
}

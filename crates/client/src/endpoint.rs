//! Where a node is: scheme, host and port.

use std::fmt;
use std::str::FromStr;

/// `http://host:port` or `https://host:port`, without a path.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Endpoint {
    https: bool,
    host: String,
    port: u16,
}

/// Why a text is no endpoint.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{text:?} is no endpoint: {reason}; write it as http://HOST:PORT or https://HOST:PORT")]
pub struct EndpointError {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl Endpoint {
    /// Whether connections are encrypted.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.https
    }

    /// The host: a name, an IPv4 address, or an IPv6 address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether the host is this machine by name or by address.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
    }

    /// The `Host` header: the port is left out where it is the scheme's own.
    #[must_use]
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.https, self.port) {
            (false, 80) | (true, 443) => host,
            _ => format!("{host}:{}", self.port),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.https { "https" } else { "http" }, self.authority())
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let error = |reason| EndpointError { text: text.to_owned(), reason };
        let uri: http::Uri = text.trim().parse().map_err(|_| error("it is no URL"))?;
        let https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some(_) => return Err(error("its scheme is neither http nor https")),
            None => return Err(error("it has no scheme")),
        };
        let authority = uri.authority().ok_or_else(|| error("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(error("credentials do not belong into it"));
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(error("it has a path"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(error("it has no host"));
        }
        let named_port = authority.as_str().len() > authority.host().len();
        let port = match (authority.port_u16(), named_port) {
            (Some(0), _) | (None, true) => return Err(error("its port is not between 1 and 65535")),
            (Some(port), _) => port,
            (None, false) if https => 443,
            (None, false) => 80,
        };
        Ok(Self { https, host: host.to_ascii_lowercase(), port })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        let endpoint: Endpoint = "http://127.0.0.1:9000/".parse().unwrap();
        assert_eq!((endpoint.is_https(), endpoint.host(), endpoint.port()), (false, "127.0.0.1", 9000));
        assert_eq!(endpoint.authority(), "127.0.0.1:9000");
        assert!(endpoint.is_loopback());
        let endpoint: Endpoint = "https://Store.Example".parse().unwrap();
        assert_eq!(endpoint.to_string(), "https://store.example");
        assert_eq!(endpoint.port(), 443);
        assert!(!endpoint.is_loopback());
        let endpoint: Endpoint = "http://[::1]:9000".parse().unwrap();
        assert_eq!((endpoint.host(), endpoint.authority().as_str()), ("::1", "[::1]:9000"));
        assert!(endpoint.is_loopback());
    }

    #[test]
    fn refuses_the_rest_with_a_reason() {
        for (text, reason) in [
            ("127.0.0.1:9000", "it has no scheme"),
            ("localhost", "it has no scheme"),
            ("ftp://h", "its scheme is neither http nor https"),
            ("http://h/path", "it has a path"),
            ("http://h/?q", "it has a path"),
            ("http://user:secret@h", "credentials do not belong into it"),
            ("http://h:0", "its port is not between 1 and 65535"),
            ("http://h:70000", "its port is not between 1 and 65535"),
            ("", "it is no URL"),
        ] {
            let error = text.parse::<Endpoint>().unwrap_err();
            assert_eq!(error.reason, reason, "{text}");
        }
    }
}

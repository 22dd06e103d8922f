//! Values from text. Every error names where the text was found and how to write it.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use super::Sourced;
use crate::exit::Failure;
use crate::logs::Format;

fn refuse(found: &Sourced, what: &str) -> Failure {
    Failure::usage(format!("{}: {:?} is {what}", found.origin, found.text))
}

pub(super) fn address(found: &Sourced) -> Result<SocketAddr, Failure> {
    let refused = || refuse(found, "no address to listen on; write it as HOST:PORT, for example 127.0.0.1:9000");
    if let Ok(address) = found.text.parse() {
        return Ok(address);
    }
    match found.text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {}
        _ => return Err(refused()),
    }
    found.text.to_socket_addrs().ok().and_then(|mut addresses| addresses.next()).ok_or_else(refused)
}

/// An address at which others reach something: a name or an IP address, and a port that is not 0.
pub(crate) fn reached(found: &Sourced) -> Result<String, Failure> {
    let port = found.text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
    if matches!(port, Some(Ok(1..))) && !found.text.contains(char::is_whitespace) && found.text.len() <= 255 {
        return Ok(found.text.clone());
    }
    Err(refuse(found, "no address that others can reach; write it as HOST:PORT, for example node-1.example.org:9700"))
}

pub(super) fn boolean(found: &Sourced) -> Result<bool, Failure> {
    match found.text.as_str() {
        "true" | "on" | "yes" | "1" => Ok(true),
        "false" | "off" | "no" | "0" => Ok(false),
        _ => Err(refuse(found, "neither true nor false; use one of them")),
    }
}

pub(super) fn size(found: &Sourced) -> Result<u64, Failure> {
    size_of(&found.text).ok_or_else(|| refuse(found, "no size; write it as 64MiB, 1GiB or a number of bytes"))
}

/// `64MiB`, `1GiB`, `65536`.
pub(crate) fn size_of(text: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 9] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
        ("kB", 1000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
        ("B", 1),
    ];
    let text = text.trim();
    let (digits, unit) = UNITS
        .iter()
        .find_map(|(name, unit)| text.strip_suffix(name).map(|digits| (digits.trim_end(), *unit)))
        .unwrap_or((text, 1));
    digits.parse().ok().and_then(|number: u64| number.checked_mul(unit))
}

/// `30s`, `500ms`, `2m`.
pub(super) fn duration(found: &Sourced) -> Result<Duration, Failure> {
    const UNITS: [(&str, u64); 3] = [("ms", 1), ("s", 1000), ("m", 60_000)];
    UNITS
        .iter()
        .find_map(|(name, unit_ms)| found.text.trim().strip_suffix(name).map(|digits| (digits.trim_end(), *unit_ms)))
        .and_then(|(digits, unit_ms)| digits.parse().ok().and_then(|number: u64| number.checked_mul(unit_ms)))
        .filter(|duration_ms| *duration_ms > 0)
        .map(Duration::from_millis)
        .ok_or_else(|| refuse(found, "no time span; write it as 30s, 500ms or 2m"))
}

pub(crate) fn region(found: &Sourced) -> Result<String, Failure> {
    let valid = (1..=64).contains(&found.text.len())
        && found.text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if valid {
        return Ok(found.text.clone());
    }
    Err(refuse(found, "no region; write 1 to 64 letters, digits and dashes, for example us-east-1"))
}

pub(super) fn domains(found: &Sourced) -> Result<Vec<String>, Failure> {
    let mut domains = Vec::new();
    for domain in found.text.split(',').map(str::trim).filter(|domain| !domain.is_empty()) {
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        if domain.len() > 253 || !domain.split('.').all(label) {
            return Err(refuse(found, "no domain name; write it as s3.example.org, without scheme, port or wildcard"));
        }
        domains.push(domain.to_ascii_lowercase());
    }
    Ok(domains)
}

pub(super) fn log_format(found: &Sourced) -> Result<Format, Failure> {
    match found.text.as_str() {
        "auto" => Ok(Format::Auto),
        "human" => Ok(Format::Human),
        "json" => Ok(Format::Json),
        _ => Err(refuse(found, "no log format; use auto, human or json")),
    }
}

/// Of the known names, the one that was probably meant.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|candidate| (strsim::jaro_winkler(&name.to_ascii_lowercase(), &candidate.to_ascii_lowercase()), candidate))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::Origin;
    use super::*;

    fn found(text: &str) -> Sourced {
        Sourced { text: text.to_owned(), origin: Origin::Flag("x") }
    }

    #[test]
    fn addresses() {
        assert_eq!(address(&found("127.0.0.1:9000")).unwrap().port(), 9000);
        assert!(address(&found("[::1]:0")).unwrap().is_ipv6());
        assert!(address(&found("localhost:80")).unwrap().ip().is_loopback());
        for text in ["", "9000", ":9000", "localhost", "localhost:", "127.0.0.1:70000", "no such host:1"] {
            let refused = address(&found(text)).unwrap_err();
            assert!(refused.sentence.starts_with("--x: ") && refused.sentence.contains("HOST:PORT"), "{refused}");
        }
    }

    #[test]
    fn sizes_and_durations() {
        for (text, len) in
            [("0", 0), ("65536", 65_536), ("64MiB", 64 << 20), ("1 GiB", 1 << 30), ("2MB", 2_000_000), ("7B", 7)]
        {
            assert_eq!(size(&found(text)).unwrap(), len, "{text}");
        }
        for text in ["", "MiB", "-1", "1.5GiB", "64mib", "99999999999TiB"] {
            assert!(size(&found(text)).is_err(), "{text}");
        }
        assert_eq!(duration(&found("500ms")).unwrap(), Duration::from_millis(500));
        assert_eq!(duration(&found("2m")).unwrap(), Duration::from_secs(120));
        for text in ["", "30", "0s", "-1s", "1h"] {
            assert!(duration(&found(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn domains_are_split_and_judged() {
        assert_eq!(domains(&found("")).unwrap(), Vec::<String>::new());
        assert_eq!(domains(&found("S3.example.org, localhost")).unwrap(), ["s3.example.org", "localhost"]);
        for text in ["http://x", "a..b", "-a", "*.x", "a:9000"] {
            assert!(domains(&found(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn the_nearest_name_is_near() {
        let known = ["s3.listen", "s3.domains", "admin.listen"];
        assert_eq!(nearest("s3.lisen", known.into_iter()), Some("s3.listen"));
        assert_eq!(nearest("s3.domain", known.into_iter()), Some("s3.domains"));
        assert_eq!(nearest("zzz", known.into_iter()), None);
    }
}

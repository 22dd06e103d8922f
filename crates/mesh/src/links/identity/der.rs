//! The one thing in a certificate that the verifier checks but does not show: from when to when it is valid. A reader of
//! just enough DER (X.690; the certificate is RFC 5280, section 4.1).

const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const VERSION: u8 = 0xa0;

/// From when to when a certificate is valid, both in seconds since the Unix epoch; `None` where it cannot be read.
pub(super) fn validity(certificate: &[u8]) -> Option<(u64, u64)> {
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (mut fields, _) = element(certificate, SEQUENCE)?;
    if fields.first() == Some(&VERSION) {
        fields = next(fields)?.2;
    }
    // serial number, signature algorithm, issuer
    for _ in 0..3 {
        fields = next(fields)?.2;
    }
    let (validity, _) = element(fields, SEQUENCE)?;
    let (tag, text, rest) = next(validity)?;
    let not_before = seconds(tag, text)?;
    let (tag, text, _) = next(rest)?;
    Some((not_before, seconds(tag, text)?))
}

/// The content of the element at the front, which must have this tag, and what is behind it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = next(bytes)?;
    (found == tag).then_some((content, rest))
}

/// Tag and content of the element at the front, and what is behind it.
fn next(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = bytes.split_first_chunk::<2>()?;
    let (len, rest) = match first {
        short @ ..=0x7f => (usize::from(short), rest),
        0x81 => rest.split_first().map(|(len, rest)| (usize::from(*len), rest))?,
        0x82 => rest.split_first_chunk::<2>().map(|(len, rest)| (usize::from(u16::from_be_bytes(*len)), rest))?,
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(len)?;
    Some((tag, content, rest))
}

/// The time of a `YYMMDDhhmmssZ` or `YYYYMMDDhhmmssZ` (RFC 5280, section 4.1.2.5).
fn seconds(tag: u8, text: &[u8]) -> Option<u64> {
    let digits = text.strip_suffix(b"Z").filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    let value = |digits: &[u8]| digits.iter().fold(0_u64, |value, digit| value * 10 + u64::from(digit - b'0'));
    let (year, rest) = match (tag, digits.len()) {
        (UTC_TIME, 12) => {
            let (year, rest) = digits.split_at(2);
            let year = value(year);
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        (GENERALIZED_TIME, 14) => {
            let (year, rest) = digits.split_at(4);
            (value(year), rest)
        }
        _ => return None,
    };
    let mut parts = rest.chunks_exact(2).map(value);
    let mut part = || parts.next();
    let (month, day, hour, minute, second) = (part()?, part()?, part()?, part()?, part()?);
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    Some(((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar (Hinnant, `days_from_civil`).
fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_both_ways_to_write_a_time() {
        assert_eq!(seconds(UTC_TIME, b"700101000000Z"), Some(0));
        assert_eq!(seconds(UTC_TIME, b"231114221320Z"), Some(1_700_000_000));
        assert_eq!(seconds(GENERALIZED_TIME, b"20231114221320Z"), Some(1_700_000_000));
        assert_eq!(seconds(GENERALIZED_TIME, b"20500228235959Z"), Some(2_529_705_599));
        assert_eq!(seconds(UTC_TIME, b"240229000000Z"), Some(1_709_164_800));
        for wrong in [&b""[..], b"Z", b"231114221320", b"23111422132Z", b"231314221320Z", b"23111422132xZ"] {
            assert_eq!(seconds(UTC_TIME, wrong), None);
        }
        assert_eq!(seconds(UTC_TIME, b"20231114221320Z"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = validity(&bytes);
            let mut nested = vec![SEQUENCE, 0x81, 0xff, SEQUENCE, 0x81, 0xf0];
            nested.extend_from_slice(&bytes);
            nested.resize(258, 0x17);
            let _ = validity(&nested);
        }
    }
}

//! Percent-encoding as SigV4 wants it, and the little of XML that S3 errors need.

/// RFC 3986 unreserved characters stand, every other byte becomes `%XX`, upper case.
pub(crate) fn percent_encode(text: &str, keep_slash: bool, out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            b'/' if keep_slash => out.push('/'),
            _ => {
                out.push('%');
                out.push(char::from(DIGITS[usize::from(byte >> 4)]));
                out.push(char::from(DIGITS[usize::from(byte & 15)]));
            }
        }
    }
}

/// The encoded path of raw segments: `/a/b%20c`.
pub(crate) fn encode_path(path: &str) -> String {
    let mut out = String::with_capacity(path.len() + 1);
    if !path.starts_with('/') {
        out.push('/');
    }
    percent_encode(path, true, &mut out);
    out
}

/// The query, sorted by encoded name and value: at once what is sent and what is signed.
pub(crate) fn encode_query(pairs: &[(String, String)]) -> String {
    let mut encoded: Vec<(String, String)> = pairs
        .iter()
        .map(|(name, value)| {
            let (mut encoded_name, mut encoded_value) = (String::new(), String::new());
            percent_encode(name, false, &mut encoded_name);
            percent_encode(value, false, &mut encoded_value);
            (encoded_name, encoded_value)
        })
        .collect();
    encoded.sort();
    let mut out = String::new();
    for (name, value) in encoded {
        if !out.is_empty() {
            out.push('&');
        }
        out.push_str(&name);
        out.push('=');
        out.push_str(&value);
    }
    out
}

/// The text of the first element of that name, entities resolved. Enough for `<Code>` and `<Message>` of an
/// S3 error; this is no XML parser.
pub(crate) fn xml_text(xml: &str, element: &str) -> Option<String> {
    let open = format!("<{element}>");
    let start = xml.find(&open)? + open.len();
    let len = xml[start..].find(&format!("</{element}>"))?;
    let text = &xml[start..start + len];
    Some(
        text.replace("&lt;", "<")
            .replace("&gt;", ">")
            .replace("&quot;", "\"")
            .replace("&apos;", "'")
            .replace("&#39;", "'")
            .replace("&amp;", "&"),
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn paths_keep_slashes_and_encode_the_rest() {
        assert_eq!(encode_path("b/a b+ü$/~x"), "/b/a%20b%2B%C3%BC%24/~x");
        assert_eq!(encode_path("/"), "/");
    }

    #[test]
    fn queries_are_sorted_after_encoding() {
        let pairs = [("b", "2"), ("a", "x/y"), ("uploads", ""), ("a", "1")];
        let pairs: Vec<(String, String)> = pairs.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
        assert_eq!(encode_query(&pairs), "a=1&a=x%2Fy&b=2&uploads=");
    }

    #[test]
    fn xml_text_resolves_entities_once() {
        let xml = "<Error><Code>NoSuchKey</Code><Message>a &lt; b &amp;amp; c</Message></Error>";
        assert_eq!(xml_text(xml, "Code").unwrap(), "NoSuchKey");
        assert_eq!(xml_text(xml, "Message").unwrap(), "a < b &amp; c");
        assert_eq!(xml_text(xml, "Resource"), None);
        assert_eq!(xml_text("<Code>unclosed", "Code"), None);
    }
}

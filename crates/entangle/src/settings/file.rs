//! The configuration file: TOML whose keys are those of the settings table.

use std::path::Path;

use toml::{Table, Value};

use super::{Layer, TABLE, nearest};
use crate::exit::Failure;

/// Reads a file; refuses a key that nobody knows, by name.
pub(super) fn read(path: &Path) -> Result<Layer, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::usage(format!(
            "{}: {error}; name the configuration file with --config, or leave --config out",
            path.display()
        ))
    })?;
    parse(&text, path)
}

fn parse(text: &str, path: &Path) -> Result<Layer, Failure> {
    let table: Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].lines().count().max(1));
        Failure::usage(format!("{}, line {line}: {}; correct it", path.display(), error.message()))
    })?;
    let mut layer = Layer::new();
    flatten("", &table, path, &mut layer)?;
    Ok(layer)
}

fn flatten(prefix: &str, table: &Table, path: &Path, layer: &mut Layer) -> Result<(), Failure> {
    for (name, value) in table {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        let row = TABLE.iter().find(|row| row.key == key);
        let is_section = TABLE.iter().any(|row| row.key.starts_with(&format!("{key}.")));
        match (row, value) {
            (Some(row), value) => {
                let text = text_of(value).ok_or_else(|| {
                    Failure::usage(format!("{key} in {}: a {} is not expected here", path.display(), value.type_str()))
                })?;
                layer.insert(row.key, text);
            }
            (None, Value::Table(inner)) if is_section => flatten(&key, inner, path, layer)?,
            (None, _) => return Err(unknown(&key, path)),
        }
    }
    Ok(())
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Boolean(truth) => Some(truth.to_string()),
        Value::Array(items) => items
            .iter()
            .map(|item| item.as_str().map(str::to_owned))
            .collect::<Option<Vec<_>>>()
            .map(|items| items.join(",")),
        _ => None,
    }
}

fn unknown(key: &str, path: &Path) -> Failure {
    let advice = match nearest(key, TABLE.iter().map(|row| row.key)) {
        Some(meant) => format!("did you mean {meant}?"),
        None => "remove it; `entangle serve --help` lists the settings".to_owned(),
    };
    Failure::usage(format!("{}: the key {key} is unknown; {advice}", path.display()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Layer, Failure> {
        parse(text, Path::new("entangle.toml"))
    }

    #[test]
    fn sections_lists_numbers_and_truths() {
        let text = "data = \"/srv\"\n[s3]\nlisten = \"x:1\"\ndomains = [\"a.b\", \"c.d\"]\n[ledger]\npublic = true\n[disk]\nreserve = 7\n";
        let layer = read_text(text).unwrap();
        let found: Vec<(&str, &str)> = layer.iter().map(|(key, text)| (*key, text.as_str())).collect();
        let expected = [
            ("data", "/srv"),
            ("disk.reserve", "7"),
            ("ledger.public", "true"),
            ("s3.domains", "a.b,c.d"),
            ("s3.listen", "x:1"),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn unknown_keys_are_refused_by_name() {
        let cases = [
            ("dta = \"x\"", "the key dta is unknown; did you mean data?"),
            ("[s3]\nlissten = \"x\"", "the key s3.lissten is unknown; did you mean s3.listen?"),
            ("[s4]\nlisten = \"x\"", "the key s4 is unknown"),
            ("[s3.listen]\nx = 1", "s3.listen in entangle.toml: a table is not expected here"),
            ("s3 = \"127.0.0.1:9000\"", "the key s3 is unknown"),
            ("[ledger]\npublic = 1.5", "ledger.public in entangle.toml: a float is not expected here"),
        ];
        for (text, sentence) in cases {
            let refused = read_text(text).unwrap_err();
            assert!(refused.sentence.contains(sentence), "{text}: {refused}");
        }
    }

    #[test]
    fn what_is_no_toml_is_refused_with_its_line() {
        let refused = read_text("data = \"x\"\nkeys = = \n").unwrap_err();
        assert!(refused.sentence.starts_with("entangle.toml, line 2: "), "{refused}");
        assert!(!refused.sentence.contains('\n'), "{refused}");
    }
}

//! What people and programs see: text with a little colour on a terminal, or one JSON document.

use std::io::{IsTerminal as _, Write as _};

use serde_json::{Value, json};

use crate::exit::{Exit, Failure};

/// Where output goes and what it may look like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Console {
    /// One JSON document on standard output instead of text.
    pub(crate) json: bool,
    /// Standard output is a terminal.
    pub(crate) terminal: bool,
    /// Standard error is a terminal: progress may be shown there.
    pub(crate) error_terminal: bool,
    /// How standard output is coloured.
    pub(crate) style: Style,
}

/// What a command has to say at its end.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Report {
    /// How to exit: a report can be one of evidence that is not right.
    pub(crate) exit: Exit,
    /// For programs: an object; `ok` is added.
    pub(crate) json: Value,
    /// For people.
    pub(crate) text: String,
}

impl Report {
    pub(crate) fn done(json: Value, text: impl Into<String>) -> Self {
        Self { exit: Exit::Done, json, text: text.into() }
    }
}

impl Console {
    /// Looks at the streams and at `NO_COLOR` (<https://no-color.org>).
    pub(crate) fn detect(json: bool) -> Self {
        let terminal = std::io::stdout().is_terminal();
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let style = Style { colour: terminal && !json && !plain };
        Self { json, terminal, error_terminal: std::io::stderr().is_terminal(), style }
    }

    /// Prints a command's report; nothing if there is nothing in it.
    pub(crate) fn report(&self, report: Report) {
        if self.json && report.json.is_null() {
            return;
        }
        if self.json {
            let mut document = json!({ "ok": report.exit == Exit::Done });
            if let (Value::Object(into), Value::Object(from)) = (&mut document, report.json) {
                into.extend(from);
            }
            self.document(&document);
        } else if !report.text.is_empty() {
            self.line(report.text.trim_end());
        }
    }

    /// Prints why a command failed: JSON on standard output, else a sentence on standard error.
    pub(crate) fn failure(&self, failure: &Failure) {
        if self.json {
            self.document(&json!({
                "ok": false,
                "error": { "code": failure.exit.name(), "exit": failure.exit as u8, "message": failure.sentence },
            }));
        } else {
            // Nobody is left to tell when standard error is closed.
            let _ = writeln!(std::io::stderr().lock(), "entangle: {}", failure.sentence);
        }
    }

    /// One JSON document on standard output.
    pub(crate) fn document(&self, document: &Value) {
        let text = if self.terminal { format!("{document:#}") } else { document.to_string() };
        self.line(&text);
    }

    /// One line, or several, on standard output. A reader that went away is no failure of ours.
    pub(crate) fn line(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{text}");
        let _ = out.flush();
    }
}

/// Colours, or none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Style {
    colour: bool,
}

impl Style {
    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Well done.
    pub(crate) fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// Wrong.
    pub(crate) fn bad(self, text: &str) -> String {
        self.paint("31", text)
    }

    /// Beside the point.
    pub(crate) fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    /// The point.
    pub(crate) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }
}

/// Lines of `name  value`, the values in one column, each line indented by two.
pub(crate) fn columns(style: Style, rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    rows.iter().map(|(name, value)| format!("  {}  {value}\n", style.dim(&format!("{name:<width$}")))).collect()
}

/// Breaks a text between words where a line would become longer than `width`; further lines are indented.
pub(crate) fn wrap(text: &str, width: usize, indent: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut column = indent.len();
    for word in text.split_whitespace() {
        let len = word.chars().count();
        if column > indent.len() && column + 1 + len > width {
            out.push('\n');
            out.push_str(indent);
            column = indent.len();
        } else if !out.is_empty() {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += len;
    }
    out
}

/// `1536` as `1.5 KiB`.
pub(crate) fn bytes(len: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if len < 1024 {
        return format!("{len} B");
    }
    #[allow(clippy::cast_precision_loss)] // shown with one decimal
    let mut value = len as f64 / 1024.0;
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

/// `1234567` as `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 entry`, `2 entries`.
pub(crate) fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        assert_eq!([bytes(0), bytes(1023), bytes(1536), bytes(64 << 20)], ["0 B", "1023 B", "1.5 KiB", "64.0 MiB"]);
        assert_eq!(bytes(u64::MAX), "16384.0 PiB");
        assert_eq!([count(0), count(999), count(1000), count(1_234_567)], ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(counted(1, "entry", "entries"), "1 entry");
    }

    #[test]
    fn long_sentences_are_broken_between_words() {
        assert_eq!(wrap("one two three four", 10, "  "), "one two\n  three\n  four");
        assert_eq!(wrap("averyveryverylongword x", 10, "  "), "averyveryverylongword\n  x");
    }

    #[test]
    fn columns_are_aligned_and_plain_without_colour() {
        let text = columns(Style::default(), &[("a", "1".into()), ("long name", "2".into())]);
        assert_eq!(text, "  a          1\n  long name  2\n");
    }
}

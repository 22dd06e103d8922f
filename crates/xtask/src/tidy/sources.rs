//! Rust files: their length, their first line, and what a core's source may not name.

use super::{Finding, Tree};

/// Longer than this wants thought.
const LINES_WARNED: usize = 600;
/// Longer than this is refused.
const LINES_MAX: usize = 1000;

/// The crates without IO.
pub(super) const CORES: [&str; 4] = ["types", "dace", "catalog", "ledger"];

/// Paths that a core's source may not name; `clippy.toml` in each core forbids the commonest calls besides.
const ABSENT_FROM_CORES: [&str; 11] = [
    "std::fs",
    "std::net",
    "std::thread",
    "std::process",
    "std::env",
    "std::time::Instant",
    "std::time::SystemTime",
    "SystemTime::now",
    "Instant::now",
    "std::io::stdin",
    "RandomState",
];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.ending(".rs") {
        check_shape(path, text, &mut findings);
        if is_core_source(path) {
            check_absence(path, text, &mut findings);
        }
    }
    findings
}

fn check_shape(path: &str, text: &str, findings: &mut Vec<Finding>) {
    let lines = text.lines().count();
    if lines > LINES_MAX {
        findings.push(Finding::error(path, 0, format!("{lines} lines; {LINES_MAX} is the end")));
    } else if lines > LINES_WARNED {
        findings.push(Finding::warning(path, 0, format!("{lines} lines; over {LINES_WARNED}, think of splitting it")));
    }
    if !text.starts_with("//!") {
        findings.push(Finding::error(path, 1, "does not begin with `//!`: say what the file is for"));
    }
    // Spelt in two, so that this file does not find itself.
    let debug = concat!("dbg", "!(");
    for (at, line) in text.lines().enumerate() {
        if line.contains(debug) {
            findings.push(Finding::error(path, at + 1, "a debugging macro was left behind"));
        }
    }
}

fn is_core_source(path: &str) -> bool {
    CORES.iter().any(|core| path.starts_with(&format!("crates/{core}/src/")))
}

/// Comments may speak of what code may not use.
fn check_absence(path: &str, text: &str, findings: &mut Vec<Finding>) {
    for (at, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or(line);
        for name in ABSENT_FROM_CORES.iter().filter(|name| code.contains(**name)) {
            findings.push(Finding::error(path, at + 1, format!("a core does not name `{name}`")));
        }
    }
}

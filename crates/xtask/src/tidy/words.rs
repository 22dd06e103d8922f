//! Words that do not belong into a repository: tasks without a reason, paths and sources of one machine.

use super::{Finding, Tree};

/// File name endings that are read for words.
const READ: [&str; 10] = [".rs", ".toml", ".md", ".sh", ".py", ".yml", ".yaml", ".txt", ".lock", "run"];

/// Beginnings of paths that exist on somebody's machine only. Spelt in two, so that this file does not find itself.
const MACHINE_PATHS: [&str; 4] =
    [concat!("/", "work/"), concat!("/", "root/"), concat!("/", "Users/"), concat!("file", ":///")];

/// Signs of a package source other than the public one.
const OTHER_SOURCES: [&str; 4] =
    [concat!("index", "-url"), concat!("replace", "-with"), concat!("GO", "PROXY="), concat!("registry.", "npmjs")];

/// The only source that a lock file may name.
const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let read = tree.files.iter().filter(|(path, _)| READ.iter().any(|ending| path.ends_with(ending)));
    for (path, text) in read {
        for (at, line) in text.lines().enumerate() {
            check_line(path, at + 1, line, &mut findings);
        }
    }
    findings
}

fn check_line(path: &str, number: usize, line: &str, findings: &mut Vec<Finding>) {
    if has_bare_task(line) {
        findings.push(Finding::error(path, number, "an open task needs its reason in parentheses"));
    }
    for start in MACHINE_PATHS.iter().filter(|start| has_path(line, start)) {
        findings.push(Finding::error(path, number, format!("a path of one machine: {start}...")));
    }
    for sign in OTHER_SOURCES.iter().filter(|sign| line.contains(**sign)) {
        findings.push(Finding::error(path, number, format!("names a package source of one machine: {sign}")));
    }
    if path.ends_with(".lock")
        && let Some(source) = line.strip_prefix("source = ")
        && source.trim_matches('"') != CRATES_IO
    {
        findings.push(Finding::error(path, number, "a dependency that does not come from crates.io"));
    }
}

/// Whether the line has the word for an open task without `(reason)` right behind it.
fn has_bare_task(line: &str) -> bool {
    let word = concat!("TO", "DO");
    line.match_indices(word).any(|(at, _)| {
        let whole = !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_')
            && !line[at + word.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_');
        let reason = line[at + word.len()..].strip_prefix('(').and_then(|rest| rest.split_once(')'));
        whole && reason.is_none_or(|(reason, _)| reason.trim().is_empty())
    })
}

/// Whether an absolute path begins so: `a/b/` inside a longer path or an address does not count.
fn has_path(line: &str, start: &str) -> bool {
    line.match_indices(start).any(|(at, _)| {
        !line[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | '}' | '>' | '~'))
    })
}

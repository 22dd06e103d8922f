//! Documents: links that lead somewhere, formats that are listed, and the README's two commands.

use super::{Finding, Tree};

/// The README's first and second command.
const COMMANDS: [&str; 2] = ["cargo run --release -- demo", "cargo test --workspace"];
/// Where each of them must stand, exactly so on a line.
const TELLERS: [&str; 2] = ["README.md", ".ci/run"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.ending(".md") {
        for (at, line) in text.lines().enumerate() {
            for target in links(line) {
                if let Some(file) = resolve(path, target)
                    && !exists(tree, &file)
                {
                    findings.push(Finding::error(path, at + 1, format!("a link to {file}, which does not exist")));
                }
            }
        }
    }
    check_formats(tree, &mut findings);
    check_commands(tree, &mut findings);
    findings
}

/// The targets of `[text](target)` on a line.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next())
}

/// The path from the root that a relative link means; `None` for addresses and places in the same file.
fn resolve(from: &str, target: &str) -> Option<String> {
    let target = target.split('#').next().unwrap_or_default();
    if target.is_empty() || target.contains(':') {
        return None;
    }
    let mut names: Vec<&str> = from.split('/').collect();
    names.pop();
    for name in target.split('/') {
        match name {
            "." | "" => {}
            ".." => {
                names.pop();
            }
            name => names.push(name),
        }
    }
    Some(names.join("/"))
}

fn exists(tree: &Tree, path: &str) -> bool {
    tree.files.iter().any(|(file, _)| file == path || file.strip_prefix(path).is_some_and(|rest| rest.starts_with('/')))
}

fn check_formats(tree: &Tree, findings: &mut Vec<Finding>) {
    let Some(index) = tree.text("docs/formats.md") else { return };
    for (path, _) in tree.ending(".md") {
        if let Some(name) = path.strip_prefix("docs/formats/")
            && !index.contains(&format!("(formats/{name})"))
        {
            findings.push(Finding::error(path, 0, "docs/formats.md does not list it"));
        }
    }
}

fn check_commands(tree: &Tree, findings: &mut Vec<Finding>) {
    for teller in TELLERS {
        let text = tree.text(teller).unwrap_or_default();
        for command in COMMANDS {
            if !text.lines().any(|line| line.trim() == command) {
                findings.push(Finding::error(teller, 0, format!("has no line that is exactly `{command}`")));
            }
        }
    }
}

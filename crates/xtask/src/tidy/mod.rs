//! What neither the compiler nor clippy checks: file lengths, module docs, reasons, invariants of absence.
//!
//! Checks read a [`Tree`] of file texts, so that tests can show each of them a tree that it must refuse.

mod documents;
mod manifests;
mod sources;
mod words;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Directories that are nobody's source, by name and at any depth.
const SKIPPED: [&str; 7] =
    [".git", "target", "entangle-data", "entangle-data-keys", "__pycache__", "corpus", "artifacts"];

/// The texts of a workspace. Files that are not UTF-8 are left out.
#[derive(Debug, Default)]
pub struct Tree {
    /// Path from the root with `/` between names, and text; sorted by path.
    pub files: Vec<(String, String)>,
}

/// How much a finding matters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    /// Fails the check.
    Error,
    /// Is listed.
    Warning,
}

/// Something that is not tidy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// The file, from the root.
    pub path: String,
    /// The line, from 1; 0 for the file as a whole.
    pub line: usize,
    /// What is wrong, in words.
    pub text: String,
}

impl Finding {
    fn error(path: &str, line: usize, text: impl Into<String>) -> Self {
        Self { severity: Severity::Error, path: path.into(), line, text: text.into() }
    }

    fn warning(path: &str, line: usize, text: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, path: path.into(), line, text: text.into() }
    }

    /// Whether it fails the check.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        match self.line {
            0 => write!(f, "{severity}: {}: {}", self.path, self.text),
            line => write!(f, "{severity}: {}:{line}: {}", self.path, self.text),
        }
    }
}

impl Tree {
    /// Reads a workspace.
    pub fn read(root: &Path) -> io::Result<Self> {
        let mut tree = Self::default();
        tree.read_folder(root, "")?;
        tree.files.sort();
        Ok(tree)
    }

    fn read_folder(&mut self, folder: &Path, prefix: &str) -> io::Result<()> {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let path = format!("{prefix}{name}");
            let kind = entry.file_type()?;
            if kind.is_dir() && !SKIPPED.contains(&name.as_str()) {
                self.read_folder(&entry.path(), &format!("{path}/"))?;
            } else if kind.is_file()
                && let Ok(text) = String::from_utf8(std::fs::read(entry.path())?)
            {
                self.files.push((path, text));
            }
        }
        Ok(())
    }

    /// The text of a file, if there is one.
    fn text(&self, path: &str) -> Option<&str> {
        self.files.iter().find(|(name, _)| name == path).map(|(_, text)| text.as_str())
    }

    /// Path and text of the files whose name ends so.
    fn ending<'a>(&'a self, suffix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.files
            .iter()
            .filter(move |(path, _)| path.ends_with(suffix))
            .map(|(path, text)| (path.as_str(), text.as_str()))
    }
}

/// The workspace that this program was built in.
#[must_use]
pub fn workspace_root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// Runs every check.
#[must_use]
pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = sources::check(tree);
    findings.extend(manifests::check(tree));
    findings.extend(words::check(tree));
    findings.extend(documents::check(tree));
    findings
}

//! Invariants of absence, as the `Cargo.toml`s show them (ARCHITECTURE.md lists them).

use toml::{Table, Value};

use super::sources::CORES;
use super::{Finding, Tree};

/// All that a crate without IO may be built from: codecs, hashes, signatures; nothing that opens, spawns, draws or tells time.
const ALLOWED_IN_CORES: [&str; 15] = [
    "types",
    "base64",
    "blake3",
    "bytes",
    "crc-fast",
    "ed25519-dalek",
    "hex",
    "md-5",
    "minicbor",
    "sha1",
    "sha2",
    "smallvec",
    "subtle",
    "thiserror",
    "zeroize",
];

/// Crates that do not know each other: only `node` knows them all.
const STRANGERS: [&str; 3] = ["dace", "catalog", "ledger"];

/// Libraries that stay inside one crate.
const CONFINED: [(&str, &str); 4] =
    [("s3s", "gateway"), ("object_store", "store"), ("fjall", "store"), ("quinn", "mesh")];

/// Crates that nothing but development uses.
const DEVELOPMENT: [&str; 3] = ["sim", "bench", "xtask"];
/// Of these, the one that the binary may use, for `entangle bench`.
const OFFERED: (&str, &str) = ("bench", "entangle");

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.ending("Cargo.toml") {
        let Some(name) = crate_name(path) else { continue };
        match text.parse::<Table>() {
            Ok(manifest) => check_crate(path, name, &manifest, &mut findings),
            Err(error) => findings.push(Finding::error(path, 0, format!("cannot be parsed: {error}"))),
        }
    }
    findings
}

/// The folder's name: the crate's name too.
fn crate_name(path: &str) -> Option<&str> {
    path.strip_prefix("crates/")?.strip_suffix("/Cargo.toml")
}

fn check_crate(path: &str, name: &str, manifest: &Table, findings: &mut Vec<Finding>) {
    let named = manifest.get("package").and_then(|package| package.get("name")).and_then(Value::as_str);
    if named != Some(name) {
        findings.push(Finding::error(path, 0, "the crate is not named like its folder"));
    }
    let inherits = manifest.get("lints").and_then(|lints| lints.get("workspace")).and_then(Value::as_bool);
    if inherits != Some(true) {
        findings.push(Finding::error(path, 0, "does not take the workspace's lints"));
    }
    let is_core = CORES.contains(&name);
    for (section, dependency) in dependencies(manifest) {
        let is_development = section == "dev-dependencies";
        let mut refuse = |why: String| findings.push(Finding::error(path, 0, why));
        if is_core && !is_development && !ALLOWED_IN_CORES.contains(&dependency.as_str()) {
            refuse(format!("a crate without IO may not depend on `{dependency}`"));
        }
        if STRANGERS.contains(&name) && STRANGERS.contains(&dependency.as_str()) {
            refuse(format!("`{name}` and `{dependency}` do not know each other"));
        }
        for (library, home) in CONFINED {
            if dependency == library && name != home {
                refuse(format!("`{library}` stays inside `{home}`"));
            }
        }
        let is_offered = (dependency.as_str(), name) == OFFERED;
        if !is_development && DEVELOPMENT.contains(&dependency.as_str()) && !DEVELOPMENT.contains(&name) && !is_offered
        {
            refuse(format!("`{dependency}` is for development"));
        }
        if is_core && section == "build-dependencies" {
            refuse("a crate without IO has no build script".into());
        }
    }
}

/// Section and package name of every dependency, those of targets included.
fn dependencies(manifest: &Table) -> Vec<(String, String)> {
    let mut found = Vec::new();
    collect(manifest, &mut found);
    for target in manifest.get("target").and_then(Value::as_table).into_iter().flat_map(Table::values) {
        if let Some(target) = target.as_table() {
            collect(target, &mut found);
        }
    }
    found
}

fn collect(table: &Table, found: &mut Vec<(String, String)>) {
    for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
        for (name, value) in table.get(section).and_then(Value::as_table).into_iter().flatten() {
            // A renamed dependency is what it is, not what it is called.
            let package = value.get("package").and_then(Value::as_str).unwrap_or(name);
            found.push((section.to_owned(), package.to_owned()));
        }
    }
}

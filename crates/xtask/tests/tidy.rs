//! The workspace is tidy, and every check refuses what it is there to refuse.
#![allow(clippy::unwrap_used)]

use xtask::tidy::{Tree, check, workspace_root};

#[test]
fn the_workspace_is_tidy() {
    let tree = Tree::read(&workspace_root()).unwrap();
    assert!(tree.files.len() > 50, "only {} files were read", tree.files.len());
    let errors: Vec<String> =
        check(&tree).iter().filter(|finding| finding.is_error()).map(ToString::to_string).collect();
    assert!(errors.is_empty(), "\n{}\n", errors.join("\n"));
}

/// A tree in which nothing is wrong.
fn tidy_tree() -> Tree {
    let commands = "cargo run --release -- demo\n    cargo test --workspace\n";
    let manifest = "[package]\nname = \"dace\"\n[lints]\nworkspace = true\n[dependencies]\nbytes = \"1\"\n";
    let files = [
        (".ci/run", commands),
        ("Cargo.lock", "source = \"registry+https://github.com/rust-lang/crates.io-index\"\n"),
        ("README.md", commands),
        ("crates/dace/Cargo.toml", manifest),
        ("crates/dace/src/lib.rs", "//! A core.\n"),
        ("docs/formats.md", "[journal](formats/journal.md)\n"),
        ("docs/formats/journal.md", "See https://example.org/work/journal.\n"),
    ];
    Tree { files: files.map(|(path, text)| (path.to_owned(), text.to_owned())).to_vec() }
}

/// The errors after a file was put into the tidy tree.
fn errors_with(path: &str, text: &str) -> Vec<String> {
    let mut tree = tidy_tree();
    tree.files.retain(|(name, _)| name != path);
    tree.files.push((path.to_owned(), text.to_owned()));
    check(&tree).iter().filter(|finding| finding.is_error()).map(ToString::to_string).collect()
}

fn assert_refused(path: &str, text: &str, because: &str) {
    let errors = errors_with(path, text);
    assert!(errors.len() == 1 && errors[0].contains(because), "{because:?} expected, got {errors:?}");
}

fn manifest_of(name: &str, rest: &str) -> String {
    format!("[package]\nname = \"{name}\"\n[lints]\nworkspace = true\n{rest}")
}

#[test]
fn a_tidy_tree_passes() {
    assert_eq!(check(&tidy_tree()), []);
}

#[test]
fn long_files_are_refused() {
    let lines = |count: usize| format!("//! Long.\n{}", "\n".repeat(count - 1));
    assert_refused("crates/dace/src/a.rs", &lines(1001), "1001 lines");
    assert!(errors_with("crates/dace/src/a.rs", &lines(1000)).is_empty());
}

#[test]
fn sources_without_a_first_word_are_refused() {
    assert_refused("crates/dace/src/a.rs", "fn main() {}\n", "does not begin with `//!`");
}

#[test]
fn what_was_left_behind_is_refused() {
    let debug = concat!("//! A.\nfn a() { dbg", "!(1); }\n");
    assert_refused("crates/node/src/a.rs", debug, "debugging macro");
    let task = concat!("//! A.\n// TO", "DO: later\n");
    assert_refused("crates/node/src/a.rs", task, "needs its reason");
    let reasoned = concat!("//! A.\n// TO", "DO(issue 3: needs peers): later\n");
    assert!(errors_with("crates/node/src/a.rs", reasoned).is_empty());
}

#[test]
fn a_core_that_reads_a_clock_is_refused() {
    assert_refused("crates/dace/src/a.rs", "//! A.\nuse std::time::SystemTime;\n", "a core does not name");
    assert!(errors_with("crates/dace/src/a.rs", "//! A.\n// unlike std::fs\n").is_empty());
    assert!(errors_with("crates/node/src/a.rs", "//! A.\nuse std::time::SystemTime;\n").is_empty());
}

#[test]
fn dependencies_that_must_be_absent_are_refused() {
    let cases = [
        ("dace", "[dependencies]\ntokio = \"1\"\n", "may not depend on `tokio`"),
        ("types", "[target.'cfg(unix)'.dependencies]\nlibc = \"1\"\n", "may not depend on `libc`"),
        ("dace", "[dependencies]\nbytes = { package = \"rand\", version = \"1\" }\n", "may not depend on `rand`"),
        ("ledger", "[dev-dependencies]\ncatalog.workspace = true\n", "do not know each other"),
        ("node", "[dependencies]\ns3s = \"0.14\"\n", "stays inside `gateway`"),
        ("gateway", "[dependencies]\nobject_store = \"0.14\"\n", "stays inside `store`"),
        ("node", "[dependencies]\nfjall = \"3\"\n", "stays inside `store`"),
        ("node", "[dependencies]\nsim.workspace = true\n", "is for development"),
    ];
    for (name, rest, because) in cases {
        assert_refused(&format!("crates/{name}/Cargo.toml"), &manifest_of(name, rest), because);
    }
    let allowed = [
        ("dace", "[dev-dependencies]\nproptest = \"1\"\n"),
        ("gateway", "[dependencies]\ns3s = \"0.14\"\n"),
        ("entangle", "[dependencies]\nbench.workspace = true\n"),
    ];
    for (name, rest) in allowed {
        let errors = errors_with(&format!("crates/{name}/Cargo.toml"), &manifest_of(name, rest));
        assert!(errors.is_empty(), "{errors:?}");
    }
}

#[test]
fn a_manifest_without_the_lints_or_with_another_name_is_refused() {
    assert_refused("crates/node/Cargo.toml", "[package]\nname = \"node\"\n", "workspace's lints");
    assert_refused("crates/node/Cargo.toml", &manifest_of("knot", ""), "not named like its folder");
}

#[test]
fn machine_paths_and_other_sources_are_refused() {
    assert_refused("notes.md", concat!("see /", "work/x"), "path of one machine");
    assert_refused("a.sh", concat!("cd \"/", "root/x\""), "path of one machine");
    assert!(errors_with("notes.md", "see target/work/x and https://example.org/root/x").is_empty());
    assert_refused("a.sh", concat!("pip install --index", "-url x"), "package source");
    assert_refused("Cargo.lock", "source = \"git+https://example.org/x\"\n", "does not come from crates.io");
}

#[test]
fn dead_links_and_unlisted_formats_are_refused() {
    assert_refused("notes.md", "[x](docs/nothing.md)", "which does not exist");
    assert_refused("docs/notes.md", "[x](../crates/knot)", "which does not exist");
    let alive = "[x](../crates/dace/src/lib.rs#L1) [y](formats) [z](https://example.org) [w](#here)";
    assert!(errors_with("docs/notes.md", alive).is_empty());
    assert_refused("docs/formats/vault.md", "chunks", "does not list it");
}

#[test]
fn the_readme_and_the_pipeline_give_the_same_commands() {
    assert_refused(
        "README.md",
        "cargo run --release -- demo\ncargo test --workspace --quiet\n",
        "`cargo test --workspace`",
    );
    assert_refused(".ci/run", "cargo test --workspace\n", "`cargo run --release -- demo`");
}

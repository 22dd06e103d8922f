//! The folders of members of a group: what `verify` says of them, and that no backup is made of one.
#![allow(clippy::unwrap_used)]

mod cluster;
mod common;

use std::path::{Path, PathBuf};
use std::time::Duration;

use cluster::Group;
use common::{bytes, create_bucket, put};
use node::Change;
use node::backup::backup;
use node::verify::{VerifyReport, verify};
use types::{Outcome, ReplicaId};

/// Objects and parts in the vaults, and small ones; epochs that began and ended; members that came and one that went.
async fn filled() -> Group {
    let mut group = Group::start_with(4, 1, 0, Duration::ZERO).await;
    create_bucket(group.node(1), "photos").await;
    for node in 2..=4 {
        assert_eq!(group.node(1).put_node("", group.entry_of(node)).await.unwrap(), Outcome::Done);
    }
    put(group.node(1), "photos", "old", &bytes(1, 400_000)).await;
    for node in [2, 3] {
        group.is_ready(1).await;
        group.node(1).change(Change::Add(ReplicaId(node))).await.unwrap();
        group.is_ready(node).await;
    }
    for round in 0..12u64 {
        let at = group.node(1 + u32::try_from(round % 3).unwrap());
        put(at, "photos", &format!("large {round}"), &bytes(round, 300_000)).await;
        put(at, "photos", &format!("small {round}"), &bytes(round, 3_000)).await;
    }
    group.is_ready(2).await;
    group.node(2).change(Change::Replace(ReplicaId(1), ReplicaId(4))).await.unwrap();
    group.is_ready(4).await;
    for round in 12..24u64 {
        let at = group.node(2 + u32::try_from(round % 3).unwrap());
        put(at, "photos", &format!("large {round}"), &bytes(round, 300_000)).await;
    }
    group.have_one_ledger_of(&[2, 3, 4]).await;
    for node in 1..=4 {
        group.stop_node(node).await;
    }
    group
}

fn place(group: &Group, node: u32) -> (PathBuf, PathBuf) {
    (group.folder().join(node.to_string()), group.folder().join(format!("{node}-keys")))
}

fn report(group: &Group, node: u32) -> VerifyReport {
    let (data, keys) = place(group, node);
    verify(&data, &keys, &mut |_| {}).unwrap()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn those_of_members_are_verified_with_what_others_hold() {
    let group = filled().await;
    let mut held = 0;
    for node in 2..=4 {
        let report = report(&group, node);
        assert_eq!(report.findings, [], "of {node}");
        assert!(report.entries > 50 && report.objects >= 37 && report.journal_records > 0, "{report:?}");
        assert_eq!(report.bodies + report.bodies_elsewhere, 37, "{report:?}");
        held += report.bodies - 12;
        let says = report.notes.iter().any(|note| note.place == "vault" && note.what.contains("not here"));
        assert_eq!(says, report.bodies_elsewhere > 0, "{report:?}");
    }
    assert!(held >= 2 * 25, "each large body is with two members or more: {held}");
    // Whose keys these are not.
    let (data, _) = place(&group, 2);
    let (_, keys) = place(&group, 3);
    assert!(!verify(&data, &keys, &mut |_| {}).unwrap().findings.is_empty());
    // A byte in the journal of the present epoch, a body that was changed.
    let (data, keys) = place(&group, 3);
    let journals = files(&data.join("epochs")).into_iter().filter(|path| !path.ends_with("membership"));
    // Some are reserved, and nothing is in them yet.
    let journal = journals.max_by_key(|path| std::fs::read(path).unwrap().iter().filter(|byte| **byte != 0).count());
    let journal = journal.unwrap();
    let whole = std::fs::read(&journal).unwrap();
    let mut damaged = whole.clone();
    let at = whole.iter().position(|byte| *byte != 0).unwrap() + 600;
    damaged[at] ^= 1;
    std::fs::write(&journal, damaged).unwrap();
    let found = report(&group, 3).findings;
    assert!(found.iter().any(|finding| finding.place.contains("epochs")), "{found:?}");
    std::fs::write(&journal, whole).unwrap();
    assert_eq!(report(&group, 3).findings, []);
    let chunk = files(&data.join("vault")).into_iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let mut bytes = std::fs::read(&chunk).unwrap();
    bytes[1000] ^= 1;
    std::fs::write(&chunk, bytes).unwrap();
    assert_eq!(report(&group, 3).findings.len(), 1, "one that is here and damaged is not taken for one elsewhere");
    let refused = backup(&data, &keys, &group.folder().join("backup"), &mut |_| {}).unwrap_err().to_string();
    assert!(refused.contains("member of a group") && refused.contains("entangle cluster replace"), "{refused}");
}

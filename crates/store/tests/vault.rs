//! The vault through its public door.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use bytes::Bytes;
use store::vault::{Vault, VaultError, collectable};
use types::Timestamp;
use types::limits::{CHUNK_LEN, COLLECT_AFTER_NS};
use types::object::{Placement, PlacementId};

const HOUR_NS: u64 = 3600 * 1_000_000_000;

async fn place(vault: &Vault, id: u8, placed_at: Timestamp, bodies: &[&[u8]]) -> Placement {
    let mut placement = Placement { id: PlacementId([id; 16]), placed_at, chunks: Vec::new() };
    for (index, body) in (0..).zip(bodies) {
        let chunk = vault.put_chunk(placement.id, placed_at, index, Bytes::copy_from_slice(body)).await.unwrap();
        placement.chunks.push(chunk);
    }
    placement
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.file_name().unwrap() != "version" {
            found.push(path);
        }
    }
    found
}

#[tokio::test]
async fn a_body_is_read_back_chunk_by_chunk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault");
    let vault = Vault::local(&path).unwrap();
    let large = vec![5; CHUNK_LEN];
    let placement = place(&vault, 1, Timestamp(7), &[&large, b"the rest"]).await;
    assert_eq!(placement.len(), CHUNK_LEN as u64 + 8);
    let vault = Vault::local(&path).unwrap();
    assert_eq!(vault.get_chunk(&placement, 0).await.unwrap(), large);
    assert_eq!(vault.get_chunk(&placement, 1).await.unwrap(), &b"the rest"[..]);
    assert!(matches!(vault.get_chunk(&placement, 2).await, Err(VaultError::Missing(_))));
    let names = vault.list().await.unwrap();
    assert_eq!(
        names.iter().map(|name| (name.placed_at, name.index)).collect::<Vec<_>>(),
        [(Timestamp(7), 0), (Timestamp(7), 1)]
    );
    vault.delete(&placement).await.unwrap();
    vault.delete(&placement).await.unwrap();
    assert!(vault.list().await.unwrap().is_empty());
    assert!(matches!(vault.get_chunk(&placement, 0).await, Err(VaultError::Missing(_))));
}

#[tokio::test]
async fn chunks_of_impossible_lengths_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let vault = Vault::local(folder.path().join("vault")).unwrap();
    for len in [0, CHUNK_LEN + 1] {
        let put = vault.put_chunk(PlacementId([1; 16]), Timestamp(1), 0, vec![0; len].into()).await;
        assert!(matches!(put, Err(VaultError::Len(found)) if found == len));
    }
    assert!(matches!(vault.check_room(u64::MAX), Err(VaultError::Full(_))));
    assert!(vault.check_room(1).is_ok());
    assert!(matches!(vault.clone().with_reserve(u64::MAX).check_room(1), Err(VaultError::Full(_))));
}

#[tokio::test]
async fn a_changed_chunk_is_named_and_never_served() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault");
    let vault = Vault::local(&path).unwrap();
    let placement = place(&vault, 1, Timestamp(7), &[b"the bytes of a body"]).await;
    let file = files(&path).pop().unwrap();
    let whole = std::fs::read(&file).unwrap();
    for offset in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[offset] ^= 1;
        std::fs::write(&file, &flipped).unwrap();
        let error = vault.get_chunk(&placement, 0).await.unwrap_err();
        assert!(matches!(error, VaultError::Damaged(_)), "{error}");
        assert!(error.to_string().contains(file.file_name().unwrap().to_str().unwrap()), "{error}");
    }
    std::fs::write(&file, &whole[1..]).unwrap();
    assert!(matches!(vault.get_chunk(&placement, 0).await, Err(VaultError::Damaged(_))));
    std::fs::write(&file, &whole).unwrap();
    vault.get_chunk(&placement, 0).await.unwrap();
}

#[tokio::test]
async fn what_a_crash_left_half_written_is_removed_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault");
    let vault = Vault::local(&path).unwrap();
    let placement = place(&vault, 0xab, Timestamp(7), &[b"whole"]).await;
    let half = path.join("ab").join("0000000000000007-abab-00000001-00#1");
    let foreign = path.join("ab").join("notes#not-a-number");
    std::fs::write(&half, "ha").unwrap();
    std::fs::write(&foreign, "mine").unwrap();
    let vault = Vault::local(&path).unwrap();
    assert!(!half.exists());
    assert!(foreign.exists());
    assert_eq!(vault.list().await.unwrap().len(), 1);
    vault.get_chunk(&placement, 0).await.unwrap();
}

#[tokio::test]
async fn a_vault_of_another_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault");
    drop(Vault::local(&path).unwrap());
    std::fs::write(path.join("version"), "entangle vault 2\n").unwrap();
    let error = Vault::local(&path).err().unwrap();
    assert!(matches!(&error, VaultError::Version { found, .. } if found.contains('2')), "{error}");
}

#[test]
fn only_old_bodies_that_nothing_refers_to_are_collectable() {
    let watermark = Timestamp(10 * HOUR_NS);
    let edge = watermark.minus_ns(COLLECT_AFTER_NS);
    assert!(!collectable(edge, watermark, false));
    assert!(collectable(edge.minus_ns(1), watermark, false));
    assert!(!collectable(Timestamp(0), watermark, true));
    assert!(!collectable(Timestamp(0), Timestamp(HOUR_NS), false), "the watermark is younger than the delay");
}

#[tokio::test]
async fn a_sweep_removes_what_is_collectable() {
    let folder = tempfile::tempdir().unwrap();
    let vault = Vault::local(folder.path().join("vault")).unwrap();
    let watermark = Timestamp(10 * HOUR_NS);
    let old = Timestamp(7 * HOUR_NS);
    place(&vault, 1, old, &[b"dead", b"and buried"]).await;
    let kept = place(&vault, 2, old, &[b"alive"]).await;
    place(&vault, 3, watermark.minus_ns(HOUR_NS), &[b"just placed"]).await;
    let swept = vault.sweep(watermark, |placement| Ok(placement == kept.id)).await.unwrap();
    assert_eq!((swept.kept, swept.waiting, swept.removed, swept.chunks_removed), (1, 1, 1, 2));
    let left: Vec<_> = vault.list().await.unwrap().iter().map(|name| name.placement.0[0]).collect();
    assert_eq!(left, [2, 3]);
    let failed = vault.sweep(watermark, |_| Err("the state is gone".to_owned())).await;
    assert!(matches!(failed, Err(VaultError::Reference(_))));
    assert_eq!(vault.list().await.unwrap().len(), 2);
}

#[tokio::test]
async fn the_document_says_where_a_chunk_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault");
    let vault = Vault::local(&path).unwrap();
    let id = PlacementId(std::array::from_fn(|index| index as u8));
    vault.put_chunk(id, Timestamp(1), 0, Bytes::from_static(b"entangle")).await.unwrap();
    let file = files(&path).pop().unwrap();
    let place = format!("vault/{}", file.strip_prefix(&path).unwrap().display());
    assert!(include_str!("../../../docs/formats/vault.md").contains(&place), "docs/formats/vault.md lacks {place}");
}

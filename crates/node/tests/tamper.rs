//! Tampering: a byte flipped anywhere in a data folder is found by `verify`, or changes nothing that the node
//! answers and nothing that it proves.
//!
//! `ENTANGLE_TAMPER_FLIPS` and `ENTANGLE_TAMPER_SEED` set how many flips are made, and which.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;
mod filled;

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use filled::{Dump, copy_folder, dump, files, fill, fingerprint, go_on, keys, spread};
use node::verify::verify;
use tempfile::tempdir;

/// Flips of an ordinary run.
const FLIPS: u64 = 40;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// What kind of file it is.
fn class(data: &Path, file: &Path) -> String {
    let path = file.strip_prefix(data).unwrap();
    let names: Vec<_> = path.iter().map(|name| name.to_str().unwrap()).collect();
    match names.as_slice() {
        ["journal", _] => "journal".to_owned(),
        ["state", .., folder @ ("tables" | "blobs"), _] => format!("state/{folder}"),
        ["state", name] if name.ends_with(".jnl") => "state/journal".to_owned(),
        ["state", ..] => "state/other".to_owned(),
        ["vault", "version"] => "vault/version".to_owned(),
        ["vault", ..] => "vault/chunks".to_owned(),
        _ => path.display().to_string(),
    }
}

/// Random numbers of a seed.
struct Random(blake3::OutputReader);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        let mut word = [0; 8];
        self.0.fill(&mut word);
        u64::from_be_bytes(word) % end
    }
}

/// A byte of a file, and what is to be changed in it.
#[derive(Debug)]
struct Flip {
    file: PathBuf,
    offset: u64,
    mask: u8,
}

impl Flip {
    /// Half of them anywhere, half where the file is not zero: most of a journal is reserved space.
    fn draw(classes: &BTreeMap<String, Vec<PathBuf>>, random: &mut Random) -> (String, Self) {
        let (class, of_class) = classes.iter().nth(random.below(classes.len() as u64) as usize).unwrap();
        let file = of_class[random.below(of_class.len() as u64) as usize].clone();
        let bytes = fs::read(&file).unwrap();
        let mut offset = random.below(bytes.len() as u64);
        if random.below(2) == 0 {
            let used = bytes.iter().rposition(|byte| *byte != 0).map_or(bytes.len(), |last| last + 1);
            offset = random.below(used as u64);
        }
        (class.clone(), Self { file, offset, mask: 1 << random.below(8) })
    }

    /// Makes the change; a second time undoes it.
    fn apply(&self) {
        let file = OpenOptions::new().read(true).write(true).open(&self.file).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, self.offset).unwrap();
        file.write_all_at(&[byte[0] ^ self.mask], self.offset).unwrap();
    }
}

/// What became of the flips of one class of files.
#[derive(Default)]
struct Tally {
    found: u64,
    harmless: u64,
}

#[tokio::test(flavor = "multi_thread")]
async fn every_flip_is_found_or_changes_nothing() {
    let folder = tempdir().unwrap();
    let data = folder.path().join("data");
    fill(&data).await;
    spread(&data).await;
    go_on(&data).await;
    let expected = dump(&data).await.unwrap();
    let before = fingerprint(&data);
    let mut classes: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for file in files(&data) {
        if fs::metadata(&file).unwrap().len() > 0 {
            classes.entry(class(&data, &file)).or_default().push(file);
        }
    }
    for wanted in
        ["journal", "state/journal", "state/tables", "state/blobs", "vault/chunks", "ledger/side", "format", "cluster"]
    {
        assert!(classes.contains_key(wanted), "{wanted} is missing in {:?}", classes.keys());
    }
    let seed = setting("ENTANGLE_TAMPER_SEED", 1);
    let mut random = Random(blake3::Hasher::new().update(&seed.to_be_bytes()).finalize_xof());
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    for _ in 0..setting("ENTANGLE_TAMPER_FLIPS", FLIPS) {
        let (class, flip) = Flip::draw(&classes, &mut random);
        flip.apply();
        let tally = tallies.entry(class).or_default();
        match verify(&data, &keys(&data), &mut |_| {}) {
            Ok(report) if report.findings.is_empty() => {
                assert_same(&expected, &data, &folder.path().join("copy"), &flip).await;
                println!("harmless: {flip:?}, notes {:?}", report.notes);
                tally.harmless += 1;
            }
            Ok(_) | Err(_) => tally.found += 1,
        }
        flip.apply();
    }
    for (class, tally) in &tallies {
        println!("{class:<24} found {:>4}, harmless {:>4}", tally.found, tally.harmless);
    }
    assert_eq!(fingerprint(&data), before, "verification changed the folder");
    assert_eq!(verify(&data, &keys(&data), &mut |_| {}).unwrap().findings, []);
}

/// A node that starts on the changed folder answers and proves the same.
async fn assert_same(expected: &Dump, data: &Path, copy: &Path, flip: &Flip) {
    copy_folder(data, copy);
    copy_folder(&keys(data), &keys(copy));
    match dump(copy).await {
        Ok(dump) => assert!(dump == *expected, "{flip:?} was not found and changed an answer"),
        Err(error) => panic!("{flip:?} was not found, and the node does not answer any more: {error}"),
    }
    fs::remove_dir_all(copy).unwrap();
    fs::remove_dir_all(keys(copy)).unwrap();
}

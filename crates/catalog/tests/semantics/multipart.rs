//! Multipart uploads.

use catalog::query;
use md5::{Digest as _, Md5};
use types::command::{CompleteUpload, UploadPart};
use types::object::{ChecksumAlgorithm as Algorithm, ChecksumKind as Kind, PlacementId};
use types::state::Table;
use types::{Op, OrderKey, Outcome, Refusal, Timestamp};

use crate::common::World;
use crate::common::ops::*;

/// Stores two parts, 3 and 8, and gives them.
fn two_parts(world: &mut World, upload: OrderKey) -> [UploadPart; 2] {
    let parts = [part("key", upload, 3, 1, MIB5, world.now), small_part("key", upload, 8, "tail")];
    for part in &parts {
        assert!(matches!(world.run(Op::UploadPart(part.clone())), Outcome::PartStored(_)));
    }
    parts
}

fn completion(upload: OrderKey, parts: &[UploadPart]) -> CompleteUpload {
    complete("key", upload, parts.iter().map(listed).collect())
}

#[test]
fn the_etag_is_the_md5_of_the_md5s_and_the_number_of_parts() {
    let mut world = World::new();
    let upload = world.upload("key");
    let parts = two_parts(&mut world, upload);
    let written = world.written(Op::CompleteUpload(completion(upload, &parts)));
    let mut hasher = Md5::new();
    hasher.update(parts[0].md5);
    hasher.update(parts[1].md5);
    let hash: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(written.etag, format!("{hash}-2"));
    assert_eq!((written.parts, written.len), (2, MIB5 + 4));
    assert_eq!(world.read("key").unwrap(), "<placed 1>tail");
    let row = query::object(&world.state, "bucket", "key", None).unwrap().unwrap();
    let index = query::parts(&world.state, &row).unwrap().unwrap().parts;
    assert_eq!(index.iter().map(|part| (part.number, part.len)).collect::<Vec<_>>(), [(3, MIB5), (8, 4)]);
}

#[test]
fn the_content_digest_runs_over_all_chunks_of_all_parts() {
    let mut world = World::new();
    let upload = world.upload("key");
    let parts = two_parts(&mut world, upload);
    world.written(Op::CompleteUpload(completion(upload, &parts)));
    let mut chunks = placement(1, MIB5, Timestamp(0)).chunks;
    chunks.push(types::object::Chunk { len: 4, digest: *blake3::hash(b"tail").as_bytes() });
    let row = query::object(&world.state, "bucket", "key", None).unwrap().unwrap();
    assert_eq!(row.digest, content_digest(&chunks));
}

#[test]
fn a_layout_loads_only_the_parts_of_the_range() {
    let mut world = World::new();
    let upload = world.upload("key");
    let parts = two_parts(&mut world, upload);
    world.written(Op::CompleteUpload(completion(upload, &parts)));
    let row = query::object(&world.state, "bucket", "key", None).unwrap().unwrap();
    let offsets = |range: std::ops::Range<u64>| {
        query::layout(&world.state, &row, range).unwrap().iter().map(|at| (at.offset, at.len)).collect::<Vec<_>>()
    };
    assert_eq!(offsets(0..1), [(0, MIB5)]);
    assert_eq!(offsets(MIB5 - 1..MIB5), [(0, MIB5)]);
    assert_eq!(offsets(MIB5..MIB5 + 1), [(MIB5, 4)]);
    assert_eq!(offsets(MIB5 - 1..u64::MAX), [(0, MIB5), (MIB5, 4)]);
    assert_eq!(offsets(MIB5 + 4..u64::MAX), []);
    assert_eq!(offsets(7..7), []);
}

#[test]
fn a_part_sent_again_replaces_the_first() {
    let mut world = World::new();
    let upload = world.upload("key");
    world.run(Op::UploadPart(part("key", upload, 1, 1, MIB5, world.now)));
    world.run(Op::UploadPart(part("key", upload, 1, 2, MIB5, world.now)));
    assert!(!query::body_referenced(&world.state, PlacementId([1; 16])).unwrap());
    let again = small_part("key", upload, 1, "again");
    world.run(Op::UploadPart(again.clone()));
    let page = query::list_parts(&world.state, "bucket", "key", upload, 0, 1000).unwrap().unwrap();
    assert_eq!(page.parts.len(), 1);
    assert_eq!(page.parts[0].1.etag(), etag_of("again"));
    world.written(Op::CompleteUpload(completion(upload, &[again])));
    assert_eq!(world.read("key").unwrap(), "again");
}

#[test]
fn parts_out_of_order_or_listed_twice_are_refused() {
    let mut world = World::new();
    let upload = world.upload("key");
    let [one, two] = two_parts(&mut world, upload);
    let listing = completion(upload, &[two.clone(), one.clone()]);
    assert_eq!(world.refused(Op::CompleteUpload(listing)), Refusal::InvalidPartOrder);
    let listing = completion(upload, &[one.clone(), one, two]);
    assert_eq!(world.refused(Op::CompleteUpload(listing)), Refusal::InvalidPartOrder);
}

#[test]
fn a_part_that_is_missing_or_has_another_tag_is_named() {
    let mut world = World::new();
    let upload = world.upload("key");
    let [one, two] = two_parts(&mut world, upload);
    let listing = completion(upload, &[one.clone(), UploadPart { number: 7, ..two.clone() }]);
    assert_eq!(world.refused(Op::CompleteUpload(listing)), Refusal::InvalidPart(7));
    let listing = completion(upload, &[one, UploadPart { md5: [0; 16], ..two }]);
    assert_eq!(world.refused(Op::CompleteUpload(listing)), Refusal::InvalidPart(8));
    assert!(matches!(world.refused(Op::CompleteUpload(completion(upload, &[]))), Refusal::Invalid(_)));
}

#[test]
fn every_part_but_the_last_has_five_mib() {
    let mut world = World::new();
    let upload = world.upload("key");
    let parts = [part("key", upload, 1, 1, MIB5 - 1, world.now), part("key", upload, 2, 2, 1, world.now)];
    for part in &parts {
        world.run(Op::UploadPart(part.clone()));
    }
    assert_eq!(world.refused(Op::CompleteUpload(completion(upload, &parts))), Refusal::EntityTooSmall(1));
    world.written(Op::CompleteUpload(completion(upload, &parts[..1])));
}

#[test]
fn parts_that_are_not_listed_go() {
    let mut world = World::new();
    let upload = world.upload("key");
    let [one, _] = two_parts(&mut world, upload);
    world.run(Op::UploadPart(part("key", upload, 1, 9, MIB5, world.now)));
    world.written(Op::CompleteUpload(completion(upload, &[one])));
    assert!(!query::body_referenced(&world.state, PlacementId([9; 16])).unwrap());
    assert_eq!(world.state.count(Table::Bodies), 0);
    assert_eq!(world.read("key").unwrap(), "<placed 1>");
}

#[test]
fn the_length_that_the_client_expects_is_checked() {
    let mut world = World::new();
    let upload = world.upload("key");
    let parts = two_parts(&mut world, upload);
    let mut request = completion(upload, &parts);
    request.len = Some(MIB5);
    assert_eq!(world.refused(Op::CompleteUpload(request.clone())), Refusal::BadDigest);
    request.len = Some(MIB5 + 4);
    world.written(Op::CompleteUpload(request));
}

#[test]
fn a_repeated_completion_answers_the_same_until_its_time_is_over() {
    let mut world = World::new();
    let upload = world.upload("key");
    let parts = two_parts(&mut world, upload);
    let request = Op::CompleteUpload(completion(upload, &parts));
    let first = world.written(request.clone());
    world.written(put("key", "came after"));
    assert_eq!(world.written(request.clone()), first);
    assert_eq!(world.last.as_ref().unwrap().original(), Some(first.order));
    assert_eq!(world.read("key").unwrap(), "came after", "a replay writes nothing");
    // Other parts were never completed.
    assert_eq!(world.refused(Op::CompleteUpload(completion(upload, &parts[..1]))), Refusal::NoSuchUpload);
    world.now = first.order.timestamp.plus_ns(types::limits::RETRY_WINDOW_NS - 1_000_000_001);
    assert_eq!(world.written(request.clone()), first);
    assert_eq!(world.refused(request), Refusal::NoSuchUpload);
}

#[test]
fn an_aborted_upload_is_gone_and_so_is_a_completed_one() {
    let mut world = World::new();
    let upload = world.upload("key");
    let parts = two_parts(&mut world, upload);
    assert_eq!(world.refused(abort("other", upload)), Refusal::NoSuchUpload);
    assert_eq!(world.run(abort("key", upload)), Outcome::Done);
    assert_eq!(world.state.count(Table::Catalog), 1);
    assert_eq!(world.refused(abort("key", upload)), Refusal::NoSuchUpload);
    assert_eq!(world.refused(Op::UploadPart(parts[0].clone())), Refusal::NoSuchUpload);
    assert_eq!(world.refused(Op::CompleteUpload(completion(upload, &parts))), Refusal::NoSuchUpload);

    let upload = world.upload("key");
    let parts = two_parts(&mut world, upload);
    world.written(Op::CompleteUpload(completion(upload, &parts)));
    assert_eq!(world.refused(abort("key", upload)), Refusal::NoSuchUpload);
    assert_eq!(world.read("key").unwrap(), "<placed 1>tail");
}

#[test]
fn an_upload_belongs_to_its_key() {
    let mut world = World::new();
    let upload = world.upload("key");
    let parts = two_parts(&mut world, upload);
    let stray = UploadPart { key: "other".to_owned(), ..parts[0].clone() };
    assert_eq!(world.refused(Op::UploadPart(stray)), Refusal::NoSuchUpload);
    let stray = CompleteUpload { key: "other".to_owned(), ..completion(upload, &parts) };
    assert_eq!(world.refused(Op::CompleteUpload(stray)), Refusal::NoSuchUpload);
    assert!(query::list_parts(&world.state, "bucket", "other", upload, 0, 10).unwrap().is_none());
}

#[test]
fn a_part_number_is_between_one_and_ten_thousand() {
    let mut world = World::new();
    let upload = world.upload("key");
    for number in [0, 10_001] {
        let wrong = small_part("key", upload, number, "x");
        assert!(matches!(world.refused(Op::UploadPart(wrong)), Refusal::Invalid(_)));
    }
    assert!(matches!(world.run(Op::UploadPart(small_part("key", upload, 10_000, "x"))), Outcome::PartStored(_)));
}

/// What is uploaded in parts of 5 MiB of zeros and a tail, with the checksums that a client would send.
fn with_checksums(world: &mut World, upload: OrderKey, algorithm: Algorithm) -> ([UploadPart; 2], [Vec<u8>; 2]) {
    let zeros = vec![0; usize::try_from(MIB5).unwrap()];
    let values = [value(algorithm, &zeros), value(algorithm, b"tail")];
    let mut parts = [part("key", upload, 1, 1, MIB5, world.now), small_part("key", upload, 2, "tail")];
    for (part, value) in parts.iter_mut().zip(&values) {
        part.checksum = Some(checksum(algorithm, Kind::FullObject, value));
        assert!(matches!(world.run(Op::UploadPart(part.clone())), Outcome::PartStored(_)));
    }
    (parts, values)
}

/// A checksum computed bit by bit or by another library, not by the code under test.
fn value(algorithm: Algorithm, bytes: &[u8]) -> Vec<u8> {
    let crc = |polynomial: u64, bits: u32| {
        let ones = u64::MAX >> (64 - bits);
        let whole = bytes.iter().fold(ones, |crc, byte| {
            (0..8).fold(crc ^ u64::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ polynomial } else { crc >> 1 })
        });
        (whole ^ ones).to_be_bytes()[8 - (bits / 8) as usize..].to_vec()
    };
    match algorithm {
        Algorithm::Crc32 => crc(0xedb8_8320, 32),
        Algorithm::Crc32c => crc(0x82f6_3b78, 32),
        Algorithm::Crc64Nvme => crc(0x9a6c_9329_ac4b_c9b5, 64),
        Algorithm::Sha1 => sha1::Sha1::digest(bytes).to_vec(),
        Algorithm::Sha256 => sha2::Sha256::digest(bytes).to_vec(),
    }
}

#[test]
fn the_checksum_functions_of_this_test_are_right() {
    assert_eq!(value(Algorithm::Crc32, b"123456789"), 0xcbf4_3926_u32.to_be_bytes());
    assert_eq!(value(Algorithm::Crc32c, b"123456789"), 0xe306_9283_u32.to_be_bytes());
    assert_eq!(value(Algorithm::Crc64Nvme, b"123456789"), 0xae8b_1486_0a79_9888_u64.to_be_bytes());
}

#[test]
fn a_full_object_crc_is_combined_from_the_parts() {
    let mut whole = vec![0; usize::try_from(MIB5).unwrap()];
    whole.extend_from_slice(b"tail");
    for algorithm in [Algorithm::Crc32, Algorithm::Crc32c, Algorithm::Crc64Nvme] {
        let mut world = World::new();
        let upload = world.start(create_upload("key", Some((algorithm, Kind::FullObject))));
        let (parts, _) = with_checksums(&mut world, upload, algorithm);
        let mut request = completion(upload, &parts);
        request.checksum = Some(checksum(algorithm, Kind::FullObject, &vec![1; algorithm.value_len()]));
        assert_eq!(world.refused(Op::CompleteUpload(request.clone())), Refusal::BadDigest);
        request.checksum = Some(checksum(algorithm, Kind::FullObject, &value(algorithm, &whole)));
        let written = world.written(Op::CompleteUpload(request.clone()));
        assert_eq!(written.checksum, request.checksum);
        let row = query::object(&world.state, "bucket", "key", None).unwrap().unwrap();
        assert_eq!(row.checksum_parts(), None);
    }
}

#[test]
fn a_composite_checksum_is_the_checksum_of_the_checksums() {
    for algorithm in [Algorithm::Crc32, Algorithm::Crc32c, Algorithm::Sha1, Algorithm::Sha256] {
        let mut world = World::new();
        let upload = world.start(create_upload("key", Some((algorithm, Kind::Composite))));
        let (parts, values) = with_checksums(&mut world, upload, algorithm);
        let written = world.written(Op::CompleteUpload(completion(upload, &parts)));
        let expected = checksum(algorithm, Kind::Composite, &value(algorithm, &values.concat()));
        assert_eq!(written.checksum, Some(expected));
        let row = query::object(&world.state, "bucket", "key", None).unwrap().unwrap();
        assert_eq!(row.checksum_parts(), Some(2));
    }
}

#[test]
fn a_listed_checksum_must_be_that_of_the_part() {
    let mut world = World::new();
    let upload = world.start(create_upload("key", Some((Algorithm::Crc32, Kind::Composite))));
    let (parts, values) = with_checksums(&mut world, upload, Algorithm::Crc32);
    let mut request = completion(upload, &parts);
    request.parts[1].checksum = Some(checksum(Algorithm::Crc32, Kind::FullObject, &values[0]));
    assert_eq!(world.refused(Op::CompleteUpload(request.clone())), Refusal::InvalidPart(2));
    request.parts[1].checksum = Some(checksum(Algorithm::Crc32, Kind::FullObject, &values[1]));
    world.written(Op::CompleteUpload(request));
}

#[test]
fn an_upload_with_a_checksum_needs_it_of_every_part() {
    let mut world = World::new();
    let upload = world.start(create_upload("key", Some((Algorithm::Crc64Nvme, Kind::FullObject))));
    let parts = two_parts(&mut world, upload);
    assert_eq!(world.refused(Op::CompleteUpload(completion(upload, &parts))), Refusal::InvalidPart(3));
}

#[test]
fn a_sha_of_the_whole_cannot_be_combined_and_crc64_is_of_the_whole_only() {
    let mut world = World::new();
    for wrong in [(Algorithm::Sha256, Kind::FullObject), (Algorithm::Crc64Nvme, Kind::Composite)] {
        assert!(matches!(world.refused(create_upload("key", Some(wrong))), Refusal::Invalid(_)));
    }
}

#[test]
fn the_bytes_of_an_upload_become_a_version() {
    let mut world = World::versioned();
    world.written(put("key", "before"));
    let upload = world.upload("key");
    let parts = two_parts(&mut world, upload);
    let written = world.written(Op::CompleteUpload(completion(upload, &parts)));
    assert_eq!(written.version, Some(written.order));
    assert_ne!(written.order, upload, "a version is named by its completion");
    assert_eq!(world.read("key").unwrap(), "<placed 1>tail");
}

//! Receipts: both levels verify offline, stay within their size, and every change to them is refused.
#![allow(clippy::unwrap_used)]

mod common;

use common::{ORIGIN, TestSigner, fact, hex, log, members, order};
use ledger::checkpoint::{Checkpoint, SignedCheckpoint};
use ledger::note::{KeyKind, VerifierKey};
use ledger::proof::TlogProof;
use ledger::receipt::{
    BatchProver, CommitError, CommitReceipt, Level, Proof, Receipt, ReceiptFile, Speaker, Statements, VerifyError,
};
use ledger::side::SideRecord;
use ledger::tree::{inclusion_proof, root_of};
use ledger::{Entry, Policy};
use types::fact::{FactKind, FactOutcome};
use types::journal::{BatchHead, RecordHeader, RecordKind};
use types::sign::Signer as _;
use types::{ClusterId, Epoch, GroupId, Incarnation, ReplicaId, Timestamp};

fn policy(nodes: u32, quorum: u32) -> Policy {
    Policy::of_group(ORIGIN, &members(nodes), quorum).unwrap()
}

fn header(kind: RecordKind, position: u64, counter: u64, timestamp: u64) -> RecordHeader {
    RecordHeader {
        kind,
        flags: 0,
        epoch: Epoch(1),
        position,
        id: order(0, counter, 0).id,
        timestamp: Timestamp(timestamp),
        ballot: 0,
        aux: 1,
        body_len: 0,
        body_hash: [0; 32],
    }
}

fn prover(replica: u32, headers: Vec<RecordHeader>) -> BatchProver {
    let head = BatchHead {
        cluster: ClusterId([7; 16]),
        group: GroupId(1),
        epoch: Epoch(1),
        replica: ReplicaId(replica),
        incarnation: Incarnation(2),
        position: headers[0].position,
        count: headers.len() as u32,
        previous: [5; 32],
        root: root_of(headers.iter().map(RecordHeader::to_bytes)),
    };
    let signature = TestSigner::new(replica as u8).sign(&head.signed_message());
    BatchProver::new(head, signature, headers).unwrap()
}

/// A flush of `commands` commands of one node alone: `Propose` and `Commit` of each, one behind the other.
fn flush(commands: u64) -> (BatchProver, Statements, Vec<(Entry, SideRecord)>) {
    let headers = (0..commands)
        .flat_map(|n| {
            let at = 1_000 + n;
            [header(RecordKind::Propose, 101 + 2 * n, n + 1, at), header(RecordKind::Commit, 102 + 2 * n, n + 1, at)]
        })
        .collect();
    let prover = prover(1, headers);
    let entries: Vec<_> = (0..commands)
        .map(|n| fact(FactKind::Put, order(1_000 + n, n + 1, 0), &format!("cat-{n}.jpg")))
        .map(|fact| Entry::from_fact(&fact, Epoch(1), GroupId(1)))
        .collect();
    let bytes: Vec<_> = entries.iter().map(|(entry, _)| entry.to_bytes()).collect();
    let statements = Statements::sign(Speaker::after(prover.head()), &bytes, &TestSigner::new(1)).unwrap();
    (prover, statements, entries)
}

fn commit_receipt(n: u32, commands: u64) -> (Receipt, SideRecord) {
    let (prover, statements, entries) = flush(commands);
    let (entry, side) = &entries[n as usize];
    let receipt = CommitReceipt {
        entry: entry.to_bytes(),
        vouchers: vec![prover.voucher(entry.order.id).unwrap()],
        statement: statements.statement(n).unwrap(),
    };
    (Receipt::new(Proof::Commit(receipt)), side.clone())
}

fn inclusion_receipt(blocks: u64, index: u64) -> Receipt {
    let (blocks, stored) = log(blocks);
    let last = blocks.last().unwrap();
    let signer = TestSigner::new(1);
    let mut signed = SignedCheckpoint::sign(Checkpoint::new(ORIGIN, last.frontier.size(), last.root), &signer).unwrap();
    signed.cosign("node-1.example", &signer, 1_700_000_000);
    let (entry, side) =
        blocks.iter().flat_map(|block| block.entries.iter().zip(&block.sides)).nth(index as usize).unwrap();
    let hashes = inclusion_proof(&stored, index, last.frontier.size()).unwrap();
    let proof = TlogProof::of_entry(entry, index, hashes, signed.to_string());
    Receipt { proof: Proof::Included(proof), name: None, side: Some(SideRecord::from_bytes(side).unwrap()) }
}

#[test]
fn commit_receipts_verify_and_are_small() {
    for (commands, range) in [(1, 500..1_300), (64, 600..1_300), (4096, 600..2_000)] {
        for n in [0, commands / 2, commands - 1] {
            let (receipt, _) = commit_receipt(n as u32, commands);
            let bytes = receipt.to_bytes().unwrap();
            assert!(range.contains(&bytes.len()), "{} bytes of {commands}", bytes.len());
            let verified = Receipt::from_bytes(&bytes).unwrap().verify(&policy(1, 1)).unwrap();
            assert_eq!(verified.entry.order, order(1_000 + n, n + 1, 0));
            let Level::Commit { vouched_by, stated_by, .. } = verified.level else { panic!("level") };
            assert_eq!((vouched_by, stated_by), (vec!["node-1.example".to_owned()], "node-1.example".to_owned()));
        }
    }
}

#[test]
fn disclosure_names_the_object_and_its_bytes() {
    let (mut receipt, side) = commit_receipt(3, 64);
    assert!(receipt.verify(&policy(1, 1)).unwrap().sentence().contains("not disclosed"));
    let readable = side.open().unwrap().readable.unwrap();
    receipt.name = Some(readable.name());
    let verified = receipt.verify(&policy(1, 1)).unwrap();
    assert_eq!(verified.name, Some(("photos".to_owned(), "cat-3.jpg".to_owned())));
    assert_eq!(verified.readable, None);
    receipt.side = Some(side.without_predecessor());
    let verified = Receipt::from_bytes(&receipt.to_bytes().unwrap()).unwrap().verify(&policy(1, 1)).unwrap();
    assert_eq!(verified.readable.as_ref().unwrap().detail.digest, Some([0xd1; 32]));
    assert_eq!(verified.predecessor, None);
    let sentence = verified.sentence();
    for part in ["s3://photos/cat-3.jpg", "5 bytes", &hex(&[0xd1; 32]), "node-1.example", "1970-01-01T00:00:00.000Z"] {
        assert!(sentence.contains(part), "{sentence}");
    }
    receipt.name = Some(ledger::side::NameOpening { key: "dog.jpg".to_owned(), ..readable.name() });
    assert!(matches!(receipt.verify(&policy(1, 1)), Err(VerifyError::Disclosure(_))));
    receipt.name = None;
    receipt.side = Some(commit_receipt(4, 64).1);
    assert!(matches!(receipt.verify(&policy(1, 1)), Err(VerifyError::Disclosure(_))));
}

#[test]
fn every_flipped_bit_is_refused_or_changes_nothing() {
    let (commit, side) = commit_receipt(5, 9);
    let commit = Receipt { side: Some(side), ..commit };
    for good in [commit, inclusion_receipt(3, 6)] {
        let bytes = good.to_bytes().unwrap();
        let wanted = good.verify(&policy(1, 1)).unwrap();
        let mut unchanged = 0;
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let Ok(receipt) = Receipt::from_bytes(&bad) else { continue };
            let Ok(verified) = receipt.verify(&policy(1, 1)) else { continue };
            // An unknown field may be skipped, or a part be taken for another spelling of itself; nothing is gained.
            assert_eq!(verified, wanted, "bit {bit} changes what is proved");
            unchanged += 1;
        }
        assert!(unchanged < 16, "{unchanged} flips went unnoticed");
    }
}

/// Three nodes: a coordinator that decided, and acks of others; two of three are the quorum.
#[test]
fn quorums_over_several_journals() {
    let id = 4;
    let (_, _, entries) = flush(8);
    let entry = entries[3].0;
    let at = entry.order.timestamp.0;
    let one = prover(1, vec![header(RecordKind::Propose, 10, id, at - 2)]);
    let decided = prover(1, vec![header(RecordKind::Clock, 11, 0, 5), header(RecordKind::Commit, 12, id, at)]);
    let two = prover(2, vec![header(RecordKind::Ack, 77, id, at), header(RecordKind::Ack, 78, id + 1, at)]);
    let statements =
        Statements::sign(Speaker::after(decided.head()), &[entry.to_bytes()], &TestSigner::new(1)).unwrap();
    let receipt = |vouchers: &[&BatchProver]| CommitReceipt {
        entry: entry.to_bytes(),
        vouchers: vouchers.iter().map(|prover| prover.voucher(entry.order.id).unwrap()).collect(),
        statement: statements.statement(0).unwrap(),
    };
    let committed = receipt(&[&one, &decided, &two]).verify(&policy(3, 2)).unwrap();
    let replicas: Vec<u32> = committed.vouchers.iter().map(|(replica, _)| replica.0).collect();
    assert_eq!(replicas, [1, 2]);
    assert!(receipt(&[&decided, &two]).verify(&policy(3, 2)).is_ok());
    let fails = |vouchers: &[&BatchProver], policy: &Policy| receipt(vouchers).verify(policy).unwrap_err();
    assert!(matches!(fails(&[&one, &decided], &policy(3, 2)), CommitError::Quorum(_)));
    assert_eq!(fails(&[&one, &two], &policy(3, 2)), CommitError::Undecided);
    assert_eq!(fails(&[&decided, &two], &policy(1, 1)), CommitError::Replica(ReplicaId(2)));
    // The serving node must itself vouch: its word alone is no receipt.
    let mut foreign = receipt(&[&decided, &two]);
    foreign.statement.replica = ReplicaId(3);
    assert_eq!(foreign.verify(&policy(3, 2)), Err(CommitError::Server(ReplicaId(3))));
    // A commit at another timestamp, and an ack above the decision, do not vouch.
    let late = prover(2, vec![header(RecordKind::Ack, 77, id, at + 1)]);
    assert_eq!(fails(&[&decided, &late], &policy(3, 2)), CommitError::Record(ReplicaId(2)));
    let other = prover(2, vec![header(RecordKind::Commit, 77, id, at + 1)]);
    assert_eq!(fails(&[&decided, &other], &policy(3, 2)), CommitError::Record(ReplicaId(2)));
    assert!(prover(2, vec![header(RecordKind::Prepare, 77, id, at)]).voucher(entry.order.id).is_none());
}

#[test]
fn a_false_outcome_is_refused() {
    let (receipt, _) = commit_receipt(2, 8);
    let Proof::Commit(good) = receipt.proof else { panic!("level") };
    let entry = Entry::from_bytes(&good.entry).unwrap();
    let forged = Entry { outcome: FactOutcome::Refused, ..entry };
    let bad = CommitReceipt { entry: forged.to_bytes(), ..good.clone() };
    assert_eq!(bad.verify(&policy(1, 1)), Err(CommitError::Statement(ReplicaId(1))));
    let mut bad = good.clone();
    bad.statement.head_hash[0] ^= 1;
    assert_eq!(bad.verify(&policy(1, 1)), Err(CommitError::Statement(ReplicaId(1))));
    let bad = CommitReceipt { entry: Entry { group: GroupId(2), ..entry }.to_bytes(), ..good.clone() };
    assert_eq!(bad.verify(&policy(1, 1)), Err(CommitError::Mixed));
    let bad = CommitReceipt { vouchers: Vec::new(), ..good.clone() };
    assert_eq!(bad.verify(&policy(1, 1)), Err(CommitError::Count));
    let mut bad = good;
    bad.vouchers[0].signature[3] ^= 1;
    assert_eq!(bad.verify(&policy(1, 1)), Err(CommitError::Signature(ReplicaId(1))));
}

#[test]
fn inclusion_receipts_verify() {
    let receipt = inclusion_receipt(30, 57);
    let bytes = receipt.to_bytes().unwrap();
    assert!(bytes.len() < 2_000, "{} bytes", bytes.len());
    let verified = Receipt::from_bytes(&bytes).unwrap().verify(&policy(1, 1)).unwrap();
    let Level::Included { origin, index, size, cosigned } = &verified.level else { panic!("level") };
    assert_eq!((origin.as_str(), *index, *size), (ORIGIN, 57, 121));
    assert_eq!(cosigned, &[("node-1.example".to_owned(), 1_700_000_000)]);
    assert!(verified.sentence().contains("entry 57 of the log entangle.example/log/1"), "{}", verified.sentence());
    assert!(matches!(receipt.verify(&policy(3, 2)), Err(VerifyError::Included(_))), "the quorum is not reached");
    let key = VerifierKey::new(ORIGIN, KeyKind::Ed25519, &TestSigner::new(9).public_key()).unwrap();
    let log = policy(1, 1).logs()[0].key.to_string();
    let stranger = policy(1, 1).to_string().replace(&log, &key.to_string());
    let stranger = Policy::from_bytes(stranger.as_bytes()).unwrap();
    assert!(matches!(receipt.verify(&stranger), Err(VerifyError::Included(_))), "the log is unknown");
}

#[test]
fn receipt_files_hold_receipt_and_policy() {
    let file = ReceiptFile { receipt: inclusion_receipt(3, 2), untrusted_policy: Some(policy(3, 2)) };
    let text = file.to_text().unwrap();
    assert_eq!(ReceiptFile::from_bytes(text.as_bytes()).unwrap(), file);
    assert_eq!(ReceiptFile::from_bytes(text.replace('\n', "\r\n").as_bytes()).unwrap(), file);
    let bare = ReceiptFile { untrusted_policy: None, ..file };
    assert_eq!(ReceiptFile::from_bytes(bare.to_text().unwrap().as_bytes()).unwrap(), bare);
    let lines: Vec<&str> = text.lines().collect();
    for end in 0..lines.len() {
        let cut = lines[..end].join("\n") + "\n";
        if let Ok(short) = ReceiptFile::from_bytes(cut.as_bytes()) {
            assert_eq!(short, bare, "cut after {end} lines");
        }
    }
    for bad in
        ["", "entangle/receipt-file/v2\n", "entangle/receipt-file/v1\n", &text.replace("v1", "v9"), &(text + "x\n")]
    {
        assert!(ReceiptFile::from_bytes(bad.as_bytes()).is_err());
    }
}

#[test]
fn headers_of_another_batch_are_refused() {
    let good = prover(1, vec![header(RecordKind::Propose, 10, 1, 5), header(RecordKind::Commit, 11, 1, 5)]);
    let head = *good.head();
    let headers = |first| vec![header(RecordKind::Propose, first, 1, 5), header(RecordKind::Commit, first + 1, 1, 5)];
    assert!(BatchProver::new(head, [0; 64], headers(10)).is_ok());
    assert!(BatchProver::new(head, [0; 64], headers(11)).is_err());
    assert!(BatchProver::new(BatchHead { count: 3, ..head }, [0; 64], headers(10)).is_err());
    let last = BatchHead { position: u64::MAX, ..head };
    assert!(BatchProver::new(last, [0; 64], headers(10)).is_err(), "no position lies behind the last");
    assert!(Statements::sign(Speaker::after(&head), &[], &TestSigner::new(1)).is_none());
}

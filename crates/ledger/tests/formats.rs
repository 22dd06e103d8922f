//! The test vectors in `docs/formats`: what the documents say is what this crate writes and reads.
// Reads and rewrites the documents, which the crate itself never does.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::sync::Mutex;

use common::{ORIGIN, TestSigner, fact, hex, members, order, unhex};
use ledger::block::build;
use ledger::checkpoint::{Checkpoint, SignedCheckpoint};
use ledger::note::{KeyKind, VerifierKey};
use ledger::proof::TlogProof;
use ledger::receipt::{BatchProver, CommitReceipt, Proof, Receipt, ReceiptFile, Speaker, Statements};
use ledger::side::{self, SideRecord, opens};
use ledger::tree::{SmallTree, inclusion_proof, root_of};
use ledger::{Block, Cut, Entry, Frontier, Policy};
use types::fact::{Fact, FactKind, FactOutcome};
use types::journal::{BatchHead, RecordHeader, RecordKind};
use types::sign::Signer as _;
use types::{ClusterId, Epoch, GroupId, Incarnation, ReplicaId, Timestamp};

const LEDGER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/formats/ledger.md");
const RECEIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/formats/receipt.md");

/// One test at a time rewrites the documents.
static WRITING: Mutex<()> = Mutex::new(());

/// The block of a document between two fences, the first of which names it.
fn fenced(document: &str, name: &str) -> String {
    let text = std::fs::read_to_string(document).unwrap();
    let (_, rest) = text.split_once(&format!("```{name}\n")).expect("the document has such a block");
    rest.split_once("```\n").expect("the block is closed").0.to_owned()
}

/// Asserts that the document says what is computed; with `UPDATE_VECTORS` set, makes it say so.
fn check(document: &str, name: &str, computed: &str) {
    let computed = format!("{}\n", computed.trim_end());
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        let _writing = WRITING.lock().unwrap();
        let fence = format!("```{name}\n");
        let text = std::fs::read_to_string(document).unwrap();
        let (before, rest) = text.split_once(&fence).unwrap();
        let (_, after) = rest.split_once("```\n").unwrap();
        std::fs::write(document, format!("{before}{fence}{computed}```\n{after}")).unwrap();
    }
    let written = fenced(document, name);
    assert!(written == computed, "{document} says\n{written}\nbut computed is\n{computed}");
}

fn compare(document: &str, name: &str, vectors: &[(&str, String)]) {
    check(document, name, &vectors.iter().map(|(name, value)| format!("{name} = {value}\n")).collect::<String>());
}

fn put() -> Fact {
    let mut put = fact(FactKind::Put, order(0x0123_4567, 7, 0), "cat.jpg");
    put.salt = [0x5a; 32];
    put.detail.predecessor = Some(order(0x0100_0000, 3, 0));
    put
}

fn block() -> Block {
    let mut refused = fact(FactKind::Put, order(0x0123_4568, 8, 0), "cat.jpg");
    refused.outcome = FactOutcome::PreconditionFailed;
    let cut = Cut {
        previous: Timestamp(10_000_000),
        at: Timestamp(20_000_000),
        epoch: Epoch(1),
        group: GroupId(1),
        state_digest: [0xee; 32],
    };
    build(&Frontier::new(), &cut, &[put(), refused]).unwrap()
}

#[test]
fn ledger_document() {
    let fact = put();
    let (entry, record) = Entry::from_fact(&fact, Epoch(1), GroupId(1));
    let readable = record.open().unwrap().readable.unwrap();
    assert_eq!(side::name_commitment(&readable.name_salt, "photos", "cat.jpg"), entry.name);
    let block = block();
    assert_eq!(block.entries[0], entry.to_bytes());
    let closing = Entry::from_bytes(&block.entries[2]).unwrap();
    assert_eq!(closing.side, ledger::entry::block_digest(2, 2));
    compare(
        LEDGER,
        "vectors",
        &[
            ("command salt", hex(&fact.salt)),
            ("order key", hex(&fact.order.to_bytes())),
            ("name salt", hex(&readable.name_salt)),
            ("name commitment", hex(&entry.name)),
            ("side record", hex(&record.to_bytes())),
            ("side digest", hex(&entry.side)),
            ("side record, readable part erased", hex(&record.without_readable().to_bytes())),
            ("side record, both parts erased", hex(&record.erased().to_bytes())),
            ("entry", hex(&entry.to_bytes())),
            ("leaf hash", hex(&entry.leaf_hash())),
            ("block entry", hex(&block.entries[2])),
            ("frontier", hex(&block.frontier.to_bytes())),
            ("root", hex(&block.root)),
        ],
    );
}

#[test]
fn vectors_read_back() {
    let vectors = fenced(LEDGER, "vectors");
    let value = |name: &str| {
        let line = vectors.lines().find_map(|line| line.strip_prefix(&format!("{name} = "))).unwrap();
        unhex(line)
    };
    let entry = Entry::from_bytes(value("entry").as_slice().try_into().unwrap()).unwrap();
    let full = opens(&entry, &SideRecord::from_bytes(&value("side record")).unwrap()).unwrap();
    assert_eq!(full.predecessor, Some(Some(order(0x0100_0000, 3, 0))));
    assert_eq!(full.readable.unwrap().key, "cat.jpg");
    let partly = SideRecord::from_bytes(&value("side record, readable part erased")).unwrap();
    let partly = opens(&entry, &partly).unwrap();
    assert_eq!((partly.readable, partly.predecessor), (None, Some(Some(order(0x0100_0000, 3, 0)))));
    let erased = SideRecord::from_bytes(&value("side record, both parts erased")).unwrap();
    let erased = opens(&entry, &erased).unwrap();
    assert_eq!((erased.readable, erased.predecessor), (None, None));
    let frontier = Frontier::from_bytes(&value("frontier")).unwrap();
    assert_eq!(frontier.root().to_vec(), value("root"));
}

fn checkpoint(block: &Block) -> SignedCheckpoint {
    let signer = TestSigner::new(1);
    let mut signed =
        SignedCheckpoint::sign(Checkpoint::new(ORIGIN, block.frontier.size(), block.root), &signer).unwrap();
    signed.cosign("node-1.example", &signer, 1_700_000_000);
    signed
}

fn policy() -> Policy {
    Policy::of_group(ORIGIN, &members(1), 1).unwrap()
}

#[test]
fn checkpoint_and_policy_documents() {
    check(LEDGER, "checkpoint", &checkpoint(&block()).to_string());
    check(LEDGER, "policy", &policy().to_string());
    policy().check(fenced(LEDGER, "checkpoint").as_bytes()).unwrap();
    let key = VerifierKey::new("node-1.example", KeyKind::Cosignature, &TestSigner::new(1).public_key()).unwrap();
    assert!(fenced(LEDGER, "policy").contains(&key.to_string()));
}

fn commit_receipt() -> Receipt {
    let fact = put();
    let (entry, _) = Entry::from_fact(&fact, Epoch(1), GroupId(1));
    let header = |kind, position| RecordHeader {
        kind,
        flags: 0,
        epoch: Epoch(1),
        position,
        id: fact.order.id,
        timestamp: fact.order.timestamp,
        ballot: 0,
        aux: 1,
        body_len: 0,
        body_hash: [0; 32],
    };
    let headers = vec![header(RecordKind::Propose, 21), header(RecordKind::Commit, 22)];
    let head = BatchHead {
        cluster: ClusterId([0xc1; 16]),
        group: GroupId(1),
        epoch: Epoch(1),
        replica: ReplicaId(1),
        incarnation: Incarnation(2),
        position: 21,
        count: 2,
        previous: [0x99; 32],
        root: root_of(headers.iter().map(RecordHeader::to_bytes)),
    };
    let signer = TestSigner::new(1);
    let prover = BatchProver::new(head, signer.sign(&head.signed_message()), headers).unwrap();
    let statements = Statements::sign(Speaker::after(&head), &[entry.to_bytes()], &signer).unwrap();
    Receipt::new(Proof::Commit(CommitReceipt {
        entry: entry.to_bytes(),
        vouchers: vec![prover.voucher(fact.order.id).unwrap()],
        statement: statements.statement(0).unwrap(),
    }))
}

fn inclusion_proof_of_put() -> TlogProof {
    let block = block();
    let hashes = SmallTree::new(block.leaf_hashes.clone()).inclusion(0).unwrap();
    let mut stored = common::Stored::default();
    stored.0.push(block.leaf_hashes.clone());
    assert_eq!(inclusion_proof(&stored, 0, 3).unwrap(), hashes);
    TlogProof::of_entry(&block.entries[0], 0, hashes, checkpoint(&block).to_string())
}

#[test]
fn receipt_document() {
    let receipt = commit_receipt();
    compare(RECEIPT, "vectors", &[("commit receipt", hex(&receipt.to_bytes().unwrap()))]);
    receipt.verify(&policy()).unwrap();
    check(RECEIPT, "proof", &inclusion_proof_of_put().to_string());
    let side = SideRecord::from_bytes(&block().sides[0]).unwrap();
    let receipt = Receipt { proof: Proof::Included(inclusion_proof_of_put()), name: None, side: Some(side) };
    let file = ReceiptFile { receipt, untrusted_policy: Some(policy()) };
    check(RECEIPT, "file", &file.to_text().unwrap());
    let read = ReceiptFile::from_bytes(fenced(RECEIPT, "file").as_bytes()).unwrap();
    let sentence = read.receipt.verify(&policy()).unwrap().sentence();
    check(RECEIPT, "sentence", &sentence);
}

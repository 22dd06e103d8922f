//! R0, the commit receipt: nodes vouch for a command in their signed journals; the serving node states the outcome.
//!
//! One signature per flush makes the journal batch, and one per group of executed commands makes the statements:
//! these form an RFC 6962 tree of their own, whose root is signed. So a receipt costs hashing only.

use minicbor::{Decode, Encode};
use types::journal::{BatchHead, RecordHeader, RecordKind};
use types::limits::BATCH_RECORDS_MAX;
use types::sign::Signer;
use types::{CommandId, OrderKey, ReplicaId};

use crate::entry::{Entry, EntryError};
use crate::policy::Policy;
use crate::tree::{Hash, PROOF_LEN_MAX, SmallTree, leaf_hash, root_from_inclusion};

/// Batches that a commit receipt may show: up to two of each of 16 nodes.
pub const VOUCHERS_MAX: usize = 32;
/// Records of one batch that a commit receipt may show.
pub const VOUCHER_RECORDS_MAX: usize = 8;
/// What is put before a statement when it is signed.
pub const STATEMENT_DOMAIN: &[u8] = b"entangle/receipt-outcome/v1\n";

/// A commit receipt.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct CommitReceipt {
    /// The entry that the serving node says the command makes.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub entry: [u8; Entry::LEN],
    /// Parts of signed journals that speak of the command.
    #[n(1)]
    pub vouchers: Vec<Voucher>,
    /// Who says that it makes this entry.
    #[n(2)]
    pub statement: Statement,
}

/// Records of one signed batch that speak of the command.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Voucher {
    /// The encoded [`BatchHead`].
    #[cbor(n(0), with = "minicbor::bytes")]
    pub head: [u8; BatchHead::LEN],
    /// The node's Ed25519 signature over [`BatchHead::signed_message`].
    #[cbor(n(1), with = "minicbor::bytes")]
    pub signature: [u8; 64],
    /// In rising position.
    #[n(2)]
    pub records: Vec<RecordProof>,
}

/// A record header and its inclusion proof into the batch's root. Its index is its position less that of the batch.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct RecordProof {
    /// The encoded [`RecordHeader`].
    #[cbor(n(0), with = "minicbor::bytes")]
    pub header: [u8; RecordHeader::LEN],
    /// The hashes of the RFC 6962 inclusion proof, one behind the other, without those that `shared` counts.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub path: Vec<u8>,
    /// How many hashes at the end of the proof are those at the end of the proof of the record before in this batch.
    #[n(2)]
    pub shared: u8,
}

/// The serving node's word for the outcome, by way of a signed tree of entries.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Statement {
    /// The serving node.
    #[n(0)]
    pub replica: ReplicaId,
    /// [`BatchHead::hash`] of the last durable batch of its journal when it signed.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub head_hash: Hash,
    /// Number of entries under the signature.
    #[n(2)]
    pub count: u32,
    /// Which of them is this one.
    #[n(3)]
    pub index: u32,
    /// The hashes of the RFC 6962 inclusion proof, one behind the other.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub path: Vec<u8>,
    /// The node's Ed25519 signature over [`statement_message`].
    #[cbor(n(5), with = "minicbor::bytes")]
    pub signature: [u8; 64],
}

/// Why a commit receipt does not hold.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CommitError {
    /// More batches or records than a receipt may show, or none.
    #[error("the receipt shows no records, or too many")]
    Count,
    /// The entry is malformed, or the entry of a block, which no client is answered with.
    #[error("the entry is malformed: {0}")]
    Entry(EntryError),
    /// A head or a record header is malformed.
    #[error("a journal record is malformed: {0}")]
    Layout(types::journal::LayoutError),
    /// A replica whose key the policy does not have.
    #[error("the policy does not know replica {0}")]
    Replica(ReplicaId),
    /// A batch head whose signature does not hold.
    #[error("the journal signature of replica {0} does not hold")]
    Signature(ReplicaId),
    /// A record that is not in the batch under the signed head.
    #[error("a record is not in the signed batch of replica {0}")]
    Inclusion(ReplicaId),
    /// A record of another command, of a kind that vouches for nothing, or with a timestamp that contradicts the entry.
    #[error("a record of replica {0} does not vouch for this command at this order key")]
    Record(ReplicaId),
    /// Batches of different clusters or groups, or of another group than the entry.
    #[error("the journals belong to different clusters or groups")]
    Mixed,
    /// No record says that the timestamp is decided.
    #[error("no record says that the command is committed")]
    Undecided,
    /// The replicas that vouch do not make up the policy's quorum.
    #[error("the quorum of the policy is not reached: only {0} vouch")]
    Quorum(String),
    /// The serving node shows nothing of its own journal.
    #[error("the serving node, replica {0}, does not itself vouch")]
    Server(ReplicaId),
    /// The serving node's word for the outcome does not hold.
    #[error("the statement of the outcome by replica {0} does not hold")]
    Statement(ReplicaId),
}

/// What a commit receipt shows once it has been verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Committed {
    /// The entry.
    pub entry: Entry,
    /// The replicas that vouch, rising, with the names of their keys.
    pub vouchers: Vec<(ReplicaId, String)>,
    /// The name of the serving node's key.
    pub server: String,
    /// The cluster whose journals these are.
    pub cluster: types::ClusterId,
}

impl CommitReceipt {
    /// Checks everything that a commit receipt says, with the keys and the quorum of `policy`.
    pub fn verify(&self, policy: &Policy) -> Result<Committed, CommitError> {
        let entry = Entry::from_bytes(&self.entry).map_err(CommitError::Entry)?;
        if entry.is_block() {
            return Err(CommitError::Entry(EntryError::Block));
        }
        if self.vouchers.is_empty() || self.vouchers.len() > VOUCHERS_MAX {
            return Err(CommitError::Count);
        }
        let mut replicas: Vec<(ReplicaId, String)> = Vec::new();
        let mut cluster = None;
        let mut decided = false;
        for voucher in &self.vouchers {
            let head = BatchHead::from_bytes(&voucher.head).map_err(CommitError::Layout)?;
            if head.group != entry.group || *cluster.get_or_insert(head.cluster) != head.cluster {
                return Err(CommitError::Mixed);
            }
            let key = policy.replica(head.replica).ok_or(CommitError::Replica(head.replica))?;
            if !key.holds(&head.signed_message(), &voucher.signature) {
                return Err(CommitError::Signature(head.replica));
            }
            decided |= voucher.check_records(&head, &entry.order)?;
            replicas.push((head.replica, key.name().to_owned()));
        }
        if !decided {
            return Err(CommitError::Undecided);
        }
        replicas.sort_unstable();
        replicas.dedup();
        if !policy.is_reached(|name| replicas.iter().any(|(replica, _)| name == format!("r{replica}"))) {
            return Err(CommitError::Quorum(names(&replicas)));
        }
        // The loop ran at least once.
        let cluster = cluster.ok_or(CommitError::Count)?;
        let server = self.check_statement(policy, &entry, cluster, &replicas)?;
        Ok(Committed { entry, vouchers: replicas, server, cluster })
    }

    fn check_statement(
        &self,
        policy: &Policy,
        entry: &Entry,
        cluster: types::ClusterId,
        replicas: &[(ReplicaId, String)],
    ) -> Result<String, CommitError> {
        let statement = &self.statement;
        let replica = statement.replica;
        if !replicas.iter().any(|(other, _)| *other == replica) {
            return Err(CommitError::Server(replica));
        }
        let key = policy.replica(replica).ok_or(CommitError::Replica(replica))?;
        let place = Speaker { cluster, group: entry.group, replica, head_hash: statement.head_hash };
        let path = hashes(&statement.path).ok_or(CommitError::Statement(replica))?;
        let (index, count) = (u64::from(statement.index), u64::from(statement.count));
        let root = root_from_inclusion(index, count, &leaf_hash(&self.entry), &path)
            .map_err(|_| CommitError::Statement(replica))?;
        let message = statement_message(&place, statement.count, &root);
        if key.holds(&message, &statement.signature) {
            Ok(key.name().to_owned())
        } else {
            Err(CommitError::Statement(replica))
        }
    }
}

pub(crate) fn names(replicas: &[(ReplicaId, String)]) -> String {
    let names: Vec<&str> = replicas.iter().map(|(_, name)| name.as_str()).collect();
    names.join(", ")
}

impl Voucher {
    /// Checks that each record is under the head and vouches for the command; tells whether one says that its timestamp
    /// is decided.
    fn check_records(&self, head: &BatchHead, order: &OrderKey) -> Result<bool, CommitError> {
        if self.records.is_empty() || self.records.len() > VOUCHER_RECORDS_MAX {
            return Err(CommitError::Count);
        }
        let mut decided = false;
        let mut before: Vec<Hash> = Vec::new();
        let mut position = None;
        for record in &self.records {
            let header = RecordHeader::from_bytes(&record.header).map_err(CommitError::Layout)?;
            let inclusion = CommitError::Inclusion(head.replica);
            let rises = position.replace(header.position).is_none_or(|last| last < header.position);
            let mut path = hashes(&record.path).ok_or_else(|| inclusion.clone())?;
            let shared = before.len().checked_sub(usize::from(record.shared)).ok_or_else(|| inclusion.clone())?;
            path.extend_from_slice(&before[shared..]);
            let index = header.position.checked_sub(head.position).ok_or_else(|| inclusion.clone())?;
            let root = root_from_inclusion(index, u64::from(head.count), &leaf_hash(&record.header), &path);
            if !rises || root != Ok(head.root) {
                return Err(inclusion);
            }
            before = path;
            if header.id != order.id || !vouches(&header, order) {
                return Err(CommitError::Record(head.replica));
            }
            decided |= header.kind == RecordKind::Commit;
        }
        Ok(decided)
    }
}

/// Whether a record of the command agrees with its having been committed at this order key.
fn vouches(header: &RecordHeader, order: &OrderKey) -> bool {
    match header.kind {
        RecordKind::Propose | RecordKind::Ack => header.timestamp <= order.timestamp,
        RecordKind::Commit => header.timestamp == order.timestamp,
        RecordKind::Accepted => true,
        _ => false,
    }
}

/// Hashes that stand one behind the other; `None` if there are too many or the length is wrong.
fn hashes(bytes: &[u8]) -> Option<Vec<Hash>> {
    if bytes.len() > PROOF_LEN_MAX * 32 { None } else { crate::tree::hashes_from_bytes(bytes) }
}

/// Who states outcomes, and after which batch of its journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Speaker {
    /// The cluster.
    pub cluster: types::ClusterId,
    /// The group.
    pub group: types::GroupId,
    /// The serving node.
    pub replica: ReplicaId,
    /// [`BatchHead::hash`] of the last durable batch of its journal.
    pub head_hash: Hash,
}

impl Speaker {
    /// The writer of this batch, after this batch.
    #[must_use]
    pub fn after(head: &BatchHead) -> Self {
        Self { cluster: head.cluster, group: head.group, replica: head.replica, head_hash: head.hash() }
    }
}

/// The message under a statement: [`STATEMENT_DOMAIN`], cluster (16), group (4), replica (4), head hash (32), count (4),
/// root (32).
#[must_use]
pub fn statement_message(speaker: &Speaker, count: u32, root: &Hash) -> Vec<u8> {
    let mut message = STATEMENT_DOMAIN.to_vec();
    message.extend_from_slice(&speaker.cluster.0);
    message.extend_from_slice(&speaker.group.0.to_be_bytes());
    message.extend_from_slice(&speaker.replica.0.to_be_bytes());
    message.extend_from_slice(&speaker.head_hash);
    message.extend_from_slice(&count.to_be_bytes());
    message.extend_from_slice(root);
    message
}

/// A flushed batch, ready to make vouchers of. Made once per flush.
#[derive(Clone, Debug)]
pub struct BatchProver {
    head: BatchHead,
    signature: [u8; 64],
    headers: Vec<RecordHeader>,
    tree: SmallTree,
    /// The records that may vouch: command and index, sorted.
    speaking: Vec<(CommandId, u32)>,
}

/// Headers and head do not belong together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the headers are not those of the batch under this head")]
pub struct BatchMismatch;

impl BatchProver {
    /// The prover of a batch, from its signed head and its headers in order of position.
    pub fn new(head: BatchHead, signature: [u8; 64], headers: Vec<RecordHeader>) -> Result<Self, BatchMismatch> {
        let tree = SmallTree::new(headers.iter().map(|header| leaf_hash(&header.to_bytes())).collect());
        Self::with_tree(head, signature, headers, tree)
    }

    /// The same, where the tree over the headers is at hand. Whoever gives it vouches that it is theirs: only its
    /// root and its size are compared with the head.
    pub fn with_tree(
        head: BatchHead,
        signature: [u8; 64],
        headers: Vec<RecordHeader>,
        tree: SmallTree,
    ) -> Result<Self, BatchMismatch> {
        if headers.len() > BATCH_RECORDS_MAX || tree.size() != headers.len() {
            return Err(BatchMismatch);
        }
        let end = head.position.checked_add(u64::from(head.count)).ok_or(BatchMismatch)?;
        let dense = headers.iter().zip(head.position..end).all(|(header, position)| header.position == position);
        if tree.root() != head.root || headers.len() != head.count as usize || !dense {
            return Err(BatchMismatch);
        }
        let speaks =
            |kind| matches!(kind, RecordKind::Propose | RecordKind::Ack | RecordKind::Commit | RecordKind::Accepted);
        let mut speaking: Vec<(CommandId, u32)> = headers
            .iter()
            .zip(0..)
            .filter(|(header, _)| speaks(header.kind))
            .map(|(header, i)| (header.id, i))
            .collect();
        speaking.sort_unstable();
        Ok(Self { head, signature, headers, tree, speaking })
    }

    /// The head.
    #[must_use]
    pub fn head(&self) -> &BatchHead {
        &self.head
    }

    /// What this batch says of the command; `None` if it says nothing that vouches.
    #[must_use]
    pub fn voucher(&self, id: CommandId) -> Option<Voucher> {
        let start = self.speaking.partition_point(|(other, _)| *other < id);
        let mut before: Vec<Hash> = Vec::new();
        let mut records = Vec::new();
        let indices = self.speaking[start..].iter().take_while(|(other, _)| *other == id).take(VOUCHER_RECORDS_MAX);
        for index in indices.map(|(_, index)| *index as usize) {
            let path = self.tree.inclusion(index)?;
            let shared = path.iter().rev().zip(before.iter().rev()).take_while(|(a, b)| a == b).count();
            records.push(RecordProof {
                header: self.headers[index].to_bytes(),
                path: path[..path.len() - shared].concat(),
                shared: u8::try_from(shared).ok()?,
            });
            before = path;
        }
        (!records.is_empty()).then(|| Voucher { head: self.head.to_bytes(), signature: self.signature, records })
    }
}

/// The signed outcomes of a group of executed commands.
#[derive(Clone, Debug)]
pub struct Statements {
    speaker: Speaker,
    count: u32,
    tree: SmallTree,
    signature: [u8; 64],
}

impl Statements {
    /// Signs the outcomes: one signature for all entries given. `None` when there are none, or more than fit a `u32`.
    #[must_use]
    pub fn sign(speaker: Speaker, entries: &[[u8; Entry::LEN]], signer: &dyn Signer) -> Option<Self> {
        let count = u32::try_from(entries.len()).ok().filter(|count| *count > 0)?;
        let tree = SmallTree::new(entries.iter().map(|entry| leaf_hash(entry)).collect());
        let signature = signer.sign(&statement_message(&speaker, count, &tree.root()));
        Some(Self { speaker, count, tree, signature })
    }

    /// The statement of the entry with this index; `None` if there is none.
    #[must_use]
    pub fn statement(&self, index: u32) -> Option<Statement> {
        Some(Statement {
            replica: self.speaker.replica,
            head_hash: self.speaker.head_hash,
            count: self.count,
            index,
            path: self.tree.inclusion(index as usize)?.concat(),
            signature: self.signature,
        })
    }
}

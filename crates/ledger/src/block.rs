//! Blocks: what one cut adds to the log. A pure function of the facts, so that every replica forms the same.

use core::borrow::Borrow;

use types::fact::{Fact, FactKind};
use types::{Epoch, GroupId, OrderKey, Timestamp};

use crate::entry::Entry;
use crate::tree::{Frontier, Hash, StoredHash};

/// A cut: the commands with `previous < timestamp <= at` make one block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cut {
    /// The cut before it; [`Timestamp::ZERO`] before the first.
    pub previous: Timestamp,
    /// Up to here, inclusive.
    pub at: Timestamp,
    /// The epoch in which it is taken.
    pub epoch: Epoch,
    /// The group whose log grows.
    pub group: GroupId,
    /// SHA-256 of the state digest at the cut.
    pub state_digest: Hash,
}

/// What a cut adds to the log: the entries of the facts, then the block entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Block {
    /// Index of the first entry.
    pub first: u64,
    /// The entries; the last one closes the block.
    pub entries: Vec<[u8; Entry::LEN]>,
    /// The encoded side record of each entry; that of the block entry is empty.
    pub sides: Vec<Vec<u8>>,
    /// The leaf hash of each entry.
    pub leaf_hashes: Vec<Hash>,
    /// The hashes of level 1 and above that tiles hold from now on, in the order in which they were completed.
    pub stored: Vec<StoredHash>,
    /// The edge of the tree with the block appended.
    pub frontier: Frontier,
    /// The root of that tree.
    pub root: Hash,
}

/// Why facts do not make a block: always a defect of the caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BlockError {
    /// A cut without facts is not taken.
    #[error("a block holds at least one fact")]
    Empty,
    /// A fact that does not stand above the one before it.
    #[error("the fact at {0} does not stand above the one before it")]
    Order(OrderKey),
    /// A fact outside the cut.
    #[error("the fact at {0} lies outside the cut")]
    Outside(OrderKey),
    /// Only the builder makes block entries.
    #[error("the fact at {0} claims to be a block")]
    Kind(OrderKey),
}

/// Forms the block of a cut from its facts, which stand in strictly rising order key, and appends it to the tree of
/// which `frontier` is the edge.
pub fn build<F: Borrow<Fact>>(frontier: &Frontier, cut: &Cut, facts: &[F]) -> Result<Block, BlockError> {
    let commands = check(cut, facts)?;
    let mut block = Block {
        first: frontier.size(),
        entries: Vec::with_capacity(facts.len() + 1),
        sides: Vec::with_capacity(facts.len() + 1),
        leaf_hashes: Vec::with_capacity(facts.len() + 1),
        stored: Vec::new(),
        frontier: frontier.clone(),
        root: [0; 32],
    };
    for fact in facts {
        let (entry, side) = Entry::from_fact(fact.borrow(), cut.epoch, cut.group);
        block.push(&entry, side.to_bytes());
    }
    let closing = Entry::block(cut.at, cut.epoch, cut.group, cut.state_digest, facts.len() as u64, commands);
    block.push(&closing, Vec::new());
    block.root = block.frontier.root();
    Ok(block)
}

impl Block {
    fn push(&mut self, entry: &Entry, side: Vec<u8>) {
        let bytes = entry.to_bytes();
        let leaf = crate::tree::leaf_hash(&bytes);
        let stored = &mut self.stored;
        self.frontier.append_with(leaf, |hash| {
            if hash.level > 0 {
                stored.push(hash);
            }
        });
        self.entries.push(bytes);
        self.sides.push(side);
        self.leaf_hashes.push(leaf);
    }
}

/// Checks order and range; counts the commands.
fn check<F: Borrow<Fact>>(cut: &Cut, facts: &[F]) -> Result<u64, BlockError> {
    let first: &Fact = facts.first().ok_or(BlockError::Empty)?.borrow();
    let mut commands = 1;
    let mut last = first.order;
    for (position, fact) in facts.iter().map(Borrow::borrow).enumerate() {
        if fact.order.timestamp <= cut.previous && cut.previous != Timestamp::ZERO || fact.order.timestamp > cut.at {
            return Err(BlockError::Outside(fact.order));
        }
        if fact.kind == FactKind::Block || fact.order.id == types::CommandId::MAX {
            return Err(BlockError::Kind(fact.order));
        }
        if position > 0 {
            if fact.order <= last {
                return Err(BlockError::Order(fact.order));
            }
            commands += u64::from(fact.order.id != last.id);
        }
        last = fact.order;
    }
    Ok(commands)
}

//! A whole tree in memory: for batches of records and of statements, where many proofs are wanted of one tree.

use super::{Hash, empty_root, node_hash};

/// Every node of a small tree, so that a proof costs no hashing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SmallTree {
    /// Level by level from the leaves up, the root last. The last node of an odd level stands for itself above.
    nodes: Vec<Hash>,
    leaves: usize,
}

impl SmallTree {
    /// The tree over leaves of which the hashes are given.
    #[must_use]
    pub fn new(leaves: Vec<Hash>) -> Self {
        let count = leaves.len();
        let mut nodes = leaves;
        nodes.reserve(count + 64);
        let (mut start, mut width) = (0, count);
        while width > 1 {
            let next = start + width;
            for pair in (start..next).step_by(2) {
                let node = if pair + 1 < next { node_hash(&nodes[pair], &nodes[pair + 1]) } else { nodes[pair] };
                nodes.push(node);
            }
            (start, width) = (next, width.div_ceil(2));
        }
        Self { nodes, leaves: count }
    }

    /// Number of leaves.
    #[must_use]
    pub fn size(&self) -> usize {
        self.leaves
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> Hash {
        self.nodes.last().copied().unwrap_or_else(empty_root)
    }

    /// The inclusion proof of the leaf with this index, from its sibling up to the root's child; `None` if there is no
    /// such leaf.
    #[must_use]
    pub fn inclusion(&self, index: usize) -> Option<Vec<Hash>> {
        if index >= self.leaves {
            return None;
        }
        let mut proof = Vec::new();
        let (mut start, mut width, mut index) = (0, self.leaves, index);
        while width > 1 {
            let sibling = index ^ 1;
            if sibling < width {
                proof.push(self.nodes[start + sibling]);
            }
            start += width;
            width = width.div_ceil(2);
            index /= 2;
        }
        Some(proof)
    }
}

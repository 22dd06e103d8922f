//! Who this replica is, and where its restart begins.

use types::limits::MEMBERS_MAX;
use types::{Epoch, GroupId, ReplicaId, Timestamp};

use crate::base::BaseError;

/// A place among the members in rising replica order.
pub(crate) type Member = usize;

/// The group and this replica's place in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The group.
    pub group: GroupId,
    /// This replica; one of `members`.
    pub replica: ReplicaId,
    /// The replicas of the epoch, strictly rising.
    pub members: Vec<ReplicaId>,
    /// How many of them may fail: `1 <= f <= (n - 1) / 2`, and 0 when `n <= 2`.
    pub f: u32,
    /// The epoch.
    pub epoch: Epoch,
}

/// What a core is restored from, beside its journal.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Restore {
    /// The newest base that was kept ([`crate::Base::bytes`]), if the journal was ever trimmed.
    pub base: Option<Vec<u8>>,
    /// The cut at which the stored state stands; zero for an empty one. Commands at or below it are not
    /// executed again.
    pub executed_cut: Timestamp,
}

/// Why a core cannot be made.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConfigError {
    /// No member, or members that are not strictly rising.
    #[error("the members of the group must be at least one and strictly rising, and are {0:?}")]
    Members(Vec<ReplicaId>),
    /// This replica is not a member.
    #[error("replica {replica} is not among the members {members:?}")]
    NotMember {
        /// This replica.
        replica: ReplicaId,
        /// The members.
        members: Vec<ReplicaId>,
    },
    /// Not a number of failures that a group of this size can survive.
    #[error("a group of {members} cannot be run with f = {f}")]
    Failures {
        /// Number of members.
        members: usize,
        /// The number asked for.
        f: u32,
    },
    /// More members than a fast quorum can name.
    #[error("a group has at most {MEMBERS_MAX} members, and this one has {0}")]
    TooMany(usize),
    /// The base is not usable.
    #[error("the base of the trimmed journal: {0}")]
    Base(#[from] BaseError),
    /// The state is older than what the journal was trimmed to: what lies between is gone.
    #[error(
        "the stored state is at cut {state}, and the journal was trimmed at the later cut {base}: restore the state from a backup"
    )]
    StateBehindBase {
        /// The state's cut.
        state: Timestamp,
        /// The base's cut.
        base: Timestamp,
    },
}

impl Config {
    /// Checks what must hold of any group, then what this version supports.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let n = self.members.len();
        if n == 0 || self.members.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(ConfigError::Members(self.members.clone()));
        }
        if !self.members.contains(&self.replica) {
            return Err(ConfigError::NotMember { replica: self.replica, members: self.members.clone() });
        }
        let f = usize::try_from(self.f).unwrap_or(usize::MAX);
        let survivable = if n <= 2 { f == 0 } else { f >= 1 && f <= (n - 1) / 2 };
        if !survivable {
            return Err(ConfigError::Failures { members: n, f: self.f });
        }
        if n > MEMBERS_MAX {
            return Err(ConfigError::TooMany(n));
        }
        Ok(())
    }

    /// The members' number, `n`.
    pub(crate) fn n(&self) -> usize {
        self.members.len()
    }

    /// The failures survived, `f`.
    pub(crate) fn f(&self) -> usize {
        usize::try_from(self.f).expect("check() bounds f by the members")
    }

    /// `n/2 + 1`.
    pub(crate) fn majority(&self) -> usize {
        self.n() / 2 + 1
    }

    /// `F`: how many acks decide on the fast path.
    pub(crate) fn fast_size(&self) -> usize {
        self.majority().max(self.n() / 2 + self.f())
    }

    /// `f + 1`: how many `Accepted` decide.
    pub(crate) fn accept_size(&self) -> usize {
        self.f() + 1
    }

    /// `n - f`: how many reports a recovery needs.
    pub(crate) fn recovery_size(&self) -> usize {
        self.n() - self.f()
    }

    /// The place of a replica among the members.
    pub(crate) fn member(&self, replica: ReplicaId) -> Option<Member> {
        self.members.binary_search(&replica).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(members: &[u32], f: u32) -> Config {
        let members = members.iter().map(|n| ReplicaId(*n)).collect();
        Config { group: GroupId(1), replica: ReplicaId(1), members, f, epoch: Epoch(1) }
    }

    #[test]
    fn quorums_have_the_sizes_of_the_protocol() {
        let sizes = |n: u32, f| {
            let config = config(&(1..=n).collect::<Vec<_>>(), f);
            assert_eq!(config.check(), Ok(()));
            (config.majority(), config.fast_size(), config.accept_size(), config.recovery_size())
        };
        assert_eq!(sizes(1, 0), (1, 1, 1, 1));
        assert_eq!(sizes(2, 0), (2, 2, 1, 2));
        assert_eq!(sizes(3, 1), (2, 2, 2, 2));
        assert_eq!(sizes(4, 1), (3, 3, 2, 3));
        assert_eq!(sizes(5, 1), (3, 3, 2, 4));
        assert_eq!(sizes(5, 2), (3, 4, 3, 3));
        assert_eq!(sizes(7, 1), (4, 4, 2, 6));
        assert_eq!(sizes(7, 2), (4, 5, 3, 5));
        assert_eq!(sizes(7, 3), (4, 6, 4, 4));
    }

    #[test]
    fn nonsense_is_named() {
        assert!(matches!(config(&[], 0).check(), Err(ConfigError::Members(_))));
        assert!(matches!(config(&[1, 1], 0).check(), Err(ConfigError::Members(_))));
        assert!(matches!(config(&[2, 1], 0).check(), Err(ConfigError::Members(_))));
        assert!(matches!(config(&[2], 0).check(), Err(ConfigError::NotMember { .. })));
        assert_eq!(config(&[1], 1).check(), Err(ConfigError::Failures { members: 1, f: 1 }));
        assert_eq!(config(&[1, 2, 3], 0).check(), Err(ConfigError::Failures { members: 3, f: 0 }));
        assert_eq!(config(&[1, 2, 3, 4], 2).check(), Err(ConfigError::Failures { members: 4, f: 2 }));
    }
}

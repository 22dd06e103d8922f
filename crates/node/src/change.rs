//! Changes of the group's members, one at a time, while it works (`consensus.md`, section 8).

use std::sync::Arc;
use std::time::Duration;

use catalog::query;
use catalog::rows::NodeRow;
use dace::{Membership, Reconfig, ReconfigError};
use ledger::policy::{POLICY_ITEMS_MAX, Policy};
use tokio::sync::{oneshot, watch};
use types::command::{AdmitNode, Member, PutNode, PutZone};
use types::state::ReadError;
use types::{CommandId, Epoch, Op, Outcome, ReplicaId};

use crate::engine::inbox::Rejected;
use crate::engine::{Changing, Submitted};
use crate::error::WriteError;
use crate::node::{Node, Shared};
use crate::peer::requests::{Request, decode};
use crate::peer::{bodies, learner};

/// What is to change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// This node becomes a member.
    Add(ReplicaId),
    /// This member leaves.
    Remove(ReplicaId),
    /// The second takes the place of the first.
    Replace(ReplicaId, ReplicaId),
    /// So many may fail.
    Faults(u32),
    /// The same members go on with the newest version of the logic that all of them have.
    Upgrade,
}

/// What is said of a zone, and how it is with this node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ZoneState {
    /// What is said.
    pub zone: PutZone,
    /// Whether this node holds its lease now.
    pub is_held: bool,
}

/// Why the members were not changed. Each message says what to do next.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ChangeError {
    /// The directory of the cluster has no such node.
    #[error(
        "node {0} is not known to this cluster: let it join first (`entangle cluster token`), or look at `entangle status` for its number"
    )]
    Unknown(ReplicaId),
    /// It was a member, and its number is not used again: others have counted what it said.
    #[error(
        "node {0} was a member before, and a node comes back as a new one only: remove its data folder and its keys folder, and join with a new token"
    )]
    Spent(ReplicaId),
    /// It is a member already.
    #[error("node {0} is a member already")]
    Member(ReplicaId),
    /// It is no member.
    #[error("node {0} is no member; `entangle status` names those that are")]
    NoMember(ReplicaId),
    /// It is the last one.
    #[error("node {0} is the only member: without it the data would be gone; add another one first")]
    Last(ReplicaId),
    /// A group of so many survives no such number of failures.
    #[error("a group of {members} members survives at most {most} failures, and from three members on at least one")]
    Faults {
        /// Members.
        members: usize,
        /// What is possible.
        most: u32,
    },
    /// A member could not execute what the others do.
    #[error(
        "node {node} has version {has} of the logic and the group executes by version {needed}: start a newer build of `entangle` there first"
    )]
    Outdated {
        /// The node.
        node: ReplicaId,
        /// What it has.
        has: u32,
        /// What it needs.
        needed: u32,
    },
    /// The group cannot execute this yet.
    #[error(
        "the group executes by version {has} of the logic, and this needs version {needed}: once all members run this build, turn it on with `entangle cluster upgrade`"
    )]
    Unready {
        /// What it executes by.
        has: u32,
        /// What it would have to.
        needed: u32,
    },
    /// Nothing would change.
    #[error("the group executes by version {0} of the logic already, which is the newest that all members have")]
    Upgraded(u32),
    /// The core refused it.
    #[error("{0}")]
    Consensus(String),
    /// It is not there.
    #[error(
        "node {0} cannot be reached from here: see that it runs, and that its mesh and this node's reach each other (`entangle status` shows the link)"
    )]
    Absent(ReplicaId),
    /// Bodies of large objects would be lost.
    #[error(
        "{held} of the members that stay have all bodies of large objects, and {needed} must before one may leave: {reason}; see that they run, reach one another and have room, and try again"
    )]
    Bodies {
        /// Members that have them.
        held: usize,
        /// How many must.
        needed: usize,
        /// Why one of the others has not.
        reason: String,
    },
    /// It could not fetch the state that it needs as a member.
    #[error(
        "node {node} must have the state before it becomes a member, and nothing more of it came there for a while, after {fetched} bytes: {reason}; see that it has room and reaches the members (its log says more), and try again: it goes on where it was"
    )]
    Stalled {
        /// The node.
        node: ReplicaId,
        /// Bytes that it has fetched.
        fetched: u64,
        /// Why no more.
        reason: String,
    },
    /// It is still fetching the state.
    #[error(
        "node {node} is still fetching the state that it needs as a member ({fetched} bytes so far), and nothing has changed yet; it goes on: ask for the same change again later"
    )]
    Learning {
        /// The node.
        node: ReplicaId,
        /// Bytes that it has fetched.
        fetched: u64,
    },
    /// The change before this one is not over yet.
    #[error("{0}; see that the members of the present epoch run and reach one another, and try again")]
    Unfinished(String),
    /// Another change came first.
    #[error(
        "another change of the members came first, and epoch {0} began with that: look at `entangle status`, and ask again if it is still wanted"
    )]
    Overtaken(u32),
    /// The node takes no work.
    #[error(transparent)]
    Refused(#[from] WriteError),
    /// The directory could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// How long a change is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a node that cannot be reached is waited for: it may have joined a moment ago.
pub(crate) const ABSENT_AFTER: Duration = Duration::from_secs(5);

/// How many may fail by default: as many as possible.
pub(crate) fn faults_of(members: usize) -> u32 {
    u32::try_from(members.saturating_sub(1) / 2).unwrap_or(0)
}

/// The next epoch that a change asks for.
fn next(present: &Membership, change: Change) -> Result<Reconfig, ChangeError> {
    let mut members = present.members.clone();
    let leave = |members: &mut Vec<ReplicaId>, node: ReplicaId| {
        let at = members.binary_search(&node).map_err(|_| ChangeError::NoMember(node))?;
        members.remove(at);
        Ok::<(), ChangeError>(())
    };
    let enter = |members: &mut Vec<ReplicaId>, node: ReplicaId| match members.binary_search(&node) {
        Ok(_) => Err(ChangeError::Member(node)),
        Err(at) => {
            members.insert(at, node);
            Ok(())
        }
    };
    let mut f = None;
    match change {
        Change::Add(node) => enter(&mut members, node)?,
        Change::Remove(node) if members == [node] => return Err(ChangeError::Last(node)),
        Change::Remove(node) => leave(&mut members, node)?,
        Change::Replace(old, new) => {
            leave(&mut members, old)?;
            enter(&mut members, new)?;
            f = Some(present.f);
        }
        Change::Faults(faults) => f = Some(faults),
        Change::Upgrade => f = Some(present.f),
    }
    let most = faults_of(members.len());
    let f = f.unwrap_or(most);
    if f > most || (f == 0 && members.len() > 2) {
        return Err(ChangeError::Faults { members: members.len(), most });
    }
    Ok(Reconfig { members, f, logic: present.logic })
}

impl Shared {
    /// The policy that verifies what the members sign, the same at each of them: the founders and the nodes of the directory.
    pub(crate) fn policy(&self) -> String {
        let mut members: Vec<Member> = self.genesis.members.clone();
        let known = self.read(|rows| query::nodes(rows)).unwrap_or_default();
        let joined = known.into_iter().map(|row| row.node.member);
        members.extend(joined.filter(|joined| members_lack(&self.genesis.members, joined.replica)));
        members.sort_by_key(|member| member.replica);
        let genesis = &self.genesis;
        // Nodes that left long ago give way where there are too many: receipts of today are verified most.
        let first = members.len().saturating_sub(POLICY_ITEMS_MAX);
        let of = |members: &[Member]| Policy::of_group(&genesis.origin, members, genesis.quorum);
        let policy = of(&members[first..]).or_else(|_| of(&genesis.members));
        policy.map(|policy| policy.to_string()).expect("the founders' was made at the start")
    }
}

fn members_lack(members: &[Member], replica: ReplicaId) -> bool {
    members.iter().all(|member| member.replica != replica)
}

impl Node {
    /// The newest epoch that is known here: who the members are, and how many may fail.
    #[must_use]
    pub fn membership(&self) -> Arc<Membership> {
        self.shared.membership()
    }

    /// The replica that this node is.
    #[must_use]
    pub fn replica(&self) -> ReplicaId {
        self.shared.replica
    }

    /// To be told of every new epoch.
    #[must_use]
    pub fn memberships(&self) -> watch::Receiver<Arc<Membership>> {
        self.shared.membership.subscribe()
    }

    /// The nodes that the directory of the cluster names; founders may be missing.
    pub fn nodes(&self) -> Result<Vec<NodeRow>, ReadError> {
        self.shared.read(|rows| query::nodes(rows))
    }

    /// Adds a node to the directory, or replaces what stands there of it; durable when it returns.
    pub async fn put_node(&self, principal: &str, node: PutNode) -> Result<Outcome, WriteError> {
        self.configure(principal, Op::PutNode(node)).await
    }

    /// What is said of zones, in byte order.
    pub fn zones(&self) -> Result<Vec<ZoneState>, ReadError> {
        let rows = self.shared.read(|rows| query::zones(rows))?;
        let table = self.shared.leased.table();
        let is_held =
            |zone: &PutZone| table.leases.iter().any(|lease| lease.zone.0 == zone.zone.as_bytes() && lease.is_held());
        Ok(rows.into_iter().map(|row| ZoneState { is_held: is_held(&row.zone), zone: row.zone }).collect())
    }

    /// Says who is to hold the lease of a zone, and where its writes are at home; durable when it returns. Each holder asks
    /// for its lease once it has executed that.
    pub async fn put_zone(&self, principal: &str, zone: PutZone) -> Result<Outcome, ChangeError> {
        let membership = self.membership();
        if membership.logic < catalog::LOGIC_WITH_ZONES {
            let (has, needed) = (membership.logic, catalog::LOGIC_WITH_ZONES);
            return Err(ChangeError::Unready { has, needed });
        }
        Ok(self.configure(principal, Op::PutZone(zone)).await?)
    }

    /// Takes a node in that shows a join token: [`Outcome::Admitted`] with its number, whichever members are asked how often.
    pub async fn admit_node(&self, admit: AdmitNode) -> Result<Outcome, ChangeError> {
        let membership = self.membership();
        let (has, needed) = (membership.logic, catalog::LOGIC_WITH_TOKENS);
        // A group begins with the first version, and while it has one member nobody has an older build.
        if has < needed && membership.members != [self.replica()] {
            return Err(ChangeError::Unready { has, needed });
        }
        Ok(self.configure("", Op::AdmitNode(admit)).await?)
    }

    /// Changes the members. Returns when the new epoch has begun here, and as many of its members as must have all bodies of
    /// large objects. Whoever leaves has to run until then, unless it is lost.
    pub async fn change(&self, change: Change) -> Result<Arc<Membership>, ChangeError> {
        let shared = &self.shared;
        shared.ready()?;
        if let Change::Add(node) | Change::Replace(_, node) = change {
            let is_founder = !members_lack(&shared.genesis.members, node);
            let is_known = is_founder || self.nodes()?.iter().any(|row| row.node.member.replica == node);
            if !is_known {
                return Err(ChangeError::Unknown(node));
            }
            let epoch = self.shared.read(|rows| query::epoch(rows))?;
            let was_member = epoch.map_or(is_founder, |row| row.ever.contains(&node));
            if was_member && !shared.membership().has(node) {
                return Err(ChangeError::Spent(node));
            }
        }
        if let Change::Add(node) | Change::Replace(_, node) = change
            && node != shared.replica
        {
            // What cannot be is refused before anything is fetched for it.
            next(&shared.membership(), change)?;
            learner::await_learned(shared, node).await?;
        }
        // Others may have changed the members meanwhile.
        let present = shared.membership();
        let mut next = next(&present, change)?;
        next.logic = logic_of(shared, &next.members, present.logic, change == Change::Upgrade).await?;
        if change == Change::Upgrade && next.logic == present.logic {
            return Err(ChangeError::Upgraded(present.logic));
        }
        let needed = usize::try_from(next.f).unwrap_or(0) + 1;
        let stay: Vec<ReplicaId> =
            shared.membership().members.iter().copied().filter(|of| next.members.contains(of)).collect();
        if stay.len() < shared.membership().members.len() {
            have_bodies(shared, &stay, needed.min(stay.len())).await?;
        }
        let mut memberships = self.memberships();
        let proposed = propose(shared, next);
        let (epoch, id) = proposed.await?;
        let begun = memberships.wait_for(|membership| membership.epoch > epoch);
        let begun = tokio::time::timeout(PATIENCE, begun).await.map_err(|_| WriteError::TimedOut)?;
        let membership = begun.map_err(|_| WriteError::Stopping)?.clone();
        match membership.entry {
            Some(entry) if entry.reconfig == id => {
                // Those that were written meanwhile, and by more members than before where more may fail.
                have_bodies(shared, &membership.members, needed).await?;
                Ok(membership)
            }
            _ => Err(ChangeError::Overtaken(membership.epoch.0)),
        }
    }
}

/// The newest version of the logic that all of these have: by it they execute from the next epoch on.
async fn logic_of(shared: &Shared, members: &[ReplicaId], present: u32, is_upgrade: bool) -> Result<u32, ChangeError> {
    let mut newest = catalog::LOGIC_VERSION;
    for node in members.iter().copied().filter(|node| *node != shared.replica) {
        // One that cannot be reached has the present one, as a member; as a new node it is refused later.
        let Some(link) = shared.peers.link_to(node) else {
            if is_upgrade {
                return Err(ChangeError::Absent(node));
            }
            newest = newest.min(present);
            continue;
        };
        let answer = tokio::time::timeout(PATIENCE, link.request(Request::Logic.to_bytes(), 64)).await;
        // Builds that do not know the question have the first.
        let has = answer.ok().and_then(Result::ok).and_then(|answer| decode(&answer).ok()).unwrap_or(1);
        if has < present {
            return Err(ChangeError::Outdated { node, has, needed: present });
        }
        newest = newest.min(has);
    }
    Ok(newest.max(present))
}

/// Proposes an epoch, as soon as the one before the present one is over.
async fn propose(shared: &Shared, next: Reconfig) -> Result<(Epoch, CommandId), ChangeError> {
    let began = tokio::time::Instant::now();
    loop {
        let (answer, answered) = oneshot::channel();
        match shared.inbox.submit(Submitted::Change(Changing { next: next.clone(), answer })) {
            Ok(()) => {}
            Err(Rejected::Full) => return Err(WriteError::SlowDown("its queue of commands is full").into()),
            Err(Rejected::Closed) => return Err(shared.running().err().unwrap_or(WriteError::Stopping).into()),
        }
        match answered.await.map_err(|_| shared.running().err().unwrap_or(WriteError::Stopping))? {
            Err(ChangeError::Unfinished(_)) if began.elapsed() < PATIENCE => {}
            Err(ChangeError::Absent(_)) if began.elapsed() < ABSENT_AFTER => {}
            proposed => return proposed,
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// So many of these members are to have all bodies.
async fn have_bodies(shared: &Arc<Shared>, members: &[ReplicaId], needed: usize) -> Result<(), ChangeError> {
    let (held, reason) = bodies::hold_everywhere(shared, members).await;
    let reason = reason.unwrap_or_default();
    if held < needed { Err(ChangeError::Bodies { held, needed, reason }) } else { Ok(()) }
}

impl From<ReconfigError> for ChangeError {
    fn from(error: ReconfigError) -> Self {
        let advice = match &error {
            ReconfigError::Connected { .. } => {
                "; see that the nodes of the new group run and that this one reaches them"
            }
            ReconfigError::Unfinished(_) => return Self::Unfinished(error.to_string()),
            ReconfigError::Malformed(_) => "",
            ReconfigError::Submit(error) => return crate::engine::refused(*error).into(),
        };
        Self::Consensus(format!("{error}{advice}"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn of(members: &[u32], f: u32) -> Membership {
        let members = members.iter().copied().map(ReplicaId).collect();
        Membership { epoch: Epoch(1), members, f, logic: 1, entry: None }
    }

    fn after(present: &Membership, change: Change) -> (Vec<u32>, u32) {
        let next = next(present, change).unwrap();
        (next.members.iter().map(|member| member.0).collect(), next.f)
    }

    #[test]
    fn groups_grow_and_shrink_and_survive_what_they_can() {
        assert_eq!(after(&of(&[1], 0), Change::Add(ReplicaId(2))), (vec![1, 2], 0));
        assert_eq!(after(&of(&[1, 3], 0), Change::Add(ReplicaId(2))), (vec![1, 2, 3], 1));
        assert_eq!(
            after(&of(&[1, 2, 3, 4, 5], 1), Change::Replace(ReplicaId(2), ReplicaId(9))),
            (vec![1, 3, 4, 5, 9], 1)
        );
        assert_eq!(after(&of(&[1, 2, 3], 1), Change::Remove(ReplicaId(1))), (vec![2, 3], 0));
        assert_eq!(after(&of(&[1, 2, 3, 4, 5], 1), Change::Faults(2)), (vec![1, 2, 3, 4, 5], 2));
    }

    #[test]
    fn what_makes_no_group_is_refused() {
        let three = of(&[1, 2, 3], 1);
        assert!(matches!(next(&three, Change::Add(ReplicaId(3))), Err(ChangeError::Member(_))));
        assert!(matches!(next(&three, Change::Remove(ReplicaId(4))), Err(ChangeError::NoMember(_))));
        assert!(matches!(next(&of(&[1], 0), Change::Remove(ReplicaId(1))), Err(ChangeError::Last(_))));
        assert!(matches!(next(&three, Change::Faults(0)), Err(ChangeError::Faults { .. })));
        assert!(matches!(next(&three, Change::Faults(2)), Err(ChangeError::Faults { .. })));
    }
}

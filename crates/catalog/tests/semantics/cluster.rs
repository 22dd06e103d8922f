//! The first configuration, and access keys.

use catalog::query;
use types::command::{AdmitNode, BeginEpoch, Genesis, Member, PutNode};
use types::fact::{FactKind, FactOutcome};
use types::{ClusterId, Command, Op, Outcome, Refusal, ReplicaId};

use crate::common::World;
use crate::common::ops::*;

fn genesis() -> Genesis {
    Genesis {
        cluster: ClusterId([1; 16]),
        origin: "example.org/log".to_owned(),
        members: vec![Member { replica: ReplicaId(1), name: "node-1".to_owned(), key: [2; 32] }],
        quorum: 1,
    }
}

#[test]
fn the_first_configuration_is_written_once() {
    let mut world = World::empty();
    assert_eq!(world.run(Op::Genesis(genesis())), Outcome::Done);
    let fact = world.last.as_ref().unwrap().facts[0].clone();
    assert_eq!((fact.kind, fact.outcome), (FactKind::Genesis, FactOutcome::Applied));
    let told = Command::from_bytes(fact.detail.configuration.as_ref().unwrap()).unwrap();
    assert_eq!(told.op, Op::Genesis(genesis()));
    assert_eq!(query::genesis(&world.state).unwrap().unwrap().genesis, genesis());
    assert!(matches!(world.refused(Op::Genesis(genesis())), Refusal::Invalid(_)));
}

#[test]
fn a_first_configuration_must_make_sense() {
    let member = |replica| Member { replica: ReplicaId(replica), name: "n".to_owned(), key: [0; 32] };
    let wrong = [
        Genesis { members: Vec::new(), quorum: 0, ..genesis() },
        Genesis { quorum: 0, ..genesis() },
        Genesis { quorum: 2, ..genesis() },
        Genesis { members: vec![member(2), member(1)], ..genesis() },
        Genesis { members: vec![member(1), member(1)], ..genesis() },
        Genesis { members: (0..33).map(member).collect(), ..genesis() },
        Genesis { origin: String::new(), ..genesis() },
    ];
    for genesis in wrong {
        assert!(matches!(World::empty().refused(Op::Genesis(genesis)), Refusal::Invalid(_)));
    }
}

#[test]
fn the_last_access_key_cannot_be_removed() {
    let mut world = World::empty();
    assert_eq!(world.refused(delete_key("one")), Refusal::NoSuchAccessKey);
    assert_eq!(world.run(put_key("one")), Outcome::Done);
    assert_eq!(world.refused(delete_key("one")), Refusal::LastAccessKey);
    assert_eq!(world.run(put_key("two")), Outcome::Done);
    assert_eq!(world.run(delete_key("one")), Outcome::Done);
    assert_eq!(world.refused(delete_key("two")), Refusal::LastAccessKey);
    let ids: Vec<_> = query::access_keys(&world.state).unwrap().into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, ["two"]);
    assert_eq!(query::access_key(&world.state, "two").unwrap().unwrap().sealed, "sealed");
}

#[test]
fn no_fact_tells_a_secret_not_even_a_sealed_one() {
    let mut world = World::empty();
    world.run(put_key("one"));
    let fact = &world.last.as_ref().unwrap().facts[0];
    assert_eq!((fact.kind, fact.bucket.as_str(), fact.key.as_str()), (FactKind::KeyPut, "", "one"));
    assert_eq!(fact.detail.configuration, None);
}

fn admit(token: u8, identity: u8, label: &str) -> AdmitNode {
    AdmitNode {
        token: [token; 32],
        expires_s: 2_000_000_000,
        identity: [identity; 32],
        key: [identity; 32],
        region: "us-east4".to_owned(),
        mesh: String::new(),
        label: label.to_owned(),
    }
}

#[test]
fn a_node_is_taken_in_once_for_each_token_and_no_number_is_given_twice() {
    let mut world = World::empty();
    let op = |token, identity, label| Op::AdmitNode(admit(token, identity, label));
    assert!(matches!(world.refused(op(1, 1, "a")), Refusal::Invalid(_)), "there is no group yet");
    world.run(Op::Genesis(genesis()));
    assert_eq!(world.run(op(1, 1, "a")), Outcome::Admitted(ReplicaId(2)));
    let row = query::nodes(&world.state).unwrap().remove(0).node;
    let name = format!("{}.entangle/replica/2", ClusterId([1; 16]));
    assert_eq!(row.member, Member { replica: ReplicaId(2), name, key: [1; 32] });
    let fact = world.last.as_ref().unwrap().facts[0].clone();
    assert_eq!((fact.kind, fact.key.as_str()), (FactKind::NodePut, "2"));
    // Its answer was lost; another one with the same token is refused.
    assert_eq!(world.run(op(1, 1, "a")), Outcome::Admitted(ReplicaId(2)));
    assert_eq!(world.refused(op(1, 2, "b")), Refusal::TokenUsed);
    assert_eq!(world.refused(op(2, 2, "a")), Refusal::NameTaken(ReplicaId(2)));
    assert_eq!(world.run(op(2, 2, "b")), Outcome::Admitted(ReplicaId(3)));
    // What was a member, or stands in the directory, has had its number.
    let begin = BeginEpoch { membership: vec![1], members: vec![ReplicaId(1), ReplicaId(7)] };
    world.run(Op::BeginEpoch(begin));
    assert_eq!(world.run(op(3, 3, "c")), Outcome::Admitted(ReplicaId(8)));
    let member = Member { replica: ReplicaId(20), name: "n".to_owned(), key: [9; 32] };
    let put = PutNode { member, region: String::new(), mesh: String::new(), label: "d".to_owned() };
    world.run(Op::PutNode(put));
    assert_eq!(world.run(op(4, 4, "e")), Outcome::Admitted(ReplicaId(21)));
}

#[test]
fn a_token_that_expired_is_refused_and_forgotten() {
    let mut world = World::empty();
    world.run(Op::Genesis(genesis()));
    let now_s = world.now.unix_ms() / 1000;
    let short = AdmitNode { expires_s: now_s + 2, ..admit(1, 1, "a") };
    assert_eq!(world.run(Op::AdmitNode(short.clone())), Outcome::Admitted(ReplicaId(2)));
    let tokens = |world: &World| {
        world.state.rows[&types::state::Table::Catalog].keys().filter(|key| key.first() == Some(&b't')).count()
    };
    assert_eq!(tokens(&world), 1);
    world.now = world.now.plus_ns(5_000_000_000);
    assert_eq!(world.refused(Op::AdmitNode(short)), Refusal::TokenExpired);
    assert_eq!(world.run(Op::AdmitNode(admit(2, 2, "b"))), Outcome::Admitted(ReplicaId(3)));
    assert_eq!(tokens(&world), 1, "the mark of the expired one is gone");
}

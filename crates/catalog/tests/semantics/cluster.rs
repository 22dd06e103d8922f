//! The first configuration, and access keys.

use catalog::query;
use types::command::{Genesis, Member};
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

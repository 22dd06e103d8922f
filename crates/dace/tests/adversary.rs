//! Narrow schedules of groups that random ones do not find.
#![allow(clippy::unwrap_used)]

mod group;

use bytes::Bytes;
use dace::{Beat, Fetched, Hello, Message, PeerBase, Record, Watermark};
use group::{Group, Item, WALL_NS};
use proptest::prelude::*;
use types::journal::{RecordHeader, RecordKind, encode_proposal};
use types::{CommandId, Epoch, Incarnation, ReplicaId, Slot, SlotSet, Timestamp};

fn slot(n: u16) -> SlotSet {
    SlotSet::of(vec![Slot(n)])
}

/// Whether the journal of `r` holds a record of `kind` about `id`.
fn says(group: &Group, r: u32, kind: RecordKind, id: CommandId) -> bool {
    let said = |item: &Item| matches!(item, Item::Said(record) if record.header.kind == kind && record.header.id == id);
    group.nodes[&r].journal.iter().any(said)
}

fn settle(group: &mut Group) {
    for _ in 0..3 {
        group.exchange();
        group.advance(20_000_000);
    }
    group.exchange();
}

/// A disk that forgot what it had called durable, and a second restart before anybody listens: its newest `Open` stands
/// behind what was counted, but the one before it does not.
#[test]
fn a_rolled_back_disk_is_refused_after_a_second_restart_too() {
    let mut group = Group::new(3, 1);
    group.start_all();
    for _ in 0..3 {
        group.submit(3, &slot(5), b"a").0.unwrap();
        settle(&mut group);
    }
    let (_, durable) = group.core(1).read_of(ReplicaId(3)).unwrap();
    group.node(3).durable = 3;
    for _ in 0..durable {
        group.crash(3);
        group.restore(3).unwrap();
        group.start_unasked(3);
        group.flush(3, None);
    }
    let appended = group.core(3).status().appended;
    assert!(appended > durable, "the last restart stands behind what was counted: {appended} {durable}");
    assert!(group.deliver(3, 1).is_err(), "its records before that are others than those counted");
    assert!(group.connect(3, 1).is_err(), "and it is refused for good");
}

/// A replica learns a decision before it could attach the command, and says no more than that it raised its floors.
/// All others forget the command; then it restarts.
#[test]
fn a_command_that_was_only_raised_does_not_pin_the_journal() {
    let mut group = Group::new(3, 1);
    group.start_all();
    // Proposals of the others are far ahead of this clock: it holds them back.
    group.node(3).now.wall_ns -= 1_000_000_000;
    group.crash(3);
    group.restore(3).unwrap();
    group.start(3);
    settle(&mut group);
    let (id, _) = group.submit(1, &slot(5), b"a");
    let id = id.unwrap();
    settle(&mut group);
    assert!(says(&group, 3, RecordKind::Raise, id) && !says(&group, 3, RecordKind::Ack, id), "it held the proposal");
    group.advance(3_000_000_000);
    settle(&mut group);
    group.submit(1, &slot(5), b"b").0.unwrap();
    settle(&mut group);
    group.advance(3_000_000_000);
    settle(&mut group);
    for r in 1..=3 {
        group.store(r).unwrap();
    }
    settle(&mut group);
    // A command of a new tick: behind it the journals can be trimmed.
    group.submit(1, &slot(6), b"c").0.unwrap();
    settle(&mut group);
    group.advance(3_000_000_000);
    settle(&mut group);
    for r in [1, 2] {
        assert!(group.trim(r).is_some());
    }
    group.crash(3);
    group.restore(3).unwrap();
    group.start(3);
    settle(&mut group);
    for _ in 0..20 {
        group.advance(3_000_000_000);
        group.exchange();
    }
    for r in 1..=3 {
        group.store(r).unwrap();
    }
    settle(&mut group);
    let known = group.core(3).status();
    assert!(group.trim(3).is_some(), "{known:?}");
}

/// A clock is a minute behind and holds a proposal; then somebody sets it right.
#[test]
fn a_clock_set_forward_releases_what_it_held() {
    let mut group = Group::new(3, 1);
    group.node(3).now.wall_ns -= 60_000_000_000;
    group.start_all();
    let id = group.submit(1, &slot(5), b"a").0.unwrap();
    group.flush(1, None);
    group.deliver(1, 3).unwrap();
    assert!(!says(&group, 3, RecordKind::Ack, id), "it lies too far ahead");
    group.node(3).now.wall_ns += 60_000_000_000;
    group.deliver(1, 3).unwrap();
    assert!(says(&group, 3, RecordKind::Ack, id));
}

/// A header as a broken peer may send it: each field from a few values that are near to a sensible one, or absurd.
fn header() -> impl Strategy<Value = (RecordHeader, bool)> {
    use RecordKind as K;
    let kinds = [
        K::Propose,
        K::Ack,
        K::Commit,
        K::Raise,
        K::Prepare,
        K::Report,
        K::Accept,
        K::Accepted,
        K::Clock,
        K::Open,
        K::LeaseGrant,
        K::Enter,
    ];
    let timestamps =
        vec![0, 1, 5_000_000, 12_000_000, 20_000_000, 500_000_000, u64::MAX / 2 - WALL_NS, u64::MAX - WALL_NS];
    let ballots = vec![0, 1, 2, 3, 4, 5, 6, u64::MAX / 2, u64::MAX - 1, u64::MAX];
    let ids = (1..6_u32, 0..4_u32, 0..4_u64);
    (
        prop::sample::select(kinds.to_vec()),
        ids,
        prop::sample::select(timestamps),
        prop::sample::select(ballots.clone()),
        prop_oneof![0..8_u64, prop::sample::select(ballots)],
        0..6_u16,
        prop::bool::weighted(0.9),
    )
        .prop_map(|(kind, (replica, incarnation, counter), timestamp, ballot, aux, flags, has_body)| {
            let id = CommandId { replica: ReplicaId(replica), incarnation: Incarnation(incarnation), counter };
            let timestamp = Timestamp(WALL_NS + timestamp);
            let epoch = Epoch(1);
            let header = RecordHeader {
                kind,
                flags,
                epoch,
                position: 0,
                id,
                timestamp,
                ballot,
                aux,
                body_len: 0,
                body_hash: [0; 32],
            };
            (header, has_body)
        })
}

/// What a broken peer does.
#[derive(Clone, Debug)]
enum Lie {
    Record(RecordHeader, bool),
    Beat(bool, u64),
    Base(PeerBase),
    Message(Message),
    Advance(u64),
}

fn lie() -> impl Strategy<Value = Lie> {
    let id = (1..5_u32, 0..3_u32, 0..4_u64).prop_map(|(replica, incarnation, counter)| CommandId {
        replica: ReplicaId(replica),
        incarnation: Incarnation(incarnation),
        counter,
    });
    let number = || prop::sample::select(vec![0, 1, 3, WALL_NS, WALL_NS + 20_000_000, u64::MAX / 2, u64::MAX]);
    let base = (number(), number(), number()).prop_map(|(position, cut, opened)| {
        let (cut, opened_at) = (Timestamp(cut), Timestamp(opened));
        Lie::Base(PeerBase { position, cut, incarnation: Incarnation(u32::MAX), opened, opened_at })
    });
    let message = (0..5, id, number(), 0..9000_u16).prop_map(|(kind, id, number, slot)| {
        let timestamp = Timestamp(number);
        let body = Bytes::from(encode_proposal(&SlotSet::of(vec![Slot(5)]), b"x"));
        Lie::Message(match kind {
            0 => Message::Fetch { id },
            1 => Message::Fetched(Fetched {
                id,
                t0: timestamp,
                quorum: number,
                salt: [0; 32],
                body,
                body_hash: [0; 32],
                decision: Some(timestamp),
            }),
            2 => Message::Settled { id, cut: timestamp },
            3 => Message::Ask { read: number, slots: SlotSet::Some(vec![Slot(slot)]) },
            _ => {
                // The `Open` is put in when it is given.
                let by = Hello { incarnation: Incarnation(0), opened: 0, opened_at: Timestamp::ZERO };
                let watermark = Watermark::Slots(vec![(timestamp, id)]);
                Message::Answer { read: number, by, pending: vec![id], watermark }
            }
        })
    });
    prop_oneof![
        30 => header().prop_map(|(header, has_body)| Lie::Record(header, has_body)),
        10 => (prop::bool::ANY, number()).prop_map(|(durable, promise)| Lie::Beat(durable, promise)),
        1 => base,
        5 => message,
        3 => prop::sample::select(vec![1_000_000, 700_000_000, 3_000_000_000]).prop_map(Lie::Advance),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    /// Whatever a broken peer says, nobody who hears it panics.
    #[test]
    fn nonsense_of_a_peer_never_panics(lies in prop::collection::vec(lie(), 0..60)) {
        let mut group = Group::new(3, 1);
        group.start_all();
        group.submit(1, &slot(5), b"a").0.unwrap();
        group.submit(3, &slot(5), b"b").0.unwrap();
        settle(&mut group);
        let liar = ReplicaId(2);
        let opened = group.core(2).hello().unwrap();
        for lie in lies {
            let now = group.node(1).now;
            let (read, durable) = group.core(1).read_of(liar).unwrap();
            let core = group.core(1);
            match lie {
                Lie::Record(mut header, has_body) => {
                    header.position = read + 1;
                    let body = if has_body { Bytes::from(encode_proposal(&slot(5), b"x")) } else { Bytes::new() };
                    let _ = core.handle_record(now, liar, Record { header, salt: [0; 32], body });
                }
                Lie::Beat(is_durable, promise) => {
                    let durable = if is_durable { read } else { durable };
                    let (promise, reading) = (Timestamp(promise), Timestamp(promise));
                    let _ = core.handle_beat(now, liar, Beat { appended: read, durable, promise, reading, stored: promise });
                }
                Lie::Base(base) => drop(core.handle_base(now, liar, base)),
                Lie::Message(mut message) => {
                    if let Message::Answer { by, .. } = &mut message {
                        *by = opened;
                    }
                    core.handle_message(now, liar, message);
                }
                Lie::Advance(ns) => {
                    group.advance(ns);
                    let _ = group.deliver(3, 1);
                    group.tick(1);
                }
            }
            group.drain(1);
            if group.is_up(1) {
                group.flush(1, None);
                let _ = group.submit(1, &slot(5), b"c");
                group.flush(1, None);
            }
        }
    }
}

/// A member that comes back by a snapshot hears that a command is settled before it hears how far the others have
/// stored. Its base must not stand below that command: who reads it from there would miss its attach.
#[test]
fn a_base_stands_above_all_that_it_settles() {
    let mut group = Group::new(5, 2);
    group.start_all();
    let submit = |group: &mut Group, r: u32, n: u16| {
        let id = group.submit(r, &slot(n), b"x").0.unwrap();
        settle(group);
        id
    };
    // A first cut that all hold, and a mark behind it.
    submit(&mut group, 1, 5);
    (1..=5).for_each(|r| {
        group.store(r).unwrap();
    });
    settle(&mut group);
    // The next command is attached by 4, which then sleeps, and so does 5.
    group.advance(50_000_000);
    let id = group.submit(1, &slot(5), b"late").0.unwrap();
    group.flush(1, None);
    group.deliver(1, 4).unwrap();
    group.flush(4, None);
    group.crash(4);
    group.crash(5);
    settle(&mut group);
    for _ in 0..3 {
        group.advance(3_000_000_000);
        settle(&mut group);
    }
    submit(&mut group, 2, 6);
    group.advance(3_000_000_000);
    settle(&mut group);
    assert!(group.nodes[&1].executed.iter().any(|(_, other)| *other == id));
    (1..=3).for_each(|r| {
        group.store(r).unwrap();
    });
    settle(&mut group);
    submit(&mut group, 2, 6);
    (1..=3).for_each(|r| {
        group.store(r).unwrap();
    });
    settle(&mut group);
    for r in 1..=3 {
        assert!(group.trim(r).is_some());
    }
    let at = group.nodes[&1].executed.iter().find(|(_, other)| *other == id).unwrap().0;
    // 4 installs the state, and hears one who holds it (2) and one who does not (5).
    for r in [4, 5] {
        group.restore(r).unwrap();
        group.start(r);
        group.flush(r, None);
    }
    group.install(1, 4);
    group.submit(2, &slot(7), b"y").0.unwrap();
    group.flush(2, None);
    for _ in 0..20 {
        group.deliver(2, 4).unwrap();
        group.deliver(5, 4).unwrap();
        group.flush(4, None);
        group.deliver(4, 2).unwrap();
        while group.give().is_some() {}
        group.advance(500_000_000);
        group.tick(4);
    }
    assert!(says(&group, 4, RecordKind::Prepare, id), "it asks about what it attached and is not told of");
    let cut = group.core(4).trimmable();
    assert!(cut < at, "too few hold a newer state, as far as it knows: {cut} {at}");
    let base = group.core(4).base(cut);
    assert!(base.as_ref().is_none_or(|base| base.cut >= at), "{base:?}");
}

/// A link that flaps makes a suspicion come and go. Each time it hastens the recovery, and adds nothing to it.
#[test]
fn suspicions_that_come_and_go_do_not_add_up() {
    let mut group = Group::new(3, 1);
    group.start_all();
    let id = group.submit(1, &slot(5), b"x").0.unwrap();
    group.flush(1, None);
    group.deliver(1, 2).unwrap();
    group.flush(2, None);
    group.crash(1);
    for flap in 0..400 {
        let now = group.node(2).now;
        group.core(2).suspect(now, ReplicaId(1), flap % 2 == 0);
        group.drain(2);
        group.advance(1_000_000);
    }
    // 3 sends, and does not hear: nothing is decided.
    for _ in 0..120 {
        group.deliver(3, 2).unwrap();
        group.advance(1_000_000_000);
        group.tick(2);
        group.flush(2, None);
    }
    let is_prepare = |item: &&Item| matches!(item, Item::Said(record) if record.header.kind == RecordKind::Prepare && record.header.id == id);
    let prepares = group.nodes[&2].journal.iter().filter(is_prepare).count();
    assert!((2..12).contains(&prepares), "{prepares} ballots in two minutes");
}

/// A replica stands on an old state with a command attached that the others have executed, stored and forgotten. They
/// tell it so; when it has installed the state that they named, it does not have to be told again: by then they might
/// name a later one, and so on for ever.
#[test]
fn what_others_have_settled_is_settled_with_their_state() {
    let mut group = Group::new(3, 1);
    group.start_all();
    let (id, cut) = group.store_without_the_third(&slot(5));
    let blocks = |group: &mut Group| group.core(3).blocking().any(|(.., first)| first.is_some_and(|(_, by)| by == id));
    assert!(blocks(&mut group), "nobody has told it the decision");
    let now = group.node(3).now;
    group.core(3).handle_message(now, ReplicaId(1), Message::Settled { id, cut });
    group.drain(3);
    assert_eq!(group.node(3).wants, Some(cut));
    assert!(blocks(&mut group), "its state does not hold the effect");
    group.install(1, 3);
    assert!(!blocks(&mut group), "now it does");
}

//! Who is let in, who is not, and that both sides know why.
#![allow(clippy::unwrap_used)]

mod common;

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use bytes::Bytes;
use common::{Cluster, DAY_S, Node, START_S, eventually, pair, within};
use mesh::links::identity::{Authority, Grant, Identity, IdentityError, JoinError, Token, TokenError, join};
use mesh::links::{Admitted, Config, DownReason, Event, Porter, RefusalKind};
use sha2::{Digest as _, Sha256};
use types::{ClusterId, ReplicaId};

/// A node that keeps the authority, and a token that names it.
fn keeper(cluster: &Cluster) -> (Node, Token) {
    let config =
        Config { authority: Some(cluster.authority.clone()), porter: Some(common::porter()), ..cluster.config() };
    let node = Node::bind(config, cluster.identity(1));
    let token = token(cluster, &node);
    (node, token)
}

fn token(cluster: &Cluster, of: &Node) -> Token {
    let grant = Grant { addresses: vec![of.address().to_string()], valid_s: 3600 };
    cluster.authority.issue_token(&grant, &cluster.hands.clock()).unwrap()
}

async fn refused(token: &Token, cluster: &Cluster) -> (RefusalKind, bool) {
    match within(join(token, "newcomer", Bytes::new(), &cluster.hands.clock())).await {
        Err(JoinError::Refused(refusal)) => (refusal.kind, refusal.by_peer),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_newcomer_joins_with_a_token_and_links() {
    let cluster = Cluster::new(1);
    let (mut one, token) = keeper(&cluster);
    // what was copied from a terminal and pasted into another
    let text = token.to_string();
    let pasted = format!(" {}\n {}\n", &text[..70], text[70..].to_ascii_uppercase());
    let token: Token = pasted.parse().unwrap();
    let introduction = Bytes::from_static(b"my signing key");
    let joined = within(join(&token, "newcomer", introduction.clone(), &cluster.hands.clock())).await.unwrap();
    assert_eq!(joined.welcome, "welcome aboard");
    let mut identity = joined.identity;
    assert_eq!(
        (identity.replica(), identity.name(), identity.cluster()),
        (ReplicaId(9), "newcomer", ClusterId([1; 16]))
    );
    let (replica, name, said) = one
        .until(|event| match event {
            Event::Joined { replica, name, introduction, .. } => Some((replica, name, introduction)),
            _ => None,
        })
        .await;
    assert_eq!((replica, name.as_str(), said), (ReplicaId(9), "newcomer", introduction));
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    identity.save(&keys).unwrap();
    let mut nine = Node::bind(cluster.config(), Identity::open(&keys).unwrap());
    one.expect(&[9]);
    nine.dial(&[(1, one.address())]);
    let link = one.up(9).await;
    nine.up(1).await.send_urgent(Bytes::from_static(b"hello")).unwrap();
    assert_eq!(one.urgent().await, "hello");
    assert_eq!(link.observation().name, "newcomer");
}

#[tokio::test]
async fn a_token_is_good_once_and_for_its_time_at_every_node_that_keeps_the_authority() {
    let cluster = Cluster::new(1);
    let (one, first) = keeper(&cluster);
    let clock = cluster.hands.clock();
    within(join(&first, "newcomer", Bytes::new(), &clock)).await.unwrap();
    assert_eq!(refused(&first, &cluster).await, (RefusalKind::TokenUsed, true));
    // another node that was told the key knows a token that it has never seen, and takes newcomers in
    drop(one);
    let (folder, identity) = (tempfile::tempdir().unwrap(), cluster.identity(2));
    let again = Authority::adopt(folder.path(), &cluster.authority.seed(), &identity).unwrap();
    assert_eq!(again.pin(), cluster.authority.pin());
    let again = Arc::new(Authority::open(folder.path()).unwrap());
    let config = Config { authority: Some(again), porter: Some(common::porter()), ..cluster.config() };
    let two = Node::bind(config, identity);
    let second = token(&cluster, &two);
    let racing = (0..4).map(|number| {
        let (second, clock) = (second.clone(), clock.clone());
        tokio::spawn(async move { join(&second, &format!("racer-{number}"), Bytes::new(), &clock).await.is_ok() })
    });
    let mut admitted = 0;
    for racer in racing.collect::<Vec<_>>() {
        admitted += usize::from(within(racer).await.unwrap());
    }
    assert_eq!(admitted, 1, "of several that use one token, one is let in");
    assert_eq!(refused(&second, &cluster).await, (RefusalKind::TokenUsed, true));
    // too late: known to the newcomer, and to the keeper when the newcomer's clock is wrong
    let third = token(&cluster, &two);
    let late = Cluster {
        folder: tempfile::tempdir().unwrap(),
        authority: cluster.authority.clone(),
        hands: common::Hands::new(),
    };
    cluster.hands.forward(3601);
    assert_eq!(refused(&third, &cluster).await, (RefusalKind::TokenExpired, false));
    assert_eq!(refused(&third, &late).await, (RefusalKind::TokenExpired, true));
}

#[test]
fn the_key_of_another_authority_is_not_kept() {
    let (mine, theirs) = (Cluster::new(1), Cluster::new(2));
    let folder = tempfile::tempdir().unwrap();
    assert!(Authority::adopt(folder.path(), &theirs.authority.seed(), &mine.identity(2)).is_err());
    assert!(!folder.path().join("authority.key").exists());
}

/// The token with the ticket of another one.
fn forged(token: &Token, ticket_of: &Token) -> Token {
    let (mut bytes, other) = (base32(&token.to_string()), base32(&ticket_of.to_string()));
    bytes[49..89].copy_from_slice(&other[49..89]);
    let content = bytes.len() - 4;
    let check =
        Sha256::new().chain_update(b"entangle/join-token-check/v1\n").chain_update(&bytes[..content]).finalize();
    bytes[content..].copy_from_slice(&check[..4]);
    let bits: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1)).collect();
    let digit = |bits: &[u8]| (0..5).fold(0, |all, at| all << 1 | bits.get(at).copied().unwrap_or(0));
    let digits = bits.chunks(5).map(|bits| char::from(b"abcdefghijklmnopqrstuvwxyz234567"[usize::from(digit(bits))]));
    format!("entangle_join_{}", digits.collect::<String>()).parse().unwrap()
}

fn base32(text: &str) -> Vec<u8> {
    let value = |c: u8| if c.is_ascii_digit() { c - b'2' + 26 } else { c - b'a' };
    let digits = text.trim_start_matches("entangle_join_").bytes().map(value);
    let bits: Vec<u8> = digits.flat_map(|digit| (0..5).rev().map(move |at| digit >> at & 1)).collect();
    bits.chunks_exact(8).map(|bits| bits.iter().fold(0, |all, bit| all << 1 | bit)).collect()
}

#[tokio::test]
async fn tokens_of_others_are_refused() {
    let (mine, theirs) = (Cluster::new(1), Cluster::new(2));
    let (one, token) = keeper(&mine);
    // a token of another cluster that names our address: the pin does not fit
    let foreign = self::token(&theirs, &one);
    assert_eq!(refused(&foreign, &theirs).await, (RefusalKind::ForeignCluster, false));
    // a token with this cluster's name and pin that its authority did not make: another key, the same text around it
    let forged = forged(&token, &foreign);
    assert_eq!(refused(&forged, &mine).await, (RefusalKind::TokenUnknown, true));
    // a member that does not keep the authority
    let two = mine.node(2);
    let grant = Grant { addresses: vec![two.address().to_string()], valid_s: 3600 };
    let asked_wrong = mine.authority.issue_token(&grant, &mine.hands.clock()).unwrap();
    assert_eq!(refused(&asked_wrong, &mine).await, (RefusalKind::NoAuthority, true));
    // nobody there
    let away = two.address();
    two.endpoint.close().await;
    drop(two);
    let _ = away;
    for name in ["", "Upper", "a.b", "-a"] {
        let error = join(&asked_wrong, name, Bytes::new(), &mine.hands.clock()).await.unwrap_err();
        assert!(matches!(error, JoinError::Unusable(_)), "{error}");
    }
}

#[test]
fn a_token_that_was_damaged_says_so() {
    let cluster = Cluster::new(1);
    let grant = Grant { addresses: vec!["[::1]:7001".into(), "tokyo:7001".into()], valid_s: 60 };
    let token = cluster.authority.issue_token(&grant, &cluster.hands.clock()).unwrap();
    let text = token.to_string();
    assert!(text.parse::<Token>().unwrap() == token);
    assert_eq!(token.addresses(), ["[::1]:7001", "tokyo:7001"]);
    assert_eq!((token.cluster(), token.expires_s()), (ClusterId([1; 16]), START_S + 60));
    let begin = "entangle_join_".len();
    for at in begin..text.len() {
        let mut damaged = text.clone();
        let other = if &text[at..=at] == "a" { "b" } else { "a" };
        damaged.replace_range(at..=at, other);
        assert_eq!(damaged.parse::<Token>(), Err(TokenError::Damaged), "at {at}");
        assert_eq!(text[..at].parse::<Token>(), Err(TokenError::Damaged), "cut at {at}");
    }
    assert_eq!("something else".parse::<Token>(), Err(TokenError::NotAToken));
    assert!(!format!("{token:?}").contains(&text[begin + 78..begin + 90]));
    for wrong in ["tokyo", ":7001", "tokyo:0", "tokyo:70010", "to kyo:7001"] {
        let grant = Grant { addresses: vec![wrong.into()], ..grant.clone() };
        assert!(cluster.authority.issue_token(&grant, &cluster.hands.clock()).is_err(), "{wrong}");
    }
    let grant = Grant { addresses: vec![], ..grant };
    assert!(cluster.authority.issue_token(&grant, &cluster.hands.clock()).is_err());
}

#[tokio::test]
async fn a_node_of_another_cluster_is_refused_by_either_side() {
    let (mine, theirs) = (Cluster::new(1), Cluster::new(2));
    let (mut one, mut stranger) = (mine.node(1), theirs.node(2));
    one.expect(&[2]);
    stranger.dial(&[(1, one.address())]);
    // the dialler looks first, and tells
    let (at_stranger, at_one) = (stranger.refusal().await, one.refusal().await);
    assert_eq!((at_stranger.kind, at_stranger.by_peer), (RefusalKind::ForeignCluster, false));
    assert_eq!((at_one.kind, at_one.by_peer), (RefusalKind::ForeignCluster, true));
    // the same cluster id does not help: the authority is another
    let again = Cluster::new(1);
    let mut double = again.node(2);
    double.dial(&[(1, one.address())]);
    assert_eq!(double.refusal().await.kind, RefusalKind::ForeignCluster);
    assert!(one.endpoint.link(ReplicaId(2)).is_none());
}

#[tokio::test]
async fn an_expired_certificate_is_refused_with_the_reason_on_both_sides() {
    let cluster = Cluster::new(1);
    let short = Authority::open(cluster.folder.path()).unwrap().with_lifetime(DAY_S);
    let dying = short.issue_identity(ReplicaId(2), "node-2", &cluster.hands.clock()).unwrap();
    let mut one = cluster.node(1);
    let mut two = Node::bind(cluster.config(), dying.clone());
    one.expect(&[2]);
    two.dial(&[(1, one.address())]);
    let link = one.up(2).await;
    two.up(1).await;
    assert_eq!(link.observation().certificate_days_left, 1);
    // it expires while the link is up
    cluster.hands.forward(DAY_S + 1);
    let (at_one, at_two) = (one.down(2).await, two.down(1).await);
    assert!(
        matches!(&at_one, DownReason::Refused(why) if why.kind == RefusalKind::Expired && !why.by_peer),
        "{at_one}"
    );
    assert!(matches!(&at_two, DownReason::Refused(why) if why.kind == RefusalKind::Expired && why.by_peer), "{at_two}");
    // and it opens no other: as the dialler's
    let (at_two, at_one) = (two.refusal().await, one.refusal().await);
    assert_eq!((at_two.kind, at_two.by_peer), (RefusalKind::Expired, true));
    assert_eq!((at_one.kind, at_one.by_peer), (RefusalKind::Expired, false));
    // nor as the acceptor's
    let two = Node::bind(cluster.config(), dying);
    two.expect(&[1]);
    one.dial(&[(2, two.address())]);
    let refusal = one.refusal().await;
    assert_eq!((refusal.kind, refusal.by_peer), (RefusalKind::Expired, false));
    assert!(refusal.reason.contains("expired"), "{refusal}");
}

#[tokio::test]
async fn a_certificate_from_the_future_is_refused_and_a_clock_off_by_an_hour_is_not() {
    let cluster = Cluster::new(1);
    let hour_behind = common::Hands::new();
    cluster.hands.forward(3600);
    let mut ahead = cluster.node(1);
    let mut behind = Node::bind(Config { clock: hour_behind.clock(), ..cluster.config() }, cluster.identity(2));
    ahead.expect(&[2]);
    behind.dial(&[(1, ahead.address())]);
    let _ = (ahead.up(2).await, behind.up(1).await);
    cluster.hands.forward(10 * DAY_S);
    let mut future = cluster.node(3);
    future.dial(&[(2, behind.address())]);
    behind.expect(&[1, 3]);
    let refusal = behind.refusal().await;
    assert_eq!((refusal.kind, refusal.by_peer), (RefusalKind::Expired, false));
    assert_eq!(future.refusal().await.kind, RefusalKind::Expired);
}

#[tokio::test]
async fn certificates_renew_themselves_over_the_link_that_is_there() {
    let cluster = Cluster::new(1);
    let keys = tempfile::tempdir().unwrap();
    let (mut one, _) = keeper(&cluster);
    let mut identity = cluster.identity(2);
    identity.save(keys.path()).unwrap();
    let expires_s = identity.expires_s();
    let mut two = Node::bind(cluster.config(), identity);
    one.expect(&[2]);
    two.dial(&[(1, one.address())]);
    let (to_two, to_one) = (one.up(2).await, two.up(1).await);
    // two thirds of 91 days are not yet over
    cluster.hands.forward(58 * DAY_S);
    eventually(|| to_two.observation().certificate_days_left == 32).await;
    assert_eq!(two.endpoint.identity().expires_s(), expires_s);
    cluster.hands.forward(3 * DAY_S);
    let renewed_s = two
        .until(|event| match event {
            Event::Renewed { expires_s } => Some(expires_s),
            _ => None,
        })
        .await;
    assert_eq!(renewed_s, START_S + (61 + 90) * DAY_S);
    eventually(|| one.endpoint.identity().expires_s() == renewed_s).await;
    // both know the other's new one, over the same links, which outlive the old certificates
    eventually(|| [&to_two, &to_one].iter().all(|link| link.observation().certificate_expires_s == renewed_s)).await;
    cluster.hands.forward(60 * DAY_S);
    to_one.send_urgent(Bytes::from_static(b"still here")).unwrap();
    assert_eq!(one.urgent().await, "still here");
    // and on disk: a restart uses it
    let kept = Identity::open(keys.path()).unwrap();
    assert!(kept.expires_s() >= renewed_s);
    assert_eq!((kept.replica(), kept.name()), (ReplicaId(2), "node-2"));
}

#[test]
fn keys_are_for_their_owner_only_and_nothing_is_overwritten() {
    let cluster = Cluster::new(1);
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let key = cluster.folder.path().join("authority.key");
    assert_eq!(mode(&key), 0o600);
    let clock = cluster.hands.clock();
    let again = Authority::init(cluster.folder.path(), ClusterId([2; 16]), &clock);
    assert!(matches!(again, Err(IdentityError::Exists { .. })));
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    let open = Authority::open(cluster.folder.path()).unwrap_err().to_string();
    assert!(open.contains("chmod 600"), "{open}");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    // the certificate of one cluster beside the key of another
    let other = Cluster::new(2);
    std::fs::copy(other.folder.path().join("authority.crt"), cluster.folder.path().join("authority.crt")).unwrap();
    assert!(Authority::open(cluster.folder.path()).is_err());

    let keys = tempfile::tempdir().unwrap();
    let folder = keys.path().join("new");
    assert!(Identity::open(&folder).unwrap_err().to_string().contains("has not joined"));
    let mut identity = other.identity(3);
    identity.save(&folder).unwrap();
    identity.save(&folder).unwrap();
    assert_eq!((mode(&folder), mode(&folder.join("mesh.key"))), (0o700, 0o600));
    assert!(matches!(other.identity(4).save(&folder), Err(IdentityError::Exists { .. })));
    let opened = Identity::open(&folder).unwrap();
    assert_eq!((opened.replica(), opened.expires_s()), (ReplicaId(3), identity.expires_s()));
    for broken in ["", "entangle-mesh-key-v2\n00\n"] {
        std::fs::write(folder.join("mesh.key"), broken).unwrap();
        assert!(Identity::open(&folder).is_err());
    }
    assert!(other.authority.issue_identity(ReplicaId(1), "Not A Label", &clock).is_err());
    // an initialisation that was broken off after the key is completed, with the same key
    let half = tempfile::tempdir().unwrap();
    std::fs::copy(other.folder.path().join("authority.key"), half.path().join("authority.key")).unwrap();
    assert_eq!(Authority::init(half.path(), ClusterId([2; 16]), &clock).unwrap().pin(), other.authority.pin());
}

#[tokio::test]
async fn a_pair_of_one_cluster_is_let_in() {
    let ((_one, link), _two) = pair(&Cluster::new(1)).await;
    assert!(link.is_up());
}

#[tokio::test]
async fn a_porter_is_told_of_newcomers_and_has_the_last_word() {
    let cluster = Cluster::new(1);
    let porter = Porter::from_fn(|newcomer| match newcomer.introduction.as_ref() {
        b"friend" => Ok(Admitted {
            replica: ReplicaId(7),
            welcome: Bytes::from(format!("{} until {}", newcomer.name, newcomer.expires_s)),
        }),
        _ => Err((RefusalKind::Other, "only friends are let in".to_owned())),
    });
    let config = Config { authority: Some(cluster.authority.clone()), porter: Some(porter), ..cluster.config() };
    let one = Node::bind(config, cluster.identity(1));
    let clock = cluster.hands.clock();
    let joined = within(join(&token(&cluster, &one), "newcomer", Bytes::from_static(b"friend"), &clock)).await.unwrap();
    assert_eq!(joined.identity.replica(), ReplicaId(7));
    assert_eq!(joined.welcome, format!("newcomer until {}", START_S + 3600));
    match within(join(&token(&cluster, &one), "newcomer", Bytes::from_static(b"foe"), &clock)).await {
        Err(JoinError::Refused(refusal)) => assert_eq!(refusal.reason, "only friends are let in"),
        other => panic!("{other:?}"),
    }
}

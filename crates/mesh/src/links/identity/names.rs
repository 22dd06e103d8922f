//! What a certificate says of a node: its cluster, its replica id and its name, as DNS names of the private domain
//! `entangle.internal`. `docs/formats/mesh.md`, certificates.

use types::{ClusterId, ReplicaId};

/// The domain of all names; `.internal` is reserved for private use (ICANN, 2024).
const DOMAIN: &str = ".entangle.internal";
/// Bytes of a node's name: a DNS label (RFC 1035, section 2.3.4).
const NAME_LEN_MAX: usize = 63;

/// The DNS name of a replica: what it is dialled as.
pub(in crate::links) fn replica_name(cluster: ClusterId, replica: ReplicaId) -> String {
    format!("r{replica}.{cluster}{DOMAIN}")
}

/// The DNS name that carries the node's own name.
pub(super) fn node_name(cluster: ClusterId, name: &str) -> String {
    format!("{name}.node.{cluster}{DOMAIN}")
}

/// The DNS name of a newcomer without a certificate, and what it dials.
pub(super) fn newcomer_name(cluster: ClusterId) -> String {
    format!("join.{cluster}{DOMAIN}")
}

/// The DNS name of a cluster's authority.
pub(super) fn authority_name(cluster: ClusterId) -> String {
    format!("authority.{cluster}{DOMAIN}")
}

/// The cluster whose authority has these names.
pub(super) fn authority_cluster<'a>(mut names: impl Iterator<Item = &'a str>) -> Option<ClusterId> {
    cluster(names.next()?.strip_suffix(DOMAIN)?.strip_prefix("authority.")?)
}

/// Whether a node may be called so.
pub(super) fn is_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=NAME_LEN_MAX).contains(&name.len())
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// What the names of one certificate say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Subject {
    /// A node of a cluster.
    Node { cluster: ClusterId, replica: ReplicaId, name: String },
    /// Someone who wants to join one.
    Newcomer { cluster: ClusterId },
}

/// Reads the names of a certificate: exactly those that we write, in any order; `None` for all else.
pub(super) fn subject<'a>(names: impl Iterator<Item = &'a str>) -> Option<Subject> {
    let mut names: Vec<&str> = names.take(3).collect();
    names.sort_by_key(|name| name.contains(".node."));
    match names[..] {
        [one] => {
            let cluster = cluster(one.strip_suffix(DOMAIN)?.strip_prefix("join.")?)?;
            Some(Subject::Newcomer { cluster })
        }
        [replica, name] => {
            let (replica, of) = replica.strip_suffix(DOMAIN)?.strip_prefix('r')?.split_once('.')?;
            let (name, also_of) = name.strip_suffix(DOMAIN)?.split_once(".node.")?;
            let cluster = cluster(of).filter(|_| of == also_of && is_name(name))?;
            Some(Subject::Node { cluster, replica: number(replica)?, name: name.to_owned() })
        }
        _ => None,
    }
}

fn cluster(digits: &str) -> Option<ClusterId> {
    let mut bytes = [0; 16];
    hex::decode_to_slice(digits, &mut bytes).ok()?;
    Some(ClusterId(bytes))
}

/// A decimal number as we write it: without sign or leading zeros.
fn number(digits: &str) -> Option<ReplicaId> {
    let number: u32 = digits.parse().ok()?;
    (number.to_string() == digits).then_some(ReplicaId(number))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_they_were_made_of() {
        let cluster = ClusterId([0xab; 16]);
        let replica = replica_name(cluster, ReplicaId(7));
        let node = node_name(cluster, "tokyo-1");
        let expected = Subject::Node { cluster, replica: ReplicaId(7), name: "tokyo-1".to_owned() };
        assert_eq!(subject([replica.as_str(), node.as_str()].into_iter()), Some(expected.clone()));
        assert_eq!(subject([node.as_str(), replica.as_str()].into_iter()), Some(expected));
        let newcomer = newcomer_name(cluster);
        assert_eq!(subject([newcomer.as_str()].into_iter()), Some(Subject::Newcomer { cluster }));
        assert!(rustls_pki_types::DnsName::try_from(replica).is_ok());
    }

    #[test]
    fn other_names_say_nothing() {
        let cluster = ClusterId([0xab; 16]);
        let other = ClusterId([0xac; 16]);
        let replica = replica_name(cluster, ReplicaId(7));
        let node = node_name(cluster, "tokyo-1");
        for names in [
            vec![],
            vec!["example.com"],
            vec![replica.as_str()],
            vec![node.as_str()],
            vec![replica.as_str(), replica.as_str()],
            vec![node.as_str(), node.as_str()],
            vec![replica.as_str(), node.as_str(), node.as_str()],
            vec![replica.as_str(), node_name(other, "tokyo-1").as_str()],
            vec![replica.as_str(), node_name(cluster, "Tokyo").as_str()],
            vec![replica.replace("r7", "r07").as_str(), node.as_str()],
            vec![replica.replace("r7", "r+7").as_str(), node.as_str()],
            vec![replica.replace("r7", "r4294967296").as_str(), node.as_str()],
        ] {
            assert_eq!(subject(names.iter().copied()), None, "{names:?}");
        }
        assert!(!is_name("") && !is_name("-a") && !is_name("a-") && !is_name("a.b") && !is_name(&"a".repeat(64)));
    }
}

//! The first node of a cluster, and the tokens with which others join.

use std::cmp::Reverse;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use mesh::links::Clock;
use mesh::links::identity::{Authority, Grant, Identity, Token};
use node::keys::{Keys, random};
use types::sign::Signer as _;
use types::{ClusterId, ReplicaId};

use super::record::{KnownNode, Record};
use super::{name_in, not_usable};
use crate::exit::Failure;

/// Addresses in a token: more make it long to copy.
const ADDRESSES_MAX: usize = 3;
/// The replica that founds the group.
const FIRST: ReplicaId = ReplicaId(1);

/// What a cluster begins with.
pub(crate) struct Founding<'a> {
    pub(crate) data: &'a Path,
    pub(crate) keys: &'a Path,
    /// Made of the region if it is not given.
    pub(crate) name: Option<&'a str>,
    pub(crate) region: &'a str,
    /// How others reach the mesh of this node: `host:port`.
    pub(crate) mesh: &'a str,
}

/// Makes cluster id, authority, keys and the identity of replica 1. A founding that was broken off is completed.
pub(crate) fn found(founding: &Founding<'_>) -> anyhow::Result<(Identity, Record)> {
    let Founding { data, keys, name, region, mesh } = *founding;
    if Record::is_in(keys) {
        return Err(Failure::failed(format!(
            "{} is the keys folder of a node of a cluster already; serve it with `entangle serve --data {}`, or name \
             another folder with --data",
            keys.display(),
            data.display()
        ))
        .into());
    }
    // The data of a lone node becomes the data of a cluster's first one: the id stays.
    let kept = cluster_of(data)?;
    let key = Keys::open(keys, kept.is_none())?.node.public_key();
    let clock = Clock::system();
    let authority = match Authority::open(keys) {
        Ok(authority) => authority,
        Err(_) => {
            let cluster = kept.unwrap_or_else(|| ClusterId(random()));
            Authority::init(keys, cluster, &clock).map_err(|error| not_usable(&error))?
        }
    };
    if kept.is_some_and(|kept| kept != authority.cluster()) {
        return Err(Failure::failed(format!(
            "{} is of another cluster than the authority in {}; give --data and --keys that belong together",
            data.display(),
            keys.display()
        ))
        .into());
    }
    let name = name.map_or_else(|| name_in(region), str::to_owned);
    let mut identity = authority
        .issue_identity(FIRST, &name, &clock)
        .map_err(|error| Failure::usage(format!("--name: {error}; use lower-case letters, digits and hyphens")))?;
    // Of a founding that was broken off, the identity may be there, under its own name.
    match Identity::open(keys) {
        Ok(kept) => identity = kept,
        Err(_) => identity.save(keys).map_err(|error| not_usable(&error))?,
    }
    let own = KnownNode {
        replica: FIRST,
        name: identity.name().to_owned(),
        region: region.to_owned(),
        key,
        mesh: Some(mesh.to_owned()),
        founder: true,
    };
    let record = Record { region: Some(region.to_owned()), nodes: vec![own] };
    record.write(keys)?;
    Ok((identity, record))
}

/// The cluster of a data folder; `None` if it holds none yet.
fn cluster_of(data: &Path) -> Result<Option<ClusterId>, Failure> {
    let path = data.join("cluster");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(missing) if missing.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            let path = path.display();
            return Err(Failure::failed(format!("{path}: {error}; make it readable for this user")));
        }
    };
    let digits = text.trim_end();
    let wrong =
        || Failure::failed(format!("{} holds no cluster id; put it back from a backup of this folder", path.display()));
    let harmless = digits.len() == 32 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    let number = u128::from_str_radix(digits, 16).ok().filter(|_| harmless).ok_or_else(wrong)?;
    Ok(Some(ClusterId(number.to_be_bytes())))
}

/// Makes a join token, which says to come to `address`, or to where this node is reached and others.
pub(crate) fn issue_token(keys: &Path, address: Option<&str>, valid_s: u64) -> anyhow::Result<Token> {
    let Some(record) = Record::read(keys)? else {
        return Err(Failure::failed(format!(
            "{} is not the keys folder of a cluster's node; make a cluster with `entangle cluster init`, or name the \
             folder of a node with --data",
            keys.display()
        ))
        .into());
    };
    let authority = Authority::open(keys).map_err(|error| {
        Failure::failed(format!(
            "{error}; make the token at another node, or copy authority.key and authority.crt from the keys folder of one"
        ))
    })?;
    let own = Identity::open(keys).map_err(|error| not_usable(&error))?.replica();
    let addresses = match address {
        Some(address) => vec![address.to_owned()],
        None => addresses(&record, own),
    };
    if addresses.is_empty() {
        return Err(Failure::usage("it is not known how others reach this node; give --address HOST:PORT").into());
    }
    Ok(authority.issue_token(&Grant { addresses, valid_s }, &Clock::system()).map_err(|error| not_usable(&error))?)
}

/// Where a newcomer may come to: this node first, and then the newest, which are the least likely to have been replaced.
fn addresses(record: &Record, own: ReplicaId) -> Vec<String> {
    let mut nodes: Vec<&KnownNode> = record.nodes.iter().collect();
    nodes.sort_by_key(|node| (node.replica != own, Reverse(node.replica)));
    nodes.into_iter().filter_map(|node| node.mesh.clone()).take(ADDRESSES_MAX).collect()
}

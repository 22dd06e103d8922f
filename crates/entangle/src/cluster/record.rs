//! What a node knows of its cluster, as it stands in `cluster.toml` of the keys folder: itself, and the nodes that it has
//! heard of. `docs/formats/keys.md` describes the file.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use toml::{Table, Value};
use types::ReplicaId;

use crate::exit::Failure;

/// Name of the file in the keys folder.
const FILE: &str = "cluster.toml";
/// Version of the file, and of what is said when a node joins.
pub(super) const FORMAT: i64 = 1;
/// The longest name, region or address that is taken from others.
const TEXT_LEN_MAX: usize = 255;
/// The most nodes that are remembered.
const NODES_MAX: usize = 256;

/// What is known of the cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Record {
    /// The region of this node, if it was told one when it was made.
    pub(crate) region: Option<String>,
    /// All nodes that are known, this one among them, in rising replica order.
    pub(crate) nodes: Vec<KnownNode>,
}

/// A node of the cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct KnownNode {
    pub(crate) replica: ReplicaId,
    pub(crate) name: String,
    pub(crate) region: String,
    /// Its signing key.
    pub(crate) key: [u8; 32],
    /// How its mesh is reached: `host:port`. Without, it has to dial the others.
    pub(crate) mesh: Option<String>,
    /// Whether it is a member of the group as it was founded.
    pub(crate) founder: bool,
}

impl Record {
    /// Whether a keys folder has one.
    pub(crate) fn is_in(keys: &Path) -> bool {
        path_in(keys).exists()
    }

    /// Reads that of a keys folder; `None` if there is none: the node is of no cluster that has others.
    pub(crate) fn read(keys: &Path) -> Result<Option<Self>, Failure> {
        let path = path_in(keys);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(missing) if missing.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                let path = path.display();
                return Err(Failure::failed(format!("{path}: {error}; make it readable for this user")));
            }
        };
        Self::parse(&text).map(Some).map_err(|reason| {
            Failure::failed(format!("{} {reason}; put it back from a copy of the keys folder", path.display()))
        })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let table: Table = text.parse().map_err(|error: toml::de::Error| error.message().to_owned())?;
        check_format(&table)?;
        Ok(Self { region: table.get("region").and_then(Value::as_str).map(str::to_owned), nodes: nodes_of(&table)? })
    }

    /// Writes it durably, in place of what was there.
    pub(crate) fn write(&self, keys: &Path) -> anyhow::Result<()> {
        let mut text = format!(
            "# What this node knows of its cluster. Written by Entangle; docs/formats/keys.md.\nformat = {FORMAT}\n"
        );
        if let Some(region) = &self.region {
            text.push_str(&format!("region = {}\n", quoted(region)));
        }
        text.push_str(&nodes_text(&self.nodes));
        write_privately(&path_in(keys), &text)
    }

    /// Adds a node, or takes over what it says now.
    pub(crate) fn put(&mut self, node: KnownNode) -> Result<(), String> {
        match self.nodes.binary_search_by_key(&node.replica, |known| known.replica) {
            Ok(place) => self.nodes[place] = node,
            Err(_) if self.nodes.len() >= NODES_MAX => return Err(format!("more than {NODES_MAX} nodes are known")),
            Err(place) => self.nodes.insert(place, node),
        }
        Ok(())
    }

    /// A node by its replica.
    pub(crate) fn node(&self, replica: ReplicaId) -> Option<&KnownNode> {
        self.nodes.iter().find(|known| known.replica == replica)
    }
}

fn path_in(keys: &Path) -> PathBuf {
    keys.join(FILE)
}

/// Writes a file whole or not at all, readable by its owner only.
pub(super) fn write_privately(path: &Path, text: &str) -> anyhow::Result<()> {
    let advice = || format!("{} cannot be written; check that this user may write to that folder", path.display());
    let partial = path.with_extension("partial");
    let written = || {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&partial, path)?;
        fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    written().with_context(advice)
}

pub(super) fn check_format(table: &Table) -> Result<(), String> {
    match table.get("format").and_then(Value::as_integer) {
        Some(FORMAT) => Ok(()),
        Some(other) => Err(format!("has format {other}, and this build reads {FORMAT}")),
        None => Err("names no format".to_owned()),
    }
}

/// A text that is not too long and has nothing in it that could deceive who reads it.
pub(super) fn text_of(table: &Table, name: &str) -> Result<String, String> {
    let text = table.get(name).and_then(Value::as_str).ok_or_else(|| format!("has no {name}"))?;
    if text.is_empty() || text.len() > TEXT_LEN_MAX || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(format!("has a {name} that cannot be used"));
    }
    Ok(text.to_owned())
}

pub(super) fn optional(table: &Table, name: &str) -> Result<Option<String>, String> {
    if table.contains_key(name) { text_of(table, name).map(Some) } else { Ok(None) }
}

/// 32 bytes in hex.
pub(super) fn key_of(table: &Table, name: &str) -> Result<[u8; 32], String> {
    let wrong = || format!("has no {name} of 64 hex digits");
    let digits = table.get(name).and_then(Value::as_str).ok_or_else(wrong)?.as_bytes();
    let mut key = [0; 32];
    if digits.len() != 2 * key.len() {
        return Err(wrong());
    }
    for (byte, pair) in key.iter_mut().zip(digits.chunks(2)) {
        let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.bytes().all(|digit| digit.is_ascii_hexdigit()));
        *byte = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()).ok_or_else(wrong)?;
    }
    Ok(key)
}

pub(super) fn nodes_of(table: &Table) -> Result<Vec<KnownNode>, String> {
    let nodes = table.get("node").and_then(Value::as_array).ok_or("names no nodes")?;
    if nodes.len() > NODES_MAX {
        return Err(format!("names more than {NODES_MAX} nodes"));
    }
    let mut found = nodes.iter().map(node_of).collect::<Result<Vec<_>, _>>()?;
    found.sort_by_key(|node| node.replica);
    if found.windows(2).any(|pair| pair[0].replica == pair[1].replica) {
        return Err("names a replica twice".to_owned());
    }
    Ok(found)
}

fn node_of(value: &Value) -> Result<KnownNode, String> {
    let table = value.as_table().ok_or("has a node that is no table")?;
    let replica = table.get("replica").and_then(Value::as_integer).and_then(|number| u32::try_from(number).ok());
    Ok(KnownNode {
        replica: ReplicaId(replica.ok_or("has a node without a replica")?),
        name: text_of(table, "name")?,
        region: text_of(table, "region")?,
        key: key_of(table, "key")?,
        mesh: optional(table, "mesh")?,
        founder: table.get("founder").and_then(Value::as_bool).unwrap_or(false),
    })
}

pub(super) fn nodes_text(nodes: &[KnownNode]) -> String {
    let one = |node: &KnownNode| {
        format!(
            "\n[[node]]\nreplica = {}\nname = {}\nregion = {}\nkey = \"{}\"\n{}founder = {}\n",
            node.replica,
            quoted(&node.name),
            quoted(&node.region),
            hex(&node.key),
            mesh_line(node.mesh.as_deref()),
            node.founder
        )
    };
    nodes.iter().map(one).collect()
}

/// Nothing where there is no address.
pub(super) fn mesh_line(mesh: Option<&str>) -> String {
    mesh.map(|mesh| format!("mesh = {}\n", quoted(mesh))).unwrap_or_default()
}

/// As a TOML string.
pub(super) fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn node(replica: u32) -> KnownNode {
        KnownNode {
            replica: ReplicaId(replica),
            name: format!("node-{replica}"),
            region: "us-east4".to_owned(),
            key: [replica as u8; 32],
            mesh: (replica != 3).then(|| format!("node-{replica}.example:9700")),
            founder: replica == 1,
        }
    }

    #[test]
    fn it_is_private_and_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Record::read(folder.path()).unwrap(), None);
        let mut record = Record { region: None, nodes: vec![node(1)] };
        record.put(node(3)).unwrap();
        record.put(node(2)).unwrap();
        record.put(KnownNode { mesh: Some("moved.example:1".to_owned()), ..node(2) }).unwrap();
        record.write(folder.path()).unwrap();
        let path = path_in(folder.path());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Record::read(folder.path()).unwrap(), Some(record.clone()));
        assert_eq!(record.nodes.iter().map(|node| node.replica.0).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(record.node(ReplicaId(2)).unwrap().mesh.as_deref(), Some("moved.example:1"));
        let text = fs::read_to_string(&path).unwrap();
        for (from, to, complaint) in [
            ("format = 1", "format = 2", "has format 2, and this build reads 1"),
            ("replica = 2", "replica = 1", "names a replica twice"),
            ("name = \"node-1\"", "name = \"a\\nb\"", "has a name that cannot be used"),
            (&hex(&[1; 32])[..], "01", "has no key of 64 hex digits"),
        ] {
            fs::write(&path, text.replace(from, to)).unwrap();
            let refused = Record::read(folder.path()).unwrap_err().sentence;
            assert!(refused.contains(complaint) && refused.contains("cluster.toml"), "{refused}");
        }
    }
}

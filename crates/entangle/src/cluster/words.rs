//! What is said when a node joins: how it introduces itself, and what the cluster tells it. `docs/formats/mesh.md`, joining.

use toml::Table;
use zeroize::Zeroizing;

use super::record::{
    FORMAT, KnownNode, check_format, hex, key_of, mesh_line, nodes_of, nodes_text, optional, quoted, text_of,
};

/// How a newcomer introduces itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Introduction {
    /// Its signing key.
    pub(super) key: [u8; 32],
    pub(super) region: String,
    /// How its mesh is reached, if it can be dialled.
    pub(super) mesh: Option<String>,
}

impl Introduction {
    pub(super) fn to_text(&self) -> String {
        format!(
            "format = {FORMAT}\nkey = \"{}\"\nregion = {}\n{}",
            hex(&self.key),
            quoted(&self.region),
            mesh_line(self.mesh.as_deref())
        )
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let table = table(bytes)?;
        Ok(Self { key: key_of(&table, "key")?, region: text_of(&table, "region")?, mesh: optional(&table, "mesh")? })
    }
}

/// What the cluster tells a newcomer.
pub(super) struct Welcome {
    /// The key under which secrets are sealed.
    pub(super) cluster_key: Zeroizing<[u8; 32]>,
    /// The key of the authority, for the newcomer to keep.
    pub(super) authority_key: Zeroizing<[u8; 32]>,
    /// All nodes, the newcomer among them.
    pub(super) nodes: Vec<KnownNode>,
}

impl Welcome {
    pub(super) fn to_text(&self) -> Zeroizing<String> {
        let key = Zeroizing::new(hex(self.cluster_key.as_slice()));
        let nodes = nodes_text(&self.nodes);
        let authority = Zeroizing::new(hex(self.authority_key.as_slice()));
        let (key, authority) = (key.as_str(), authority.as_str());
        Zeroizing::new(format!("format = {FORMAT}\ncluster_key = \"{key}\"\nauthority_key = \"{authority}\"\n{nodes}"))
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let table = table(bytes)?;
        Ok(Self {
            cluster_key: Zeroizing::new(key_of(&table, "cluster_key")?),
            authority_key: Zeroizing::new(key_of(&table, "authority_key")?),
            nodes: nodes_of(&table)?,
        })
    }
}

fn table(bytes: &[u8]) -> Result<Table, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "is no text".to_owned())?;
    let table: Table = text.parse().map_err(|error: toml::de::Error| error.message().to_owned())?;
    check_format(&table)?;
    Ok(table)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use types::ReplicaId;

    use super::*;

    #[test]
    fn what_is_said_is_understood() {
        let introduction =
            Introduction { key: [7; 32], region: "us-east4".into(), mesh: Some("b.example:9700".into()) };
        assert_eq!(Introduction::parse(introduction.to_text().as_bytes()).unwrap(), introduction);
        let node = KnownNode {
            replica: ReplicaId(1),
            name: "node-1".into(),
            region: "us-east4".into(),
            key: [1; 32],
            mesh: None,
            founder: true,
        };
        let (cluster_key, authority_key) = (Zeroizing::new([9; 32]), Zeroizing::new([8; 32]));
        let welcome = Welcome { cluster_key, authority_key, nodes: vec![node.clone()] };
        let heard = Welcome::parse(welcome.to_text().as_bytes()).unwrap();
        assert_eq!((*heard.cluster_key, *heard.authority_key, heard.nodes), ([9; 32], [8; 32], vec![node]));
    }

    #[test]
    fn nonsense_is_refused() {
        for nonsense in [&b"\xff"[..], b"", b"format = 2", b"format = 1\nkey = \"00\"", b"key = 1"] {
            assert!(Introduction::parse(nonsense).is_err() && Welcome::parse(nonsense).is_err(), "{nonsense:?}");
        }
    }
}

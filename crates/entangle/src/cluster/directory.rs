//! The directory of nodes, which the group replicates: every node learns from it whom to link with, and who has taken a
//! newcomer in writes it down there.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mesh::links::Endpoint;
use node::Node;
use parking_lot::Mutex;
use tokio::sync::watch;
use types::ReplicaId;
use types::command::PutNode;

use super::links::{member, peers};
use super::record::{KnownNode, Record};

/// Between two looks at the directory.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is needed to follow it.
pub(super) struct Directory {
    pub(super) endpoint: Endpoint,
    pub(super) record: Arc<Mutex<Record>>,
    pub(super) keys: PathBuf,
    pub(super) node: Node,
}

impl Directory {
    /// Until the node has ended. `heard` tells of newcomers.
    pub(super) async fn follow(self, mut heard: watch::Receiver<()>) {
        loop {
            match tokio::time::timeout(LOOK_EVERY, heard.changed()).await {
                Ok(Ok(())) => self.endpoint.set_peers(peers(&self.record.lock())),
                Ok(Err(_)) => return,
                Err(_) => {}
            }
            if let Err(reason) = self.learn() {
                tracing::warn!(%reason, "what the directory says of other nodes could not be taken over; trying again");
            }
            self.tell().await;
        }
    }

    /// Takes over what the directory says of other nodes.
    fn learn(&self) -> Result<(), String> {
        let rows = self.node.nodes().map_err(|error| error.to_string())?;
        let own = self.endpoint.identity().replica();
        let mut record = self.record.lock();
        let mut updated = record.clone();
        for PutNode { member, region, mesh, label } in rows.into_iter().map(|row| row.node) {
            if member.replica == own {
                continue;
            }
            let founder = updated.node(member.replica).is_some_and(|known| known.founder);
            let mesh = (!mesh.is_empty()).then_some(mesh);
            let known = KnownNode { replica: member.replica, name: label, region, key: member.key, mesh, founder };
            updated.put(known)?;
        }
        if updated == *record {
            return Ok(());
        }
        updated.write(&self.keys).map_err(|error| format!("{error:#}"))?;
        *record = updated;
        self.endpoint.set_peers(peers(&record));
        Ok(())
    }

    /// Writes down what is known here and not there: itself, and whom it took in.
    async fn tell(&self) {
        if self.node.ready().is_err() {
            return;
        }
        let Ok(rows) = self.node.nodes() else { return };
        let there: BTreeMap<ReplicaId, PutNode> =
            rows.into_iter().map(|row| (row.node.member.replica, row.node)).collect();
        let identity = self.endpoint.identity();
        let (own, cluster) = (identity.replica(), identity.cluster());
        let missing: Vec<PutNode> = {
            let record = self.record.lock();
            let entry = |known: &KnownNode| PutNode {
                member: member(cluster, known),
                region: known.region.clone(),
                mesh: known.mesh.clone().unwrap_or_default(),
                label: known.name.clone(),
            };
            let news = |known: &&KnownNode| match there.get(&known.replica) {
                None => true,
                // Each knows best how it is reached itself.
                Some(said) => known.replica == own && *said != entry(known),
            };
            record.nodes.iter().filter(news).map(entry).collect()
        };
        for node in missing {
            let replica = node.member.replica;
            if let Err(error) = self.node.put_node("", node).await {
                tracing::debug!(%replica, %error, "the directory does not have this node yet; trying again");
                return;
            }
        }
    }
}

//! The door of a node that is served: newcomers with a good token are taken in by the group, so that a token is good once
//! and a number is given once, whichever nodes are asked.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use mesh::links::identity::Authority;
use mesh::links::{Admitted, Newcomer, Porter, RefusalKind};
use node::Node;
use node::keys::read_cluster_key;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;
use types::command::AdmitNode;
use types::{Outcome, Refusal, ReplicaId};

use super::record::{KnownNode, Record};
use super::words::{Introduction, Welcome};

/// How long the group is asked: less than a newcomer waits for its answer.
const PATIENCE: Duration = Duration::from_secs(4);

/// Why somebody is sent away.
type SentAway = (RefusalKind, String);

/// What stands at the door.
pub(super) struct Door {
    pub(super) keys: PathBuf,
    pub(super) record: Arc<Mutex<Record>>,
    /// Set once the node runs.
    pub(super) node: Arc<OnceLock<Node>>,
    /// Told of every newcomer.
    pub(super) news: watch::Sender<()>,
}

impl Door {
    pub(super) fn porter(self, runtime: Handle) -> Porter {
        Porter::from_fn(move |newcomer| self.judge(newcomer, &runtime))
    }

    fn judge(&self, newcomer: &Newcomer, runtime: &Handle) -> Result<Admitted, SentAway> {
        let introduction = Introduction::parse(&newcomer.introduction).map_err(|reason| {
            other(format!("how the node introduces itself {reason}; use the same version at all nodes"))
        })?;
        let named = |node: &&KnownNode| node.founder && node.name == newcomer.name;
        if let Some(founder) = self.record.lock().nodes.iter().find(named) {
            return Err(name_taken(&newcomer.name, founder.replica));
        }
        let node = self.node.get().ok_or_else(|| busy("the node that was asked is starting"))?;
        node.ready().map_err(busy)?;
        let admit = AdmitNode {
            token: newcomer.token,
            expires_s: newcomer.expires_s,
            identity: newcomer.key,
            key: introduction.key,
            region: introduction.region.clone(),
            mesh: introduction.mesh.clone().unwrap_or_default(),
            label: newcomer.name.clone(),
        };
        let asked = async { tokio::time::timeout(PATIENCE, node.admit_node(admit)).await };
        let outcome = runtime.block_on(asked).map_err(|_| busy("its members did not agree in time"))?;
        let replica = match outcome.map_err(busy)? {
            Outcome::Admitted(replica) => replica,
            Outcome::Refused(Refusal::TokenUsed) => {
                return Err((RefusalKind::TokenUsed, RefusalKind::TokenUsed.to_string()));
            }
            Outcome::Refused(Refusal::TokenExpired) => {
                return Err((RefusalKind::TokenExpired, RefusalKind::TokenExpired.to_string()));
            }
            Outcome::Refused(Refusal::NameTaken(replica)) => return Err(name_taken(&newcomer.name, replica)),
            Outcome::Refused(Refusal::Invalid(rule)) => return Err(other(rule)),
            refused => return Err(other(format!("the group said {refused:?}"))),
        };
        let known = KnownNode {
            replica,
            name: newcomer.name.clone(),
            region: introduction.region,
            key: introduction.key,
            mesh: introduction.mesh,
            founder: false,
        };
        let welcome = self.welcome(known).map_err(|error| {
            tracing::error!(%error, "a newcomer could not be taken in");
            other("the cluster's node could not write it down; see its log".to_owned())
        })?;
        self.news.send_replace(());
        Ok(Admitted { replica, welcome })
    }

    /// Remembers the newcomer, durably; gives it the keys of the cluster and the nodes that are known.
    fn welcome(&self, newcomer: KnownNode) -> anyhow::Result<Bytes> {
        let cluster_key = read_cluster_key(&self.keys)?;
        let authority_key = Authority::open(&self.keys)?.seed();
        let mut known = self.record.lock();
        let mut updated = known.clone();
        updated.put(newcomer).map_err(anyhow::Error::msg)?;
        updated.write(&self.keys)?;
        known.clone_from(&updated);
        drop(known);
        let welcome = Welcome { cluster_key, authority_key, nodes: updated.nodes };
        Ok(Bytes::from(welcome.to_text().as_bytes().to_vec()))
    }
}

fn other(reason: String) -> SentAway {
    (RefusalKind::Other, reason)
}

fn busy(reason: impl std::fmt::Display) -> SentAway {
    (RefusalKind::Busy, reason.to_string())
}

fn name_taken(name: &str, replica: ReplicaId) -> SentAway {
    other(format!("replica {replica} is called {name}: choose another name with --name"))
}

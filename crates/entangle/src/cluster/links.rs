//! The mesh of a node that is served: its endpoint, the nodes that it links with, newcomers, and what `status` shows.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use mesh::links::identity::{Authority, Identity};
use mesh::links::{BindError, Config, Endpoint, Events, PeerStatus};
use node::{GroupConfig, Node};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::watch;
use types::command::Member;
use types::{ClusterId, ReplicaId};

use super::directory::Directory;
use super::door::Door;
use super::join::reachable;
use super::record::{KnownNode, Record};
use super::{DEFAULT_PORT, not_usable, now_s};
use crate::exit::Failure;
use crate::settings::Settings;

/// What a node of a cluster has beside its data: an endpoint that is bound, and what is known of the others.
pub(crate) struct Links {
    endpoint: Endpoint,
    events: Option<Events>,
    own: ReplicaId,
    record: Arc<Mutex<Record>>,
    keys: PathBuf,
    /// The node, once it runs: it asks the others about newcomers.
    node: Arc<OnceLock<Node>>,
    /// Told when a node has joined.
    heard: watch::Receiver<()>,
}

impl Links {
    /// Binds the endpoint of a node whose keys folder shows that it is of a cluster; `None` for a lone node.
    pub(crate) fn open(settings: &Settings) -> anyhow::Result<Option<Self>> {
        let keys = settings.keys.clone();
        let Some(record) = Record::read(&keys)? else {
            let half = keys.join("mesh.key").exists();
            return if half { Err(broken_off(&keys).into()) } else { Ok(None) };
        };
        let identity = Identity::open(&keys).map_err(|error| not_usable(&error))?;
        let own = identity.replica();
        let keeps_authority = keys.join("authority.key").exists();
        let authority =
            if keeps_authority { Some(Authority::open(&keys).map_err(|error| not_usable(&error))?) } else { None };
        warn_of_expiry(&identity, keeps_authority);
        let known = record.node(own).and_then(|own| own.mesh.clone());
        let mut config = Config::new(listen(settings, known.as_deref()));
        config.clock = mesh::links::Clock::from_fn(|| node::clock::now().wall_ns / 1_000_000_000);
        config.authority = authority.map(Arc::new);
        let record = Arc::new(Mutex::new(record));
        let (news, heard) = watch::channel(());
        let node = Arc::new(OnceLock::new());
        let door = Door { keys: keys.clone(), record: record.clone(), node: node.clone(), news };
        config.porter = Some(door.porter(Handle::current()));
        let (endpoint, events) = Endpoint::bind(config, identity).map_err(|error| not_bound(&error))?;
        let reached =
            settings.mesh_advertise.clone().or_else(|| settings.mesh.and(reachable(endpoint.local_address())));
        note_address(&mut record.lock(), own, reached, &keys)?;
        endpoint.set_peers(peers(&record.lock()));
        Ok(Some(Self { endpoint, events: Some(events), own, record, keys, node, heard }))
    }

    /// The group, as it was founded.
    pub(crate) fn group(&self) -> GroupConfig {
        let cluster = self.endpoint.identity().cluster();
        let record = self.record.lock();
        let founders: Vec<Member> =
            record.nodes.iter().filter(|node| node.founder).map(|node| member(cluster, node)).collect();
        let faults = u32::try_from(founders.len().saturating_sub(1) / 2).unwrap_or(0);
        GroupConfig { cluster, replica: self.own, members: founders, faults }
    }

    /// Where the mesh listens, and how others reach it.
    pub(crate) fn addresses(&self) -> (SocketAddr, Option<String>) {
        let reached = self.record.lock().node(self.own).and_then(|own| own.mesh.clone());
        (self.endpoint.local_address(), reached)
    }

    /// Brings the node what the links bring.
    pub(crate) fn carry(&mut self, node: &Node) {
        let _ = self.node.set(node.clone());
        if let Some(events) = self.events.take() {
            tokio::spawn(node::peer::links::carry(events, node.peers().clone()));
            let directory = Directory {
                endpoint: self.endpoint.clone(),
                record: self.record.clone(),
                keys: self.keys.clone(),
                node: node.clone(),
            };
            tokio::spawn(directory.follow(self.heard.clone()));
        }
    }

    /// What `status` shows of the links, whenever it is asked.
    pub(crate) fn report(&self) -> impl Fn() -> Value + Send + Sync + use<> {
        let (endpoint, record) = (self.endpoint.clone(), self.record.clone());
        move || report(&endpoint, &record.lock())
    }

    /// Tells the peers, and closes.
    pub(crate) async fn close(self) {
        self.endpoint.close().await;
    }
}

fn broken_off(keys: &Path) -> Failure {
    let keys = keys.display();
    Failure::failed(format!(
        "{keys} holds a mesh identity and no cluster.toml: a founding or a join was broken off. Run `entangle cluster init` \
         once more if this was to be the first node; else remove {keys} and join with a new token"
    ))
}

/// Where the mesh listens: as was said, else on all addresses, at the port at which others reach it.
fn listen(settings: &Settings, known: Option<&str>) -> SocketAddr {
    let said = settings.mesh_advertise.as_deref().or(known).and_then(|address| address.rsplit_once(':'));
    let port = said.and_then(|(_, port)| port.parse().ok()).unwrap_or(DEFAULT_PORT);
    settings.mesh.unwrap_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))
}

fn not_bound(error: &BindError) -> Failure {
    match error {
        BindError::Socket { address, source } if source.kind() == std::io::ErrorKind::AddrInUse => {
            Failure::failed(format!(
                "the UDP port of {address} is in use by another process; stop that one, or choose another address with --mesh"
            ))
        }
        BindError::Socket { .. } => Failure::failed(format!("{error} (with --mesh)")),
        BindError::Identity(_) => Failure::failed(format!("{error}; put mesh.key and mesh.crt back from a copy")),
    }
}

/// Writes down how this node is reached, for tokens and newcomers, if that is known and has changed.
fn note_address(record: &mut Record, own: ReplicaId, reached: Option<String>, keys: &Path) -> anyhow::Result<()> {
    match record.nodes.iter_mut().find(|node| node.replica == own) {
        Some(node) if reached.is_some() && node.mesh != reached => node.mesh = reached,
        _ => return Ok(()),
    }
    record.write(keys)
}

/// An expired certificate opens no link. Who keeps the authority renews its own; others would need a link for that.
fn warn_of_expiry(identity: &Identity, keeps_authority: bool) {
    let now_s = now_s();
    if now_s < identity.valid_from_s() {
        tracing::warn!("this node's certificate is not valid yet by the clock of this machine: set the clock right");
    } else if now_s > identity.expires_s() && !keeps_authority {
        tracing::warn!(
            "this node's certificate has expired, and no other node will talk to it: if the clock of this machine is \
             right, copy authority.key and authority.crt from the keys folder of another node into that of this one, and \
             start it again; it then renews its certificate by itself"
        );
    }
}

/// Who is dialled and let in: all that are known. The endpoint leaves its own replica out.
pub(super) fn peers(record: &Record) -> BTreeMap<ReplicaId, Vec<String>> {
    record.nodes.iter().map(|node| (node.replica, node.mesh.iter().cloned().collect())).collect()
}

pub(super) fn member(cluster: ClusterId, node: &KnownNode) -> Member {
    Member { replica: node.replica, name: Member::name_of(cluster, node.replica), key: node.key }
}

fn report(endpoint: &Endpoint, record: &Record) -> Value {
    let own = endpoint.identity();
    let days_left = (i64::try_from(own.expires_s()).unwrap_or(i64::MAX) - i64::try_from(now_s()).unwrap_or(0)) / 86_400;
    json!({
        "name": own.name(),
        "listen": endpoint.local_address().to_string(),
        "advertise": record.node(own.replica()).and_then(|own| own.mesh.clone()),
        "certificate_days_left": days_left,
        "peers": endpoint.peers().iter().map(|peer| link(peer, record)).collect::<Vec<_>>(),
    })
}

/// What congestion control lets be on its way at once, in each round trip: the bandwidth in reach. As long as little is
/// sent, the path may bear more.
fn bandwidth(window_len: u64, round_trip: std::time::Duration) -> u64 {
    let us = u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX).max(1);
    window_len.saturating_mul(1_000_000) / us
}

/// One link, or why there is none.
fn link(status: &PeerStatus, record: &Record) -> Value {
    let known = record.node(status.peer);
    let mut document = json!({
        "replica": status.peer.0,
        "name": known.map(|node| node.name.clone()),
        "region": known.map(|node| node.region.clone()),
        "up": status.link.is_some(),
        "trouble": status.trouble,
    });
    let Some(link) = &status.link else { return document };
    let seen = link.observation();
    let us = |delay: std::time::Duration| u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
    document["up_ms"] = json!(u64::try_from(seen.up_for.as_millis()).unwrap_or(u64::MAX));
    if let Some(trip) = seen.round_trip {
        document["round_trip_us"] =
            json!({ "min": us(trip.min), "p50": us(trip.p50), "p90": us(trip.p90), "p99": us(trip.p99) });
        document["bandwidth_bytes_per_s"] = json!(bandwidth(seen.congestion_window, trip.p50));
    }
    document["loss"] = json!(seen.probe_loss);
    document["suspicion"] = json!(seen.suspicion);
    document["key_exchange"] = json!(seen.key_exchange);
    document["certificate_days_left"] = json!(seen.certificate_days_left);
    document["bytes_sent"] = json!(seen.bytes_sent);
    document["bytes_received"] = json!(seen.bytes_received);
    document["packets_sent"] = json!(seen.packets_sent);
    document["packets_retransmitted"] = json!(seen.packets_lost);
    document["bytes_retransmitted"] = json!(seen.bytes_lost);
    document
}

//! The demo's world: a node for each region in one process, each with its own folder and S3 endpoint, and a sea between
//! them that is as wide as the real one.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use client::{Client, Credentials, Error, Options, Put};
use gateway::{BindError, Gateway, GatewayConfig};
use mesh::links::emulate::{Path as Passage, Sea};
use mesh::links::identity::Authority;
use mesh::links::{Clock, Config, Endpoint};
use node::keys::{Keys, random};
use node::{GroupConfig, Node, NodeConfig, Secret};
use tempfile::TempDir;
use tokio::task::JoinSet;
use types::command::{Member, PutNode};
use types::sign::Signer as _;
use types::{ClusterId, ReplicaId};

use super::regions::Regions;
use crate::exit::Failure;
use crate::server::Server;

/// Nothing in the demo takes this long unless something is wrong.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at something that is waited for.
const LOOK: Duration = Duration::from_millis(5);
/// A demo has to run where little is free, too.
const RESERVE_LEN: u64 = 16 << 20;

/// The regions, and what lies between them.
pub(super) struct World {
    pub(super) places: Regions,
    pub(super) regions: Vec<Region>,
    pub(super) credentials: Credentials,
    founding: Founding,
    sea: Sea,
    folder: TempDir,
}

/// What the group was founded with, and what a further node needs.
struct Founding {
    cluster: ClusterId,
    members: Vec<Member>,
    authority: Authority,
}

impl Founding {
    fn group(&self, replica: ReplicaId) -> GroupConfig {
        GroupConfig { cluster: self.cluster, replica, members: self.members.clone(), faults: 1 }
    }
}

/// One region: a node, its links, its S3 endpoint, and a client beside it.
pub(super) struct Region {
    pub(super) name: &'static str,
    pub(super) node: Node,
    pub(super) url: String,
    pub(super) client: Client,
    /// Its number in the sea, where it lies, and where its node hears the others.
    place: Place,
    server: Server,
    endpoint: Endpoint,
}

#[derive(Clone, Copy)]
struct Place {
    number: u32,
    place: usize,
    mesh: SocketAddr,
}

/// A node that runs, and its links, before there is a way in for clients.
struct Started {
    node: Node,
    endpoint: Endpoint,
}

impl World {
    /// Founds a group with a member in each region, links them, and opens the S3 endpoints on these ports ([`ports`]).
    pub(super) async fn start(places: Regions, ports: Vec<u16>, credentials: Credentials) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("entangle-demo-").tempdir()?;
        let cluster = ClusterId(random());
        let members = members(folder.path(), &places, cluster)?;
        let authority = Authority::init(&folder.path().join("authority"), cluster, &Clock::system())?;
        let founding = Founding { cluster, members, authority };
        let mut started = Vec::new();
        for (name, replica) in places.names.iter().zip(1..) {
            let group = founding.group(ReplicaId(replica));
            started.push(Started::new(&folder.path().join(name), name, group, &founding.authority).await?);
        }
        let sea = Sea::new(1);
        link(&sea, &places, &started).await?;
        for (node, name) in started.iter().map(|started| &started.node).zip(&places.names) {
            if until("it takes work", || node.ready().ok()).await.is_err() {
                let reason = node.ready().err().map(|error| error.to_string()).unwrap_or_default();
                let seconds = PATIENCE.as_secs();
                return Err(Failure::failed(format!(
                    "the node of {name} is not ready after {seconds} s: {reason}; try again when this machine has less to \
                     do, or with regions that are nearer to each other"
                ))
                .into());
            }
        }
        let secret = Secret::new(credentials.secret_key().to_owned());
        started[0].node.put_access_key("", credentials.access_key(), &secret, "of the demo").await?;
        let mut regions = Vec::new();
        for (place, ((name, port), started)) in places.names.iter().zip(ports).zip(started).enumerate() {
            regions.push(started.open(name, (number(place), place), port, &credentials).await?);
        }
        Ok(Self { places, regions, credentials, founding, sea, folder })
    }

    /// Starts one more node in a region, links it with all others, and enters it in the directory: it can be made a member.
    pub(super) async fn join(&self, place: usize) -> anyhow::Result<Joined> {
        let name = self.places.names[place];
        let new = number(self.regions.len());
        let folder = self.folder.path().join(format!("{name}-new"));
        let member = new_keys(
            &folder.join("keys"),
            &self.folder.path().join(self.places.names[0]),
            self.founding.cluster,
            new + 1,
        )?;
        let started =
            Started::new(&folder, name, self.founding.group(member.replica), &self.founding.authority).await?;
        let here = Place { number: new, place, mesh: started.endpoint.local_address() };
        for region in &self.regions {
            let there = region.place;
            self.sea.set(here.number, there.number, passage(&self.places, here.place, there.place));
            self.sea.set(there.number, here.number, passage(&self.places, there.place, here.place));
        }
        let mut all: Vec<(Place, &Endpoint)> =
            self.regions.iter().map(|region| (region.place, &region.endpoint)).collect();
        all.push((here, &started.endpoint));
        for (from, endpoint) in &all {
            let mut peers = BTreeMap::new();
            for (to, _) in all.iter().filter(|(to, _)| to.number != from.number) {
                let address = self.sea.route(from.number, to.number, to.mesh).await?;
                peers.insert(ReplicaId(to.number + 1), vec![address.to_string()]);
            }
            endpoint.set_peers(peers);
        }
        let entry = PutNode {
            member: member.clone(),
            region: name.to_owned(),
            mesh: String::new(),
            label: format!("{name}-new"),
        };
        self.regions[0].node.put_node("", entry).await?;
        let linked = || started.endpoint.peers().iter().filter(|peer| peer.link.is_some()).count();
        let links = || (linked() >= self.regions.len()).then_some(());
        until("the new node is linked with all others", links).await?;
        Ok(Joined { started, number: new, replica: member.replica })
    }

    /// The new node is the one of its region from now on; the one before was removed, and is stopped.
    pub(super) async fn take_over(&mut self, place: usize, joined: Joined) -> anyhow::Result<()> {
        let node = joined.started.node.clone();
        until("the new member serves", || node.ready().ok()).await?;
        let port = self.regions[place].url.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or(0);
        let before = self.regions.remove(place);
        before.server.stop().await?;
        before.endpoint.close().await;
        let at = (joined.number, place);
        self.regions.insert(place, joined.started.open(before.name, at, port, &self.credentials).await?);
        Ok(())
    }

    /// Cuts every link of a region, or mends them.
    pub(super) fn cut(&self, region: usize, cut: bool) {
        for other in (0..self.regions.len()).filter(|other| *other != region) {
            let (here, there) = (self.regions[region].place, self.regions[other].place);
            for (from, to) in [(here, there), (there, here)] {
                self.sea.set(from.number, to.number, Passage { cut, ..passage(&self.places, from.place, to.place) });
            }
        }
    }

    /// What every link says of its key exchange, each once.
    pub(super) fn key_exchanges(&self) -> Vec<&'static str> {
        let peers = self.regions.iter().flat_map(|region| region.endpoint.peers());
        let mut said: Vec<_> = peers.filter_map(|peer| Some(peer.link?.observation().key_exchange)).collect();
        said.sort_unstable();
        said.dedup();
        said
    }

    /// Stops all nodes in order. What is left is the folder, to be removed.
    pub(super) async fn stop(self) -> anyhow::Result<Emptied> {
        let mut stopped = Ok(());
        let (servers, endpoints): (Vec<_>, Vec<_>) =
            self.regions.into_iter().map(|region| (region.server, region.endpoint)).unzip();
        for server in servers {
            stopped = stopped.and(server.stop().await);
        }
        let mut closing = JoinSet::new();
        for endpoint in endpoints {
            closing.spawn(async move { endpoint.close().await });
        }
        closing.join_all().await;
        stopped.map(|()| Emptied(self.folder))
    }
}

/// A node that has joined, and is no member yet.
pub(super) struct Joined {
    started: Started,
    number: u32,
    pub(super) replica: ReplicaId,
}

/// The folder of a world that has ended; removed when this is dropped.
pub(super) struct Emptied(TempDir);

impl Emptied {
    /// Removes it; says so if it cannot.
    pub(super) fn remove(self) -> std::io::Result<()> {
        self.0.close()
    }
}

/// A node's number in the sea.
fn number(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

fn passage(places: &Regions, from: usize, to: usize) -> Passage {
    Passage { delay: places.one_way(from, to), ..Passage::default() }
}

/// Makes a keys folder for each member; all hold the same cluster key.
fn members(folder: &Path, places: &Regions, cluster: ClusterId) -> anyhow::Result<Vec<Member>> {
    let mut members = Vec::new();
    let mut first: Option<PathBuf> = None;
    for (name, replica) in places.names.iter().zip(1..) {
        let here = folder.join(name);
        members.push(new_keys(&here.join("keys"), first.as_ref().unwrap_or(&here), cluster, replica)?);
        first.get_or_insert(here);
    }
    Ok(members)
}

/// Makes the keys of a node; the cluster key is that of the first one.
fn new_keys(keys: &Path, first: &Path, cluster: ClusterId, replica: u32) -> anyhow::Result<Member> {
    fs::create_dir_all(keys)?;
    let shared = first.join("keys/cluster.key");
    if shared.exists() {
        fs::copy(shared, keys.join("cluster.key"))?;
    }
    let key = Keys::open(keys, true)?.node.public_key();
    Ok(Member { replica: ReplicaId(replica), name: format!("{cluster}.entangle/replica/{replica}"), key })
}

/// Opens a route for each pair of regions, as long as it is on the map, and names each node its peers.
async fn link(sea: &Sea, places: &Regions, started: &[Started]) -> anyhow::Result<()> {
    for (from, here) in started.iter().enumerate() {
        let mut peers = BTreeMap::new();
        for (to, there) in started.iter().enumerate().filter(|(to, _)| *to != from) {
            sea.set(number(from), number(to), passage(places, from, to));
            let address = sea.route(number(from), number(to), there.endpoint.local_address()).await?;
            peers.insert(ReplicaId(number(to) + 1), vec![address.to_string()]);
        }
        here.endpoint.set_peers(peers);
    }
    Ok(())
}

impl Started {
    async fn new(folder: &Path, name: &str, group: GroupConfig, authority: &Authority) -> anyhow::Result<Self> {
        let replica = group.replica;
        let mut config = NodeConfig::new(folder.join("data"));
        config.keys = folder.join("keys");
        config.region = name.to_owned();
        config.reserve_len = RESERVE_LEN;
        config.write_timeout = PATIENCE;
        config.group = Some(group);
        let node = tokio::task::spawn_blocking(move || Node::start(config)).await.context("a node panicked")??;
        let identity = authority.issue_identity(replica, name, &Clock::system())?;
        let (endpoint, events) = Endpoint::bind(Config::new((Ipv4Addr::LOCALHOST, 0).into()), identity)?;
        tokio::spawn(node::peer::links::carry(events, node.peers().clone()));
        Ok(Self { node, endpoint })
    }

    async fn open(
        self,
        name: &'static str,
        (number, place): (u32, usize),
        port: u16,
        credentials: &Credentials,
    ) -> anyhow::Result<Region> {
        let Self { node, endpoint } = self;
        let place = Place { number, place, mesh: endpoint.local_address() };
        let mut config = GatewayConfig::new((Ipv4Addr::LOCALHOST, port).into());
        config.region = name.to_owned();
        let gateway = Gateway::bind(config, node.clone()).await.map_err(|error| not_bound(&error))?;
        let url = url(gateway.s3_address());
        let mut options = Options::new(url.parse()?);
        options.credentials = Some(credentials.clone());
        options.region = name.to_owned();
        options.timeout = PATIENCE;
        let client = Client::new(options)?;
        let server = Server::run(node.clone(), gateway);
        Ok(Region { name, node, url, client, place, server, endpoint })
    }
}

/// The ports of the regions: `first` and those behind it, or, for 0, zeros. Those that are wanted must be free, which is better known before anything is started.
pub(super) fn ports(first: u16, count: usize) -> Result<Vec<u16>, Failure> {
    if first == 0 {
        return Ok(vec![0; count]);
    }
    let ports: Vec<u16> = (first..=u16::MAX).take(count).collect();
    if ports.len() < count {
        return Err(Failure::usage(format!(
            "--port {first}: there are no {count} ports from there on; choose a lower one"
        )));
    }
    for port in &ports {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, *port));
        if let Err(error) = std::net::TcpListener::bind(address) {
            return Err(not_bound(&match error.kind() {
                ErrorKind::AddrInUse => BindError::InUse { address },
                _ => BindError::Address { address, source: error },
            }));
        }
    }
    Ok(ports)
}

impl Region {
    /// Writes; again while the node has no time, for on a busy machine regions may take each other for silent.
    pub(super) async fn put(&self, bucket: &str, key: &str, body: impl Into<Bytes>) -> Result<Put, Error> {
        let body = body.into();
        patiently(|| self.client.put_object(bucket, key, body.clone())).await
    }

    /// Reads; again while the node has no time.
    pub(super) async fn read(&self, bucket: &str, key: &str, limit: usize) -> Result<Bytes, Error> {
        patiently(|| self.client.read_object(bucket, key, limit)).await
    }
}

async fn patiently<T, F: Future<Output = Result<T, Error>>>(ask: impl Fn() -> F) -> Result<T, Error> {
    let began = Instant::now();
    loop {
        match ask().await {
            Err(error) if error.is_retryable() && began.elapsed() < PATIENCE => tokio::time::sleep(LOOK).await,
            answer => return answer,
        }
    }
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}

fn not_bound(error: &BindError) -> Failure {
    match error {
        BindError::InUse { address } => Failure::failed(format!(
            "{address} is in use by another process; choose other ports with --port, or leave it out to take free ones"
        )),
        error => Failure::failed(format!("{error} (with --port)")),
    }
}

/// Asks again and again until there is an answer; tells how long that took, or that `what` did not come true.
pub(super) async fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> anyhow::Result<(T, Duration)> {
    let began = Instant::now();
    loop {
        if let Some(found) = ask() {
            return Ok((found, began.elapsed()));
        }
        if began.elapsed() > PATIENCE {
            return Err(Failure::failed(format!(
                "it did not come about in {} s that {what}; try again when this machine has less to do",
                PATIENCE.as_secs()
            ))
            .into());
        }
        tokio::time::sleep(LOOK).await;
    }
}

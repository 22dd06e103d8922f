//! A node with its gateway, as `serve` and `demo` run it: start, the first access key, the policy file, stop.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use client::Credentials;
use gateway::{BindError, Gateway, GatewayConfig, LinksReport, TlsConfig};
use node::{Node, NodeConfig, Secret, StartError};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use types::Outcome;

use crate::cluster::Links;
use crate::credentials;
use crate::exit::Failure;
use crate::settings::Settings;

/// Name of the policy in the keys folder: what verifiers on this machine trust by default.
pub(crate) const POLICY_FILE: &str = "policy";

/// A running node and its gateway.
pub(crate) struct Server {
    node: Node,
    /// Where S3 and the native routes are.
    pub(crate) s3: SocketAddr,
    /// Where health, metrics and status are.
    pub(crate) admin: Option<SocketAddr>,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
    /// Of a node of a cluster.
    links: Option<Links>,
}

/// The first access key, and how it came about.
#[derive(Clone, Debug)]
pub(crate) enum RootKey {
    /// From the environment; nothing is written.
    Given(Credentials),
    /// Made by this start, and written to this file.
    Made(Credentials, PathBuf),
    /// From the file that an earlier start wrote.
    Kept(Credentials, PathBuf),
    /// The node has access keys, and which ones is known to those who made them.
    Unknown,
}

impl RootKey {
    /// The pair, if it is known.
    pub(crate) fn credentials(&self) -> Option<&Credentials> {
        match self {
            Self::Given(credentials) | Self::Made(credentials, _) | Self::Kept(credentials, _) => Some(credentials),
            Self::Unknown => None,
        }
    }
}

impl Server {
    /// Starts the node, makes sure that somebody can sign in, and opens the ports. `links`: those of a member of a group.
    pub(crate) async fn start(
        settings: &Settings,
        given: Option<Credentials>,
        mut links: Option<Links>,
    ) -> anyhow::Result<(Self, RootKey)> {
        let mut config = node_config(settings);
        config.group = links.as_ref().map(Links::group);
        let started = tokio::task::spawn_blocking(move || Node::start(config)).await;
        let node = started.context("the node panicked while it started")?.map_err(|error| refused(&error, settings))?;
        if let Some(links) = &mut links {
            links.carry(&node);
        }
        match Self::open(settings, given, &node, links.as_ref()).await {
            Ok((server, root_key)) => Ok((Self { links, ..server }, root_key)),
            Err(error) => {
                node.shutdown().await;
                Err(error)
            }
        }
    }

    async fn open(
        settings: &Settings,
        given: Option<Credentials>,
        node: &Node,
        links: Option<&Links>,
    ) -> anyhow::Result<(Self, RootKey)> {
        let mut config = gateway_config(settings);
        config.links = links.map(|links| LinksReport::from_fn(links.report()));
        let bound = Gateway::bind(config, node.clone()).await;
        let gateway = bound.map_err(|error| not_bound(&error, settings))?;
        let is_member = node.membership().has(node.replica());
        // A node that is no member yet gets the keys that there are with everything else.
        let root_key = match given {
            // The state of a member may be behind, and the group without a quorum: this node starts all the same.
            Some(given) if !is_member || node.membership().members.len() > 1 => {
                tokio::spawn(give_root_key(node.clone(), given.clone()));
                RootKey::Given(given)
            }
            given if is_member => ensure_root_key(node, settings, given).await?,
            _ => RootKey::Unknown,
        };
        write_policy(&settings.keys, &node.policy())?;
        tokio::spawn(follow_policy(settings.keys.clone(), node.clone()));
        Ok((Self::run(node.clone(), gateway), root_key))
    }

    /// Serves a node that takes work, on ports that are bound.
    pub(crate) fn run(node: Node, gateway: Gateway) -> Self {
        let (s3, admin) = (gateway.s3_address(), gateway.admin_address());
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(async move {
            gateway
                .run(async move {
                    // A dropped sender means the same: stop.
                    let _ = stopped.await;
                })
                .await;
        });
        Self { node, s3, admin, stop, serving, links: None }
    }

    /// Where the mesh listens and how others reach it, for a node of a cluster.
    pub(crate) fn mesh(&self) -> Option<(SocketAddr, Option<String>)> {
        self.links.as_ref().map(Links::addresses)
    }

    /// The replica that this node is, and whether it is a member of its group.
    pub(crate) fn standing(&self) -> (u32, bool) {
        let replica = self.node.replica();
        (replica.0, self.node.membership().has(replica))
    }

    /// Waits until the node or the gateway stops working by itself; says why.
    pub(crate) async fn failed(&mut self) -> String {
        tokio::select! {
            reason = self.node.failed() => reason,
            ended = &mut self.serving => match ended {
                Ok(()) => "the gateway ended".to_owned(),
                Err(_) => "the gateway panicked".to_owned(),
            },
        }
    }

    /// Takes no more requests, finishes those in flight, makes everything durable.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        let Self { node, stop, serving, links, .. } = self;
        // Nobody listens if the gateway ended by itself.
        let _ = stop.send(());
        let drained = if serving.is_finished() { Ok(()) } else { serving.await };
        node.shutdown().await;
        if let Some(links) = links {
            links.close().await;
        }
        drained.context("the gateway panicked while it drained")
    }
}

fn node_config(settings: &Settings) -> NodeConfig {
    let mut config = NodeConfig::new(&settings.data);
    config.keys.clone_from(&settings.keys);
    config.state_cache_len = settings.memory_state_len;
    config.object_cache_len = settings.memory_objects_len;
    config.reserve_len = settings.disk_reserve_len;
    config.checkpoint_len = settings.disk_journal_len;
    config.write_timeout = settings.write_timeout;
    config.receipts = settings.receipts;
    config.region.clone_from(&settings.region);
    config.flush_delay = settings.bench.flush_delay;
    config.ledger = !settings.bench.without_ledger;
    config
}

fn gateway_config(settings: &Settings) -> GatewayConfig {
    let mut config = GatewayConfig::new(settings.s3);
    config.admin = settings.admin;
    config.tls = settings.tls.as_ref().map(|files| TlsConfig { cert: files.cert.clone(), key: files.key.clone() });
    config.domains.clone_from(&settings.domains);
    config.region.clone_from(&settings.region);
    config.ledger_public = settings.ledger_public;
    config
}

/// Most reasons say by themselves what to do; for damage it depends on what is damaged.
fn refused(error: &StartError, settings: &Settings) -> Failure {
    let advice = match error {
        StartError::Journal(_)
        | StartError::State(_)
        | StartError::Ledger(_)
        | StartError::Vault(_)
        | StartError::Core(_) => {
            format!(
                "; `entangle ledger verify --data {}` shows what is damaged, and `entangle restore` makes a new folder \
                 from a backup",
                settings.data.display()
            )
        }
        _ => String::new(),
    };
    Failure::failed(format!("{error}{advice}"))
}

/// The gateway knows addresses; the user knows flags.
fn not_bound(error: &BindError, settings: &Settings) -> Failure {
    let flag = |address: &SocketAddr| if *address == settings.s3 { "--s3" } else { "--admin" };
    match error {
        BindError::InUse { address } => Failure::failed(format!(
            "{address} is in use by another process; stop that one, or choose another address with {}",
            flag(address)
        )),
        BindError::Address { address, .. } => Failure::failed(format!("{error} (with {})", flag(address))),
        BindError::Tls { .. } | BindError::Domain(_) => Failure::failed(error.to_string()),
    }
}

/// Sees to it that the access key of the environment is known to the group, once this node is a member that has caught up.
async fn give_root_key(node: Node, given: Credentials) {
    let mut said = false;
    loop {
        if node.ready().is_ok() && node.read_caught_up(None).await.is_ok() {
            match put_given(&node, &given).await {
                Ok(()) => return,
                Err(error) if !said => {
                    said = true;
                    tracing::warn!("{error:#}; trying again");
                }
                Err(_) => {}
            }
        }
        tokio::select! {
            _ = node.failed() => return,
            () = tokio::time::sleep(GIVE_EVERY) => {}
        }
    }
}

/// Stores the access key of the environment, if it is not there with this secret.
async fn put_given(node: &Node, given: &Credentials) -> anyhow::Result<()> {
    let known = node.secret(given.access_key())?;
    if known.is_none_or(|secret| secret.expose() != given.secret_key()) {
        put_root_key(node, given, "from the environment").await?;
    }
    Ok(())
}

async fn ensure_root_key(node: &Node, settings: &Settings, given: Option<Credentials>) -> anyhow::Result<RootKey> {
    if let Some(given) = given {
        put_given(node, &given).await?;
        return Ok(RootKey::Given(given));
    }
    let path = credentials::path_in(&settings.keys);
    let kept = credentials::read(&path)?;
    if !node.access_keys()?.is_empty() {
        // The file may be of a key that was removed since.
        return Ok(match kept {
            Some(kept)
                if node.secret(kept.access_key())?.is_some_and(|secret| secret.expose() == kept.secret_key()) =>
            {
                RootKey::Kept(kept, path)
            }
            _ => RootKey::Unknown,
        });
    }
    // Who became a member a moment ago, or was killed then, has no state yet: the group has its keys.
    if node.membership().members.len() > 1 {
        return Ok(RootKey::Unknown);
    }
    // The file comes first: a crash in between leaves a key that nobody can use yet, and the next start takes it up.
    let (root_key, credentials) = match kept {
        Some(kept) => (RootKey::Kept(kept.clone(), path), kept),
        None => {
            let made = credentials::generate()?;
            credentials::write(&path, &made)?;
            (RootKey::Made(made.clone(), path), made)
        }
    };
    put_root_key(node, &credentials, "made on the first start").await?;
    Ok(root_key)
}

async fn put_root_key(node: &Node, credentials: &Credentials, description: &str) -> anyhow::Result<()> {
    let secret = Secret::new(credentials.secret_key().to_owned());
    let put = node.put_access_key("", credentials.access_key(), &secret, description).await;
    match put.context("the first access key could not be stored")? {
        Outcome::Refused(refusal) => {
            Err(Failure::failed(format!("the first access key could not be stored: {refusal:?}; remove another one"))
                .into())
        }
        _ => {
            tracing::info!(access_key = credentials.access_key(), "access key stored, {description}");
            Ok(())
        }
    }
}

/// Between two attempts to store the access key of the environment.
const GIVE_EVERY: Duration = Duration::from_millis(500);
/// Between two looks at whether nodes have come whose keys the policy names.
const POLICY_EVERY: Duration = Duration::from_secs(2);

/// Keeps the policy file up to date until the node ends.
async fn follow_policy(keys: PathBuf, node: Node) {
    let mut written = node.policy();
    loop {
        tokio::select! {
            _ = node.failed() => return,
            () = tokio::time::sleep(POLICY_EVERY) => {}
        }
        let policy = node.policy();
        if policy == written {
            continue;
        }
        match write_policy(&keys, &policy) {
            Ok(()) => written = policy,
            Err(error) => tracing::warn!("the policy of the cluster could not be written; trying again: {error:#}"),
        }
    }
}

/// Writes the policy beside the keys, whole or not at all, if it is not there as it should be.
fn write_policy(keys: &Path, policy: &str) -> anyhow::Result<()> {
    let path = keys.join(POLICY_FILE);
    if fs::read(&path).is_ok_and(|found| found == policy.as_bytes()) {
        return Ok(());
    }
    let partial = keys.join("policy.partial");
    let written = fs::File::create(&partial)
        .and_then(|mut file| file.write_all(policy.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&partial, &path));
    written.with_context(|| format!("{} cannot be written; check that this user may write there", path.display()))
}

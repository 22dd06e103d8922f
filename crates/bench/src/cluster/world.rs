//! The cluster under test, and what is done to it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use client::Credentials;
use rustix::process::Signal;
use serde_json::{Value as Json, json};

use super::Options;
use super::node::{Make, Node, free_udp_port};
use super::plan::Fault;
use super::relay::{Network, Rule};
use super::worker::{BUCKET, Shared, client};
use crate::random::Random;

/// What is asked for again and again is there within this.
const PATIENCE: Duration = Duration::from_secs(60);

/// The nodes by place, and the network between them.
pub(super) struct World {
    make: Make,
    network: Network,
    nodes: Vec<Node>,
    credentials: Credentials,
    random: Random,
    /// The number of the next node.
    next: u32,
}

impl World {
    /// Founds a cluster, and lets nodes join until it is complete.
    pub(super) async fn found(options: &Options) -> anyhow::Result<Self> {
        let network = Network::new(options.seed);
        let mut random = Random::new(options.seed ^ 0x776f_726c_6400);
        let make =
            Make { binary: options.binary.clone(), folder: options.folder.clone(), hooks: options.hooks.clone() };
        let mut first = new_node(&make, &network, 1, &mut random).await?;
        first.found().context("cluster init")?;
        first.start(None)?;
        let began = Instant::now();
        let credentials = loop {
            match first.credentials() {
                Ok(credentials) => break credentials,
                Err(error) if began.elapsed() > PATIENCE => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        };
        let mut world = Self { make, network, nodes: vec![first], credentials, random, next: 2 };
        world.make_bucket().await?;
        while world.nodes.len() < options.nodes {
            let node = world.newcomer().await?;
            let name = node.name();
            world.nodes.push(node);
            world.change(0, &json!({ "add": name }), &name, None).await?;
        }
        if options.leases {
            let zone = json!({ "zone": format!("{BUCKET}/"), "leases": "everyone", "home": null });
            let client = client(&world.nodes[0].endpoint(), &world.credentials)?;
            client.put_zone(&zone).await.context("the zone")?;
        }
        Ok(world)
    }

    /// Clients of all places.
    pub(super) fn clients(&self) -> anyhow::Result<Vec<client::Client>> {
        self.nodes.iter().map(|node| client(&node.endpoint(), &self.credentials)).collect()
    }

    /// The names of the nodes by place.
    pub(super) fn names(&self) -> Vec<String> {
        self.nodes.iter().map(Node::name).collect()
    }

    /// The last lines of every node's log.
    pub(super) fn last_words(&self) -> String {
        let words = |node: &Node| format!("--- {}\n{}", node.name(), node.last_words());
        self.nodes.iter().map(words).collect::<Vec<_>>().join("\n")
    }

    /// Whether all that should run do.
    pub(super) fn check_alive(&mut self) -> anyhow::Result<()> {
        self.nodes.iter_mut().try_for_each(Node::is_alive)
    }

    /// Does a fault, lets it last, and undoes it.
    pub(super) async fn suffer(&mut self, fault: &Fault, lasts: Duration, shared: &Arc<Shared>) -> anyhow::Result<()> {
        match fault {
            Fault::Kill(places) => self.kill(places).await?,
            Fault::KillAtStart(place) => self.kill_at_start(*place).await?,
            Fault::Pause(places) => self.signal(places, Signal::STOP)?,
            Fault::CutPair(one, other) => self.cut(&[(*one, *other), (*other, *one)]),
            Fault::CutOneWay(from, to) => self.cut(&[(*from, *to)]),
            Fault::Isolate(place) => self.part(std::slice::from_ref(place)),
            Fault::Mute(place) => {
                let pairs: Vec<_> = self.others(*place).map(|other| (*place, other)).collect();
                self.cut(&pairs);
            }
            Fault::Partition(minority) => self.part(minority),
            Fault::Shatter => (0..self.nodes.len()).for_each(|place| self.part(&[place])),
            Fault::Slow(place, delay_ms, loss_percent) => {
                let rule = Rule { cut: false, delay_ms: *delay_ms, loss_percent: *loss_percent };
                let pairs: Vec<_> = self.others(*place).flat_map(|other| [(*place, other), (other, *place)]).collect();
                self.rule(&pairs, rule);
            }
            Fault::KillAll => self.kill(&(0..self.nodes.len()).collect::<Vec<_>>()).await?,
            Fault::SlowFlush(place, ms) => self.nodes[*place].ask(&format!("flush_delay_ms = {ms}"))?,
            Fault::ClockJump(place, seconds) => self.nodes[*place].ask(&format!("clock_offset_s = {seconds}"))?,
            Fault::Replace(place, is_dead) => return self.replace(*place, *is_dead, lasts, shared).await,
        }
        tokio::time::sleep(lasts).await;
        if let Fault::Pause(places) = fault {
            self.signal(places, Signal::CONT)?;
        }
        if let Fault::SlowFlush(place, _) | Fault::ClockJump(place, _) = fault {
            self.nodes[*place].ask("")?;
        }
        self.network.heal();
        for node in self.nodes.iter_mut().filter(|node| !node.is_running()) {
            node.start(None)?;
        }
        Ok(())
    }

    /// SIGTERM to all.
    pub(super) async fn stop(&mut self) -> anyhow::Result<()> {
        for node in &mut self.nodes {
            node.stop().await?;
        }
        Ok(())
    }

    fn others(&self, place: usize) -> impl Iterator<Item = usize> + use<> {
        (0..self.nodes.len()).filter(move |other| *other != place)
    }

    fn cut(&self, pairs: &[(usize, usize)]) {
        self.rule(pairs, Rule::CUT);
    }

    fn rule(&self, pairs: &[(usize, usize)], rule: Rule) {
        for (from, to) in pairs {
            self.network.set(self.nodes[*from].number, self.nodes[*to].number, rule);
        }
    }

    /// Cuts these places from all others.
    fn part(&self, side: &[usize]) {
        for place in side {
            for other in self.others(*place).filter(|other| !side.contains(other)) {
                self.cut(&[(*place, other), (other, *place)]);
            }
        }
    }

    /// Starts the process of a place again.
    pub(super) fn start(&mut self, place: usize) -> anyhow::Result<()> {
        self.nodes[place].start(None)
    }

    pub(super) async fn kill(&mut self, places: &[usize]) -> anyhow::Result<()> {
        for place in places {
            self.nodes[*place].kill().await?;
        }
        Ok(())
    }

    async fn kill_at_start(&mut self, place: usize) -> anyhow::Result<()> {
        self.nodes[place].kill().await?;
        for _ in 0..1 + self.random.below(3) {
            self.nodes[place].start(None)?;
            tokio::time::sleep(Duration::from_millis(self.random.below(400))).await;
            self.nodes[place].kill().await?;
        }
        Ok(())
    }

    fn signal(&self, places: &[usize], signal: Signal) -> anyhow::Result<()> {
        places.iter().try_for_each(|place| self.nodes[*place].signal(signal))
    }

    /// SIGTERM, and a start, of another build if one is given.
    pub(super) async fn restart(&mut self, place: usize, build: Option<&Path>) -> anyhow::Result<()> {
        self.nodes[place].stop().await?;
        if let Some(build) = build {
            self.nodes[place].build(build);
            // Those that come later are of it, too.
            build.clone_into(&mut self.make.binary);
        }
        self.nodes[place].start(None)
    }

    /// A fresh node comes in the place of one, which leaves alive, or is dead and does not come back.
    pub(super) async fn replace(
        &mut self,
        place: usize,
        is_dead: bool,
        lasts: Duration,
        shared: &Arc<Shared>,
    ) -> anyhow::Result<()> {
        let old = self.nodes[place].name();
        if is_dead {
            self.nodes[place].kill().await?;
            tokio::time::sleep(lasts).await;
        }
        let node = self.newcomer().await?;
        let new = node.name();
        let at = self.others(place).next().context("nobody stays")?;
        // Whatever happens now, both are ended with the run.
        let mut leaving = std::mem::replace(&mut self.nodes[place], node);
        self.change(at, &json!({ "replace": [&old, &new] }), &new, Some(&old)).await?;
        shared.move_in(place, client(&self.nodes[place].endpoint(), &self.credentials)?);
        if !is_dead {
            leaving.left().await?;
        }
        Ok(())
    }

    /// A node that has begun to join.
    async fn newcomer(&mut self) -> anyhow::Result<Node> {
        let token = self.nodes[0].token().context("cluster token")?;
        let mut node = new_node(&self.make, &self.network, self.next, &mut self.random).await?;
        self.next += 1;
        node.start(Some(&token))?;
        Ok(node)
    }

    /// Asks for a change of members at a place until `new` is one, and `old` is none.
    async fn change(&mut self, at: usize, wanted: &Json, new: &str, old: Option<&str>) -> anyhow::Result<()> {
        let client = client(&self.nodes[at].endpoint(), &self.credentials)?;
        let began = Instant::now();
        loop {
            let answer = match client.change_members(wanted).await {
                Ok(members) => members,
                // It may have been done all the same.
                Err(error) => {
                    self.check_alive()?;
                    if began.elapsed() > PATIENCE {
                        bail!("{wanted} was not done within {} s: {error}", PATIENCE.as_secs());
                    }
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    client.members().await.unwrap_or_default()
                }
            };
            let is_member = |name: &str| {
                let nodes = answer["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
                nodes.iter().any(|node| node["name"] == name && node["member"] == true)
            };
            if is_member(new) && !old.is_some_and(is_member) {
                return Ok(());
            }
        }
    }

    async fn make_bucket(&self) -> anyhow::Result<()> {
        let client = client(&self.nodes[0].endpoint(), &self.credentials)?;
        let began = Instant::now();
        while let Err(error) = client.create_bucket(BUCKET).await {
            if began.elapsed() > PATIENCE {
                return Err(error).context("the bucket");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }
}

async fn new_node(make: &Make, network: &Network, number: u32, random: &mut Random) -> anyhow::Result<Node> {
    let port = free_udp_port(random.word());
    let relay = network.relay(number, port).await?;
    let node = Node::new(make.clone(), number, (port, relay));
    node.ask("")?;
    Ok(node)
}

//! A node of the cluster, as a process.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::random::Random;

/// A node that does not end within this is broken.
const END_WITHIN: Duration = Duration::from_secs(60);
/// Ports are taken from here, where no system takes those of outgoing connections from: a node that is started again
/// finds its own free.
const PORTS: std::ops::Range<u64> = 12_000..30_000;

/// How nodes are made.
#[derive(Clone)]
pub(super) struct Make {
    pub(super) binary: PathBuf,
    pub(super) folder: PathBuf,
    /// If the build has faults of its own: the rules that it is to do without.
    pub(super) hooks: Option<Vec<String>>,
}

/// Whether a build has faults of its own (the feature `faults`).
pub fn has_hooks(binary: &Path) -> anyhow::Result<bool> {
    let mut command = Command::new(binary);
    command.arg("--version");
    Ok(output(command)?.contains("FAULTS"))
}

/// Where a node is, and its process if it has one.
pub(super) struct Node {
    pub(super) number: u32,
    pub(super) s3_port: u16,
    make: Make,
    mesh_port: u16,
    relay_port: u16,
    child: Option<Child>,
}

impl Node {
    /// A node that does not run yet.
    pub(super) fn new(make: Make, number: u32, (mesh_port, relay_port): (u16, u16)) -> Self {
        Self { number, s3_port: free_tcp_port(u64::from(mesh_port)), make, mesh_port, relay_port, child: None }
    }

    pub(super) fn name(&self) -> String {
        format!("n{}", self.number)
    }

    pub(super) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.s3_port)
    }

    /// Takes another build from the next start on.
    pub(super) fn build(&mut self, binary: &Path) {
        binary.clone_into(&mut self.make.binary);
    }

    /// Makes it the first of a cluster.
    pub(super) fn found(&self) -> anyhow::Result<()> {
        let mut command = self.command();
        command.args(["cluster", "init", "--data", &self.name(), "--name", &self.name()]);
        command.args(["--region", "us-east-1", "--mesh", &self.relay_address()]);
        output(command).map(drop)
    }

    /// A token with which another one joins. The node that founded the cluster makes them.
    pub(super) fn token(&self) -> anyhow::Result<String> {
        let mut command = self.command();
        command.args(["cluster", "token", "--data", &self.name()]);
        Ok(output(command)?.trim_end().to_owned())
    }

    /// What the credentials file of the cluster's first node holds.
    pub(super) fn credentials(&self) -> anyhow::Result<client::Credentials> {
        let path = self.make.folder.join(format!("{}-keys", self.name())).join("credentials");
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let value = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once('=')?.1.trim().to_owned())
        };
        let access_key = value("aws_access_key_id").context("no access key")?;
        Ok(client::Credentials::new(access_key, value("aws_secret_access_key").context("no secret")?))
    }

    /// Starts the process.
    pub(super) fn start(&mut self, token: Option<&str>) -> anyhow::Result<()> {
        ensure!(self.child.is_none(), "{} runs already", self.name());
        let log = File::options().create(true).append(true).open(self.log()).context("the log")?;
        let mut command = self.command();
        command.args(["serve", "--data", &self.name(), "--name", &self.name(), "--admin", "off"]);
        command.args(["--s3", &format!("127.0.0.1:{}", self.s3_port)]);
        command.args(["--mesh", &format!("127.0.0.1:{}", self.mesh_port)]);
        command.args(["--mesh-advertise", &self.relay_address()]);
        if let Some(token) = token {
            command.env("ENTANGLE_JOIN", token);
        }
        if self.make.hooks.is_some() {
            command.env("ENTANGLE_FAULTS", self.hooks_file());
        }
        let child = command.stdout(log.try_clone()?).stderr(log).spawn();
        self.child = Some(child.with_context(|| format!("{} could not be started", self.make.binary.display()))?);
        Ok(())
    }

    /// Asks the build for a fault, and for no other. `""`: for none.
    pub(super) fn ask(&self, fault: &str) -> anyhow::Result<()> {
        let Some(without) = &self.make.hooks else { return Ok(()) };
        let rules = without.iter().map(|rule| format!("without = {rule}\n"));
        let text: String = rules.chain([format!("{fault}\n")]).collect();
        let (path, partial) = (self.hooks_file(), self.hooks_file().with_extension("partial"));
        std::fs::write(&partial, text).and_then(|()| std::fs::rename(&partial, path)).context("the file of faults")
    }

    fn hooks_file(&self) -> PathBuf {
        self.make.folder.join(format!("{}.faults", self.name()))
    }

    /// `kill -9`
    pub(super) async fn kill(&mut self) -> anyhow::Result<()> {
        self.is_alive()?;
        if let Some(child) = &mut self.child {
            child.kill().context("kill")?;
        }
        let status = self.ended_within(END_WITHIN).await?;
        ensure!(status.signal() == Some(9), "{} ended with {status}, not by the kill", self.name());
        Ok(())
    }

    /// SIGSTOP or SIGCONT
    pub(super) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = self.child.as_ref().and_then(|child| Pid::from_raw(i32::try_from(child.id()).ok()?));
        kill_process(pid.context("no process")?, signal).context("kill")
    }

    /// SIGTERM, and the exit code 0 that has to follow.
    pub(super) async fn stop(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::TERM)?;
        let status = self.ended_within(END_WITHIN).await?;
        ensure!(status.success(), "{} ended with {status} on SIGTERM:\n{}", self.name(), self.last_words());
        Ok(())
    }

    /// Waits for the end that a removed node comes to by itself.
    pub(super) async fn left(&mut self) -> anyhow::Result<()> {
        let status = self.ended_within(END_WITHIN).await?;
        ensure!(status.success(), "{} was removed and ended with {status}:\n{}", self.name(), self.last_words());
        Ok(())
    }

    pub(super) fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// A node that ended by itself is a violation.
    pub(super) fn is_alive(&mut self) -> anyhow::Result<()> {
        if let Some(child) = &mut self.child
            && let Some(status) = child.try_wait()?
        {
            self.child = None;
            bail!("{} ended by itself with {status}:\n{}", self.name(), self.last_words());
        }
        Ok(())
    }

    async fn ended_within(&mut self, patience: Duration) -> anyhow::Result<ExitStatus> {
        let deadline = Instant::now() + patience;
        let child = self.child.as_mut().context("no process")?;
        loop {
            if let Some(status) = child.try_wait()? {
                self.child = None;
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("{} did not end in time:\n{}", self.name(), self.last_words());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    fn relay_address(&self) -> String {
        format!("127.0.0.1:{}", self.relay_port)
    }

    fn log(&self) -> PathBuf {
        self.make.folder.join(format!("{}.log", self.name()))
    }

    /// The last lines of its log.
    pub(super) fn last_words(&self) -> String {
        let text = std::fs::read(self.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.make.binary);
        // What is set for other nodes is not meant for this one.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("ENTANGLE_") || text.starts_with("AWS_") {
                command.env_remove(&name);
            }
        }
        command.current_dir(&self.make.folder).stdin(Stdio::null());
        command
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Nobody can be told any more.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Runs a command that comes to its end by itself; gives what it printed.
fn output(mut command: Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{command:?} ended with {}: {said}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A TCP port that was free a moment ago.
fn free_tcp_port(seed: u64) -> u16 {
    free_port(seed, |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
}

/// A UDP port that was free a moment ago.
pub(super) fn free_udp_port(seed: u64) -> u16 {
    free_port(seed, |port| UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
}

fn free_port(seed: u64, is_free: impl Fn(u16) -> bool) -> u16 {
    let mut random = Random::new(seed ^ u64::from(std::process::id()) << 20);
    loop {
        let port = u16::try_from(PORTS.start + random.below(PORTS.end - PORTS.start)).unwrap_or(0);
        if port != 0 && is_free(port) {
            return port;
        }
    }
}

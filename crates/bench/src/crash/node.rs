//! The node under test, as a process.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::Options;
use crate::http::Connection;

pub(super) const ACCESS_KEY: &str = "CRASHTESTKEY";
pub(super) const SECRET_KEY: &str = "crash-test-secret-0123456789";

/// A node that is not ready after this long is broken.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// So is one that does not end.
const END_WITHIN: Duration = Duration::from_secs(60);

pub(super) struct Node {
    binary: PathBuf,
    folder: PathBuf,
    s3_port: u16,
    admin_port: u16,
    child: Option<Child>,
}

impl Node {
    pub(super) async fn start(options: &Options) -> anyhow::Result<Self> {
        let mut node = Self {
            binary: options.binary.clone(),
            folder: options.folder.clone(),
            s3_port: 0,
            admin_port: 0,
            child: None,
        };
        node.start_again().await?;
        Ok(node)
    }

    pub(super) fn s3_address(&self) -> String {
        format!("127.0.0.1:{}", self.s3_port)
    }

    /// Starts the process and waits until it is ready.
    pub(super) async fn start_again(&mut self) -> anyhow::Result<()> {
        self.spawn()?;
        let deadline = Instant::now() + READY_WITHIN;
        while !self.is_ready().await {
            if let Some(status) = self.ended()? {
                bail!("the node ended with {status} instead of becoming ready:\n{}", self.last_words());
            }
            ensure!(Instant::now() < deadline, "the node was not ready in time:\n{}", self.last_words());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Starts the process and kills it a moment later, ready or not.
    pub(super) async fn start_and_kill(&mut self, life: Duration) -> anyhow::Result<()> {
        self.spawn()?;
        tokio::time::sleep(life).await;
        if let Some(status) = self.ended()? {
            bail!("the node ended with {status} while it was starting:\n{}", self.last_words());
        }
        self.kill().await
    }

    /// SIGKILL. A node that died by itself before is a violation.
    pub(super) async fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.ended()? {
            bail!("the node ended by itself with {status}:\n{}", self.last_words());
        }
        if let Some(child) = &mut self.child {
            child.kill().context("kill")?;
        }
        let status = self.wait().await?;
        ensure!(status.signal() == Some(9), "the node ended with {status}, not by the kill:\n{}", self.last_words());
        Ok(())
    }

    /// SIGTERM: the node drains and ends with 0.
    pub(super) async fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(pid) = self.child.as_ref().and_then(|child| Pid::from_raw(i32::try_from(child.id()).ok()?)) {
            kill_process(pid, Signal::TERM).context("kill")?;
        }
        let status = self.wait().await?;
        ensure!(status.success(), "the node ended with {status} on SIGTERM:\n{}", self.last_words());
        Ok(())
    }

    /// `entangle ledger verify` on the folder of the stopped node.
    pub(super) async fn verify(&self) -> anyhow::Result<()> {
        let mut command = Command::new(&self.binary);
        command.args(["ledger", "verify", "--data"]).arg(self.data()).stdin(Stdio::null());
        let output = tokio::task::spawn_blocking(move || command.output()).await?.context("ledger verify")?;
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "ledger verify ended with {}:\n{said}", output.status);
        Ok(())
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn spawn(&mut self) -> anyhow::Result<()> {
        (self.s3_port, self.admin_port) = free_ports()?;
        let log = File::options().create(true).append(true).open(self.folder.join("node.log")).context("node.log")?;
        let mut command = Command::new(&self.binary);
        // What is set for other nodes is not meant for this one.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ENTANGLE_")) {
            command.env_remove(name);
        }
        let child = command
            .arg("serve")
            .arg("--data")
            .arg(self.data())
            .args(["--s3", &format!("127.0.0.1:{}", self.s3_port)])
            .args(["--admin", &format!("127.0.0.1:{}", self.admin_port)])
            .env("ENTANGLE_ACCESS_KEY", ACCESS_KEY)
            .env("ENTANGLE_SECRET_KEY", SECRET_KEY)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("{} could not be started", self.binary.display()))?;
        self.child = Some(child);
        Ok(())
    }

    fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        let child = self.child.as_mut().context("no process")?;
        let status = child.try_wait()?;
        if status.is_some() {
            self.child = None;
        }
        Ok(status)
    }

    async fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        let deadline = Instant::now() + END_WITHIN;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            ensure!(Instant::now() < deadline, "the node did not end in time:\n{}", self.last_words());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn is_ready(&self) -> bool {
        let ask = async {
            let mut connection = Connection::open(&format!("127.0.0.1:{}", self.admin_port)).await?;
            let mut head = b"GET /readyz HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n".to_vec();
            connection.call(&mut head, b"", false, &mut |_| {}).await
        };
        matches!(tokio::time::timeout(Duration::from_secs(5), ask).await, Ok(Ok(head)) if head.status == 200)
    }

    fn last_words(&self) -> String {
        let text = std::fs::read(self.folder.join("node.log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
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

/// Two ports that were free a moment ago.
fn free_ports() -> anyhow::Result<(u16, u16)> {
    let (one, other) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
    Ok((one.local_addr()?.port(), other.local_addr()?.port()))
}

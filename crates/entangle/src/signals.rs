//! SIGTERM and SIGINT: the first drains, the second ends at once.

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that end a node.
pub(crate) struct Shutdown {
    terminate: Signal,
    interrupt: Signal,
}

impl Shutdown {
    /// Listens from now on, so that no signal is lost while the node starts.
    pub(crate) fn listen() -> anyhow::Result<Self> {
        let terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be listened to")?;
        let interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be listened to")?;
        Ok(Self { terminate, interrupt })
    }

    /// Waits for the next signal and gives its name and number.
    pub(crate) async fn next(&mut self) -> (&'static str, i32) {
        tokio::select! {
            _ = self.terminate.recv() => ("SIGTERM", 15),
            _ = self.interrupt.recv() => ("SIGINT", 2),
        }
    }

    /// Ends the process at the next signal, with the exit code that shells give a signal.
    pub(crate) fn exit_on_next(mut self) {
        tokio::spawn(async move {
            let (name, number) = self.next().await;
            tracing::warn!("{name} again: ending at once, what was acknowledged is safe in the journal");
            std::process::exit(128 + number);
        });
    }
}

//! `rolling`: a real cluster under load whose nodes are restarted, upgraded and replaced one after the other, and a check that
//! no client noticed.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool speaks")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use bench::cluster::{Options, Rolling, roll};
use clap::Parser;

/// Restarts, upgrades and replaces every node of a cluster that is in use, and checks that no client noticed.
#[derive(Parser, Debug)]
#[command(name = "rolling")]
struct Arguments {
    /// Members of the cluster.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(3..=9))]
    nodes: u8,
    /// Clients of every node.
    #[arg(long, default_value_t = 3)]
    clients: u64,
    /// Seconds that the cluster is left alone between two nodes.
    #[arg(long, default_value_t = 3)]
    between: u64,
    /// How often all nodes are restarted.
    #[arg(long, default_value_t = 2)]
    rounds: usize,
    /// An older build: the cluster begins with it, and is upgraded.
    #[arg(long, value_name = "PROGRAM")]
    old: Option<PathBuf>,
    /// Keep the node that founded the cluster, for builds where it alone keeps the authority.
    #[arg(long)]
    keep_first: bool,
    /// Where the random numbers of the clients start; drawn from the clock if not given.
    #[arg(long)]
    seed: Option<u64>,
    /// The present build; the default is `entangle` beside this program.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Where to put the folder that the nodes work in; it is kept when something is wrong.
    #[arg(long)]
    folder: Option<PathBuf>,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let seed = match arguments.seed {
        Some(seed) => seed,
        None => SystemTime::now().duration_since(UNIX_EPOCH).context("the clock stands before 1970")?.as_secs(),
    };
    let binary = match arguments.binary {
        Some(binary) => program(&binary)?,
        None => program(&std::env::current_exe()?.with_file_name("entangle"))?,
    };
    let old = arguments.old.as_deref().map(program).transpose()?;
    let parent = arguments.folder.unwrap_or_else(std::env::temp_dir);
    let folder = tempfile::Builder::new().prefix("entangle-rolling-").tempdir_in(parent)?;
    let options = Options {
        binary,
        folder: folder.path().to_owned(),
        nodes: arguments.nodes.into(),
        duration: Duration::ZERO,
        clients: arguments.clients.max(1),
        seed,
        only: None,
        hooks: None,
        leases: false,
    };
    let rolling = Rolling {
        old,
        between: Duration::from_secs(arguments.between),
        rounds: arguments.rounds,
        replace_from: usize::from(arguments.keep_first),
    };
    println!("rolling: {} nodes, {} clients each, seed {seed}", options.nodes, options.clients);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let ended = runtime.block_on(roll(&options, &rolling, &mut |line| println!("{line}")));
    let violations = match ended {
        Ok(summary) => {
            println!("\n{summary}");
            summary.violations
        }
        Err(error) => vec![format!("{error:#}")],
    };
    if violations.is_empty() {
        println!("No client noticed (seed {seed}).");
        return Ok(ExitCode::SUCCESS);
    }
    let kept = folder.keep();
    for violation in &violations {
        eprintln!("VIOLATED (seed {seed}): {violation}");
    }
    eprintln!("the folders and logs of the nodes are kept in {}", kept.display());
    Ok(ExitCode::FAILURE)
}

fn program(path: &Path) -> anyhow::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    anyhow::ensure!(path.is_file(), "{} is not there: cargo build --release -p entangle", path.display());
    Ok(path)
}

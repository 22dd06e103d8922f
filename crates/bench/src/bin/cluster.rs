//! `cluster`: a real cluster of several processes, faults one after the other, clients at every node, and a check of all
//! that they were told.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool speaks")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use bench::cluster::{Options, run};
use clap::Parser;

/// Faults at a real cluster, and a check of all that its clients were told.
#[derive(Parser, Debug)]
#[command(name = "cluster")]
struct Arguments {
    /// Members of the cluster.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(3..=9))]
    nodes: u8,
    /// How long faults go on.
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    /// Clients of every node.
    #[arg(long, default_value_t = 3)]
    clients: u64,
    /// Where the random numbers start; drawn from the clock if not given. It gives the faults; what they meet still
    /// depends on the machine.
    #[arg(long)]
    seed: Option<u64>,
    /// Only faults of this kind, as the summary calls it.
    #[arg(long)]
    only: Option<String>,
    /// The binary of the nodes; the default is `entangle` beside this program.
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
        Some(binary) => std::path::absolute(binary)?,
        None => std::env::current_exe()?.with_file_name("entangle"),
    };
    anyhow::ensure!(binary.is_file(), "{} is not there: cargo build --release -p entangle", binary.display());
    let parent = arguments.folder.unwrap_or_else(std::env::temp_dir);
    let folder = tempfile::Builder::new().prefix("entangle-cluster-").tempdir_in(parent)?;
    let options = Options {
        binary,
        folder: folder.path().to_owned(),
        nodes: arguments.nodes.into(),
        duration: Duration::from_secs(arguments.seconds),
        clients: arguments.clients.max(1),
        seed,
        only: arguments.only,
    };
    println!("cluster: {} nodes, {} s, seed {seed}", options.nodes, arguments.seconds);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let ended = runtime.block_on(run(&options, &mut |line| println!("{line}")));
    let violations = match ended {
        Ok(summary) => {
            println!("\n{summary}");
            summary.violations
        }
        Err(error) => vec![format!("{error:#}")],
    };
    if violations.is_empty() {
        println!("No violation (seed {seed}).");
        return Ok(ExitCode::SUCCESS);
    }
    let kept = folder.keep();
    for violation in &violations {
        eprintln!("VIOLATED (seed {seed}): {violation}");
    }
    eprintln!("the folders and logs of the nodes are kept in {}", kept.display());
    Ok(ExitCode::FAILURE)
}

//! `crash`: starts a real node, lets writers write, kills it at a random moment, and checks what is left; again and again.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool speaks")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use bench::crash::{Options, run};
use clap::Parser;

/// Kills a real node again and again, and checks what is left.
#[derive(Parser, Debug)]
#[command(name = "crash")]
struct Arguments {
    /// How many kills.
    #[arg(long, default_value_t = 200)]
    rounds: u64,
    /// Writers at the same time.
    #[arg(long, default_value_t = 8)]
    writers: u64,
    /// Where the random numbers start; drawn from the clock if not given. The moment of a kill still depends on the machine.
    #[arg(long)]
    seed: Option<u64>,
    /// `entangle ledger verify` runs after every so many rounds.
    #[arg(long, default_value_t = 1)]
    verify_every: u64,
    /// The longest time in milliseconds from the first write to the kill.
    #[arg(long, default_value_t = 600)]
    life_ms: u64,
    /// The binary of the node; the default is `entangle` beside this program.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Where to put the folder that the node works in; it is kept when something is wrong.
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
        Some(binary) => binary,
        None => std::env::current_exe()?.with_file_name("entangle"),
    };
    anyhow::ensure!(binary.is_file(), "{} is not there: cargo build --release -p entangle", binary.display());
    let parent = arguments.folder.unwrap_or_else(std::env::temp_dir);
    let folder = tempfile::Builder::new().prefix("entangle-crash-").tempdir_in(parent)?;
    let options = Options {
        binary,
        folder: folder.path().to_owned(),
        rounds: arguments.rounds,
        writers: arguments.writers.max(1),
        seed,
        verify_every: arguments.verify_every.max(1),
        life_ms_max: arguments.life_ms.max(1),
    };
    println!("crash: {} rounds, {} writers, seed {seed}", options.rounds, options.writers);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match runtime.block_on(run(&options, &mut |line| println!("{line}"))) {
        Ok(summary) => {
            println!("every acknowledged write is there, and nothing else: {summary:?}");
            Ok(ExitCode::SUCCESS)
        }
        Err(violation) => {
            let kept = folder.keep();
            eprintln!("VIOLATED (seed {seed}): {violation:#}");
            eprintln!("the node's folder and log are kept in {}", kept.display());
            Ok(ExitCode::FAILURE)
        }
    }
}

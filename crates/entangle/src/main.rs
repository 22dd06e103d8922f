//! The `entangle` binary: runs a node, and holds the commands that talk to one or check what one wrote.
//!
//! Each command is a file of `commands/`; it gives a [`console::Report`] or an error that becomes one sentence
//! and an exit code ([`exit`]). Settings and their precedence: [`settings`]. `docs/cli.md` is the manual.

mod cli;
mod cluster;
mod commands;
mod console;
mod credentials;
mod exit;
mod logs;
mod progress;
mod remote;
mod server;
mod settings;
mod signals;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use clap::error::ErrorKind;

use crate::cli::Cli;
use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::settings::Environment;

/// What it is, as it says itself.
const VERSION: &str = if cfg!(feature = "faults") {
    concat!(env!("CARGO_PKG_VERSION"), " WITH FAULTS FOR TESTS: not for data that matters")
} else {
    env!("CARGO_PKG_VERSION")
};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse_usage(&error),
    };
    let console = Console::detect(cli.json);
    let exit = match run(cli, console) {
        Ok(exit) => exit,
        Err(error) => {
            let failure = Failure::of(&error);
            console.failure(&failure);
            failure.exit
        }
    };
    ExitCode::from(exit as u8)
}

fn run(cli: Cli, console: Console) -> anyhow::Result<Exit> {
    let environment = Environment::new(std::env::vars_os())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the process cannot start its threads; raise the limit on processes (ulimit -u)")?;
    let report = runtime.block_on(commands::run(cli.command, console, &environment))?;
    let exit = report.exit;
    console.report(report);
    Ok(exit)
}

/// Help and version are answers; the rest is a mistake, told in JSON when that was asked for.
fn refuse_usage(error: &clap::Error) -> ExitCode {
    let json = std::env::args_os().any(|argument| argument == "--json");
    let is_answer = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if !json || is_answer {
        // The exit code stands whether or not anyone reads the text.
        let _ = error.print();
        return ExitCode::from(if is_answer { Exit::Done } else { Exit::Usage } as u8);
    }
    let text = error.to_string();
    // The lines up to the first empty one: behind a colon they name what is missing.
    let lines: Vec<&str> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    let said = lines.join(" ");
    let said = said.trim_start_matches("error: ");
    Console::detect(true).failure(&Failure::usage(format!("{said}; see `entangle --help`")));
    ExitCode::from(Exit::Usage as u8)
}

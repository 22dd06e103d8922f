//! `entangle completions`

use clap::CommandFactory as _;
use serde_json::json;

use crate::cli::{Cli, CompletionsArgs};
use crate::console::Report;

pub(super) fn run(args: &CompletionsArgs) -> anyhow::Result<Report> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "entangle", &mut script);
    let script = String::from_utf8(script)?;
    Ok(Report::done(json!({ "shell": args.shell.to_string(), "script": script }), script))
}

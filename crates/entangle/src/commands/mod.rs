//! The commands, one file each.

mod bench;
mod cluster;
mod completions;
mod demo;
mod folder;
mod keys;
mod ledger;
mod members;
mod receipt;
mod serve;
mod status;
mod zones;

use crate::cli::{ClusterCommand, Command, KeysCommand, LedgerCommand, ReceiptCommand};
use crate::console::{Console, Report};
use crate::settings::Environment;

/// Runs a command to its end.
pub(crate) async fn run(command: Command, console: Console, environment: &Environment) -> anyhow::Result<Report> {
    match command {
        Command::Serve(args) => Box::pin(serve::run(&args, console, environment)).await,
        Command::Demo(args) => Box::pin(demo::run(&args, console)).await,
        Command::Cluster(ClusterCommand::Init(args)) => cluster::run_init(&args, console),
        Command::Cluster(ClusterCommand::Token(args)) => cluster::run_token(&args, console),
        Command::Cluster(ClusterCommand::Nodes(args)) => members::run_nodes(&args, console, environment).await,
        Command::Cluster(ClusterCommand::Add(args)) => members::run_add(&args, console, environment).await,
        Command::Cluster(ClusterCommand::Remove(args)) => members::run_remove(&args, console, environment).await,
        Command::Cluster(ClusterCommand::Replace(args)) => members::run_replace(&args, console, environment).await,
        Command::Cluster(ClusterCommand::Upgrade(args)) => members::run_upgrade(&args, console, environment).await,
        Command::Cluster(ClusterCommand::Zones(args)) => zones::run_zones(&args, console, environment).await,
        Command::Cluster(ClusterCommand::Zone(args)) => zones::run_zone(&args, console, environment).await,
        Command::Cluster(ClusterCommand::Faults(args)) => members::run_faults(&args, console, environment).await,
        Command::Status(args) => status::run(&args, console, environment).await,
        Command::Receipt(ReceiptCommand::Get(args)) => receipt::run_get(&args, environment).await,
        Command::Receipt(ReceiptCommand::Verify(args)) => receipt::run_verify(&args, console, environment),
        Command::Ledger(LedgerCommand::Verify(args)) => Box::pin(ledger::run_verify(&args, console, environment)).await,
        Command::Ledger(LedgerCommand::Checkpoint(args)) => ledger::run_checkpoint(&args, environment).await,
        Command::Ledger(LedgerCommand::Policy(args)) => ledger::run_policy(&args, environment).await,
        Command::Keys(KeysCommand::Add(args)) => keys::run_add(&args, console, environment).await,
        Command::Keys(KeysCommand::List(args)) => keys::run_list(&args, console, environment).await,
        Command::Keys(KeysCommand::Remove(args)) => keys::run_remove(&args, environment).await,
        Command::Backup(args) => folder::run_backup(args, console).await,
        Command::Restore(args) => folder::run_restore(args, console).await,
        Command::Bench(args) => Box::pin(bench::run(&args, console, environment)).await,
        Command::Completions(args) => completions::run(&args),
    }
}

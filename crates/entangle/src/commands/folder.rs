//! What works on the folder of a stopped node: `entangle ledger verify --data`, `backup` and `restore`.

use std::path::{Path, PathBuf};

use crate::cli::{BackupArgs, RestoreArgs};
use crate::console::{Console, Report};
use crate::exit::Failure;

pub(super) async fn run_verify(data: &Path, _: Option<PathBuf>, _: Console) -> anyhow::Result<Report> {
    Err(Failure::failed(format!("{}: not built yet", data.display())).into())
}

pub(super) async fn run_backup(args: BackupArgs, _: Console) -> anyhow::Result<Report> {
    Err(Failure::failed(format!("{}: not built yet", args.data.display())).into())
}

pub(super) async fn run_restore(args: RestoreArgs, _: Console) -> anyhow::Result<Report> {
    Err(Failure::failed(format!("{}: not built yet", args.from.display())).into())
}

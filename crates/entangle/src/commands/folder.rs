//! What works on the folder of a stopped node: `entangle ledger verify --data`, `backup` and `restore`.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use node::backup::BackupReport;
use node::progress::{Progress as Step, Unit};
use node::verify::VerifyReport;
use serde_json::json;

use crate::cli::{BackupArgs, RestoreArgs};
use crate::console::{Console, Report, bytes, columns, count, counted};
use crate::exit::{Exit, Failure};
use crate::progress::Progress;

pub(super) async fn run_verify(data: &Path, keys: Option<PathBuf>, console: Console) -> anyhow::Result<Report> {
    let keys = keys.unwrap_or_else(|| node::keys_beside(data));
    let report = verify(data, &keys, Progress::new(&console)).await?;
    let verified = report.findings.is_empty();
    let style = console.style;
    let mut bodies = format!("{}, {}", count(report.bodies), bytes(report.body_bytes));
    if report.bodies_elsewhere > 0 {
        bodies.push_str(&format!("; {} more at other members", count(report.bodies_elsewhere)));
    }
    let rows = [
        ("entries", format!("{} in {}", count(report.entries), counted(report.blocks, "block", "blocks"))),
        ("root", report.root.clone()),
        (
            "side records",
            format!("{}, {} of them partly erased", count(report.side_records), count(report.side_records_erased)),
        ),
        ("objects", counted(report.objects, "version", "versions")),
        ("journal", counted(report.journal_records, "record", "records")),
        ("bodies", bodies),
    ];
    let mut text = if verified {
        format!("{} {}: every byte was checked.\n\n", style.good("The data folder is verified."), data.display())
    } else {
        let defects = counted(report.findings.len() as u64, "defect", "defects");
        format!("{} {}: {defects}.\n\n", style.bad("The data folder does not verify."), data.display())
    };
    for finding in &report.findings {
        text.push_str(&format!("  {}  {}\n", style.bad(&finding.place), finding.what));
    }
    text.push_str(&columns(style, &rows));
    for note in &report.notes {
        text.push_str(&format!("\n  {} {} {}", style.dim("Note:"), note.place, note.what));
    }
    if !verified {
        text.push_str(
            "\nStop using this folder, keep it as evidence, and restore a backup into a new one; the member of a cluster is \
             replaced (`entangle cluster replace`).\n",
        );
    }
    let exit = if verified { Exit::Done } else { Exit::Unverified };
    let json = json!({ "verified": verified, "data": data.display().to_string(), "report": report });
    Ok(Report { exit, json, text })
}

/// Verifies a stopped data folder on a thread of its own.
pub(super) async fn verify(data: &Path, keys: &Path, mut progress: Progress) -> anyhow::Result<VerifyReport> {
    let (data, keys) = (data.to_owned(), keys.to_owned());
    let verified = blocking(move || node::verify::verify(&data, &keys, &mut |step: Step| show(&mut progress, &step)));
    Ok(verified.await?.map_err(|error| Failure::failed(error.to_string()))?)
}

pub(super) async fn run_backup(args: BackupArgs, console: Console) -> anyhow::Result<Report> {
    let keys = args.keys.unwrap_or_else(|| node::keys_beside(&args.data));
    let (data, to) = (args.data, args.to);
    let (from, target) = (data.display().to_string(), to.display().to_string());
    let mut progress = Progress::new(&console);
    let made = blocking(move || node::backup::backup(&data, &keys, &to, &mut |step: Step| show(&mut progress, &step)));
    let made: BackupReport = made.await?.map_err(|error| Failure::failed(error.to_string()))?;
    let text = format!(
        "{} {from} is in {target}.\n\n{}\n{}",
        console.style.good("The backup is complete."),
        figures(&console, &made),
        console
            .style
            .dim("The keys folder is not in it: keep a copy of that apart, without it the backup is of no use."),
    );
    Ok(Report::done(json!({ "data": from, "backup": target, "report": made }), text))
}

pub(super) async fn run_restore(args: RestoreArgs, console: Console) -> anyhow::Result<Report> {
    let keys = args.keys.unwrap_or_else(|| node::keys_beside(&args.data));
    let (from, data) = (args.from, args.data);
    if !from.exists() {
        return Err(Failure::failed(format!("{} does not exist; name the backup with --from", from.display())).into());
    }
    if !keys.exists() {
        return Err(Failure::failed(format!(
            "{} does not exist; a backup is restored with the keys of its node, put a copy of its keys folder there or \
             name it with --keys",
            keys.display()
        ))
        .into());
    }
    let (source, target) = (from.display().to_string(), data.display().to_string());
    let mut progress = Progress::new(&console);
    let made =
        blocking(move || node::backup::restore(&from, &data, &keys, &mut |step: Step| show(&mut progress, &step)));
    let made: BackupReport = made.await?.map_err(|error| Failure::failed(error.to_string()))?;
    let text = format!(
        "{} {target} holds what {source} holds, and the ledger proves that nothing is missing.\n\n{}",
        console.style.good("The backup is restored."),
        figures(&console, &made),
    );
    Ok(Report::done(json!({ "backup": source, "data": target, "report": made }), text))
}

/// What a backup holds, for the eye.
fn figures(console: &Console, made: &BackupReport) -> String {
    let size = format!("{} in {}", bytes(made.bytes), counted(made.files, "file", "files"));
    let (entries, root) = (count(made.tree_size), made.root.clone());
    columns(console.style, &[("entries", entries), ("root", root), ("size", size)])
}

/// Runs the work on a thread of its own, so that signals and progress are not held up. Readers of damaged files may
/// panic, and `node` turns that into a finding: nothing of it is for the user's eyes.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> anyhow::Result<T> {
    std::panic::set_hook(Box::new(|_| {}));
    tokio::task::spawn_blocking(work).await.context("a thread panicked, which is a fault in Entangle; please report it")
}

fn show(progress: &mut Progress, step: &Step) {
    progress.show(step.phase, step.done, step.total, step.unit == Unit::Bytes);
}

//! `longshore backup`: what the database holds at one moment, into the store of the objects or a file. The server goes on.

use super::output::say;
use crate::cli::{BackupAction, BackupOptions, OutputFormat, SettingsSources};
use anyhow::{Context as _, Result};
use longshore_config::Settings;
use longshore_gc::{BackedUp, Backup, BackupError, Piece, RowCounts, keep_backups, store_backup, stored_backups};
use longshore_metadata::{Metadata, SnapshotTable};
use longshore_storage::Storage;
use serde_json::{Value, json};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// The release that a backup names as its writer.
const RELEASE: &str = env!("CARGO_PKG_VERSION");

pub(super) async fn run(sources: &SettingsSources, options: &BackupOptions) -> Result<ExitCode> {
    if let Some(BackupAction::List) = options.action {
        return list(&super::load(sources)?.settings, options.output).await;
    }
    super::on_database(sources, async |settings, metadata| act(settings, metadata, options).await).await
}

async fn act(settings: &Settings, metadata: &Metadata, options: &BackupOptions) -> Result<ExitCode> {
    if let Some(file) = &options.to {
        let backup = Backup::begin(metadata, RELEASE).await?;
        let written = if is_standard(file) {
            write_out(backup, io::stdout().lock()).await.context("standard output")?
        } else {
            write_file(backup, file).await.with_context(|| file.display().to_string())?
        };
        tell(&written, &file.display().to_string(), &[], options)?;
        return Ok(ExitCode::SUCCESS);
    }
    let storage = Storage::look(&settings.storage).await?;
    let (name, written) = store_backup(metadata, &storage, RELEASE).await?;
    let deleted = match options.keep {
        Some(keep) => {
            let keep = usize::try_from(keep).unwrap_or(usize::MAX);
            let kept = keep_backups(&storage, keep, written.head.at).await;
            kept.with_context(|| format!("backup {name} was written, but older ones could not be deleted"))?
        }
        None => Vec::new(),
    };
    tell(&written, &name, &deleted, options)?;
    Ok(ExitCode::SUCCESS)
}

/// Whether standard input or output is meant.
pub(super) fn is_standard(file: &Path) -> bool {
    file == Path::new("-")
}

async fn write_out(backup: Backup, mut out: impl Write) -> Result<BackedUp, BackupError> {
    let written = backup
        .write(async |piece: Piece| {
            let (Piece::Body(bytes) | Piece::End(bytes)) = piece;
            out.write_all(&bytes)?;
            Ok::<(), BackupError>(())
        })
        .await?;
    out.flush()?;
    Ok(written)
}

/// Under its name only once it is whole. Nobody else may read it: there may be hashes of passwords in it.
async fn write_file(backup: Backup, path: &Path) -> Result<BackedUp, BackupError> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".unfinished");
    let unfinished = PathBuf::from(unfinished);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    let outcome = match write_out(backup, &mut file).await {
        Ok(written) => publish(&file, &unfinished, path).map(|()| written).map_err(BackupError::from),
        Err(error) => Err(error),
    };
    if outcome.is_err() {
        // It is no backup, whatever is left of it.
        let _ = fs::remove_file(&unfinished);
    }
    outcome
}

fn publish(file: &File, unfinished: &Path, path: &Path) -> io::Result<()> {
    file.sync_all()?;
    fs::rename(unfinished, path)?;
    File::open(std::path::absolute(path)?.parent().unwrap_or(Path::new("/")))?.sync_all()
}

/// Where the backup itself goes to standard output, what is told of it does not.
fn tell(written: &BackedUp, place: &str, deleted: &[String], options: &BackupOptions) -> Result<()> {
    let text = match options.output {
        OutputFormat::Text => text(written, place, deleted),
        OutputFormat::Json => json(written, place, deleted).to_string(),
    };
    match &options.to {
        Some(file) if is_standard(file) => eprintln!("{text}"),
        _ => say(&text)?,
    }
    Ok(())
}

fn text(written: &BackedUp, place: &str, deleted: &[String]) -> String {
    let mut lines = vec![format!("{place}: {} in {} bytes", in_words(&written.rows), written.size)];
    lines.extend(deleted.iter().map(|name| format!("{name}: deleted")));
    lines.join("\n")
}

/// What somebody may know of a registry, to see whether this is all of it.
pub(super) fn in_words(rows: &RowCounts) -> String {
    let count = |table| rows.get(&table).copied().unwrap_or_default();
    format!(
        "{} repositories, {} tags, {} manifests, {} blobs",
        count(SnapshotTable::Repositories),
        count(SnapshotTable::Tags),
        count(SnapshotTable::Manifests),
        count(SnapshotTable::Blobs),
    )
}

pub(super) fn rows_as_json(rows: &RowCounts) -> Value {
    rows.iter().map(|(table, count)| (table.name().to_owned(), Value::from(*count))).collect()
}

fn json(written: &BackedUp, place: &str, deleted: &[String]) -> Value {
    json!({
        "backup": place,
        "at": humantime::format_rfc3339_micros(written.head.at).to_string(),
        "size": written.size,
        "rows": rows_as_json(&written.rows),
        "deleted": deleted,
    })
}

async fn list(settings: &Settings, output: OutputFormat) -> Result<ExitCode> {
    let storage = Storage::look(&settings.storage).await?;
    let all = stored_backups(&storage).await?;
    match output {
        OutputFormat::Text => {
            for backup in &all {
                let flaw = if backup.is_complete { "" } else { "  not whole" };
                say(&format!("{} {:>14} bytes{flaw}", backup.name, backup.size))?;
            }
        }
        OutputFormat::Json => {
            let row = |backup: &longshore_gc::StoredBackup| json!({ "backup": backup.name, "size": backup.size, "is_whole": backup.is_complete });
            say(&all.iter().map(row).collect::<Value>())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

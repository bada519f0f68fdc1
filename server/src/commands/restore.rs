//! `longshore restore`: fills a new database from a backup.

use super::backup::{in_words, is_standard, rows_as_json};
use super::output::say;
use crate::cli::{OutputFormat, RestoreOptions, SettingsSources};
use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use futures_util::{Stream, stream};
use longshore_config::Settings;
use longshore_gc::{BackupError, Restored, StoredBackup, read_backup, restore, stored_backups};
use longshore_metadata::Metadata;
use longshore_storage::Storage;
use std::{
    fs::File,
    io::{self, Read},
    path::Path,
    process::ExitCode,
};

/// What is read of a file at a time.
const CHUNK: usize = 1024 * 1024;

/// What names the newest backup that is whole.
const LATEST: &str = "latest";

pub(super) async fn run(sources: &SettingsSources, options: &RestoreOptions) -> Result<ExitCode> {
    super::on_database(sources, async |settings, metadata| act(settings, metadata, options).await).await
}

async fn act(settings: &Settings, metadata: &Metadata, options: &RestoreOptions) -> Result<ExitCode> {
    let _alone = super::hold_database(settings).context("end the server that has this database open")?;
    metadata.migrate().await?;
    // What is restored is promised anew, by these.
    metadata.set_lifetimes(super::serve::lifetimes(settings)).await?;
    let restored = match (&options.from, &options.name) {
        (Some(file), _) => {
            let source = read_file(file).with_context(|| file.display().to_string())?;
            restore(metadata, source).await?
        }
        (None, Some(name)) => {
            let storage = Storage::look(&settings.storage).await?;
            let backup = find(&storage, name).await?;
            restore(metadata, Box::pin(read_backup(&storage, &backup))).await?
        }
        (None, None) => bail!("name a backup, as longshore backup list does, or a file by --from"),
    };
    match options.output {
        OutputFormat::Text => say(&text(&restored))?,
        OutputFormat::Json => say(&json(&restored))?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn find(storage: &Storage, name: &str) -> Result<StoredBackup> {
    let all = stored_backups(storage).await?;
    let found = if name == LATEST {
        all.into_iter().rfind(|backup| backup.is_complete).context("there is no backup in the store")?
    } else {
        let found = all.into_iter().find(|backup| backup.name == name);
        found.with_context(|| format!("there is no backup {name} in the store: longshore backup list tells which"))?
    };
    if !found.is_complete {
        bail!("backup {name} is not whole: its writer did not come to its end");
    }
    Ok(found)
}

/// What is in a file, or comes from standard input.
fn read_file(path: &Path) -> io::Result<impl Stream<Item = Result<Bytes, BackupError>>> {
    let mut file: Box<dyn Read> = if is_standard(path) { Box::new(io::stdin()) } else { Box::new(File::open(path)?) };
    let next = move || -> Option<Result<Bytes, BackupError>> {
        let mut chunk = vec![0; CHUNK];
        loop {
            return match file.read(&mut chunk) {
                Ok(0) => None,
                Ok(length) => {
                    chunk.truncate(length);
                    Some(Ok(chunk.into()))
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Some(Err(error.into())),
            };
        }
    };
    Ok(stream::iter(std::iter::from_fn(next)))
}

fn text(restored: &Restored) -> String {
    let at = humantime::format_rfc3339_seconds(restored.head.at);
    format!(
        "{} of {at} were restored\n\
         Before you start the server, run longshore fsck: it tells which objects of that time are gone, and which came later. \
         Garbage collection waits for as long as blobs are promised (gc.promise).",
        in_words(&restored.rows)
    )
}

fn json(restored: &Restored) -> serde_json::Value {
    serde_json::json!({
        "at": humantime::format_rfc3339_micros(restored.head.at).to_string(),
        "engine": restored.head.engine,
        "release": restored.head.release,
        "rows": rows_as_json(&restored.rows),
    })
}

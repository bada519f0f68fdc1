//! `longshore fsck`: compares the store with the database, both ways, and the database with itself.

use super::{
    FOUND,
    output::{Teller, say},
};
use crate::cli::{FsckOptions as Options, OutputFormat, SettingsSources};
use anyhow::{Context as _, Result};
use longshore_config::Settings;
use longshore_gc::{Checked, Finding, FsckOptions, fsck};
use longshore_metadata::{Metadata, Table};
use longshore_storage::{ProcessLock, Storage};
use std::process::ExitCode;

pub(super) async fn run(sources: &SettingsSources, options: &Options) -> Result<ExitCode> {
    super::on_database(sources, async |settings, metadata| act(settings, metadata, options).await).await
}

async fn act(settings: &Settings, metadata: &Metadata, options: &Options) -> Result<ExitCode> {
    let (storage, _alone) = open(settings, metadata, options.repair).await?;
    let asked = FsckOptions { repair: options.repair, all: options.all, older_than: options.older_than.into() };
    let teller = Teller::default();
    let check = fsck(metadata, &storage, asked, |finding| match options.output {
        OutputFormat::Text => teller.tell(finding),
        OutputFormat::Json => teller.tell(&json(finding)),
    });
    // A repair goes on whether anybody reads of it or not.
    let checked = if options.repair { check.await.map_err(anyhow::Error::from) } else { teller.hear(check).await };
    let checked = checked.context("not everything was compared")?;
    match options.output {
        OutputFormat::Text => say(&text(&checked, options.repair))?,
        OutputFormat::Json => {
            let Checked { objects, rows, findings } = checked;
            say(&serde_json::json!({ "objects": objects, "rows": rows, "findings": findings }))?;
        }
    }
    Ok(if checked.findings == 0 { ExitCode::SUCCESS } else { ExitCode::from(FOUND) })
}

/// Looking needs nobody to stop; mending what one process holds does.
async fn open(settings: &Settings, metadata: &Metadata, repair: bool) -> Result<(Storage, Option<ProcessLock>)> {
    if !repair {
        return Ok((Storage::look(&settings.storage).await?, None));
    }
    let alone = super::hold_database(settings).context("end the server that has this database open before --repair")?;
    Ok((super::open_pair(settings, metadata).await?, alone))
}

fn text(checked: &Checked, repaired: bool) -> String {
    let Checked { objects, rows, findings } = checked;
    let mended = match (findings, repaired) {
        (0, _) => "",
        (_, true) => "; what can be mended is: condemned objects go with the next collections",
        (_, false) => "; --repair mends what can be mended",
    };
    format!("{rows} rows and {objects} objects were compared, {findings} findings{mended}")
}

fn json(finding: &Finding) -> serde_json::Value {
    let repository = |name: &Option<_>| name.as_ref().map(ToString::to_string);
    match finding {
        Finding::Lost { key, digest, reason } => {
            serde_json::json!({ "finding": "lost", "key": key, "digest": digest.to_string(), "reason": reason })
        }
        Finding::Stray { key, size } => serde_json::json!({ "finding": "stray", "key": key, "size": size }),
        Finding::StrayUpload { key, upload } => {
            serde_json::json!({ "finding": "upload", "key": key, "upload": upload })
        }
        Finding::Unused { key, size } => serde_json::json!({ "finding": "unused", "key": key, "size": size }),
        Finding::Forgotten { repository: name, digest, table } => {
            let table = match table {
                Table::Manifests => "manifests",
                Table::Grants => "grants",
                Table::Blobs => "blobs",
            };
            let (name, digest) = (repository(name), digest.to_string());
            serde_json::json!({ "finding": "forgotten", "repository": name, "digest": digest, "table": table })
        }
        Finding::DamagedRow { repository: name, digest } => {
            serde_json::json!({ "finding": "damaged", "repository": repository(name), "digest": digest.to_string() })
        }
        Finding::Miscounted { namespace, usage } => {
            let (told, counted) = (usage.told, usage.counted);
            serde_json::json!({ "finding": "miscounted", "namespace": namespace, "told": told, "counted": counted })
        }
    }
}

//! `longshore migrate up|plan|check`.

use super::{FOUND, output::say};
use crate::cli::{MigrateAction, SettingsSources};
use anyhow::Result;
use std::process::ExitCode;

pub(super) async fn run(sources: &SettingsSources, action: MigrateAction) -> Result<ExitCode> {
    let loaded = super::load(sources)?;
    let metadata = super::connect(&loaded.settings).await?;
    let before = metadata.migration_status().await?;
    let mut code = ExitCode::SUCCESS;
    match action {
        MigrateAction::Up => {
            metadata.migrate().await?;
            for (number, description) in &before.pending {
                say(&format!("applied {number:04} {description}"))?;
            }
            if before.pending.is_empty() {
                say("the schema is up to date")?;
            }
        }
        MigrateAction::Plan => {
            for (number, description) in &before.applied {
                say(&format!("applied {number:04} {description}"))?;
            }
            for (number, description) in &before.pending {
                say(&format!("to come {number:04} {description}"))?;
            }
        }
        MigrateAction::Check if before.pending.is_empty() => say("the schema is up to date")?,
        MigrateAction::Check => {
            say(&format!("{} migrations are to come: run longshore migrate up", before.pending.len()))?;
            code = ExitCode::from(FOUND);
        }
    }
    metadata.close().await;
    Ok(code)
}

//! `longshore config check|show|reference`.

use super::{FOUND, output::say};
use crate::cli::{ConfigAction, SettingsSources};
use anyhow::Result;
use std::process::ExitCode;

pub(super) fn run(sources: &SettingsSources, action: ConfigAction) -> Result<ExitCode> {
    if let ConfigAction::Reference = action {
        say(longshore_config::REFERENCE.trim_end())?;
        return Ok(ExitCode::SUCCESS);
    }
    match (super::load(sources), action) {
        (Ok(loaded), ConfigAction::Show) => say(longshore_config::show(&loaded).trim_end())?,
        (Ok(_), _) => say("the settings are fine")?,
        (Err(error), _) => {
            eprintln!("{error}");
            return Ok(ExitCode::from(FOUND));
        }
    }
    Ok(ExitCode::SUCCESS)
}

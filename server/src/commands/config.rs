//! `longshore config check|show|reference`.

use super::FOUND;
use crate::cli::{ConfigAction, SettingsSources};
use std::process::ExitCode;

pub(super) fn run(sources: &SettingsSources, action: ConfigAction) -> ExitCode {
    if let ConfigAction::Reference = action {
        print!("{}", longshore_config::REFERENCE);
        return ExitCode::SUCCESS;
    }
    match (super::load(sources), action) {
        (Ok(loaded), ConfigAction::Show) => print!("{}", longshore_config::show(&loaded)),
        (Ok(_), _) => println!("the settings are fine"),
        (Err(error), _) => {
            eprintln!("{error}");
            return ExitCode::from(FOUND);
        }
    }
    ExitCode::SUCCESS
}

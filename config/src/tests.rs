//! Whole loads: precedence, every message, secrets, the reference.

mod environment;
mod messages;
mod precedence;
mod reference;
mod retention;
mod rules;
mod secrets;

use crate::keys::KnownKeys;
use crate::{ConfigError, Loaded, Settings, Sources};
use std::path::PathBuf;
use tempfile::TempDir;

/// A settings file in a directory of its own, named `longshore.yaml`.
struct SettingsFile {
    directory: TempDir,
}

impl SettingsFile {
    fn new(yaml: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("longshore.yaml"), yaml).unwrap();
        Self { directory }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("longshore.yaml")
    }

    fn load(&self, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
        let path = self.path();
        Settings::load(Sources { file: Some(&path), environment: owned(environment), flags: owned(flags) })
    }

    /// What is wrong with the file, without the directory in front of its name.
    fn complaint(&self) -> String {
        let error = self.load(&[], &[]).expect_err("the file is wrong").to_string();
        error.replace(&format!("{}/", self.directory.path().display()), "")
    }
}

fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn load_yaml(yaml: &str) -> Settings {
    SettingsFile::new(yaml).load(&[], &[]).unwrap().settings
}

fn load_environment(environment: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    Settings::load(Sources { environment: owned(environment), ..Sources::default() })
}

fn leaf_names() -> Vec<String> {
    KnownKeys::of_settings().leaf_names().map(str::to_owned).collect()
}

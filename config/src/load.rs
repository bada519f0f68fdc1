//! Loading: defaults, then the file, then the environment, then the flags.

use crate::document::Scalar;
use crate::environment::add_environment;
use crate::error::{ConfigError, Mistake, Problem};
use crate::file::add_file;
use crate::keys::KnownKeys;
use crate::layers::Layers;
use crate::origin::Origin;
use crate::settings::Settings;
use crate::validate::check;
use std::collections::BTreeMap;
use std::path::Path;

/// Where settings come from, weakest first. Nothing here reads the process: the caller hands everything in.
#[derive(Debug, Clone, Default)]
pub struct Sources<'a> {
    /// The settings file; none: only defaults below the environment.
    pub file: Option<&'a Path>,
    /// Environment variables; those without the prefix `LONGSHORE_` are ignored.
    pub environment: Vec<(String, String)>,
    /// Values from the command line by dotted key, such as `http.address`.
    pub flags: Vec<(String, String)>,
}

/// Effective settings, and where each value came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// The origin of every key, by its dotted name.
    pub origins: BTreeMap<String, Origin>,
}

impl Settings {
    /// Reads all sources, merges them key by key and checks the result.
    ///
    /// # Errors
    /// All the mistakes in all the sources; the rules between keys are checked only when each key is sound.
    pub fn load(sources: Sources<'_>) -> Result<Loaded, ConfigError> {
        let Sources { file, environment, flags } = sources;
        let known = KnownKeys::of_settings();
        let mut layers = Layers::new(&known);
        if let Some(path) = file {
            add_file(&mut layers, path);
        }
        add_environment(&mut layers, &environment);
        for (key, text) in &flags {
            layers.assign(key, &Scalar::plain(text), Origin::Flag);
        }
        finish(layers)
    }

    /// Checks the rules between keys and the ranges of values, as [`Settings::load`] does.
    ///
    /// # Errors
    /// Every rule that is broken, each naming its key and what to change.
    pub fn validate(&self) -> Result<(), ConfigError> {
        refuse(broken_rules(self, &BTreeMap::new()))
    }
}

fn finish(layers: Layers<'_>) -> Result<Loaded, ConfigError> {
    let (tree, origins, problems) = layers.into_tree();
    refuse(problems)?;
    // Each value was tried alone before, so this cannot fail unless two keys of one type depend on each other.
    let settings: Settings = serde_json::from_value(tree).map_err(|error| ConfigError {
        problems: vec![Problem { origin: Origin::Default, mistake: Mistake::Syntax(error.to_string()) }],
    })?;
    refuse(broken_rules(&settings, &origins))?;
    Ok(Loaded { settings, origins })
}

fn broken_rules(settings: &Settings, origins: &BTreeMap<String, Origin>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for broken in check(settings) {
        let origin = origins.get(broken.key).cloned().unwrap_or(Origin::Default);
        problems.push(Problem { origin, mistake: Mistake::Rule { key: broken.key, rule: broken.rule } });
    }
    problems
}

fn refuse(problems: Vec<Problem>) -> Result<(), ConfigError> {
    if problems.is_empty() { Ok(()) } else { Err(ConfigError { problems }) }
}

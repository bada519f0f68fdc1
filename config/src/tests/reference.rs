//! `longshore.yaml` tells the truth.

use super::{SettingsFile, leaf_names};
use crate::{Origin, REFERENCE, Settings, variable_name};

#[test]
fn the_reference_loads_to_the_defaults() {
    assert_eq!(SettingsFile::new(REFERENCE).load(&[], &[]).unwrap().settings, Settings::default());
}

#[test]
fn every_key_stands_in_the_reference() {
    let loaded = SettingsFile::new(REFERENCE).load(&[], &[]).unwrap();
    for (key, origin) in &loaded.origins {
        // TLS, the disk cache, the object stores and redirects are off by default, so their keys can only be described.
        let described =
            ["http.tls.", "storage.disk_cache.", "storage.s3.", "storage.gcs.", "storage.azure.", "storage.redirects."];
        let described = described.iter().any(|section| key.starts_with(section));
        assert!(described || *origin != Origin::Default, "{key} is missing");
    }
}

#[test]
fn every_key_is_explained_with_its_variable() {
    let mut variables: Vec<String> = Vec::new();
    for line in REFERENCE.lines() {
        if let Some((_, variable)) = line.split_once("env LONGSHORE_") {
            let name: String = variable.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            variables.push(format!("LONGSHORE_{name}"));
        }
    }
    let mut expected: Vec<String> = leaf_names().iter().map(|key| variable_name(key)).collect();
    variables.sort();
    expected.sort();
    assert_eq!(variables, expected);
}

//! The files of a deployment, as they stand in the repository.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// The path of a file of the repository.
pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate lies in the workspace").join(name)
}

/// A file of the repository.
pub(crate) fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A YAML file of the repository. Its merge keys (`<<`) are resolved.
pub(crate) fn yaml(name: &str) -> Value {
    serde_saphyr::from_str(&read(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The compose file.
pub(crate) fn compose() -> Value {
    yaml("docker-compose.yml")
}

/// A service of the compose file.
pub(crate) fn service(name: &str) -> Value {
    let service = compose()["services"][name].clone();
    assert!(service.is_object(), "docker-compose.yml has no service {name}");
    service
}

/// A list of texts, or none where there is no such list.
pub(crate) fn texts(list: &Value) -> Vec<String> {
    let items = list.as_array().into_iter().flatten();
    items.map(|item| item.as_str().unwrap_or_else(|| panic!("{item} is no text")).to_owned()).collect()
}

/// What a service is given in its environment.
pub(crate) fn environment(service: &Value) -> Vec<(String, String)> {
    let variables = service["environment"].as_object().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{value}: quote it")).to_owned();
    variables.map(|(name, value)| (name.clone(), text(value))).collect()
}

/// The text with each of the pairs' first replaced by its second; all must be there.
pub(crate) fn with(text: &str, replaced: &[(&str, &str)]) -> String {
    replaced.iter().fold(text.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from} does not stand in {text}");
        text.replace(from, to)
    })
}

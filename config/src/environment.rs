//! Environment variables as a source: `LONGSHORE_SECTION__KEY`.
//!
//! The caller hands the variables in; nothing here reads the process environment.

use crate::document::Scalar;
use crate::error::Mistake;
use crate::keys::{Kind, KnownKeys};
use crate::layers::Layers;
use crate::origin::Origin;
use crate::suggest::nearest;
use std::collections::BTreeMap;

/// What every variable of ours starts with.
const PREFIX: &str = "LONGSHORE_";

/// Names the settings file itself; read by the caller.
const FILE_VARIABLE: &str = "LONGSHORE_CONFIG";

/// What the variable of a secret ends with when it names a file.
const FILE_SUFFIX: &str = "_FILE";

/// The environment variable of a dotted key: `http.address` is `LONGSHORE_HTTP__ADDRESS`.
pub fn variable_name(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "__").to_ascii_uppercase())
}

/// Reads the values of all variables with our prefix; others are none of our business.
pub(crate) fn add_environment(layers: &mut Layers<'_>, variables: &[(String, String)]) {
    let targets = targets(layers.known);
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, value) in variables {
        if !name.starts_with(PREFIX) || name == FILE_VARIABLE || is_set_by_kubernetes(name, value) {
            continue;
        }
        let origin = Origin::Environment(name.clone());
        let Some(target) = targets.get(&name.to_ascii_uppercase()) else {
            let mistake = unknown(layers, &targets, name);
            layers.report(origin, mistake);
            continue;
        };
        if let Some(other) = seen.insert(&target.key, name) {
            let mistake = Mistake::DuplicateVariable { key: target.key.clone(), other: other.to_owned() };
            layers.report(origin, mistake);
        } else if target.names_a_file {
            layers.assign_secret_file(&target.key, value, origin);
        } else {
            layers.assign(&target.key, &Scalar::plain(value), origin);
        }
    }
}

/// Kubernetes describes each Service of a namespace to its pods: one named `longshore` appears as
/// `LONGSHORE_SERVICE_HOST`, `LONGSHORE_PORT_5000_TCP_ADDR` and so on. Nobody mistyped a key there.
fn is_set_by_kubernetes(name: &str, value: &str) -> bool {
    let names_a_key = name.contains("__");
    let describes_service = name.ends_with("_SERVICE_HOST") || name.contains("_SERVICE_PORT");
    let describes_port = (name.ends_with("_PORT") || name.contains("_TCP") || name.contains("_UDP"))
        && (name.contains("_PORT_") || value.contains("://"));
    !names_a_key && (describes_service || describes_port)
}

/// What a variable sets.
struct Target {
    key: String,
    names_a_file: bool,
}

/// Every variable that means something.
fn targets(known: &KnownKeys) -> BTreeMap<String, Target> {
    let mut targets = BTreeMap::new();
    for key in known.leaf_names() {
        let name = variable_name(key);
        if known.leaf(key).is_some_and(|key| key.kind == Kind::Secret) {
            targets.insert(format!("{name}{FILE_SUFFIX}"), Target { key: key.to_owned(), names_a_file: true });
        }
        targets.insert(name, Target { key: key.to_owned(), names_a_file: false });
    }
    targets
}

fn unknown(layers: &Layers<'_>, targets: &BTreeMap<String, Target>, name: &str) -> Mistake {
    let section = name[PREFIX.len()..].replace("__", ".").to_ascii_lowercase();
    if layers.known.is_section(&section) {
        return layers.not_a_key(&section);
    }
    let advice = match nearest_variable(targets, name) {
        Some(variable) => format!("did you mean {variable}?"),
        None => format!("variables are named {PREFIX}SECTION__KEY, for example {}", variable_name("http.address")),
    };
    Mistake::UnknownVariable { advice }
}

fn nearest_variable<'a>(targets: &'a BTreeMap<String, Target>, name: &str) -> Option<&'a str> {
    let names = targets.keys().map(String::as_str);
    // One underscore where two belong is the mistake that everybody makes once.
    let flattened = name.to_ascii_uppercase().replace("__", "_");
    names.clone().find(|candidate| candidate.replace("__", "_") == flattened).or_else(|| nearest(name, "__", names))
}

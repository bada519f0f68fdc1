//! All keys that settings have, derived from the types: see [`crate::specimen`].

use crate::Settings;
use crate::secret::MASK;
use crate::specimen::specimen;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// How the text of a value is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Taken as it stands; the field's type reads it further (durations, sizes, paths, choices).
    Text,
    /// A whole number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// A text that is never shown and may come from a file of its own.
    Secret,
    /// A list of texts; where there is room for one text only, commas separate them.
    List,
    /// A list of rules, each with keys of its own; where there is room for one text only, it is YAML.
    Rules,
}

/// One key with a value.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) kind: Kind,
    /// Whether `null` means something: "none".
    pub(crate) optional: bool,
    /// A value that is accepted, as it is written in YAML.
    pub(crate) example: String,
}

/// Every key by its dotted name.
#[derive(Debug)]
pub(crate) struct KnownKeys {
    leaves: BTreeMap<String, Key>,
    sections: BTreeSet<String>,
    /// The serialised specimen: a settings tree into which one value can be put to try it alone.
    specimen: Value,
}

impl KnownKeys {
    pub(crate) fn of_settings() -> Self {
        let specimen = serde_json::to_value(specimen()).expect("the specimen's paths are UTF-8");
        let mut known = Self { leaves: BTreeMap::new(), sections: BTreeSet::new(), specimen: Value::Null };
        known.walk("", &specimen);
        known.specimen = specimen;
        let names: Vec<String> = known.leaf_names().map(str::to_owned).collect();
        for name in names {
            let optional = known.try_value(&name, &Value::Null).is_ok();
            known.leaves.entry(name).and_modify(|key| key.optional = optional);
        }
        known
    }

    fn walk(&mut self, prefix: &str, specimen: &Value) {
        let Value::Object(fields) = specimen else {
            let key = Key { kind: kind_of(specimen), optional: false, example: example(specimen) };
            self.leaves.insert(prefix.to_owned(), key);
            return;
        };
        if !prefix.is_empty() {
            self.sections.insert(prefix.to_owned());
        }
        for (name, value) in fields {
            self.walk(&join(prefix, name), value);
        }
    }

    /// The key of this dotted name, unless it is a section or unknown.
    pub(crate) fn leaf(&self, name: &str) -> Option<&Key> {
        self.leaves.get(name)
    }

    pub(crate) fn is_section(&self, name: &str) -> bool {
        self.sections.contains(name)
    }

    /// Names of all keys with values, in order.
    pub(crate) fn leaf_names(&self) -> impl Iterator<Item = &str> {
        self.leaves.keys().map(String::as_str)
    }

    /// Names of all sections and keys.
    pub(crate) fn all_names(&self) -> impl Iterator<Item = &str> {
        self.sections.iter().map(String::as_str).chain(self.leaf_names())
    }

    /// The names directly below a section, without the section; an empty name stands for the root.
    pub(crate) fn children(&self, section: &str) -> Vec<&str> {
        let mut names: Vec<&str> = self
            .all_names()
            .filter_map(|name| match name.rsplit_once('.') {
                Some((parent, last)) => (parent == section).then_some(last),
                None => section.is_empty().then_some(name),
            })
            .collect();
        names.sort_unstable();
        names
    }

    /// The keys of an element of the list of rules `name`, each with a value that is accepted.
    pub(crate) fn element(&self, name: &str) -> serde_json::Map<String, Value> {
        let element = self.specimen.get(name).and_then(|list| list.get(0)).and_then(Value::as_object);
        element.cloned().unwrap_or_default()
    }

    /// Whether the field's own type takes `value`, judged apart from all other keys; its complaint otherwise.
    pub(crate) fn try_value(&self, name: &str, value: &Value) -> Result<(), String> {
        let mut settings = self.specimen.clone();
        put(&mut settings, name, value.clone());
        match serde_json::from_value::<Settings>(settings) {
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Puts a value at a dotted name into a tree of objects, making the objects on the way.
pub(crate) fn put(tree: &mut Value, name: &str, value: Value) {
    let mut place = tree;
    for part in name.split('.') {
        if !place.is_object() {
            *place = Value::Object(serde_json::Map::new());
        }
        place = &mut place[part];
    }
    *place = value;
}

/// The dotted name of `name` within a section; the root's name is empty.
pub(crate) fn join(section: &str, name: &str) -> String {
    if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") }
}

/// How the value of a key is read that has this one in the specimen.
pub(crate) fn kind_of(value: &Value) -> Kind {
    match value {
        Value::Bool(_) => Kind::Boolean,
        Value::Number(_) => Kind::Number,
        Value::String(text) if text == MASK => Kind::Secret,
        Value::Array(list) if list.first().is_some_and(Value::is_object) => Kind::Rules,
        Value::Array(_) => Kind::List,
        _ => Kind::Text,
    }
}

fn example(value: &Value) -> String {
    match value {
        Value::String(text) if text == MASK => "{ file: /run/secrets/NAME }".to_owned(),
        Value::Array(list) if list.first().is_some_and(Value::is_object) => "[{ name: RULE, ... }]".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_specimen_has_no_gaps() {
        let known = KnownKeys::of_settings();
        for name in known.leaf_names() {
            assert!(!known.specimen.pointer(&pointer(name)).expect(name).is_null(), "{name} lacks an example");
        }
    }

    #[test]
    fn the_specimen_is_accepted() {
        let known = KnownKeys::of_settings();
        for name in known.leaf_names() {
            let value = known.specimen.pointer(&pointer(name)).expect(name);
            assert_eq!(known.try_value(name, value), Ok(()), "{name}");
        }
    }

    #[test]
    fn keys_know_their_kind() {
        let known = KnownKeys::of_settings();
        let kind = |name| known.leaf(name).map(|key| (key.kind, key.optional));
        assert_eq!(kind("http.address"), Some((Kind::Text, false)));
        assert_eq!(kind("http.tls.certificate"), Some((Kind::Text, false)));
        assert_eq!(kind("http.max_connections"), Some((Kind::Number, false)));
        assert_eq!(kind("database.url"), Some((Kind::Secret, true)));
        assert_eq!(kind("storage.azure.access_key"), Some((Kind::Secret, true)));
        assert_eq!(kind("storage.s3.bucket"), Some((Kind::Text, false)));
        assert_eq!(kind("storage.redirects.endpoint"), Some((Kind::Text, true)));
        assert_eq!(kind("limits.blob_size"), Some((Kind::Text, true)));
        assert_eq!(kind("auth.open"), Some((Kind::Boolean, false)));
        assert_eq!(kind("http.proxies"), Some((Kind::List, false)));
        assert_eq!(kind("retention"), Some((Kind::Rules, false)));
        assert_eq!(kind("immutable_tags"), Some((Kind::Rules, false)));
        assert_eq!(kind("http"), None);
        assert!(known.is_section("http.tls"));
    }

    #[test]
    fn children_are_direct_ones() {
        let known = KnownKeys::of_settings();
        assert_eq!(known.children("http.tls"), ["certificate", "key"]);
        assert_eq!(
            known.children("storage"),
            ["azure", "cache_size", "disk_cache", "gcs", "inline_max", "path", "redirects", "s3", "upload_memory"]
        );
        assert_eq!(
            known.children(""),
            [
                "auth",
                "database",
                "gc",
                "http",
                "immutable_tags",
                "limits",
                "log",
                "manifests",
                "metrics",
                "retention",
                "storage"
            ]
        );
    }

    fn pointer(name: &str) -> String {
        format!("/{}", name.replace('.', "/"))
    }
}

//! The values gathered so far: later sources override earlier ones, mistakes are collected and not thrown.

use crate::document::Scalar;
use crate::entries;
use crate::error::{Mistake, Problem};
use crate::keys::{Key, Kind, KnownKeys, put};
use crate::origin::Origin;
use crate::secret::Secret;
use crate::suggest::nearest;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Values by dotted key, with their origins, and the mistakes met on the way.
pub(crate) struct Layers<'keys> {
    pub(crate) known: &'keys KnownKeys,
    pub(crate) problems: Vec<Problem>,
    values: BTreeMap<String, (Value, Origin)>,
}

impl<'keys> Layers<'keys> {
    pub(crate) fn new(known: &'keys KnownKeys) -> Self {
        Self { known, problems: Vec::new(), values: BTreeMap::new() }
    }

    pub(crate) fn report(&mut self, origin: Origin, mistake: Mistake) {
        self.problems.push(Problem { origin, mistake });
    }

    /// Sets a key that may be unknown or a section.
    pub(crate) fn assign(&mut self, name: &str, scalar: &Scalar, origin: Origin) {
        let Some(key) = self.known.leaf(name) else {
            let mistake = self.not_a_key(name);
            self.report(origin, mistake);
            return;
        };
        match self.read(name, key, scalar) {
            Ok(value) => {
                self.values.insert(name.to_owned(), (value, origin));
            }
            Err(problem) => self.wrong_value(name, problem, origin),
        }
    }

    /// Sets the known key of a list.
    pub(crate) fn assign_list(&mut self, name: &str, list: Value, origin: Origin) {
        match self.known.try_value(name, &list) {
            Ok(()) => {
                self.values.insert(name.to_owned(), (list, origin));
            }
            Err(problem) => self.wrong_value(name, problem, origin),
        }
    }

    /// Sets a secret to the content of a file.
    pub(crate) fn assign_secret_file(&mut self, name: &str, path: &str, origin: Origin) {
        match Secret::read(Path::new(path)) {
            Ok(secret) => {
                let value = Value::String(secret.expose().to_owned());
                self.values.insert(name.to_owned(), (value, origin));
            }
            Err(error) => {
                let mistake = Mistake::SecretUnreadable { key: name.to_owned(), path: path.into(), error };
                self.report(origin, mistake);
            }
        }
    }

    /// Reports a value that the known key `name` does not take.
    pub(crate) fn wrong_value(&mut self, name: &str, problem: String, origin: Origin) {
        let example = self.known.leaf(name).map(|key| key.example.clone()).unwrap_or_default();
        self.report(origin, Mistake::WrongValue { key: name.to_owned(), problem, example });
    }

    /// Why `name` cannot take a value.
    pub(crate) fn not_a_key(&self, name: &str) -> Mistake {
        if self.known.is_section(name) {
            let children = self.known.children(name).join(", ");
            return Mistake::SectionExpected { key: name.to_owned(), children };
        }
        Mistake::UnknownKey { key: name.to_owned(), advice: self.advice(name) }
    }

    fn advice(&self, name: &str) -> String {
        let names: Vec<&str> = self.known.all_names().collect();
        if let Some(nearest) = nearest(name, ".", names.into_iter()) {
            return format!("did you mean {nearest:?}?");
        }
        match name.rsplit_once('.') {
            Some((section, _)) if self.known.is_section(section) => {
                format!("the keys of {section} are {}", self.known.children(section).join(", "))
            }
            _ => format!("the sections are {}", self.known.children("").join(", ")),
        }
    }

    /// Reads a scalar as the key's type wants it.
    fn read(&self, name: &str, key: &Key, scalar: &Scalar) -> Result<Value, String> {
        if scalar.is_null() {
            return if matches!(key.kind, Kind::List | Kind::Rules) {
                Ok(Value::Array(Vec::new()))
            } else if key.optional {
                Ok(Value::Null)
            } else {
                Err("no value: write one, or remove the key".to_owned())
            };
        }
        let value = match key.kind {
            Kind::Rules => entries::read_text(self.known, name, &scalar.text)?,
            kind => value_of(kind, scalar)?,
        };
        match self.known.try_value(name, &value) {
            Ok(()) => Ok(value),
            // The types of numbers differ only in how large they may be.
            Err(_) if key.kind == Kind::Number => Err(format!("{} is too large", scalar.text)),
            Err(complaint) => Err(complaint),
        }
    }

    /// The values as one tree, and where each came from.
    pub(crate) fn into_tree(self) -> (Value, BTreeMap<String, Origin>, Vec<Problem>) {
        let mut tree = Value::Object(serde_json::Map::new());
        let mut origins: BTreeMap<String, Origin> =
            self.known.leaf_names().map(|name| (name.to_owned(), Origin::Default)).collect();
        for (name, (value, origin)) in self.values {
            put(&mut tree, &name, value);
            origins.insert(name, origin);
        }
        (tree, origins, self.problems)
    }
}

/// Reads a scalar as a key of this kind wants it.
pub(crate) fn value_of(kind: Kind, scalar: &Scalar) -> Result<Value, String> {
    let text = &scalar.text;
    Ok(match kind {
        Kind::Text | Kind::Secret | Kind::Rules => Value::String(text.clone()),
        Kind::List => text.split(',').map(str::trim).collect(),
        Kind::Number | Kind::Boolean if scalar.quoted => {
            return Err(format!("{text:?} is text: write it without quotes"));
        }
        Kind::Number => {
            let number: u64 = text.parse().map_err(|_| format!("{text:?} is not a whole number"))?;
            Value::from(number)
        }
        Kind::Boolean => {
            let truth: bool = text.parse().map_err(|_| format!("{text:?} is neither true nor false"))?;
            Value::from(truth)
        }
    })
}

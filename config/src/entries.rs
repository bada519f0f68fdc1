//! Lists of rules, each a mapping with keys of its own: `retention`, `immutable_tags`.
//!
//! Their keys and how each is read come from the specimen's one element, as those of the settings come from the specimen.

use crate::document::{self, Content, Entry, Node, Position, Scalar};
use crate::error::Mistake;
use crate::keys::{Kind, KnownKeys, kind_of};
use crate::layers::value_of;
use crate::suggest::nearest;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A mistake, and where it stands.
pub(crate) type Wrong = (Position, Mistake);

/// Reads the elements of the list `name`.
pub(crate) fn read(known: &KnownKeys, name: &str, elements: &[Node]) -> Result<Value, Vec<Wrong>> {
    let specimen = known.element(name);
    let mut reader = Reader { known, name, specimen: &specimen, wrong: Vec::new() };
    let list: Vec<Value> = elements.iter().enumerate().map(|(index, node)| reader.element(index, node)).collect();
    if reader.wrong.is_empty() { Ok(Value::Array(list)) } else { Err(reader.wrong) }
}

/// Reads a list that is written in one text, as in the environment.
pub(crate) fn read_text(known: &KnownKeys, name: &str, text: &str) -> Result<Value, String> {
    const EXPECTED: &str = "expected a list of rules in YAML, such as [{ name: RULE, ... }]";
    let node = document::parse(text).map_err(|error| format!("{EXPECTED}: {}", error.message))?;
    match node.map(|node| node.content) {
        Some(Content::Sequence(elements)) => read(known, name, &elements).map_err(|wrong| {
            let told: Vec<String> = wrong.iter().map(|(_, mistake)| mistake.to_string()).collect();
            told.join("; ")
        }),
        _ => Err(EXPECTED.to_owned()),
    }
}

struct Reader<'a> {
    known: &'a KnownKeys,
    name: &'a str,
    specimen: &'a Map<String, Value>,
    wrong: Vec<Wrong>,
}

impl Reader<'_> {
    fn element(&mut self, index: usize, node: &Node) -> Value {
        let place = format!("{}[{index}]", self.name);
        let Content::Mapping(entries) = &node.content else {
            self.wrong_value(node.position, &place, "expected a rule with its keys".to_owned(), "{ name: RULE }");
            return Value::Null;
        };
        let mut lines: BTreeMap<&str, usize> = BTreeMap::new();
        let mut fields = Map::new();
        for entry in entries {
            let key = format!("{place}.{}", entry.key);
            if let Some(&first_line) = lines.get(entry.key.as_str()) {
                self.wrong.push((entry.position, Mistake::DuplicateKey { key, first_line }));
                continue;
            }
            lines.insert(&entry.key, entry.position.line);
            if let Some(value) = self.field(key, entry) {
                fields.insert(entry.key.clone(), value);
            }
        }
        Value::Object(fields)
    }

    /// The value of a key; none where it is left to its default, or is wrong.
    fn field(&mut self, key: String, entry: &Entry) -> Option<Value> {
        let Some(example) = self.specimen.get(&entry.key) else {
            let advice = self.advice(&entry.key);
            self.wrong.push((entry.position, Mistake::UnknownKey { key, advice }));
            return None;
        };
        let read = match (&entry.value.content, kind_of(example)) {
            (Content::Scalar(scalar), _) if scalar.is_null() => return None,
            (Content::Scalar(scalar), kind) => self.check(&entry.key, value_of(kind, scalar)),
            (Content::Sequence(elements), Kind::List) => self.check(&entry.key, list(elements)),
            _ => Err("expected one value".to_owned()),
        };
        read.map_err(|problem| self.wrong_value(entry.value.position, &key, problem, &example.to_string())).ok()
    }

    /// Whether the field's own type takes the value.
    fn check(&self, field: &str, value: Result<Value, String>) -> Result<Value, String> {
        let value = value?;
        let mut element = self.specimen.clone();
        element.insert(field.to_owned(), value.clone());
        match self.known.try_value(self.name, &Value::Array(vec![Value::Object(element)])) {
            Ok(()) => Ok(value),
            // The types of numbers differ only in how large they may be.
            Err(_) if value.is_number() => Err(format!("{value} is too large")),
            Err(complaint) => Err(complaint),
        }
    }

    fn advice(&self, key: &str) -> String {
        let names = self.specimen.keys().map(String::as_str);
        match nearest(key, ".", names.clone()) {
            Some(nearest) => format!("did you mean {nearest:?}?"),
            None => format!("the keys of a rule are {}", names.collect::<Vec<_>>().join(", ")),
        }
    }

    fn wrong_value(&mut self, position: Position, key: &str, problem: String, example: &str) {
        let mistake = Mistake::WrongValue { key: key.to_owned(), problem, example: example.to_owned() };
        self.wrong.push((position, mistake));
    }
}

fn list(elements: &[Node]) -> Result<Value, String> {
    let text = |node: &Node| match &node.content {
        Content::Scalar(Scalar { text, .. }) => Ok(Value::String(text.clone())),
        _ => Err("an element of the list is no single value".to_owned()),
    };
    elements.iter().map(text).collect::<Result<Vec<_>, _>>().map(Value::Array)
}

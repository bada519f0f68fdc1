//! The settings file as a source.

use crate::document::{self, Content, Entry, Node, Position};
use crate::entries;
use crate::error::Mistake;
use crate::keys::{Kind, join};
use crate::layers::Layers;
use crate::origin::Origin;
use std::collections::BTreeMap;
use std::path::Path;

/// Reads the file's values into the layers.
pub(crate) fn add_file(layers: &mut Layers<'_>, path: &Path) {
    match std::fs::read_to_string(path) {
        Ok(text) => add_text(layers, path, &text),
        Err(error) => layers.report(Origin::Default, Mistake::FileUnreadable { path: path.to_owned(), error }),
    }
}

/// Reads the values of a text that stood in `path`.
pub(crate) fn add_text(layers: &mut Layers<'_>, path: &Path, text: &str) {
    let mut file = File { layers, path };
    match document::parse(text) {
        Ok(None) => {}
        Ok(Some(root)) => file.root(&root),
        Err(error) => {
            let origin = file.at(error.position);
            file.layers.report(origin, error.into());
        }
    }
}

struct File<'layers, 'keys> {
    layers: &'layers mut Layers<'keys>,
    path: &'layers Path,
}

impl File<'_, '_> {
    fn at(&self, position: Position) -> Origin {
        Origin::File { path: self.path.to_owned(), line: position.line, column: position.column }
    }

    fn root(&mut self, root: &Node) {
        match &root.content {
            Content::Mapping(entries) => self.section("", entries),
            Content::Scalar(scalar) if scalar.is_null() => {}
            Content::Scalar(_) | Content::Sequence(_) => {
                let message = "expected sections such as \"http:\", found something else".to_owned();
                self.layers.report(self.at(root.position), Mistake::Syntax(message));
            }
        }
    }

    fn section(&mut self, section: &str, entries: &[Entry]) {
        let mut lines: BTreeMap<&str, usize> = BTreeMap::new();
        for entry in entries {
            let name = join(section, &entry.key);
            if let Some(&first_line) = lines.get(entry.key.as_str()) {
                let mistake = Mistake::DuplicateKey { key: name, first_line };
                self.layers.report(self.at(entry.position), mistake);
                continue;
            }
            lines.insert(&entry.key, entry.position.line);
            self.entry(&name, entry);
        }
    }

    fn entry(&mut self, name: &str, entry: &Entry) {
        let known = self.layers.known;
        // A dot within one key would otherwise reach into a section: `http.address: ...` on one line.
        let key = if entry.key.contains('.') { None } else { known.leaf(name) };
        let origin = self.at(entry.value.position);
        match (&entry.value.content, key) {
            (Content::Mapping(entries), _) if known.is_section(name) => self.section(name, entries),
            // A section of which every key is commented out.
            (Content::Scalar(scalar), None) if scalar.is_null() && known.is_section(name) => {}
            (Content::Scalar(_) | Content::Sequence(_), None) if known.is_section(name) => {
                let mistake = self.layers.not_a_key(name);
                self.layers.report(origin, mistake);
            }
            (_, None) => self.unknown(name, entry),
            (Content::Scalar(scalar), Some(_)) => self.layers.assign(name, scalar, origin),
            (Content::Mapping(entries), Some(key)) if key.kind == Kind::Secret => self.secret(name, entries, origin),
            (Content::Mapping(_), Some(key)) => {
                let is_list = matches!(key.kind, Kind::List | Kind::Rules);
                let expected = if is_list { "a list" } else { "one value" };
                self.layers.wrong_value(name, format!("expected {expected}, found keys below it"), origin);
            }
            (Content::Sequence(elements), Some(key)) if key.kind == Kind::List => self.list(name, elements, origin),
            (Content::Sequence(elements), Some(key)) if key.kind == Kind::Rules => self.rules(name, elements, origin),
            (Content::Sequence(_), Some(_)) => {
                self.layers.wrong_value(name, "expected one value, found a list".to_owned(), origin);
            }
        }
    }

    fn list(&mut self, name: &str, elements: &[Node], origin: Origin) {
        let mut texts = Vec::with_capacity(elements.len());
        for element in elements {
            let Content::Scalar(scalar) = &element.content else {
                let origin = self.at(element.position);
                return self.layers.wrong_value(name, "an element of the list is no single value".to_owned(), origin);
            };
            texts.push(scalar.text.clone());
        }
        self.layers.assign_list(name, texts.into(), origin);
    }

    fn rules(&mut self, name: &str, elements: &[Node], origin: Origin) {
        match entries::read(self.layers.known, name, elements) {
            Ok(list) => self.layers.assign_list(name, list, origin),
            Err(wrong) => {
                for (position, mistake) in wrong {
                    let origin = self.at(position);
                    self.layers.report(origin, mistake);
                }
            }
        }
    }

    fn unknown(&mut self, name: &str, entry: &Entry) {
        let mistake = if entry.key.contains('.') {
            let advice = "dots do not nest: write the section, then its key indented below".to_owned();
            Mistake::UnknownKey { key: name.to_owned(), advice }
        } else {
            self.layers.not_a_key(name)
        };
        self.layers.report(self.at(entry.position), mistake);
    }

    /// `{ file: PATH }` in place of a secret.
    fn secret(&mut self, name: &str, entries: &[Entry], origin: Origin) {
        if let [Entry { key, value: Node { content: Content::Scalar(path), .. }, .. }] = entries
            && key == "file"
            && !path.text.is_empty()
        {
            self.layers.assign_secret_file(name, &path.text, origin);
            return;
        }
        self.layers.wrong_value(name, "expected a text, or the single key \"file\" with a path".to_owned(), origin);
    }
}

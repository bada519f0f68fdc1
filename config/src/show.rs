//! The effective settings as YAML that says where each value came from.

use crate::document::{self, Content, Entry};
use crate::keys::join;
use crate::load::Loaded;
use crate::origin::Origin;
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;

/// Effective settings as YAML, secrets masked, with the origin of every value that is not a default behind it.
pub fn show(loaded: &Loaded) -> String {
    // One line for each value, whatever it holds: the comment goes behind it.
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    let yaml = match serde_saphyr::to_string_with_options(&loaded.settings, options) {
        Ok(yaml) => yaml,
        Err(error) => return format!("# cannot be shown: {error}\n"),
    };
    let names = names_by_line(&yaml);
    let mut shown = String::new();
    for (index, line) in yaml.lines().enumerate() {
        shown.push_str(line);
        let origin = names.get(&(index + 1)).and_then(|name| loaded.origins.get(name));
        if let Some(origin) = origin
            && *origin != Origin::Default
        {
            shown.push_str(&format!("  # {origin}"));
        }
        shown.push('\n');
    }
    shown
}

/// For `#[serde(serialize_with = "in_one_line")]` on lists: `[a, b]`, so that they have room for a comment behind them.
pub(crate) fn in_one_line<L: Serialize, S: Serializer>(list: &L, serializer: S) -> Result<S::Ok, S::Error> {
    serde_saphyr::FlowSeq(list).serialize(serializer)
}

/// The dotted key that has its value on each line.
fn names_by_line(yaml: &str) -> BTreeMap<usize, String> {
    let mut names = BTreeMap::new();
    if let Ok(Some(root)) = document::parse(yaml)
        && let Content::Mapping(entries) = root.content
    {
        collect("", &entries, &mut names);
    }
    names
}

fn collect(section: &str, entries: &[Entry], names: &mut BTreeMap<usize, String>) {
    for entry in entries {
        let name = join(section, &entry.key);
        match &entry.value.content {
            Content::Mapping(entries) => collect(&name, entries, names),
            Content::Scalar(_) | Content::Sequence(_) => {
                names.insert(entry.position.line, name);
            }
        }
    }
}

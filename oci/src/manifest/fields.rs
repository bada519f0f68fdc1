//! Typed reading of the fields of a manifest and of its descriptors, with errors that say where.
//!
//! The value `null` is read as no value: Go programs write it for lists and maps that they left empty.

use std::collections::BTreeMap;
use std::fmt;

use super::ManifestError;
use crate::excerpt::excerpt;
use crate::json::{Json, Object};
use crate::{Descriptor, Digest, MediaType};

/// The fields of manifests of every kind.
const MANIFEST_FIELDS: [&str; 10] = [
    "schemaVersion",
    "mediaType",
    "artifactType",
    "config",
    "layers",
    "blobs",
    "manifests",
    "fsLayers",
    "subject",
    "annotations",
];

/// The fields of descriptors.
const DESCRIPTOR_FIELDS: [&str; 8] =
    ["mediaType", "digest", "size", "urls", "annotations", "data", "artifactType", "platform"];

/// Where in a manifest an object stands.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    /// It is the manifest.
    Manifest,
    /// It is the value of a field.
    Field(&'static str),
    /// It is an element of the list in a field.
    Item(&'static str, usize),
}

impl Place {
    /// The path of a field of the object that stands here.
    pub(super) fn path_of(self, field: impl fmt::Display) -> String {
        match self {
            Self::Manifest => field.to_string(),
            Self::Field(_) | Self::Item(..) => format!("{self}.{field}"),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manifest => formatter.write_str("manifest"),
            Self::Field(field) => formatter.write_str(field),
            Self::Item(field, index) => write!(formatter, "{field}[{index}]"),
        }
    }
}

/// An object whose keys are either known fields, spelt as the spec spells them, or nothing like them.
pub(super) struct Fields<'d> {
    object: &'d Object<'d>,
    place: Place,
}

impl<'d> Fields<'d> {
    /// Looks through the keys for such as differ from a known field by case only.
    pub(super) fn new(object: &'d Object<'d>, place: Place) -> Result<Self, ManifestError> {
        let known: &[&'static str] = match place {
            Place::Manifest => &MANIFEST_FIELDS,
            Place::Field(_) | Place::Item(..) => &DESCRIPTOR_FIELDS,
        };
        for (key, _) in object.iter() {
            for &field in known {
                if key != field && looks_like(key, field) {
                    return Err(ManifestError::LookAlikeField { path: place.path_of(excerpt(key)), field });
                }
            }
        }
        Ok(Self { object, place })
    }

    /// Whether the field is there, be it as `null`.
    pub(super) fn holds(&self, field: &str) -> bool {
        self.object.get(field).is_some()
    }

    /// The value, if it is there and not `null`.
    pub(super) fn get(&self, field: &str) -> Option<&'d Json<'d>> {
        match self.object.get(field) {
            None | Some(Json::Null) => None,
            Some(value) => Some(value),
        }
    }

    pub(super) fn missing(&self, field: &'static str) -> ManifestError {
        ManifestError::MissingField { path: self.place.path_of(field) }
    }

    fn wrong_type(&self, field: &'static str, expected: &'static str, found: &Json<'_>) -> ManifestError {
        ManifestError::WrongType { path: self.place.path_of(field), expected, found: found.kind() }
    }

    /// A string; an empty one counts as absent, as it does to Go programs (`omitempty`).
    pub(super) fn text(&self, field: &'static str) -> Result<Option<&'d str>, ManifestError> {
        match self.get(field) {
            None => Ok(None),
            Some(Json::Text(text)) if text.is_empty() => Ok(None),
            Some(Json::Text(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong_type(field, "a string", other)),
        }
    }

    /// The `artifactType`: lists of referrers repeat it, and databases look for it. Clients are careless about its
    /// grammar, so only its length (that of a media type, RFC 6838 section 4.2) and its control characters are judged.
    pub(super) fn artifact_type(&self) -> Result<Option<&'d str>, ManifestError> {
        const MAX_BYTES: usize = 255;
        match self.text("artifactType")? {
            Some(text) if text.len() > MAX_BYTES || text.chars().any(char::is_control) => {
                Err(ManifestError::ArtifactType { limit: MAX_BYTES })
            }
            text => Ok(text),
        }
    }

    fn required_text(&self, field: &'static str) -> Result<&'d str, ManifestError> {
        self.text(field)?.ok_or_else(|| self.missing(field))
    }

    /// A non-negative integer; any other number is as good as [`u64::MAX`], which no field of a manifest can have.
    pub(super) fn number(&self, field: &'static str) -> Result<Option<u64>, ManifestError> {
        match self.get(field) {
            None => Ok(None),
            Some(Json::Number(number)) => Ok(Some(number.unwrap_or(u64::MAX))),
            Some(other) => Err(self.wrong_type(field, "a number", other)),
        }
    }

    pub(super) fn object(&self, field: &'static str) -> Result<Option<&'d Object<'d>>, ManifestError> {
        match self.get(field) {
            None => Ok(None),
            Some(Json::Object(object)) => Ok(Some(object)),
            Some(other) => Err(self.wrong_type(field, "an object", other)),
        }
    }

    /// A list, empty if it is absent.
    pub(super) fn list(&self, field: &'static str) -> Result<&'d [Json<'d>], ManifestError> {
        match self.get(field) {
            None => Ok(&[]),
            Some(Json::List(list)) => Ok(list),
            Some(other) => Err(self.wrong_type(field, "a list", other)),
        }
    }

    /// The annotations: strings under any keys.
    pub(super) fn annotations(&self) -> Result<BTreeMap<String, String>, ManifestError> {
        let mut annotations = BTreeMap::new();
        let Some(object) = self.object("annotations")? else {
            return Ok(annotations);
        };
        for (key, value) in object.iter() {
            let Json::Text(text) = value else {
                return Err(ManifestError::WrongType {
                    path: self.place.path_of(format_args!("annotations[{:?}]", excerpt(key))),
                    expected: "a string",
                    found: value.kind(),
                });
            };
            annotations.insert(key.to_owned(), text.clone().into_owned());
        }
        Ok(annotations)
    }

    fn urls(&self) -> Result<Vec<String>, ManifestError> {
        let mut urls = Vec::new();
        for (index, value) in self.list("urls")?.iter().enumerate() {
            let Json::Text(url) = value else {
                return Err(ManifestError::WrongType {
                    path: self.place.path_of(format_args!("urls[{index}]")),
                    expected: "a string",
                    found: value.kind(),
                });
            };
            urls.push(url.clone().into_owned());
        }
        Ok(urls)
    }

    fn media_type(&self) -> Result<MediaType, ManifestError> {
        self.required_text("mediaType")?
            .parse()
            .map_err(|problem| ManifestError::InvalidMediaType { path: self.place.path_of("mediaType"), problem })
    }

    fn digest(&self) -> Result<Digest, ManifestError> {
        self.required_text("digest")?
            .parse()
            .map_err(|problem| ManifestError::InvalidDigest { path: self.place.path_of("digest"), problem })
    }

    fn size(&self) -> Result<u64, ManifestError> {
        let size = self.number("size")?.ok_or_else(|| self.missing("size"))?;
        // Clients keep sizes in a signed 64-bit integer.
        if i64::try_from(size).is_err() {
            return Err(ManifestError::InvalidSize { path: self.place.path_of("size") });
        }
        Ok(size)
    }
}

/// Reads the descriptor that stands at a place.
pub(crate) fn read_descriptor(json: &Json<'_>, place: Place) -> Result<Descriptor, ManifestError> {
    let Json::Object(object) = json else {
        return Err(ManifestError::WrongType { path: place.to_string(), expected: "an object", found: json.kind() });
    };
    let fields = Fields::new(object, place)?;
    Ok(Descriptor {
        media_type: fields.media_type()?,
        digest: fields.digest()?,
        size: fields.size()?,
        artifact_type: fields.artifact_type()?.map(str::to_owned),
        annotations: fields.annotations()?,
        urls: fields.urls()?,
    })
}

/// Whether a parser that ignores case takes the key for the field.
fn looks_like(key: &str, field: &str) -> bool {
    key.chars().map(fold_case).eq(field.chars().map(fold_case))
}

/// Case folding as Go's `encoding/json` does it: two characters beyond ASCII fold into it as well.
fn fold_case(character: char) -> char {
    match character {
        'ſ' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn look_alikes_are_those_of_go() {
        for key in ["layers", "Layers", "LAYERS", "layerſ", "layerS"] {
            assert!(looks_like(key, "layers"), "{key}");
        }
        for key in ["layer", "layerss", "lay\u{0435}rs", "layers ", ""] {
            assert!(!looks_like(key, "layers"), "{key}");
        }
        assert!(looks_like("\u{212a}ey", "key"));
    }

    #[test]
    fn paths() {
        assert_eq!(Place::Manifest.path_of("config"), "config");
        assert_eq!(Place::Field("config").path_of("digest"), "config.digest");
        assert_eq!(Place::Item("layers", 3).path_of("digest"), "layers[3].digest");
    }
}

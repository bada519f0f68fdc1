//! Strict JSON: the one reading on which every parser agrees.
//!
//! Where JSON leaves a choice (the same key twice, a byte order mark, bytes after the end), two programs can see two
//! different manifests in the same bytes. Such text is refused here, at any depth, before anybody asks what it means.
//! This module knows nothing of manifests.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::excerpt::excerpt;

/// Why a text is refused as JSON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// It begins with a byte order mark.
    #[error("the JSON begins with a byte order mark: send plain UTF-8 without one")]
    ByteOrderMark,
    /// It is not UTF-8.
    #[error("the JSON is not valid UTF-8 at byte {offset}: encode it as UTF-8")]
    NotUtf8 {
        /// Bytes before the first that is wrong.
        offset: usize,
    },
    /// It is not JSON.
    #[error("the body is not valid JSON: {reason}")]
    Malformed {
        /// What the parser says, with line and column.
        reason: String,
    },
    /// Something other than white space follows.
    #[error("bytes follow the JSON value at line {line} column {column}: end the body there")]
    TrailingBytes {
        /// Line, from 1.
        line: usize,
        /// Column in bytes, from 1.
        column: usize,
    },
    /// An object names a key twice.
    #[error("the key `{key}` stands twice in the object that ends at line {line} column {column}: keep one of them")]
    DuplicateKey {
        /// The key, cut to a length fit for a message.
        key: String,
        /// Line of the object's end, from 1.
        line: usize,
        /// Column of the object's end in bytes, from 1.
        column: usize,
    },
    /// Lists and objects are nested too deeply.
    #[error("the JSON is nested deeper than {limit} lists and objects: flatten it")]
    TooDeep {
        /// The deepest that is read.
        limit: usize,
    },
    /// There are too many values, of whatever kind.
    #[error("the JSON holds more than {limit} values: split it or leave some out")]
    TooManyValues {
        /// The most that are read.
        limit: usize,
    },
}

/// What bounds the memory of one reading.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JsonLimits {
    /// Lists and objects inside each other; `serde_json` itself stops at 127.
    pub(crate) max_depth: usize,
    /// Values of every kind.
    pub(crate) max_values: usize,
}

/// A JSON value that borrows from the text where no escape stands in the way.
#[derive(Debug, PartialEq)]
pub(crate) enum Json<'a> {
    Null,
    Boolean,
    /// A number; `Some` if it was written as a non-negative integer that fits.
    Number(Option<u64>),
    Text(Cow<'a, str>),
    List(Vec<Json<'a>>),
    Object(Object<'a>),
}

impl Json<'_> {
    /// What this value is, for an error text.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }
}

/// The fields of an object, sorted by key, each key once.
#[derive(Debug, PartialEq)]
pub(crate) struct Object<'a>(Vec<(Cow<'a, str>, Json<'a>)>);

impl<'a> Object<'a> {
    /// The value under exactly this key.
    pub(crate) fn get(&self, key: &str) -> Option<&Json<'a>> {
        let position = self.0.binary_search_by(|(candidate, _)| candidate.as_ref().cmp(key)).ok()?;
        Some(&self.0[position].1)
    }

    /// Every field, in the order of the keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Json<'a>)> {
        self.0.iter().map(|(key, value)| (key.as_ref(), value))
    }
}

/// Reads one JSON value that fills the whole body.
pub(crate) fn read(body: &[u8], limits: JsonLimits) -> Result<Json<'_>, JsonError> {
    if body.starts_with(b"\xef\xbb\xbf") {
        return Err(JsonError::ByteOrderMark);
    }
    let text = std::str::from_utf8(body).map_err(|error| JsonError::NotUtf8 { offset: error.valid_up_to() })?;
    let reading = Reading { limits, values: Cell::new(0), fault: Cell::new(None) };
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = match (ValueSeed { reading: &reading, depth: 0 }).deserialize(&mut deserializer) {
        Ok(value) => value,
        Err(error) => return Err(reading.explain(&error)),
    };
    match deserializer.end() {
        Ok(()) => Ok(value),
        Err(error) => Err(JsonError::TrailingBytes { line: error.line(), column: error.column() }),
    }
}

/// The state of one reading, shared by the seeds of all values.
struct Reading {
    limits: JsonLimits,
    values: Cell<usize>,
    /// Why a visitor of ours stopped the parser. serde's errors carry text only; this keeps the variant.
    fault: Cell<Option<Fault>>,
}

enum Fault {
    DuplicateKey(String),
    TooDeep,
    TooManyValues,
}

impl Reading {
    /// Stops the parser; the error's text is never shown.
    fn stop<E: Error>(&self, fault: Fault) -> E {
        self.fault.set(Some(fault));
        E::custom("stopped")
    }

    fn explain(&self, error: &serde_json::Error) -> JsonError {
        match self.fault.take() {
            Some(Fault::DuplicateKey(key)) => {
                JsonError::DuplicateKey { key, line: error.line(), column: error.column() }
            }
            Some(Fault::TooDeep) => JsonError::TooDeep { limit: self.limits.max_depth },
            Some(Fault::TooManyValues) => JsonError::TooManyValues { limit: self.limits.max_values },
            None => JsonError::Malformed { reason: error.to_string() },
        }
    }
}

/// Reads one value that stands inside `depth` lists and objects.
#[derive(Clone, Copy)]
struct ValueSeed<'r> {
    reading: &'r Reading,
    depth: usize,
}

impl ValueSeed<'_> {
    /// The seed of what is inside the list or object that is being opened.
    fn inside<E: Error>(self) -> Result<Self, E> {
        if self.depth >= self.reading.limits.max_depth {
            return Err(self.reading.stop(Fault::TooDeep));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = Json<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json<'de>, D::Error> {
        let values = self.reading.values.get() + 1;
        if values > self.reading.limits.max_values {
            return Err(self.reading.stop(Fault::TooManyValues));
        }
        self.reading.values.set(values);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_> {
    type Value = Json<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Json<'de>, E> {
        Ok(Json::Boolean)
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json<'de>, E> {
        Ok(Json::Number(Some(number)))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Json<'de>, E> {
        Ok(Json::Number(u64::try_from(number).ok()))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Json<'de>, E> {
        Ok(Json::Number(None))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Json<'de>, A::Error> {
        let seed = self.inside()?;
        let mut list = Vec::new();
        while let Some(value) = access.next_element_seed(seed)? {
            list.push(value);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Json<'de>, A::Error> {
        let seed = self.inside()?;
        let mut fields = Vec::new();
        while let Some(key) = access.next_key_seed(KeySeed)? {
            fields.push((key, access.next_value_seed(seed)?));
        }
        fields.sort_unstable_by(|(left, _), (right, _)| left.cmp(right));
        for pair in fields.windows(2) {
            if pair[0].0 == pair[1].0 {
                return Err(self.reading.stop(Fault::DuplicateKey(excerpt(&pair[0].0))));
            }
        }
        Ok(Json::Object(Object(fields)))
    }
}

/// Reads a key, borrowed if it can be.
struct KeySeed;

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Cow<'de, str>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for KeySeed {
    type Value = Cow<'de, str>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(key))
    }

    fn visit_str<E>(self, key: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(key.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: JsonLimits = JsonLimits { max_depth: 4, max_values: 10 };

    fn text(text: &str) -> Json<'_> {
        Json::Text(Cow::Borrowed(text))
    }

    fn error(body: &str) -> JsonError {
        read(body.as_bytes(), LIMITS).unwrap_err()
    }

    #[test]
    fn values_of_every_kind() {
        let json = read(br#" {"b": [null, true, 3, -3, 0.5], "a": "x\ny", "c": {}} "#, LIMITS).unwrap();
        let Json::Object(object) = json else { panic!("{json:?}") };
        let list = vec![Json::Null, Json::Boolean, Json::Number(Some(3)), Json::Number(None), Json::Number(None)];
        assert_eq!(object.get("b"), Some(&Json::List(list)));
        assert_eq!(object.get("a"), Some(&text("x\ny")));
        assert_eq!(object.get("B"), None);
        assert_eq!(object.iter().map(|(key, _)| key).collect::<Vec<_>>(), ["a", "b", "c"]);
    }

    #[test]
    fn integers_beyond_64_bits_are_numbers_without_a_value() {
        assert_eq!(read(b"18446744073709551615", LIMITS), Ok(Json::Number(Some(u64::MAX))));
        assert_eq!(read(b"18446744073709551616", LIMITS), Ok(Json::Number(None)));
        assert_eq!(read(b"1.0", LIMITS), Ok(Json::Number(None)));
    }

    #[test]
    fn duplicate_keys_are_found_at_any_depth_and_however_they_are_written() {
        let duplicate = JsonError::DuplicateKey { key: "a".to_owned(), line: 1, column: 13 };
        assert_eq!(error(r#"{"a":1,"a":1}"#), duplicate);
        assert!(matches!(error(r#"{"a":1,"\u0061":1}"#), JsonError::DuplicateKey { .. }));
        assert!(matches!(error(r#"[{"x":{"a":1,"b":2,"a":3}}]"#), JsonError::DuplicateKey { .. }));
        assert!(read(br#"[{"a":1},{"a":1}]"#, LIMITS).is_ok());
    }

    #[test]
    fn what_surrounds_the_value_is_refused() {
        assert_eq!(error("\u{feff}{}"), JsonError::ByteOrderMark);
        assert_eq!(error("{} {}"), JsonError::TrailingBytes { line: 1, column: 4 });
        assert_eq!(error("{}\0"), JsonError::TrailingBytes { line: 1, column: 3 });
        assert!(matches!(error(""), JsonError::Malformed { .. }));
        assert_eq!(read(b"{\"a\":\"\xff\"}", LIMITS), Err(JsonError::NotUtf8 { offset: 6 }));
    }

    #[test]
    fn extensions_of_json_are_refused() {
        for body in ["{'a':1}", "{a:1}", "[1,]", "// x\n{}", "NaN", "[01]", "\"\t\"", "\"\\ud800\""] {
            assert!(matches!(error(body), JsonError::Malformed { .. }), "{body}");
        }
    }

    #[test]
    fn depth_is_limited() {
        assert!(read(b"[[[[1]]]]", LIMITS).is_ok());
        assert_eq!(error("[[[[[1]]]]]"), JsonError::TooDeep { limit: 4 });
        assert_eq!(error(r#"{"a":[{"a":[{}]}]}"#), JsonError::TooDeep { limit: 4 });
        let deep = "[".repeat(1_000_000);
        assert_eq!(error(&deep), JsonError::TooDeep { limit: 4 });
        let unlimited = JsonLimits { max_depth: usize::MAX, max_values: usize::MAX };
        assert!(matches!(read(deep.as_bytes(), unlimited), Err(JsonError::Malformed { .. })));
    }

    #[test]
    fn values_are_counted() {
        assert!(read(b"[1,2,3,4,5,6,7,8,9]", LIMITS).is_ok());
        assert_eq!(error("[1,2,3,4,5,6,7,8,9,10]"), JsonError::TooManyValues { limit: 10 });
    }

    proptest! {
        #[test]
        fn bytes_never_panic(body in any::<Vec<u8>>()) {
            let _ = read(&body, LIMITS);
        }

        #[test]
        fn what_is_accepted_is_json(body in "[\\[\\]{}:,\"a0-9.e\\\\ -]{0,24}") {
            let limits = JsonLimits { max_depth: 100, max_values: 1000 };
            if read(body.as_bytes(), limits).is_ok() {
                prop_assert!(serde_json::from_str::<serde_json::Value>(&body).is_ok());
            }
        }
    }
}

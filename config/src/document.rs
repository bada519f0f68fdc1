//! YAML text to a tree that remembers where everything stands.
//!
//! Only what settings need: one document of nested mappings with scalars and lists of them. Scalars stay text, so that
//! the key's type decides what `0.10`, `no` or `1e3` means, not YAML's guesses. Anchors, aliases and tags are refused.

use serde_saphyr::granit_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span};

/// Settings have three levels; beyond this the file is something else, or an attack on the stack.
const MAX_DEPTH: usize = 16;

/// A place in a text; both count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

impl From<&Marker> for Position {
    fn from(marker: &Marker) -> Self {
        Self { line: marker.line(), column: marker.col() + 1 }
    }
}

/// A value with its place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) position: Position,
    pub(crate) content: Content,
}

/// What a value is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Scalar(Scalar),
    Mapping(Vec<Entry>),
    Sequence(Vec<Node>),
}

/// One line of a mapping.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) position: Position,
    pub(crate) value: Node,
}

/// A single value, not yet read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    /// Written in quotes or as a block: text, whatever it looks like.
    pub(crate) quoted: bool,
}

impl Scalar {
    /// A value from outside of YAML, where nothing is quoted.
    pub(crate) fn plain(text: &str) -> Self {
        Self { text: text.to_owned(), quoted: false }
    }

    /// Whether this is one of YAML's ways to write "nothing".
    pub(crate) fn is_null(&self) -> bool {
        !self.quoted && matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }
}

/// The text is not YAML, or YAML that settings do not take.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    pub(crate) position: Position,
    pub(crate) message: String,
}

impl SyntaxError {
    fn new(span: &Span, message: impl Into<String>) -> Self {
        Self { position: Position::from(&span.start), message: message.into() }
    }
}

impl From<ScanError> for SyntaxError {
    fn from(error: ScanError) -> Self {
        Self { position: Position::from(error.marker()), message: error.info() }
    }
}

/// Reads a text with at most one document; `None` when there is nothing but comments.
pub(crate) fn parse(text: &str) -> Result<Option<Node>, SyntaxError> {
    let mut reader = Reader { parser: Parser::new_from_str(text) };
    let mut root = None;
    while let Some((event, span)) = reader.next()? {
        match event {
            Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            Event::DocumentStart(..) if root.is_some() => {
                return Err(SyntaxError::new(&span, "a second document: settings are one document"));
            }
            Event::DocumentStart(..) => {}
            _ => root = Some(reader.node(event, &span, 0)?),
        }
    }
    Ok(root)
}

struct Reader<'text, P: Iterator<Item = Result<(Event<'text>, Span), ScanError>>> {
    parser: P,
}

impl<'text, P: Iterator<Item = Result<(Event<'text>, Span), ScanError>>> Reader<'text, P> {
    /// The next event that is not a comment.
    fn next(&mut self) -> Result<Option<(Event<'text>, Span)>, SyntaxError> {
        loop {
            match self.parser.next().transpose()? {
                Some((Event::Comment(..), _)) => {}
                other => return Ok(other),
            }
        }
    }

    /// The next event within a mapping or list, where the text cannot simply end.
    fn next_inside(&mut self, opening: &Span) -> Result<(Event<'text>, Span), SyntaxError> {
        self.next()?.ok_or_else(|| SyntaxError::new(opening, "this is never closed"))
    }

    /// The value that starts with `event`.
    fn node(&mut self, event: Event<'text>, span: &Span, depth: usize) -> Result<Node, SyntaxError> {
        if depth > MAX_DEPTH {
            return Err(SyntaxError::new(span, "nested too deeply"));
        }
        if let Some(tag) = event.tag() {
            return Err(SyntaxError::new(span, format!("the tag {tag} is not supported: write the plain value")));
        }
        let content = match event {
            Event::Scalar(text, style, ..) => {
                Content::Scalar(Scalar { text: text.into_owned(), quoted: style != ScalarStyle::Plain })
            }
            Event::MappingStart(..) => Content::Mapping(self.entries(span, depth)?),
            Event::SequenceStart(..) => Content::Sequence(self.elements(span, depth)?),
            Event::Alias(..) => {
                return Err(SyntaxError::new(
                    span,
                    "aliases are not supported: write the value again, or in quotes if it begins with *",
                ));
            }
            _ => return Err(SyntaxError::new(span, "expected a value")),
        };
        Ok(Node { position: Position::from(&span.start), content })
    }

    fn entries(&mut self, opening: &Span, depth: usize) -> Result<Vec<Entry>, SyntaxError> {
        let mut entries = Vec::new();
        loop {
            let (event, span) = self.next_inside(opening)?;
            if matches!(event, Event::MappingEnd) {
                return Ok(entries);
            }
            let key = self.node(event, &span, depth + 1)?;
            let Content::Scalar(name) = key.content else {
                return Err(SyntaxError::new(&span, "a key must be a single word"));
            };
            let (event, span) = self.next_inside(opening)?;
            let value = self.node(event, &span, depth + 1)?;
            entries.push(Entry { key: name.text, position: key.position, value });
        }
    }

    fn elements(&mut self, opening: &Span, depth: usize) -> Result<Vec<Node>, SyntaxError> {
        let mut elements = Vec::new();
        loop {
            let (event, span) = self.next_inside(opening)?;
            if matches!(event, Event::SequenceEnd) {
                return Ok(elements);
            }
            elements.push(self.node(event, &span, depth + 1)?);
        }
    }
}

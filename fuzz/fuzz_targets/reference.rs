//! Digests, names and their patterns, tags, references and media types: no parser panics, and what one accepts is written
//! as it was read.

#![no_main]

use std::fmt::Display;
use std::str::FromStr;

use libfuzzer_sys::fuzz_target;
use longshore_oci::{Digest, MediaType, Reference, RepositoryName, RepositoryPattern, Tag};

/// Parses the text as a `T`, which has to keep every byte of it.
fn parse_exactly<T: FromStr<Err: Display> + Display>(text: &str) -> Option<T> {
    match text.parse::<T>() {
        Ok(value) => {
            assert_eq!(value.to_string(), text);
            Some(value)
        }
        Err(error) => {
            assert!(error.to_string().len() < 2048, "an error text echoes too much");
            None
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(digest) = Digest::from_bytes(bytes) {
        assert_eq!(digest.to_bytes(), bytes);
        assert!(parse_exactly::<Digest>(&digest.to_string()).is_some());
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };

    let digest = parse_exactly::<Digest>(text);
    let tag = parse_exactly::<Tag>(text);
    let reference = parse_exactly::<Reference>(text);
    assert!(digest.is_none() || tag.is_none(), "a digest is no tag");
    assert_eq!(reference.is_some(), digest.is_some() || tag.is_some());
    if let Some(digest) = digest {
        assert_eq!(Digest::from_bytes(&digest.to_bytes()), Ok(digest));
        assert!(parse_exactly::<Tag>(digest.fallback_tag().as_str()).is_some());
    }
    if let Some(name) = parse_exactly::<RepositoryName>(text) {
        assert!(name.as_str().len() <= 255 && !name.as_str().contains(".."));
        assert!(parse_exactly::<RepositoryPattern>(text).is_some_and(|pattern| pattern.matches(&name)));
    }
    if let Some(pattern) = parse_exactly::<RepositoryPattern>(text) {
        let example = text.replace("**", "*").replace('*', "a").parse::<RepositoryName>();
        assert!(example.is_ok_and(|example| pattern.matches(&example)), "a pattern that names nothing");
    }
    if let Ok(media_type) = text.parse::<MediaType>() {
        assert!(parse_exactly::<MediaType>(media_type.as_str()).is_some());
    }
});

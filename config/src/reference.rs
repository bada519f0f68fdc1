//! The annotated reference: every key with its default.

/// `longshore.yaml`: every key with its default, its unit, its environment variable and when to change it.
///
/// Loading it gives exactly the defaults; tests hold it to that.
pub const REFERENCE: &str = include_str!("../longshore.yaml");

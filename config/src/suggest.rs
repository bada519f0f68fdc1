//! The nearest known name to a mistyped one.

/// The candidate that `name` was most likely meant to be, if any is near enough.
///
/// At most a third of the last part may differ (at least one letter, at most four): the section that two
/// names share must not make them look alike.
pub(crate) fn nearest<'a>(
    name: &str,
    separator: &str,
    candidates: impl Iterator<Item = &'a str> + Clone,
) -> Option<&'a str> {
    let name = name.to_ascii_lowercase();
    let last_part = last_part(&name, separator);
    let tolerance = (last_part.chars().count() / 3).clamp(1, 4);
    let nearest = candidates
        .clone()
        .map(|candidate| (strsim::damerau_levenshtein(&name, &candidate.to_ascii_lowercase()), candidate))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= tolerance)
        .map(|(_, candidate)| candidate);
    // The right key in the wrong section.
    nearest.or_else(|| {
        candidates.into_iter().find(|candidate| self::last_part(candidate, separator).eq_ignore_ascii_case(last_part))
    })
}

fn last_part<'a>(name: &'a str, separator: &str) -> &'a str {
    name.rsplit(separator).next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suggest(name: &str) -> Option<&'static str> {
        nearest(name, ".", ["http.address", "http.max_connections", "storage.path", "gc", "log"].into_iter())
    }

    #[test]
    fn finds_typing_mistakes() {
        assert_eq!(suggest("http.adress"), Some("http.address"));
        assert_eq!(suggest("htpp.address"), Some("http.address"));
        assert_eq!(suggest("http.maxConnections"), Some("http.max_connections"));
        assert_eq!(suggest("http.max-connections"), Some("http.max_connections"));
        assert_eq!(suggest("logg"), Some("log"));
    }

    #[test]
    fn finds_a_key_in_the_wrong_section() {
        assert_eq!(suggest("address"), Some("http.address"));
        assert_eq!(suggest("storage.max_connections"), Some("http.max_connections"));
    }

    #[test]
    fn a_shared_section_alone_is_not_near() {
        assert_eq!(suggest("storage.root"), None);
        assert_eq!(suggest("redis"), None);
    }
}

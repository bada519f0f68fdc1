//! The mark of a store, by which a database knows the one that it belongs to.

/// What stands before it, for people who find it.
const BEFORE: &str = "longshore store ";

/// What is written into the store: a line of text.
pub(crate) fn line(mark: &str) -> String {
    format!("{BEFORE}{mark}\n")
}

/// The mark in what was read. None in what was written for something else, nor in a part of the line: it may be written
/// anew while it is read.
pub(crate) fn in_line(bytes: &[u8]) -> Option<String> {
    let mark = std::str::from_utf8(bytes).ok()?.strip_prefix(BEFORE)?.strip_suffix('\n')?;
    (!mark.is_empty()).then(|| mark.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_survives_its_line() {
        let line = line("0192f3a4-b5c6");
        assert_eq!(in_line(line.as_bytes()).as_deref(), Some("0192f3a4-b5c6"));
        for length in 0..line.len() {
            assert_eq!(in_line(&line.as_bytes()[..length]), None, "{length} bytes of it");
        }
    }

    #[test]
    fn what_else_is_there_is_no_mark() {
        for other in ["", "\n", "longshore was here", "longshore was here\n", "longshore store \n", "mark\n"] {
            assert_eq!(in_line(other.as_bytes()), None, "{other:?}");
        }
        assert_eq!(in_line(b"longshore store \xff\n"), None);
    }
}

//! Echoes of what a client sent, safe to put into an error text.

/// Longest echo, in characters: room for a sha256 digest and a tag, none for a flood.
const MAX_CHARACTERS: usize = 96;

/// The beginning of `text` with control characters escaped, so that it can be echoed to the client and to a log line.
pub(crate) fn excerpt(text: &str) -> String {
    let mut echo = String::new();
    for (position, character) in text.chars().enumerate() {
        if position == MAX_CHARACTERS {
            echo.push_str("...");
            break;
        }
        if character.is_control() {
            echo.extend(character.escape_default());
        } else {
            echo.push(character);
        }
    }
    echo
}

#[cfg(test)]
mod tests {
    use super::excerpt;

    #[test]
    fn short_text_is_echoed_as_it_is() {
        assert_eq!(excerpt("busybox:latest"), "busybox:latest");
        assert_eq!(excerpt("größe"), "größe");
    }

    #[test]
    fn control_characters_cannot_forge_a_log_line() {
        assert_eq!(excerpt("a\nb\u{1b}"), "a\\nb\\u{1b}");
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        let echo = excerpt(&"é".repeat(5000));
        assert_eq!(echo, format!("{}...", "é".repeat(96)));
    }
}

//! `Range` requests of RFC 9110, section 14: which bytes a client wants.
//!
//! Ranges are answered in the order in which they were asked for and never joined: a client that asks for 1,024 chunks
//! of a layer (zstd:chunked) counts the parts.

use std::ops::Range;

/// What to answer to a `Range` header.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of it: there is no range, none that is understood, or together they are more than all of it.
    All,
    /// These parts, each within the content and not empty; at least one.
    Parts(Vec<Range<u64>>),
    /// None of the ranges lies within the content.
    Nothing,
    /// More ranges than are allowed: the client is to ask for fewer at a time.
    TooMany,
}

impl Wanted {
    /// Reads a header's value for content of this size.
    pub(super) fn parse(header: Option<&str>, size: u64, limit: usize) -> Self {
        let Some(list) = header.and_then(specifiers) else {
            return Self::All;
        };
        let mut parts = Vec::new();
        for (count, specifier) in list.split(',').map(str::trim).filter(|text| !text.is_empty()).enumerate() {
            if count == limit {
                return Self::TooMany;
            }
            match part(specifier, size) {
                Part::Within(range) => parts.push(range),
                Part::Outside => {}
                Part::Malformed => return Self::All,
            }
        }
        if parts.is_empty() {
            return Self::Nothing;
        }
        let total: u64 = parts.iter().map(|part| part.end - part.start).fold(0, u64::saturating_add);
        // Overlapping ranges can ask for any multiple of the content: then all of it, once, is the better answer. Many that
        // go to and fro would have the same bytes read from the store again and again (RFC 9110, section 14.2).
        let is_too_much = parts.len() > 1 && total > size || parts.len() > FREE_ORDER && !go_one_way(&parts);
        if is_too_much { Self::All } else { Self::Parts(parts) }
    }
}

/// So many ranges may come in any order. More have to go on, or back, without a turn.
const FREE_ORDER: usize = 16;

fn go_one_way(parts: &[Range<u64>]) -> bool {
    let pairs = || parts.windows(2);
    pairs().all(|pair| pair[0].end <= pair[1].start) || pairs().all(|pair| pair[1].end <= pair[0].start)
}

/// What follows `bytes=`; another unit is to be ignored.
fn specifiers(header: &str) -> Option<&str> {
    let (unit, list) = header.split_once('=')?;
    let list = list.trim();
    (unit.trim().eq_ignore_ascii_case("bytes") && !list.is_empty()).then_some(list)
}

enum Part {
    Within(Range<u64>),
    Outside,
    Malformed,
}

fn part(specifier: &str, size: u64) -> Part {
    let Some((first, last)) = specifier.split_once('-') else {
        return Part::Malformed;
    };
    match (number(first), number(last)) {
        (Number::None, Number::Some(suffix)) => within(size.saturating_sub(suffix)..size),
        (Number::Some(first), Number::None) => within(first..size),
        // `500-0` may be ignored or refused; the conformance program wants it refused.
        (Number::Some(first), Number::Some(last)) if last < first => Part::Outside,
        (Number::Some(first), Number::Some(last)) => within(first..last.saturating_add(1).min(size)),
        _ => Part::Malformed,
    }
}

fn within(range: Range<u64>) -> Part {
    if range.is_empty() { Part::Outside } else { Part::Within(range) }
}

enum Number {
    None,
    Some(u64),
    Malformed,
}

/// A number of any length: one that is too large for its type is beyond every content.
fn number(text: &str) -> Number {
    let text = text.trim();
    if text.is_empty() {
        Number::None
    } else if text.bytes().all(|byte| byte.is_ascii_digit()) {
        Number::Some(text.parse().unwrap_or(u64::MAX))
    } else {
        Number::Malformed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(header: &str) -> Wanted {
        Wanted::parse(Some(header), 2048, 4)
    }

    fn one(range: Range<u64>) -> Wanted {
        Wanted::Parts(vec![range])
    }

    #[test]
    fn what_the_conformance_program_asks() {
        assert_eq!(parse("bytes=500-1499"), one(500..1500));
        assert_eq!(parse("bytes=500-"), one(500..2048));
        assert_eq!(parse("bytes=-500"), one(1548..2048));
        assert_eq!(parse("bytes=2000-5000"), one(2000..2048));
        assert_eq!(parse("bytes=500-0"), Wanted::Nothing);
        assert_eq!(parse("bytes=5000-10000"), Wanted::Nothing);
    }

    #[test]
    fn edges() {
        assert_eq!(Wanted::parse(None, 10, 4), Wanted::All);
        assert_eq!(parse("bytes=0-0"), one(0..1));
        assert_eq!(parse("bytes=-0"), Wanted::Nothing);
        assert_eq!(parse("bytes=-9999"), one(0..2048));
        assert_eq!(parse("bytes=2048-"), Wanted::Nothing);
        assert_eq!(parse("bytes=0-99999999999999999999999"), one(0..2048));
        assert_eq!(Wanted::parse(Some("bytes=0-"), 0, 4), Wanted::Nothing);
        for ignored in ["", "bytes", "bytes=", "lines=0-1", "bytes=a-b", "bytes=1", "bytes=-", "bytes=1-2,x"] {
            assert_eq!(parse(ignored), Wanted::All, "{ignored}");
        }
    }

    #[test]
    fn many() {
        assert_eq!(parse("bytes=10-19, 0-4"), Wanted::Parts(vec![10..20, 0..5]));
        assert_eq!(parse("bytes=0-1,9000-9001"), one(0..2));
        assert_eq!(parse("bytes=9000-,9001-"), Wanted::Nothing);
        assert_eq!(parse("bytes=0-1,2-3,4-5,6-7"), Wanted::Parts(vec![0..2, 2..4, 4..6, 6..8]));
        assert_eq!(parse("bytes=0-1,2-3,4-5,6-7,8-9"), Wanted::TooMany);
        assert_eq!(parse("bytes=0-2047,0-0"), Wanted::All);
    }

    #[test]
    fn many_go_one_way() {
        let header = |starts: &mut dyn Iterator<Item = u64>| {
            let ranges: Vec<String> = starts.map(|start| format!("{start}-{}", start + 1)).collect();
            format!("bytes={}", ranges.join(","))
        };
        let parse = |header: &str| Wanted::parse(Some(header), 2048, 1024);
        let rising = header(&mut (0..100).map(|number| number * 20));
        assert!(matches!(parse(&rising), Wanted::Parts(parts) if parts.len() == 100));
        let falling = header(&mut (0..100).rev().map(|number| number * 20));
        assert!(matches!(parse(&falling), Wanted::Parts(parts) if parts.len() == 100));
        let to_and_fro = |count: u64| header(&mut (0..count).map(move |number| number * 7 % count * 20));
        assert!(matches!(parse(&to_and_fro(16)), Wanted::Parts(parts) if parts.len() == 16));
        assert_eq!(parse(&to_and_fro(17)), Wanted::All);
        assert_eq!(parse(&header(&mut (0..17))), Wanted::All, "they overlap");
    }

    proptest! {
        #[test]
        fn parts_lie_within_the_content(header in "bytes=[0-9,\\- ]{0,60}", size in 0u64..5_000) {
            if let Wanted::Parts(parts) = Wanted::parse(Some(&header), size, 1024) {
                prop_assert!(!parts.is_empty());
                prop_assert!(parts.iter().all(|part| part.start < part.end && part.end <= size));
            }
        }

        #[test]
        fn no_header_makes_it_panic(header in ".{0,80}", size in any::<u64>()) {
            let _ = Wanted::parse(Some(&header), size, 1024);
        }
    }
}

//! Owns the reading of a trace as a stream: a file of gigabytes takes the memory of one entry, and of a few thousand
//! that are put in order.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result};
use serde::de::{DeserializeSeed, Deserializer, SeqAccess, Visitor};

use super::entry::{Entry, Request};
use super::timestamp::Timestamp;

/// So many requests are held back to be put in order: servers log at the end of a request, so lines are a little out
/// of it.
const REORDERED: usize = 4096;
const BUFFER_BYTES: usize = 1 << 20;

/// What a file held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Lines {
    pub(super) requests: u64,
    /// Entries that moved nothing or are of another kind.
    pub(super) passed_over: u64,
}

/// Hands the requests of a file over in the order of their times, up to `limit` of them, until the taker says no.
pub(super) fn read_file(path: &Path, limit: u64, take: &mut dyn FnMut(Request) -> Result<()>) -> Result<Lines> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    read(BufReader::with_capacity(BUFFER_BYTES, file), limit, take)
        .with_context(|| format!("cannot read {}", path.display()))
}

fn read(source: impl Read, limit: u64, take: &mut dyn FnMut(Request) -> Result<()>) -> Result<Lines> {
    let mut ordered = Ordered { waiting: BTreeMap::new(), next_number: 0, take };
    let mut outcome = Ok(());
    let mut lines = Lines::default();
    let each = |entry: Entry| match entry.request() {
        None => {
            lines.passed_over += 1;
            true
        }
        Some(request) => {
            lines.requests += 1;
            outcome = ordered.push(request);
            outcome.is_ok() && lines.requests < limit
        }
    };
    let mut parser = serde_json::Deserializer::from_reader(source);
    let parsed = Array(each).deserialize(&mut parser);
    outcome?;
    // An array that nobody wanted to see the rest of does not end where it should.
    if lines.requests < limit {
        parsed.context("an array of entries is wanted")?;
    }
    ordered.finish()?;
    Ok(lines)
}

/// A few requests, of which the earliest is handed on.
struct Ordered<'t> {
    waiting: BTreeMap<(Timestamp, u64), Request>,
    next_number: u64,
    take: &'t mut dyn FnMut(Request) -> Result<()>,
}

impl Ordered<'_> {
    fn push(&mut self, request: Request) -> Result<()> {
        self.waiting.insert((request.at, self.next_number), request);
        self.next_number += 1;
        if self.waiting.len() > REORDERED { self.hand_on() } else { Ok(()) }
    }

    fn hand_on(&mut self) -> Result<()> {
        self.waiting.pop_first().map_or(Ok(()), |(_, request)| (self.take)(request))
    }

    fn finish(mut self) -> Result<()> {
        while !self.waiting.is_empty() {
            self.hand_on()?;
        }
        Ok(())
    }
}

/// An array whose elements go to a function, one by one, until it says no.
struct Array<F>(F);

impl<'de, F: FnMut(Entry) -> bool> DeserializeSeed<'de> for Array<F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, F: FnMut(Entry) -> bool> Visitor<'de> for Array<F> {
    type Value = ();

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("an array of requests")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<(), A::Error> {
        while let Some(entry) = elements.next_element()? {
            if !(self.0)(entry) {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(second: u32, method: &str) -> String {
        format!(
            r#"{{"http.request.method":"{method}","http.request.uri":"v2/a/b/blobs/x{second}",
            "http.response.written":5,"timestamp":"2017-06-20T02:41:{second:02}.000Z"}}"#
        )
    }

    fn ids(text: &str, limit: u64) -> Result<(Lines, Vec<String>)> {
        let mut ids = Vec::new();
        let lines = read(text.as_bytes(), limit, &mut |request| {
            ids.push(request.id);
            Ok(())
        })?;
        Ok((lines, ids))
    }

    #[test]
    fn requests_come_in_the_order_of_their_times() {
        let text = format!("[{},\n{},{},{}]", line(3, "GET"), line(1, "GET"), line(2, "HEAD"), line(2, "PUT"));
        let (lines, ids) = ids(&text, u64::MAX).unwrap();
        assert_eq!(lines, Lines { requests: 3, passed_over: 1 });
        assert_eq!(ids, ["x1", "x2", "x3"]);
    }

    #[test]
    fn reading_ends_at_the_limit_or_when_told() {
        let text = format!("[{},{},{}]", line(3, "GET"), line(1, "GET"), line(2, "GET"));
        assert_eq!(ids(&text, 2).unwrap().1, ["x1", "x3"]);
        let mut taken = 0;
        let told = read(text.as_bytes(), u64::MAX, &mut |_| {
            taken += 1;
            Err(anyhow::Error::msg("enough"))
        });
        assert_eq!((told.unwrap_err().to_string().as_str(), taken), ("enough", 1));
    }

    #[test]
    fn what_is_no_trace_is_an_error() {
        for odd in ["", "{}", "[1]", "[{}]", "[", &format!("[{}", line(1, "GET"))] {
            assert!(ids(odd, u64::MAX).is_err(), "{odd:?} was accepted");
        }
    }
}

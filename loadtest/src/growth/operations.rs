//! Owns the content of a registry that grows, and what is done with it.
//!
//! Every second manifest goes into one repository, with a tag of its own: there the list of tags and the look-up of one
//! among them grow. The others are spread over a hundred repositories, as in a registry of many teams: there the
//! registry as a whole grows while its repositories stay small.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};

use crate::body::{Sha256Digest, splitmix64};
use crate::case::{Operation, Repeated};
use crate::client::{Connection, Method, Request, expect_length};
use crate::reading::{Expected, Reading};
use crate::setup::{self, ACCEPT_MANIFESTS};
use crate::target::Target;

/// Over so many repositories the second half is spread.
const SPREAD: u64 = 100;
const PAGE_ENTRIES: usize = 100;

/// The repositories of one run.
pub(super) struct Growing {
    prefix: String,
}

/// A manifest by its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Content {
    /// `None` is the large repository.
    spread: Option<u64>,
    tag: String,
    bytes: Vec<u8>,
}

impl Content {
    pub(super) fn of(number: u64) -> Self {
        let tag = tag(number);
        let spread = (number % 2 == 1).then_some(number / 2 % SPREAD);
        let bytes = setup::manifest_of(&[], &tag);
        Self { spread, tag, bytes }
    }
}

/// Tags sort by number.
fn tag(number: u64) -> String {
    format!("tag-{number:08}")
}

impl Growing {
    /// Repositories that no run before has filled, so that what is put is new.
    pub(super) fn new() -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { prefix: format!("longshore-loadtest/growth-{:x}", since_1970.as_millis()) }
    }

    /// Puts what all manifests refer to.
    pub(super) fn prepare(&self, target: &Target) -> Result<()> {
        setup::in_parallel(target, SPREAD + 1, &|connection, index| {
            setup::ensure_config(connection, &self.repository(index.checked_sub(1)))
        })
    }

    fn repository(&self, spread: Option<u64>) -> String {
        match spread {
            None => format!("{}/large", self.prefix),
            Some(index) => format!("{}/small-{index:02}", self.prefix),
        }
    }

    fn path(&self, content: &Content) -> String {
        format!("/v2/{}/manifests/{}", self.repository(content.spread), content.tag)
    }

    pub(super) fn put(&self, connection: &mut Connection<'_>, content: &Content) -> Result<()> {
        setup::put_manifest(connection, &self.path(content), &content.bytes)
    }

    /// The page of tags that begins in the middle of the large repository.
    pub(super) fn middle_page(&self, filled: u64) -> Reading {
        // Even: those are in the large repository.
        let after = tag(filled / 4 * 2);
        Reading {
            method: Method::Get,
            path: format!("/v2/{}/tags/list?n={PAGE_ENTRIES}&last={after}", self.repository(None)),
            headers: "",
            expected: Expected::Page { key: "tags", entries: PAGE_ENTRIES, after },
        }
    }
}

/// A manifest of the large repository by its tag, another one every time.
pub(super) struct RandomTag<'g> {
    pub(super) growing: &'g Growing,
    pub(super) filled: u64,
}

impl RandomTag<'_> {
    fn choose(&self, number: u64) -> Content {
        let mut state = number;
        Content::of(splitmix64(&mut state) % self.filled / 2 * 2)
    }
}

fn get(path: &str) -> Request<'_> {
    Request { method: Method::Get, path, headers: ACCEPT_MANIFESTS, expected_status: 200 }
}

impl Operation for RandomTag<'_> {
    fn rehearse(&self, connection: &mut Connection<'_>) -> Result<Option<String>> {
        let (content, mut body) = (self.choose(0), Vec::new());
        connection.read(&get(&self.growing.path(&content)), &mut |piece| body.extend_from_slice(piece))?;
        let (actual, expected) = (Sha256Digest::of(&body), Sha256Digest::of(&content.bytes));
        ensure!(actual == expected, "{} was served with bytes that hash to {actual}", content.tag);
        Ok(None)
    }

    fn on_one_connection(&self) -> Repeated<'_> {
        Box::new(|connection, number| {
            let content = self.choose(number);
            let path = self.growing.path(&content);
            let answer = connection.ask(&get(&path))?;
            expect_length(&answer, content.bytes.len() as u64, &path)?;
            Ok(answer.length)
        })
    }
}

/// New manifests, whose numbers go on where the filling ended.
pub(super) struct Put<'g> {
    pub(super) growing: &'g Growing,
    pub(super) first: u64,
    pub(super) most: u64,
}

impl Operation for Put<'_> {
    fn available(&self) -> Option<u64> {
        Some(self.most)
    }

    /// Nothing: the filling has done it many times, and the reading verifies what came of it.
    fn rehearse(&self, _connection: &mut Connection<'_>) -> Result<Option<String>> {
        Ok(None)
    }

    fn on_one_connection(&self) -> Repeated<'_> {
        Box::new(|connection, number| {
            let content = Content::of(self.first + number);
            self.growing.put(connection, &content)?;
            Ok(content.bytes.len() as u64)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_is_in_one_repository_and_half_is_spread() {
        let contents: Vec<Content> = (0..1000).map(Content::of).collect();
        assert_eq!(contents.iter().filter(|content| content.spread.is_none()).count(), 500);
        for index in 0..SPREAD {
            assert_eq!(contents.iter().filter(|content| content.spread == Some(index)).count(), 5);
        }
        assert!(contents.windows(2).all(|pair| pair[0].tag < pair[1].tag && pair[0].bytes != pair[1].bytes));
        assert!(contents.iter().all(|content| content.bytes.len() == contents[0].bytes.len()));
    }

    #[test]
    fn only_what_is_there_is_read() {
        let growing = Growing::new();
        let random = RandomTag { growing: &growing, filled: 501 };
        for number in 0..2000 {
            let content = random.choose(number);
            assert!(content.spread.is_none() && content.tag <= tag(500), "{content:?}");
        }
        assert!(growing.middle_page(1000).path.ends_with("n=100&last=tag-00000500"));
    }
}

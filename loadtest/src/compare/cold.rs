//! Owns the cold pull: distinct blobs that were pushed a moment ago, each asked for once. They lie in the page cache,
//! for they were just written, but in no cache that a server fills when it is asked.

use anyhow::Result;

use crate::body::{self, Body, Segment, Sha256Digest, UniqueBodies};
use crate::case::{Operation, Repeated};
use crate::client::{Connection, Method, Request, expect_length};
use crate::setup;
use crate::subject::{Kind, Subject};
use crate::upload::{self, PushMethod};

/// Of the small ones there are more: each is pulled in a moment.
const LARGE_BYTES: u64 = 64 << 20;
const MORE_OF_SMALL: u64 = 16;
const REPOSITORY: &str = "longshore-loadtest/cold";

/// Blobs that no run before has pushed.
pub(super) struct ColdPull {
    blobs: Vec<(Body, Sha256Digest)>,
}

impl ColdPull {
    /// So many of this size, and more of them if they are small.
    pub(super) fn new(size: u64, count: u64) -> Self {
        let unique = UniqueBodies::from_clock();
        let count = if size < LARGE_BYTES { count * MORE_OF_SMALL } else { count };
        let bodies: Vec<Body> = (0..count).map(|_| unique.take(size)).collect();
        Self { blobs: body::digests(&bodies) }
    }

    /// Brings all blobs to a subject. Their digests are the ones that it was told, so that pushing verifies them.
    pub(super) fn push_to(&self, subject: &Subject) -> Result<()> {
        if let Kind::StaticFiles(files) = &subject.kind {
            return self.blobs.iter().try_for_each(|(body, digest)| files.put_blob(REPOSITORY, *body, *digest));
        }
        setup::in_parallel(&subject.target, self.blobs.len() as u64, &|connection, index| {
            let (body, digest) = self.blobs[index as usize];
            upload::push_body(connection, REPOSITORY, PushMethod::Monolithic, body, digest, &mut Segment::new())
        })
    }
}

impl ColdPull {
    /// The size of each blob.
    pub(super) fn blob_size(&self) -> u64 {
        self.blobs.first().map_or(0, |(body, _)| body.size)
    }
}

impl Operation for ColdPull {
    fn available(&self) -> Option<u64> {
        Some(self.blobs.len() as u64)
    }

    /// Nothing: a blob that has been asked for is no longer cold.
    fn rehearse(&self, _connection: &mut Connection<'_>) -> Result<Option<String>> {
        Ok(None)
    }

    fn on_one_connection(&self) -> Repeated<'_> {
        Box::new(|connection, number| {
            let (body, digest) = self.blobs[number as usize];
            let path = format!("/v2/{REPOSITORY}/blobs/{digest}");
            let request = Request { method: Method::Get, path: &path, headers: "", expected_status: 200 };
            let answer = connection.ask(&request)?;
            expect_length(&answer, body.size, &path)?;
            Ok(answer.length)
        })
    }
}

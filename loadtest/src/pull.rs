//! Owns the pulls: one blob of a size, again and again, on every connection. So they are pulls of hot content.

use anyhow::{Result, ensure};
use sha2::{Digest as _, Sha256};

use crate::body::Sha256Digest;
use crate::case::{Case, Operation, Plan, Prepared, Repeated};
use crate::client::{Connection, Method, Request, expect_length};
use crate::setup;

/// Where pulled blobs are.
pub(crate) const REPOSITORY: &str = "longshore-loadtest/pull";
/// The sizes of the blobs that are pulled again and again.
pub(crate) const BLOB_SIZES: [u64; 6] = [1 << 10, 32 << 10, 1 << 20, 64 << 20, 256 << 20, 1 << 30];

pub(crate) fn cases() -> Vec<Box<dyn Case>> {
    vec![
        Box::new(PullBlob { name: "pull-1KiB", summary: "GET a blob of 1 KiB", size: 1 << 10 }),
        Box::new(PullBlob { name: "pull-32KiB", summary: "GET a blob of 32 KiB", size: 32 << 10 }),
        Box::new(PullBlob { name: "pull-1MiB", summary: "GET a blob of 1 MiB", size: 1 << 20 }),
        Box::new(PullBlob { name: "pull-64MiB", summary: "GET a blob of 64 MiB", size: 64 << 20 }),
        Box::new(PullBlob { name: "pull-256MiB", summary: "GET a blob of 256 MiB", size: 256 << 20 }),
        Box::new(PullBlob { name: "pull-1GiB", summary: "GET a blob of 1 GiB", size: 1 << 30 }),
    ]
}

struct PullBlob {
    name: &'static str,
    summary: &'static str,
    size: u64,
}

impl Case for PullBlob {
    fn name(&self) -> &str {
        self.name
    }

    fn summary(&self) -> &str {
        self.summary
    }

    fn prepare(&self, connection: &mut Connection<'_>, _plan: &Plan) -> Result<Prepared> {
        let digest = setup::ensure_blob(connection, REPOSITORY, self.size)?;
        let path = format!("/v2/{REPOSITORY}/blobs/{digest}");
        Ok(Prepared::Ready(Box::new(BlobPull { path, digest, size: self.size })))
    }
}

struct BlobPull {
    path: String,
    digest: Sha256Digest,
    size: u64,
}

impl Operation for BlobPull {
    fn rehearse(&self, connection: &mut Connection<'_>) -> Result<Option<String>> {
        verify_blob(connection, &self.path, self.digest)?;
        // A cache that admits a blob at its second reading shall have it when the clock starts.
        self.pull(connection)?;
        Ok(None)
    }

    fn on_one_connection(&self) -> Repeated<'_> {
        Box::new(|connection, _number| self.pull(connection))
    }
}

impl BlobPull {
    fn pull(&self, connection: &mut Connection<'_>) -> Result<u64> {
        let answer = connection.ask(&get(&self.path))?;
        expect_length(&answer, self.size, &self.path)?;
        Ok(answer.length)
    }
}

/// Pulls a blob and compares its SHA-256.
pub(crate) fn verify_blob(connection: &mut Connection<'_>, path: &str, expected: Sha256Digest) -> Result<()> {
    let mut hasher = Sha256::new();
    connection.read(&get(path), &mut |piece| hasher.update(piece))?;
    let actual = Sha256Digest::finish(hasher);
    ensure!(actual == expected, "{path} was served with bytes that hash to {actual}");
    Ok(())
}

fn get(path: &str) -> Request<'_> {
    Request { method: Method::Get, path, headers: "", expected_status: 200 }
}

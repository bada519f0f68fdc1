//! Owns the pushes of blobs: a new body every time, by each of the ways that clients use.
//!
//! Bodies are chosen and hashed before the clock starts, so as many are prepared as the window may need; a window ends
//! early when they run out, and the report says so. An operation is one whole push, all its requests together.

use anyhow::Result;

use crate::body::{self, Body, Segment, Sha256Digest, UniqueBodies};
use crate::case::{Case, Operation, Plan, Prepared, Repeated};
use crate::client::Connection;
use crate::pull::verify_blob;
use crate::upload::{self, PushMethod};

const REPOSITORY: &str = "longshore-loadtest/push";
/// Bodies are prepared for pushes up to this rate: more than a disk and SHA-256 on two cores allow.
const PREPARED_BYTES_PER_SECOND: f64 = 2e9;
const PREPARED_PUSHES_PER_SECOND: f64 = 20_000.0;

pub(crate) fn cases() -> Vec<Box<dyn Case>> {
    let case = |name, summary, size, method| Box::new(PushBlob { name, summary, size, method }) as Box<dyn Case>;
    let (small, medium, layer, large) = (10 << 10, 64 << 20, 256 << 20, 1 << 30);
    vec![
        case("push-10KiB", "push new blobs of 10 KiB: POST, PUT", small, PushMethod::Monolithic),
        case("push-32KiB", "push new blobs of 32 KiB: POST, PUT", 32 << 10, PushMethod::Monolithic),
        case("push-64MiB-put", "push new blobs of 64 MiB: POST, PUT", medium, PushMethod::Monolithic),
        case("push-64MiB-patch", "push new blobs of 64 MiB: POST, one PATCH, PUT", medium, PushMethod::OnePatch),
        case("push-64MiB-chunks", "push new blobs of 64 MiB: POST, PATCHes of 8 MiB, PUT", medium, PushMethod::Chunked),
        case("push-256MiB-put", "push new blobs of 256 MiB: POST, PUT", layer, PushMethod::Monolithic),
        case("push-256MiB-patch", "push new blobs of 256 MiB: POST, one PATCH, PUT", layer, PushMethod::OnePatch),
        case("push-1GiB-put", "push new blobs of 1 GiB: POST, PUT", large, PushMethod::Monolithic),
        case("push-1GiB-patch", "push new blobs of 1 GiB: POST, one PATCH, PUT", large, PushMethod::OnePatch),
        case("push-1GiB-chunks", "push new blobs of 1 GiB: POST, PATCHes of 8 MiB, PUT", large, PushMethod::Chunked),
    ]
}

struct PushBlob {
    name: &'static str,
    summary: &'static str,
    size: u64,
    method: PushMethod,
}

impl Case for PushBlob {
    fn name(&self) -> &str {
        self.name
    }

    fn summary(&self) -> &str {
        self.summary
    }

    fn pushed_blob_size(&self) -> Option<u64> {
        Some(self.size)
    }

    fn prepare(&self, _connection: &mut Connection<'_>, plan: &Plan) -> Result<Prepared> {
        let affordable = plan.push_budget_bytes / self.size;
        let fewest = plan.operations.unwrap_or(plan.connections as u64);
        if affordable < fewest {
            let needed = (fewest * self.size).div_ceil(1 << 30);
            return Ok(Prepared::Skipped(format!(
                "would push at least {needed} GiB: allow it by --push-budget-gib {needed}"
            )));
        }
        let count = plan.operations.unwrap_or_else(|| most_in_window(self.size, plan).clamp(fewest, affordable));
        let unique = UniqueBodies::from_clock();
        let bodies: Vec<Body> = (0..count).map(|_| unique.take(self.size)).collect();
        let rehearsed = unique.take(self.size);
        let rehearsed = (rehearsed, rehearsed.digest(&mut Segment::new()));
        let prepared = body::digests(&bodies);
        Ok(Prepared::Ready(Box::new(BlobPushes { method: self.method, rehearsed, prepared })))
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive number far below 2^52")]
fn most_in_window(size: u64, plan: &Plan) -> u64 {
    let per_second = (PREPARED_BYTES_PER_SECOND / size as f64).min(PREPARED_PUSHES_PER_SECOND);
    (per_second * plan.window.as_secs_f64()).ceil() as u64
}

struct BlobPushes {
    method: PushMethod,
    rehearsed: (Body, Sha256Digest),
    /// One for each operation, by number.
    prepared: Vec<(Body, Sha256Digest)>,
}

impl Operation for BlobPushes {
    fn available(&self) -> Option<u64> {
        Some(self.prepared.len() as u64)
    }

    fn rehearse(&self, connection: &mut Connection<'_>) -> Result<Option<String>> {
        let (body, digest) = self.rehearsed;
        upload::push_body(connection, REPOSITORY, self.method, body, digest, &mut Segment::new())?;
        verify_blob(connection, &format!("/v2/{REPOSITORY}/blobs/{digest}"), digest)?;
        Ok(None)
    }

    fn on_one_connection(&self) -> Repeated<'_> {
        let mut segment = Segment::new();
        Box::new(move |connection, number| {
            let (body, digest) = self.prepared[number as usize];
            upload::push_body(connection, REPOSITORY, self.method, body, digest, &mut segment)?;
            Ok(body.size)
        })
    }

    /// The first and the last: those that ran against the fewest and the most others.
    fn audit(&self, connection: &mut Connection<'_>, operations: u64) -> Result<()> {
        let pushed = &self.prepared[..operations as usize];
        let last = pushed.last().filter(|_| operations > 1);
        for (_, digest) in [pushed.first(), last].into_iter().flatten() {
            verify_blob(connection, &format!("/v2/{REPOSITORY}/blobs/{digest}"), *digest)?;
        }
        Ok(())
    }
}

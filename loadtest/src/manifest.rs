//! Owns the small requests of every pull and push: manifests by tag and digest, the existence of a blob, `/v2/`.

use anyhow::Result;

use crate::body::{ReadyBytes, Sha256Digest, UniqueBodies};
use crate::case::{Case, Operation, Plan, Prepared, Repeated};
use crate::client::{Connection, Method, Request};
use crate::reading::{Expected, Reading};
use crate::setup::{self, ACCEPT_MANIFESTS, MANIFEST_CONTENT_TYPE};

/// The repository of the reading cases, and its tag.
pub(crate) const REPOSITORY: &str = "longshore-loadtest/manifests";
const PUT_REPOSITORY: &str = "longshore-loadtest/put-manifests";
pub(crate) const TAG: &str = "latest";
const BLOB_BYTES: u64 = 1024;
/// Manifests are prepared for pushes up to this rate.
const PREPARED_PER_SECOND: u64 = 50_000;

pub(crate) fn cases() -> Vec<Box<dyn Case>> {
    let read = |name, summary, method, what| Box::new(ReadManifest { name, summary, method, what }) as Box<dyn Case>;
    let put = |name, summary, by| Box::new(PutManifest { name, summary, by }) as Box<dyn Case>;
    vec![
        read("api-version", "GET /v2/", Method::Get, What::ApiVersion),
        read("blob-head", "HEAD a blob of 1 KiB", Method::Head, What::Blob),
        read("manifest-get-tag", "GET a manifest by tag", Method::Get, What::ManifestByTag),
        read("manifest-get-digest", "GET a manifest by digest", Method::Get, What::ManifestByDigest),
        read("manifest-head-tag", "HEAD a manifest by tag", Method::Head, What::ManifestByTag),
        read("manifest-head-digest", "HEAD a manifest by digest", Method::Head, What::ManifestByDigest),
        put("manifest-put-tag", "PUT new manifests (1.2 KiB), each by a new tag", By::Tag),
        put("manifest-put-digest", "PUT new manifests (1.2 KiB) by digest", By::Digest),
    ]
}

struct ReadManifest {
    name: &'static str,
    summary: &'static str,
    method: Method,
    what: What,
}

#[derive(Clone, Copy)]
enum What {
    ApiVersion,
    Blob,
    ManifestByTag,
    ManifestByDigest,
}

impl Case for ReadManifest {
    fn name(&self) -> &str {
        self.name
    }

    fn summary(&self) -> &str {
        self.summary
    }

    fn prepare(&self, connection: &mut Connection<'_>, _plan: &Plan) -> Result<Prepared> {
        let reading = match self.what {
            What::ApiVersion => {
                Reading { method: self.method, path: "/v2/".to_owned(), headers: "", expected: Expected::Success }
            }
            What::Blob => {
                let digest = setup::ensure_blob(connection, REPOSITORY, BLOB_BYTES)?;
                let path = format!("/v2/{REPOSITORY}/blobs/{digest}");
                let expected = Expected::Content { digest, length: BLOB_BYTES };
                Reading { method: self.method, path, headers: "", expected }
            }
            What::ManifestByTag => self.reading_of_manifest(connection, |_| TAG.to_owned())?,
            What::ManifestByDigest => self.reading_of_manifest(connection, |digest| digest.to_string())?,
        };
        Ok(Prepared::Ready(Box::new(reading)))
    }
}

impl ReadManifest {
    fn reading_of_manifest(
        &self,
        connection: &mut Connection<'_>,
        reference: impl Fn(Sha256Digest) -> String,
    ) -> Result<Reading> {
        setup::ensure_manifest_blobs(connection, REPOSITORY)?;
        let bytes = setup::manifest_bytes(TAG);
        setup::ensure_manifest(connection, REPOSITORY, TAG, &bytes)?;
        let digest = Sha256Digest::of(&bytes);
        let path = format!("/v2/{REPOSITORY}/manifests/{}", reference(digest));
        let expected = Expected::Content { digest, length: bytes.len() as u64 };
        Ok(Reading { method: self.method, path, headers: ACCEPT_MANIFESTS, expected })
    }
}

struct PutManifest {
    name: &'static str,
    summary: &'static str,
    by: By,
}

#[derive(Clone, Copy)]
enum By {
    Tag,
    Digest,
}

impl Case for PutManifest {
    fn name(&self) -> &str {
        self.name
    }

    fn summary(&self) -> &str {
        self.summary
    }

    fn prepare(&self, connection: &mut Connection<'_>, plan: &Plan) -> Result<Prepared> {
        setup::ensure_manifest_blobs(connection, PUT_REPOSITORY)?;
        let in_window = PREPARED_PER_SECOND.saturating_mul(plan.window.as_secs().max(1));
        // One more than is repeated: the rehearsal has the last.
        let count = plan.operations.unwrap_or(in_window) + 1;
        Ok(Prepared::Ready(Box::new(ManifestPuts::prepare(self.by, count))))
    }
}

/// Manifests that differ in 16 hexadecimal digits, which are also their tags.
struct ManifestPuts {
    by: By,
    template: Vec<u8>,
    /// Where in the template the digits stand.
    digits_at: usize,
    first_number: u64,
    /// One for each operation, and at the end the rehearsal's.
    digests: Vec<Sha256Digest>,
}

const PLACEHOLDER: &str = "0123456789abcdef";

impl ManifestPuts {
    fn prepare(by: By, count: u64) -> Self {
        let template = setup::manifest_bytes(PLACEHOLDER);
        let placed = template.windows(PLACEHOLDER.len()).rposition(|window| window == PLACEHOLDER.as_bytes());
        let digits_at = placed.unwrap_or_default();
        // Blocks that nobody else numbers, so that manifests are new in every run.
        let first_number = UniqueBodies::from_clock().first_number();
        let mut puts = Self { by, template, digits_at, first_number, digests: Vec::new() };
        let mut bytes = puts.template.clone();
        for number in 0..count {
            puts.write_digits(&mut bytes, number);
            puts.digests.push(Sha256Digest::of(&bytes));
        }
        puts
    }

    fn digits(&self, number: u64) -> String {
        format!("{:016x}", self.first_number.wrapping_add(number))
    }

    fn write_digits(&self, manifest: &mut [u8], number: u64) {
        manifest[self.digits_at..self.digits_at + PLACEHOLDER.len()].copy_from_slice(self.digits(number).as_bytes());
    }

    fn path(&self, number: u64) -> String {
        match self.by {
            By::Tag => format!("/v2/{PUT_REPOSITORY}/manifests/{}", self.digits(number)),
            By::Digest => format!("/v2/{PUT_REPOSITORY}/manifests/{}", self.digests[number as usize]),
        }
    }

    fn put(&self, connection: &mut Connection<'_>, manifest: &mut [u8], number: u64) -> Result<u64> {
        self.write_digits(manifest, number);
        let (path, headers) = (self.path(number), MANIFEST_CONTENT_TYPE);
        let request = Request { method: Method::Put, path: &path, headers, expected_status: 201 };
        connection.send(&request, &mut ReadyBytes(manifest))?;
        Ok(manifest.len() as u64)
    }

    fn verify(&self, connection: &mut Connection<'_>, number: u64) -> Result<()> {
        let expected = Expected::Content { digest: self.digests[number as usize], length: self.template.len() as u64 };
        let reading = Reading { method: Method::Get, path: self.path(number), headers: ACCEPT_MANIFESTS, expected };
        reading.rehearse(connection).map(|_| ())
    }

    fn rehearsal_number(&self) -> u64 {
        self.digests.len() as u64 - 1
    }
}

impl Operation for ManifestPuts {
    fn available(&self) -> Option<u64> {
        Some(self.rehearsal_number())
    }

    fn rehearse(&self, connection: &mut Connection<'_>) -> Result<Option<String>> {
        self.put(connection, &mut self.template.clone(), self.rehearsal_number())?;
        self.verify(connection, self.rehearsal_number())?;
        Ok(None)
    }

    fn on_one_connection(&self) -> Repeated<'_> {
        let mut manifest = self.template.clone();
        Box::new(move |connection, number| self.put(connection, &mut manifest, number))
    }

    /// The first and the last: those that ran against the fewest and the most others.
    fn audit(&self, connection: &mut Connection<'_>, operations: u64) -> Result<()> {
        if let Some(last) = operations.checked_sub(1) {
            self.verify(connection, 0)?;
            self.verify(connection, last)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_that_are_put_differ_and_have_the_digests_prepared_for_them() {
        let puts = ManifestPuts::prepare(By::Tag, 3);
        let mut manifest = puts.template.clone();
        for number in 0..3 {
            puts.write_digits(&mut manifest, number);
            assert_eq!(Sha256Digest::of(&manifest), puts.digests[number as usize]);
            let parsed: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
            assert_eq!(parsed["annotations"]["dev.longshore.loadtest"], puts.digits(number));
        }
        assert_ne!(puts.digests[0], puts.digests[1]);
        assert_eq!(puts.available(), Some(2));
    }
}

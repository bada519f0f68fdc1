//! Owns the content that cases need to find in a registry. It is pushed once, unmeasured, and is the same in every
//! run, so a second run (or a server that serves the same files from a directory) finds it there.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;

use crate::body::{Body, ReadyBytes, Segment, Sha256Digest};
use crate::client::{Connection, Method, Request};
use crate::target::Target;
use crate::upload::{self, PushMethod};

/// What every client says it understands; some registries answer 404 to one that does not.
pub(crate) const ACCEPT_MANIFESTS: &str = "Accept: application/vnd.oci.image.manifest.v1+json, \
    application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.list.v2+json\r\n";
/// The type of every manifest here.
pub(crate) const MANIFEST_CONTENT_TYPE: &str = "Content-Type: application/vnd.oci.image.manifest.v1+json\r\n";

/// How many tags [`MANY_TAGS_REPOSITORY`] has.
pub(crate) const MANY_TAGS: u64 = 10_000;
/// The repository of the tag listing cases.
pub(crate) const MANY_TAGS_REPOSITORY: &str = "longshore-loadtest/many-tags";
/// How many repositories the catalog cases find at least.
pub(crate) const MANY_REPOSITORIES: u64 = 1_000;

/// The config of every manifest here.
pub(crate) const CONFIG: &[u8] = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
const LAYERS: u64 = 5;
const SMALLEST_LAYER_BYTES: u64 = 1024;
/// Setup is done on so many connections, whatever the case asks for.
const SETUP_CONNECTIONS: u64 = 16;
const SETUP_LIMIT: Duration = Duration::from_secs(20 * 60);

/// When anything unmeasured that begins now must have ended.
pub(crate) fn setup_deadline() -> Instant {
    Instant::now() + SETUP_LIMIT
}

/// Makes sure that a repository holds the fixed body of this size, and answers its digest.
pub(crate) fn ensure_blob(connection: &mut Connection<'_>, repository: &str, size: u64) -> Result<Sha256Digest> {
    let digest = fixed_digest(size);
    if !connection.exists(&format!("/v2/{repository}/blobs/{digest}"), "")? {
        let (body, mut segment) = (Body::fixed(size), Segment::new());
        upload::push_body(connection, repository, PushMethod::Monolithic, body, digest, &mut segment)?;
    }
    Ok(digest)
}

/// The digest of the fixed body of this size. Hashed once: a comparison asks for it again for every subject and round.
pub(crate) fn fixed_digest(size: u64) -> Sha256Digest {
    static KNOWN: LazyLock<Mutex<HashMap<u64, Sha256Digest>>> = LazyLock::new(Mutex::default);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    *known.entry(size).or_insert_with(|| Body::fixed(size).digest(&mut Segment::new()))
}

/// Makes sure that a repository holds what [`manifest_bytes`] names.
pub(crate) fn ensure_manifest_blobs(connection: &mut Connection<'_>, repository: &str) -> Result<()> {
    ensure_config(connection, repository)?;
    for size in layer_sizes() {
        ensure_blob(connection, repository, size)?;
    }
    Ok(())
}

/// The sizes of the fixed bodies that [`manifest_bytes`] names as layers.
pub(crate) fn layer_sizes() -> impl Iterator<Item = u64> {
    (0..LAYERS).map(|layer| SMALLEST_LAYER_BYTES + layer)
}

/// An image manifest of the common size: a config, five layers, and an annotation that makes it one of its own.
pub(crate) fn manifest_bytes(annotation: &str) -> Vec<u8> {
    let mut layers = Vec::new();
    for size in layer_sizes() {
        let digest = fixed_digest(size).to_string();
        let media_type = "application/vnd.oci.image.layer.v1.tar+gzip";
        layers.push(json!({"mediaType": media_type, "digest": digest, "size": size}));
    }
    manifest_of(&layers, annotation)
}

/// Makes sure that a tag points at the manifest with these bytes, whose blobs are there.
pub(crate) fn ensure_manifest(
    connection: &mut Connection<'_>,
    repository: &str,
    tag: &str,
    bytes: &[u8],
) -> Result<()> {
    let path = format!("/v2/{repository}/manifests/{tag}");
    if connection.exists(&path, ACCEPT_MANIFESTS)? {
        return Ok(());
    }
    put_manifest(connection, &path, bytes)
}

/// Makes sure that [`MANY_TAGS_REPOSITORY`] has its tags, each on a manifest of its own.
pub(crate) fn ensure_many_tags(connection: &mut Connection<'_>) -> Result<()> {
    let last = MANY_TAGS - 1;
    let path = |index: u64| format!("/v2/{MANY_TAGS_REPOSITORY}/manifests/{}", tag_name(index));
    // The last tag is put when all others are there, so it tells whether an earlier setup came to its end.
    if connection.exists(&path(last), ACCEPT_MANIFESTS)? {
        return Ok(());
    }
    ensure_config(connection, MANY_TAGS_REPOSITORY)?;
    let put = |connection: &mut Connection<'_>, index: u64| {
        put_manifest(connection, &path(index), &many_tags_manifest(index))
    };
    in_parallel(connection.target(), last, &put)?;
    put(connection, last)
}

/// The manifest that the tag with this index in [`MANY_TAGS_REPOSITORY`] points at.
pub(crate) fn many_tags_manifest(index: u64) -> Vec<u8> {
    manifest_of(&[], &index.to_string())
}

/// The tag with this index in [`MANY_TAGS_REPOSITORY`]. Tags sort by index.
pub(crate) fn tag_name(index: u64) -> String {
    format!("tag-{index:05}")
}

/// Makes sure that the registry holds many repositories, each with one tagged manifest.
pub(crate) fn ensure_many_repositories(connection: &mut Connection<'_>) -> Result<()> {
    let last = MANY_REPOSITORIES - 1;
    let path = |index: u64| format!("/v2/{}/manifests/latest", repository_name(index));
    if connection.exists(&path(last), ACCEPT_MANIFESTS)? {
        return Ok(());
    }
    let put = |connection: &mut Connection<'_>, index: u64| {
        ensure_config(connection, &repository_name(index))?;
        put_manifest(connection, &path(index), &manifest_of(&[], &index.to_string()))
    };
    in_parallel(connection.target(), last, &put)?;
    put(connection, last)
}

/// The repository with this index among the many. They sort by index.
pub(crate) fn repository_name(index: u64) -> String {
    format!("longshore-loadtest/catalog/repository-{index:05}")
}

/// Makes sure that a repository holds [`CONFIG`].
pub(crate) fn ensure_config(connection: &mut Connection<'_>, repository: &str) -> Result<()> {
    let digest = Sha256Digest::of(CONFIG);
    if !connection.exists(&format!("/v2/{repository}/blobs/{digest}"), "")? {
        upload::push_bytes(connection, repository, CONFIG)?;
    }
    Ok(())
}

/// Puts a manifest at a path whose blobs are there.
pub(crate) fn put_manifest(connection: &mut Connection<'_>, path: &str, bytes: &[u8]) -> Result<()> {
    let request = Request { method: Method::Put, path, headers: MANIFEST_CONTENT_TYPE, expected_status: 201 };
    connection.send(&request, &mut ReadyBytes(bytes)).map(|_| ())
}

/// An image manifest with these layers, made one of its own by the annotation.
pub(crate) fn manifest_of(layers: &[serde_json::Value], annotation: &str) -> Vec<u8> {
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": Sha256Digest::of(CONFIG).to_string(),
            "size": CONFIG.len(),
        },
        "layers": layers,
        "annotations": {"dev.longshore.loadtest": annotation},
    });
    manifest.to_string().into_bytes()
}

/// Does the work for every index below `count`, on several connections, up to the first error.
pub(crate) fn in_parallel(
    target: &Target,
    count: u64,
    work: &(dyn Fn(&mut Connection<'_>, u64) -> Result<()> + Sync),
) -> Result<()> {
    in_parallel_until(target, 0..count, setup_deadline(), work)
}

/// The same for the indices of a range, up to a moment.
pub(crate) fn in_parallel_until(
    target: &Target,
    indices: Range<u64>,
    deadline: Instant,
    work: &(dyn Fn(&mut Connection<'_>, u64) -> Result<()> + Sync),
) -> Result<()> {
    let next = AtomicU64::new(indices.start);
    let (first, count) = (indices.start, indices.end);
    let repeat = || -> Result<()> {
        let mut connection = Connection::new(target, deadline);
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                return Ok(());
            }
            if let Err(error) = work(&mut connection, index) {
                // Nobody begins another one.
                next.store(count, Ordering::Relaxed);
                return Err(error);
            }
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> =
            (0..SETUP_CONNECTIONS.min(count.saturating_sub(first))).map(|_| scope.spawn(repeat)).collect();
        let mut outcome = Ok(());
        for worker in workers {
            let result = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            outcome = outcome.and(result);
        }
        outcome
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_differ_by_their_annotation_alone() {
        let (first, second) = (manifest_bytes("0001"), manifest_bytes("0002"));
        assert_eq!(first.len(), second.len());
        assert_ne!(first, second);
        let parsed: serde_json::Value = serde_json::from_slice(&first).unwrap();
        assert_eq!(parsed["layers"].as_array().unwrap().len(), 5);
        assert_eq!(first, manifest_bytes("0001"), "a later run makes the same bytes");
    }

    #[test]
    fn parallel_work_is_done_once_for_each_index_and_ends_at_an_error() {
        let target = Target::parse("http://127.0.0.1:1", None).unwrap();
        let sum = AtomicU64::new(0);
        in_parallel(&target, 1000, &|_, index| {
            sum.fetch_add(index, Ordering::Relaxed);
            Ok(())
        })
        .unwrap();
        assert_eq!(sum.into_inner(), 999 * 1000 / 2);

        let failing = |_: &mut Connection<'_>, index: u64| {
            anyhow::ensure!(index != 7, "seven");
            Ok(())
        };
        assert_eq!(in_parallel(&target, 1000, &failing).unwrap_err().to_string(), "seven");
    }
}

//! What clients know, and so what must hold.

use crate::{
    clock::BEGIN,
    collection::Collection,
    operation::{BLOBS, MANIFESTS, REPOSITORIES, TAGS},
    restore::Backup,
    world::{INLINE, PROMISE, UNDO},
};
use longshore_oci::{Algorithm, Digest, RepositoryName, Tag};
use serde_json::json;
use std::{sync::LazyLock, time::Duration};

/// A manifest, its blobs, its children and its subject by their numbers.
pub(crate) struct Specimen {
    pub(crate) digest: Digest,
    pub(crate) body: Vec<u8>,
    pub(crate) media_type: &'static str,
    pub(crate) blobs: Vec<usize>,
    pub(crate) children: Vec<usize>,
    pub(crate) subject: Option<usize>,
}

const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// The bytes of a blob: some are in their rows, some are objects.
pub(crate) fn content(blob: usize) -> Vec<u8> {
    let text = format!("blob {blob} ");
    if blob.is_multiple_of(3) { text.into_bytes() } else { text.repeat(INLINE).into_bytes() }
}

pub(crate) fn digest(blob: usize) -> Digest {
    Digest::of(Algorithm::Sha256, &content(blob))
}

pub(crate) fn repository(number: usize) -> RepositoryName {
    ["app", "team/app", "other"][number].parse().unwrap()
}

pub(crate) fn tag(number: usize) -> Tag {
    ["latest", "v1", "v2"][number].parse().unwrap()
}

/// Images of one to three blobs; images that share; indexes of images, one of an index; referrers of an image and an index.
pub(crate) static MANIFEST: LazyLock<Vec<Specimen>> = LazyLock::new(|| {
    let mut all: Vec<Specimen> = Vec::new();
    for blobs in [vec![0, 1], vec![0, 1, 2], vec![3, 4], vec![5], vec![2, 6]] {
        all.push(image(blobs, None, &all));
    }
    for children in [vec![0, 1], vec![2, 3], vec![5, 4]] {
        all.push(index(children, &all));
    }
    for (subject, blobs) in [(0, vec![7]), (5, vec![7, 3])] {
        all.push(image(blobs, Some(subject), &all));
    }
    assert_eq!(all.len(), MANIFESTS);
    all
});

fn image(blobs: Vec<usize>, subject: Option<usize>, all: &[Specimen]) -> Specimen {
    let blob = |blob: &usize| json!({ "mediaType": "application/octet-stream", "digest": digest(*blob).to_string(), "size": content(*blob).len() });
    let mut manifest = json!({
        "schemaVersion": 2, "mediaType": IMAGE, "config": blob(&blobs[0]),
        "layers": blobs[1..].iter().map(blob).collect::<Vec<_>>(),
    });
    if let Some(subject) = subject {
        manifest["subject"] = descriptor(&all[subject]);
    }
    specimen(IMAGE, &manifest, blobs, Vec::new(), subject)
}

fn index(children: Vec<usize>, all: &[Specimen]) -> Specimen {
    let manifests: Vec<_> = children.iter().map(|child| descriptor(&all[*child])).collect();
    let manifest = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
    specimen(INDEX, &manifest, Vec::new(), children, None)
}

fn descriptor(of: &Specimen) -> serde_json::Value {
    json!({ "mediaType": of.media_type, "digest": of.digest.to_string(), "size": of.body.len() })
}

fn specimen(
    media_type: &'static str,
    manifest: &serde_json::Value,
    blobs: Vec<usize>,
    children: Vec<usize>,
    subject: Option<usize>,
) -> Specimen {
    let body = manifest.to_string().into_bytes();
    Specimen { digest: Digest::of(Algorithm::Sha256, &body), body, media_type, blobs, children, subject }
}

/// What is known of a repository's hold on a blob.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Grant {
    /// Somebody got it here; otherwise it must not be found.
    pub(crate) may_be: bool,
    /// Until then it must be.
    pub(crate) promised: Duration,
}

/// What is known of a manifest in a repository.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Presence {
    /// Somebody pushed it here; otherwise it must not be found.
    pub(crate) may_be: bool,
    /// Until then it must be, since it was pushed, or lost what kept it, not long ago.
    pub(crate) until: Duration,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Repository {
    pub(crate) grants: [Grant; BLOBS],
    pub(crate) manifests: [Presence; MANIFESTS],
    pub(crate) tags: [Option<usize>; TAGS],
}

/// All that clients know, and whoever looks after the registry. Times are as the database tells them.
#[derive(Debug)]
pub(crate) struct Expected {
    pub(crate) now: Duration,
    pub(crate) repositories: [Repository; REPOSITORIES],
    /// Blobs that nobody can read until they are pushed anew.
    pub(crate) is_damaged: [bool; BLOBS],
    pub(crate) collection: Collection,
    pub(crate) backup: Option<Backup>,
}

impl Expected {
    pub(crate) fn new() -> Self {
        let collection = Collection::new(BEGIN);
        Self { now: BEGIN, repositories: Default::default(), is_damaged: [false; BLOBS], collection, backup: None }
    }

    /// A client was told that the blob is there.
    pub(crate) fn promise(&mut self, repository: usize, blob: usize) {
        let until = self.now + PROMISE;
        let grant = &mut self.repositories[repository].grants[blob];
        *grant = Grant { may_be: true, promised: grant.promised.max(until) };
    }

    pub(crate) fn touch(&mut self, repository: usize, manifest: usize) {
        self.repositories[repository].manifests[manifest].until = self.now + UNDO;
    }

    /// What must have been there at a time, by the clock of that time, is promised anew.
    pub(crate) fn promise_anew(&mut self, then: Duration) {
        let until = self.now + PROMISE;
        for known in &mut self.repositories {
            let before = known.clone();
            for manifest in (0..MANIFESTS).filter(|manifest| before.must_have(*manifest, then)) {
                known.manifests[manifest].until = known.manifests[manifest].until.max(until);
            }
            for blob in (0..BLOBS).filter(|blob| before.must_hold(*blob, then)) {
                known.grants[blob].promised = known.grants[blob].promised.max(until);
            }
        }
    }

    /// The clock said another time just before, and nothing goes until the collector has waited for what was promised. What had
    /// ended by then does not begin again where the clock went back.
    pub(crate) fn clock_moved(&mut self, before: Duration) {
        let ends = self.now + PROMISE;
        let until = |must_be: bool| if must_be { ends } else { Duration::ZERO };
        for known in &mut self.repositories {
            let was = known.clone();
            for (number, manifest) in known.manifests.iter_mut().enumerate() {
                manifest.until = until(was.must_have(number, before));
            }
            for (number, grant) in known.grants.iter_mut().enumerate() {
                grant.promised = until(was.must_hold(number, before));
            }
        }
    }

    /// The manifest went by a client's wish: what it kept is kept no longer since now.
    pub(crate) fn manifest_deleted(&mut self, repository: usize, manifest: usize) {
        let specimen = &MANIFEST[manifest];
        for child in &specimen.children {
            self.touch(repository, *child);
        }
        for (number, referrer) in MANIFEST.iter().enumerate() {
            if referrer.subject == Some(manifest) {
                self.touch(repository, number);
            }
        }
        for blob in &specimen.blobs {
            if self.repositories[repository].grants[*blob].may_be {
                self.promise(repository, *blob);
            }
        }
        let known = &mut self.repositories[repository];
        known.manifests[manifest].may_be = false;
        for tag in &mut known.tags {
            tag.take_if(|named| *named == manifest);
        }
    }
}

impl Repository {
    /// Whether the manifest must be there: a tag, an index or its subject that must be there keeps it, or it was touched not
    /// long ago.
    pub(crate) fn must_have(&self, manifest: usize, now: Duration) -> bool {
        let known = self.manifests[manifest];
        let is_kept = || {
            let is_tagged = self.tags.contains(&Some(manifest));
            let parents = MANIFEST.iter().enumerate().filter(|(_, parent)| parent.children.contains(&manifest));
            is_tagged
                || parents.into_iter().any(|(number, _)| self.must_have(number, now))
                || MANIFEST[manifest].subject.is_some_and(|subject| self.must_have(subject, now))
        };
        known.may_be && (now < known.until || is_kept())
    }

    /// Whether the blob must be there: it is promised, or a manifest that must be there needs it.
    pub(crate) fn must_hold(&self, blob: usize, now: Duration) -> bool {
        let users = MANIFEST.iter().enumerate().filter(|(_, manifest)| manifest.blobs.contains(&blob));
        now < self.grants[blob].promised || users.into_iter().any(|(number, _)| self.must_have(number, now))
    }

    /// Manifests that tags keep, with all that these keep.
    pub(crate) fn kept_by_tags(&self) -> Vec<usize> {
        let mut kept: Vec<usize> = (0..MANIFESTS).filter(|manifest| self.tags.contains(&Some(*manifest))).collect();
        let mut next = 0;
        while let Some(keeper) = kept.get(next).copied() {
            next += 1;
            let referrers = (0..MANIFESTS).filter(|number| MANIFEST[*number].subject == Some(keeper));
            let found: Vec<usize> = MANIFEST[keeper].children.iter().copied().chain(referrers).collect();
            kept.extend(found.into_iter().filter(|manifest| self.manifests[*manifest].may_be));
            let mut seen = std::collections::HashSet::new();
            kept.retain(|manifest| seen.insert(*manifest));
        }
        kept.sort_unstable();
        kept
    }
}

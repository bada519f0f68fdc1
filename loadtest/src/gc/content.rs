//! Owns the content of a registry half of which is deleted: images that share nothing, each with a tag, in one repository.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::readers::{Corpus, Wanted};
use crate::body::{Sha256Digest, splitmix64};
use crate::client::{Connection, Method, Request};
use crate::setup::{self, ACCEPT_MANIFESTS};
use crate::upload;

const REPOSITORY: &str = "longshore-loadtest/gc";
/// Of each image: a configuration and two layers.
pub(super) const BLOBS: u64 = 3;

/// Images with blobs of one size. Those with an even number are deleted.
pub(super) struct Images {
    blob_bytes: u64,
    images: Vec<Image>,
}

struct Image {
    manifest: Vec<u8>,
    digest: Sha256Digest,
    blobs: Vec<Sha256Digest>,
}

impl Images {
    /// So many; all that is asked for while the clock runs is made now.
    pub(super) fn new(count: u64, blob_bytes: u64) -> Self {
        Self { blob_bytes, images: (0..count).map(|number| Image::new(number, blob_bytes)).collect() }
    }

    pub(super) fn count(&self) -> u64 {
        self.images.len() as u64
    }

    /// How many are deleted.
    pub(super) fn doomed(&self) -> u64 {
        self.count().div_ceil(2)
    }

    /// Whether its blobs are larger than this.
    pub(super) fn has_blobs_above(&self, bytes: u64) -> bool {
        self.blob_bytes > bytes
    }

    fn image(&self, number: u64) -> &Image {
        &self.images[number as usize]
    }

    /// Pushes an image, its blobs first.
    pub(super) fn push(&self, connection: &mut Connection<'_>, number: u64) -> Result<()> {
        for index in 0..BLOBS {
            upload::push_bytes(connection, REPOSITORY, &blob_of(number, index, self.blob_bytes))?;
        }
        setup::put_manifest(connection, &by_tag(number), &self.image(number).manifest)
    }

    /// Deletes one that is to be deleted, by its digest.
    pub(super) fn delete(&self, connection: &mut Connection<'_>, index: u64) -> Result<()> {
        let path = by_digest(self.image(2 * index));
        connection.ask(&Request { method: Method::Delete, path: &path, headers: "", expected_status: 202 }).map(|_| ())
    }

    /// Reads some images of both halves: every byte of what was kept, and that what was deleted is not there.
    pub(super) fn verify(&self, connection: &mut Connection<'_>, every: u64) -> Result<()> {
        for number in (0..self.count()).filter(|number| (number / 2).is_multiple_of(every)) {
            let image = self.image(number);
            if number.is_multiple_of(2) {
                ensure!(!connection.exists(&by_digest(image), ACCEPT_MANIFESTS)?, "image {number} is still there");
                continue;
            }
            let manifest = (by_tag(number), image.digest);
            let blobs = image.blobs.iter().map(|digest| (blob(digest), *digest));
            for (path, expected) in [manifest].into_iter().chain(blobs) {
                let mut body = Vec::new();
                let headers = ACCEPT_MANIFESTS;
                let request = Request { method: Method::Get, path: &path, headers, expected_status: 200 };
                connection.read(&request, &mut |piece| body.extend_from_slice(piece))?;
                let actual = Sha256Digest::of(&body);
                ensure!(actual == expected, "{path} was served with bytes that hash to {actual}");
            }
        }
        Ok(())
    }
}

impl Image {
    fn new(number: u64, blob_bytes: u64) -> Self {
        let blobs: Vec<_> = (0..BLOBS).map(|index| Sha256Digest::of(&blob_of(number, index, blob_bytes))).collect();
        let layers = blobs[1..].iter().map(|digest| descriptor("layer.v1.tar+gzip", digest, blob_bytes));
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("config.v1+json", &blobs[0], blob_bytes),
            "layers": layers.collect::<Vec<_>>(),
        });
        let manifest = manifest.to_string().into_bytes();
        Self { digest: Sha256Digest::of(&manifest), manifest, blobs }
    }
}

fn descriptor(kind: &str, digest: &Sha256Digest, size: u64) -> Value {
    let media_type = format!("application/vnd.oci.image.{kind}");
    json!({"mediaType": media_type, "digest": digest.to_string(), "size": size})
}

/// The bytes of a blob: no other has the same.
fn blob_of(number: u64, index: u64, bytes: u64) -> Vec<u8> {
    let mut state = number * BLOBS + index;
    let words = (0..bytes.div_ceil(8)).flat_map(|_| splitmix64(&mut state).to_le_bytes());
    words.take(bytes as usize).collect()
}

impl Corpus for Images {
    fn choose(&self, random: u64) -> Vec<Wanted> {
        let number = random % (self.count() / 2) * 2 + 1;
        let image = self.image(number);
        let manifest = Wanted { path: by_tag(number), headers: ACCEPT_MANIFESTS, length: image.manifest.len() as u64 };
        let blobs =
            image.blobs.iter().map(|digest| Wanted { path: blob(digest), headers: "", length: self.blob_bytes });
        [manifest].into_iter().chain(blobs).collect()
    }
}

fn by_tag(number: u64) -> String {
    format!("/v2/{REPOSITORY}/manifests/image-{number}")
}

fn by_digest(image: &Image) -> String {
    format!("/v2/{REPOSITORY}/manifests/{}", image.digest)
}

fn blob(digest: &Sha256Digest) -> String {
    format!("/v2/{REPOSITORY}/blobs/{digest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_share_nothing_and_only_what_is_kept_is_read() {
        let images = Images::new(11, 21);
        let mut digests: Vec<String> =
            images.images.iter().flat_map(|image| &image.blobs).map(ToString::to_string).collect();
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), 33);
        assert_eq!(images.doomed(), 6);
        for random in 0..100 {
            let wanted = images.choose(random);
            assert_eq!((wanted.len(), wanted[1].length), (4, 21));
            let number: u64 = wanted[0].path.rsplit_once('-').unwrap().1.parse().unwrap();
            assert!(number % 2 == 1 && number < 11, "{number}");
        }
    }
}

//! Owns the content that a trace finds when it begins: everything that it pulls before anybody pushes it.

use std::collections::HashSet;
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::catalog::{Catalog, Place};
use super::entry::{Action, Kind};
use crate::body::{self, Body, Segment, Sha256Digest, UniqueBodies};
use crate::client::Connection;
use crate::setup;
use crate::target::Target;
use crate::upload::{self, PushMethod};

/// A manifest longer than this some registries refuse.
const MOST_MANIFEST_BYTES: u64 = 4 << 20;

/// How the trace's sizes become those that are moved.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    pub(super) factor: f64,
    /// No blob is larger.
    pub(super) largest: u64,
}

impl Scale {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, and cut to a size")]
    pub(super) fn of(self, bytes: u64) -> u64 {
        ((bytes as f64 * self.factor).round() as u64).clamp(1, self.largest)
    }
}

/// What is pushed and pulled: a body for each content, and names for each place.
pub(super) struct Stock {
    catalog: Catalog,
    /// By content; those that are no blobs have an empty one.
    bodies: Vec<(Body, Sha256Digest)>,
    /// By place: what a GET of it moves.
    bytes: Vec<u64>,
}

impl Stock {
    /// Makes bodies of the trace's sizes, scaled, that no run before has pushed, and hashes them.
    pub(super) fn new(catalog: Catalog, scale: Scale) -> Self {
        let unique = UniqueBodies::from_clock();
        let sizes = catalog.blob_sizes();
        let bodies: Vec<Body> =
            sizes.iter().map(|size| unique.take(if *size == 0 { 0 } else { scale.of(*size) })).collect();
        let mut stock = Self { bodies: body::digests(&bodies), catalog, bytes: Vec::new() };
        stock.bytes = (0..stock.catalog.places().len() as u32).map(|number| stock.bytes_to_be(number)).collect();
        stock
    }

    pub(super) fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    fn place(&self, number: u32) -> &Place {
        &self.catalog.places()[number as usize]
    }

    pub(super) fn kind(&self, number: u32) -> Kind {
        self.place(number).kind
    }

    /// Whether it is pushed before the replay.
    pub(super) fn is_there_first(&self, number: u32) -> bool {
        self.place(number).first == Action::Get
    }

    pub(super) fn content(&self, number: u32) -> u32 {
        self.place(number).content
    }

    fn body(&self, number: u32) -> (Body, Sha256Digest) {
        self.bodies[self.place(number).content as usize]
    }

    /// What a GET of it moves.
    pub(super) fn bytes(&self, number: u32) -> u64 {
        self.bytes[number as usize]
    }

    fn bytes_to_be(&self, number: u32) -> u64 {
        match self.kind(number) {
            Kind::Blob => self.body(number).0.size,
            Kind::Manifest => self.manifest(number).len() as u64,
        }
    }

    pub(super) fn path(&self, number: u32) -> String {
        let repository = self.repository(number);
        match self.kind(number) {
            Kind::Blob => format!("/v2/{repository}/blobs/{}", self.body(number).1),
            Kind::Manifest => format!("/v2/{repository}/manifests/m{number}"),
        }
    }

    fn repository(&self, number: u32) -> String {
        repository_name(self.place(number).repository)
    }

    /// An image manifest that names its layers, as long as the trace says where that is longer.
    fn manifest(&self, number: u32) -> Vec<u8> {
        let layer = |layer: &u32| -> Value {
            let (body, digest) = self.body(*layer);
            let media_type = "application/vnd.oci.image.layer.v1.tar+gzip";
            json!({"mediaType": media_type, "digest": digest.to_string(), "size": body.size})
        };
        let layers: Vec<Value> = self.catalog.layers_of(number).iter().map(layer).collect();
        let name = format!("m{number}");
        let bytes = setup::manifest_of(&layers, &name);
        let wanted = self.place(number).bytes.min(MOST_MANIFEST_BYTES);
        let missing = usize::try_from(wanted.saturating_sub(bytes.len() as u64)).unwrap_or(0);
        if missing == 0 { bytes } else { setup::manifest_of(&layers, &(name + &" ".repeat(missing))) }
    }

    /// Pushes one place.
    pub(super) fn push(&self, connection: &mut Connection<'_>, segment: &mut Segment, number: u32) -> Result<u64> {
        match self.kind(number) {
            Kind::Blob => {
                let (body, digest) = self.body(number);
                let repository = self.repository(number);
                upload::push_body(connection, &repository, PushMethod::OnePatch, body, digest, segment)?;
                Ok(body.size)
            }
            Kind::Manifest => {
                let bytes = self.manifest(number);
                setup::put_manifest(connection, &self.path(number), &bytes)?;
                Ok(bytes.len() as u64)
            }
        }
    }

    /// How much is pushed before the replay, in bytes, each content once.
    pub(super) fn warm_up_bytes(&self) -> u64 {
        self.blobs_by_first_place().0.iter().map(|number| self.body(*number).0.size).sum()
    }

    /// The blobs to be there first: one place of each content, and the further places of the same.
    fn blobs_by_first_place(&self) -> (Vec<u32>, Vec<(u32, u32)>) {
        let mut first_place = vec![None; self.bodies.len()];
        let (mut pushed, mut mounted) = (Vec::new(), Vec::new());
        for number in (0..self.catalog.places().len() as u32).filter(|number| self.is_there_first(*number)) {
            if self.kind(number) == Kind::Blob {
                match &mut first_place[self.content(number) as usize] {
                    Some(first) => mounted.push((number, *first)),
                    first => {
                        *first = Some(number);
                        pushed.push(number);
                    }
                }
            }
        }
        (pushed, mounted)
    }

    /// Brings a registry to where the trace begins: blobs, then manifests.
    pub(super) fn warm_up(&self, target: &Target, deadline: Instant) -> Result<()> {
        let (pushed, mounted) = self.blobs_by_first_place();
        let each = |count: usize, work: &(dyn Fn(&mut Connection<'_>, usize) -> Result<()> + Sync)| {
            setup::in_parallel_until(target, 0..count as u64, deadline, &|connection, index| {
                work(connection, index as usize)
            })
        };
        each(pushed.len(), &|connection, index| self.push(connection, &mut Segment::new(), pushed[index]).map(|_| ()))
            .context("cannot push the trace's blobs")?;
        each(mounted.len(), &|connection, index| self.mount(connection, mounted[index]))
            .context("cannot mount the trace's blobs")?;
        let places = self.catalog.places();
        let with_manifests = places.iter().filter(|place| place.kind == Kind::Manifest).map(|place| place.repository);
        let repositories: Vec<u32> = with_manifests.collect::<HashSet<_>>().into_iter().collect();
        each(repositories.len(), &|connection, index| {
            setup::ensure_config(connection, &repository_name(repositories[index]))
        })
        .context("cannot push configs")?;
        let manifests: Vec<u32> = (0..places.len() as u32)
            .filter(|number| self.kind(*number) == Kind::Manifest && self.is_there_first(*number))
            .collect();
        each(manifests.len(), &|connection, index| {
            self.push(connection, &mut Segment::new(), manifests[index]).map(|_| ())
        })
        .context("cannot push the trace's manifests")
    }

    fn mount(&self, connection: &mut Connection<'_>, (number, from): (u32, u32)) -> Result<()> {
        let (_, digest) = self.body(number);
        if upload::mount(connection, &self.repository(number), digest, &self.repository(from))? {
            return Ok(());
        }
        self.push(connection, &mut Segment::new(), number).map(|_| ())
    }
}

/// The trace's own names may be none that a registry takes.
fn repository_name(number: u32) -> String {
    format!("longshore-loadtest/trace/r{number}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::entry::Request;
    use crate::trace::timestamp::Timestamp;

    fn stock(scale: Scale) -> Stock {
        let mut catalog = Catalog::default();
        let rows = [(Kind::Manifest, "m", 2000), (Kind::Blob, "x", 10_000), (Kind::Blob, "y", 50)];
        for repository in ["a/b", "c/d"] {
            for (kind, id, bytes) in rows {
                let (repository, id, client) = (repository.to_owned(), id.to_owned(), "alice".to_owned());
                catalog.add(Request { at: Timestamp(0), action: Action::Get, kind, repository, id, client, bytes });
            }
        }
        Stock::new(catalog, scale)
    }

    #[test]
    fn sizes_are_scaled_and_never_nothing() {
        let scale = Scale { factor: 0.01, largest: 1000 };
        assert_eq!([10_000, 50, 10_000_000].map(|bytes| scale.of(bytes)), [100, 1, 1000]);
        let stock = stock(scale);
        assert_eq!((stock.bytes(1), stock.bytes(2)), (100, 1));
    }

    #[test]
    fn a_blob_in_two_repositories_is_pushed_once_and_mounted() {
        let stock = stock(Scale { factor: 1.0, largest: u64::MAX });
        assert_eq!(stock.blobs_by_first_place(), (vec![1, 2], vec![(4, 1), (5, 2)]));
        assert_eq!(stock.warm_up_bytes(), 10_050);
        assert_eq!(stock.path(1).replace("/r0/", "/r1/"), stock.path(4));
    }

    #[test]
    fn a_manifest_names_its_layers_and_is_as_long_as_in_the_trace() {
        let stock = stock(Scale { factor: 0.1, largest: u64::MAX });
        let bytes = stock.manifest(0);
        assert_eq!(bytes.len(), 2000);
        let manifest: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(manifest["layers"].as_array().unwrap().len(), 2);
        assert_eq!(manifest["layers"][0]["size"], 1000);
        assert!(stock.path(1).ends_with(manifest["layers"][0]["digest"].as_str().unwrap()));
    }
}

//! Owns what a trace is about: its blobs and manifests, their sizes, and which layers a manifest names.
//!
//! Traces do not tell what is in a manifest. The layers that a client asks for in the same repository after a manifest,
//! before its next one, are taken for that manifest's; of a push, those that the client brought before it.

use std::collections::HashMap;

use super::entry::{Action, Kind, Request};

/// No manifest names more layers than this.
const MOST_LAYERS: usize = 127;

/// Strings and their numbers, in the order in which they were first seen.
#[derive(Debug, Default)]
struct Names(HashMap<String, u32>);

impl Names {
    fn number(&mut self, name: String) -> u32 {
        let next = self.0.len() as u32;
        *self.0.entry(name).or_insert(next)
    }

    fn find(&self, name: &str) -> Option<u32> {
        self.0.get(name).copied()
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}

/// A blob or manifest in a repository: what a URI of the trace names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) kind: Kind,
    pub(super) repository: u32,
    /// Of a blob: which content. The same blob may be in several repositories.
    pub(super) content: u32,
    /// How the trace begins with it: what is pulled first was there before.
    pub(super) first: Action,
    /// The most that was moved of it: transfers that were cut off moved less.
    pub(super) bytes: u64,
}

/// What a client was last seen doing.
#[derive(Debug, Default)]
struct Visit {
    /// The manifest that it pulled, if its layers are not known yet.
    pulled: Option<u32>,
    /// The blobs that it has pushed since its last manifest.
    pushed: Vec<u32>,
}

/// All places of a trace, by number.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    repositories: Names,
    contents: Names,
    clients: Names,
    numbers: HashMap<(u32, Kind, u32), u32>,
    places: Vec<Place>,
    /// The largest size of each content.
    content_bytes: Vec<u64>,
    /// Of manifests: the blobs that they name.
    layers: HashMap<u32, Vec<u32>>,
    visits: HashMap<u32, Visit>,
}

impl Catalog {
    /// Takes the next request of the trace.
    pub(super) fn add(&mut self, request: Request) {
        let repository = self.repositories.number(request.repository);
        let content = self.contents.number(request.id);
        let client = self.clients.number(request.client);
        if self.content_bytes.len() < self.contents.len() {
            self.content_bytes.push(0);
        }
        let bytes = &mut self.content_bytes[content as usize];
        *bytes = request.bytes.max(*bytes);
        let place = Place { kind: request.kind, repository, content, first: request.action, bytes: request.bytes };
        let next = self.places.len() as u32;
        let number = *self.numbers.entry((repository, request.kind, content)).or_insert(next);
        let is_new = number == next;
        if is_new {
            self.places.push(place);
        } else {
            let known = &mut self.places[number as usize];
            known.bytes = known.bytes.max(request.bytes);
        }
        self.visit(client, number, request.action, is_new);
    }

    /// Draws from what a client does which layers a manifest has.
    fn visit(&mut self, client: u32, number: u32, action: Action, is_new: bool) {
        let place = &self.places[number as usize];
        let visit = self.visits.entry(client).or_default();
        match (action, place.kind) {
            (Action::Get, Kind::Manifest) => {
                let is_open = place.first == Action::Get && self.layers.get(&number).is_none_or(Vec::is_empty);
                visit.pulled = is_open.then_some(number);
            }
            (Action::Get, Kind::Blob) => {
                let Some(manifest) = visit.pulled else { return };
                let is_same = self.places[manifest as usize].repository == place.repository;
                // What was pushed within the trace is not there when the manifest is made.
                if is_same && place.first == Action::Get {
                    add_layer(self.layers.entry(manifest).or_default(), number);
                }
            }
            (Action::Put, Kind::Blob) => add_layer(&mut visit.pushed, number),
            (Action::Put, Kind::Manifest) => {
                let mut pushed = std::mem::take(&mut visit.pushed);
                if is_new {
                    pushed.retain(|blob| self.places[*blob as usize].repository == place.repository);
                    self.layers.insert(number, pushed);
                }
            }
        }
    }

    /// The place and the client of a request that has been added before.
    pub(super) fn find(&self, request: &Request) -> Option<(u32, u32)> {
        let repository = self.repositories.find(&request.repository)?;
        let content = self.contents.find(&request.id)?;
        let number = self.numbers.get(&(repository, request.kind, content))?;
        Some((*number, self.clients.find(&request.client)?))
    }

    pub(super) fn places(&self) -> &[Place] {
        &self.places
    }

    pub(super) fn repositories(&self) -> usize {
        self.repositories.len()
    }

    pub(super) fn clients(&self) -> usize {
        self.clients.len()
    }

    /// The sizes of the contents that some blob has, by number; 0 for the others.
    pub(super) fn blob_sizes(&self) -> Vec<u64> {
        let mut sizes = vec![0; self.contents.len()];
        for place in self.places.iter().filter(|place| place.kind == Kind::Blob) {
            sizes[place.content as usize] = self.content_bytes[place.content as usize];
        }
        sizes
    }

    /// The blobs that a manifest names.
    pub(super) fn layers_of(&self, manifest: u32) -> &[u32] {
        self.layers.get(&manifest).map_or(&[], Vec::as_slice)
    }
}

fn add_layer(layers: &mut Vec<u32>, layer: u32) {
    if layers.len() < MOST_LAYERS && !layers.contains(&layer) {
        layers.push(layer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::timestamp::Timestamp;

    /// `GET alice a/b blobs x 5`
    fn request(text: &str) -> Request {
        let words: Vec<&str> = text.split(' ').collect();
        Request {
            at: Timestamp(0),
            action: if words[0] == "GET" { Action::Get } else { Action::Put },
            kind: if words[3] == "blobs" { Kind::Blob } else { Kind::Manifest },
            repository: words[2].to_owned(),
            id: words[4].to_owned(),
            client: words[1].to_owned(),
            bytes: words[5].parse().unwrap(),
        }
    }

    fn catalog(requests: &[&str]) -> Catalog {
        let mut catalog = Catalog::default();
        requests.iter().for_each(|text| catalog.add(request(text)));
        catalog
    }

    fn layers(catalog: &Catalog, manifest: &str) -> Vec<u32> {
        let (number, _) = catalog.find(&request(manifest)).unwrap();
        catalog.layers_of(number).to_vec()
    }

    #[test]
    fn layers_belong_to_the_manifest_that_the_same_client_pulled_before() {
        let catalog = catalog(&[
            "GET alice a/b manifests m 400",
            "GET bob c/d manifests n 500",
            "GET alice a/b blobs x 5",
            "GET bob c/d blobs x 7",
            "GET alice a/b blobs y 9",
            "GET alice e/f blobs z 1",
            "GET alice a/b manifests m 400",
            "GET alice a/b blobs w 1",
        ]);
        assert_eq!(layers(&catalog, "GET alice a/b manifests m 0"), [2, 4]);
        assert_eq!(layers(&catalog, "GET bob c/d manifests n 0"), [3]);
        let sizes = catalog.blob_sizes();
        assert_eq!(sizes.iter().sum::<u64>(), 7 + 9 + 1 + 1, "one content has one size, the largest seen");
        assert_eq!((catalog.repositories(), catalog.clients(), catalog.places().len()), (3, 2, 7));
    }

    #[test]
    fn a_manifest_that_was_only_looked_at_is_known_by_the_next_pull() {
        let catalog = catalog(&["GET a a/b manifests m 4", "GET b a/b manifests m 4", "GET b a/b blobs x 5"]);
        assert_eq!(layers(&catalog, "GET a a/b manifests m 0"), [1]);
    }

    #[test]
    fn a_push_brings_its_layers_before() {
        let catalog = catalog(&[
            "PUT alice a/b blobs x 5",
            "PUT alice c/d blobs y 5",
            "PUT alice a/b manifests m 400",
            "GET bob a/b manifests m 400",
            "GET bob a/b blobs x 5",
            "GET bob a/b blobs w 5",
            "GET carol a/b manifests n 400",
            "GET carol a/b blobs x 5",
        ]);
        assert_eq!(layers(&catalog, "GET bob a/b manifests m 0"), [0], "what it names is settled when it is pushed");
        assert_eq!(layers(&catalog, "GET bob a/b manifests n 0"), Vec::<u32>::new(), "x is not there at the beginning");
    }
}

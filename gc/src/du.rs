//! What tags cost: how many bytes each leads to, which of them no other tag does, and what deleting it would free.

use longshore_metadata::{BlobEdge, Contents, ManifestNode};
use longshore_oci::{Digest, Tag};
use std::collections::{HashMap, HashSet};

/// What a tag costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagUsage {
    /// The tag.
    pub tag: Tag,
    /// What it names.
    pub digest: Digest,
    /// The bytes of all that it leads to: manifests below it, their blobs, and what refers to them.
    pub logical: u64,
    /// Of these, those that no other tag of the repository leads to.
    pub unique: u64,
    /// What would be deleted of the store, in the end, if the tag were deleted.
    pub freed: u64,
}

/// A blob that a tag leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerUsage {
    /// The blob.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// How many tags of the repository lead to it.
    pub tags: u64,
    /// How many repositories hold it.
    pub repositories: u64,
}

/// The graph of a repository, ready to be walked.
struct Graph<'a> {
    manifests: HashMap<i64, &'a ManifestNode>,
    below: HashMap<i64, Vec<i64>>,
    blobs: HashMap<i64, Vec<&'a BlobEdge>>,
}

/// What one tag leads to.
#[derive(Default)]
struct Reached<'a> {
    manifests: HashSet<i64>,
    blobs: HashMap<i64, &'a BlobEdge>,
}

impl<'a> Graph<'a> {
    fn of(contents: &'a Contents) -> Self {
        let manifests: HashMap<i64, &ManifestNode> =
            contents.manifests.iter().map(|manifest| (manifest.id, manifest)).collect();
        let by_digest: HashMap<Digest, i64> =
            contents.manifests.iter().map(|manifest| (manifest.digest, manifest.id)).collect();
        let mut below: HashMap<i64, Vec<i64>> = HashMap::new();
        for (parent, child) in &contents.children {
            below.entry(*parent).or_default().push(*child);
        }
        for manifest in &contents.manifests {
            if let Some(subject) = manifest.subject.and_then(|subject| by_digest.get(&subject)) {
                below.entry(*subject).or_default().push(manifest.id);
            }
        }
        let mut blobs: HashMap<i64, Vec<&BlobEdge>> = HashMap::new();
        for edge in &contents.blobs {
            blobs.entry(edge.manifest).or_default().push(edge);
        }
        Self { manifests, below, blobs }
    }

    fn reach(&self, manifest: i64) -> Reached<'a> {
        let mut reached = Reached::default();
        let mut next = vec![manifest];
        while let Some(manifest) = next.pop() {
            if !reached.manifests.insert(manifest) {
                continue;
            }
            let blobs = self.blobs.get(&manifest).into_iter().flatten();
            reached.blobs.extend(blobs.map(|edge| (edge.blob, *edge)));
            next.extend(self.below.get(&manifest).into_iter().flatten());
        }
        reached
    }
}

/// By how many tags each manifest and each blob is reached.
#[derive(Default)]
struct Users {
    manifests: HashMap<i64, u64>,
    blobs: HashMap<i64, u64>,
}

impl Users {
    fn count(graph: &Graph<'_>, contents: &Contents) -> Self {
        let mut users = Self::default();
        for (_, manifest) in &contents.tags {
            let reached = graph.reach(*manifest);
            for manifest in reached.manifests {
                *users.manifests.entry(manifest).or_default() += 1;
            }
            for blob in reached.blobs.into_keys() {
                *users.blobs.entry(blob).or_default() += 1;
            }
        }
        users
    }

    fn of_manifest(&self, manifest: i64) -> u64 {
        self.manifests.get(&manifest).copied().unwrap_or_default()
    }

    fn of_blob(&self, blob: i64) -> u64 {
        self.blobs.get(&blob).copied().unwrap_or_default()
    }
}

/// What each tag of a repository costs, in the order of their names.
pub fn of_tags(contents: &Contents) -> Vec<TagUsage> {
    let graph = Graph::of(contents);
    let users = Users::count(&graph, contents);
    let usage = |(tag, manifest): &(Tag, i64)| {
        // One that came while the rest was read.
        let digest = graph.manifests.get(manifest)?.digest;
        let reached = graph.reach(*manifest);
        let mut usage = TagUsage { tag: tag.clone(), digest, logical: 0, unique: 0, freed: 0 };
        for manifest in reached.manifests {
            let size = graph.manifests.get(&manifest).map_or(0, |manifest| manifest.size);
            usage.add(size, users.of_manifest(manifest) == 1, true);
        }
        for edge in reached.blobs.into_values() {
            usage.add(edge.size, users.of_blob(edge.blob) == 1, edge.holders <= 1);
        }
        Some(usage)
    };
    contents.tags.iter().filter_map(usage).collect()
}

impl TagUsage {
    fn add(&mut self, size: u64, no_other_tag: bool, no_other_repository: bool) {
        self.logical += size;
        if no_other_tag {
            self.unique += size;
            self.freed += if no_other_repository { size } else { 0 };
        }
    }
}

/// The blobs that a tag leads to, the largest first; none where there is no such tag.
pub fn of_layers(contents: &Contents, tag: &Tag) -> Option<Vec<LayerUsage>> {
    let (_, manifest) = contents.tags.iter().find(|(name, _)| name == tag)?;
    let graph = Graph::of(contents);
    let users = Users::count(&graph, contents);
    let layer = |edge: &BlobEdge| LayerUsage {
        digest: edge.digest,
        size: edge.size,
        tags: users.of_blob(edge.blob),
        repositories: edge.holders,
    };
    let mut layers: Vec<_> = graph.reach(*manifest).blobs.into_values().map(layer).collect();
    layers.sort_by_key(|layer| (std::cmp::Reverse(layer.size), layer.digest.to_string()));
    Some(layers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_oci::Algorithm;

    fn digest(name: &str) -> Digest {
        Digest::of(Algorithm::Sha256, name.as_bytes())
    }

    fn manifest(id: i64, size: u64, subject: Option<&str>) -> ManifestNode {
        ManifestNode { id, digest: digest(&id.to_string()), size, subject: subject.map(digest) }
    }

    fn needs(manifest: i64, blob: i64, size: u64, holders: u64) -> BlobEdge {
        BlobEdge { manifest, blob, digest: digest(&format!("blob {blob}")), size, holders }
    }

    fn tag(name: &str) -> Tag {
        name.parse().unwrap()
    }

    /// An index of 1 and 2, which share a blob; a signature of 1; 3 shares a blob with 2, and one with another repository.
    fn contents() -> Contents {
        Contents {
            manifests: vec![
                manifest(1, 1, None),
                manifest(2, 2, None),
                manifest(3, 4, None),
                manifest(4, 8, Some("1")),
                manifest(5, 16, None),
                manifest(6, 1 << 30, None), // untagged
            ],
            children: vec![(5, 1), (5, 2)],
            blobs: vec![
                needs(1, 11, 100, 1),
                needs(2, 11, 100, 1),
                needs(2, 12, 1_000, 1),
                needs(3, 12, 1_000, 1),
                needs(3, 13, 10_000, 2),
                needs(4, 14, 100_000, 1),
                needs(6, 11, 100, 1),
            ],
            tags: vec![(tag("index"), 5), (tag("three"), 3)],
        }
    }

    #[test]
    fn a_tag_costs_what_it_leads_to() {
        let [index, three] = &of_tags(&contents())[..] else { panic!("two tags") };
        assert_eq!(index.logical, 1 + 2 + 8 + 16 + 100 + 1_000 + 100_000);
        assert_eq!(index.unique, 1 + 2 + 8 + 16 + 100 + 100_000);
        assert_eq!(index.freed, index.unique);
        assert_eq!((three.logical, three.unique, three.freed), (4 + 11_000, 4 + 10_000, 4));
    }

    #[test]
    fn two_tags_of_one_manifest_free_nothing_alone() {
        let mut contents = contents();
        contents.tags.push((tag("twin"), 5));
        let usage = of_tags(&contents);
        assert_eq!((usage[0].unique, usage[2].unique), (0, 0));
        assert_eq!(usage[0].logical, usage[2].logical);
    }

    #[test]
    fn layers_tell_who_shares_them() {
        let layers = of_layers(&contents(), &tag("three")).unwrap();
        let told: Vec<_> = layers.iter().map(|layer| (layer.size, layer.tags, layer.repositories)).collect();
        assert_eq!(told, [(10_000, 1, 2), (1_000, 2, 1)]);
        assert_eq!(of_layers(&contents(), &tag("unknown")), None);
    }
}

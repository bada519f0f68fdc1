//! What repositories hold is told as it is.

use crate::content::{digest_of, image, index, repository, tagged};
use crate::database::Database;
use longshore_metadata::PutManifest;

on_both_engines!(repositories_are_told_with_what_only_they_hold, a_repository_is_told_with_all_its_edges);

async fn repositories_are_told_with_what_only_they_hold(database: Database) {
    for (name, content) in [("a", "four"), ("a", "shared"), ("b", "shared")] {
        database.push_blob(name, content).await;
    }
    database.push(image("a", "manifest", &["four"])).await;
    let sizes = database.metadata.repository_sizes("", 10).await.unwrap();
    let told: Vec<_> = sizes
        .iter()
        .map(|size| (size.repository.as_str(), size.manifest_bytes, size.blobs, size.blob_bytes, size.unique_bytes))
        .collect();
    assert_eq!(told, [("a", 8, 2, 10, 4), ("b", 0, 1, 6, 0)]);
    assert_eq!(database.metadata.repository_sizes("a", 10).await.unwrap(), sizes[1..]);
    assert_eq!(database.metadata.bytes_of_blobs().await.unwrap(), 10);
}

async fn a_repository_is_told_with_all_its_edges(database: Database) {
    database.push_blob("app", "layer").await;
    database.push_blob("other", "layer").await;
    let child = database.push(image("app", "child", &["layer"])).await;
    let index = database.push(tagged(index("app", "index", &["child"]), &["latest", "v1"])).await;
    let signature = PutManifest { subject: Some(child), ..image("app", "signature", &[]) };
    database.push(signature).await;
    let contents = database.metadata.contents_of(&repository("app")).await.unwrap().unwrap();
    let id = |digest| contents.manifests.iter().find(|manifest| manifest.digest == digest).unwrap().id;
    assert_eq!(contents.manifests.len(), 3);
    assert_eq!(contents.children, [(id(index), id(child))]);
    let subjects: Vec<_> = contents.manifests.iter().filter_map(|manifest| manifest.subject).collect();
    assert_eq!(subjects, [child]);
    let blobs: Vec<_> =
        contents.blobs.iter().map(|edge| (edge.manifest, edge.digest, edge.size, edge.holders)).collect();
    assert_eq!(blobs, [(id(child), digest_of("layer"), 5, 2)]);
    let tags: Vec<_> = contents.tags.iter().map(|(tag, manifest)| (tag.as_str(), *manifest)).collect();
    assert_eq!(tags, [("latest", id(index)), ("v1", id(index))]);
    assert!(database.metadata.contents_of(&repository("nobody")).await.unwrap().is_none());
}

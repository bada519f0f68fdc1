//! What a preview tells of each thing, and what that adds up to.

use super::*;
use crate::place::{Place, place};
use longshore_metadata::{PutManifest, PutManifestOutcome};
use longshore_oci::Algorithm;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

impl Place {
    /// What a collection would do: of each thing, and in all.
    pub(crate) async fn preview(&self) -> (Preview, Vec<Foreseen>) {
        let mut told = Vec::new();
        let preview = preview(&self.metadata, &self.rules, |foreseen| told.push(foreseen)).await.unwrap();
        (preview, told)
    }

    async fn now(&self) -> SystemTime {
        self.metadata.collection_state().await.unwrap().now
    }

    async fn blobs(&self) -> Vec<GoingBlob> {
        let blob = |foreseen| match foreseen {
            Foreseen::Blob(blob) => Some(blob),
            _ => None,
        };
        self.preview().await.1.into_iter().filter_map(blob).collect()
    }
}

fn digest(content: &str) -> Digest {
    Digest::of(Algorithm::Sha256, content.as_bytes())
}

fn kept(body: &str, reason: Option<Reason>) -> Foreseen {
    let (repository, size) = ("app".parse().unwrap(), body.len() as u64);
    Foreseen::Kept(Kept { repository, digest: digest(body), size, reason })
}

fn named(blob: &GoingBlob) -> (Option<&str>, Digest, u64, bool) {
    (blob.repository.as_ref().map(RepositoryName::as_str), blob.digest, blob.size, blob.is_freed)
}

#[tokio::test]
async fn a_registry_in_use_loses_nothing() {
    let place = place(Duration::ZERO).await;
    place.push_object("app", "layer").await;
    place.push_manifest("app", "manifest", &["layer"], &["latest"]).await;
    let (preview, told) = place.preview().await;
    assert_eq!(told, [kept("manifest", Some(Reason::Tag("latest".parse().unwrap())))]);
    assert_eq!(preview.kept, KeptCounts { by_tag: 1, ..KeptCounts::default() });
    assert_eq!((preview.freed, preview.staying, preview.leased, preview.open), Default::default());
    assert!(preview.repositories.is_empty(), "{preview:?}");
}

#[tokio::test]
async fn what_is_looked_at_and_kept_is_told_with_what_keeps_it() {
    let place = place(Duration::ZERO).await;
    let child = place.push_manifest("app", "child", &[], &[]).await;
    let latest: Tag = "latest".parse().unwrap();
    let index =
        PutManifest { children: vec![child], tags: vec![latest.clone()], ..Place::manifest("app", "index", &[]) };
    let subject = index.digest;
    let signature = PutManifest { subject: Some(subject), ..Place::manifest("app", "signature", &[]) };
    for manifest in [index, signature] {
        assert_eq!(place.metadata.put_manifest(manifest).await.unwrap(), PutManifestOutcome::Stored);
    }
    place.push_manifest("app", "untagged", &[], &[]).await;
    let (preview, told) = place.preview().await;
    let told: Vec<Foreseen> = told.into_iter().filter(|foreseen| matches!(foreseen, Foreseen::Kept(_))).collect();
    let expected = [
        kept("child", Some(Reason::Parent(subject))),
        kept("index", Some(Reason::Tag(latest))),
        kept("signature", Some(Reason::Subject(subject))),
    ];
    assert_eq!(told, expected, "and not the untagged one, which stays for a time");
    assert_eq!(preview.kept, KeptCounts { by_tag: 1, by_index: 1, by_subject: 1, by_rest: 0 });
}

#[tokio::test]
async fn a_blob_that_only_its_lease_keeps_is_told_with_its_end() {
    let place = place(Duration::ZERO).await;
    let before = place.now().await;
    place.push_object("app", "layer").await;
    let blobs = place.blobs().await;
    assert_eq!(blobs.iter().map(named).collect::<Vec<_>>(), [(Some("app"), digest("layer"), 5, true)]);
    let BlobEnd::LeaseEnds(until) = blobs[0].when else { panic!("{blobs:?}") };
    let minutes = Duration::from_secs(120);
    assert!(
        (before + minutes..=place.now().await + minutes).contains(&until),
        "twice the promise of a minute: {until:?}"
    );
    let (preview, _) = place.preview().await;
    let one = Share { blobs: 1, bytes: 5, ..Share::default() };
    assert_eq!((preview.freed, preview.leased), (one, one));
    assert_eq!(preview.repositories.values().copied().collect::<Vec<_>>(), [one]);
}

#[tokio::test]
async fn a_blob_goes_with_the_manifests_that_need_it_and_is_freed_by_its_last_holder() {
    let place = place(Duration::ZERO).await;
    let place = Place { rules: Rules { undo: Duration::ZERO, ..place.rules.clone() }, ..place };
    for repository in ["app", "other"] {
        for layer in ["shared", "kept too"] {
            place.push_object(repository, layer).await;
        }
        place.push_manifest(repository, "untagged", &["shared", "kept too"], &[]).await;
    }
    place.push_manifest("app", "tagged", &["kept too"], &["latest"]).await;
    let blobs = place.blobs().await;
    assert!(blobs.iter().all(|blob| blob.when == BlobEnd::WithManifests), "{blobs:?}");
    let mut told: Vec<_> = blobs.iter().map(named).collect();
    told.sort_by_key(|(repository, digest, ..)| (*digest != self::digest("shared"), *repository));
    let shared = digest("shared");
    let expected = [
        (Some("app"), shared, 6, false),
        (Some("other"), shared, 6, true),
        (Some("other"), digest("kept too"), 8, false),
    ];
    assert_eq!(told, expected);
    let (preview, _) = place.preview().await;
    assert_eq!(preview.freed, Share { manifests: 2, blobs: 1, sessions: 0, bytes: 2 * 8 + 6 });
    assert_eq!(preview.leased, Share::default());
}

/// Their pages tell of it several times, and each of many at once.
#[tokio::test]
async fn a_layer_that_more_manifests_than_a_page_share_goes_once_with_the_last() {
    let place = place(Duration::ZERO).await;
    let place = Place { rules: Rules { undo: Duration::ZERO, ..place.rules.clone() }, ..place };
    for layer in ["base", "kept too"] {
        place.push_object("app", layer).await;
    }
    let count = u64::from(PAGE) + 2;
    for number in 0..count {
        place.push_manifest("app", &format!("untagged {number:03}"), &["base", "kept too"], &[]).await;
    }
    place.push_manifest("app", "tagged", &["kept too"], &["latest"]).await;
    let (preview, _) = place.preview().await;
    assert_eq!(place.blobs().await.iter().map(named).collect::<Vec<_>>(), [(Some("app"), digest("base"), 4, true)]);
    assert_eq!(preview.freed, Share { manifests: count, blobs: 1, sessions: 0, bytes: count * 12 + 4 });
}

/// Whoever deletes a half of a registry is told at once what that frees, although a week has to go by first.
#[tokio::test]
async fn manifests_that_stay_for_now_are_freed_in_the_end_with_what_goes_with_them() {
    let place = place(Duration::ZERO).await;
    for layer in ["own", "shared"] {
        place.push_object("app", layer).await;
    }
    let child = place.push_manifest("app", "child", &["own", "shared"], &[]).await;
    let tags = vec!["latest".parse().unwrap()];
    let index = PutManifest { children: vec![child], tags, ..Place::manifest("app", "index", &[]) };
    let signature = PutManifest { subject: Some(index.digest), ..Place::manifest("app", "signature", &[]) };
    for manifest in [index, signature] {
        assert_eq!(place.metadata.put_manifest(manifest).await.unwrap(), PutManifestOutcome::Stored);
    }
    place.push_manifest("app", "next", &["shared"], &["latest"]).await;
    let (preview, told) = place.preview().await;
    let (mut staying, mut going) = (Vec::new(), Vec::new());
    for foreseen in told {
        match foreseen {
            Foreseen::StayingManifest(manifest) => staying.push((manifest.digest, manifest.reason)),
            Foreseen::Manifest(manifest) => going.push((manifest.digest, manifest.since)),
            _ => {}
        }
    }
    assert_eq!(staying, [(digest("index"), Reason::Undo)]);
    going.sort_by_key(|(going, _)| *going != child);
    assert_eq!(going, [(child, None), (digest("signature"), None)]);
    assert_eq!(place.blobs().await.iter().map(named).collect::<Vec<_>>(), [(Some("app"), digest("own"), 3, true)]);
    assert_eq!(preview.freed, Share { manifests: 3, blobs: 1, sessions: 0, bytes: 5 + 5 + 9 + 3 });
    assert_eq!(preview.staying, Share { manifests: 1, bytes: 5, ..Share::default() });
    assert_eq!(preview.repositories.values().copied().collect::<Vec<_>>(), [preview.freed]);
}

#[tokio::test]
async fn a_blob_whose_lease_has_ended_goes_and_so_does_one_that_nobody_holds() {
    let place = place(Duration::ZERO).await;
    place.promise_nothing().await;
    let app: RepositoryName = "app".parse().unwrap();
    place.push_object("app", "unheld").await;
    place.metadata.delete_blob(&app, &digest("unheld")).await.unwrap();
    place.push_object("app", "loose").await;
    let pushed = place.now().await;
    while place.now().await == pushed {}
    let blobs = place.blobs().await;
    let expected = [(Some("app"), digest("loose"), 5, true), (None, digest("unheld"), 6, true)];
    assert_eq!(blobs.iter().map(named).collect::<Vec<_>>(), expected);
    assert!(matches!(blobs[0].when, BlobEnd::LeaseEnded(_)) && blobs[1].when == BlobEnd::Unheld, "{blobs:?}");
    let (preview, _) = place.preview().await;
    assert_eq!(preview.freed, Share { blobs: 2, bytes: 11, ..Share::default() });
    assert_eq!(preview.leased, Share::default());
    let collected = place.pass().await;
    assert_eq!((collected.blobs.count, collected.blobs.bytes), (2, 11));
}

#[tokio::test]
async fn sessions_are_told_and_only_expired_ones_are_counted() {
    let place = place(Duration::ZERO).await;
    let (expired, _) = place.upload(Duration::ZERO).await;
    let (open, _) = place.upload(HOUR).await;
    place.execute("UPDATE uploads SET received = 5").await;
    let (preview, told) = place.preview().await;
    let sessions: Vec<_> = told
        .iter()
        .filter_map(|foreseen| match foreseen {
            Foreseen::Session { session, is_expired } => Some((session.id, session.received, *is_expired)),
            _ => None,
        })
        .collect();
    assert_eq!(sessions, [(expired.id, 5, true), (open.id, 5, false)]);
    let one = Share { sessions: 1, bytes: 5, ..Share::default() };
    assert_eq!((preview.freed, preview.open), (one, one));
    assert_eq!(preview.repositories.values().copied().collect::<Vec<_>>(), [one]);
    assert_eq!(place.pass().await.uploads, 1);
    assert_eq!(place.preview().await.0.freed, Share::default());
}

#[tokio::test]
async fn more_blobs_and_sessions_than_a_page_are_each_told_once() {
    let place = place(Duration::ZERO).await;
    let count = u64::from(PAGE) + 1;
    let layers: Vec<String> = (0..count).map(|number| format!("layer {number:03}")).collect();
    let layers: Vec<&str> = layers.iter().map(String::as_str).collect();
    for layer in &layers {
        place.push_object("app", layer).await;
        place.upload(HOUR).await;
    }
    let (preview, told) = place.preview().await;
    assert_eq!((preview.freed.blobs, preview.leased.blobs, preview.open.sessions), (count, count, count));
    assert_eq!(told.len() as u64, 2 * count);
    let mut digests: Vec<_> = place.blobs().await.iter().map(|blob| blob.digest.to_string()).collect();
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len() as u64, count);
}

//! Counting and writing, over a real database.

use super::*;
use crate::Rules;
use longshore_metadata::{ConnectOptions, Metadata};
use longshore_oci::{Algorithm, ManifestLimits};
use longshore_storage::{FileStore, Storage};
use proptest::prelude::*;
use tokio::sync::oneshot;

fn digest(number: usize) -> Digest {
    Digest::of(Algorithm::Sha256, &number.to_le_bytes())
}

fn repository() -> RepositoryName {
    "app".parse().unwrap()
}

fn pull(pulls: &Pulls, number: usize) {
    pulls.count(repository(), digest(number).into(), digest(number), Purpose::Pull);
}

/// Everything that waits, and that was pulled.
fn sum(waiting: &[(Key, Tally)]) -> u64 {
    waiting.iter().map(|(_, tally)| tally.pulls).sum()
}

#[test]
fn what_counts_as_what() {
    let tag = || "latest".parse::<Reference>().unwrap();
    let by_digest = || Reference::from(digest(0));
    for (reference, purpose, manifest, is_tag_in_use) in [
        (tag(), Purpose::Pull, Some(1), true),
        (by_digest(), Purpose::Pull, Some(1), false),
        (tag(), Purpose::Look, None, true),
        (by_digest(), Purpose::Look, Some(0), false),
    ] {
        let pulls = Pulls::new();
        pulls.count(repository(), reference, digest(0), purpose);
        let waiting: HashMap<Key, Tally> = pulls.take().into_iter().collect();
        let of = |reference: Reference| waiting.get(&(repository(), reference)).map(|tally| tally.pulls);
        assert_eq!(of(by_digest()), manifest);
        assert_eq!(of(tag()).is_some(), is_tag_in_use);
        assert_eq!(waiting.len(), usize::from(manifest.is_some()) + usize::from(is_tag_in_use));
    }
}

#[test]
fn a_full_house_drops_and_counts_what_it_drops() {
    let pulls = Pulls::new();
    let many = SHARDS * ROOM * 2;
    for number in 0..many {
        pull(&pulls, number);
    }
    let counts = pulls.counts();
    assert_eq!(counts.waiting, (SHARDS * ROOM) as u64);
    assert_eq!(counts.waiting + counts.dropped, many as u64);
    // What is there already counts on.
    let waiting = pulls.take();
    let (key, _) = &waiting[0];
    waiting.iter().for_each(|(key, tally)| pulls.add(key.clone(), *tally));
    pulls.add(key.clone(), Tally { pulls: 1, last: Instant::now() });
    assert_eq!(sum(&pulls.take()), counts.waiting + 1);
}

#[derive(Debug, Clone)]
enum Step {
    Pull(usize),
    /// Takes all, and puts back so many as could not be written.
    Take(usize),
}

proptest! {
    /// Whatever is pulled waits, was taken, or was dropped.
    #[test]
    fn nothing_is_counted_twice_or_lost(
        steps in prop::collection::vec(
            prop_oneof![8 => (0_usize..40).prop_map(Step::Pull), 1 => (0_usize..40).prop_map(Step::Take)],
            0..200,
        )
    ) {
        let pulls = Pulls::new();
        let (mut pulled, mut written) = (0, 0);
        for step in steps {
            match step {
                Step::Pull(number) => {
                    pull(&pulls, number);
                    pulled += 1;
                }
                Step::Take(count) => {
                    let taken = pulls.take();
                    let (back, gone) = taken.split_at(count.min(taken.len()));
                    pull(&pulls, 0);
                    pulled += 1;
                    back.iter().for_each(|(key, tally)| pulls.add(key.clone(), *tally));
                    written += sum(gone);
                }
            }
        }
        prop_assert_eq!(sum(&pulls.take()) + written, pulled);
        prop_assert_eq!(pulls.counts().dropped, 0);
    }
}

/// A registry with nothing in it.
async fn registry(count_pulls: bool) -> (Registry, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("longshore.db").display());
    let options = ConnectOptions { url, max_connections: 2, acquire_timeout: Duration::from_secs(60), cache_size: 0 };
    let metadata = Metadata::connect(&options).await.unwrap();
    metadata.migrate().await.unwrap();
    let rules = Rules {
        inline_max: 16,
        blob_max: None,
        manifest_max: 4096,
        manifest_limits: ManifestLimits::default(),
        tags_per_push: 1,
        immutable_tags: longshore_oci::ImmutableTags::default(),
        allow_sparse: false,
        upload_lifetime: Duration::from_secs(60),
        page_max: 10,
        count_pulls,
    };
    let storage = Storage::Files(FileStore::open(folder.path(), 0).unwrap());
    (Registry::new(metadata, storage, rules), folder)
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn what_could_not_be_written_waits_for_the_next_time() {
    let (registry, _folder) = registry(true).await;
    registry.metadata.close().await;
    for number in 0..BATCH + 1 {
        pull(registry.pulls.as_ref().unwrap(), number);
    }
    for _ in 0..2 {
        let (stop, stopped) = oneshot::channel::<()>();
        drop(stop);
        let failures = AtomicU64::new(0);
        let report = |_: &crate::Error| {
            failures.fetch_add(1, Relaxed);
        };
        let stopped = async { drop(stopped.await) };
        registry.write_pulls(HOUR, stopped, report).await;
        assert!(failures.load(Relaxed) > 0);
        let counts = registry.pull_counts();
        assert_eq!((counts.waiting, counts.written, counts.dropped), (BATCH as u64 + 1, 0, 0));
    }
}

#[tokio::test]
async fn too_many_are_written_before_their_time() {
    let (registry, _folder) = registry(true).await;
    let writing = tokio::spawn({
        let registry = registry.clone();
        async move { registry.write_pulls(HOUR, std::future::pending(), |error| panic!("{error}")).await }
    });
    let mut number = 0;
    // So many at most fit without any part of them being crowded.
    while registry.pull_counts().waiting == number as u64 {
        assert!(number < CROWDED * SHARDS, "nobody came for them");
        pull(registry.pulls.as_ref().unwrap(), number);
        number += 1;
        tokio::task::yield_now().await;
    }
    assert_eq!(registry.pull_counts().dropped, 0);
    writing.abort();
}

#[tokio::test]
async fn who_counts_nothing_has_nothing_to_write() {
    let (registry, _folder) = registry(false).await;
    registry.write_pulls(HOUR, std::future::pending(), |error| panic!("{error}")).await;
    assert_eq!(registry.pull_counts(), PullCounts::default());
}

//! A history of which any one call to the store fails, before it was done or after, be it a read or a list: whoever made it
//! tries once more and succeeds, nothing that was acknowledged is lost, and nothing is left behind.

use crate::{
    clock::BEGIN,
    faulty::Fault,
    play::Outcome,
    runtime,
    world::{Engine, Limits, World},
};
use bytes::Bytes;
use futures_util::{TryStreamExt, stream};
use longshore_gc::{Error as GcError, Step};
use longshore_metadata::UploadAddress;
use longshore_oci::{Algorithm, Digest, Reference, RepositoryName};
use longshore_registry::{Chunk, Delivery, Error, NewManifest, Purpose};
use longshore_storage::Error as StorageError;
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::{Arc, Mutex},
    time::Duration,
};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
/// All that a store is asked for.
const CALLS: [&str; 10] =
    ["abort", "begin", "complete", "delete", "list", "put", "put_part", "read", "size", "uploads"];
/// More than anything waits for at a time.
const REST: Duration = Duration::from_secs(49 * 3600);
/// Time goes by so often at most until nothing is left of what was deleted.
const ROUNDS: usize = 12;
/// What waits for the collector, or for its client.
const LEFT: &str = "SELECT (SELECT count(*) FROM uploads) + (SELECT count(*) FROM deleted_manifests) \
    + (SELECT count(*) FROM tombstones) + (SELECT count(*) FROM gc_queue)";

/// When a call fails.
#[derive(Debug, Clone, Copy)]
enum When {
    BeforeItIsDone,
    AfterItIsDone,
}

impl When {
    fn fault(self, call: &str) -> Fault {
        match (self, call) {
            (Self::BeforeItIsDone, _) => Fault::Before,
            // What has come of it is of use.
            (Self::AfterItIsDone, "read") => Fault::BreaksOff(1000),
            (Self::AfterItIsDone, _) => Fault::After,
        }
    }
}

/// The call that fails: which one of those for the same thing. What is read twice since its first byte is late moves no number
/// of another kind.
#[derive(Debug, Clone, Copy)]
struct Failing {
    call: &'static str,
    number: usize,
    when: When,
}

/// How many calls there were of each kind.
type Calls = BTreeMap<&'static str, usize>;

#[test]
fn any_one_call_of_a_history_may_fail() {
    let (runtime, engine) = (runtime(), Engine::sqlite());
    let images = Images::new();
    let calls = runtime.block_on(play(&engine, &images, None)).unwrap();
    assert_eq!(Vec::from_iter(calls.keys().copied()), CALLS, "not every call was made");
    for when in [When::BeforeItIsDone, When::AfterItIsDone] {
        for (&call, &count) in &calls {
            for number in 0..count {
                runtime.block_on(play(&engine, &images, Some(Failing { call, number, when }))).unwrap();
            }
        }
    }
}

/// Plays the history in a world of its own, in which this call fails. Answers how many calls there were.
async fn play(engine: &Arc<Engine>, images: &Images, fails: Option<Failing>) -> Outcome<Calls> {
    let mut world = World::new(engine, Limits::none()).await;
    let made = Arc::new(Mutex::new(Calls::new()));
    let counting = made.clone();
    world.faulty.plan(move |_, call| {
        let mut made = counting.lock().unwrap();
        let count = made.entry(call).or_default();
        *count += 1;
        match fails {
            Some(fails) if fails.call == call && fails.number + 1 == *count => fails.when.fault(call),
            _ => Fault::None,
        }
    });
    let played = Insistent { world: &mut world, images, now: BEGIN, failures: 0 }.play().await;
    world.close().await;
    played.map_err(|why| format!("with {fails:?}: {why}"))?;
    let made = made.lock().unwrap().clone();
    Ok(made)
}

/// A blob that is pushed.
struct Blob {
    bytes: Bytes,
    digest: Digest,
}

impl Blob {
    fn new(seed: u8, length: usize) -> Self {
        let bytes: Vec<u8> = (0..length).map(|place| (place / 251) as u8 ^ (place % 251) as u8 ^ seed).collect();
        Self { digest: Digest::of(Algorithm::Sha256, &bytes), bytes: bytes.into() }
    }

    fn chunk(&self, range: Range<usize>) -> Chunk {
        let (start, length) = (Some(range.start as u64), Some(range.len() as u64));
        Chunk { start, length, body: Box::pin(stream::iter([Ok(self.bytes.slice(range))])) }
    }

    fn descriptor(&self) -> serde_json::Value {
        json!({ "mediaType": "application/octet-stream", "digest": self.digest.to_string(), "size": self.bytes.len() })
    }
}

/// What is pushed.
struct Images {
    app: RepositoryName,
    team: RepositoryName,
    /// In its row.
    config: Blob,
    /// An object that is written whole.
    whole: Blob,
    /// One in parts.
    in_parts: Blob,
    /// One that comes in chunks.
    in_chunks: Blob,
    /// One that goes again, and one that goes with its manifest.
    deleted: Blob,
    goes_too: Blob,
    /// One that nobody ends.
    unfinished: Blob,
}

impl Images {
    fn new() -> Self {
        Self {
            app: "app".parse().unwrap(),
            team: "team/app".parse().unwrap(),
            config: Blob::new(1, 10),
            whole: Blob::new(2, 300 * KIB),
            in_parts: Blob::new(3, 9 * MIB),
            in_chunks: Blob::new(4, 11 * MIB + 100),
            deleted: Blob::new(5, 100 * KIB),
            goes_too: Blob::new(6, 100 * KIB),
            unfinished: Blob::new(7, 9 * MIB),
        }
    }

    fn manifest(&self, layers: &[&Blob]) -> Vec<u8> {
        let layers: Vec<_> = layers.iter().map(|layer| layer.descriptor()).collect();
        let config = self.config.descriptor();
        json!({ "schemaVersion": 2, "mediaType": IMAGE, "config": config, "layers": layers }).to_string().into_bytes()
    }
}

/// What went wrong.
enum Failure {
    /// The store failed.
    Store(String),
    Other(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let is_the_store = matches!(error, Error::Storage(StorageError::Backend { .. }));
        let why = format!("{error:?}");
        if is_the_store { Self::Store(why) } else { Self::Other(why) }
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        Error::from(error).into()
    }
}

impl From<GcError> for Failure {
    fn from(error: GcError) -> Self {
        match error {
            GcError::Storage(error) => error.into(),
            error => Self::Other(format!("{error:?}")),
        }
    }
}

/// Does once whatever is due.
async fn collect(world: &World) -> Result<(), GcError> {
    let collector = world.collector(0);
    collector.expire_uploads().await?;
    collector.forget_deleted().await?;
    collector.add_up_usage().await?;
    for step in [Step::Manifests, Step::Grants, Step::Blobs] {
        while let Some(found) = collector.look(step).await? {
            collector.act(found).await?;
        }
    }
    collector.delete_condemned().await?;
    Ok(())
}

/// Who does everything once more that the store has failed at, and expects that to be enough.
struct Insistent<'a> {
    world: &'a mut World,
    images: &'a Images,
    /// What the clock says.
    now: Duration,
    failures: usize,
}

impl Insistent<'_> {
    async fn play(mut self) -> Outcome {
        let images = self.images;
        let Images { app, team, .. } = images;
        let in_app = [&images.whole, &images.in_parts, &images.in_chunks];
        for blob in [&images.config, &images.whole, &images.in_parts, &images.deleted, &images.goes_too] {
            self.push(app, blob).await?;
        }
        self.push_in_chunks(app, &images.in_chunks).await?;
        self.mount(app, team, &images.whole).await?;
        self.push(team, &images.config).await?;
        self.push_manifest(app, "latest", images.manifest(&in_app)).await?;
        self.push_manifest(team, "latest", images.manifest(&[&images.whole])).await?;
        self.push_manifest(app, "old", images.manifest(&[&images.goes_too])).await?;
        self.leave_an_upload(app, &images.unfinished).await?;
        for blob in in_app {
            self.pull(app, blob, 0..blob.bytes.len()).await?;
        }
        self.pull(app, &images.in_parts, 5 * MIB..6 * MIB + 5).await?;
        self.pull(team, &images.whole, 7..70_000).await?;
        self.delete(app, &images.deleted, &images.manifest(&[&images.goes_too])).await?;
        self.compare().await?;
        self.collect().await?;
        self.compare().await?;
        self.world.faulty.plan(|_, _| Fault::None);
        self.verify(&in_app).await
    }

    async fn insist<T>(&mut self, what: &str, operation: impl AsyncFn(&World) -> Result<T, Failure>) -> Outcome<T> {
        match operation(self.world).await {
            Ok(done) => Ok(done),
            Err(failure) => {
                self.forgive(what, failure)?;
                let again = operation(self.world).await;
                again.map_err(|(Failure::Store(why) | Failure::Other(why))| format!("{what}, once more: {why}"))
            }
        }
    }

    /// The store may fail once.
    fn forgive(&mut self, what: &str, failure: Failure) -> Outcome {
        self.failures += 1;
        match failure {
            Failure::Store(_) if self.failures == 1 => Ok(()),
            Failure::Store(why) | Failure::Other(why) => Err(format!("{what}: {why}")),
        }
    }

    async fn push(&mut self, repository: &RepositoryName, blob: &Blob) -> Outcome {
        let push = async |world: &World| {
            let chunk = Chunk { start: None, ..blob.chunk(0..blob.bytes.len()) };
            Ok(world.registry(0).push_blob(repository, None, blob.digest, chunk).await?)
        };
        self.insist("a push", push).await
    }

    async fn begin(&mut self, repository: &RepositoryName) -> Outcome<UploadAddress> {
        let begin =
            async |world: &World| Ok(world.registry(0).begin_upload(repository, None, Algorithm::Sha256).await?);
        let id = self.insist("the beginning of an upload", begin).await?;
        Ok(UploadAddress { repository: repository.clone(), id, principal: None })
    }

    /// Sends the bytes up to this one, from where the session says that it ends.
    async fn append(&mut self, address: &UploadAddress, blob: &Blob, end: usize) -> Outcome {
        let append = async |world: &World| {
            let registry = world.registry(0);
            let received = registry.upload_progress(address.clone()).await? as usize;
            if received < end {
                registry.append(address.clone(), blob.chunk(received..end)).await?;
            }
            Ok(())
        };
        self.insist("a chunk", append).await
    }

    async fn push_in_chunks(&mut self, repository: &RepositoryName, blob: &Blob) -> Outcome {
        let address = self.begin(repository).await?;
        for end in [2 * MIB, 7 * MIB, 11 * MIB] {
            self.append(&address, blob, end).await?;
        }
        let finish = async |world: &World| {
            let last = blob.chunk(11 * MIB..blob.bytes.len());
            Ok(world.registry(0).finish_upload(address.clone(), blob.digest, last).await?)
        };
        self.insist("the end of an upload", finish).await
    }

    async fn leave_an_upload(&mut self, repository: &RepositoryName, blob: &Blob) -> Outcome {
        let address = self.begin(repository).await?;
        self.append(&address, blob, blob.bytes.len()).await
    }

    async fn mount(&mut self, from: &RepositoryName, target: &RepositoryName, blob: &Blob) -> Outcome {
        let mount =
            async |world: &World| Ok(world.registry(0).mount_blob(target, &blob.digest, Some(from), |_| true).await?);
        if self.insist("a mount", mount).await? { Ok(()) } else { Err("a blob is not there to be mounted".to_owned()) }
    }

    async fn push_manifest(&mut self, repository: &RepositoryName, tag: &str, body: Vec<u8>) -> Outcome {
        let push = async |world: &World| {
            let manifest = NewManifest {
                reference: Reference::Tag(tag.parse().unwrap()),
                tags: Vec::new(),
                content_type: Some(IMAGE.to_owned()),
                body: body.clone().into(),
            };
            world.registry(0).push_manifest(repository, None, manifest).await?;
            Ok(())
        };
        self.insist("the push of a manifest", push).await
    }

    async fn pull(&mut self, repository: &RepositoryName, blob: &Blob, range: Range<usize>) -> Outcome {
        let pull = async |world: &World| {
            let registry = world.registry(0);
            let found = registry.find_blob(repository, &blob.digest).await?;
            let reader = registry.open_blob(&found).await?;
            let bytes = reader.begin(range.start as u64..range.end as u64, Delivery::Copied).await?;
            Ok(bytes.try_collect::<Vec<_>>().await?.concat())
        };
        let pulled = self.insist("a pull", pull).await?;
        if pulled == blob.bytes[range] { Ok(()) } else { Err("other bytes are read than were pushed".to_owned()) }
    }

    /// Deletes a blob, and a manifest.
    async fn delete(&mut self, repository: &RepositoryName, blob: &Blob, manifest: &[u8]) -> Outcome {
        let delete = async |world: &World| Ok(world.registry(0).delete_blob(repository, &blob.digest).await?);
        self.insist("the delete of a blob", delete).await?;
        let reference = Reference::Digest(Digest::of(Algorithm::Sha256, manifest));
        let delete = async |world: &World| Ok(world.registry(0).delete_manifest(repository, None, &reference).await?);
        self.insist("the delete of a manifest", delete).await
    }

    /// The store has what the database says, and nothing that it knows nothing of.
    async fn compare(&mut self) -> Outcome {
        let findings = self.insist("a check", async |world: &World| Ok(world.compare(false).await?)).await?;
        if findings.is_empty() { Ok(()) } else { Err(format!("the check finds {findings:?}")) }
    }

    async fn collect(&mut self) -> Outcome {
        for _ in 0..ROUNDS {
            self.now += REST;
            self.world.move_to(self.now, true).await;
            if let Err(error) = collect(self.world).await {
                self.forgive("a collection", error.into())?;
            }
            if self.world.clock.count(LEFT).await == 0 {
                return Ok(());
            }
        }
        Err("something waits for the collector that it does not get done".to_owned())
    }

    /// What tags keep is there, byte for byte, and nothing else.
    async fn verify(&mut self, in_app: &[&Blob]) -> Outcome {
        let images = self.images;
        let Images { app, team, .. } = images;
        for (repository, layers) in [(app, in_app), (team, &[&images.whole])] {
            let registry = self.world.registry(0);
            let tag = Reference::Tag("latest".parse().unwrap());
            let found = registry.find_manifest(repository.clone(), tag, Purpose::Look).await;
            let body = found.map_err(|error| format!("a manifest is lost: {error}"))?.body;
            if body != images.manifest(layers) {
                return Err("a manifest has another body".to_owned());
            }
            for blob in layers.iter().chain([&&images.config]) {
                self.pull(repository, blob, 0..blob.bytes.len()).await?;
            }
        }
        for (sql, count) in [
            ("SELECT count(*) FROM manifests", 2),
            ("SELECT count(*) FROM repository_blobs", 6),
            ("SELECT count(*) FROM blobs", 4),
            ("SELECT count(*) FROM objects", 3),
        ] {
            let there = self.world.clock.count(sql).await;
            if there != count {
                return Err(format!("{sql} gives {there}, and {count} are needed"));
            }
        }
        let named: BTreeSet<String> = self.world.clock.keys().await.into_iter().collect();
        let book = self.world.ledger.book();
        if book.objects != named || !book.uploads.is_empty() || !book.written_again.is_empty() || book.lists > 0 {
            return Err(format!("the store holds {book:?}, and the database names {named:?}"));
        }
        Ok(())
    }
}

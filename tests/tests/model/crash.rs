//! A process that dies in the middle of something: nothing of it goes on, nothing is tidied up, and nobody is answered. What
//! it leaves is for whoever comes later.

use crate::{
    expected::Expected,
    faulty::Fault,
    operation::Unfinished,
    play::{Outcome, acknowledged, push_blob, push_in_parts},
    steps,
    world::{Limits, Replica, World},
};
use bytes::Bytes;
use futures_util::{future::BoxFuture, stream::BoxStream};
use longshore_gc::Error as GcError;
use longshore_registry::Result as Pushed;
use longshore_storage::{Backend, BegunUpload, ByteStream, ObjectKey, Result};
use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{runtime::Builder, sync::Notify, task::spawn_blocking};

/// Longer than it takes to let go of all that a process was at.
const PATIENCE: Duration = Duration::from_secs(60);

/// When a process dies: at a call to the store, counted from 0, before or after the store has done what it was asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Death {
    pub(crate) call: usize,
    pub(crate) after: bool,
}

/// The store as such a process has it.
#[derive(Debug)]
struct LastStore {
    inner: Arc<dyn Backend>,
    death: Death,
    calls: AtomicUsize,
    is_dead: Arc<Notify>,
}

impl LastStore {
    async fn until_death<T>(&self, work: BoxFuture<'_, Result<T>>) -> Result<T> {
        if self.calls.fetch_add(1, Ordering::Relaxed) != self.death.call {
            return work.await;
        }
        if self.death.after {
            let _ = work.await; // nobody hears of it
        }
        self.is_dead.notify_one();
        std::future::pending().await
    }
}

impl Backend for LastStore {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn place(&self) -> String {
        self.inner.place()
    }

    fn put<'call>(&'call self, key: &'call ObjectKey, bytes: Vec<Bytes>) -> BoxFuture<'call, Result<()>> {
        Box::pin(self.until_death(self.inner.put(key, bytes)))
    }

    fn begin<'call>(&'call self, key: &'call ObjectKey) -> BoxFuture<'call, Result<String>> {
        Box::pin(self.until_death(self.inner.begin(key)))
    }

    fn put_part<'call>(
        &'call self,
        key: &'call ObjectKey,
        upload: &'call str,
        number: u32,
        bytes: Vec<Bytes>,
    ) -> BoxFuture<'call, Result<String>> {
        Box::pin(self.until_death(self.inner.put_part(key, upload, number, bytes)))
    }

    fn complete<'call>(
        &'call self,
        key: &'call ObjectKey,
        upload: &'call str,
        parts: Vec<(u32, String)>,
    ) -> BoxFuture<'call, Result<()>> {
        Box::pin(self.until_death(self.inner.complete(key, upload, parts)))
    }

    fn abort<'call>(&'call self, key: &'call ObjectKey, upload: &'call str) -> BoxFuture<'call, Result<()>> {
        Box::pin(self.until_death(self.inner.abort(key, upload)))
    }

    fn uploads<'call>(&'call self, key: &'call ObjectKey) -> BoxFuture<'call, Result<Vec<String>>> {
        Box::pin(self.until_death(self.inner.uploads(key)))
    }

    fn list_uploads(&self) -> BoxStream<'_, Result<BegunUpload>> {
        self.inner.list_uploads()
    }

    fn list(&self) -> BoxStream<'_, Result<(ObjectKey, u64)>> {
        self.inner.list()
    }

    fn size<'call>(&'call self, key: &'call ObjectKey) -> BoxFuture<'call, Result<u64>> {
        Box::pin(self.until_death(self.inner.size(key)))
    }

    fn read<'call>(&'call self, key: &'call ObjectKey, range: Range<u64>) -> BoxFuture<'call, Result<ByteStream>> {
        Box::pin(self.until_death(self.inner.read(key, range)))
    }

    fn delete<'call>(&'call self, key: &'call ObjectKey) -> BoxFuture<'call, Result<()>> {
        Box::pin(self.until_death(self.inner.delete(key)))
    }
}

/// What a process answers that does not die before.
enum Answer {
    Pushed(Pushed<()>),
    Deleted(std::result::Result<(), GcError>),
}

async fn work(url: String, limits: Limits, store: Arc<LastStore>, at: Unfinished) -> Answer {
    let Replica { registry, collector, .. } = Replica::start(&url, store, &limits).await;
    match at {
        Unfinished::PushBlob { repository, blob } => Answer::Pushed(push_blob(&registry, repository, blob).await),
        Unfinished::PushInParts { repository, blob } => {
            let every = [&registry, &registry, &registry];
            Answer::Pushed(push_in_parts(every, repository, blob, true).await)
        }
        Unfinished::DeleteObjects => Answer::Deleted(collector.delete_condemned().await.map(drop)),
    }
}

/// Lets a process die at something, and another begin in its place.
pub(crate) async fn crash(
    world: &mut World,
    expected: &mut Expected,
    replica: usize,
    at: Unfinished,
    death: Death,
) -> Outcome {
    steps::notice(world, expected).await?;
    if matches!(at, Unfinished::DeleteObjects) && !steps::may_go_on(world, expected, replica).await? {
        return Ok(());
    }
    world.faulty.plan(|_, _| Fault::None);
    let number = world.process(replica);
    world.end_one(number).await;
    expected.collection.ended(number);
    let is_dead = Arc::new(Notify::new());
    let store = LastStore { inner: world.faulty.clone(), death, calls: AtomicUsize::new(0), is_dead: is_dead.clone() };
    let process = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let working = process.spawn(work(world.url.clone(), world.limits.clone(), Arc::new(store), at));
    let answer = tokio::select! {
        answer = working => Some(answer.unwrap()),
        () = is_dead.notified() => None,
    };
    spawn_blocking(move || process.shutdown_timeout(PATIENCE)).await.unwrap();
    world.begin_one(number).await;
    match (answer, at) {
        (Some(Answer::Pushed(pushed)), Unfinished::PushBlob { repository, blob })
        | (Some(Answer::Pushed(pushed)), Unfinished::PushInParts { repository, blob }) => {
            acknowledged(world, pushed, expected, repository, blob).await
        }
        (Some(Answer::Deleted(Err(error))), _) => Err(error.to_string()),
        _ => Ok(()),
    }
}

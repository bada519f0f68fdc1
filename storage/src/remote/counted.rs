//! A store whose requests are counted: by what they were for, what came of them, and how long their answers took.

use super::{
    Backend, BegunUpload, PresignedUrl,
    requests::{Counts, Operation, Outcome},
};
use crate::{DocumentName, ObjectKey, Result, read::ByteStream};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, future::BoxFuture, stream::BoxStream};
use std::{
    ops::Range,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::Instant;

/// The store behind it, and what was asked of it.
#[derive(Debug)]
pub(super) struct Counted {
    inner: Arc<dyn Backend>,
    counts: Arc<Counts>,
}

/// One request. It is counted when it ends: as given up, unless an answer came.
struct Request {
    counts: Arc<Counts>,
    operation: Operation,
    outcome: Outcome,
    begun: Instant,
}

impl Request {
    /// The answer has come, or has begun.
    fn answered<T>(&mut self, answer: &Result<T>) {
        self.counts.took(self.operation, self.begun.elapsed());
        self.outcome = Outcome::of(answer);
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.counts.ended(self.operation, self.outcome);
    }
}

impl Counted {
    pub(super) fn new(inner: Arc<dyn Backend>) -> Self {
        Self { inner, counts: Arc::default() }
    }

    pub(super) fn counts(&self) -> &Counts {
        &self.counts
    }

    fn request(&self, operation: Operation) -> Request {
        Request { counts: self.counts.clone(), operation, outcome: Outcome::GivenUp, begun: Instant::now() }
    }

    fn count<'call, T: 'call>(
        &self,
        operation: Operation,
        call: BoxFuture<'call, Result<T>>,
    ) -> BoxFuture<'call, Result<T>> {
        let mut request = self.request(operation);
        Box::pin(async move {
            let answer = call.await;
            request.answered(&answer);
            answer
        })
    }

    /// The same for what sends so many bytes.
    fn count_sent<'call, T: 'call>(
        &self,
        operation: Operation,
        length: usize,
        call: BoxFuture<'call, Result<T>>,
    ) -> BoxFuture<'call, Result<T>> {
        let counts = self.counts.clone();
        let counted = self.count(operation, call);
        Box::pin(async move {
            let answer = counted.await?;
            counts.wrote(length as u64);
            Ok(answer)
        })
    }

    fn count_list<'call, T: Send + 'call>(&self, list: BoxStream<'call, Result<T>>) -> BoxStream<'call, Result<T>> {
        Box::pin(Answer {
            inner: list,
            request: self.request(Operation::List),
            has_begun: false,
            length: |_| 0,
            left: None,
        })
    }
}

/// An answer of many items. It has come when it is at its end, or has as many bytes as were asked for: who has those asks
/// for no more.
struct Answer<'call, T> {
    inner: BoxStream<'call, Result<T>>,
    request: Request,
    has_begun: bool,
    length: fn(&T) -> u64,
    /// How many bytes are still to come, where that is known.
    left: Option<u64>,
}

impl<T> Stream for Answer<'_, T> {
    type Item = Result<T>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let next = ready!(this.inner.poll_next_unpin(context));
        if !this.has_begun {
            this.has_begun = true;
            this.request.counts.took(this.request.operation, this.request.begun.elapsed());
        }
        match &next {
            Some(Ok(item)) => this.came((this.length)(item)),
            Some(failed) => this.request.outcome = Outcome::of(failed),
            None if this.request.outcome == Outcome::GivenUp => this.request.outcome = Outcome::Ok,
            None => {}
        }
        Poll::Ready(next)
    }
}

impl<T> Answer<'_, T> {
    fn came(&mut self, bytes: u64) {
        self.request.counts.read(bytes);
        self.left = self.left.map(|left| left.saturating_sub(bytes));
        if self.left == Some(0) {
            self.request.outcome = Outcome::Ok;
        }
    }
}

fn length(bytes: &[Bytes]) -> usize {
    bytes.iter().map(Bytes::len).sum()
}

impl Backend for Counted {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn place(&self) -> String {
        self.inner.place()
    }

    fn retries(&self) -> u64 {
        self.inner.retries()
    }

    fn put<'call>(&'call self, key: &'call ObjectKey, bytes: Vec<Bytes>) -> BoxFuture<'call, Result<()>> {
        self.count_sent(Operation::Put, length(&bytes), self.inner.put(key, bytes))
    }

    fn begin<'call>(&'call self, key: &'call ObjectKey) -> BoxFuture<'call, Result<String>> {
        self.count(Operation::Begin, self.inner.begin(key))
    }

    fn put_part<'call>(
        &'call self,
        key: &'call ObjectKey,
        upload: &'call str,
        number: u32,
        bytes: Vec<Bytes>,
    ) -> BoxFuture<'call, Result<String>> {
        self.count_sent(Operation::PutPart, length(&bytes), self.inner.put_part(key, upload, number, bytes))
    }

    fn complete<'call>(
        &'call self,
        key: &'call ObjectKey,
        upload: &'call str,
        parts: Vec<(u32, String)>,
    ) -> BoxFuture<'call, Result<()>> {
        self.count(Operation::Complete, self.inner.complete(key, upload, parts))
    }

    fn abort<'call>(&'call self, key: &'call ObjectKey, upload: &'call str) -> BoxFuture<'call, Result<()>> {
        self.count(Operation::Abort, self.inner.abort(key, upload))
    }

    fn uploads<'call>(&'call self, key: &'call ObjectKey) -> BoxFuture<'call, Result<Vec<String>>> {
        self.count(Operation::List, self.inner.uploads(key))
    }

    fn list_uploads(&self) -> BoxStream<'_, Result<BegunUpload>> {
        self.count_list(self.inner.list_uploads())
    }

    fn list(&self) -> BoxStream<'_, Result<(ObjectKey, u64)>> {
        self.count_list(self.inner.list())
    }

    fn size<'call>(&'call self, key: &'call ObjectKey) -> BoxFuture<'call, Result<u64>> {
        self.count(Operation::Size, self.inner.size(key))
    }

    fn read<'call>(&'call self, key: &'call ObjectKey, range: Range<u64>) -> BoxFuture<'call, Result<ByteStream>> {
        let (mut request, left) = (self.request(Operation::Read), Some(range.end - range.start));
        let length = |piece: &Bytes| piece.len() as u64;
        Box::pin(async move {
            let answer = self.inner.read(key, range).await;
            request.answered(&answer);
            let inner = answer?;
            request.outcome = Outcome::GivenUp;
            Ok(Box::pin(Answer { inner, request, has_begun: true, length, left }) as ByteStream)
        })
    }

    /// Signed here: nobody is asked.
    fn presign<'call>(
        &'call self,
        key: &'call ObjectKey,
        lifetime: Duration,
    ) -> BoxFuture<'call, Result<Option<PresignedUrl>>> {
        self.inner.presign(key, lifetime)
    }

    fn delete<'call>(&'call self, key: &'call ObjectKey) -> BoxFuture<'call, Result<()>> {
        self.count(Operation::Delete, self.inner.delete(key))
    }

    fn delete_all<'call>(&'call self, keys: &'call [ObjectKey]) -> BoxFuture<'call, Result<()>> {
        self.count(Operation::Delete, self.inner.delete_all(keys))
    }

    fn put_document<'call>(&'call self, name: &'call DocumentName, bytes: Bytes) -> BoxFuture<'call, Result<()>> {
        self.count_sent(Operation::Put, bytes.len(), self.inner.put_document(name, bytes))
    }

    fn read_document<'call>(&'call self, name: &'call DocumentName) -> BoxFuture<'call, Result<Bytes>> {
        let (counts, read) = (self.counts.clone(), self.count(Operation::Read, self.inner.read_document(name)));
        Box::pin(async move {
            let bytes = read.await?;
            counts.read(bytes.len() as u64);
            Ok(bytes)
        })
    }

    fn list_documents(&self) -> BoxStream<'_, Result<(DocumentName, u64)>> {
        self.count_list(self.inner.list_documents())
    }

    fn delete_document<'call>(&'call self, name: &'call DocumentName) -> BoxFuture<'call, Result<()>> {
        self.count(Operation::Delete, self.inner.delete_document(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Error, memory_backend, remote::requests::OperationUsage};
    use futures_util::TryStreamExt;

    const LENGTH: u64 = 1_000_000;

    async fn with_object() -> (Counted, ObjectKey) {
        let (counted, key) = (Counted::new(memory_backend()), ObjectKey::random());
        counted.put(&key, vec![vec![7; LENGTH as usize].into()]).await.unwrap();
        (counted, key)
    }

    fn of(counted: &Counted, operation: &str) -> OperationUsage {
        counted.counts().operations().into_iter().find(|usage| usage.name == operation).unwrap()
    }

    /// How often each came of an operation: what was asked for, that it is not there, an error, nothing.
    fn outcomes(counted: &Counted, operation: &str) -> [u64; 4] {
        of(counted, operation).outcomes.map(|(_, count)| count)
    }

    #[tokio::test]
    async fn a_read_ends_with_its_last_byte_or_when_nobody_reads_on() {
        let (counted, key) = with_object().await;
        let whole: Vec<_> = counted.read(&key, 0..LENGTH).await.unwrap().try_collect().await.unwrap();
        assert_eq!(length(&whole) as u64, LENGTH);
        assert_eq!((outcomes(&counted, "read"), counted.counts().bytes()), ([1, 0, 0, 0], (LENGTH, LENGTH)));

        let mut begun = counted.read(&key, 0..LENGTH).await.unwrap();
        let some = begun.try_next().await.unwrap().unwrap().len() as u64;
        assert_eq!(outcomes(&counted, "read"), [1, 0, 0, 0], "it is on its way");
        drop(begun);
        assert_eq!((outcomes(&counted, "read"), counted.counts().bytes()), ([1, 0, 0, 1], (LENGTH + some, LENGTH)));

        let mut all = counted.read(&key, 0..some).await.unwrap();
        assert_eq!(all.try_next().await.unwrap().unwrap().len() as u64, some);
        drop(all); // and nobody looks whether more comes
        assert_eq!(outcomes(&counted, "read"), [2, 0, 0, 1]);

        assert!(matches!(counted.read(&ObjectKey::random(), 0..1).await, Err(Error::Lost { .. })));
        drop(counted.read(&key, 0..LENGTH)); // before it was answered
        assert_eq!(outcomes(&counted, "read"), [2, 1, 0, 2]);
        assert_eq!(of(&counted, "read").answers(), 4);
    }

    #[tokio::test]
    async fn each_operation_is_counted_by_what_came_of_it() {
        let (counted, key) = with_object().await;
        let upload = counted.begin(&key).await.unwrap();
        counted.put_part(&key, &upload, 0, vec![Bytes::from_static(b"part")]).await.unwrap();
        assert!(counted.put_part(&key, "another", 0, Vec::new()).await.is_err());
        counted.abort(&key, &upload).await.unwrap();
        let all: Vec<_> = counted.list().try_collect().await.unwrap();
        assert_eq!(all.len(), 1);
        counted.size(&key).await.unwrap();
        counted.delete_all(&[key]).await.unwrap();
        for (operation, expected) in [
            ("put", [1, 0, 0, 0]),
            ("begin", [1, 0, 0, 0]),
            ("put_part", [1, 1, 0, 0]),
            ("complete", [0, 0, 0, 0]),
            ("abort", [1, 0, 0, 0]),
            ("list", [1, 0, 0, 0]),
            ("size", [1, 0, 0, 0]),
            ("delete", [1, 0, 0, 0]),
        ] {
            assert_eq!(outcomes(&counted, operation), expected, "{operation}");
        }
        assert_eq!(counted.counts().bytes(), (0, LENGTH + 4));
    }
}

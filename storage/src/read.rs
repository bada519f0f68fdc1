//! Reading an object: a stream of chunks, each read on a blocking thread when the reader asks for it, so that a slow
//! reader holds one chunk and no thread.

use crate::{Error, ObjectKey, Result};
use bytes::Bytes;
use futures_util::{Stream, future::FutureExt};
use std::{
    fs::File,
    io,
    ops::Range,
    os::unix::fs::FileExt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::task::JoinHandle;

/// Bytes on their way to a reader.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>;

/// What one read takes from the file.
const CHUNK: u64 = 256 * 1024;

/// A range of an object.
#[derive(Debug)]
pub struct ObjectStream {
    key: ObjectKey,
    file: Arc<File>,
    range: Range<u64>,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
}

impl ObjectStream {
    pub(crate) fn new(key: ObjectKey, file: File, range: Range<u64>) -> Self {
        Self { key, file: Arc::new(file), range, reading: None }
    }

    /// A reader of another range of the same open file.
    pub fn of_range(&self, range: Range<u64>) -> Self {
        Self { key: self.key.clone(), file: self.file.clone(), range, reading: None }
    }
}

impl Stream for ObjectStream {
    type Item = Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.range.is_empty() {
            return Poll::Ready(None);
        }
        let reading = this.reading.get_or_insert_with(|| {
            let (file, range) = (this.file.clone(), this.range.clone());
            tokio::task::spawn_blocking(move || read_chunk(&file, range.start, range.end))
        });
        let outcome = ready!(reading.poll_unpin(context));
        this.reading = None;
        let chunk = match outcome {
            Ok(Ok(chunk)) => chunk,
            Ok(Err(source)) => {
                this.range.start = this.range.end;
                return Poll::Ready(Some(Err(Error::io(&this.key, source))));
            }
            Err(_) => return Poll::Ready(Some(Err(Error::ShuttingDown))),
        };
        this.range.start += chunk.len() as u64;
        Poll::Ready(Some(Ok(chunk)))
    }
}

/// Reads from `offset` at most a chunk and never beyond `end`. A file that ends before is an error.
pub(crate) fn read_chunk(file: &File, offset: u64, end: u64) -> io::Result<Bytes> {
    let length = usize::try_from(CHUNK.min(end - offset)).expect("a chunk fits into memory");
    let mut buffer = vec![0; length];
    file.read_exact_at(&mut buffer, offset)?;
    Ok(buffer.into())
}

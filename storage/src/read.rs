//! Reading an object: the rungs of a ladder, taken anew for each piece, so that a slow reader holds one piece and no
//! thread.
//!
//! 1. Where the connection can send from a file ([`Delivery::Mapped`]), and the object is not small, a range of the
//!    mapped file: nobody reads it but the kernel. From the page cache that costs no more than from our own memory, and
//!    no memory (docs/adr/0010).
//! 2. A segment in the hot cache; where the object is let into the cache and the segment is not there, it is read into
//!    it, once for all who wait.
//! 3. A chunk is read into memory on a blocking thread: a small one where the memory for reads is used up.
//!
//! What is in an object store comes from the hot cache, or with all who read it now (`remote/flight.rs`).

use crate::{
    ObjectKey, Result,
    hot::{HotSegments, segment, segment_of},
    objects::OpenObject,
    remote::{Patience, RemoteObject, Seat},
};
use bytes::Bytes;
use futures_util::{Stream, TryStreamExt, future::BoxFuture};
use std::{
    ops::Range,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

/// Bytes on their way to a reader.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>;

/// Objects up to this size are better kept in memory than sent from their file: two more system calls would cost more
/// than the copy.
pub(crate) const SMALL: u64 = 64 * 1024;
/// What a read into memory takes from the file, of the memory for reads.
const CHUNK: u64 = 256 * 1024;
/// The same where that is used up: nobody counts it, so a thousand slow readers have 64 MiB of it.
const LEAN: u64 = 64 * 1024;
/// What is handed out of a mapped file at a time: it costs no memory, so it is more.
const MAPPED_CHUNK: u64 = 8 * 1024 * 1024;

/// What the reader does with the pieces that it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Looks at them (TLS, a hash), or passes them on to who knows whom: they are in memory.
    Copied,
    /// Passes them to a socket as they are: some may be ranges of a mapped file, see [`crate::Mappings::locate`].
    Mapped,
}

/// An object that is open: its ranges can be read in any order and number.
#[derive(Debug, Clone)]
pub struct ObjectReader {
    key: ObjectKey,
    /// As the database has recorded it: there may be more in the file.
    size: u64,
    source: Source,
    hot: HotSegments,
}

#[derive(Debug, Clone)]
enum Source {
    /// All of it is in memory: one segment.
    Hot(Bytes),
    File {
        object: Arc<OpenObject>,
        is_admitted: bool,
    },
    Remote(RemoteObject),
}

/// A piece, and the reader's place among those of an object store's object.
type Piece = (Bytes, Option<Seat>);

impl ObjectReader {
    pub(crate) fn of_segment(key: ObjectKey, bytes: Bytes, hot: HotSegments) -> Self {
        Self { key, size: bytes.len() as u64, source: Source::Hot(bytes), hot }
    }

    pub(crate) fn of_file(object: Arc<OpenObject>, size: u64, is_admitted: bool, hot: HotSegments) -> Self {
        Self { key: object.key().clone(), size, source: Source::File { object, is_admitted }, hot }
    }

    pub(crate) fn of_remote(object: RemoteObject, size: u64, hot: HotSegments) -> Self {
        Self { key: object.key().clone(), size, source: Source::Remote(object), hot }
    }

    /// The bytes of a range, which lies within the object.
    pub fn range(&self, range: Range<u64>, delivery: Delivery) -> ObjectStream {
        let range = range.start.min(self.size)..range.end.min(self.size);
        ObjectStream {
            reader: self.clone(),
            range,
            delivery,
            first: None,
            seat: None,
            patience: Patience::AmidAnswer,
            next: None,
        }
    }

    /// The next piece of a range that is not empty.
    async fn piece(
        self,
        range: Range<u64>,
        delivery: Delivery,
        patience: Patience,
        seat: Option<Seat>,
    ) -> Result<Piece> {
        match &self.source {
            Source::Hot(bytes) => Ok((part(bytes, 0, &range), None)),
            Source::File { object, is_admitted } => {
                Ok((self.piece_of_file(object, *is_admitted, range, delivery).await?, None))
            }
            Source::Remote(object) => object.piece(range, patience, seat).await,
        }
    }

    async fn piece_of_file(
        &self,
        object: &Arc<OpenObject>,
        is_admitted: bool,
        range: Range<u64>,
        delivery: Delivery,
    ) -> Result<Bytes> {
        if delivery == Delivery::Mapped
            && self.size > SMALL
            && let Some(bytes) = object.mapped(range.start..range.end.min(range.start + MAPPED_CHUNK))
        {
            return Ok(bytes);
        }
        if is_admitted && (delivery == Delivery::Copied || self.size <= SMALL) {
            let number = segment_of(range.start);
            let read = object.clone().read(segment(number, self.size));
            if let Some(bytes) = self.hot.get_or_read(&self.key, self.size, number, read).await {
                return Ok(part(&bytes, segment(number, self.size).start, &range));
            }
        }
        let charge = self.hot.try_charge(CHUNK.min(range.end - range.start));
        let length = if charge.is_some() { CHUNK } else { LEAN };
        let bytes = object.clone().read(range.start..range.end.min(range.start + length)).await?;
        Ok(match charge {
            Some(charge) => charge.hold(bytes),
            None => bytes.into(),
        })
    }
}

/// What `bytes`, which begin at `start`, have of the beginning of the range.
pub(crate) fn part(bytes: &Bytes, start: u64, range: &Range<u64>) -> Bytes {
    let from = (range.start - start) as usize;
    let to = (range.end - start).min(bytes.len() as u64) as usize;
    bytes.slice(from..to)
}

/// A range of an object on its way to its reader.
pub struct ObjectStream {
    reader: ObjectReader,
    /// What is still to come.
    range: Range<u64>,
    delivery: Delivery,
    /// What was read before anybody asked for it.
    first: Option<Bytes>,
    seat: Option<Seat>,
    patience: Patience,
    next: Option<BoxFuture<'static, Result<Piece>>>,
}

impl std::fmt::Debug for ObjectStream {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ObjectStream").field("key", &self.reader.key).field("range", &self.range).finish()
    }
}

impl ObjectStream {
    /// Waits for the first bytes of what is in an object store: whoever is told that they come can rely on it.
    pub async fn begin(mut self) -> Result<Self> {
        if matches!(self.reader.source, Source::Remote(_)) {
            self.patience = Patience::BeforeFirstByte;
            self.first = self.try_next().await?;
            self.patience = Patience::AmidAnswer;
        }
        Ok(self)
    }
}

impl Stream for ObjectStream {
    type Item = Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if let Some(first) = this.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        if this.range.is_empty() {
            return Poll::Ready(None);
        }
        let (reader, range, seat) = (&this.reader, &this.range, &mut this.seat);
        let (delivery, patience) = (this.delivery, this.patience);
        let next = this
            .next
            .get_or_insert_with(|| Box::pin(reader.clone().piece(range.clone(), delivery, patience, seat.take())));
        let outcome = ready!(next.as_mut().poll(context));
        this.next = None;
        Poll::Ready(Some(
            outcome
                .map(|(bytes, seat)| {
                    this.range.start += bytes.len() as u64;
                    this.seat = seat;
                    bytes
                })
                .inspect_err(|_| this.range.start = this.range.end),
        ))
    }
}

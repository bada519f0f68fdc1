//! Fetching segments from the object store, for whoever reads the object when they come.

use super::{
    flight::{Failure, Flight, Landing},
    flights::Flights,
};
use crate::{
    Error, ObjectKey,
    hot::{Charge, segment},
    read::ByteStream,
};
use bytes::Bytes;
use futures_util::TryStreamExt;
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tokio::{sync::watch, time::timeout};

/// A store that sends nothing for so long in the middle of an answer is asked again for the rest.
const SILENCE: Duration = Duration::from_secs(20);
/// So often, as long as nothing more comes, and with such pauses.
const ATTEMPTS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(100);

/// Segments still to come, in order, each with its memory.
struct Coming {
    flights: Arc<Flights>,
    flight: Arc<Flight>,
    number: u64,
    rest: VecDeque<(watch::Sender<Landing>, Charge)>,
    filling: Vec<u8>,
}

/// Fetches segments that follow each other in one request, or more of them where it breaks off.
pub(super) async fn fetch(
    flights: Arc<Flights>,
    flight: Arc<Flight>,
    first: u64,
    segments: Vec<(watch::Sender<Landing>, Charge)>,
) {
    let mut coming = Coming { flights, flight, number: first, rest: segments.into(), filling: Vec::new() };
    let mut attempts = 0;
    while !coming.rest.is_empty() {
        let before = coming.position();
        let failure = match coming.request().await {
            Ok(()) => continue,
            Err(Error::Lost { .. }) => Failure::Lost,
            Err(error) => Failure::Failed(error.to_string()),
        };
        attempts = if coming.position() > before { 1 } else { attempts + 1 };
        if attempts >= ATTEMPTS || matches!(failure, Failure::Lost) {
            return coming.fail(&failure);
        }
        tracing::debug!(key = %coming.flight.key, ?failure, "the rest of an object is asked for again");
        tokio::time::sleep(PAUSE * attempts).await;
    }
}

impl Coming {
    /// The first byte that has not come.
    fn position(&self) -> u64 {
        segment(self.number, self.flight.size).start + self.filling.len() as u64
    }

    async fn request(&mut self) -> Result<(), Error> {
        let last = self.number + self.rest.len() as u64 - 1;
        let range = self.position()..segment(last, self.flight.size).end;
        let flights = self.flights.clone();
        let _turn = flights.turn().await?;
        let mut pieces = flights.first_byte.read(&*flights.backend, &self.flight.key, range).await?;
        while let Some(piece) = next(&mut pieces, &self.flight.key).await? {
            self.take(&piece).await;
        }
        if self.rest.is_empty() { Ok(()) } else { Err(broken_off(&self.flight.key)) }
    }

    async fn take(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() && !self.rest.is_empty() {
            let range = segment(self.number, self.flight.size);
            let length = usize::try_from(range.end - range.start).unwrap_or_default();
            if self.filling.capacity() == 0 {
                self.filling.reserve_exact(length);
            }
            let (taken, left) = piece.split_at(piece.len().min(length - self.filling.len()));
            self.filling.extend_from_slice(taken);
            piece = left;
            if self.filling.len() == length {
                self.land().await;
            }
        }
    }

    /// Hands a whole segment to all who wait for it.
    async fn land(&mut self) {
        let Some((sender, charge)) = self.rest.pop_front() else { return };
        let bytes = charge.hold(std::mem::take(&mut self.filling));
        if self.flight.is_admitted() {
            self.flights.hot.keep(&self.flight.key, self.number, bytes.clone()).await;
        }
        self.flights.hot.count();
        self.flight.land(self.number, &bytes);
        sender.send_replace(Some(Ok(bytes)));
        self.number += 1;
    }

    fn fail(mut self, failure: &Failure) {
        for (sender, _) in std::mem::take(&mut self.rest) {
            self.flight.give_up(self.number);
            self.number += 1;
            sender.send_replace(Some(Err(failure.clone())));
        }
    }
}

/// A task that ends before its time leaves nothing that anybody would wait for.
impl Drop for Coming {
    fn drop(&mut self) {
        for number in self.number..self.number + self.rest.len() as u64 {
            self.flight.give_up(number);
        }
    }
}

async fn next(pieces: &mut ByteStream, key: &ObjectKey) -> Result<Option<Bytes>, Error> {
    match timeout(SILENCE, pieces.try_next()).await {
        Ok(piece) => piece,
        Err(_) => Err(Error::Backend { key: key.clone(), reason: "it fell silent".to_owned() }),
    }
}

fn broken_off(key: &ObjectKey) -> Error {
    Error::Backend { key: key.clone(), reason: "its answer broke off".to_owned() }
}

impl Failure {
    /// What a reader is told.
    pub(super) fn of(&self, key: &ObjectKey) -> Error {
        match self {
            Self::Lost => Error::Lost { key: key.clone() },
            Self::Failed(reason) => Error::Backend { key: key.clone(), reason: reason.clone() },
        }
    }
}

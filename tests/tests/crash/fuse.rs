//! When the server is killed: counted in what its clients do, not in time.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use longshore_tests::random::Random;
use tokio::sync::Notify;

use crate::MIB;

/// What clients do, and what a fuse may count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A byte of a body was sent.
    ByteSent,
    /// The last byte of a request was sent.
    RequestSent,
    /// A request was answered.
    Answered,
}

/// A number of events, after which the server is to die.
#[derive(Debug)]
pub(crate) struct Fuse {
    event: Event,
    left: AtomicI64,
    /// How many more questions the server answers before it is killed: a distance in its own time.
    pub(crate) questions: usize,
    blown: Notify,
    killed: AtomicBool,
}

impl Fuse {
    /// A fuse for the first few pushes of several clients.
    pub(crate) fn random(random: &mut Random) -> Self {
        let (event, count) = match random.between(0, 3) {
            0 => (Event::ByteSent, random.between(1, 12 * MIB)),
            1 => (Event::RequestSent, random.between(1, 60)),
            _ => (Event::Answered, random.between(1, 60)),
        };
        Self::after(event, count, random.between(0, 8))
    }

    /// A fuse that never blows.
    pub(crate) fn never() -> Self {
        Self::after(Event::Answered, usize::MAX >> 1, 0)
    }

    fn after(event: Event, count: usize, questions: usize) -> Self {
        let left = AtomicI64::new(i64::try_from(count).expect("no such count"));
        Self { event, left, questions, blown: Notify::new(), killed: AtomicBool::new(false) }
    }

    /// Counts events.
    pub(crate) fn count(&self, event: Event, number: usize) {
        let number = i64::try_from(number).expect("no such number");
        if event == self.event && (1..=number).contains(&self.left.fetch_sub(number, Ordering::SeqCst)) {
            self.blown.notify_one();
        }
    }

    /// Waits until the count is reached.
    pub(crate) async fn blown(&self) {
        self.blown.notified().await;
    }

    /// Says that from now on connections may break.
    pub(crate) fn kill(&self) {
        self.killed.store(true, Ordering::SeqCst);
    }

    /// Whether the server may be dead.
    pub(crate) fn killed(&self) -> bool {
        self.killed.load(Ordering::SeqCst)
    }
}

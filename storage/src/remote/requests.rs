//! What was asked of an object store, in numbers.

use crate::{Error, Result};
use std::{
    array,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Up to how many milliseconds answers took that are counted together; those that took longer come last.
const MILLIS: [u64; 12] = [5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 60_000];
const BUCKETS: usize = MILLIS.len() + 1;

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Read,
    Put,
    Begin,
    PutPart,
    Complete,
    Abort,
    Size,
    List,
    Delete,
}

/// Their names, in order.
const OPERATIONS: [&str; 9] = ["read", "put", "begin", "put_part", "complete", "abort", "size", "list", "delete"];

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// What was asked for.
    Ok,
    /// There is no such object or upload.
    Missing,
    /// The store failed, after all that is worth trying again was tried again.
    Failed,
    /// Nobody waited for its end.
    GivenUp,
}

/// Their names, in order.
const OUTCOMES: [&str; 4] = ["ok", "missing", "failed", "given_up"];

impl Outcome {
    pub(super) fn of<T>(answer: &Result<T>) -> Self {
        match answer {
            Ok(_) => Self::Ok,
            Err(Error::Lost { .. } | Error::UploadLost { .. } | Error::NoDocument { .. }) => Self::Missing,
            Err(_) => Self::Failed,
        }
    }
}

/// Requests for one thing.
#[derive(Debug, Clone, PartialEq)]
pub struct OperationUsage {
    /// What they are for, a word.
    pub name: &'static str,
    /// How many have ended so far, by what came of them, a word.
    pub outcomes: [(&'static str, u64); OUTCOMES.len()],
    /// How many answers took up to so many seconds, and longer than those before; the last bound is infinite. An answer
    /// of many bytes counts when it begins.
    pub buckets: [(f64, u64); BUCKETS],
    /// What all answers took together, in seconds.
    pub seconds: f64,
}

impl OperationUsage {
    /// How many answers there were.
    pub fn answers(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }
}

/// The numbers, as they grow.
#[derive(Debug, Default)]
pub(super) struct Counts {
    operations: [Count; OPERATIONS.len()],
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct Count {
    outcomes: [AtomicU64; OUTCOMES.len()],
    buckets: [AtomicU64; BUCKETS],
    micros: AtomicU64,
}

fn get(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

fn add(count: &AtomicU64, more: u64) {
    count.fetch_add(more, Ordering::Relaxed);
}

impl Counts {
    /// An answer has come, or begun, after so long.
    pub(super) fn took(&self, operation: Operation, elapsed: Duration) {
        let count = &self.operations[operation as usize];
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        add(&count.buckets[MILLIS.partition_point(|bound| bound * 1000 < micros)], 1);
        add(&count.micros, micros);
    }

    /// A request has ended.
    pub(super) fn ended(&self, operation: Operation, outcome: Outcome) {
        add(&self.operations[operation as usize].outcomes[outcome as usize], 1);
    }

    pub(super) fn read(&self, bytes: u64) {
        add(&self.read_bytes, bytes);
    }

    pub(super) fn wrote(&self, bytes: u64) {
        add(&self.written_bytes, bytes);
    }

    /// Bytes that were read, and that were written.
    pub(super) fn bytes(&self) -> (u64, u64) {
        (get(&self.read_bytes), get(&self.written_bytes))
    }

    pub(super) fn operations(&self) -> Vec<OperationUsage> {
        let bound = |bucket: usize| MILLIS.get(bucket).map_or(f64::INFINITY, |millis| *millis as f64 / 1000.0);
        let usage = |(&name, count): (&&'static str, &Count)| OperationUsage {
            name,
            outcomes: array::from_fn(|outcome| (OUTCOMES[outcome], get(&count.outcomes[outcome]))),
            buckets: array::from_fn(|bucket| (bound(bucket), get(&count.buckets[bucket]))),
            seconds: get(&count.micros) as f64 / 1e6,
        };
        OPERATIONS.iter().zip(&self.operations).map(usage).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_the_order_of_what_they_name() {
        for (operation, name) in
            [(Operation::Read, "read"), (Operation::PutPart, "put_part"), (Operation::Delete, "delete")]
        {
            assert_eq!(OPERATIONS[operation as usize], name);
        }
        for (outcome, name) in [(Outcome::Ok, "ok"), (Outcome::Failed, "failed"), (Outcome::GivenUp, "given_up")] {
            assert_eq!(OUTCOMES[outcome as usize], name);
        }
    }

    #[test]
    fn an_answer_is_counted_below_the_first_bound_that_it_keeps() {
        let counts = Counts::default();
        for millis in [0, 5, 6, 60_000, 60_001, 1_000_000] {
            counts.took(Operation::Size, Duration::from_millis(millis));
        }
        let usage = &counts.operations()[Operation::Size as usize];
        assert_eq!((usage.name, usage.answers(), usage.seconds), ("size", 6, 1120.012));
        let counted = |bound: f64| usage.buckets.iter().find(|(at, _)| *at == bound).unwrap().1;
        assert_eq!([0.005, 0.01, 60.0, f64::INFINITY].map(counted), [2, 1, 1, 2]);
    }
}

//! What an object store is asked, and what memory its bytes take on their way, in numbers for people.

use super::{RemoteStore, requests::OperationUsage};

/// What was asked of an object store so far, and the memory of uploads. That of reads is [`crate::HotUsage`].
#[derive(Debug, Clone, PartialEq)]
pub struct StoreUsage {
    /// Requests, by what they were for.
    pub operations: Vec<OperationUsage>,
    /// Attempts of reads, writes and deletions that failed by no fault of their own, or that the store wanted to be made
    /// later: each is made again, eight times at most.
    pub retries: u64,
    /// Reads that were asked for twice, as their first byte was late.
    pub hedges: u64,
    /// Of these, those that the second request answered.
    pub hedges_won: u64,
    /// Bytes of objects and documents that came.
    pub read_bytes: u64,
    /// Bytes of objects, parts and documents that were sent, and that the store has.
    pub written_bytes: u64,
    /// Memory of what is on its way to the store, in bytes; what is kept for an upload's turn counts as a whole.
    pub upload_memory: u64,
    /// What it never exceeds.
    pub upload_memory_capacity: u64,
    /// Uploads that were told to come back, as memory was short.
    pub refused_uploads: u64,
    /// Downloads that were told to come back, or broken off, as memory was short.
    pub refused_downloads: u64,
}

impl RemoteStore {
    /// What was asked of the store, and what its bytes take on their way.
    pub fn usage(&self) -> StoreUsage {
        let (read_bytes, written_bytes) = self.requests.counts().bytes();
        let (hedges, memory) = (self.flights.first_byte.hedges(), self.memory.usage());
        StoreUsage {
            operations: self.requests.counts().operations(),
            retries: self.backend.retries(),
            hedges: hedges.sent,
            hedges_won: hedges.won,
            read_bytes,
            written_bytes,
            upload_memory: memory.bytes,
            upload_memory_capacity: memory.capacity,
            refused_uploads: memory.refused,
            refused_downloads: self.flights.refused(),
        }
    }
}

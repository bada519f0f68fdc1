//! What an object store is asked and what memory its bytes take, for Prometheus. Where objects are files there is nothing to
//! tell.

use super::numbers::Numbers;
use longshore_storage::{OperationUsage, Storage, StoreUsage};
use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};
use std::fmt;

/// The numbers of the store below a storage.
#[derive(Debug)]
pub(crate) struct ObjectStoreMetrics(pub(crate) Storage);

impl Collector for ObjectStoreMetrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(usage) = self.0.store_usage() else { return Ok(()) };
        let mut numbers = Numbers::new(encoder);
        encode_requests(&mut numbers, &usage.operations)?;
        encode_traffic(&mut numbers, &usage)?;
        encode_memory(&mut numbers, &usage)
    }
}

fn encode_requests(numbers: &mut Numbers<'_>, operations: &[OperationUsage]) -> fmt::Result {
    let ended = operations.iter().flat_map(|operation| {
        let labelled = move |(outcome, count)| ([("operation", operation.name), ("outcome", outcome)], count);
        operation.outcomes.into_iter().map(labelled)
    });
    let about = "Requests to the object store that have ended";
    numbers.counters("longshore_object_store_requests", about, ended)?;
    let took = operations.iter().map(|operation| {
        let histogram = (operation.seconds, operation.answers(), &operation.buckets[..]);
        ([("operation", operation.name)], histogram)
    });
    let about = "How long the object store took to answer, or to begin the answer to a read";
    numbers.histograms_of_seconds("longshore_object_store_request_duration", about, took)
}

fn encode_traffic(numbers: &mut Numbers<'_>, usage: &StoreUsage) -> fmt::Result {
    let about = "Attempts that the object store failed in passing, each of which is made again";
    numbers.counter("longshore_object_store_retries", about, usage.retries)?;
    let about = "Reads that the object store was asked for twice, as their first byte was late";
    numbers.counter("longshore_object_store_hedges", about, usage.hedges)?;
    let about = "Reads that the second of two requests answered";
    numbers.counter("longshore_object_store_hedges_won", about, usage.hedges_won)?;
    numbers.counter("longshore_object_store_read_bytes", "Bytes from the object store", usage.read_bytes)?;
    numbers.counter("longshore_object_store_written_bytes", "Bytes to the object store", usage.written_bytes)
}

fn encode_memory(numbers: &mut Numbers<'_>, usage: &StoreUsage) -> fmt::Result {
    let about = "Memory of uploads on their way to the object store";
    numbers.gauge("longshore_upload_memory_bytes", about, usage.upload_memory)?;
    let about = "What upload_memory_bytes never exceeds";
    numbers.gauge("longshore_upload_memory_capacity_bytes", about, usage.upload_memory_capacity)?;
    let refused = [("upload", usage.refused_uploads), ("download", usage.refused_downloads)];
    let refused = refused.map(|(what, count)| ([("of", what)], count));
    numbers.counters("longshore_memory_refusals", "Requests that found no memory and were to come back", refused)
}

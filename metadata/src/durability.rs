//! What the answer to a write promises.

/// How much of the world may end without taking a write that was answered with it. See ADR 0009.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Nothing but the disk itself: the write is on it before the answer.
    Durable,
    /// The end of this process, kill -9 too. With the power (or, on PostgreSQL, with the database server) it may go,
    /// but only together with everything that came after it: a durable write that follows keeps it.
    Relaxed,
}

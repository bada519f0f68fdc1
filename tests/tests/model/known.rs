//! Histories that failed once, made short.

use crate::operation::{HOUR, Operation};
use longshore_gc::Step;

/// Each with what went wrong in it.
pub(crate) fn histories() -> [(&'static str, Vec<Operation>); 1] {
    use Operation::*;
    let push = |repository| PushBlob { replica: 0, repository, blob: 1 };
    let look = |step| Look { replica: 0, step };
    let two_holds_end_at_one_tick = vec![
        push(0),
        Advance(11 * HOUR),
        push(1),
        Advance(37 * HOUR),
        look(Step::Grants), // finds the first
        Advance(12 * HOUR),
        look(Step::Grants), // finds both
        Act,
        look(Step::Blobs), // the second holds it
        Act,
        Act,
    ];
    [("the review of a blob that was let go once more ended with the one before", two_holds_end_at_one_tick)]
}

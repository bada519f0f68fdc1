//! Histories that failed once, made short.

use crate::operation::{HOUR, Operation};
use longshore_gc::Step;

/// Each with what went wrong in it.
pub(crate) fn histories() -> [(&'static str, Vec<Operation>); 2] {
    use Operation::*;
    let push_blob = |repository, blob| PushBlob { replica: 0, repository, blob };
    let push_manifest = |manifest| PushManifest { replica: 0, repository: 0, manifest, tag: None };
    let look = |step| Look { replica: 0, step };
    let two_holds_end_at_one_tick = vec![
        push_blob(0, 1),
        Advance(11 * HOUR),
        push_blob(1, 1),
        Advance(37 * HOUR),
        look(Step::Grants), // finds the first
        Advance(12 * HOUR),
        look(Step::Grants), // finds both
        Act,
        look(Step::Blobs), // the second holds it
        Act,
        Act,
    ];
    let a_subject_comes_after_its_referrer_went = vec![
        push_blob(0, 7),
        push_manifest(8), // refers to the one below
        Advance(72 * HOUR),
        Pass { replica: 0 },
        push_blob(0, 0),
        push_blob(0, 1),
        push_manifest(0),
    ];
    [
        ("the review of a blob that was let go once more ended with the one before", two_holds_end_at_one_tick),
        ("a referrer that went was expected once its subject came", a_subject_comes_after_its_referrer_went),
    ]
}

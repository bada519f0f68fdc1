use super::*;
use crate::ObjectKey;
use proptest::prelude::*;

const MIB: u32 = 1024 * 1024;

fn index(segments: u64) -> Index {
    Index::new(segments * u64::from(MIB))
}

/// Segments of one object.
fn ids(count: u64) -> Vec<SegmentId> {
    let key = ObjectKey::random();
    (0..count).map(|number| SegmentId::new(&key, number).unwrap()).collect()
}

fn stored(id: &SegmentId, length: u32) -> Stored {
    Stored { id: id.clone(), length, checksum: 1 }
}

/// Admits and writes, and removes what has to go. Answers that.
fn put(index: &mut Index, id: &SegmentId) -> Vec<SegmentId> {
    let admission = index.admit(id, MIB);
    assert!(admission.is_admitted);
    let victims: Vec<_> = admission.victims.into_iter().map(|victim| victim.id).collect();
    victims.iter().for_each(|victim| index.gone(victim));
    assert!(index.arrived(&stored(id, MIB)));
    victims
}

fn put_all(index: &mut Index, ids: &[SegmentId]) {
    for id in ids {
        put(index, id);
    }
}

fn held(index: &Index, ids: &[SegmentId]) -> usize {
    ids.iter().filter(|id| index.holds(id, MIB)).count()
}

#[test]
fn a_large_layer_that_is_pulled_once_pushes_out_nothing_that_is_pulled_again() {
    let mut index = index(100);
    let (again, once) = (ids(50), ids(1000));
    put_all(&mut index, &again);
    for id in &again {
        assert!(index.read(id, MIB).is_some());
    }
    put_all(&mut index, &once);
    assert_eq!(held(&index, &again), 50);
    assert_eq!(held(&index, &once), 50, "the room that is left is used");
}

#[test]
fn what_comes_again_soon_after_it_went_is_not_on_probation() {
    let mut index = index(20);
    let (returning, new) = (ids(1).remove(0), ids(1).remove(0));
    put(&mut index, &returning);
    put_all(&mut index, &ids(20));
    assert!(!index.holds(&returning, MIB), "nobody has read it");
    put(&mut index, &returning);
    put(&mut index, &new);
    put_all(&mut index, &ids(100));
    assert!(index.holds(&returning, MIB));
    assert!(!index.holds(&new, MIB));
}

#[test]
fn in_the_main_queue_each_read_is_a_round_more() {
    let mut index = index(10);
    let found = ids(10);
    assert!(index.load(found.iter().map(|id| stored(id, MIB)).collect()).is_empty());
    index.read(&found[0], MIB);
    index.read(&found[0], MIB);
    index.touch(&found[1]);
    let mut gone = Vec::new();
    // Nothing is on probation for long: each comes again as soon as it has gone.
    for id in ids(24) {
        gone.extend(put(&mut index, &id));
        index.read(&id, MIB);
    }
    let place = |id| gone.iter().position(|gone| gone == id);
    assert_eq!(place(&found[2]), Some(0));
    assert!(place(&found[9]) < place(&found[1]), "{gone:?}");
    assert!(place(&found[1]).is_some());
    assert!(place(&found[0]).is_none_or(|round| Some(round) > place(&found[1])));
}

#[test]
fn a_start_takes_up_what_was_used_last_as_far_as_there_is_room() {
    let mut index = index(4);
    let found = ids(6);
    let again = Stored { checksum: 2, ..stored(&found[5], MIB) };
    let mut lie_there: Vec<_> = found.iter().map(|id| stored(id, MIB)).collect();
    lie_there.push(again.clone());
    let victims: Vec<_> = index.load(lie_there);
    assert_eq!(victims, [stored(&found[5], MIB), stored(&found[1], MIB), stored(&found[0], MIB)]);
    assert_eq!(held(&index, &found), 4);
    assert_eq!(index.read(&found[5], MIB), Some(again), "of two the later one");
    assert_eq!(put(&mut index, &ids(1)[0]), [found[2].clone()], "the least recently used goes first");
}

#[test]
fn small_segments_count_for_more_than_they_are() {
    let mut index = index(1);
    for id in ids(16) {
        assert!(index.admit(&id, 1).is_admitted);
    }
    assert_eq!(index.bytes(), u64::from(MIB));
    let admission = index.admit(&ids(1)[0], 1);
    assert!(!admission.is_admitted && admission.victims.is_empty(), "what is being written cannot go");
    assert_eq!(weight(MIB - 1), u64::from(MIB));
}

#[test]
fn nobody_writes_what_is_about_to_be_removed() {
    let mut index = index(4);
    let id = ids(1).remove(0);
    put(&mut index, &id);
    assert_eq!(index.remove(&id), Some(stored(&id, MIB)));
    assert!(!index.admit(&id, MIB).is_admitted);
    index.gone(&id);
    assert!(index.admit(&id, MIB).is_admitted);
    assert_eq!(index.remove(&id), None, "there is no file yet");
    assert!(!index.arrived(&stored(&id, MIB)), "whoever has written it removes it");
    index.gone(&id);
    assert_eq!(index.bytes(), 0);
}

#[test]
fn what_is_of_another_length_is_not_there() {
    let mut index = index(4);
    let id = ids(1).remove(0);
    put(&mut index, &id);
    assert!(!index.holds(&id, MIB - 1));
    assert_eq!(index.read(&id, MIB - 1), None);
}

#[test]
fn a_full_disk_is_given_some_of_its_room_back() {
    let mut index = index(100);
    put_all(&mut index, &ids(32));
    assert_eq!(index.give_back().len(), 2);
    assert_eq!(index.bytes(), 30 * u64::from(MIB));
}

#[test]
fn places_of_what_has_left_do_not_add_up() {
    let mut index = index(4);
    let id = ids(1).remove(0);
    for _ in 0..5 * STALE {
        put(&mut index, &id);
        index.remove(&id).unwrap();
        index.gone(&id);
    }
    assert!(index.probation.places.len() <= STALE);
}

#[derive(Debug, Clone)]
enum Step {
    Admit(usize, u32),
    Arrive(usize),
    Fail(usize),
    Read(usize),
    Remove(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let id = 0..40_usize;
    prop::collection::vec(
        prop_oneof![
            4 => (id.clone(), 1..=MIB).prop_map(|(id, length)| Step::Admit(id, length)),
            4 => id.clone().prop_map(Step::Arrive),
            1 => id.clone().prop_map(Step::Fail),
            3 => id.clone().prop_map(Step::Read),
            1 => id.prop_map(Step::Remove),
        ],
        1..400,
    )
}

proptest! {
    /// Whatever happens in whatever order: the room is never exceeded, what counts is what is there, and nothing goes that
    /// was not there.
    #[test]
    fn the_books_are_right(steps in steps()) {
        let mut index = index(8);
        let ids = ids(40);
        let mut coming: HashMap<usize, u32> = HashMap::new();
        let mut there: HashMap<usize, u32> = HashMap::new();
        for step in steps {
            match step {
                Step::Admit(id, length) => {
                    let is_known = coming.contains_key(&id) || there.contains_key(&id);
                    let admission = index.admit(&ids[id], length);
                    for victim in admission.victims {
                        let place = ids.iter().position(|id| *id == victim.id).unwrap();
                        prop_assert_eq!(there.remove(&place), Some(victim.length));
                        index.gone(&victim.id);
                    }
                    prop_assert!(!(is_known && admission.is_admitted));
                    if admission.is_admitted {
                        coming.insert(id, length);
                    }
                }
                Step::Arrive(id) => {
                    let length = coming.remove(&id);
                    let arrived = index.arrived(&stored(&ids[id], length.unwrap_or_default()));
                    prop_assert_eq!(arrived, length.is_some());
                    there.extend(length.map(|length| (id, length)));
                }
                Step::Fail(id) => {
                    if coming.remove(&id).is_some() {
                        index.gone(&ids[id]);
                    }
                }
                Step::Read(id) => {
                    let length = there.get(&id).copied();
                    let read = index.read(&ids[id], length.unwrap_or(1));
                    prop_assert_eq!(read, length.map(|length| stored(&ids[id], length)));
                }
                Step::Remove(id) => {
                    let length = there.remove(&id);
                    let removed = index.remove(&ids[id]);
                    prop_assert_eq!(&removed, &length.map(|length| stored(&ids[id], length)));
                    if removed.is_some() || coming.remove(&id).is_some() {
                        index.gone(&ids[id]);
                    }
                }
            }
            let counted: u64 = coming.values().chain(there.values()).map(|length| weight(*length)).sum();
            prop_assert_eq!(index.bytes(), counted);
            prop_assert!(counted <= index.capacity());
            let queued: u64 = there.values().map(|length| weight(*length)).sum();
            prop_assert_eq!(index.probation.bytes + index.main.bytes, queued);
            prop_assert_eq!(index.probation.segments + index.main.segments, there.len());
        }
    }
}

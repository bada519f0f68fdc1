use super::*;
use crate::place::{Place, place};
use longshore_oci::Algorithm;
use longshore_storage::ObjectKey;
use std::fs;

pub(super) const AT_ONCE: ScrubRules = ScrubRules { period: Duration::ZERO, rate: u64::MAX };
const MONTH: ScrubRules = ScrubRules { period: Duration::from_secs(30 * 86_400), rate: u64::MAX };

impl Place {
    fn scrubber(&self, rules: ScrubRules) -> Scrubber {
        Scrubber::new(self.metadata.clone(), self.storage.clone(), rules)
    }

    /// What a round reads, or what is left of one.
    pub(super) async fn scrub(&self, rules: ScrubRules) -> ScrubReport {
        let mut total = ScrubReport::default();
        self.scrubber(rules).pass(|report| total += report).await.unwrap();
        total
    }

    /// An empty folder takes the place of that with the objects.
    fn unmount(&self) {
        let objects = self.folder.path().join("objects");
        fs::rename(&objects, self.folder.path().join("elsewhere")).unwrap();
        fs::create_dir(objects).unwrap();
    }

    /// All as before.
    fn mount(&self) {
        let objects = self.folder.path().join("objects");
        fs::remove_dir(&objects).unwrap();
        fs::rename(self.folder.path().join("elsewhere"), objects).unwrap();
    }

    async fn keys(&self) -> Vec<ObjectKey> {
        let objects = self.metadata.objects_after(0, 1000).await.unwrap();
        objects.into_iter().map(|object| object.key.parse().unwrap()).collect()
    }
}

#[tokio::test]
async fn every_object_is_read_and_what_is_right_is_left_alone() {
    let place = place(Duration::ZERO).await;
    place.push_objects(250).await;
    let report = place.scrub(AT_ONCE).await;
    assert_eq!(report, ScrubReport { objects: 250, bytes: 2250, is_finished: true, ..ScrubReport::default() });
}

/// Flips a bit in each of a hundred objects, at all places.
#[tokio::test]
async fn every_flipped_bit_is_found() {
    let place = place(Duration::ZERO).await;
    let digests = place.push_objects(120).await;
    let keys = place.keys().await;
    for (number, key) in keys.iter().enumerate().take(100) {
        let mut bytes = fs::read(place.file(key)).unwrap();
        let at = number % bytes.len();
        bytes[at] ^= 1 << (number % 8);
        fs::write(place.file(key), bytes).unwrap();
    }
    let report = place.scrub(AT_ONCE).await;
    assert_eq!((report.objects, report.damaged.len()), (120, 100));
    let found: Vec<_> = report.damaged.iter().map(|damage| damage.key.clone().unwrap()).collect();
    assert_eq!(found, keys[..100].iter().map(ToString::to_string).collect::<Vec<_>>());
    let app = "app".parse().unwrap();
    for (number, digest) in digests.iter().enumerate() {
        let is_there = place.metadata.find_blob(&app, digest).await.unwrap().is_some();
        assert_eq!(is_there, number >= 100, "blob {number}");
    }
    for key in &keys {
        assert!(place.file(key).exists(), "nothing is deleted");
    }
}

#[tokio::test]
async fn what_is_gone_or_too_short_or_too_long_is_damaged() {
    let place = place(Duration::ZERO).await;
    for content in ["gone", "short", "longer"] {
        place.push_object("app", content).await;
    }
    let keys = place.keys().await;
    fs::remove_file(place.file(&keys[0])).unwrap();
    fs::write(place.file(&keys[1]), "shor").unwrap();
    fs::write(place.file(&keys[2]), "longer.").unwrap();
    let report = place.scrub(AT_ONCE).await;
    let reasons: Vec<_> = report.damaged.iter().map(|damage| damage.reason.as_str()).collect();
    let expected = ["it is not there, or too short", "it has 4 bytes instead of 5", "it has 7 bytes instead of 6"];
    assert_eq!(reasons, expected);
}

/// As where nothing is mounted, or something else.
#[tokio::test]
async fn a_store_that_has_none_of_many_objects_is_the_wrong_one() {
    let place = place(Duration::ZERO).await;
    place.push_objects(30).await;
    place.unmount();
    for _ in 0..2 {
        let pass = place.scrubber(AT_ONCE).pass(|_| ()).await;
        assert!(matches!(pass, Err(Error::WrongStore { gone: 20 })), "{pass:?}");
        assert_eq!(place.metadata.count_damaged().await.unwrap(), 0);
    }
    place.mount();
    let report = place.scrub(AT_ONCE).await;
    assert_eq!((report.objects, report.damaged), (30, Vec::new()), "all are read once it is the right one");
}

#[tokio::test]
async fn what_is_gone_from_a_store_that_has_others_is_damaged() {
    let place = place(Duration::ZERO).await;
    place.push_objects(30).await;
    let keys = place.keys().await;
    fs::remove_file(place.file(&keys[0])).unwrap();
    let report = place.scrub(AT_ONCE).await;
    assert_eq!((report.objects, report.damaged.len()), (30, 1));
    assert_eq!((&report.damaged[0].key, report.damaged[0].is_known), (&Some(keys[0].to_string()), false));
    for key in &keys[1..19] {
        fs::remove_file(place.file(key)).unwrap();
    }
    let report = place.scrub(AT_ONCE).await;
    let found: Vec<_> = report.damaged.iter().map(|damage| damage.key.clone().unwrap()).collect();
    assert_eq!(found, keys[..19].iter().map(ToString::to_string).collect::<Vec<_>>());
    // Those that are known to be damaged do not count.
    for key in &keys[19..29] {
        fs::remove_file(place.file(key)).unwrap();
    }
    assert_eq!(place.scrub(AT_ONCE).await.damaged.len(), 29);
    assert_eq!(place.metadata.count_damaged().await.unwrap(), 29);
}

#[tokio::test]
async fn a_small_registry_may_have_lost_everything() {
    let place = place(Duration::ZERO).await;
    place.push_objects(19).await;
    for key in place.keys().await {
        fs::remove_file(place.file(&key)).unwrap();
    }
    assert_eq!(place.scrub(AT_ONCE).await.damaged.len(), 19);
    assert_eq!(place.metadata.count_damaged().await.unwrap(), 19);
}

/// The first process read all but a few objects.
#[tokio::test]
async fn whoever_reads_the_last_few_objects_looks_for_others_too() {
    let place = place(Duration::ZERO).await;
    place.push_objects(30).await;
    let claim = place.metadata.claim_scrub(HOLD).await.unwrap().unwrap().claim;
    place.metadata.begin_scrub(claim).await.unwrap();
    let last = place.metadata.objects_after(0, 100).await.unwrap()[24].number;
    let saved = Scrubbed { claim, last, bytes: 0, right: Vec::new(), hold: HOLD };
    place.metadata.save_scrub(saved).await.unwrap();
    place.metadata.release_scrub(claim).await.unwrap();
    place.unmount();
    let pass = place.scrubber(MONTH).pass(|_| ()).await;
    assert!(matches!(pass, Err(Error::WrongStore { gone: 20 })), "{pass:?}");
    assert_eq!(place.metadata.count_damaged().await.unwrap(), 0);
    place.mount();
    for key in &place.keys().await[25..] {
        fs::remove_file(place.file(key)).unwrap();
    }
    let report = place.scrub(MONTH).await;
    assert_eq!((report.objects, report.damaged.len()), (5, 5), "it is the right one, and they are gone");
}

#[tokio::test]
async fn whoever_goes_on_comes_back_to_what_was_held_back() {
    let place = place(Duration::ZERO).await;
    place.push_objects(3).await;
    let claim = place.metadata.claim_scrub(HOLD).await.unwrap().unwrap().claim;
    place.metadata.begin_scrub(claim).await.unwrap();
    let (scrubber, mut batch) = (place.scrubber(MONTH), Batch::new(0));
    let objects = place.metadata.objects_after(0, 3).await.unwrap();
    let [first, mut known, there]: [StoredObject; 3] = objects.try_into().unwrap();
    known.is_damaged = true;
    let last = there.number;
    for object in [first, known] {
        scrubber.act(object, Found::Gone, &mut batch).await.unwrap();
        scrubber.save(claim, &mut batch).await.unwrap();
        assert_eq!(scrubber.state().await.unwrap().last, 0);
        assert_eq!(scrubber.damaged().await.unwrap(), 0);
    }
    batch.is_store_there = true;
    scrubber.act(there, Found::Right, &mut batch).await.unwrap();
    scrubber.save(claim, &mut batch).await.unwrap();
    assert_eq!((scrubber.state().await.unwrap().last, scrubber.damaged().await.unwrap()), (last, 1));
}

#[tokio::test]
async fn what_was_put_back_is_right_again() {
    let place = place(Duration::ZERO).await;
    let digest = place.push_object("app", "layer").await;
    let key = place.keys().await.remove(0);
    fs::write(place.file(&key), "Layer").unwrap();
    assert_eq!(place.scrub(AT_ONCE).await.damaged.len(), 1);
    let again = place.scrub(AT_ONCE).await;
    assert!(again.damaged[0].is_known, "{again:?}");
    fs::write(place.file(&key), "layer").unwrap();
    assert_eq!(place.scrub(AT_ONCE).await.recovered, [key.to_string()]);
    assert!(place.metadata.find_blob(&"app".parse().unwrap(), &digest).await.unwrap().is_some());
}

#[tokio::test]
async fn a_push_of_what_is_damaged_mends_it() {
    let place = place(Duration::ZERO).await;
    place.push_object("app", "layer").await;
    let damaged = place.keys().await.remove(0);
    fs::write(place.file(&damaged), "Layer").unwrap();
    place.scrub(AT_ONCE).await;
    let digest = place.push_object("app", "layer").await;
    assert!(place.metadata.find_blob(&"app".parse().unwrap(), &digest).await.unwrap().is_some());
    assert_ne!(place.keys().await, [damaged]);
    assert_eq!(place.scrub(AT_ONCE).await.damaged, []);
}

#[tokio::test]
async fn a_new_round_begins_when_it_is_time() {
    let place = place(Duration::ZERO).await;
    place.push_object("app", "layer").await;
    assert_eq!(place.scrub(MONTH).await.objects, 1);
    assert_eq!(place.scrub(MONTH).await, ScrubReport::default(), "not for a month");
    let mut objects = 0;
    let now = RoundFrom::WhereItIs;
    place.scrubber(MONTH).round_now(now, |report| objects += report.objects).await.unwrap();
    assert_eq!(objects, 1, "unless somebody asks");
}

#[tokio::test]
async fn a_round_that_was_broken_off_goes_on() {
    let place = place(Duration::ZERO).await;
    place.push_objects(3).await;
    let claim = place.metadata.claim_scrub(HOLD).await.unwrap().unwrap().claim;
    place.metadata.begin_scrub(claim).await.unwrap();
    let first = place.metadata.objects_after(0, 1).await.unwrap().remove(0);
    let saved = Scrubbed { claim, last: first.number, bytes: first.size, right: Vec::new(), hold: HOLD };
    place.metadata.save_scrub(saved).await.unwrap();
    assert_eq!(place.scrub(MONTH).await, ScrubReport::default(), "another is at it");
    place.metadata.release_scrub(claim).await.unwrap();
    assert_eq!(place.scrub(MONTH).await.objects, 2);
}

/// A round may take a month, and what was pushed since it began is read in it too.
#[tokio::test]
async fn what_is_left_of_a_round_is_what_is_there_by_now() {
    let place = place(Duration::ZERO).await;
    place.push_objects(3).await;
    let scrubber = place.scrubber(MONTH);
    let first = place.metadata.objects_after(0, 1).await.unwrap().remove(0);
    assert_eq!(scrubber.left_after(0).await.unwrap(), 3 * first.size);
    place.push_object("app", "pushed since").await;
    assert_eq!(scrubber.left_after(first.number).await.unwrap(), 2 * first.size + 12);
}

/// A replica is at a round that takes a month.
#[tokio::test]
async fn whoever_is_asked_to_read_takes_the_round_from_a_replica() {
    let place = place(Duration::ZERO).await;
    place.push_objects(3).await;
    for (from, left) in [(RoundFrom::WhereItIs, 2), (RoundFrom::Beginning, 3)] {
        let replicas = place.metadata.claim_scrub(HOLD).await.unwrap().unwrap().claim;
        place.metadata.begin_scrub(replicas).await.unwrap();
        let (scrubber, mut batch) = (place.scrubber(MONTH), Batch::new(0));
        let first = place.metadata.objects_after(0, 1).await.unwrap().remove(0);
        scrubber.act(first, Found::Right, &mut batch).await.unwrap();
        scrubber.save(replicas, &mut batch).await.unwrap();
        let mut objects = 0;
        place.scrubber(AT_ONCE).round_now(from, |report| objects += report.objects).await.unwrap();
        assert_eq!(objects, left, "{from:?}");
        let lost = scrubber.save(replicas, &mut batch).await;
        assert!(matches!(lost, Err(Error::ClaimLost)), "the replica stops: {lost:?}");
        assert!(place.metadata.scrub_state().await.unwrap().finished.is_some());
    }
}

impl Place {
    async fn push_inline(&self, content: &str) -> Digest {
        let digest = Digest::of(Algorithm::Sha256, content.as_bytes());
        let blob = longshore_metadata::PutInlineBlob {
            repository: "app".parse().unwrap(),
            digest,
            content: content.as_bytes().to_vec(),
        };
        self.metadata.put_inline_blob(blob).await.unwrap();
        digest
    }

    async fn serves(&self, digest: &Digest) -> bool {
        self.metadata.promise_blob(&"app".parse().unwrap(), digest).await.unwrap().is_some()
    }
}

/// Changes one bit of what is in the first fifty rows, which are numbered from 1: a letter without what it has in common with
/// the bit, and with that.
macro_rules! flipped {
    ($table:literal, $column:literal) => {
        concat!(
            "UPDATE ",
            $table,
            " SET ",
            $column,
            " = CAST(substr(",
            $column,
            ", 1, id % 8) || char(",
            "(unicode(substr(",
            $column,
            ", id % 8 + 1, 1)) | (1 << id % 7)) - ",
            "(unicode(substr(",
            $column,
            ", id % 8 + 1, 1)) & (1 << id % 7))",
            ") || substr(",
            $column,
            ", id % 8 + 2) AS BLOB) WHERE id <= 50"
        )
    };
}

/// Flips a bit in each of a hundred small blobs and manifests, at all places.
#[tokio::test]
async fn every_flipped_bit_in_rows_is_found_and_mended_by_a_push() {
    let place = place(Duration::ZERO).await;
    let (mut blobs, mut manifests) = (Vec::new(), Vec::new());
    for number in 0..60 {
        blobs.push(place.push_inline(&format!("blob {number:03}")).await);
        manifests.push(place.push_manifest("app", &format!("body {number:03}"), &[], &[]).await);
    }
    place.execute(flipped!("blobs", "inline")).await;
    place.execute(flipped!("manifests", "body")).await;
    let report = place.scrub(AT_ONCE).await;
    assert_eq!((report.rows, report.damaged.len(), report.is_finished), (120, 100, true));
    let found: Vec<_> = report.damaged.iter().map(|damage| damage.digest).collect();
    assert_eq!(found, [&blobs[..50], &manifests[..50]].concat());
    assert!(report.damaged.iter().all(|damage| damage.key.is_none() && !damage.is_known), "{report:?}");
    let app = "app".parse().unwrap();
    for (number, (blob, manifest)) in blobs.iter().zip(&manifests).enumerate() {
        assert_eq!(place.serves(blob).await, number >= 50, "blob {number}");
        let found = place.metadata.find_manifest(&app, manifest).await.unwrap();
        assert_eq!(found.is_some(), number >= 50, "manifest {number}");
    }
    let again = place.scrub(AT_ONCE).await;
    assert!(again.damaged.len() == 100 && again.damaged.iter().all(|damage| damage.is_known), "{again:?}");
    for number in 0..50 {
        place.push_inline(&format!("blob {number:03}")).await;
        place.push_manifest("app", &format!("body {number:03}"), &[], &[]).await;
    }
    assert_eq!(place.metadata.count_damaged().await.unwrap(), 0);
    assert_eq!(place.metadata.count_damaged_manifests().await.unwrap(), 0);
    assert_eq!(place.scrub(AT_ONCE).await.damaged, []);
}

#[tokio::test]
async fn rows_that_are_right_again_are_served_again() {
    let place = place(Duration::ZERO).await;
    let blob = place.push_inline("blob").await;
    place.push_manifest("app", "body", &[], &[]).await;
    place.execute("UPDATE blobs SET inline = CAST('blub' AS BLOB)").await;
    place.execute("UPDATE manifests SET body = CAST('buddy' AS BLOB)").await;
    assert_eq!(place.scrub(AT_ONCE).await.damaged.len(), 2);
    place.execute("UPDATE blobs SET inline = CAST('blob' AS BLOB)").await;
    assert!(!place.serves(&blob).await);
    assert_eq!(place.scrub(AT_ONCE).await.recovered, [format!("blob {blob}")]);
    assert!(place.serves(&blob).await);
    assert_eq!(place.metadata.count_damaged_manifests().await.unwrap(), 1);
}

#[tokio::test]
async fn a_round_that_was_broken_off_in_the_rows_goes_on_there() {
    let place = place(Duration::ZERO).await;
    for content in ["one", "two", "three"] {
        place.push_inline(content).await;
        place.push_manifest("app", &format!("body {content}"), &[], &[]).await;
    }
    for (of, left) in [(InRows::Blobs, 5), (InRows::Manifests, 2)] {
        let claim = place.metadata.claim_scrub(HOLD).await.unwrap().unwrap().claim;
        place.metadata.begin_scrub(claim).await.unwrap();
        let first = place.metadata.contents(of, (0, 0), 1).await.unwrap().reached.unwrap();
        assert!(place.metadata.save_scrub_rows(claim, RowsRead::UpTo(of, first), HOLD).await.unwrap());
        place.metadata.release_scrub(claim).await.unwrap();
        assert_eq!(place.scrub(AT_ONCE).await.rows, left, "{of:?}");
        assert_eq!(place.metadata.scrub_state().await.unwrap().rows, RowsRead::All);
    }
}

use super::*;
use crate::place::{Place, place};
use longshore_storage::ObjectKey;
use std::fs;

const AT_ONCE: ScrubRules = ScrubRules { period: Duration::ZERO, rate: u64::MAX };
const MONTH: ScrubRules = ScrubRules { period: Duration::from_secs(30 * 86_400), rate: u64::MAX };

impl Place {
    fn scrubber(&self, rules: ScrubRules) -> Scrubber {
        Scrubber::new(self.metadata.clone(), self.storage.clone(), rules)
    }

    /// What a round reads, or what is left of one.
    async fn scrub(&self, rules: ScrubRules) -> ScrubReport {
        let mut total = ScrubReport::default();
        self.scrubber(rules).pass(|report| total += report).await.unwrap();
        total
    }

    async fn keys(&self) -> Vec<ObjectKey> {
        let objects = self.metadata.objects_after(0, 1000).await.unwrap();
        objects.into_iter().map(|object| object.key.parse().unwrap()).collect()
    }
}

#[tokio::test]
async fn every_object_is_read_and_what_is_right_is_left_alone() {
    let place = place(Duration::ZERO).await;
    for number in 0..250 {
        place.push_object("app", &format!("layer {number:03}")).await;
    }
    let report = place.scrub(AT_ONCE).await;
    assert_eq!(report, ScrubReport { objects: 250, bytes: 2250, is_finished: true, ..ScrubReport::default() });
}

/// Flips a bit in each of a hundred objects, at all places.
#[tokio::test]
async fn every_flipped_bit_is_found() {
    let place = place(Duration::ZERO).await;
    let mut digests = Vec::new();
    for number in 0..120 {
        digests.push(place.push_object("app", &format!("layer {number:03}")).await);
    }
    let keys = place.keys().await;
    for (number, key) in keys.iter().enumerate().take(100) {
        let mut bytes = fs::read(place.file(key)).unwrap();
        let at = number % bytes.len();
        bytes[at] ^= 1 << (number % 8);
        fs::write(place.file(key), bytes).unwrap();
    }
    let report = place.scrub(AT_ONCE).await;
    assert_eq!((report.objects, report.damaged.len()), (120, 100));
    let found: Vec<_> = report.damaged.iter().map(|damage| damage.key.clone()).collect();
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
    place.scrubber(MONTH).round_now(|report| objects += report.objects).await.unwrap();
    assert_eq!(objects, 1, "unless somebody asks");
}

#[tokio::test]
async fn a_round_that_was_broken_off_goes_on() {
    let place = place(Duration::ZERO).await;
    for number in 0..3 {
        place.push_object("app", &format!("layer {number}")).await;
    }
    let claim = place.metadata.claim_scrub(HOLD).await.unwrap().unwrap().claim;
    place.metadata.begin_scrub(claim).await.unwrap();
    let first = place.metadata.objects_after(0, 1).await.unwrap().remove(0);
    let saved = Scrubbed { claim, last: first.number, bytes: first.size, right: Vec::new(), hold: HOLD };
    place.metadata.save_scrub(saved).await.unwrap();
    let busy = place.scrubber(MONTH).round_now(|_| ()).await;
    assert!(matches!(busy, Err(Error::ClaimLost)), "{busy:?}");
    assert_eq!(place.scrub(MONTH).await, ScrubReport::default(), "another is at it");
    place.metadata.release_scrub(claim).await.unwrap();
    assert_eq!(place.scrub(MONTH).await.objects, 2);
}

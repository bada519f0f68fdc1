//! What rules say of tags, against the plainest way to say it; and what the collector makes of that.

use super::*;
use crate::place::{Place, place};
use crate::{Foreseen, GoingTag, Halt, Reason, Rules, Verdict};
use longshore_metadata::{Breaker, PutManifest, PutManifestOutcome, Review, TagFacts, TagPulls};
use longshore_oci::{Digest, ImmutableRule, ImmutableTags, RepositoryName, Tag, TagScope};
use proptest::prelude::*;
use std::time::{Duration, SystemTime};

const DAY: Duration = Duration::from_secs(24 * 3600);
const CACHE: &str = "application/vnd.buildkit.cacheconfig.v0";

fn scope(tags: &str) -> TagScope {
    TagScope { repositories: vec!["app".parse().unwrap()], tags: tags.parse().unwrap(), except: None }
}

fn rule(name: &str, tags: &str, keep: Keep) -> RetentionRule {
    RetentionRule {
        name: name.to_owned(),
        scope: scope(tags),
        keep,
        expire_annotated: false,
        untagged_after: None,
        build_caches: None,
        even_immutable: false,
        dry_run: false,
    }
}

fn last_pushed(count: u32) -> Keep {
    Keep { last_pushed: Some(count), ..Keep::default() }
}

fn immutable(tags: &str) -> ImmutableTags {
    ImmutableTags::new(vec![ImmutableRule { name: "fixed".to_owned(), scope: scope(tags) }])
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
}

fn facts(name: &str, pushed: u64, pulled: Option<u64>, annotation: Option<&str>) -> TagFacts {
    TagFacts {
        tag: name.parse().unwrap(),
        manifest: Review::FIRST,
        digest: Digest::of(longshore_oci::Algorithm::Sha256, name.as_bytes()),
        pushed_at: at(pushed),
        last_pulled_at: pulled.map(at),
        is_build_cache: false,
        expires_after: annotation.map(str::to_owned),
    }
}

/// Whether a tag goes, by looking at all of them.
fn goes(retention: &Retention, tags: &[TagFacts], tag: &TagFacts, now: SystemTime) -> bool {
    let app: RepositoryName = "app".parse().unwrap();
    let first =
        |tag: &TagFacts| retention.rules.iter().position(|rule| rule.is_about_tags() && rule.scope.has_tag(&tag.tag));
    let lives = |rule: &RetentionRule, tag: &TagFacts| {
        tag.expires_after.as_deref().filter(|_| rule.expire_annotated).and_then(expiry::parse)
    };
    let is_fixed = |rule: &RetentionRule, tag: &TagFacts| {
        !rule.even_immutable && retention.immutable.rule_for(&app, &tag.tag).is_some()
    };
    let Some(place) = first(tag) else { return false };
    let rule = &retention.rules[place];
    if is_fixed(rule, tag) {
        return false;
    }
    if let Some(lives) = lives(rule, tag) {
        return tag.pushed_at + lives <= now;
    }
    let rivals = || {
        tags.iter()
            .filter(|other| first(other) == Some(place) && !is_fixed(rule, other) && lives(rule, other).is_none())
    };
    let keep = &rule.keep;
    let newer_pushed = rivals().filter(|other| (other.pushed_at, &other.tag) > (tag.pushed_at, &tag.tag)).count();
    let used = |tag: &TagFacts| tag.last_pulled_at.into_iter().chain([tag.pushed_at]).max();
    let newer_pulled = rivals().filter(|other| (used(other), &other.tag) > (used(tag), &tag.tag)).count();
    let is_kept = keep.all
        || !keep.is_anything()
        || keep.last_pushed.is_some_and(|most| newer_pushed < most as usize)
        || keep.last_pulled.is_some_and(|most| newer_pulled < most as usize)
        || keep.pushed_within.is_some_and(|time| tag.pushed_at + time > now)
        || keep.pulled_within.is_some_and(|time| used(tag).is_some_and(|used| used + time > now));
    !is_kept
}

fn some_keep() -> impl Strategy<Value = Keep> {
    let count = || proptest::option::of(1_u32..5);
    let time = || proptest::option::of((0_u64..30).prop_map(Duration::from_secs));
    (proptest::bool::weighted(0.1), count(), count(), time(), time()).prop_map(
        |(all, last_pushed, last_pulled, pushed_within, pulled_within)| Keep {
            all,
            last_pushed,
            last_pulled,
            pushed_within,
            pulled_within,
        },
    )
}

fn some_rule() -> impl Strategy<Value = RetentionRule> {
    let tags = prop_oneof![Just("a.*"), Just("b.*"), Just(".*"), Just("a[0-4]")];
    (tags, some_keep(), any::<bool>(), any::<bool>()).prop_map(|(tags, keep, expire_annotated, even_immutable)| {
        RetentionRule { expire_annotated, even_immutable, ..rule("rule", tags, keep) }
    })
}

fn some_tags() -> impl Strategy<Value = Vec<TagFacts>> {
    let annotation = proptest::option::weighted(0.3, prop_oneof![Just("7s"), Just("20s"), Just("for ever")]);
    let tag = (0_u64..20, proptest::option::of(0_u64..20), annotation);
    proptest::collection::btree_map("[abc][0-9]", tag, 0..25).prop_map(|tags| {
        tags.into_iter().map(|(name, (pushed, pulled, said))| facts(&name, pushed, pulled, said)).collect()
    })
}

proptest! {
    #[test]
    fn a_survey_says_what_looking_at_all_of_them_says(
        rules in proptest::collection::vec(some_rule(), 0..4),
        tags in some_tags(),
        fixed in prop_oneof![Just("a1"), Just("b.*"), Just("none")],
        now in 0_u64..40,
    ) {
        let retention = Retention { rules, immutable: immutable(fixed), ..Retention::default() };
        let app: RepositoryName = "app".parse().unwrap();
        let mut survey = Survey::new(&retention, &app);
        tags.iter().for_each(|tag| survey.add(tag));
        for tag in &tags {
            let verdict = survey.verdict(tag, at(now));
            prop_assert_eq!(verdict.goes_by().is_some(), goes(&retention, &tags, tag, at(now)), "{:?}", verdict);
            if let TagVerdict::Until(_, until, _) = verdict {
                prop_assert!(until > at(now));
                prop_assert!(survey.verdict(tag, until - Duration::from_secs(1)).goes_by().is_none());
                prop_assert!(survey.verdict(tag, until).goes_by().is_some());
            }
        }
    }
}

#[test]
fn the_first_rule_for_a_tag_decides() {
    let all = Keep { all: true, ..Keep::default() };
    let rules = vec![rule("releases", "v.*", all), rule("rest", ".*", last_pushed(1))];
    let retention = Retention { rules, ..Retention::default() };
    let app: RepositoryName = "app".parse().unwrap();
    let mut survey = Survey::new(&retention, &app);
    let tags = [facts("v1", 1, None, None), facts("old", 2, None, None), facts("new", 3, None, None)];
    tags.iter().for_each(|tag| survey.add(tag));
    let [v1, old, new] = tags.each_ref().map(|tag| survey.verdict(tag, at(9)));
    assert_eq!(v1, TagVerdict::Kept(&retention.rules[0], KeptBy::All));
    assert_eq!(old, TagVerdict::Goes(&retention.rules[1]));
    assert_eq!(new, TagVerdict::Kept(&retention.rules[1], KeptBy::LastPushed(1)));
    let elsewhere: RepositoryName = "elsewhere".parse().unwrap();
    assert_eq!(Survey::new(&retention, &elsewhere).verdict(&facts("old", 2, None, None), at(9)), TagVerdict::NoRule);
}

impl Place {
    fn with(self, rules: Vec<RetentionRule>) -> Self {
        let retention = Retention { rules, ..Retention::default() };
        Self { rules: Rules { retention, ..self.rules.clone() }, ..self }
    }

    async fn tags(&self) -> Vec<String> {
        let tags = self.metadata.list_tags(&"app".parse().unwrap(), "", 10_000).await.unwrap().unwrap();
        tags.iter().map(Tag::to_string).collect()
    }

    async fn retain(&self) -> Retained {
        let collected = self.pass().await;
        assert_eq!(collected.halt, None);
        collected.retained
    }

    /// Pushes an image under its tag, later than everything before it: SQLite's clock counts milliseconds.
    async fn push_later(&self, name: &str) {
        let now = async || self.metadata.collection_state().await.unwrap().now;
        let before = now().await;
        while now().await == before {}
        self.push_manifest("app", name, &[], &[name]).await;
    }

    async fn push_cache(&self, body: &str) -> Digest {
        let manifest = PutManifest {
            config_media_type: Some(CACHE.to_owned()),
            tags: vec!["cache".parse().unwrap()],
            ..Self::manifest("app", body, &[])
        };
        let digest = manifest.digest;
        assert_eq!(self.metadata.put_manifest(manifest).await.unwrap(), PutManifestOutcome::Stored);
        digest
    }
}

#[tokio::test]
async fn what_no_rule_keeps_goes_and_its_history_names_the_rule() {
    let place = place(Duration::ZERO).await.with(vec![rule("branches", "pr-.*", last_pushed(2))]);
    for name in ["pr-1", "pr-2", "main", "pr-3", "pr-4"] {
        place.push_later(name).await;
    }
    place.push_manifest("elsewhere", "pr-1", &[], &["pr-1"]).await;
    assert_eq!(place.retain().await, Retained { repositories: 1, tags: 2, ..Retained::default() });
    assert_eq!(place.tags().await, ["main", "pr-3", "pr-4"]);
    let changes = place.metadata.tag_changes(&"app".parse().unwrap(), &"pr-1".parse().unwrap(), None, 1).await.unwrap();
    assert_eq!((changes[0].digest, changes[0].by.as_deref()), (None, Some("retention: branches")));
    let before = place.metadata.tag_changes(&"app".parse().unwrap(), &"pr-1".parse().unwrap(), None, 2).await.unwrap();
    assert!(before[1].is_here, "it can be brought back");
    assert_eq!(place.retain().await, Retained::default(), "once an interval");
}

#[tokio::test]
async fn more_tags_than_a_page_are_compared_with_each_other() {
    let place = place(Duration::ZERO).await.with(vec![rule("all", ".*", last_pushed(3))]);
    // The last three that were pushed are the first in the order of their names, on the first of three pages.
    let names: Vec<String> = (0..1100).rev().map(|number| format!("t{number:04}")).collect();
    for chunk in names.chunks(50) {
        let names: Vec<&str> = chunk.iter().map(String::as_str).collect();
        place.push_manifest("app", &names.join(" "), &[], &names).await;
    }
    for name in ["t0002", "t0001", "t0000"] {
        place.push_later(name).await;
    }
    let place = Place { rules: Rules { retention: unbroken(&place), ..place.rules.clone() }, ..place };
    assert_eq!(place.retain().await.tags, 1097);
    assert_eq!(place.tags().await, ["t0000", "t0001", "t0002"]);
}

/// The same rules, and no number of tags is too many.
fn unbroken(place: &Place) -> Retention {
    Retention { breaker: Breaker { percent: 100, floor: 0 }, ..place.rules.retention.clone() }
}

fn going_tags(told: &[Foreseen]) -> impl Iterator<Item = &GoingTag> {
    told.iter().filter_map(|foreseen| match foreseen {
        Foreseen::Tag(tag) => Some(tag),
        _ => None,
    })
}

#[tokio::test]
async fn referrers_and_children_go_with_what_a_tag_named() {
    let place = place(Duration::ZERO).await.with(vec![rule("all", ".*", last_pushed(1))]);
    let place = Place { rules: Rules { undo: Duration::ZERO, ..place.rules.clone() }, ..place };
    place.promise_nothing().await;
    let child = place.push_manifest("app", "child", &[], &[]).await;
    let index = PutManifest {
        children: vec![child],
        tags: vec!["old".parse().unwrap()],
        ..Place::manifest("app", "index", &[])
    };
    let subject = index.digest;
    place.metadata.put_manifest(index).await.unwrap();
    place.push_object("app", "layer").await;
    let signature = PutManifest { subject: Some(subject), ..Place::manifest("app", "signature", &["layer"]) };
    place.metadata.put_manifest(signature).await.unwrap();
    place.push_later("new").await;

    let (preview, told) = place.preview().await;
    let tags: Vec<_> = going_tags(&told).map(|tag| (tag.tag.as_str(), tag.rule.as_str())).collect();
    assert_eq!(tags, [("old", "all")]);
    let bytes = ["child", "index", "layer", "signature"].map(str::len).iter().sum::<usize>() as u64;
    assert_eq!((preview.freed.manifests, preview.freed.blobs, preview.freed.bytes), (3, 1, bytes));

    let (mut manifests, mut blobs) = (0, 0);
    loop {
        let collected = place.pass().await;
        if collected.is_nothing() {
            break;
        }
        manifests += collected.manifests.count;
        blobs += collected.blobs.count;
    }
    assert_eq!((manifests, blobs), (3, 1));
    assert_eq!(place.tags().await, ["new"]);
}

/// Nothing that goes is told to keep anything.
#[tokio::test]
async fn what_loses_some_of_its_tags_by_a_rule_is_kept_by_the_rest() {
    let place = place(Duration::ZERO).await.with(vec![rule("branches", "pr-.*", last_pushed(1))]);
    let both = place.push_manifest("app", "both", &[], &["pr-1", "release"]).await;
    let only = place.push_manifest("app", "only", &[], &["pr-2"]).await;
    place.execute("UPDATE tags SET updated_at = updated_at - 86400000000").await;
    let new = place.push_manifest("app", "new", &[], &["pr-3"]).await;
    let (preview, told) = place.preview().await;
    let mut tags: Vec<_> = going_tags(&told).map(|tag| tag.tag.as_str()).collect();
    tags.sort_unstable();
    assert_eq!(tags, ["pr-1", "pr-2"]);
    let kept = told.iter().filter_map(|foreseen| match foreseen {
        Foreseen::Kept(kept) => Some((kept.digest, kept.reason.clone())),
        _ => None,
    });
    let mut kept: Vec<_> = kept.collect();
    kept.sort_by_key(|(digest, _)| *digest != both);
    assert_eq!(kept, [(both, None), (new, Some(Reason::Tag("pr-3".parse().unwrap())))]);
    assert_eq!((preview.kept.by_rest, preview.kept.by_tag), (1, 1));
    assert!(told.iter().any(|foreseen| matches!(foreseen, Foreseen::Manifest(going) if going.digest == only)));
}

#[tokio::test]
async fn what_was_pulled_of_late_stays() {
    let keep = Keep { pulled_within: Some(DAY), ..Keep::default() };
    let place = place(Duration::ZERO).await.with(vec![rule("used", ".*", keep)]);
    for name in ["old", "used"] {
        place.push_manifest("app", name, &[], &[name]).await;
    }
    place.execute("UPDATE tags SET updated_at = updated_at - 2 * 86400000000").await;
    // Nobody had the time to pull it.
    place.push_manifest("app", "new", &[], &["new"]).await;
    let pulled = TagPulls { repository: "app".parse().unwrap(), tag: "used".parse().unwrap(), last: DAY / 2 };
    assert_eq!(place.metadata.record_pulls_of_tags(&[pulled]).await.unwrap(), 1);
    let app = "app".parse().unwrap();
    let why = crate::why_tag(&place.metadata, &place.rules, &app, &"used".parse().unwrap()).await.unwrap();
    assert!(matches!(why, Some(TagVerdict::Until(_, _, KeptBy::PulledWithin(DAY)))), "{why:?}");
    assert_eq!(place.retain().await.tags, 1);
    assert_eq!(place.tags().await, ["new", "used"]);
}

#[tokio::test]
async fn a_rule_that_only_reports_deletes_nothing() {
    let rules = vec![RetentionRule { dry_run: true, ..rule("all", ".*", last_pushed(1)) }];
    let place = place(Duration::ZERO).await.with(rules);
    for name in ["one", "two", "three"] {
        place.push_manifest("app", name, &[], &[name]).await;
    }
    assert_eq!(place.retain().await, Retained { repositories: 1, reported: 2, ..Retained::default() });
    assert_eq!(place.tags().await, ["one", "three", "two"]);
    let (_, told) = place.preview().await;
    assert!(going_tags(&told).count() == 2 && going_tags(&told).all(|tag| tag.is_only_reported), "{told:?}");
}

#[tokio::test]
async fn immutable_tags_stay_unless_the_rule_says_so() {
    let place = place(Duration::ZERO).await;
    for name in ["v1", "v2", "pr-1", "pr-2"] {
        place.push_later(name).await;
    }
    let mut rules = vec![rule("all", ".*", last_pushed(1))];
    for (even_immutable, left) in [(false, vec!["pr-2", "v1", "v2"]), (true, vec!["pr-2"])] {
        rules[0].even_immutable = even_immutable;
        let retention = Retention {
            rules: rules.clone(),
            immutable: immutable("v.*"),
            interval: Duration::ZERO,
            ..Retention::default()
        };
        let place = Place {
            rules: Rules { retention, ..Rules::default() },
            metadata: place.metadata.clone(),
            storage: place.storage.clone(),
            url: place.url.clone(),
            folder: tempfile::tempdir().unwrap(),
        };
        place.retain().await;
        assert_eq!(place.tags().await, left);
    }
}

#[tokio::test]
async fn old_generations_of_a_build_cache_go_at_once() {
    let caches = |kept| RetentionRule { build_caches: Some(kept), ..rule("caches", ".*", Keep::default()) };
    let place = place(Duration::ZERO).await.with(vec![caches(2)]);
    let mut generations = Vec::new();
    for body in ["first", "second", "third", "fourth", "fifth"] {
        generations.push(place.push_cache(body).await);
    }
    let index = PutManifest {
        children: vec![generations[1]],
        tags: vec!["index".parse().unwrap()],
        ..Place::manifest("app", "index", &[])
    };
    place.metadata.put_manifest(index).await.unwrap();
    // Another tag needs the first one still, and an index the second; and what is no cache waits for its time.
    let first = PutManifest {
        config_media_type: Some(CACHE.to_owned()),
        tags: vec!["pinned".parse().unwrap()],
        ..Place::manifest("app", "first", &[])
    };
    place.metadata.put_manifest(first).await.unwrap();
    let image = place.push_manifest("app", "image", &[], &["latest"]).await;
    place.push_manifest("app", "next image", &[], &["latest"]).await;

    let (mut going, mut staying) = (Vec::new(), Vec::new());
    for foreseen in place.preview().await.1 {
        match foreseen {
            Foreseen::Manifest(manifest) => going.push(manifest.digest),
            Foreseen::StayingManifest(manifest) => staying.push(manifest.digest),
            Foreseen::Kept(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(going, [generations[2]]);
    assert!(staying.contains(&generations[3]) && staying.contains(&image) && !staying.contains(&generations[2]));

    assert_eq!(place.retain().await.build_caches.count, 1);
    let app = "app".parse().unwrap();
    for (digest, is_there) in generations.iter().zip([true, true, false, true, true]) {
        assert_eq!(place.metadata.find_manifest(&app, digest).await.unwrap().is_some(), is_there, "{digest}");
    }
}

#[tokio::test]
async fn rules_that_would_delete_most_tags_are_stopped() {
    let place = place(Duration::ZERO).await.with(vec![rule("all", ".*", last_pushed(1))]);
    let breaker = Breaker { percent: 50, floor: 0 };
    let retention = Retention { breaker, interval: Duration::ZERO, ..place.rules.retention.clone() };
    let place = Place { rules: Rules { retention, ..place.rules.clone() }, ..place };
    for name in ["one", "two", "three"] {
        place.push_manifest("app", name, &[], &[name]).await;
    }
    let collected = place.pass().await;
    assert_eq!(collected.retained.tags, 0);
    let Some(Halt::Stopped(why)) = collected.halt else { panic!("{collected:?}") };
    assert_eq!(why, "the rules of retention would have deleted 2 of 3 tags within a day, more than 50 %");
    assert_eq!(place.pass().await.retained, Retained::default());
    assert_eq!(place.tags().await.len(), 3);
    place.metadata.resume_collection().await.unwrap();
    assert_eq!(place.retain().await.tags, 2);
}

#[tokio::test]
async fn untagged_manifests_stay_longer_where_a_rule_says_so_and_never_shorter() {
    let place = place(Duration::ZERO).await;
    let digest = place.push_manifest("app", "loose", &[], &[]).await;
    let until = async |untagged_after| {
        let rules = vec![RetentionRule { untagged_after, ..rule("all", ".*", Keep::default()) }];
        let rules = Rules { retention: Retention { rules, ..Retention::default() }, ..Rules::default() };
        match crate::why(&place.metadata, &rules, &"app".parse().unwrap(), &digest).await.unwrap() {
            Some(Verdict::Until(until, reason)) => (until, reason),
            other => panic!("{other:?}"),
        }
    };
    let (default, reason) = until(None).await;
    assert_eq!(reason, Reason::Undo);
    let by_the_rule = Reason::UntaggedAfter("all".to_owned());
    assert_eq!(until(Some(30 * DAY)).await, (default + 23 * DAY, by_the_rule));
    assert_eq!(until(Some(DAY)).await, (default, Reason::Undo), "so long a tag can be brought back");
}

//! Rules about tags: how they are read, and what is wrong with them.

use super::{SettingsFile, load_environment, load_yaml};
use crate::{RetentionRule, Settings, show};
use std::time::Duration;

const RULES: &str = "\
retention:
  - name: releases
    repositories: [prod/**, base]
    tags: v[0-9.]+
    keep_all: true
  - name: branches
    repositories: prod/*
    except_tags: main
    keep_last_pushed: 10
    keep_pulled_within: 30d
    dry_run: true
immutable_tags:
  - { name: releases, tags: \"v.*\", except_tags: .*-rc.* }
";

#[track_caller]
fn assert_complaint(yaml: &str, expected: &str) {
    assert_eq!(SettingsFile::new(yaml).complaint(), format!("longshore.yaml:{expected}"));
}

/// What is wrong with a rule of these keys.
fn fault(keys: &str) -> String {
    let complaint = SettingsFile::new(&format!("retention: [{{ name: x, {keys} }}]")).complaint();
    complaint.strip_prefix("longshore.yaml:1:12: retention: rule \"x\" ").unwrap_or(&complaint).to_owned()
}

#[test]
fn rules_are_read_with_their_keys() {
    let settings = load_yaml(RULES);
    let [releases, branches] = &settings.retention[..] else { panic!("{:?}", settings.retention) };
    assert_eq!((releases.name.as_str(), releases.keep_all, releases.tags.as_str()), ("releases", true, "v[0-9.]+"));
    assert_eq!(releases.repositories.len(), 2);
    let expected = RetentionRule {
        name: "branches".to_owned(),
        repositories: vec!["prod/*".parse().unwrap()],
        except_tags: "main".parse().ok(),
        keep_last_pushed: Some(10),
        keep_pulled_within: Some(Duration::from_secs(30 * 86_400)),
        dry_run: true,
        ..RetentionRule::default()
    };
    assert_eq!(*branches, expected);
    assert!(settings.immutable_tags[0].tags.matches(&"v1".parse().unwrap()));
    for none in ["retention: []", "retention:", "retention: null", ""] {
        assert_eq!(load_yaml(none), Settings::default(), "{none}");
    }
}

#[test]
fn rules_are_shown_as_they_can_be_read() {
    let loaded = SettingsFile::new(RULES).load(&[], &[]).unwrap();
    let shown = show(&loaded);
    assert_eq!(load_yaml(&shown), loaded.settings, "{shown}");
    assert!(shown.contains("repositories: [prod/**, base]"), "{shown}");
}

#[test]
fn the_environment_has_them_in_one_line() {
    let rules = "[{ name: old, keep_last_pushed: 3 }, { name: x, tags: a.*, keep_all: true }]";
    let loaded = load_environment(&[("LONGSHORE_RETENTION", rules), ("LONGSHORE_IMMUTABLE_TAGS", "")]).unwrap();
    assert_eq!(loaded.settings.retention.len(), 2);
    assert_eq!(loaded.settings.retention[0].keep_last_pushed, Some(3));
    let complaint = |rules: &str| load_environment(&[("LONGSHORE_RETENTION", rules)]).unwrap_err().to_string();
    assert_eq!(
        complaint("old"),
        "environment LONGSHORE_RETENTION: retention: expected a list of rules in YAML, such as [{ name: RULE, ... }], \
         for example [{ name: RULE, ... }]"
    );
    assert!(
        complaint("[{ name: x, keep: 1 }]").contains("retention[0].keep"),
        "{}",
        complaint("[{ name: x, keep: 1 }]")
    );
}

#[test]
fn a_mistake_in_a_rule_is_told_where_it_stands() {
    assert_complaint(
        "retention:\n  - name: x\n    keep_last_push: 3\n",
        "3:5: unknown key \"retention[0].keep_last_push\": did you mean \"keep_last_pushed\"?",
    );
    assert_complaint(
        "retention:\n  - name: x\n    keep_all: true\n  - name: y\n    name: z\n",
        "5:5: duplicate key \"retention[1].name\": already set in line 4",
    );
    assert_complaint(
        "retention:\n  - name: x\n    tags: v[\n",
        "3:11: retention[0].tags: tag pattern `v[` is invalid: unclosed character class; \
         it is a regular expression for the whole tag, such as v[0-9]+ or pr-.*, for example \".*\"",
    );
    assert_complaint(
        "retention: [{ name: x, keep_pushed_within: 30 }]",
        "1:44: retention[0].keep_pushed_within: \"30\" has no unit: add d, h, m, s or ms, for example \"30d\"",
    );
    assert_complaint(
        "retention: [{ name: x, keep_last_pushed: 5000000000 }]",
        "1:42: retention[0].keep_last_pushed: 5000000000 is too large, for example 10",
    );
    assert_complaint(
        "retention: [branches]",
        "1:13: retention[0]: expected a rule with its keys, for example { name: RULE }",
    );
    assert_complaint(
        "retention: { name: x }",
        "1:12: retention: expected a list, found keys below it, for example [{ name: RULE, ... }]",
    );
}

#[test]
fn a_rule_that_keeps_nothing_is_refused() {
    let conditions =
        "keep_last_pushed, keep_last_pulled, keep_pushed_within, keep_pulled_within, keep_all or expire_annotated";
    assert_eq!(fault("tags: pr-.*"), format!("keeps nothing, so that every tag would go: give it {conditions}"));
    assert_eq!(
        fault("tags: pr-.*, untagged_after: 30d"),
        format!("names tags and does not say what keeps them: give it {conditions}, or no tags")
    );
    for fine in ["untagged_after: 30d", "build_caches: 2", "expire_annotated: true", "keep_all: true"] {
        load_yaml(&format!("retention: [{{ name: x, {fine} }}]"));
    }
}

#[test]
fn rules_must_not_contradict_themselves_or_others() {
    assert_eq!(
        fault("keep_all: true, keep_last_pushed: 1"),
        "has keep_all beside other conditions, which count for nothing then: remove either"
    );
    assert_eq!(fault("keep_last_pushed: 0"), "has keep_last_pushed 0, which is out of range: choose 1 to 10000");
    assert_eq!(fault("keep_pushed_within: 0s"), "has keep_pushed_within 0s, which is out of range: choose 1s to 3650d");
    assert_eq!(
        fault("untagged_after: 1d"),
        "has untagged_after 24h, shorter than gc.undo (7d), for which a tag can be brought back: \
         lower gc.undo, and give a longer untagged_after to the repositories that need it"
    );
    load_yaml("gc: { undo: 1d }\nretention: [{ name: x, untagged_after: 1d }]");
    let complaint =
        SettingsFile::new("database: { pull_statistics: 0s }\nretention: [{ name: x, keep_last_pulled: 1 }]");
    assert_eq!(
        complaint.complaint(),
        "longshore.yaml:2:12: retention: rule \"x\" needs to know what was pulled: \
         set database.pull_statistics to more than 0s"
    );
}

#[test]
fn rules_have_names_of_their_own_and_repositories() {
    assert_complaint(
        "immutable_tags: [{ tags: v.* }]",
        "1:17: immutable_tags: rule 1 has no usable name: give it one of 1 to 64 printable ASCII",
    );
    assert_complaint(
        "retention: [{ name: x, keep_all: true }, { name: x, keep_all: true }]",
        "1:12: retention: two rules are called \"x\": give one another name",
    );
    assert_complaint(
        "immutable_tags: [{ name: x, repositories: [] }]",
        "1:17: immutable_tags: rule \"x\" is for no repositories: name some, or remove the key for all of them",
    );
}

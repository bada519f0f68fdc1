//! The rules about tags, as the settings say them.

use longshore_config::{ImmutableTagsRule, RetentionRule, Settings};
use longshore_gc::{Keep, Retention};
use longshore_metadata::Breaker;
use longshore_oci::{ImmutableRule, ImmutableTags, TagScope};

/// So many tags are never too many to delete in a day.
const FLOOR: u64 = 1000;

/// Which tags stay.
pub(super) fn retention(settings: &Settings) -> Retention {
    Retention {
        rules: settings.retention.iter().map(retention_rule).collect(),
        immutable: immutable_tags(settings),
        interval: settings.gc.retention_interval,
        breaker: Breaker { percent: settings.gc.tag_breaker, floor: FLOOR },
    }
}

/// Which tags may not move.
pub(super) fn immutable_tags(settings: &Settings) -> ImmutableTags {
    let rule = |rule: &ImmutableTagsRule| ImmutableRule {
        name: rule.name.clone(),
        scope: TagScope {
            repositories: rule.repositories.clone(),
            tags: rule.tags.clone(),
            except: rule.except_tags.clone(),
        },
    };
    ImmutableTags::new(settings.immutable_tags.iter().map(rule).collect())
}

fn retention_rule(rule: &RetentionRule) -> longshore_gc::RetentionRule {
    longshore_gc::RetentionRule {
        name: rule.name.clone(),
        scope: TagScope {
            repositories: rule.repositories.clone(),
            tags: rule.tags.clone(),
            except: rule.except_tags.clone(),
        },
        keep: Keep {
            all: rule.keep_all,
            last_pushed: rule.keep_last_pushed,
            last_pulled: rule.keep_last_pulled,
            pushed_within: rule.keep_pushed_within,
            pulled_within: rule.keep_pulled_within,
        },
        expire_annotated: rule.expire_annotated,
        untagged_after: rule.untagged_after,
        build_caches: rule.build_caches,
        even_immutable: rule.even_immutable,
        dry_run: rule.dry_run,
    }
}

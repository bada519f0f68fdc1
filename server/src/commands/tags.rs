//! The rules about tags, as the settings say them.

use longshore_config::{ImmutableTagsRule, Settings};
use longshore_oci::{ImmutableRule, ImmutableTags, TagScope};

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

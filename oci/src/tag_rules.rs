//! Which tags of which repositories a rule is for, and the tags that may not move.

use std::sync::Arc;

use crate::{RepositoryName, RepositoryPattern, Tag, TagPattern};

/// Tags of repositories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagScope {
    /// The repositories: those that any of the patterns means.
    pub repositories: Vec<RepositoryPattern>,
    /// Their tags.
    pub tags: TagPattern,
    /// Those of the tags that are not meant after all.
    pub except: Option<TagPattern>,
}

impl TagScope {
    /// Whether tags of the repository may be meant.
    pub fn has_repository(&self, repository: &RepositoryName) -> bool {
        self.repositories.iter().any(|pattern| pattern.matches(repository))
    }

    /// Whether the tag is meant, in a repository of which tags may be.
    pub fn has_tag(&self, tag: &Tag) -> bool {
        self.tags.matches(tag) && !self.except.as_ref().is_some_and(|except| except.matches(tag))
    }
}

/// Tags that may not move: once they name a manifest they name no other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImmutableRule {
    /// What people call it.
    pub name: String,
    /// The tags.
    pub scope: TagScope,
}

/// All rules about tags that may not move. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImmutableTags(Arc<[ImmutableRule]>);

impl ImmutableTags {
    /// These rules.
    pub fn new(rules: Vec<ImmutableRule>) -> Self {
        Self(rules.into())
    }

    /// Whether any tag of the repository may be one of them.
    pub fn concern(&self, repository: &RepositoryName) -> bool {
        self.0.iter().any(|rule| rule.scope.has_repository(repository))
    }

    /// The rule by which the tag may not move, if there is one.
    pub fn rule_for(&self, repository: &RepositoryName, tag: &Tag) -> Option<&str> {
        let is_meant = |rule: &&ImmutableRule| rule.scope.has_tag(tag) && rule.scope.has_repository(repository);
        self.0.iter().find(is_meant).map(|rule| rule.name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_for_some_tags_of_some_repositories() {
        let scope = TagScope {
            repositories: vec!["prod/**".parse().unwrap(), "base".parse().unwrap()],
            tags: "v.*".parse().unwrap(),
            except: "v.*-rc.*".parse().ok(),
        };
        let rules = ImmutableTags::new(vec![ImmutableRule { name: "releases".into(), scope }]);
        let rule = |repository: &str, tag: &str| {
            rules.rule_for(&repository.parse().unwrap(), &tag.parse().unwrap()).map(str::to_owned)
        };
        assert_eq!(rule("prod/app", "v1").as_deref(), Some("releases"));
        assert_eq!(rule("base", "v2").as_deref(), Some("releases"));
        assert_eq!(rule("prod/app", "v1-rc1"), None);
        assert_eq!(rule("prod/app", "latest"), None);
        assert_eq!(rule("dev/app", "v1"), None);
        assert!(rules.concern(&"base".parse().unwrap()) && !rules.concern(&"dev/app".parse().unwrap()));
        assert!(!ImmutableTags::default().concern(&"base".parse().unwrap()));
    }
}

//! Owns the reading of long lists: pages of the tags of one repository, pages of the catalog, one tag among many.

use anyhow::Result;

use crate::body::Sha256Digest;
use crate::case::{Case, Plan, Prepared};
use crate::client::{Connection, Method};
use crate::reading::{Expected, Reading};
use crate::setup::{self, ACCEPT_MANIFESTS, MANY_REPOSITORIES, MANY_TAGS, MANY_TAGS_REPOSITORY};

const PAGE_ENTRIES: usize = 100;

pub(crate) fn cases() -> Vec<Box<dyn Case>> {
    let case = |name, summary, what| Box::new(ReadList { name, summary, what }) as Box<dyn Case>;
    vec![
        case("tag-of-10000", "GET a manifest by tag in a repository of 10,000 tags", What::OneTag),
        case("tags-first", "GET the first 100 of 10,000 tags", What::Tags { after: None }),
        case("tags-middle", "GET 100 tags after the 5,000th of 10,000", What::Tags { after: Some(MANY_TAGS / 2) }),
        case("catalog-first", "GET the first 100 of 1,000 repositories or more", What::Catalog { after: None }),
        case(
            "catalog-middle",
            "GET 100 repositories after the 500th of 1,000",
            What::Catalog { after: Some(MANY_REPOSITORIES / 2) },
        ),
    ]
}

struct ReadList {
    name: &'static str,
    summary: &'static str,
    what: What,
}

/// `after` is the index of the last entry of the page before.
#[derive(Clone, Copy)]
enum What {
    OneTag,
    Tags { after: Option<u64> },
    Catalog { after: Option<u64> },
}

impl Case for ReadList {
    fn name(&self) -> &str {
        self.name
    }

    fn summary(&self) -> &str {
        self.summary
    }

    fn prepare(&self, connection: &mut Connection<'_>, _plan: &Plan) -> Result<Prepared> {
        let reading = match self.what {
            What::OneTag => {
                setup::ensure_many_tags(connection)?;
                reading_of_one_tag()
            }
            What::Tags { after } => {
                setup::ensure_many_tags(connection)?;
                let path = format!("/v2/{MANY_TAGS_REPOSITORY}/tags/list");
                reading_of_page("tags", &path, after.map(setup::tag_name))
            }
            What::Catalog { after } => {
                setup::ensure_many_repositories(connection)?;
                reading_of_page("repositories", "/v2/_catalog", after.map(setup::repository_name))
            }
        };
        Ok(Prepared::Ready(Box::new(reading)))
    }
}

fn reading_of_one_tag() -> Reading {
    let index = MANY_TAGS / 2;
    let bytes = setup::many_tags_manifest(index);
    Reading {
        method: Method::Get,
        path: format!("/v2/{MANY_TAGS_REPOSITORY}/manifests/{}", setup::tag_name(index)),
        headers: ACCEPT_MANIFESTS,
        expected: Expected::Content { digest: Sha256Digest::of(&bytes), length: bytes.len() as u64 },
    }
}

fn reading_of_page(key: &'static str, path: &str, after: Option<String>) -> Reading {
    let after = after.unwrap_or_default();
    let last = if after.is_empty() { String::new() } else { format!("&last={after}") };
    Reading {
        method: Method::Get,
        path: format!("{path}?n={PAGE_ENTRIES}{last}"),
        headers: "",
        expected: Expected::Page { key, entries: PAGE_ENTRIES, after },
    }
}

//! Lists in pages: tags (end-8) and the catalog. A page is a range scan: the next one begins after the last item.

use super::{Answer, Call, content};
use crate::{access, answer};
use axum::response::Response;
use http::header;
use longshore_auth::Action;
use longshore_oci::RepositoryName;
use longshore_registry::Page;
use serde_json::json;

pub(super) async fn tags(call: Call, repository: RepositoryName) -> Answer {
    let limit = call.query.page_size(call.app.settings.limits.page_size)?;
    let after = call.query.searched("last")?.unwrap_or_default();
    let page = call.app.registry.list_tags(&repository, after, limit).await?;
    let names: Vec<&str> = page.items.iter().map(longshore_oci::Tag::as_str).collect();
    let body = json!({ "name": repository.as_str(), "tags": names });
    Ok(listed(&body, &format!("/v2/{repository}/tags/list"), limit, names.last().filter(|_| page.more)))
}

pub(super) async fn catalog(call: Call) -> Answer {
    let limit = call.query.page_size(call.app.settings.limits.page_size)?;
    let after = call.query.searched("last")?.unwrap_or_default();
    let may_list = |name: &RepositoryName| access::authorise(&call.app, &call.caller, Action::Pull, Some(name)).is_ok();
    let page: Page<RepositoryName> = call.app.registry.list_repositories(after, limit, may_list).await?;
    let names: Vec<&str> = page.items.iter().map(RepositoryName::as_str).collect();
    Ok(listed(&json!({ "repositories": names }), "/v2/_catalog", limit, names.last().filter(|_| page.more)))
}

/// A page, with a link to the next one if there is one.
fn listed(body: &serde_json::Value, path: &str, limit: u32, last: Option<&&str>) -> Response {
    let response = content::json(body.to_string().into_bytes(), "application/json");
    match last {
        None => response,
        Some(last) => {
            let query = form_urlencoded::Serializer::new(String::new())
                .append_pair("n", &limit.to_string())
                .append_pair("last", last)
                .finish();
            answer::with(response, header::LINK, format!("<{path}?{query}>; rel=\"next\""))
        }
    }
}

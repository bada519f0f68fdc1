//! Blobs: GET, HEAD, DELETE (end-2, end-10).

use super::{
    Answer, Call,
    content::{Content, Plan},
    redirects,
};
use crate::answer;
use http::{HeaderValue, StatusCode, header};
use longshore_oci::{Digest, RepositoryName};

fn content(digest: Digest, size: u64) -> Content<'static> {
    Content { digest, media_type: "application/octet-stream", size, immutable: true }
}

pub(super) async fn get(call: Call, repository: RepositoryName, digest: Digest) -> Answer {
    let registry = &call.app.registry;
    let blob = registry.find_blob(&repository, &digest).await?;
    let content = content(digest, blob.size);
    let response = match content.plan(call.headers(), call.app.settings.limits.ranges)? {
        Plan::Done(response) => response,
        Plan::Send(parts) => {
            // Boxed: its room is not to be had for every pull.
            if let Some(lifetime) = redirects::lifetime(&call, &repository, &blob, &parts)
                && let Some(location) = Box::pin(redirects::location(&call.app, &blob, lifetime)).await
            {
                return Ok(content.elsewhere(location));
            }
            content.send(registry.open_blob(&blob).await?, parts, call.delivery()).await?
        }
    };
    Ok(for_saving(response))
}

/// A client that asks whether a blob is here leaves out its upload: the blob has to stay for a while.
pub(super) async fn head(call: Call, repository: RepositoryName, digest: Digest) -> Answer {
    let size = call.app.registry.promise_blob(&repository, &digest).await?;
    Ok(for_saving(content(digest, size).describe_only(call.headers())))
}

pub(super) async fn delete(call: Call, repository: RepositoryName, digest: Digest) -> Answer {
    call.app.registry.delete_blob(&repository, &digest).await?;
    Ok(answer::empty(StatusCode::ACCEPTED))
}

/// A browser saves a blob and never shows it.
fn for_saving(mut response: axum::response::Response) -> axum::response::Response {
    response.headers_mut().insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    response
}

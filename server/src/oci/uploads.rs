//! Pushing blobs: upload sessions and everything that can be done with one (end-4, 5, 6, 11, 13, 14).

use super::{Answer, Call, located, request_body};
use crate::{access, answer, app::App, error::ApiError};
use axum::response::Response;
use http::{StatusCode, header};
use longshore_auth::{Action, Principal};
use longshore_metadata::{UploadAddress, UploadId};
use longshore_oci::{Algorithm, Digest, ErrorCode, RepositoryName};
use longshore_registry::Error;

/// POST: mounts a blob, takes a whole one, or opens a session.
pub(super) async fn start(call: Call, repository: RepositoryName) -> Answer {
    if let Some(digest) = call.query.digest("mount")? {
        let from = call.query.source()?;
        if mount(&call.app, &call.caller, &repository, &digest, from).await? {
            return Ok(created(&repository, &digest));
        }
    }
    if let Some(digest) = call.query.digest("digest")? {
        return push(call, repository, digest).await;
    }
    let algorithm = call.query.algorithm()?.unwrap_or(Algorithm::Sha256);
    let id = call.app.registry.begin_upload(&repository, call.caller.name(), algorithm).await?;
    Ok(session(StatusCode::ACCEPTED, &repository, id, 0))
}

/// A mount is a shortcut: where it does not lead anywhere the client uploads.
async fn mount(
    app: &App,
    caller: &Principal,
    target: &RepositoryName,
    digest: &Digest,
    from: Option<RepositoryName>,
) -> Result<bool, ApiError> {
    let may_pull = |source: &RepositoryName| access::authorise(app, caller, Action::Pull, Some(source)).is_ok();
    Ok(app.registry.mount_blob(target, digest, from.as_ref(), may_pull).await?)
}

/// POST with a digest: the body is the whole blob.
async fn push(call: Call, repository: RepositoryName, digest: Digest) -> Answer {
    let registry = call.app.registry.clone();
    let by = call.caller.name().map(str::to_owned);
    let chunk = request_body::chunk(call)?;
    registry.push_blob(&repository, by.as_deref(), digest, chunk).await?;
    Ok(created(&repository, &digest))
}

/// PATCH: a chunk, or everything as a stream.
pub(super) async fn append(call: Call, repository: RepositoryName, id: UploadId) -> Answer {
    let registry = call.app.registry.clone();
    let address = address(&call, &repository, id);
    let chunk = request_body::chunk(call)?;
    let received = registry.append(address, chunk).await.map_err(|error| where_to_go_on(error, &repository))?;
    Ok(session(StatusCode::ACCEPTED, &repository, id, received))
}

/// PUT: what is left of the blob, and its digest.
pub(super) async fn finish(call: Call, repository: RepositoryName, id: UploadId) -> Answer {
    let registry = call.app.registry.clone();
    let digest = call.query.digest("digest")?.ok_or_else(|| {
        ApiError::new(ErrorCode::DigestInvalid, "the parameter digest is missing: PUT <location>?digest=sha256:...")
    })?;
    let address = address(&call, &repository, id);
    let chunk = request_body::chunk(call)?;
    registry.finish_upload(address, digest, chunk).await.map_err(|error| where_to_go_on(error, &repository))?;
    Ok(created(&repository, &digest))
}

/// GET: how far the session is.
pub(super) async fn status(call: Call, repository: RepositoryName, id: UploadId) -> Answer {
    let received = call.app.registry.upload_progress(address(&call, &repository, id)).await?;
    Ok(session(StatusCode::NO_CONTENT, &repository, id, received))
}

/// DELETE: the session is given up.
pub(super) async fn cancel(call: Call, repository: RepositoryName, id: UploadId) -> Answer {
    call.app.registry.cancel_upload(address(&call, &repository, id)).await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

fn address(call: &Call, repository: &RepositoryName, id: UploadId) -> UploadAddress {
    UploadAddress { repository: repository.clone(), id, principal: call.caller.name().map(str::to_owned) }
}

/// Where the session goes on, and up to which byte it is.
fn session(status: StatusCode, repository: &RepositoryName, id: UploadId, received: u64) -> Response {
    let response = located(status, &upload_path(repository, id));
    let response = answer::with(response, header::RANGE, received_range(received));
    answer::with(response, answer::UPLOAD_UUID, id.to_string())
}

/// Up to which byte a session is. `0-0` stands for no byte as well as for one: no client takes `0--1`.
fn received_range(received: u64) -> String {
    format!("0-{}", received.saturating_sub(1))
}

fn created(repository: &RepositoryName, digest: &Digest) -> Response {
    let response = located(StatusCode::CREATED, &format!("/v2/{repository}/blobs/{digest}"));
    answer::with(response, answer::CONTENT_DIGEST, digest.to_string())
}

fn upload_path(repository: &RepositoryName, id: UploadId) -> String {
    format!("/v2/{repository}/blobs/uploads/{id}")
}

/// A client that lost count is told where to go on.
fn where_to_go_on(error: Error, repository: &RepositoryName) -> ApiError {
    match error {
        Error::ChunkOutOfOrder { id, received, .. } => ApiError::from(error)
            .with_header(header::LOCATION, upload_path(repository, id))
            .with_header(header::RANGE, received_range(received)),
        other => other.into(),
    }
}

//! Manifests: GET, HEAD, PUT, DELETE by tag and by digest (end-3, 7, 9).

use super::{
    Answer, Call,
    content::{Content, Plan},
    located, request_body,
};
use crate::{answer, error::ApiError};
use http::{Method, StatusCode, header};
use longshore_oci::{Reference, RepositoryName};
use longshore_registry::{BlobReader, Delivery, NewManifest, Purpose};

/// GET and HEAD: the stored bytes as the stored type, whatever the client says that it accepts: a manifest of another
/// type would have another digest.
pub(super) async fn get(call: Call, repository: RepositoryName, reference: Reference) -> Answer {
    let immutable = matches!(reference, Reference::Digest(_));
    let purpose = if call.request.method() == Method::HEAD { Purpose::Look } else { Purpose::Pull };
    let manifest = call.app.registry.find_manifest(repository, reference, purpose).await?;
    let content = Content {
        digest: manifest.digest,
        media_type: &manifest.media_type,
        size: manifest.body.len() as u64,
        immutable,
    };
    if purpose == Purpose::Look {
        return Ok(content.describe_only(call.headers()));
    }
    match content.plan(call.headers(), call.app.settings.limits.ranges)? {
        Plan::Done(response) => Ok(response),
        Plan::Send(parts) => content.send(BlobReader::Inline(manifest.body.clone()), parts, Delivery::Copied).await,
    }
}

/// PUT, with tags beside it in the query.
pub(super) async fn put(call: Call, repository: RepositoryName, reference: Reference) -> Answer {
    let registry = call.app.registry.clone();
    let tags = call.query.tags()?;
    let by = call.caller.name().map(str::to_owned);
    let content_type = content_type(&call)?;
    let body = request_body::whole(call, registry.rules().manifest_max).await?;
    let pushed = NewManifest { reference, tags: tags.clone(), content_type, body };
    let pushed = registry.push_manifest(&repository, by.as_deref(), pushed).await?;
    let location = format!("/v2/{repository}/manifests/{}", pushed.digest);
    let mut response = located(StatusCode::CREATED, &location);
    response = answer::with(response, answer::CONTENT_DIGEST, pushed.digest.to_string());
    if let Some(subject) = pushed.subject {
        response = answer::with(response, answer::OCI_SUBJECT, subject.to_string());
    }
    for tag in &tags {
        response = answer::with(response, answer::OCI_TAG, tag.as_str());
    }
    Ok(response)
}

pub(super) async fn delete(call: Call, repository: RepositoryName, reference: Reference) -> Answer {
    call.app.registry.delete_manifest(&repository, call.caller.name(), &reference).await?;
    Ok(answer::empty(StatusCode::ACCEPTED))
}

fn content_type(call: &Call) -> Result<Option<String>, ApiError> {
    let Some(value) = call.headers().get(header::CONTENT_TYPE) else {
        return Ok(None);
    };
    let text = value
        .to_str()
        .map_err(|_| ApiError::new(longshore_oci::ErrorCode::ManifestInvalid, "the Content-Type is not text"))?;
    Ok(Some(text.to_owned()))
}

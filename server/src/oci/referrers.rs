//! What refers to a manifest (end-12). Never 404: a subject that nothing refers to, or that is not here, has an empty
//! list.

use super::{Answer, Call, content};
use crate::answer;
use http::header;
use longshore_oci::{Digest, ReferrersIndex, RepositoryName};

pub(super) async fn list(call: Call, repository: RepositoryName, subject: Digest) -> Answer {
    let artifact_type = call.query.searched("artifactType")?.filter(|wanted| !wanted.is_empty());
    let after = call.query.digest("last")?;
    let page = call.app.registry.list_referrers(&repository, &subject, artifact_type, after.as_ref()).await?;
    let body = ReferrersIndex::new(page.descriptors).to_json();
    let mut response = content::json(body, "application/vnd.oci.image.index.v1+json");
    if artifact_type.is_some() {
        response = answer::with(response, answer::OCI_FILTERS_APPLIED, "artifactType");
    }
    if let Some(last) = page.next {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("last", &last.to_string());
        if let Some(artifact_type) = artifact_type {
            query.append_pair("artifactType", artifact_type);
        }
        let link = format!("</v2/{repository}/referrers/{subject}?{}>; rel=\"next\"", query.finish());
        response = answer::with(response, header::LINK, link);
    }
    Ok(response)
}

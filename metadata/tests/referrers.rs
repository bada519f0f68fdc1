//! Referrers: in the order of their digests, filtered and cut into pages by the database.

use crate::content::{digest_of, manifest, repository};
use crate::database::Database;
use longshore_metadata::{PutManifest, ReferrerRecord, ReferrersPage};
use longshore_oci::Digest;

on_both_engines!(
    a_referrer_is_listed_with_what_a_client_chooses_by,
    a_referrer_without_an_artifact_type_has_its_configs,
    referrers_of_what_is_not_here_are_listed,
    referrers_are_filtered_by_artifact_type,
    pages_by_number_join_into_the_whole_list,
    pages_by_bytes_join_into_the_whole_list,
    a_referrer_that_is_larger_than_a_page_comes_alone,
    manifests_beside_a_subject_are_told_from_its_referrers,
);

const SIGNATURE: &str = "application/vnd.example.signature";

fn referrer(body: &str, subject: &str) -> PutManifest {
    let artifact_type = Some(SIGNATURE.to_owned());
    PutManifest { subject: Some(digest_of(subject)), artifact_type, ..manifest("app", body) }
}

/// A page of a list, which the tests ask for with one thing changed.
struct Page {
    artifact_type: Option<&'static str>,
    after: Option<Digest>,
    limit: u32,
    max_bytes: u64,
}

const WHOLE: Page = Page { artifact_type: None, after: None, limit: 1000, max_bytes: 1 << 20 };

async fn list(database: &Database, page: Page) -> Vec<ReferrerRecord> {
    let page = ReferrersPage {
        repository: &repository("app"),
        subject: &digest_of("subject"),
        artifact_type: page.artifact_type,
        after: page.after.as_ref(),
        limit: page.limit,
        max_bytes: page.max_bytes,
    };
    database.metadata.list_referrers(page).await.unwrap()
}

/// All pages of this shape, one after the other.
async fn walk(database: &Database, limit: u32, max_bytes: u64) -> Vec<Vec<ReferrerRecord>> {
    let mut pages: Vec<Vec<ReferrerRecord>> = Vec::new();
    loop {
        let after = pages.last().and_then(|page| page.last()).map(|last| last.digest);
        let page = list(database, Page { after, limit, max_bytes, ..WHOLE }).await;
        if page.is_empty() {
            return pages;
        }
        pages.push(page);
    }
}

async fn push_many(database: &Database) -> Vec<Digest> {
    let mut digests = Vec::new();
    for number in 0..10 {
        digests.push(database.push(referrer(&format!("referrer {number}"), "subject")).await);
    }
    digests.sort_unstable();
    digests
}

async fn a_referrer_is_listed_with_what_a_client_chooses_by(database: Database) {
    database.push(manifest("app", "subject")).await;
    let annotations = Some(r#"{"org.example.key":"välue"}"#.to_owned());
    let digest = database
        .push(PutManifest {
            annotations: annotations.clone(),
            config_media_type: Some("application/vnd.example.config".to_owned()),
            ..referrer("signature", "subject")
        })
        .await;
    database.push(referrer("of something else", "another subject")).await;
    database.push(PutManifest { repository: repository("elsewhere"), ..referrer("not here", "subject") }).await;
    let expected = ReferrerRecord {
        digest,
        media_type: manifest("app", "").media_type,
        size: "signature".len() as u64,
        artifact_type: Some(SIGNATURE.to_owned()),
        annotations,
    };
    assert_eq!(list(&database, WHOLE).await, [expected]);
}

async fn a_referrer_without_an_artifact_type_has_its_configs(database: Database) {
    let config = Some(SIGNATURE.to_owned());
    let plain = PutManifest { artifact_type: None, config_media_type: config, ..referrer("image", "subject") };
    database.push(plain).await;
    let listed = list(&database, Page { artifact_type: Some(SIGNATURE), ..WHOLE }).await;
    assert_eq!(listed[0].artifact_type.as_deref(), Some(SIGNATURE));
    assert_eq!(listed[0].annotations, None);
}

async fn referrers_of_what_is_not_here_are_listed(database: Database) {
    let subject = database.push(manifest("app", "subject")).await;
    let digest = database.push(referrer("signature", "subject")).await;
    database.metadata.delete_manifest(&repository("app"), &subject, None).await.unwrap();
    assert_eq!(list(&database, WHOLE).await[0].digest, digest);
    database.metadata.delete_manifest(&repository("app"), &digest, None).await.unwrap();
    assert_eq!(list(&database, WHOLE).await, []);
}

async fn referrers_are_filtered_by_artifact_type(database: Database) {
    let mut expected = push_many(&database).await;
    let sbom = "application/vnd.example.sbom";
    let other = PutManifest { artifact_type: Some(sbom.to_owned()), ..referrer("sbom", "subject") };
    let other = database.push(other).await;
    let of_type = async |artifact_type| {
        let listed = list(&database, Page { artifact_type, ..WHOLE }).await;
        listed.into_iter().map(|record| record.digest).collect::<Vec<_>>()
    };
    assert_eq!(of_type(Some(sbom)).await, [other]);
    assert_eq!(of_type(Some(SIGNATURE)).await, expected);
    assert_eq!(of_type(Some("application/vnd.example")).await, []);
    expected.push(other);
    expected.sort_unstable();
    assert_eq!(of_type(None).await, expected);
}

async fn pages_by_number_join_into_the_whole_list(database: Database) {
    let expected = push_many(&database).await;
    let pages = walk(&database, 3, WHOLE.max_bytes).await;
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 3, 1]);
    assert_eq!(pages.concat().iter().map(|record| record.digest).collect::<Vec<_>>(), expected);
}

async fn pages_by_bytes_join_into_the_whole_list(database: Database) {
    let mut expected = Vec::new();
    for number in 0..10 {
        let annotations = Some(format!(r#"{{"n":"{}"}}"#, "x".repeat(1000)));
        let put = PutManifest { annotations, ..referrer(&format!("referrer {number}"), "subject") };
        expected.push(database.push(put).await);
    }
    expected.sort_unstable();
    let pages = walk(&database, 1000, 4000).await;
    let annotations = |page: &[ReferrerRecord]| -> usize {
        page.iter().map(|record| record.annotations.as_ref().unwrap().len()).sum()
    };
    assert!(pages.iter().all(|page| annotations(page) <= 4000));
    assert!(pages.len() < 10, "a page holds more than one");
    assert_eq!(pages.concat().iter().map(|record| record.digest).collect::<Vec<_>>(), expected);
}

async fn a_referrer_that_is_larger_than_a_page_comes_alone(database: Database) {
    let mut expected = push_many(&database).await;
    let annotations = Some(format!(r#"{{"n":"{}"}}"#, "x".repeat(100_000)));
    expected.push(database.push(PutManifest { annotations, ..referrer("large", "subject") }).await);
    expected.sort_unstable();
    let pages = walk(&database, 1000, 10_000).await;
    let large = pages.iter().find(|page| page.iter().any(|record| record.digest == digest_of("large"))).unwrap();
    assert_eq!(large.len(), 1);
    assert_eq!(pages.concat().iter().map(|record| record.digest).collect::<Vec<_>>(), expected);
    // Even where no byte at all is allowed, the list goes on.
    let pages = walk(&database, 1000, 0).await;
    assert_eq!(pages.len(), expected.len());
}

async fn manifests_beside_a_subject_are_told_from_its_referrers(database: Database) {
    let plain = database.push(manifest("app", "plain")).await;
    let of_another = database.push(referrer("of another", "another subject")).await;
    let of_subject = database.push(referrer("of the subject", "subject")).await;
    database.push(manifest("elsewhere", "not here")).await;
    let asked = [of_subject, plain, digest_of("not here"), of_another, digest_of("unknown")];
    let (app, subject) = (repository("app"), digest_of("subject"));
    let mut beside = database.metadata.manifests_beside_subject(&app, &asked, &subject).await.unwrap();
    beside.sort_unstable();
    let mut expected = [plain, of_another];
    expected.sort_unstable();
    assert_eq!(beside, expected);
    assert_eq!(database.metadata.manifests_beside_subject(&app, &[], &subject).await.unwrap(), []);
}

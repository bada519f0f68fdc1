//! Manifests: stored with all that they need, or not at all.

use crate::content::{by, digest_of, image, index, manifest, repository, sparse, tag, tagged};
use crate::database::{Database, TICK};
use longshore_metadata::{DeleteOutcome, ManifestRecord, MountOutcome, NamedBlob, PutManifest, PutManifestOutcome};
use longshore_oci::{Algorithm, Digest, RepositoryName};

on_both_engines!(
    a_manifest_is_found_by_digest_and_by_tag,
    a_manifest_keeps_the_algorithm_of_its_digest,
    what_is_missing_is_named_and_nothing_is_written,
    a_blob_of_another_repository_is_missing,
    a_layer_that_lives_elsewhere_need_not_be_here,
    an_absent_blob_is_held_as_soon_as_it_arrives,
    an_absent_child_is_held_as_soon_as_it_arrives,
    an_index_may_name_a_blob,
    a_blob_may_be_named_twice,
    a_manifest_that_comes_again_is_the_same_one,
    a_manifest_whose_bytes_are_damaged_is_mended_by_a_push,
    a_manifest_that_comes_again_with_what_was_absent_holds_it,
    an_unknown_manifest_cannot_be_deleted,
    a_deleted_manifest_is_gone_until_it_is_pushed_again,
    a_child_goes_only_after_its_index,
    a_subject_may_go_before_its_referrers,
    untagged_since_says_since_when,
    the_catalog_lists_repositories_that_hold_a_manifest,
    the_catalog_comes_in_pages_of_byte_order,
);

async fn find(database: &Database, digest: &Digest) -> Option<ManifestRecord> {
    database.metadata.find_manifest(&repository("app"), digest).await.unwrap()
}

async fn put(database: &Database, manifest: PutManifest) -> PutManifestOutcome {
    database.metadata.put_manifest(manifest).await.unwrap()
}

async fn delete(database: &Database, digest: &Digest) -> DeleteOutcome {
    database.metadata.delete_manifest(&repository("app"), digest, None).await.unwrap()
}

async fn delete_blob(database: &Database, digest: &Digest) -> DeleteOutcome {
    database.metadata.delete_blob(&repository("app"), digest).await.unwrap()
}

async fn a_manifest_is_found_by_digest_and_by_tag(database: Database) {
    let body = vec![b'{', 0, 0xff, b'\n', b'}'];
    let digest = Digest::of(Algorithm::Sha256, &body);
    let put = PutManifest { body: body.clone(), digest, ..tagged(manifest("app", ""), &["latest", "v1"]) };
    let expected = Some(ManifestRecord { digest, media_type: put.media_type.as_str().into(), body: body.into() });
    database.push(put).await;
    assert_eq!(find(&database, &digest).await, expected);
    for name in ["latest", "v1"] {
        assert_eq!(database.metadata.find_tag(&repository("app"), &tag(name)).await.unwrap(), expected);
    }
    for name in ["Latest", "v2"] {
        assert_eq!(database.metadata.find_tag(&repository("app"), &tag(name)).await.unwrap(), None);
    }
    assert_eq!(database.metadata.find_tag(&repository("other"), &tag("v1")).await.unwrap(), None);
    assert_eq!(database.metadata.find_manifest(&repository("other"), &digest).await.unwrap(), None);
}

async fn a_manifest_keeps_the_algorithm_of_its_digest(database: Database) {
    let sha512 = Digest::of(Algorithm::Sha512, b"manifest");
    database.push(PutManifest { digest: sha512, ..tagged(manifest("app", "manifest"), &["latest"]) }).await;
    let by_tag = database.metadata.find_tag(&repository("app"), &tag("latest")).await.unwrap().unwrap();
    assert_eq!(by_tag.digest, sha512);
    assert_eq!(find(&database, &digest_of("manifest")).await, None);
}

async fn what_is_missing_is_named_and_nothing_is_written(database: Database) {
    database.push_blob("app", "here").await;
    let names = PutManifest {
        children: vec![digest_of("a missing child")],
        ..tagged(image("app", "manifest", &["missing z", "here", "missing a"]), &["latest"])
    };
    let digests = ["missing z", "missing a", "a missing child"].map(digest_of).to_vec();
    assert_eq!(put(&database, names.clone()).await, PutManifestOutcome::Absent { digests });
    let elsewhere = PutManifest { repository: repository("new"), ..names };
    assert!(matches!(put(&database, elsewhere).await, PutManifestOutcome::Absent { digests } if digests.len() == 4));
    assert_eq!(database.inside.count("SELECT count(*) FROM manifests").await, 0);
    assert_eq!(database.inside.count("SELECT count(*) FROM tags").await, 0);
    assert_eq!(database.inside.count("SELECT count(*) FROM repositories").await, 1);
}

async fn a_blob_of_another_repository_is_missing(database: Database) {
    let layer = database.push_blob("elsewhere", "layer").await;
    let outcome = put(&database, image("app", "manifest", &["layer"])).await;
    assert_eq!(outcome, PutManifestOutcome::Absent { digests: vec![layer] });
    let child = database.push(manifest("elsewhere", "child")).await;
    let outcome = put(&database, index("app", "index", &["child"])).await;
    assert_eq!(outcome, PutManifestOutcome::Absent { digests: vec![child] });
}

async fn a_layer_that_lives_elsewhere_need_not_be_here(database: Database) {
    let foreign = NamedBlob { digest: digest_of("foreign"), required: false };
    let needed = NamedBlob { digest: digest_of("needed"), required: true };
    let windows = PutManifest { blobs: vec![foreign.clone(), needed.clone()], ..manifest("app", "windows") };
    assert_eq!(put(&database, windows.clone()).await, PutManifestOutcome::Absent { digests: vec![needed.digest] });
    database.push_blob("app", "needed").await;
    let digest = database.push(windows).await;
    // It may come all the same, and then it is held like any other.
    database.push_blob("app", "foreign").await;
    assert_eq!(delete_blob(&database, &foreign.digest).await, DeleteOutcome::InUse { by: digest });
}

async fn an_absent_blob_is_held_as_soon_as_it_arrives(database: Database) {
    let names = sparse(image("app", "manifest", &["inline", "uploaded", "mounted"]));
    let manifest = database.push(names).await;
    let links = "SELECT count(*) FROM manifest_blobs";
    assert_eq!(database.inside.count(links).await, 0);

    let inline = database.push_blob("app", "inline").await;
    assert_eq!(database.inside.count(links).await, 1);
    let uploaded = database.upload_blob("app", "objects/1", "uploaded").await;
    assert_eq!(database.inside.count(links).await, 2);
    let mounted = database.push_blob("from", "mounted").await;
    assert_eq!(database.inside.count(links).await, 2, "it came to another repository");
    let outcome = database.metadata.mount_blob(&repository("app"), &repository("from"), &mounted).await.unwrap();
    assert_eq!(outcome, MountOutcome::Mounted);
    assert_eq!(database.inside.count(links).await, 3);

    for digest in [inline, uploaded, mounted] {
        assert_eq!(delete_blob(&database, &digest).await, DeleteOutcome::InUse { by: manifest });
    }
    assert_eq!(delete(&database, &manifest).await, DeleteOutcome::Deleted);
    assert_eq!(delete_blob(&database, &inline).await, DeleteOutcome::Deleted);
    // The manifest is gone, and so is its wish: what comes now is held by nobody.
    database.push_blob("app", "inline").await;
    assert_eq!(delete_blob(&database, &inline).await, DeleteOutcome::Deleted);
}

async fn an_absent_child_is_held_as_soon_as_it_arrives(database: Database) {
    let index = database.push(sparse(index("app", "index", &["amd64", "arm64"]))).await;
    let linked = "SELECT count(*) FROM manifest_children WHERE child_id IS NOT NULL";
    database.push(manifest("elsewhere", "amd64")).await;
    assert_eq!(database.inside.count(linked).await, 0, "it came to another repository");
    let child = database.push(manifest("app", "amd64")).await;
    assert_eq!(database.inside.count(linked).await, 1);
    assert_eq!(delete(&database, &child).await, DeleteOutcome::InUse { by: index });
}

async fn an_index_may_name_a_blob(database: Database) {
    let layer = database.push_blob("app", "cached layer").await;
    let cache = database.push(index("app", "cache", &["cached layer"])).await;
    assert_eq!(delete_blob(&database, &layer).await, DeleteOutcome::InUse { by: cache });
    assert_eq!(delete(&database, &cache).await, DeleteOutcome::Deleted);
    assert_eq!(delete_blob(&database, &layer).await, DeleteOutcome::Deleted);
}

async fn a_blob_may_be_named_twice(database: Database) {
    database.push_blob("app", "layer").await;
    let digest = database.push(image("app", "manifest", &["layer", "layer"])).await;
    assert_eq!(database.inside.count("SELECT count(*) FROM manifest_blobs").await, 1);
    let child = digest_of("child");
    database.push(sparse(PutManifest { children: vec![child, child], ..manifest("app", "index") })).await;
    assert_eq!(database.inside.count("SELECT count(*) FROM manifest_children").await, 1);
    assert!(find(&database, &digest).await.is_some());
}

async fn a_manifest_whose_bytes_are_damaged_is_mended_by_a_push(database: Database) {
    let digest = database.push(manifest("app", "body")).await;
    database.inside.execute("UPDATE manifests SET body = digest", &[]).await.unwrap();
    assert_eq!(find(&database, &digest).await, None, "nobody is served other bytes");
    database.push(manifest("app", "body")).await;
    assert_eq!(&find(&database, &digest).await.unwrap().body[..], b"body");
}

async fn a_manifest_that_comes_again_is_the_same_one(database: Database) {
    database.push_blob("app", "layer").await;
    let first = by(tagged(image("app", "manifest", &["layer"]), &["latest"]), "alice");
    let digest = database.push(first.clone()).await;
    let id = database.inside.manifest_id(&digest).await;
    database.advance(TICK).await;
    let docker = "application/vnd.docker.distribution.manifest.v2+json";
    database.push(PutManifest { media_type: docker.to_owned(), ..by(first, "bob") }).await;
    assert_eq!(database.inside.manifest_id(&digest).await, id);
    assert_eq!(&*find(&database, &digest).await.unwrap().media_type, docker);
    assert_eq!(database.inside.texts("SELECT pushed_by FROM manifests").await, ["bob"]);
    let pushed_at = database.inside.number("SELECT pushed_at FROM manifests", &[]).await;
    assert_eq!(pushed_at, Some(database.now().await));
    assert_eq!(database.inside.count("SELECT count(*) FROM manifest_blobs").await, 1);
}

async fn a_manifest_that_comes_again_with_what_was_absent_holds_it(database: Database) {
    let names = sparse(PutManifest { children: vec![digest_of("child")], ..image("app", "manifest", &["layer"]) });
    let digest = database.push(names.clone()).await;
    let layer = database.push_blob("app", "layer").await;
    let child = database.push(manifest("app", "child")).await;
    database.push(PutManifest { allow_absent: false, ..names }).await;
    assert_eq!(delete_blob(&database, &layer).await, DeleteOutcome::InUse { by: digest });
    assert_eq!(delete(&database, &child).await, DeleteOutcome::InUse { by: digest });
}

async fn an_unknown_manifest_cannot_be_deleted(database: Database) {
    assert_eq!(delete(&database, &digest_of("manifest")).await, DeleteOutcome::Unknown);
    database.push(manifest("elsewhere", "manifest")).await;
    database.push(manifest("app", "another")).await;
    assert_eq!(delete(&database, &digest_of("manifest")).await, DeleteOutcome::Unknown);
}

async fn a_deleted_manifest_is_gone_until_it_is_pushed_again(database: Database) {
    let digest = database.push(tagged(manifest("app", "manifest"), &["one", "two"])).await;
    database.push(tagged(manifest("app", "other"), &["three"])).await;
    assert_eq!(delete(&database, &digest).await, DeleteOutcome::Deleted);
    assert_eq!(find(&database, &digest).await, None);
    let tags = database.metadata.list_tags(&repository("app"), "", 10).await.unwrap().unwrap();
    assert_eq!(tags, [tag("three")]);
    assert_eq!(delete(&database, &digest).await, DeleteOutcome::Unknown);
    database.push(manifest("app", "manifest")).await;
    assert!(find(&database, &digest).await.is_some());
    assert_eq!(database.metadata.find_tag(&repository("app"), &tag("one")).await.unwrap(), None);
}

async fn a_child_goes_only_after_its_index(database: Database) {
    let child = database.push(tagged(manifest("app", "child"), &["child"])).await;
    let inner = database.push(index("app", "inner", &["child"])).await;
    let outer = database.push(index("app", "outer", &["inner"])).await;
    assert_eq!(delete(&database, &child).await, DeleteOutcome::InUse { by: inner });
    assert!(database.metadata.find_tag(&repository("app"), &tag("child")).await.unwrap().is_some());
    assert_eq!(delete(&database, &inner).await, DeleteOutcome::InUse { by: outer });
    for digest in [outer, inner, child] {
        assert_eq!(delete(&database, &digest).await, DeleteOutcome::Deleted);
    }
}

async fn a_subject_may_go_before_its_referrers(database: Database) {
    let subject = database.push(manifest("app", "subject")).await;
    let signature = database.push(PutManifest { subject: Some(subject), ..manifest("app", "signature") }).await;
    assert_eq!(delete(&database, &subject).await, DeleteOutcome::Deleted);
    assert!(find(&database, &signature).await.is_some());
}

async fn untagged_since_says_since_when(database: Database) {
    let app = repository("app");
    let first = database.push(manifest("app", "first")).await;
    let id = database.inside.manifest_id(&first).await;
    const SINCE: &str = "SELECT untagged_since FROM manifests WHERE id = $1";
    let since = async || database.inside.number(SINCE, &[id]).await;
    let pushed = database.now().await;
    assert_eq!(since().await, Some(pushed), "pushed without a tag");

    database.advance(TICK).await;
    database.push(manifest("app", "first")).await;
    assert_eq!(since().await, Some(database.now().await), "pushed again without a tag");

    database.push(tagged(manifest("app", "first"), &["one", "two"])).await;
    assert_eq!(since().await, None, "tagged");
    database.push(manifest("app", "first")).await;
    assert_eq!(since().await, None, "pushed again by digest while it is tagged");

    database.advance(TICK).await;
    database.metadata.delete_tag(&app, &tag("one"), None).await.unwrap();
    assert_eq!(since().await, None, "one of two tags is left");
    database.metadata.delete_tag(&app, &tag("two"), None).await.unwrap();
    assert_eq!(since().await, Some(database.now().await), "the last tag was deleted");

    database.push(tagged(manifest("app", "first"), &["latest"])).await;
    database.advance(TICK).await;
    database.push(tagged(manifest("app", "second"), &["latest"])).await;
    assert_eq!(since().await, Some(database.now().await), "the last tag moved away");
    database.push(tagged(manifest("app", "first"), &["latest"])).await;
    assert_eq!(since().await, None, "the tag moved back");
}

async fn catalog(database: &Database, after: &str, limit: u32) -> Vec<RepositoryName> {
    database.metadata.list_repositories(after, limit).await.unwrap()
}

async fn the_catalog_lists_repositories_that_hold_a_manifest(database: Database) {
    database.push_blob("only/blobs", "blob").await;
    database.open_upload("only/an-upload").await;
    database.push(manifest("full", "manifest")).await;
    let emptied = database.push(manifest("app", "manifest")).await;
    assert_eq!(catalog(&database, "", 10).await, ["app", "full"].map(repository));
    delete(&database, &emptied).await;
    assert_eq!(catalog(&database, "", 10).await, [repository("full")]);
}

async fn the_catalog_comes_in_pages_of_byte_order(database: Database) {
    let names = ["a", "a-b", "a.b", "a/b", "a0", "a_b", "ab", "b"];
    assert!(names.is_sorted());
    for name in names.iter().rev() {
        database.push(manifest(name, "manifest")).await;
    }
    let mut listed = Vec::new();
    let mut after = String::new();
    loop {
        let page = catalog(&database, &after, 3).await;
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 3);
        after = last.to_string();
        listed.extend(page);
    }
    assert_eq!(listed, names.map(repository));
    assert_eq!(catalog(&database, "a-z", 1).await, [repository("a.b")], "after a name that is not there");
    assert_eq!(catalog(&database, "", 0).await, []);
}

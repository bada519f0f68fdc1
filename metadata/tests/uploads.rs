//! Upload sessions: they belong to one principal and one writer, and end with a blob or without a trace.

use crate::content::{UPLOAD_LIFETIME, digest_of, new_upload, repository};
use crate::database::{Database, TICK};
use longshore_metadata::{
    BlobContent, CommitOutcome, CommitUpload, SaveProgress, StoredContent, TailChange, UploadAddress, UploadId,
    UploadRecord,
};

on_both_engines!(
    a_new_session_has_nothing_yet,
    a_session_is_found_only_where_and_by_whom_it_was_opened,
    progress_is_found_again,
    every_new_byte_gives_the_session_its_time_again,
    a_writer_that_is_at_it_keeps_the_session_open,
    the_older_writer_can_neither_save_nor_attach_nor_commit,
    a_session_without_time_cannot_be_claimed,
    few_bytes_end_in_a_row,
    no_bytes_end_in_a_row,
    many_bytes_end_in_an_object,
    a_digest_that_is_here_already_condemns_the_own_object,
    a_small_blob_condemns_the_object_that_it_did_not_need,
    an_object_that_was_never_saved_to_is_not_gone_on_with,
    an_object_that_holds_saved_bytes_is_not_replaced,
    a_commit_without_the_object_that_it_speaks_of_is_an_error,
    a_session_ends_once,
    a_cancelled_session_leaves_no_blob_and_condemns_its_object,
);

fn progress(id: UploadId, fence: i64, received: u64, staged: &str) -> SaveProgress {
    SaveProgress {
        id,
        fence,
        received,
        hash_state: format!("the hash of {received} bytes").into_bytes(),
        staged: staged.as_bytes().to_vec(),
        multipart: None,
        next_part: None,
        tail: TailChange::Kept,
        lifetime: UPLOAD_LIFETIME,
    }
}

fn inline_commit(id: UploadId, fence: i64, content: &str) -> CommitUpload {
    let (digest, size) = (digest_of(content), content.len() as u64);
    CommitUpload { id, fence, digest, size, content: StoredContent::Inline(content.as_bytes().to_vec()) }
}

async fn find(database: &Database, address: &UploadAddress) -> Option<UploadRecord> {
    database.metadata.find_upload(address.clone()).await.unwrap()
}

async fn save(database: &Database, progress: SaveProgress) -> bool {
    database.metadata.save_progress(progress).await.unwrap()
}

async fn attach(database: &Database, address: &UploadAddress, fence: i64, key: &str) -> bool {
    database.metadata.attach_object(address.id, fence, key, "files").await.unwrap()
}

async fn commit(database: &Database, commit: CommitUpload) -> CommitOutcome {
    database.metadata.commit_upload(commit).await.unwrap()
}

async fn condemned(database: &Database) -> Vec<String> {
    database.inside.texts("SELECT key FROM tombstones ORDER BY key").await
}

async fn content(database: &Database, name: &str, content: &str) -> Option<BlobContent> {
    let found = database.metadata.find_blob(&repository(name), &digest_of(content)).await.unwrap();
    found.map(|blob| blob.content)
}

/// No session is left, and no object that nobody needs.
async fn assert_nothing_is_left_over(database: &Database) {
    assert_eq!(database.inside.count("SELECT count(*) FROM uploads").await, 0);
    let unneeded = "SELECT count(*) FROM objects o WHERE o.state <> 'live' \
        OR NOT EXISTS (SELECT 1 FROM blobs b WHERE b.object_id = o.id)";
    assert_eq!(database.inside.count(unneeded).await, 0);
}

async fn a_new_session_has_nothing_yet(database: Database) {
    let address = database.open_upload("app").await;
    let hash_state = b"the hash of nothing".to_vec();
    let record = UploadRecord {
        id: address.id,
        received: 0,
        hash_state,
        staged: vec![],
        object_key: None,
        multipart: None,
        tail_key: None,
        tail_checksum: None,
        fence: 0,
    };
    assert_eq!(find(&database, &address).await, Some(record));
    assert_eq!(address.id.to_string().parse(), Ok(address.id));
}

async fn a_session_is_found_only_where_and_by_whom_it_was_opened(database: Database) {
    let id = database.metadata.begin_upload(new_upload("app", Some("alice"))).await.unwrap();
    let alices = UploadAddress { repository: repository("app"), id, principal: Some("alice".to_owned()) };
    let anonymous = database.open_upload("app").await;
    let principal = |name: Option<&str>| name.map(str::to_owned);
    let strangers = [
        UploadAddress { principal: principal(Some("bob")), ..alices.clone() },
        UploadAddress { principal: principal(Some("Alice")), ..alices.clone() },
        UploadAddress { principal: None, ..alices.clone() },
        UploadAddress { repository: repository("other"), ..alices.clone() },
        UploadAddress { id: UploadId::random(), ..alices.clone() },
        UploadAddress { principal: principal(Some("alice")), ..anonymous.clone() },
        UploadAddress { principal: principal(Some("")), ..anonymous.clone() },
    ];
    for stranger in strangers {
        assert_eq!(find(&database, &stranger).await, None, "{stranger:?}");
        assert_eq!(
            database.metadata.claim_upload(stranger.clone(), UPLOAD_LIFETIME).await.unwrap(),
            None,
            "{stranger:?}"
        );
        assert!(!database.metadata.cancel_upload(stranger.clone()).await.unwrap(), "{stranger:?}");
    }
    for address in [alices, anonymous] {
        assert_eq!(find(&database, &address).await.unwrap().fence, 0, "a stranger rose the fence");
        assert!(database.metadata.claim_upload(address, UPLOAD_LIFETIME).await.unwrap().is_some());
    }
}

async fn progress_is_found_again(database: Database) {
    let address = database.open_upload("app").await;
    let fence = database.claim(&address).await;
    assert!(save(&database, progress(address.id, fence, 3, "abc")).await);
    let staged = find(&database, &address).await.unwrap();
    assert_eq!((staged.received, staged.staged.as_slice(), staged.object_key), (3, b"abc".as_slice(), None));
    assert!(attach(&database, &address, fence, "objects/1").await);
    assert!(save(&database, progress(address.id, fence, 6 << 30, "")).await);
    let expected = UploadRecord {
        id: address.id,
        received: 6 << 30,
        hash_state: format!("the hash of {} bytes", 6_u64 << 30).into_bytes(),
        staged: vec![],
        object_key: Some("objects/1".to_owned()),
        multipart: None,
        tail_key: None,
        tail_checksum: None,
        fence,
    };
    assert_eq!(find(&database, &address).await, Some(expected.clone()));
    let claimed = database.another_process().await.claim_upload(address, UPLOAD_LIFETIME).await.unwrap();
    assert_eq!(claimed, Some(UploadRecord { fence: fence + 1, ..expected }));
}

async fn every_new_byte_gives_the_session_its_time_again(database: Database) {
    let address = database.open_upload("app").await;
    let fence = database.claim(&address).await;
    for received in 1..5 {
        database.advance(UPLOAD_LIFETIME - TICK).await;
        assert!(save(&database, progress(address.id, fence, received, "x")).await);
    }
    database.advance(UPLOAD_LIFETIME - TICK).await;
    assert!(find(&database, &address).await.is_some());
    database.advance(TICK).await;
    assert_eq!(find(&database, &address).await, None);
}

async fn a_writer_that_is_at_it_keeps_the_session_open(database: Database) {
    let address = database.open_upload("app").await;
    database.advance(UPLOAD_LIFETIME - TICK).await;
    let older = database.claim(&address).await;
    database.advance(UPLOAD_LIFETIME - TICK).await;
    let newer = database.claim(&address).await;
    let extend = async |fence| database.metadata.extend_upload(address.id, fence, UPLOAD_LIFETIME).await.unwrap();
    database.advance(UPLOAD_LIFETIME - TICK).await;
    assert!(!extend(older).await);
    assert!(extend(newer).await);
    database.advance(UPLOAD_LIFETIME - TICK).await;
    assert!(find(&database, &address).await.is_some());
    database.advance(TICK).await;
    assert_eq!(find(&database, &address).await, None);
}

async fn the_older_writer_can_neither_save_nor_attach_nor_commit(database: Database) {
    let address = database.open_upload("app").await;
    let older = database.claim(&address).await;
    let newer = database.claim(&address).await;
    assert!(newer > older);
    assert!(!save(&database, progress(address.id, older, 3, "old")).await);
    assert!(!attach(&database, &address, older, "objects/old").await);
    assert_eq!(commit(&database, inline_commit(address.id, older, "old")).await, CommitOutcome::SessionLost);
    assert_eq!(find(&database, &address).await.unwrap().received, 0);
    assert_eq!(database.inside.count("SELECT count(*) FROM blobs").await, 0);
    assert_eq!(database.inside.count("SELECT count(*) FROM objects").await, 0);
    assert!(save(&database, progress(address.id, newer, 3, "new")).await);
    assert_eq!(commit(&database, inline_commit(address.id, newer, "new")).await, CommitOutcome::Committed);
}

async fn a_session_without_time_cannot_be_claimed(database: Database) {
    let address = database.open_upload("app").await;
    database.advance(UPLOAD_LIFETIME).await;
    assert_eq!(find(&database, &address).await, None);
    assert_eq!(database.metadata.claim_upload(address, UPLOAD_LIFETIME).await.unwrap(), None);
}

async fn few_bytes_end_in_a_row(database: Database) {
    let address = database.open_upload("app").await;
    let fence = database.claim(&address).await;
    assert!(save(&database, progress(address.id, fence, 4, "blob")).await);
    assert_eq!(commit(&database, inline_commit(address.id, fence, "blob")).await, CommitOutcome::Committed);
    assert_eq!(content(&database, "app", "blob").await, Some(BlobContent::Inline(b"blob".as_slice().into())));
    assert_nothing_is_left_over(&database).await;
}

async fn no_bytes_end_in_a_row(database: Database) {
    let address = database.open_upload("app").await;
    let fence = database.claim(&address).await;
    assert_eq!(commit(&database, inline_commit(address.id, fence, "")).await, CommitOutcome::Committed);
    assert_eq!(content(&database, "app", "").await, Some(BlobContent::Inline(vec![].into())));
    assert_nothing_is_left_over(&database).await;
}

async fn many_bytes_end_in_an_object(database: Database) {
    database.upload_blob("app", "objects/1", "layer").await;
    let expected = BlobContent::Object { key: "objects/1".into() };
    assert_eq!(content(&database, "app", "layer").await, Some(expected));
    assert_eq!(condemned(&database).await, Vec::<String>::new());
    assert_nothing_is_left_over(&database).await;
}

async fn a_digest_that_is_here_already_condemns_the_own_object(database: Database) {
    let first = database.attached_upload("one", "objects/1", "layer").await;
    let second = database.attached_upload("two", "objects/2", "layer").await;
    let third = database.attached_upload("two", "objects/3", "layer").await;
    for session in [first, second, third] {
        assert_eq!(commit(&database, session).await, CommitOutcome::Committed);
    }
    for name in ["one", "two"] {
        let expected = BlobContent::Object { key: "objects/1".into() };
        assert_eq!(content(&database, name, "layer").await, Some(expected));
    }
    assert_eq!(condemned(&database).await, ["objects/2", "objects/3"]);
    assert_nothing_is_left_over(&database).await;
}

async fn a_small_blob_condemns_the_object_that_it_did_not_need(database: Database) {
    let session = database.attached_upload("app", "objects/1", "blob").await;
    let session = CommitUpload { content: StoredContent::Inline(b"blob".to_vec()), ..session };
    assert_eq!(commit(&database, session).await, CommitOutcome::Committed);
    assert_eq!(content(&database, "app", "blob").await, Some(BlobContent::Inline(b"blob".as_slice().into())));
    assert_eq!(condemned(&database).await, ["objects/1"]);
    assert_nothing_is_left_over(&database).await;
}

/// A writer that dies between attaching an object and saving to it leaves a key whose file may not even exist, while
/// the bytes that were acknowledged are the staged ones.
async fn an_object_that_was_never_saved_to_is_not_gone_on_with(database: Database) {
    for staged in ["", "abc"] {
        let address = database.open_upload("app").await;
        let fence = database.claim(&address).await;
        let received = staged.len() as u64;
        assert!(save(&database, progress(address.id, fence, received, staged)).await);
        assert!(attach(&database, &address, fence, &format!("objects/dead{received}")).await);

        let record = database.metadata.claim_upload(address.clone(), UPLOAD_LIFETIME).await.unwrap().unwrap();
        assert_eq!((record.object_key, record.staged.as_slice()), (None, staged.as_bytes()));
        assert!(attach(&database, &address, record.fence, &format!("objects/live{received}")).await);
        let whole = format!("a layer after {staged:?}");
        let session =
            CommitUpload { content: StoredContent::AttachedObject, ..inline_commit(address.id, record.fence, &whole) };
        assert_eq!(commit(&database, session).await, CommitOutcome::Committed);
        let expected = BlobContent::Object { key: format!("objects/live{received}").into() };
        assert_eq!(content(&database, "app", &whole).await, Some(expected));
    }
    assert_eq!(condemned(&database).await, ["objects/dead0", "objects/dead3"]);
    assert_nothing_is_left_over(&database).await;
}

async fn an_object_that_holds_saved_bytes_is_not_replaced(database: Database) {
    let address = database.open_upload("app").await;
    let fence = database.claim(&address).await;
    assert!(attach(&database, &address, fence, "objects/1").await);
    assert!(save(&database, progress(address.id, fence, 1000, "")).await);
    assert!(!attach(&database, &address, fence, "objects/2").await);
    assert_eq!(find(&database, &address).await.unwrap().object_key.as_deref(), Some("objects/1"));
    assert_eq!(condemned(&database).await, Vec::<String>::new());
}

async fn a_commit_without_the_object_that_it_speaks_of_is_an_error(database: Database) {
    let address = database.open_upload("app").await;
    let fence = database.claim(&address).await;
    let session = CommitUpload { content: StoredContent::AttachedObject, ..inline_commit(address.id, fence, "x") };
    let error = database.metadata.commit_upload(session).await.unwrap_err();
    assert!(matches!(error, longshore_metadata::Error::Damaged { table: "uploads", .. }), "{error}");
    assert!(find(&database, &address).await.is_some());
}

async fn a_session_ends_once(database: Database) {
    let session = database.attached_upload("app", "objects/1", "layer").await;
    assert_eq!(commit(&database, session.clone()).await, CommitOutcome::Committed);
    assert_eq!(commit(&database, session).await, CommitOutcome::SessionLost);
    assert_eq!(condemned(&database).await, Vec::<String>::new());
}

async fn a_cancelled_session_leaves_no_blob_and_condemns_its_object(database: Database) {
    let address = database.open_upload("app").await;
    let fence = database.claim(&address).await;
    assert!(attach(&database, &address, fence, "objects/1").await);
    assert!(database.metadata.cancel_upload(address.clone()).await.unwrap());
    assert!(!database.metadata.cancel_upload(address.clone()).await.unwrap());
    assert_eq!(find(&database, &address).await, None);
    assert!(!save(&database, progress(address.id, fence, 10, "")).await);
    assert_eq!(condemned(&database).await, ["objects/1"]);
    assert_nothing_is_left_over(&database).await;
}

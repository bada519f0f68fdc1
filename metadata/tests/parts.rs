//! What a session holds in an object store: an object in parts, and a tail.

use crate::content::{UPLOAD_LIFETIME, digest_of};
use crate::database::Database;
use longshore_metadata::{
    CommitOutcome, CommitUpload, Multipart, SaveProgress, StoredContent, StrayObject, TailChange, UploadAddress,
    UploadPart, UploadRecord,
};
use std::collections::HashSet;

on_both_engines!(
    a_whole_object_becomes_the_tail_of_one_in_parts,
    an_object_in_parts_becomes_the_blob,
    what_was_attached_and_not_saved_is_not_gone_on_with,
    the_older_writer_can_neither_attach_nor_save_parts,
    nothing_to_go_on_after_is_refused,
    a_session_that_ends_condemns_all_that_it_holds,
    no_two_writers_are_given_the_same_number,
    a_writer_that_was_given_no_numbers_gives_none_back,
    what_is_begun_under_a_key_is_ended_by_a_session_or_a_tombstone,
    a_checksum_is_of_the_tail_that_it_was_saved_with,
);

/// More than a signed number holds.
const CHECKSUM: u64 = u64::MAX - 5;

/// A session that its first writer has claimed.
struct Session {
    database: Database,
    address: UploadAddress,
    fence: i64,
}

impl Session {
    async fn claimed(database: Database) -> Self {
        let address = database.open_upload("app").await;
        let mut session = Self { database, address, fence: 0 };
        session.claim().await;
        session
    }

    async fn claim(&mut self) -> UploadRecord {
        let claimed =
            self.database.metadata.claim_upload(self.address.clone(), UPLOAD_LIFETIME).await.unwrap().unwrap();
        self.fence = claimed.fence;
        claimed
    }

    async fn attach_object(&self, key: &str) -> bool {
        self.database.metadata.attach_object(self.address.id, self.fence, key, "s3").await.unwrap()
    }

    async fn attach_object_after(&self, key: &str) -> bool {
        self.database.metadata.attach_object_after(self.address.id, self.fence, key, "s3").await.unwrap()
    }

    async fn attach_tail(&self, key: &str) -> bool {
        self.database.metadata.attach_tail(self.address.id, self.fence, key, "s3").await.unwrap()
    }

    async fn save(&self, received: u64, multipart: Option<Multipart>, tail: TailChange) -> bool {
        let progress = SaveProgress {
            id: self.address.id,
            fence: self.fence,
            received,
            hash_state: b"a hash".to_vec(),
            staged: Vec::new(),
            next_part: multipart.as_ref().and_then(|multipart| Some(multipart.parts.last()?.number + 1)),
            multipart,
            tail,
            lifetime: UPLOAD_LIFETIME,
        };
        self.database.metadata.save_progress(progress).await.unwrap()
    }

    /// The keys of object and tail, and the tags of the parts.
    async fn holds(&self) -> (Option<String>, Option<String>, Vec<String>) {
        let found = self.database.metadata.find_upload(self.address.clone()).await.unwrap().unwrap();
        let parts = found.multipart.map(|multipart| multipart.parts).unwrap_or_default();
        (found.object_key, found.tail_key, parts.into_iter().map(|part| part.tag).collect())
    }

    async fn condemned(&self) -> Vec<String> {
        let keys = "SELECT key || COALESCE(' of ' || backend_upload, '') FROM tombstones ORDER BY key";
        self.database.inside.texts(keys).await
    }
}

/// Numbered from 0 on.
fn parts(parts: &[(&str, u64)]) -> Option<Multipart> {
    parts_from(0, parts)
}

fn parts_from(first: u32, parts: &[(&str, u64)]) -> Option<Multipart> {
    let part = |(number, (tag, size)): (u32, &(&str, u64))| UploadPart { number, tag: (*tag).to_owned(), size: *size };
    Some(Multipart { upload: "upload-1".to_owned(), parts: (first..).zip(parts).map(part).collect() })
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

async fn a_whole_object_becomes_the_tail_of_one_in_parts(database: Database) {
    let session = Session::claimed(database).await;
    assert!(session.attach_object("whole").await);
    assert!(session.save(100, None, TailChange::Kept).await);
    assert_eq!(session.holds().await, (text("whole"), None, vec![]));

    assert!(session.attach_object_after("parts").await);
    assert_eq!(session.holds().await, (None, text("whole"), vec![]), "there is no part yet");
    // Its writer died, and the next one begins another object.
    assert!(session.attach_object("others").await);
    assert_eq!(session.condemned().await, ["parts"]);

    assert!(session.attach_tail("tail").await);
    assert!(session.save(190, parts(&[("a", 150)]), TailChange::Replaced { checksum: CHECKSUM }).await);
    assert_eq!(session.holds().await, (text("others"), text("tail"), vec!["a".to_owned()]));
    assert_eq!(session.condemned().await, ["parts", "whole"]);
}

async fn an_object_in_parts_becomes_the_blob(database: Database) {
    let mut session = Session::claimed(database).await;
    assert!(session.attach_object("parts").await);
    assert!(session.attach_tail("tail").await);
    assert!(session.save(11, parts(&[("b", 4), ("a", 4)]), TailChange::Replaced { checksum: CHECKSUM }).await);
    assert!(session.save(16, parts_from(2, &[("c", 8)]), TailChange::Gone).await);
    let claimed = session.claim().await;
    assert_eq!(claimed.multipart, parts(&[("b", 4), ("a", 4), ("c", 8)]), "in the order in which they came");
    assert_eq!((claimed.received, claimed.tail_key), (16, None));

    let (id, fence, digest) = (session.address.id, session.fence, digest_of("the blob"));
    let commit = CommitUpload { id, fence, digest, size: 16, content: StoredContent::AttachedObject };
    assert_eq!(session.database.metadata.commit_upload(commit).await.unwrap(), CommitOutcome::Committed);
    assert_eq!(session.condemned().await, ["tail"]);
    assert_eq!(session.database.inside.texts("SELECT key FROM objects").await, ["parts"]);
    assert_eq!(session.database.inside.count("SELECT count(*) FROM upload_parts").await, 0);
}

async fn what_was_attached_and_not_saved_is_not_gone_on_with(database: Database) {
    let session = Session::claimed(database).await;
    assert!(session.attach_object("parts").await);
    assert!(session.attach_tail("never written").await);
    assert_eq!(session.holds().await, (None, None, vec![]));
    assert!(session.attach_tail("tail").await);
    assert_eq!(session.condemned().await, ["never written"]);
    assert!(session.save(8, parts(&[("a", 8)]), TailChange::Kept).await);
    assert_eq!(session.holds().await, (text("parts"), None, vec!["a".to_owned()]));
    assert!(!session.attach_object("another").await, "there are parts of the first one");
}

async fn the_older_writer_can_neither_attach_nor_save_parts(database: Database) {
    let mut session = Session::claimed(database).await;
    assert!(session.attach_object("parts").await);
    assert!(session.save(8, parts(&[("a", 8)]), TailChange::Kept).await);
    session.claim().await;
    session.fence -= 1;
    assert!(!session.attach_tail("tail").await);
    assert!(!session.attach_object_after("after").await);
    assert!(!session.save(16, parts_from(1, &[("b", 8)]), TailChange::Kept).await);
    assert!(!session.save(16, None, TailChange::Gone).await);
    session.fence += 1;
    assert_eq!(session.holds().await, (text("parts"), None, vec!["a".to_owned()]));
    assert_eq!(session.database.inside.texts("SELECT key FROM objects").await, ["parts"]);
}

async fn nothing_to_go_on_after_is_refused(database: Database) {
    let session = Session::claimed(database).await;
    assert!(!session.attach_object_after("too early").await);
    assert!(session.attach_object("parts").await);
    assert!(!session.attach_object_after("not saved").await);
    assert!(session.save(8, parts(&[("a", 8)]), TailChange::Kept).await);
    assert!(!session.attach_object_after("not whole").await);
    assert_eq!(session.holds().await, (text("parts"), None, vec!["a".to_owned()]));
    assert_eq!(session.database.inside.texts("SELECT key FROM objects").await, ["parts"]);
}

async fn a_session_that_ends_condemns_all_that_it_holds(database: Database) {
    let session = Session::claimed(database).await;
    assert!(session.attach_object("object").await);
    assert!(session.attach_tail("tail").await);
    assert!(session.save(9, parts(&[("a", 8)]), TailChange::Replaced { checksum: CHECKSUM }).await);
    assert!(session.attach_tail("tail of a writer that died").await);
    assert!(session.database.metadata.cancel_upload(session.address.clone()).await.unwrap());
    assert_eq!(session.condemned().await, ["object of upload-1", "tail", "tail of a writer that died"]);
    assert_eq!(session.database.inside.count("SELECT count(*) FROM objects").await, 0);
    assert_eq!(session.database.inside.count("SELECT count(*) FROM upload_parts").await, 0);
}

async fn no_two_writers_are_given_the_same_number(database: Database) {
    let mut session = Session::claimed(database).await;
    assert!(session.attach_object("object").await);
    // The first writer counts for itself: nobody else knows the upload.
    assert!(session.save(8, parts(&[("a", 4), ("b", 4)]), TailChange::Kept).await);
    let reserve = async |session: &Session, count| {
        session.database.metadata.reserve_parts(session.address.id, session.fence, count).await.unwrap()
    };
    assert_eq!(reserve(&session, 4).await, Some(2));
    let lost = session.fence;
    session.claim().await;
    assert_eq!(reserve(&session, 2).await, Some(6));
    // It has not needed all of them.
    assert!(session.save(16, parts_from(6, &[("c", 8)]), TailChange::Kept).await);
    assert_eq!(reserve(&session, 1).await, Some(7));
    let fence = session.fence;
    session.fence = lost;
    assert_eq!(reserve(&session, 1).await, None, "the session is another's");
    assert!(!session.save(24, parts_from(2, &[("late", 8)]), TailChange::Kept).await);
    session.fence = fence;
    assert_eq!(reserve(&session, 1).await, Some(8), "whoever has lost the session gives nothing back");
}

async fn a_writer_that_was_given_no_numbers_gives_none_back(database: Database) {
    let mut session = Session::claimed(database).await;
    assert!(session.attach_object("object").await);
    assert!(session.save(8, parts(&[("a", 8)]), TailChange::Kept).await);
    assert_eq!(session.database.metadata.reserve_parts(session.address.id, session.fence, 4).await.unwrap(), Some(1));
    // Its writer has died, and the next one has too little for a part.
    session.claim().await;
    assert!(session.attach_tail("tail").await);
    assert!(session.save(9, parts(&[]), TailChange::Replaced { checksum: CHECKSUM }).await);
    assert_eq!(session.database.metadata.reserve_parts(session.address.id, session.fence, 1).await.unwrap(), Some(5));
}

async fn what_is_begun_under_a_key_is_ended_by_a_session_or_a_tombstone(database: Database) {
    let keys: Vec<String> = ["objects/1", "objects/2", "objects/3"].map(str::to_owned).into();
    let known = async || database.metadata.keys_to_be_ended(&keys).await.unwrap();
    assert!(known().await.is_empty());
    let commit = database.attached_upload("app", "objects/1", "layer").await;
    let stray = StrayObject { key: "objects/2".to_owned(), size: 5 };
    assert_eq!(database.metadata.condemn_strays(vec![stray], "s3").await.unwrap(), 1);
    assert_eq!(known().await, HashSet::from(["objects/1".to_owned(), "objects/2".to_owned()]));
    // An object that is whole has no use for what else was begun there.
    assert_eq!(database.metadata.commit_upload(commit).await.unwrap(), CommitOutcome::Committed);
    assert_eq!(known().await, HashSet::from(["objects/2".to_owned()]));
}

async fn a_checksum_is_of_the_tail_that_it_was_saved_with(database: Database) {
    let mut session = Session::claimed(database).await;
    assert!(session.attach_object("object").await);
    assert!(session.attach_tail("tail").await);
    assert!(session.save(9, parts(&[("a", 8)]), TailChange::Replaced { checksum: CHECKSUM }).await);
    let claimed = session.claim().await;
    assert_eq!((claimed.tail_key, claimed.tail_checksum), (text("tail"), Some(CHECKSUM)));

    // A replica of the release before saves another tail.
    assert!(session.attach_tail("another").await);
    let replaced =
        session.database.inside.execute("UPDATE uploads SET tail_id = next_tail_id, next_tail_id = NULL", &[]);
    replaced.await.unwrap();
    let claimed = session.claim().await;
    assert_eq!((claimed.tail_key, claimed.tail_checksum), (text("another"), None));

    assert!(session.attach_tail("ours").await);
    assert!(session.save(10, parts(&[]), TailChange::Replaced { checksum: 7 }).await);
    let claimed = session.claim().await;
    assert_eq!((claimed.tail_key, claimed.tail_checksum), (text("ours"), Some(7)));
}

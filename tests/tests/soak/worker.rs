//! A client that does whatever clients do, in any order, and knows what it may expect of it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use longshore_tests::client::location;
use longshore_tests::image::Blob;
use longshore_tests::random::Random;
use reqwest::StatusCode;

use crate::caller::Caller;
use crate::content::{self, Content};
use crate::pool::Pool;
use crate::promise::Promises;
use crate::slot::{Held, Slot};
use crate::tally::Tally;
use crate::{KIB, MIB, PROMISE, UNDO};

/// What all clients know.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) repositories: Vec<String>,
    pub(crate) slots: Vec<Arc<Slot>>,
    pub(crate) pool: Pool,
    pub(crate) tally: Arc<Tally>,
}

/// A client with tags of its own, in repositories that others use as well.
#[derive(Debug)]
pub(crate) struct Worker {
    caller: Caller,
    random: Random,
    common: Arc<Common>,
    /// Those that no other client writes.
    own: Vec<Arc<Slot>>,
    /// Blobs of repositories that were acknowledged.
    blobs: Promises<(String, Arc<Blob>)>,
    /// Manifests that no tag of ours names any more.
    untagged: Promises<Arc<Content>>,
    /// What an index of ours has named.
    children: HashSet<String>,
}

impl Worker {
    pub(crate) fn new(caller: Caller, random: Random, common: Arc<Common>, own: Vec<Arc<Slot>>) -> Self {
        let (blobs, untagged) = (Promises::lasting(PROMISE), Promises::lasting(UNDO));
        Self { caller, random, common, own, blobs, untagged, children: HashSet::new() }
    }

    /// Goes on until it is told to stop.
    pub(crate) async fn work(mut self) {
        while !self.common.tally.is_enough() {
            match self.random.between(0, 20) {
                0..=5 => self.push_image().await,
                6..=9 => self.pull().await,
                10 => self.move_tag().await,
                11 => self.delete_tag().await,
                12 => self.delete_manifest().await,
                13 => self.push_index().await,
                14 => self.push_referrer().await,
                15 => self.give_up_upload().await,
                16 => self.leave_blob_alone().await,
                17 | 18 => self.call_in_blob().await,
                _ => self.call_in_manifest().await,
            }
        }
    }

    fn own_slot(&mut self) -> Arc<Slot> {
        Arc::clone(&self.own[self.random.between(0, self.own.len())])
    }

    /// A tag of ours that names something.
    fn own_tag(&mut self) -> Option<(Arc<Slot>, Held)> {
        let slot = self.own_slot();
        let held = slot.held()?;
        Some((slot, held))
    }

    fn did(&self, deed: &'static str) {
        self.common.tally.did(deed);
    }

    // --- pushing -----------------------------------------------------------------------------------------------------

    async fn push_image(&mut self) {
        let slot = self.own_slot();
        let mut layers = self.common.pool.some(&mut self.random);
        layers.extend((0..self.random.between(1, 3)).map(|_| content::layer(&mut self.random)));
        let content = Arc::new(Content::image(&slot.repository, layers, &mut self.random));
        let begun = self.offer_all(&content).await;
        if self.tag(&slot, &content, Some(begun)).await {
            self.did("images pushed");
        }
    }

    /// Of two images of ours in one repository; it takes the tag of the first.
    async fn push_index(&mut self) {
        let Some((slot, first)) = self.own_tag() else { return };
        let Some((_, second)) = self.own_tag() else { return };
        let is_apart = first.content.digest() != second.content.digest();
        let are_images = first.content.children.is_empty() && second.content.children.is_empty();
        if !is_apart || !are_images || first.content.repository != second.content.repository {
            return;
        }
        let children = vec![first.content, second.content];
        self.children.extend(children.iter().map(|child| child.digest().to_owned()));
        let index = Arc::new(Content::index(&slot.repository, children, &mut self.random));
        self.tag(&slot, &index, None).await;
        self.did("indexes pushed");
    }

    async fn push_referrer(&mut self) {
        let Some((slot, held)) = self.own_tag() else { return };
        if held.referrers.len() > 1 {
            return;
        }
        let referrer = Arc::new(Content::referrer(&held.content, &mut self.random));
        let begun = self.offer_all(&referrer).await;
        if self.put(&referrer, referrer.digest(), Some(begun)).await.is_some() {
            slot.add_referrer(referrer);
            self.did("referrers pushed");
        }
    }

    async fn move_tag(&mut self) {
        let (Some((_, held)), slot) = (self.own_tag(), self.own_slot()) else { return };
        if held.content.repository == slot.repository {
            self.tag(&slot, &held.content, None).await;
            self.did("tags moved");
        }
    }

    /// Lets the tag name this manifest. False where its blobs had been promised for too long.
    async fn tag(&mut self, slot: &Slot, content: &Arc<Content>, begun: Option<Instant>) -> bool {
        let before = slot.begin();
        let Some(asked) = self.put(content, &slot.tag, begun).await else {
            slot.restore(before);
            return false;
        };
        slot.settle(Arc::clone(content));
        if let Some(before) = before {
            self.untagged.keep(before.content, asked, &mut self.random);
        }
        true
    }

    /// Pushes a manifest; its blobs were promised later than `begun`, or are in use. Answers when it was asked for, or none
    /// where the promise had ended when the answer came: whoever is so slow has to begin anew.
    async fn put(&mut self, content: &Content, reference: &str, begun: Option<Instant>) -> Option<Instant> {
        let answer = self.caller.put_manifest(content, reference).await;
        if answer.status == StatusCode::CREATED {
            return Some(answer.asked);
        }
        let what = format!("{} of {}: {} {}", reference, content.repository, answer.status, answer.said());
        assert_eq!(answer.error_code(), "MANIFEST_BLOB_UNKNOWN", "{what}");
        let is_late = begun.is_some_and(|begun| answer.answered >= begun + PROMISE);
        assert!(is_late, "a blob is unknown that was promised: {what}");
        self.did("pushes too slow for the promise");
        None
    }

    /// Makes sure that the repository has every blob; since when they are promised.
    async fn offer_all(&mut self, content: &Content) -> Instant {
        let begun = Instant::now();
        for blob in &content.blobs {
            self.offer(&content.repository, blob).await;
        }
        begun
    }

    /// Leaves out the upload where the repository has the blob, or where another one has it.
    async fn offer(&mut self, repository: &str, blob: &Arc<Blob>) {
        let query = match self.random.between(0, 3) {
            0 => {
                let target = format!("/v2/{repository}/blobs/{}", blob.digest);
                let answer = self.caller.head(&target).await;
                if answer.status == StatusCode::OK {
                    self.did("uploads left out after a HEAD");
                    return self.promised(repository, blob, answer.asked);
                }
                answer.expect(StatusCode::NOT_FOUND, &target);
                String::new()
            }
            1 => {
                let repositories = &self.common.repositories;
                let from = &repositories[self.random.between(0, repositories.len())];
                format!("?mount={}&from={from}", blob.digest)
            }
            _ => String::new(),
        };
        let opened = self.caller.open_upload(repository, &query).await;
        if !query.is_empty() && opened.status == StatusCode::CREATED {
            self.did("blobs mounted");
            return self.promised(repository, blob, opened.asked);
        }
        let opened = opened.expect(StatusCode::ACCEPTED, "opening an upload");
        let answer = self.caller.finish_upload(&opened, blob).await.expect(StatusCode::CREATED, &blob.digest);
        self.promised(repository, blob, answer.asked);
    }

    fn promised(&mut self, repository: &str, blob: &Arc<Blob>, asked: Instant) {
        self.blobs.keep((repository.to_owned(), Arc::clone(blob)), asked, &mut self.random);
    }

    // --- leaving things behind ---------------------------------------------------------------------------------------

    /// A blob that no manifest will name, or one that somebody else needs.
    async fn leave_blob_alone(&mut self) {
        let repository = self.own_slot().repository.clone();
        let blob = if self.random.once_in(2) {
            self.common.pool.one(&mut self.random)
        } else {
            content::layer(&mut self.random)
        };
        self.offer(&repository, &blob).await;
        self.did("blobs left alone");
    }

    async fn give_up_upload(&mut self) {
        let repository = self.own_slot().repository.clone();
        let opened = self.caller.open_upload(&repository, "").await.expect(StatusCode::ACCEPTED, "opening an upload");
        let length = if self.random.once_in(60) { 9 * MIB } else { self.random.between(2, 60 * KIB) };
        let bytes = self.random.bytes(length);
        let sent = self.caller.send_chunk(&location(&opened.headers), bytes).await;
        let sent = sent.expect(StatusCode::ACCEPTED, "a chunk");
        if self.random.once_in(2) {
            let deleted = self.caller.delete(&location(&sent.headers)).await;
            deleted.expect(StatusCode::NO_CONTENT, "an upload that is given up");
        }
        self.did("uploads given up");
    }

    async fn delete_tag(&mut self) {
        let Some((slot, _)) = self.own_tag() else { return };
        let Some(before) = slot.begin() else { return };
        let target = format!("/v2/{}/manifests/{}", slot.repository, slot.tag);
        let answer = self.caller.delete(&target).await.expect(StatusCode::ACCEPTED, &target);
        self.untagged.keep(before.content, answer.asked, &mut self.random);
        self.did("tags deleted");
    }

    /// With all tags that name it, unless an index does.
    async fn delete_manifest(&mut self) {
        let Some((_, held)) = self.own_tag() else { return };
        let digest = held.content.digest().to_owned();
        let named = |slot: &&Arc<Slot>| slot.held().is_some_and(|held| held.content.digest() == digest);
        let slots: Vec<Arc<Slot>> = self.own.iter().filter(named).cloned().collect();
        let before: Vec<_> = slots.iter().map(|slot| slot.begin()).collect();
        let target = format!("/v2/{}/manifests/{digest}", held.content.repository);
        let answer = self.caller.delete(&target).await;
        if answer.status == StatusCode::METHOD_NOT_ALLOWED {
            assert!(
                self.children.contains(&digest),
                "{target} is in no index, and cannot be deleted: {}",
                answer.said()
            );
            slots.iter().zip(before).for_each(|(slot, before)| slot.restore(before));
            return;
        }
        answer.expect(StatusCode::ACCEPTED, &target);
        self.untagged.forget(|content| content.digest() == digest);
        let gone = self.caller.head(&target).await;
        gone.expect(StatusCode::NOT_FOUND, "a manifest that was deleted");
        self.did("manifests deleted");
    }

    // --- reading -----------------------------------------------------------------------------------------------------

    /// Any client's tag, to its last byte.
    async fn pull(&mut self) {
        let slots = &self.common.slots;
        let slot = Arc::clone(&slots[self.random.between(0, slots.len())]);
        let Some(held) = slot.held() else { return };
        if let Err(fault) = self.caller.read_tag(&slot, &held).await {
            assert!(slot.has_changed_since(&held), "{}:{} has lost something: {fault}", slot.repository, slot.tag);
            return self.did("pulls overtaken by a change");
        }
        self.did("images pulled");
    }

    /// Reads the blob whose promise ends next.
    async fn call_in_blob(&mut self) {
        let Some(promise) = self.blobs.oldest() else { return };
        let (repository, blob) = &promise.thing;
        let (answered, read) = self.caller.read_blob(repository, blob).await;
        if let Err(fault) = read {
            assert!(!promise.binds(answered), "a promise was broken: {fault}");
            return self.did("promises called in too late");
        }
        self.did("promised blobs read");
    }

    /// Reads the manifest that will go next, and its blobs.
    async fn call_in_manifest(&mut self) {
        let Some(promise) = self.untagged.oldest() else { return };
        let content = Arc::clone(&promise.thing);
        let (answered, read) = self.caller.read_manifest(&content, content.digest()).await;
        let mut outcome = (answered, read);
        for blob in &content.blobs {
            if outcome.1.is_ok() {
                outcome = self.caller.read_blob(&content.repository, blob).await;
            }
        }
        let (answered, read) = outcome;
        if let Err(fault) = read {
            assert!(!promise.binds(answered), "it cannot be undone any more: {fault}");
            return self.did("promises called in too late");
        }
        self.did("untagged manifests read");
    }
}

//! Requests, each to any of the replicas, and what is read by them: every byte is compared.

use std::sync::Arc;
use std::time::Instant;

use longshore_tests::client::{Client, location, send};
use longshore_tests::image::{Blob, INDEX, MANIFEST, sha256};
use longshore_tests::random::Random;
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::Value;

use crate::content::Content;
use crate::slot::{Held, Slot};
use crate::tally::Tally;

/// Whoever makes requests.
#[derive(Debug)]
pub(crate) struct Caller {
    doors: Vec<Client>,
    random: Random,
    tally: Arc<Tally>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// None where it broke off.
    body: Option<Vec<u8>>,
    /// Before the request was sent.
    pub(crate) asked: Instant,
    pub(crate) answered: Instant,
}

impl Answer {
    /// It must have this status.
    pub(crate) fn expect(self, status: StatusCode, what: &str) -> Self {
        assert_eq!(self.status, status, "{what}: {}", self.said());
        self
    }

    /// The code of the first error.
    pub(crate) fn error_code(&self) -> String {
        let body: Value = serde_json::from_str(&self.said()).unwrap_or_default();
        body["errors"][0]["code"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn said(&self) -> String {
        String::from_utf8_lossy(self.body.as_deref().unwrap_or_default()).into_owned()
    }

    /// Compares what was read with what should be there; says what is wrong. Other bytes than those of their digest are
    /// never right, whatever changes meanwhile.
    fn compare(&self, what: &str, wanted: &Blob) -> Result<(), String> {
        if self.status == StatusCode::NOT_FOUND {
            return Err(format!("{what} is not there: {}", self.said()));
        }
        assert_eq!(self.status, StatusCode::OK, "{what}: {}", self.said());
        let Some(body) = &self.body else { return Err(format!("{what} broke off")) };
        let digest = sha256(body);
        assert_eq!(self.headers["docker-content-digest"], digest, "other bytes than promised are served for {what}");
        if digest == wanted.digest { Ok(()) } else { Err(format!("{what} is {digest}, not {}", wanted.digest)) }
    }
}

impl Caller {
    pub(crate) fn new(doors: Vec<Client>, random: Random, tally: Arc<Tally>) -> Self {
        Self { doors, random, tally }
    }

    /// A request to any replica.
    pub(crate) async fn ask(&mut self, build: impl FnOnce(&Client) -> RequestBuilder) -> Answer {
        let door = self.random.between(0, self.doors.len());
        let request = build(&self.doors[door]);
        let asked = Instant::now();
        let response = send(request).await;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.bytes().await.ok().map(|bytes| bytes.to_vec());
        let answered = Instant::now();
        self.tally.event();
        Answer { status, headers, body, asked, answered }
    }

    pub(crate) async fn head(&mut self, target: &str) -> Answer {
        self.ask(|door| door.request(Method::HEAD, target)).await
    }

    pub(crate) async fn delete(&mut self, target: &str) -> Answer {
        self.ask(|door| door.request(Method::DELETE, target)).await
    }

    /// Opens an upload, with what stands in the query.
    pub(crate) async fn open_upload(&mut self, repository: &str, query: &str) -> Answer {
        let target = format!("/v2/{repository}/blobs/uploads/{query}");
        self.ask(|door| door.request(Method::POST, &target).header(CONTENT_LENGTH, 0)).await
    }

    pub(crate) async fn send_chunk(&mut self, upload: &str, bytes: Vec<u8>) -> Answer {
        let stream = "application/octet-stream";
        self.ask(|door| door.request(Method::PATCH, upload).header(CONTENT_TYPE, stream).body(bytes)).await
    }

    /// Ends the upload that was opened by this answer, with the whole blob.
    pub(crate) async fn finish_upload(&mut self, opened: &Answer, blob: &Blob) -> Answer {
        let upload = location(&opened.headers);
        let joint = if upload.contains('?') { '&' } else { '?' };
        let target = format!("{upload}{joint}digest={}", blob.digest);
        let bytes = blob.bytes.clone();
        self.ask(|door| door.request(Method::PUT, &target).header(CONTENT_TYPE, "application/octet-stream").body(bytes))
            .await
    }

    pub(crate) async fn put_manifest(&mut self, content: &Content, reference: &str) -> Answer {
        let target = format!("/v2/{}/manifests/{reference}", content.repository);
        let Blob { media_type, bytes, .. } = &content.manifest;
        let (media_type, bytes) = (media_type.clone(), bytes.clone());
        self.ask(|door| door.request(Method::PUT, &target).header(CONTENT_TYPE, media_type).body(bytes)).await
    }

    /// When the answer came, and what was wrong with it.
    pub(crate) async fn read_manifest(&mut self, content: &Content, reference: &str) -> (Instant, Result<(), String>) {
        let target = format!("/v2/{}/manifests/{reference}", content.repository);
        // What a tag names meanwhile may be of another type.
        let accepted = format!("{MANIFEST}, {INDEX}");
        let answer = self.ask(|door| door.request(Method::GET, &target).header(ACCEPT, accepted)).await;
        (answer.answered, answer.compare(&target, &content.manifest))
    }

    /// When the answer came, and what was wrong with it.
    pub(crate) async fn read_blob(&mut self, repository: &str, blob: &Blob) -> (Instant, Result<(), String>) {
        let target = format!("/v2/{repository}/blobs/{}", blob.digest);
        let answer = self.ask(|door| door.request(Method::GET, &target)).await;
        (answer.answered, answer.compare(&target, blob))
    }

    /// A manifest by its digest, with its blobs.
    async fn read_whole(&mut self, content: &Content) -> Result<(), String> {
        self.read_manifest(content, content.digest()).await.1?;
        self.read_blobs(content).await
    }

    async fn read_blobs(&mut self, content: &Content) -> Result<(), String> {
        for blob in &content.blobs {
            self.read_blob(&content.repository, blob).await.1?;
        }
        Ok(())
    }

    /// Reads everything that a tag keeps; says what is wrong first.
    pub(crate) async fn read_tag(&mut self, slot: &Slot, held: &Held) -> Result<(), String> {
        self.read_manifest(&held.content, &slot.tag).await.1?;
        self.read_blobs(&held.content).await?;
        for content in held.content.children.iter().chain(&held.referrers) {
            self.read_whole(content).await?;
        }
        if held.referrers.is_empty() { Ok(()) } else { self.read_referrers(held).await }
    }

    async fn read_referrers(&mut self, held: &Held) -> Result<(), String> {
        let target = format!("/v2/{}/referrers/{}", held.content.repository, held.content.digest());
        let list = self.ask(|door| door.request(Method::GET, &target)).await.expect(StatusCode::OK, &target).said();
        for referrer in &held.referrers {
            if !list.contains(referrer.digest()) {
                return Err(format!("{target} does not name {}: {list}", referrer.digest()));
            }
        }
        Ok(())
    }
}

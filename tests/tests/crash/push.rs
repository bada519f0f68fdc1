//! The push of a blob by a client that goes on where it was cut off.

use longshore_tests::client::location;
use longshore_tests::image::Blob;
use longshore_tests::random::Random;
use reqwest::header::CONTENT_LENGTH;
use reqwest::{Method, StatusCode};

use crate::errand::{Answer, Errand};

/// An upload session, as its client sees it.
struct Upload<'a> {
    repository: &'a str,
    blob: &'a Blob,
    location: String,
    /// Bytes that the registry said it has.
    acknowledged: usize,
}

/// Pushes a blob, in one of the ways there are.
pub(crate) async fn blob(errand: &mut Errand<'_>, random: &mut Random, repository: &str, blob: &Blob) {
    if random.once_in(4) {
        return whole(errand, repository, blob).await;
    }
    let length = blob.bytes.len();
    // All in the last request, or in chunks before it.
    let chunk = if random.once_in(3) { length + 1 } else { random.between(length / 4 + 2, length + 3) };
    let all_by_patch = random.once_in(2);
    let mut upload = Upload::open(errand, repository, blob).await;
    loop {
        let end = length.min(upload.acknowledged + chunk);
        let is_last = upload.acknowledged == length || chunk > length || (end == length && !all_by_patch);
        if !is_last {
            upload.append(errand, end).await;
        } else if upload.close(errand).await {
            return;
        }
    }
}

async fn whole(errand: &mut Errand<'_>, repository: &str, blob: &Blob) {
    let path = format!("/v2/{repository}/blobs/uploads/?digest={}", blob.digest);
    let sender = errand.sender();
    let answer = errand.insist(|client| {
        let request = client.request(Method::POST, &path).header(CONTENT_LENGTH, blob.bytes.len());
        request.body(sender.body(&blob.bytes))
    });
    answer.await.expect(StatusCode::CREATED, "a whole blob");
}

impl<'a> Upload<'a> {
    async fn open(errand: &mut Errand<'_>, repository: &'a str, blob: &'a Blob) -> Self {
        let path = format!("/v2/{repository}/blobs/uploads/");
        let opened = errand.insist(|client| client.request(Method::POST, &path).header(CONTENT_LENGTH, 0)).await;
        let location = location(&opened.expect(StatusCode::ACCEPTED, "opening an upload").headers);
        Self { repository, blob, location, acknowledged: 0 }
    }

    /// Sends the bytes up to `end`, or finds out how far the session is.
    async fn append(&mut self, errand: &mut Errand<'_>, end: usize) {
        let (start, sender) = (self.acknowledged, errand.sender());
        let bytes = &self.blob.bytes[start..end];
        let sent = errand.ask(|client| {
            let request = client.request(Method::PATCH, &self.location).header(CONTENT_LENGTH, bytes.len());
            request.header("content-range", format!("{start}-{}", end - 1)).body(sender.body(bytes))
        });
        match sent.await {
            Ok(answer) if self.is_without_bytes(errand, &answer) => {
                *self = Self::open(errand, self.repository, self.blob).await;
            }
            // The request that was cut off was saved after we had asked how far the session is.
            Ok(answer) if answer.status == StatusCode::RANGE_NOT_SATISFIABLE && errand.has_failed() => {
                self.go_on(&answer, end);
            }
            Ok(answer) => {
                let answer = answer.expect(StatusCode::ACCEPTED, "a chunk");
                self.location = location(&answer.headers);
                self.acknowledged = received(&answer);
                assert_eq!(self.acknowledged, end, "the Range that answers a chunk");
            }
            Err(failed) => {
                errand.put_up_with(failed).await;
                self.ask_where_it_is(errand, end).await;
            }
        }
    }

    /// Ends the session with what is left. False where it was cut off and is to be gone on with.
    async fn close(&mut self, errand: &mut Errand<'_>) -> bool {
        let (start, sender) = (self.acknowledged, errand.sender());
        let bytes = &self.blob.bytes[start..];
        let joint = if self.location.contains('?') { '&' } else { '?' };
        let path = format!("{}{joint}digest={}", self.location, self.blob.digest);
        let closed = errand.ask(|client| {
            let request = client.request(Method::PUT, &path).header(CONTENT_LENGTH, bytes.len());
            if bytes.is_empty() {
                return request;
            }
            request.header("content-range", format!("{start}-{}", self.blob.bytes.len() - 1)).body(sender.body(bytes))
        });
        match closed.await {
            // A balancer may have sent it twice, and the session was gone by then.
            Ok(answer) if answer.status == StatusCode::NOT_FOUND => {}
            Ok(answer) if answer.status == StatusCode::RANGE_NOT_SATISFIABLE && errand.has_failed() => {
                self.go_on(&answer, self.blob.bytes.len());
                return false;
            }
            Ok(answer) => {
                answer.expect(StatusCode::CREATED, "the end of an upload");
                return true;
            }
            Err(failed) => errand.put_up_with(failed).await,
        }
        let path = format!("/v2/{}/blobs/{}", self.repository, self.blob.digest);
        let there = errand.insist(|client| client.request(Method::HEAD, &path)).await;
        if there.status == StatusCode::NOT_FOUND {
            self.ask_where_it_is(errand, start).await;
            return false;
        }
        there.expect(StatusCode::OK, "a blob whose upload was ended");
        true
    }

    /// Nothing that was acknowledged may be lost, and nothing beyond `sent` can be there.
    async fn ask_where_it_is(&mut self, errand: &mut Errand<'_>, sent: usize) {
        let status = errand.insist(|client| client.request(Method::GET, &self.location)).await;
        if self.is_without_bytes(errand, &status) {
            *self = Self::open(errand, self.repository, self.blob).await;
        } else {
            self.go_on(&status.expect(StatusCode::NO_CONTENT, "an upload that was cut off"), sent);
        }
    }

    fn go_on(&mut self, answer: &Answer, sent: usize) {
        let possible = self.acknowledged..=sent;
        self.acknowledged = received(answer);
        assert!(possible.contains(&self.acknowledged), "{} is none of {possible:?}", self.acknowledged);
    }

    /// A session is promised from its first byte on: the database may forget an empty one when it crashes.
    fn is_without_bytes(&self, errand: &Errand<'_>, answer: &Answer) -> bool {
        answer.status == StatusCode::NOT_FOUND && self.acknowledged == 0 && errand.may_have_lost_promises()
    }
}

/// How many bytes of a session the answer says are there. `0-0` is none: no test sends a single byte.
fn received(answer: &Answer) -> usize {
    let range = answer.headers["range"].to_str().expect("a range is text");
    let last: usize = range.strip_prefix("0-").and_then(|last| last.parse().ok()).expect("the range of a session");
    if last == 0 { 0 } else { last + 1 }
}

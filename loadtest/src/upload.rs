//! Owns the requests of an upload session, as the cases and the setup combine them.

use anyhow::{Context, Result};

use crate::body::{Body, BodyRange, BodySource, ReadyBytes, SEGMENT_BYTES, Segment, Sha256Digest};
use crate::client::{Answer, Connection, Method, Request};

/// The chunk of a chunked push: what containerd and many others send.
const CHUNK_BYTES: u64 = 8 * SEGMENT_BYTES as u64;

/// How a blob is pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PushMethod {
    /// POST, then PUT with the whole body.
    Monolithic,
    /// POST, one PATCH with the whole body, then an empty PUT.
    OnePatch,
    /// POST, a PATCH with `Content-Range` for every 8 MiB, then an empty PUT.
    Chunked,
}

/// Pushes a body into a repository.
pub(crate) fn push_body(
    connection: &mut Connection<'_>,
    repository: &str,
    method: PushMethod,
    body: Body,
    digest: Sha256Digest,
    segment: &mut Segment,
) -> Result<()> {
    let session = begin(connection, repository)?;
    match method {
        PushMethod::Monolithic => close(connection, &session, digest, &mut BodyRange::whole(segment, body)),
        PushMethod::OnePatch => {
            let session = append(connection, &session, "", &mut BodyRange::whole(segment, body))?;
            close(connection, &session, digest, &mut ReadyBytes(b""))
        }
        PushMethod::Chunked => {
            let session = append_in_chunks(connection, session, body, segment)?;
            close(connection, &session, digest, &mut ReadyBytes(b""))
        }
    }
}

/// Pushes bytes that lie ready, by POST and PUT.
pub(crate) fn push_bytes(connection: &mut Connection<'_>, repository: &str, bytes: &[u8]) -> Result<Sha256Digest> {
    let digest = Sha256Digest::of(bytes);
    let session = begin(connection, repository)?;
    close(connection, &session, digest, &mut ReadyBytes(bytes))?;
    Ok(digest)
}

fn append_in_chunks(
    connection: &mut Connection<'_>,
    mut session: String,
    body: Body,
    segment: &mut Segment,
) -> Result<String> {
    let mut start = 0;
    while start < body.size {
        let end = body.size.min(start + CHUNK_BYTES);
        let range = format!("Content-Range: {start}-{}\r\n", end - 1);
        session = append(connection, &session, &range, &mut BodyRange::part(segment, body, start, end))?;
        start = end;
    }
    Ok(session)
}

/// Answers the location of the new session.
pub(crate) fn begin(connection: &mut Connection<'_>, repository: &str) -> Result<String> {
    let path = format!("/v2/{repository}/blobs/uploads/");
    let request = Request { method: Method::Post, path: &path, headers: "", expected_status: 202 };
    let answer = connection.ask(&request)?;
    session_of(connection, answer)
}

/// Asks for a blob that another repository has. False where the registry would rather have it pushed.
pub(crate) fn mount(
    connection: &mut Connection<'_>,
    repository: &str,
    digest: Sha256Digest,
    from: &str,
) -> Result<bool> {
    let path = format!("/v2/{repository}/blobs/uploads/?mount={digest}&from={from}");
    let request = Request { method: Method::Post, path: &path, headers: "", expected_status: 201 };
    connection.ask_whether(&request, 202)
}

/// Answers the session's next location.
fn append(connection: &mut Connection<'_>, session: &str, range: &str, body: &mut dyn BodySource) -> Result<String> {
    let headers = format!("Content-Type: application/octet-stream\r\n{range}");
    let request = Request { method: Method::Patch, path: session, headers: &headers, expected_status: 202 };
    let answer = connection.send(&request, body)?;
    session_of(connection, answer)
}

fn close(
    connection: &mut Connection<'_>,
    session: &str,
    digest: Sha256Digest,
    body: &mut dyn BodySource,
) -> Result<()> {
    let separator = if session.contains('?') { '&' } else { '?' };
    let path = format!("{session}{separator}digest={digest}");
    let headers = "Content-Type: application/octet-stream\r\n";
    let request = Request { method: Method::Put, path: &path, headers, expected_status: 201 };
    connection.send(&request, body).map(|_| ())
}

fn session_of(connection: &Connection<'_>, answer: Answer) -> Result<String> {
    let location = answer.location.context("the upload was accepted without a Location")?;
    Ok(connection.target().path_of_location(&location)?.to_owned())
}

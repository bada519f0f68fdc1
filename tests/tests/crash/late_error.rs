//! An object store that begins its answer well and fails then: what it was asked is not taken for done.

use longshore_tests::client::{Client, expect, location};
use longshore_tests::image::Blob;
use longshore_tests::middleman::{Fault, Faults, Middleman};
use longshore_tests::minio::Minio;
use longshore_tests::postgres::Postgres;
use longshore_tests::server::{Options, Server};
use reqwest::StatusCode;

use crate::MIB;

const REPOSITORY: &str = "late/app";
/// The words of the request that makes an object of parts, and what S3 may say to it behind a good status.
const END: [&str; 2] = ["POST ", "uploadId="];
const REFUSED: &str = "200 OK\r\ncontent-type: application/xml\r\n\r\n\
                       <Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_whose_end_was_refused_behind_a_good_status_is_not_there_until_it_is_ended() {
    let faults = Faults::default();
    let planned = faults.clone();
    let store = Middleman::in_front_of(Minio::shared().address(), move |request| planned.next(request));
    let options = Options::over(Postgres::shared(), Minio::shared());
    let options = options.set("storage.s3.endpoint", &store.url()).set("storage.cache_size", "0");
    let server = Server::start(options);
    let client = Client::new(server.url());
    // In its last request, and in the one before.
    for in_chunk in [0, 12 * MIB] {
        let blob = Blob::random(20 * MIB);
        let (chunk, last) = blob.bytes.split_at(in_chunk);
        let mut upload = client.start_upload(REPOSITORY).await;
        if !chunk.is_empty() {
            let sent = client.send_chunk(&upload, Some(0), chunk.to_vec()).await;
            upload = location(expect(sent, StatusCode::ACCEPTED, "the chunk").await.headers());
        }
        faults.fail(&END, &[Fault::Refused(REFUSED)]);
        let refused = client.finish_upload(&upload, &blob.digest, last.to_vec()).await;
        assert!(refused.status().is_server_error(), "{}", refused.status());
        faults.assert_failed(&END);
        let target = format!("/v2/{REPOSITORY}/blobs/{}", blob.digest);
        expect(client.head(&target).await, StatusCode::NOT_FOUND, "a blob that is no object").await;
        let again = client.finish_upload(&upload, &blob.digest, last.to_vec()).await;
        expect(again, StatusCode::CREATED, "the end, once more").await;
        assert!(client.blob(REPOSITORY, &blob.digest).await == blob.bytes, "other bytes are served");
    }
}

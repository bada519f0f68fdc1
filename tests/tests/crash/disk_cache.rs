//! A server with a disk between memory and the object store: it outlives kill -9, and serves when the store is gone.

use std::fs;
use std::path::{Path, PathBuf};

use longshore_tests::client::{Client, body};
use longshore_tests::image::Blob;
use longshore_tests::minio::Minio;
use longshore_tests::postgres::Postgres;
use longshore_tests::random::Random;
use longshore_tests::scratch::Scratch;
use longshore_tests::server::{Options, Server};

use crate::MIB;
use crate::SEED;
use crate::eventually::eventually;
use crate::small_disk::SmallDisk;

const REPOSITORY: &str = "disk/cache";

fn options(minio: &Minio, folder: &Path, size: &str) -> Options {
    // Nothing is kept in memory: each pull asks the disk, or the store.
    Options::over(Postgres::shared(), minio)
        .set("storage.cache_size", "0")
        .set("storage.disk_cache.path", &folder.display().to_string())
        .set("storage.disk_cache.size", size)
}

/// A number of `/metrics`.
async fn number(client: &Client, name: &str) -> Option<u64> {
    let page = String::from_utf8(body(client.get("/metrics").await).await).expect("text");
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok())
}

async fn reaches(client: &Client, name: &str, least: u64) {
    let look = || async { number(client, name).await.filter(|value| *value >= least) };
    eventually(name, look).await;
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let parts = fs::read_dir(folder.join("segments")).expect("the cache is there").flatten();
    parts
        .flat_map(|part| fs::read_dir(part.path()).expect("a part is a folder").flatten().map(|file| file.path()))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_pulled_comes_from_the_disk_after_kill_9_and_without_the_store() {
    let (mut minio, scratch) = (Minio::start(), Scratch::new("disk-cache"));
    let folder = scratch.directory("cache");
    let mut server = Server::start(options(&minio, &folder, "1GiB"));
    let client = Client::new(server.url());
    let blob = Blob::random(20 * MIB + Random::announced("a disk cache", SEED).between(1, MIB));
    client.push_blob(REPOSITORY, &blob).await;
    reaches(&client, "longshore_disk_cache_on", 1).await;
    assert!(files(&folder).is_empty(), "what is pushed is not kept");

    // So little memory has a short queue: what was dropped is kept when it is pulled again.
    let is_kept = || async {
        assert!(client.blob(REPOSITORY, &blob.digest).await == blob.bytes);
        number(&client, "longshore_disk_cache_bytes").await.filter(|bytes| *bytes >= blob.bytes.len() as u64)
    };
    eventually("all of it is on the disk", is_kept).await;
    server.kill9();
    server.restart();
    reaches(&client, "longshore_disk_cache_bytes", blob.bytes.len() as u64).await;

    let damaged = files(&folder).remove(0);
    let mut bytes = fs::read(&damaged).expect("a segment can be read");
    bytes[0] ^= 1;
    fs::write(&damaged, bytes).expect("a segment can be written");
    assert!(client.blob(REPOSITORY, &blob.digest).await == blob.bytes, "damaged bytes are served");
    assert_eq!(number(&client, "longshore_disk_cache_corrupt_total").await, Some(1));
    eventually("all of it is on the disk again", is_kept).await;

    minio.kill9();
    for _ in 0..3 {
        assert!(client.blob(REPOSITORY, &blob.digest).await == blob.bytes);
    }
    assert_eq!(client.get("/readyz").await.status(), 503, "the store is really gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_full_keeps_nobody_from_pulling() {
    let disk = SmallDisk::of(80 * MIB);
    let server = Server::start(options(Minio::shared(), &disk.path(), "72MiB"));
    let client = Client::new(server.url());
    reaches(&client, "longshore_disk_cache_on", 1).await;
    let _filler = disk.fill(3 * MIB + MIB / 2);
    let blob = Blob::random(9 * MIB);
    client.push_blob(REPOSITORY, &blob).await;
    let is_noticed = || async {
        assert!(client.blob(REPOSITORY, &blob.digest).await == blob.bytes);
        number(&client, "longshore_disk_cache_errors_total").await.filter(|errors| *errors > 0)
    };
    eventually("the disk is full", is_noticed).await;
    assert_eq!(number(&client, "longshore_disk_cache_on").await, Some(0));
    assert!(client.blob(REPOSITORY, &blob.digest).await == blob.bytes);
    assert!(server.log().contains("the disk cache cannot be written: nothing is added for a while"));
}

#[test]
fn a_second_server_in_the_folder_is_refused() {
    let scratch = Scratch::new("disk-cache");
    let options = options(Minio::shared(), scratch.path(), "1GiB");
    let _first = Server::start(options.clone());
    let told = Server::start_refused(options.set("http.address", "127.0.0.1:0"));
    let why = "of storage.disk_cache, cannot be used: another longshore works in it. Give each one a folder of its own";
    assert!(told.contains(why), "{told}");
}

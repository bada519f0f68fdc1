//! A disk that is full: pushes are refused with words that say so, pulls go on, nothing acknowledged is lost, and as
//! soon as there is room a push works again.

use longshore_tests::backends::Backend;
use longshore_tests::client::{Client, body, expect, json, location, send};
use longshore_tests::image::{Blob, Image};
use longshore_tests::on_both;
use longshore_tests::random::Random;
use longshore_tests::server::{Options, Server};
use reqwest::header::CONTENT_LENGTH;
use reqwest::{Method, Response, StatusCode};

use crate::small_disk::SmallDisk;
use crate::{KIB, MIB, SEED, made_up};

on_both!(
    a_blob_that_does_not_fit_is_refused_and_takes_no_room,
    a_refused_push_works_when_there_is_room_again,
    a_refused_chunk_is_sent_again_when_there_is_room_again,
);

const REPOSITORY: &str = "disk/full";

/// The ways in which a blob may come.
#[derive(Clone, Copy, Debug)]
enum Way {
    Whole,
    PostAndPut,
    Patch,
}

const WAYS: [Way; 3] = [Way::Whole, Way::PostAndPut, Way::Patch];

/// A server whose objects lie on a small disk, and an image on it. The database is elsewhere.
struct Setting {
    // Before the disk: the server ends before its disk goes.
    server: Server,
    client: Client,
    random: Random,
    image: Image,
    disk: SmallDisk,
}

impl Setting {
    async fn new(backend: Backend) -> Self {
        let disk = SmallDisk::of(32 * MIB);
        let options = Options::on(backend).set("storage.path", &disk.path().display().to_string());
        Self::on(disk, options).await
    }

    async fn on(disk: SmallDisk, options: Options) -> Self {
        let server = Server::start(options);
        let client = Client::new(server.url());
        let mut random = Random::announced("a full disk", SEED);
        let image = made_up::image(&mut random);
        client.push_image(REPOSITORY, "1", &image).await;
        Self { server, client, random, image, disk }
    }

    /// The push of a blob, up to the answer that says whether it is taken.
    async fn push(&self, way: Way, blob: &Blob) -> Response {
        let uploads = format!("/v2/{REPOSITORY}/blobs/uploads/");
        if let Way::Whole = way {
            let path = format!("{uploads}?digest={}", blob.digest);
            return send(self.client.request(Method::POST, &path).body(blob.bytes.clone())).await;
        }
        let opened = send(self.client.request(Method::POST, &uploads).header(CONTENT_LENGTH, 0)).await;
        if opened.status() != StatusCode::ACCEPTED {
            return opened;
        }
        let upload = location(opened.headers());
        if let Way::PostAndPut = way {
            return self.client.finish_upload(&upload, &blob.digest, blob.bytes.clone()).await;
        }
        let sent = self.client.send_chunk(&upload, None, blob.bytes.clone()).await;
        if sent.status() != StatusCode::ACCEPTED {
            return sent;
        }
        self.client.finish_upload(&location(sent.headers()), &blob.digest, "").await
    }

    async fn assert_serves_what_was_acknowledged(&self) {
        self.client.assert_serves(REPOSITORY, "1", &self.image).await;
        assert_eq!(self.client.tags(REPOSITORY).await, ["1"]);
    }

    async fn assert_unknown(&self, blob: &Blob) {
        let answer = self.client.get_blob(REPOSITORY, &blob.digest).await;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "a blob whose push was refused");
    }
}

async fn assert_refused_as_full(answer: Response) {
    assert_eq!(answer.status(), StatusCode::INSUFFICIENT_STORAGE, "{:?}", answer.text().await);
    let error = json(answer).await;
    let message = error["errors"][0]["message"].as_str().expect("an error has a message");
    assert!(message.contains("disk is full"), "{message:?} does not say what is wrong");
    assert!(message.contains("what was pushed before is safe"), "{message:?} does not say what is safe");
}

async fn a_blob_that_does_not_fit_is_refused_and_takes_no_room(backend: Backend) {
    let mut setting = Setting::new(backend).await;
    let too_large = made_up::layer(&mut setting.random, 48 * MIB);
    for way in WAYS {
        let free = setting.disk.free();
        assert_refused_as_full(setting.push(way, &too_large).await).await;
        setting.assert_serves_what_was_acknowledged().await;
        setting.assert_unknown(&too_large).await;
        assert_eq!(setting.disk.free(), free, "a push by {way:?} was refused and keeps its room");
    }
}

async fn a_refused_push_works_when_there_is_room_again(backend: Backend) {
    let mut setting = Setting::new(backend).await;
    for way in WAYS {
        let filler = setting.disk.fill(MIB);
        let blob = made_up::layer(&mut setting.random, 3 * MIB);
        assert_refused_as_full(setting.push(way, &blob).await).await;
        setting.assert_serves_what_was_acknowledged().await;
        setting.assert_unknown(&blob).await;
        drop(filler);
        expect(setting.push(way, &blob).await, StatusCode::CREATED, "the same push, with room").await;
        assert!(setting.client.blob(REPOSITORY, &blob.digest).await == blob.bytes, "{way:?}: other bytes are served");
    }
    setting.assert_serves_what_was_acknowledged().await;
}

async fn a_refused_chunk_is_sent_again_when_there_is_room_again(backend: Backend) {
    let mut setting = Setting::new(backend).await;
    let blob = made_up::layer(&mut setting.random, 6 * MIB);
    let (first, second) = blob.bytes.split_at(2 * MIB);
    let filler = setting.disk.fill(3 * MIB);
    let upload = setting.client.start_upload(REPOSITORY).await;
    let sent = setting.client.send_chunk(&upload, Some(0), first.to_vec()).await;
    let sent = expect(sent, StatusCode::ACCEPTED, "the chunk that fits").await;
    let upload = location(sent.headers());
    for _attempt in 0..3 {
        assert_refused_as_full(setting.client.send_chunk(&upload, Some(2 * MIB as u64), second.to_vec()).await).await;
        let status = setting.client.get(&upload).await;
        assert_eq!(status.headers()["range"], format!("0-{}", 2 * MIB - 1), "what was acknowledged before is kept");
    }
    drop(filler);
    let sent = setting.client.send_chunk(&upload, Some(2 * MIB as u64), second.to_vec()).await;
    let sent = expect(sent, StatusCode::ACCEPTED, "the same chunk, with room").await;
    let pushed = setting.client.finish_upload(&location(sent.headers()), &blob.digest, "").await;
    expect(pushed, StatusCode::CREATED, "the end of the upload").await;
    assert!(setting.client.blob(REPOSITORY, &blob.digest).await == blob.bytes, "other bytes are served");
}

/// The embedded database is on the full disk too: at every number of free pages, its writes fail somewhere else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_on_the_full_disk_refuses_and_loses_nothing() {
    let disk = SmallDisk::of(32 * MIB);
    let (path, url) = (disk.path(), format!("sqlite:{}", disk.path().join("longshore.db").display()));
    let options = Options::on(Backend::Sqlite).set("storage.path", &path.display().to_string());
    let mut setting = Setting::on(disk, options.set("database.url", &url)).await;
    let images: Vec<Image> = (0..48).map(|_| small_image(&mut setting.random)).collect();

    let mut refused = Vec::new();
    for (free_pages, image) in images.iter().enumerate() {
        let filler = setting.disk.fill(free_pages * 4 * KIB);
        if !push_if_there_is_room(&setting, image).await {
            refused.push(image);
        }
        setting.assert_serves_what_was_acknowledged().await;
        drop(filler);
    }
    assert!(refused.len() >= 4, "the disk was hardly ever full: only {} pushes were refused", refused.len());

    let filler = setting.disk.fill(0);
    setting.server.kill9();
    setting.server.restart();
    setting.client = Client::new(setting.server.url());
    setting.assert_serves_what_was_acknowledged().await;
    drop(filler);
    for image in &images {
        setting.client.push_image("disk/retried", "1", image).await;
        setting.client.assert_serves("disk/retried", "1", image).await;
    }
}

/// A blob in a row, a blob in an object, and a manifest.
fn small_image(random: &mut Random) -> Image {
    let layers = vec![made_up::layer(random, 3 * KIB), made_up::layer(random, 20 * KIB)];
    made_up::image_of(random, layers)
}

/// Pushes an image, each part of which is either taken, and then served, or refused since the disk is full. Whether
/// all of it was taken.
async fn push_if_there_is_room(setting: &Setting, image: &Image) -> bool {
    for (blob, way) in image.layers.iter().chain([&image.config]).zip([Way::Whole, Way::Patch, Way::PostAndPut]) {
        let answer = setting.push(way, blob).await;
        if answer.status() != StatusCode::CREATED {
            assert_refused_as_full(answer).await;
            return false;
        }
        assert!(setting.client.blob(REPOSITORY, &blob.digest).await == blob.bytes, "{way:?}: other bytes are served");
    }
    let manifest = &image.manifest;
    let answer =
        setting.client.put_manifest(REPOSITORY, &manifest.digest, &manifest.media_type, manifest.bytes.clone()).await;
    if answer.status() != StatusCode::CREATED {
        assert_refused_as_full(answer).await;
        return false;
    }
    let served = setting.client.get_manifest(REPOSITORY, &manifest.digest).await;
    assert_eq!(body(served).await, manifest.bytes);
    true
}

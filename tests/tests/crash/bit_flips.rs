//! Bits that flip in stored objects: scrub finds each of them, nobody is served it, and the next push of the image mends it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use longshore_tests::backends::Backend;
use longshore_tests::client::Client;
use longshore_tests::image::Image;
use longshore_tests::minio::Minio;
use longshore_tests::random::Random;
use longshore_tests::s3;
use longshore_tests::server::{Options, Server};
use reqwest::StatusCode;
use serde_json::Value;

use crate::database::{Database, Object};
use crate::{KIB, SEED, made_up};

const REPOSITORY: &str = "flips/app";
/// Each has two layers that are objects.
const IMAGES: usize = 60;
const FLIPS: usize = 100;
const _: () = assert!(2 * IMAGES > FLIPS);

/// Where the bytes lie.
enum Store {
    /// The folder of `storage.path`.
    Files(PathBuf),
    /// A folder of the bucket.
    S3(String),
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_flipped_bits_are_found_and_mended_by_the_next_push_in_files() {
    let server = Server::start(Options::on(Backend::Sqlite));
    let store = Store::Files(server.storage_directory());
    flip_find_and_mend(server, &store, "bit flips in files").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_flipped_bits_are_found_and_mended_by_the_next_push_on_s3() {
    let settings = Minio::shared().new_store();
    let prefix = settings.iter().find_map(|(key, value)| (key == "storage.s3.prefix").then(|| value.clone()));
    let options = settings.iter().fold(Options::on(Backend::S3), |options, (key, value)| options.set(key, value));
    let store = Store::S3(prefix.expect("a store has its folder"));
    flip_find_and_mend(Server::start(options), &store, "bit flips on S3").await;
}

async fn flip_find_and_mend(mut server: Server, store: &Store, purpose: &str) {
    let mut random = Random::announced(purpose, SEED);
    let images: Vec<Image> = (0..IMAGES).map(|_| image(&mut random)).collect();
    push(&Client::new(server.url()), &images).await;
    server.terminate();
    let mut objects = Database::at(server.database_url()).objects().await;
    let mut flipped = BTreeSet::new();
    for _ in 0..FLIPS {
        let object = objects.swap_remove(random.between(0, objects.len()));
        store.flip(&object, &mut random).await;
        flipped.insert(object.key);
    }
    assert_eq!(damaged(&server, &[]), flipped, "what is found");
    assert_eq!(damaged(&server, &["--list"]), flipped, "what is known");

    server.restart();
    let client = Client::new(server.url());
    assert_eq!(missing(&client, &images).await, FLIPS, "whatever is damaged is served no more, and nothing else");
    push(&client, &images).await;
    for (number, image) in images.iter().enumerate() {
        client.assert_serves(REPOSITORY, &tag(number), image).await;
    }
    server.terminate();
    assert_eq!(damaged(&server, &[]), BTreeSet::new(), "what is found after all was pushed again");
    assert_eq!(damaged(&server, &["--list"]), BTreeSet::new(), "what is known then");
    let said = server.run(&["fsck", "--older-than", "0s"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    server.restart();
}

/// Two layers beyond what is kept in rows, and one within it.
fn image(random: &mut Random) -> Image {
    let lengths = [random.between(17 * KIB, 60 * KIB), random.between(17 * KIB, 60 * KIB), random.between(2, KIB)];
    let layers = lengths.map(|length| made_up::layer(random, length)).to_vec();
    made_up::image_of(random, layers)
}

fn tag(number: usize) -> String {
    format!("image-{number}")
}

async fn push(client: &Client, images: &[Image]) {
    for (number, image) in images.iter().enumerate() {
        client.push_image(REPOSITORY, &tag(number), image).await;
    }
}

/// How many blobs of the images are not there. All others are byte for byte.
async fn missing(client: &Client, images: &[Image]) -> usize {
    let mut missing = 0;
    for blob in images.iter().flat_map(|image| image.layers.iter().chain([&image.config])) {
        if client.get_blob(REPOSITORY, &blob.digest).await.status() == StatusCode::NOT_FOUND {
            missing += 1;
        } else {
            assert!(client.blob(REPOSITORY, &blob.digest).await == blob.bytes, "other bytes are served");
        }
    }
    missing
}

/// The keys of the objects that are damaged, as a scrub finds them, or as `--list` knows them. The server does not run.
fn damaged(server: &Server, list: &[&str]) -> BTreeSet<String> {
    let said = server.run(&[&["scrub", "--output", "json"][..], list].concat());
    let told: Value = serde_json::from_str(&said.output).unwrap_or_else(|error| panic!("{error}: {said:?}"));
    let damaged = told.as_array().or_else(|| told["damaged"].as_array()).unwrap_or_else(|| panic!("no list: {told}"));
    assert_eq!(said.code, Some(if damaged.is_empty() { 0 } else { 3 }), "{said:?}");
    damaged.iter().map(|object| object["key"].as_str().expect("an object has a key").to_owned()).collect()
}

impl Store {
    /// Changes one bit of an object.
    async fn flip(&self, object: &Object, random: &mut Random) {
        match self {
            Self::Files(folder) => {
                let path = file_of(folder, &object.key);
                let bytes = fs::read(&path).expect("the object is there");
                fs::write(&path, with_one_bit_changed(bytes, random)).expect("it can be written");
            }
            Self::S3(prefix) => {
                let key = format!("{prefix}/{}", object.key);
                let bytes = s3::object(Minio::shared(), &key).await;
                s3::overwrite(Minio::shared(), &key, with_one_bit_changed(bytes, random)).await;
            }
        }
    }
}

fn with_one_bit_changed(mut bytes: Vec<u8>, random: &mut Random) -> Vec<u8> {
    let (byte, bit) = (random.between(0, bytes.len()), random.between(0, 8));
    bytes[byte] ^= 1 << bit;
    bytes
}

/// Objects lie in folders that share them out.
fn file_of(storage: &Path, key: &str) -> PathBuf {
    let name = key.strip_prefix("objects/").expect("every key has the prefix");
    let parts = fs::read_dir(storage.join("objects")).expect("the objects' folder can be read");
    let mut files = parts.map(|part| part.expect("a folder").path().join(name));
    files.find(|file| file.is_file()).unwrap_or_else(|| panic!("there is no file of {key}"))
}

//! Backups: what was there is pulled again from a new database, byte for byte, also after it was deleted and collected.

use crate::answers::eventually;
use crate::commands::run;
use crate::content::{SmallImage, image_manifest};
use crate::{INLINE_MAX, KIB};
use longshore_tests::backends::Backend;
use longshore_tests::client::{Client, body};
use longshore_tests::image::{Blob, CONFIG, LAYER_GZIP, random_bytes};
use longshore_tests::scratch::Scratch;
use longshore_tests::server::{Options, Server};
use longshore_tests::{on_all, on_both};
use serde_json::Value;

on_all!(what_was_collected_since_is_pulled_after_a_restore);
on_both!(a_registry_moves_to_the_other_database_by_a_file, a_backup_that_cannot_be_restored_leaves_the_database_empty);

/// A place of a test's own: the settings that its servers and its commands have in common.
struct House {
    home: Scratch,
    backend: Backend,
    settings: Vec<(String, String)>,
}

impl House {
    fn new(backend: Backend) -> Self {
        let home = Scratch::new("backup");
        let data = home.join("data").display().to_string();
        let mut settings = backend.new_store();
        settings.push(("storage.path".to_owned(), data));
        settings.push(("database.url".to_owned(), backend.new_database(home.path())));
        let house = Self { home, backend, settings };
        house.with("gc.interval", "100ms").with("gc.object_delay", "7d").with("gc.undo", "0s")
    }

    /// With another value of a setting.
    fn with(mut self, key: &str, value: &str) -> Self {
        self.settings.retain(|(known, _)| known != key);
        self.settings.push((key.to_owned(), value.to_owned()));
        self
    }

    /// With a new, empty database of this kind.
    fn with_new_database(self, backend: Backend) -> Self {
        let folder = self.home.directory("new");
        let url = backend.new_database(&folder);
        self.with("database.url", &url)
    }

    fn server(&self) -> Server {
        let options =
            self.settings.iter().fold(Options::on(self.backend), |options, (key, value)| options.set(key, value));
        Server::start(options)
    }

    /// Runs a command on the same store and database: exit code, standard output, standard error.
    fn command(&self, words: &[&str]) -> (i32, String, String) {
        let settings: Vec<String> = self.settings.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let mut arguments = words.to_vec();
        for setting in &settings {
            arguments.extend(["--set", setting.as_str()]);
        }
        run(self.home.path(), &arguments)
    }

    /// The same, where it must succeed; answers its standard output.
    fn done(&self, words: &[&str]) -> String {
        let (code, said, complaint) = self.command(words);
        assert_eq!(code, 0, "{words:?}: {said}{complaint}");
        said
    }
}

/// An image whose layer is too large for a row.
struct LargeImage {
    blobs: [Blob; 2],
    manifest: Blob,
}

impl LargeImage {
    async fn pushed_to(client: &Client, repository: &str, tag: &str) -> Self {
        let config = Blob::new(CONFIG, random_bytes(100));
        let layer = Blob::new(LAYER_GZIP, random_bytes(INLINE_MAX + 100 * KIB));
        let manifest = image_manifest(&config, &[&layer]);
        for blob in [&config, &layer] {
            client.push_blob(repository, blob).await;
        }
        client.push_manifest(repository, tag, &manifest).await;
        Self { blobs: [config, layer], manifest }
    }

    async fn assert_served(&self, client: &Client, repository: &str, tag: &str) {
        assert_eq!(client.manifest(repository, tag).await, self.manifest.bytes);
        for blob in &self.blobs {
            assert!(client.blob(repository, &blob.digest).await == blob.bytes, "{} differs", blob.digest);
        }
    }
}

/// How many blobs the server has collected.
async fn collected_blobs(client: &Client) -> u64 {
    let text = String::from_utf8(body(client.get("/metrics").await).await).expect("metrics are text");
    let line = text.lines().find_map(|line| line.strip_prefix("longshore_gc_blobs_deleted_total "));
    line.and_then(|count| count.trim().parse().ok()).unwrap_or_default()
}

async fn what_was_collected_since_is_pulled_after_a_restore(backend: Backend) {
    let house = House::new(backend).with("gc.promise", "1s");
    let mut server = house.server();
    let client = Client::new(server.url());
    let image = LargeImage::pushed_to(&client, "team/app", "latest").await;

    // Beside the server, which goes on.
    let written: Value = serde_json::from_str(&house.done(&["backup", "--output", "json"])).expect("it is JSON");
    let name = written["backup"].as_str().expect("it has a name");
    assert_eq!((written["rows"]["manifests"].as_u64(), written["rows"]["blobs"].as_u64()), (Some(1), Some(2)));
    assert!(house.done(&["backup", "list"]).starts_with(name));
    let deleted = client.delete(&format!("/v2/team/app/manifests/{}", image.manifest.digest)).await;
    assert_eq!(deleted.status(), 202);
    eventually("the blobs are collected", || async { (collected_blobs(&client).await >= 2).then_some(()) }).await;
    assert_eq!(client.get_blob("team/app", &image.blobs[1].digest).await.status(), 404);
    LargeImage::pushed_to(&client, "team/app", "after-the-backup").await;
    server.terminate();

    let house = house.with_new_database(backend).with("gc.promise", "1h");
    let restored = house.done(&["restore", name]);
    assert!(restored.contains("1 repositories, 1 tags, 1 manifests, 2 blobs"), "{restored}");
    let (code, found, complaint) = house.command(&["fsck", "--older-than", "0s"]);
    assert_eq!(code, 3, "{found}{complaint}");
    assert!(found.contains("stray") && !found.contains("lost"), "nothing but what came after the backup: {found}");
    let (code, _, complaint) = house.command(&["restore", name]);
    assert_eq!(code, 1);
    assert!(complaint.contains("the database is not empty"), "{complaint}");

    let server = house.server();
    let client = Client::new(server.url());
    image.assert_served(&client, "team/app", "latest").await;
    assert_eq!(client.tags("team/app").await, ["latest"]);
    SmallImage::pushed_to(&client, "team/app", "new").await;
}

fn other(backend: Backend) -> Backend {
    if backend == Backend::Sqlite { Backend::Postgres } else { Backend::Sqlite }
}

async fn a_registry_moves_to_the_other_database_by_a_file(backend: Backend) {
    let house = House::new(backend);
    let mut server = house.server();
    let client = Client::new(server.url());
    let image = LargeImage::pushed_to(&client, "team/app", "latest").await;
    let file = house.home.join("registry.longshore").display().to_string();
    house.done(&["backup", "--to", &file]);
    assert_eq!(house.done(&["backup", "list"]), "", "it is a file");
    server.terminate();

    let (code, said, told) = house.command(&["backup", "--to", "-"]);
    assert_eq!(code, 0, "{told}");
    assert!(told.starts_with("-: 1 repositories"), "{told}");
    let rows = |text: &str| text.lines().skip(1).filter(|line| line.starts_with('[')).map(str::to_owned).collect();
    let (there, piped): (Vec<String>, Vec<String>) =
        (rows(&std::fs::read_to_string(&file).expect("it was written")), rows(&said));
    assert_eq!(piped, there);

    let house = house.with_new_database(other(backend));
    house.done(&["restore", "--from", &file]);
    assert!(house.done(&["fsck"]).contains("0 findings"));
    let server = house.server();
    let client = Client::new(server.url());
    image.assert_served(&client, "team/app", "latest").await;
    LargeImage::pushed_to(&client, "team/app", "next").await;
}

async fn a_backup_that_cannot_be_restored_leaves_the_database_empty(backend: Backend) {
    let house = House::new(backend);
    let mut server = house.server();
    LargeImage::pushed_to(&Client::new(server.url()), "team/app", "latest").await;
    let file = house.home.join("registry.longshore");
    let path = file.display().to_string();
    house.done(&["backup", "--to", &path]);
    for _ in 0..3 {
        house.done(&["backup", "--keep", "2"]);
    }
    assert_eq!(house.done(&["backup", "list"]).lines().count(), 2);
    if backend == Backend::Sqlite {
        let (code, _, complaint) = house.command(&["restore", "latest"]);
        assert_eq!(code, 1);
        assert!(complaint.contains("end the server that has this database open"), "{complaint}");
    }
    server.terminate();

    let whole = std::fs::read(&file).expect("it was written");
    let house = house.with_new_database(backend);
    let half = &whole[..whole.len() / 2];
    let others = [(half, "torn"), (b"PGDMP\n".as_slice(), "no backup of Longshore"), (b"".as_slice(), "no backup")];
    for (content, reason) in others {
        std::fs::write(&file, content).expect("the directory is this test's own");
        let (code, _, complaint) = house.command(&["restore", "--from", &path]);
        assert_eq!(code, 1);
        assert!(complaint.contains(reason), "{complaint}");
    }
    let (code, _, complaint) = house.command(&["restore", "no-such-backup"]);
    assert_eq!(code, 1);
    assert!(complaint.contains("longshore backup list"), "{complaint}");
    house.done(&["restore", "latest"]);
}

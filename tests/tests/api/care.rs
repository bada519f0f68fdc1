//! Care for what is stored: quotas, where the bytes are, damage.

use crate::answers::{assert_refused, eventually};
use crate::content::{SmallImage, image_manifest};
use crate::{INLINE_MAX, MIB, commands};
use longshore_tests::backends::Backend;
use longshore_tests::client::Client;
use longshore_tests::image::{Blob, CONFIG, LAYER_GZIP, random_bytes};
use longshore_tests::on_both;
use longshore_tests::scratch::Scratch;
use longshore_tests::server::{Options, Server};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

on_both!(
    a_namespace_holds_what_its_quota_lets_and_no_more,
    du_tells_where_the_bytes_are,
    a_damaged_layer_is_not_served_and_mended_by_a_push,
    fsck_tells_of_what_is_lost_and_of_what_is_stray,
    a_pass_by_hand_takes_back_no_promise,
    a_tags_past_is_told_beside_the_server,
    a_tags_past_tells_what_was_deleted_from_what_can_be_pulled,
);

async fn a_namespace_holds_what_its_quota_lets_and_no_more(backend: Backend) {
    let server = Server::start(Options::on(backend).set("limits.quotas", "team=2KiB,nobody=1KiB"));
    let client = Client::new(server.url());
    let image = SmallImage::pushed_to(&client, "team/a", "one").await;
    let large = Blob::new(LAYER_GZIP, random_bytes(1500));
    let upload = client.start_upload("team/b").await;
    let refused = client.finish_upload(&upload, &large.digest, large.bytes.clone()).await;
    let refusal = assert_refused(refused, 403, "DENIED").await;
    assert!(refusal.message.contains("namespace team holds"), "{}", refusal.message);
    assert_eq!((&refusal.detail["quota"], &refusal.detail["wanted"]), (&Value::from(2048), &Value::from(1500)));
    let target = format!("/v2/team/b/blobs/{}", large.digest);
    assert_eq!(client.head(&target).await.status(), StatusCode::NOT_FOUND);

    // Other namespaces have no limit; what they hold cannot be mounted past it.
    client.push_blob("other", &large).await;
    let mount = format!("/v2/team/b/blobs/uploads/?mount={}&from=other", large.digest);
    let refused = longshore_tests::client::send(client.request(reqwest::Method::POST, &mount)).await;
    assert_refused(refused, 403, "DENIED").await;

    // What fits is taken, and counts once more.
    client.push_blob("team/b", &image.config).await;
    let (code, said, complaint) = run(&server, &["du", "--namespaces", "--output", "json"]);
    assert_eq!((code, complaint.as_str()), (0, ""), "{said}");
    let told: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let stored = image.manifest.bytes.len() + 300;
    let expected = [
        json!({ "namespace": "nobody", "logical": 0, "stored": 0, "quota": 1024 }),
        json!({ "namespace": "other", "logical": 1500, "stored": 1500, "quota": null }),
        json!({ "namespace": "team", "logical": stored + 100, "stored": stored, "quota": 2048 }),
    ];
    assert_eq!(told, expected);
}

async fn du_tells_where_the_bytes_are(backend: Backend) {
    let server = Server::start(Options::on(backend));
    let client = Client::new(server.url());
    let image = SmallImage::pushed_to(&client, "app", "one").await;
    let config = Blob::new(CONFIG, random_bytes(50));
    let manifest = image_manifest(&config, &[&image.layer]);
    client.push_blob("app", &config).await;
    client.push_manifest("app", "two", &manifest).await;
    client.push_blob("other", &config).await;
    let lines = |arguments: &[&str]| -> Vec<Value> {
        let (code, said, complaint) = run(&server, &[arguments, &["--output", "json"]].concat());
        assert_eq!((code, complaint.as_str()), (0, ""), "{arguments:?}");
        said.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    };
    let manifests = (image.manifest.bytes.len() + manifest.bytes.len()) as u64;
    let all = lines(&["du"]);
    assert_eq!((&all[0]["repository"], &all[0]["logical"]), (&"app".into(), &(manifests + 350).into()));
    assert_eq!((&all[0]["unique"], &all[0]["shared"]), (&(manifests + 300).into(), &50.into()));
    assert_eq!(all[2]["stored"], 350);

    let tags = lines(&["du", "app"]);
    let two = manifest.bytes.len() as u64;
    assert_eq!((&tags[1]["tag"], &tags[1]["logical"]), (&"two".into(), &(two + 250).into()));
    assert_eq!((&tags[1]["unique"], &tags[1]["freed"]), (&(two + 50).into(), &two.into()));
    assert_eq!(tags[1]["shared"], 200);

    let layers = lines(&["du", "app:two"]);
    let told: Vec<_> = layers.iter().map(|layer| (layer["size"].clone(), layer["tags"].clone())).collect();
    assert_eq!(told, [(200.into(), 2.into()), (50.into(), 1.into())]);
    let (code, _, complaint) = run(&server, &["du", "nobody"]);
    assert_eq!(code, 1);
    assert!(complaint.contains("nobody is not here"), "{complaint}");
}

/// Runs one of the program's other commands: exit code, standard output, standard error.
fn run(server: &Server, arguments: &[&str]) -> (i32, String, String) {
    let said = server.run(arguments);
    (said.code.expect("no signal ended it"), said.output, said.complaint)
}

/// The files of all objects below a directory.
fn objects(storage: &Path) -> Vec<PathBuf> {
    let parts = fs::read_dir(storage.join("objects")).expect("the objects' directory");
    let files = parts.flat_map(|part| fs::read_dir(part.expect("a part").path()).expect("a part's files"));
    files.map(|file| file.expect("a file").path()).collect()
}

async fn a_damaged_layer_is_not_served_and_mended_by_a_push(backend: Backend) {
    // Nobody reads objects again, and what is damaged is told all the same.
    let mut server = Server::start(Options::on(backend).set("gc.scrub_period", "0s"));
    let client = Client::new(server.url());
    let layer = Blob::new(LAYER_GZIP, random_bytes(INLINE_MAX + MIB));
    let config = Blob::new(CONFIG, random_bytes(100));
    client.push_blob("app", &config).await;
    client.push_blob("app", &layer).await;
    let manifest = image_manifest(&config, &[&layer]);
    client.push_manifest("app", "latest", &manifest).await;
    server.terminate();
    let [file] = &objects(&server.storage_directory())[..] else { panic!("one object") };
    let mut bytes = fs::read(file).expect("the object");
    bytes[INLINE_MAX] ^= 4;
    fs::write(file, bytes).expect("the object");

    let (code, said, complaint) = run(&server, &["scrub"]);
    assert_eq!((code, complaint.as_str()), (3, ""), "{said}");
    assert!(said.contains(&format!("of blob {}: its bytes are those of sha256:", layer.digest)), "{said}");
    assert!(said.contains("1 objects and 2 rows of"), "{said}");
    server.restart();
    assert_refused(client.get_blob("app", &layer.digest).await, 404, "BLOB_UNKNOWN").await;
    eventually("it is told", || async { (client.metric("longshore_damaged_blobs").await == 1).then_some(()) }).await;
    let (code, said, _) = run(&server, &["scrub", "--list"]);
    assert_eq!(code, 3);
    assert!(said.starts_with(&layer.digest) && said.contains(" in app: "), "{said}");
    let again = client.put_manifest("app", "again", &manifest.media_type, manifest.bytes.clone()).await;
    assert_refused(again, 404, "MANIFEST_BLOB_UNKNOWN").await;

    client.push_blob("app", &layer).await;
    client.push_manifest("app", "again", &manifest).await;
    assert_eq!(client.blob("app", &layer.digest).await, layer.bytes);
    assert_eq!(run(&server, &["scrub", "--list"]).0, 0);
    server.terminate();
    assert_eq!(run(&server, &["scrub"]).0, 0);
    let (code, said, _) = run(&server, &["fsck", "--older-than", "0s"]);
    assert_eq!(code, 0, "{said}");
}

async fn fsck_tells_of_what_is_lost_and_of_what_is_stray(backend: Backend) {
    let options = Options::on(backend).set("gc.object_delay", "0s").set("gc.interval", "100ms");
    let mut server = Server::start(options);
    let client = Client::new(server.url());
    let layer = Blob::new(LAYER_GZIP, random_bytes(INLINE_MAX + 1));
    client.push_blob("app", &layer).await;
    let [file] = &objects(&server.storage_directory())[..] else { panic!("one object") };
    // Under a key of another time, in the folder of its end.
    let name = file.file_name().expect("a name").to_string_lossy();
    let stray = file.with_file_name(format!("00{}", &name[2..]));
    fs::rename(file, &stray).expect("the object");

    // Looking needs nobody to stop.
    let (code, said, complaint) = run(&server, &["fsck", "--older-than", "0s"]);
    assert_eq!((code, complaint.as_str()), (3, ""), "{said}");
    assert!(said.contains(&format!("of blob {}: it is not there", layer.digest)), "{said}");
    assert!(said.contains("stray      objects/") && said.contains("2 findings; --repair mends"), "{said}");
    let (code, _, complaint) = run(&server, &["fsck", "--repair", "--older-than", "0s"]);
    assert_eq!(code, 1, "a server has it open: {complaint}");
    server.terminate();
    let (code, said, complaint) = run(&server, &["fsck", "--repair", "--older-than", "0s"]);
    assert_eq!((code, complaint.as_str()), (3, ""), "{said}");
    server.restart();
    client.push_blob("app", &layer).await;
    assert_eq!(client.blob("app", &layer.digest).await, layer.bytes);
    // A server that ends in the middle of it would keep it from others for five minutes.
    eventually("what was stray is collected", || async { (!stray.exists()).then_some(()) }).await;
    server.terminate();
    assert_eq!(run(&server, &["gc"]).0, 0);
    let (code, said, _) = run(&server, &["fsck", "--older-than", "0s"]);
    assert_eq!(code, 0, "{said}");
}

/// What is condemned keeps the time that it was given; who says otherwise to a command is told so, and not left to wonder.
async fn a_pass_by_hand_takes_back_no_promise(backend: Backend) {
    let server = Server::start(Options::on(backend).set("gc.object_delay", "2h"));
    let home = Scratch::new("promise");
    let url = format!("database.url={}", server.database_url());
    let storage = format!("storage.path={}", home.join("data").display());
    let preview = |settings: &[&str]| {
        let command = ["gc", "--dry-run", "--set", &url, "--set", &storage];
        commands::run(home.path(), &[&command[..], settings].concat())
    };
    let (code, said, complaint) = preview(&["--set", "gc.object_delay=0s"]);
    assert_eq!((code, said.as_str()), (1, ""), "{complaint}");
    assert!(complaint.contains("gc.object_delay=0s would change nothing here: it is 2h"), "{complaint}");
    let (code, _, complaint) = preview(&["--set", "gc.object_delay=2h"]);
    assert_eq!((code, complaint.as_str()), (0, ""));
    assert_eq!(preview(&[]).0, 0, "what nobody says is not compared");
}

async fn a_tags_past_is_told_beside_the_server(backend: Backend) {
    let server = Server::start(Options::on(backend));
    let client = Client::new(server.url());
    let image = SmallImage::pushed_to(&client, "app", "latest").await;
    for arguments in [["tag", "history", "app:latest"], ["tag", "show", "app:latest"]] {
        let (code, said, complaint) = run(&server, &arguments);
        assert_eq!((code, complaint.as_str()), (0, ""), "{arguments:?}: {said}");
        assert!(said.contains(&image.manifest.digest), "{arguments:?}: {said}");
    }
}

async fn a_tags_past_tells_what_was_deleted_from_what_can_be_pulled(backend: Backend) {
    let server = Server::start(Options::on(backend));
    let client = Client::new(server.url());
    let image = SmallImage::pushed_to(&client, "app", "latest").await;
    let digest = image.manifest.digest.as_str();
    let told = |arguments: &[&str]| -> (i32, Value) {
        let (code, said, complaint) = run(&server, &[arguments, &["--output", "json"]].concat());
        assert_eq!(complaint, "", "{arguments:?}");
        (code, serde_json::from_str(&said).expect("JSON"))
    };
    // Its time is to the microsecond: of just this change.
    let (code, pushed) = told(&["tag", "history", "app:latest"]);
    assert_eq!((code, &pushed["can_be_pulled"], &pushed["can_be_restored"]), (0, &true.into(), &true.into()));
    let show = ["tag", "show", "app:latest", "--at", pushed["at"].as_str().expect("a time")];
    assert_eq!(told(&show), (0, pushed.clone()));

    assert_eq!(client.delete(&format!("/v2/app/manifests/{digest}")).await.status(), StatusCode::ACCEPTED);
    let (code, before) = told(&show);
    assert_eq!((code, &before["digest"]), (3, &digest.into()));
    assert_eq!((&before["can_be_pulled"], &before["can_be_restored"]), (&false.into(), &true.into()));
    let (code, said, complaint) = run(&server, &show);
    assert_eq!((code, complaint.as_str()), (3, ""), "{said}");
    assert!(said.contains(digest) && said.contains("(deleted: `longshore tag restore` brings it back)"), "{said}");
    let (code, now) = told(&["tag", "show", "app:latest"]);
    assert_eq!((code, &now["digest"], &now["can_be_restored"]), (3, &Value::Null, &false.into()));
}

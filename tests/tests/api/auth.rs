//! Logging in by an htpasswd file: nothing without it, everything with it, and the file may change.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use longshore_tests::backends::Backend;
use longshore_tests::client::{Client, send};
use longshore_tests::image::Blob;
use longshore_tests::on_both;
use longshore_tests::scratch::Scratch;
use longshore_tests::server::{Options, Server};
use reqwest::Method;

use crate::INLINE_MAX;
use crate::answers::{assert_refused, eventually, header};
use crate::content::SmallImage;

on_both!(
    nobody_without_a_login_gets_anything,
    only_the_right_password_is_let_in,
    users_come_and_go_with_the_file,
    a_bad_file_changes_nothing,
    a_session_belongs_to_who_opened_it,
    no_password_is_ever_logged,
);

const PASSWORD: &str = "correct horse: battery-ä";

/// A server with a file of users, and the file's directory, which must outlive it.
struct Guarded {
    server: Server,
    users: Scratch,
}

impl Guarded {
    fn start(backend: Backend, log_level: &str) -> Self {
        let users = Scratch::new("htpasswd");
        write_users(&users, &["harriet", "ida"]);
        let path = users.join("htpasswd").display().to_string();
        let options = Options::on(backend).set("auth.htpasswd", &path).set("log.level", log_level);
        Self { server: Server::start(options), users }
    }

    fn anonymous(&self) -> Client {
        Client::new(self.server.url())
    }

    fn client(&self, user: &str) -> Client {
        self.anonymous().with_basic(user, PASSWORD)
    }
}

/// Writes the file. The cost is the lowest that bcrypt has: these tests are about who gets in, not how slowly.
fn write_users(directory: &Scratch, users: &[&str]) {
    let hash = bcrypt::hash(PASSWORD, 4).expect("the password is short");
    let lines: String = users.iter().map(|user| format!("{user}:{hash}\n")).collect();
    fs::write(directory.join("htpasswd"), lines).expect("the directory is this test's own");
}

async fn nobody_without_a_login_gets_anything(backend: Backend) {
    let guarded = Guarded::start(backend, "info");
    let harriet = guarded.client("harriet");
    let image = SmallImage::pushed_to(&harriet, "auth/private", "latest").await;
    let large = Blob::random(INLINE_MAX + 1);
    harriet.push_blob("auth/private", &large).await;
    let upload = harriet.start_upload("auth/private").await;

    let mut routes = vec![("GET", "/v2/".to_owned()), ("HEAD", "/v2/".to_owned()), ("GET", "/v2".to_owned())];
    routes.extend([("GET", "/v2/_catalog".to_owned()), ("HEAD", "/v2/_catalog".to_owned())]);
    for method in ["GET", "HEAD", "PUT", "PATCH", "DELETE"] {
        routes.push((method, upload.clone()));
    }
    // What is there and what is not look the same.
    for repository in ["auth/private", "auth/nowhere"] {
        for method in ["GET", "HEAD"] {
            routes.push((method, format!("/v2/{repository}/tags/list")));
            routes.push((method, format!("/v2/{repository}/referrers/{}", image.manifest.digest)));
        }
        for method in ["GET", "HEAD", "DELETE"] {
            for blob in [&image.layer, &large] {
                routes.push((method, format!("/v2/{repository}/blobs/{}", blob.digest)));
            }
        }
        for method in ["GET", "HEAD", "PUT", "DELETE"] {
            for reference in ["latest", &image.manifest.digest] {
                routes.push((method, format!("/v2/{repository}/manifests/{reference}")));
            }
        }
        for query in ["", "?mount=", "?from=auth/private&mount=", "?digest="] {
            let digest = if query.is_empty() { "" } else { &image.layer.digest };
            routes.push(("POST", format!("/v2/{repository}/blobs/uploads/{query}{digest}")));
        }
    }
    let anonymous = guarded.anonymous();
    for (method, path) in routes {
        for range in [None, Some("bytes=0-0"), Some("bytes=0-0,1-1")] {
            let mut request = anonymous.request(method.parse().expect("a method"), &path);
            if let Some(range) = range {
                request = request.header("range", range);
            }
            let answer = send(request).await;
            assert_eq!(header(&answer, "www-authenticate"), "Basic realm=\"Longshore\", charset=\"UTF-8\"");
            if method == "HEAD" {
                assert_eq!(answer.status(), 401, "{path}");
            } else {
                let refusal = assert_refused(answer, 401, "UNAUTHORIZED").await;
                assert!(!refusal.message.contains("private") && refusal.detail.is_null(), "{refusal:?}");
            }
        }
    }
    assert_eq!(anonymous.get("/healthz").await.status(), 200, "probes have no password");
    assert_eq!(anonymous.get("/readyz").await.status(), 200, "probes have no password");
    assert_eq!(harriet.manifest("auth/private", "latest").await, image.manifest.bytes, "nothing was changed");
    assert_eq!(harriet.tags("auth/private").await, ["latest"]);
    assert_eq!(harriet.get(&upload).await.status(), 204);
}

async fn only_the_right_password_is_let_in(backend: Backend) {
    let guarded = Guarded::start(backend, "info");
    let anonymous = guarded.anonymous();
    let basic = |credentials: &str| format!("Basic {}", STANDARD.encode(credentials));
    let right = basic(&format!("harriet:{PASSWORD}"));
    for authorization in [
        basic("harriet:wrong"),
        basic("harriet:"),
        basic(&format!("nobody:{PASSWORD}")),
        basic(&format!("Harriet:{PASSWORD}")),
        basic(&format!("harriet:{PASSWORD} ")),
        basic(&format!("harriet:{PASSWORD}\0x")),
        basic(&format!("harriet:{}", "x".repeat(5000))),
        basic("harriet"),
        basic(""),
        "Basic".to_owned(),
        "Basic !".to_owned(),
        right.replacen("Basic", "Bearer", 1),
        "Bearer QQ==".to_owned(),
        String::new(),
    ] {
        let answer = send(anonymous.request(Method::GET, "/v2/").header("authorization", &authorization)).await;
        assert!(header(&answer, "www-authenticate").starts_with("Basic "), "{authorization}");
        assert_refused(answer, 401, "UNAUTHORIZED").await;
    }
    for authorization in [right.clone(), right.replacen("Basic", "basic", 1), right.trim_end_matches('=').to_owned()] {
        let answer = send(anonymous.request(Method::GET, "/v2/").header("authorization", &authorization)).await;
        assert_eq!(answer.status(), 200, "{authorization}");
    }
}

async fn users_come_and_go_with_the_file(backend: Backend) {
    let guarded = Guarded::start(backend, "info");
    let (harriet, jane) = (guarded.client("harriet"), guarded.client("jane"));
    assert_eq!(harriet.get("/v2/").await.status(), 200);
    assert_eq!(jane.get("/v2/").await.status(), 401);

    write_users(&guarded.users, &["ida", "jane"]);
    assert_eq!(jane.get("/v2/").await.status(), 401, "nothing changes before the signal");
    guarded.server.signal("HUP");
    eventually("let in", || async { (jane.get("/v2/").await.status() == 200).then_some(()) }).await;
    assert_eq!(harriet.get("/v2/").await.status(), 401, "a remembered login is forgotten");
    assert_eq!(guarded.client("ida").get("/v2/").await.status(), 200);
}

async fn a_bad_file_changes_nothing(backend: Backend) {
    let guarded = Guarded::start(backend, "info");
    fs::write(guarded.users.join("htpasswd"), "harriet:{SHA}nonsense\n").expect("the file is this test's own");
    guarded.server.signal("HUP");
    let log =
        eventually("reloaded", || async { Some(guarded.server.log()).filter(|log| log.contains("not reloaded")) });
    assert!(log.await.contains("auth.htpasswd"), "the log says which part");
    assert_eq!(guarded.client("harriet").get("/v2/").await.status(), 200);
}

async fn a_session_belongs_to_who_opened_it(backend: Backend) {
    let guarded = Guarded::start(backend, "info");
    let (harriet, ida) = (guarded.client("harriet"), guarded.client("ida"));
    let blob = Blob::random(2 * INLINE_MAX);
    let upload = harriet.start_upload("auth/session").await;
    assert_eq!(harriet.send_chunk(&upload, Some(0), blob.bytes[..100].to_vec()).await.status(), 202);
    for answer in [
        ida.get(&upload).await,
        ida.send_chunk(&upload, None, "x").await,
        ida.send_chunk(&upload, Some(100), "x").await,
        ida.finish_upload(&upload, &blob.digest, blob.bytes[100..].to_vec()).await,
        ida.delete(&upload).await,
    ] {
        assert_refused(answer, 404, "BLOB_UPLOAD_UNKNOWN").await;
    }
    let pushed = harriet.finish_upload(&upload, &blob.digest, blob.bytes[100..].to_vec()).await;
    assert_eq!(pushed.status(), 201);
    assert!(ida.blob("auth/session", &blob.digest).await == blob.bytes, "the blob is everybody's");
}

async fn no_password_is_ever_logged(backend: Backend) {
    let guarded = Guarded::start(backend, "trace");
    for client in [guarded.client("harriet"), guarded.client("harriet").over_http2()] {
        SmallImage::pushed_to(&client, "auth/logged", "latest").await;
        let wrong = guarded.anonymous().with_basic("harriet", "canary-wrong-password");
        assert_eq!(wrong.get("/v2/").await.status(), 401);
        // People put their password into the wrong field, or into the URL.
        let swapped = guarded.anonymous().with_basic(PASSWORD, "harriet");
        assert_eq!(swapped.get("/v2/").await.status(), 401);
    }
    let log = guarded.server.log();
    assert!(log.contains("auth/logged"), "there is a log");
    let encoded =
        [format!("harriet:{PASSWORD}"), "harriet:canary-wrong-password".to_owned(), format!("{PASSWORD}:harriet")]
            .map(|credentials| STANDARD.encode(credentials));
    for secret in [PASSWORD, "correct horse", "canary-wrong-password", "$2b$04$"]
        .into_iter()
        .chain(encoded.iter().map(String::as_str))
    {
        let line = log.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "{secret} is in the log: {line:?}");
    }
}

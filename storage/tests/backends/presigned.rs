//! URLs by which others read an object: what they can do, and all that they cannot.

use crate::{
    bytes,
    minio::{minio, s3_settings},
    read,
    startup::on_yours,
    stores::{azure_settings, azurite, gcs_settings},
};
use longshore_config::{Azure, Gcs, Settings, Sources};
use longshore_storage::{Backend, ObjectKey, Storage, azure_backend, gcs_backend, memory_backend, s3_backend};
use longshore_tests::{
    azurite,
    minio::Minio,
    programs::{run, run_refused},
    proxy::Proxy,
    scratch::Scratch,
};
use reqwest::{Client, Method, StatusCode, header::RANGE};
use std::{
    env, fs,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

/// Those that sign and can be asked here.
macro_rules! on_those_that_sign {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn s3() {
                super::$name(super::minio()).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn azure() {
                super::$name(super::azurite()).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            #[ignore = "needs a store, named by LONGSHORE_STORAGE__*"]
            async fn yours() {
                super::$name(crate::yours()).await;
            }
        }
    )+};
}

on_those_that_sign!(
    a_url_gives_an_object_and_ranges_of_it,
    a_url_of_an_object_in_parts_gives_all_of_it,
    a_url_is_for_reading_one_object_only,
    a_url_that_was_changed_is_refused,
    a_url_ends,
);

const MINUTE: Duration = Duration::from_secs(60);

async fn url(backend: &dyn Backend, key: &ObjectKey, lifetime: Duration) -> String {
    backend.presign(key, lifetime).await.unwrap().unwrap().expose().to_owned()
}

/// A client without any login.
fn client() -> Client {
    Client::builder().no_proxy().build().unwrap()
}

async fn status(method: Method, url: &str) -> StatusCode {
    client().request(method, url).body("other bytes").send().await.unwrap().status()
}

async fn a_url_gives_an_object_and_ranges_of_it(backend: Arc<dyn Backend>) {
    let (key, whole) = (ObjectKey::random(), bytes(100_000, 21));
    backend.put(&key, vec![whole.clone()]).await.unwrap();
    let url = url(&*backend, &key, MINUTE).await;
    for _ in 0..2 {
        let answer = client().get(&url).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert!(answer.bytes().await.unwrap() == whole);
    }
    for (range, part) in [("bytes=10-19", 10..20), ("bytes=99990-", 99_990..100_000)] {
        let answer = client().get(&url).header(RANGE, range).send().await.unwrap();
        assert_eq!(answer.status(), 206, "{range}");
        assert!(answer.bytes().await.unwrap() == whole[part], "{range}");
    }
}

async fn a_url_of_an_object_in_parts_gives_all_of_it(backend: Arc<dyn Backend>) {
    let (key, parts) = (ObjectKey::random(), [bytes(5 << 20, 22), bytes(1000, 23)]);
    let upload = backend.begin(&key).await.unwrap();
    let mut named = Vec::new();
    for (number, part) in (0..).zip(&parts) {
        named.push((number, backend.put_part(&key, &upload, number, vec![part.clone()]).await.unwrap()));
    }
    backend.complete(&key, &upload, named).await.unwrap();
    let answer = client().get(url(&*backend, &key, MINUTE).await).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.bytes().await.unwrap() == parts.concat());
}

async fn a_url_is_for_reading_one_object_only(backend: Arc<dyn Backend>) {
    let (key, another, whole) = (ObjectKey::random(), ObjectKey::random(), bytes(1000, 24));
    for key in [&key, &another] {
        backend.put(key, vec![whole.clone()]).await.unwrap();
    }
    let url = url(&*backend, &key, MINUTE).await;
    let of_another = url.replace(&key.to_string(), &another.to_string());
    assert_ne!(of_another, url);
    assert_eq!(status(Method::GET, &of_another).await, 403);
    for method in [Method::PUT, Method::DELETE, Method::POST] {
        assert!(status(method.clone(), &url).await.is_client_error(), "{method}");
    }
    assert!(read(&*backend, &key, 0..1000).await.unwrap() == whole);
    assert_eq!(status(Method::GET, &url).await, 200);
}

async fn a_url_that_was_changed_is_refused(backend: Arc<dyn Backend>) {
    let key = ObjectKey::random();
    backend.put(&key, vec![bytes(1000, 25)]).await.unwrap();
    let url = url(&*backend, &key, MINUTE).await;
    assert_eq!(status(Method::GET, &url).await, 200);
    let (place, query) = url.split_once('?').unwrap();
    let unsigned: Vec<&str> = query
        .split('&')
        .filter(|pair| !["sig=", "X-Amz-Signature="].iter().any(|name| pair.starts_with(name)))
        .collect();
    // A digit of the signature, and a longer life.
    let signature = query.find("ignature=").map(|at| at + 9).or(query.find("sig=").map(|at| at + 4)).unwrap();
    let mut forged = query.to_owned();
    forged.replace_range(signature..signature + 1, if query[signature..].starts_with('a') { "b" } else { "a" });
    let longer = query.replace("X-Amz-Expires=60", "X-Amz-Expires=6000").replace("se=20", "se=21");
    for changed in [unsigned.join("&"), forged, longer] {
        assert_ne!(changed, query);
        let answer = status(Method::GET, &format!("{place}?{changed}")).await;
        assert!(matches!(answer.as_u16(), 400 | 401 | 403), "{answer}: {changed}");
    }
    assert!(matches!(status(Method::GET, place).await.as_u16(), 401 | 403 | 404), "without any signature");
}

async fn a_url_ends(backend: Arc<dyn Backend>) {
    let key = ObjectKey::random();
    backend.put(&key, vec![bytes(1000, 26)]).await.unwrap();
    let url = url(&*backend, &key, Duration::from_secs(1)).await;
    let begun = Instant::now();
    while status(Method::GET, &url).await != 403 {
        assert!(begun.elapsed() < Duration::from_secs(60), "a URL for a second is still good");
        // It ends by the store's own clock: there is nothing else to wait for.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn memory_has_no_urls() {
    assert_eq!(memory_backend().presign(&ObjectKey::random(), MINUTE).await.unwrap(), None);
}

/// The host is a part of what S3 signs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_url_for_another_way_to_s3_is_good_there_and_only_there() {
    let way = Proxy::in_front_of(Minio::shared().address());
    let settings = s3_settings();
    let (ours, theirs) = (settings.endpoint.clone().unwrap(), format!("http://{}", way.address()));
    let (backend, key) = (s3_backend(&settings, Some(&theirs)).unwrap(), ObjectKey::random());
    backend.put(&key, vec![bytes(1000, 27)]).await.unwrap();
    assert!(way.requests().is_empty(), "we go our own way");
    let url = url(&*backend, &key, MINUTE).await;
    assert!(url.starts_with(&format!("{theirs}/")), "{url}");
    assert_eq!(status(Method::GET, &url).await, 200);
    assert_eq!(way.requests().len(), 1);
    assert_eq!(status(Method::GET, &url.replace(&theirs, &ours)).await, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_url_for_another_way_to_azure_is_good_there() {
    let settings = azure_settings();
    let ours = settings.endpoint.clone().unwrap();
    let way = Proxy::in_front_of(ours.strip_prefix("http://").and_then(|rest| rest.split('/').next()).unwrap());
    let theirs = format!("http://{}/{}", way.address(), azurite::ACCOUNT);
    let (backend, key) = (azure_backend(&settings, Some(&theirs)).unwrap(), ObjectKey::random());
    backend.put(&key, vec![bytes(1000, 28)]).await.unwrap();
    let url = url(&*backend, &key, MINUTE).await;
    assert!(url.starts_with(&format!("{theirs}/")), "{url}");
    assert_eq!(status(Method::GET, &url).await, 200);
}

/// There is no server here that would look at Google's signatures: this one is held against the account's key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_url_of_google_is_signed_by_the_service_account_for_googles_server() {
    let settings = Gcs { endpoint: None, prefix: "p".to_owned(), ..gcs_settings().await };
    let (backend, key) = (gcs_backend(&settings).unwrap(), ObjectKey::random());
    let url = url(&*backend, &key, MINUTE).await;
    let (place, query) = url.split_once('?').unwrap();
    assert_eq!(place, format!("https://storage.googleapis.com/open/p/{key}"));
    let value = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find_map(|(found, value)| (found == name).then(|| value.replace("%2F", "/"))).unwrap()
    };
    assert_eq!((value("X-Goog-Expires"), value("response-content-disposition")), ("60".into(), "attachment".into()));

    let scope = value("X-Goog-Credential");
    let (_, scope) = scope.split_once('/').unwrap();
    let mut signed: Vec<&str> = query.split('&').filter(|pair| !pair.starts_with("X-Goog-Signature=")).collect();
    signed.sort_unstable();
    let canonical = format!(
        "GET\n/open/p/{key}\n{}\nhost:storage.googleapis.com\n\nhost\nUNSIGNED-PAYLOAD",
        signed.join("&").replace('@', "%40")
    );
    let home = Scratch::new("google");
    let (told, signature, account) = (home.join("told"), home.join("signature"), home.join("key.pem"));
    fs::write(home.join("canonical"), canonical).unwrap();
    let hashed = run(Command::new("sha256sum").arg(home.join("canonical")));
    let hash = hashed.split(' ').next().unwrap();
    fs::write(&told, format!("GOOG4-RSA-SHA256\n{}\n{scope}\n{hash}", value("X-Goog-Date"))).unwrap();
    let hex = value("X-Goog-Signature");
    let octets: Vec<u8> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    fs::write(&signature, octets).unwrap();
    let json = fs::read_to_string(settings.service_account.unwrap()).unwrap();
    let (_, pem) = json.split_once("\"private_key\":\"").unwrap();
    fs::write(&account, pem.split('"').next().unwrap().replace("\\n", "\n")).unwrap();
    let mut openssl = Command::new("openssl");
    openssl.args(["dgst", "-sha256", "-prverify"]).arg(&account).arg("-signature").arg(&signature).arg(&told);
    assert!(run(&mut openssl).contains("Verified OK"));
}

/// What can be used but not sign is told at the start, where clients are to be sent there.
#[test]
fn a_store_that_cannot_sign_is_refused_where_clients_are_to_be_sent_there() {
    let home = Scratch::new("azure");
    let on_azure = |variables: &[(&str, &str)]| {
        let mut command = on_yours(variables, home.path());
        command.env_remove("LONGSHORE_STORAGE__S3__BUCKET").env_remove("LONGSHORE_STORAGE__S3__ENDPOINT");
        command.env_remove("LONGSHORE_STORAGE__S3__PREFIX");
        let Azure { account, container, endpoint, .. } = azure_settings();
        command.env("LONGSHORE_STORAGE__AZURE__ACCOUNT", account);
        command.env("LONGSHORE_STORAGE__AZURE__CONTAINER", container);
        command.env("LONGSHORE_STORAGE__AZURE__ENDPOINT", endpoint.unwrap());
        command.env("AZURE_STORAGE_SAS_KEY", azurite::MAY_USE_CONTAINER);
        command
    };
    let opens = |command: &Command| {
        let arguments = ["--ignored", "--exact", "presigned::yours_opens"];
        let mut again = Command::new(command.get_program());
        again.args(arguments).env_clear();
        again.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        again
    };
    run(&mut opens(&on_azure(&[])));
    let redirects = [("LONGSHORE_STORAGE__REDIRECTS__NETWORKS", "10.0.0.0/8")];
    let refused = run_refused(&mut opens(&on_azure(&redirects)));
    assert!(refused.contains("SAS") && refused.contains("or remove storage.redirects"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a store, named by LONGSHORE_STORAGE__*"]
async fn yours_opens() {
    let loaded = Settings::load(Sources { environment: env::vars().collect(), ..Sources::default() }).unwrap();
    if let Err(error) = Storage::open(&loaded.settings.storage).await {
        panic!("{error}");
    }
}

//! What a store needs to be used: settings that are right, or else what is wrong with them is told at the start; and
//! credentials, wherever the machine has them.

use crate::{
    minio::s3_settings,
    stores::{azure_settings, failing_s3_settings, gcs_server, gcs_settings},
};
use longshore_config::{Azure, Gcs, S3, Secret, Storage as StorageSettings};
use longshore_storage::Storage;
use longshore_tests::{
    middleman::Fault,
    minio::{ACCESS_KEY, BUCKET, Minio, SECRET_KEY},
    programs::{run, run_refused},
    scratch::Scratch,
};
use std::{env, fs, path::Path, process::Command};

/// What is told of a store that cannot be used: where it is, what it said, and which setting to change.
async fn assert_refused(settings: StorageSettings, place: &str, reason: &str, advice: &str) {
    let error = Storage::open(&settings).await.unwrap_err().to_string();
    for told in [place, reason, advice] {
        assert!(error.contains(told), "{told} is not in: {error}");
    }
    assert!(!error.contains('<') && !error.contains('\n') && error.len() < 500, "{error}");
}

async fn assert_usable(settings: StorageSettings) {
    Storage::open(&settings).await.unwrap().check().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_s3_is_told_at_the_start() {
    let right = s3_settings();
    let place = right.endpoint.clone().unwrap();
    let of = |s3: S3| StorageSettings { s3: Some(s3), ..StorageSettings::default() };
    let bucket = S3 { bucket: "no-such-bucket".to_owned(), ..right.clone() };
    assert_refused(of(bucket), &place, "NoSuchBucket", "storage.s3.bucket").await;
    let id = S3 { access_key_id: Some("nobody".to_owned()), ..right.clone() };
    assert_refused(of(id), &place, "InvalidAccessKeyId", "storage.s3.access_key_id").await;
    let secret = S3 { secret_access_key: Some(Secret::new("another")), ..right.clone() };
    assert_refused(of(secret), &place, "SignatureDoesNotMatch", "storage.s3.secret_access_key").await;
    assert_usable(of(right)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_google_cloud_storage_is_told_at_the_start() {
    let right = gcs_settings().await;
    let place = right.endpoint.clone().unwrap();
    let of = |gcs: Gcs| StorageSettings { gcs: Some(gcs), ..StorageSettings::default() };
    let strange = Gcs { service_account: Some(gcs_server().await.strange_account()), ..right.clone() };
    assert_refused(of(strange), &place, "AuthenticationRequired", "storage.gcs.service_account").await;
    let missing = Gcs { service_account: Some("/nowhere/key.json".into()), ..right.clone() };
    assert_refused(of(missing), &place, "/nowhere/key.json", "storage.gcs.service_account").await;
    assert_usable(of(right)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_azure_is_told_at_the_start() {
    let right = azure_settings();
    let place = right.endpoint.clone().unwrap();
    let of = |azure: Azure| StorageSettings { azure: Some(azure), ..StorageSettings::default() };
    let container = Azure { container: "no-such-container".to_owned(), ..right.clone() };
    assert_refused(of(container), &place, "ContainerNotFound", "storage.azure.container").await;
    let another = Azure { access_key: Some(Secret::new("YW5vdGhlcg==")), ..right.clone() };
    assert_refused(of(another), &place, "AuthorizationFailure", "storage.azure.access_key").await;
    let no_key = Azure { access_key: Some(Secret::new("not base64")), ..right.clone() };
    assert_refused(of(no_key), &place, "Invalid Access Key", "storage.azure.access_key").await;
    assert_usable(of(right)).await;
}

const DENIED: &str = "403 Forbidden\r\ncontent-type: application/xml\r\n\r\n\
    <Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>";

/// Clients would push all of a layer to it before they were told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn that_uploads_in_parts_cannot_be_ended_is_told_at_the_start() {
    let (faults, s3) = failing_s3_settings();
    let (place, settings) =
        (s3.endpoint.clone().unwrap(), StorageSettings { s3: Some(s3), ..StorageSettings::default() });
    let words = ["POST", "uploadId="];
    faults.fail(&words, &[Fault::Refused(DENIED)]);
    assert_refused(settings.clone(), &place, "AccessDenied", "storage.s3.access_key_id").await;
    faults.assert_failed(&words);
    assert_usable(settings).await;
}

/// This program again, for a test on the store that the variables name; no others of S3's are left to it.
pub(crate) fn on_yours(variables: &[(&str, &str)], home: &Path) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "a_whole_object_is_read_as_it_was_written::yours"]);
    for (name, _) in env::vars().filter(|(name, _)| name.starts_with("AWS_") || name.starts_with("LONGSHORE_")) {
        command.env_remove(name);
    }
    let server = Minio::shared();
    command.env("LONGSHORE_STORAGE__S3__BUCKET", BUCKET).env("LONGSHORE_STORAGE__S3__ENDPOINT", server.url());
    command.env("LONGSHORE_STORAGE__S3__PREFIX", server.new_prefix());
    command.env("HOME", home).env("AWS_EC2_METADATA_DISABLED", "true");
    command.envs(variables.iter().copied());
    command
}

#[test]
fn credentials_of_s3_are_found_where_the_machine_has_them() {
    let home = Scratch::new("aws");
    let variables = [("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)];
    run(&mut on_yours(&variables, home.path()));

    let keys = format!("aws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n");
    fs::write(home.directory(".aws").join("credentials"), format!("[dock]\n{keys}")).unwrap();
    run(&mut on_yours(&[("AWS_PROFILE", "dock")], home.path()));

    // As a container of ECS, or a pod of EKS, is told where its role's are.
    let json = format!(
        r#"{{"AccessKeyId":"{ACCESS_KEY}","SecretAccessKey":"{SECRET_KEY}","Token":"","Expiration":"2999-01-01T00:00:00Z"}}"#
    );
    let address = serve("200 OK", json);
    run(&mut on_yours(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &format!("http://{address}/role"))], home.path()));

    let nowhere = run_refused(&mut on_yours(&[], home.path()));
    assert!(nowhere.contains("no credentials: "), "{nowhere}");
}

/// A server on loopback that answers everything with this status and JSON.
pub(crate) fn serve(status: &'static str, json: String) -> std::net::SocketAddr {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let _ = client.read(&mut [0; 4096]);
            let head = format!("content-type: application/json\r\ncontent-length: {}\r\nconnection: close", json.len());
            let _ = write!(client, "HTTP/1.1 {status}\r\n{head}\r\n\r\n{json}");
            // What is left of the request is read, or closing would take the answer back.
            let _ = client.shutdown(std::net::Shutdown::Write);
            let _ = std::io::copy(&mut client, &mut std::io::sink());
        }
    });
    address
}

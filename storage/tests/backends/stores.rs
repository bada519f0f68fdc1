//! The stores under test, as servers that all tests share; each backend has a prefix of its own there.

use crate::minio::s3_settings;
use longshore_config::{Azure, Gcs, S3, Secret, Settings, Sources, Storage as StorageSettings};
use longshore_storage::{Backend, azure_backend, gcs_backend, s3_backend};
use longshore_tests::{
    azurite::{self, Azurite},
    gcs::Gcs as GcsServer,
    middleman::{Faults, Middleman},
    minio::{ACCESS_KEY, Minio, SECRET_KEY},
};
use std::{env, sync::Arc};
use tokio::sync::OnceCell;

/// A bucket that is open to everyone, which is what stands behind the stand-in for Google Cloud Storage.
const OPEN_BUCKET: &str = "open";

pub(crate) async fn gcs_server() -> &'static GcsServer {
    static SHARED: OnceCell<GcsServer> = OnceCell::const_new();
    let start = || async {
        let server = Minio::shared();
        let credentials = aws_credential_types::Credentials::builder();
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(aws_sdk_s3::config::BehaviorVersion::latest())
            .region(aws_sdk_s3::config::Region::from_static("us-east-1"))
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .credentials_provider(
                credentials.access_key_id(ACCESS_KEY).secret_access_key(SECRET_KEY).provider_name("test").build(),
            )
            .endpoint_url(server.url())
            .force_path_style(true);
        let client = aws_sdk_s3::Client::from_conf(config.build());
        client.create_bucket().bucket(OPEN_BUCKET).send().await.unwrap();
        let everyone = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":["*"]},
            "Action":["s3:*"],"Resource":["arn:aws:s3:::open","arn:aws:s3:::open/*"]}]}"#;
        client.put_bucket_policy().bucket(OPEN_BUCKET).policy(everyone).send().await.unwrap();
        GcsServer::in_front_of(server.address())
    };
    SHARED.get_or_init(start).await
}

pub(crate) async fn gcs_settings() -> Gcs {
    let server = gcs_server().await;
    Gcs {
        bucket: OPEN_BUCKET.to_owned(),
        endpoint: Some(server.url()),
        prefix: Minio::shared().new_prefix(),
        service_account: Some(server.service_account()),
    }
}

pub(crate) async fn gcs() -> Arc<dyn Backend> {
    gcs_backend(&gcs_settings().await).unwrap()
}

/// A bucket of S3 of which requests can be made to fail.
pub(crate) fn failing_s3() -> (Faults, Arc<dyn Backend>) {
    let (faults, settings) = failing_s3_settings();
    (faults, s3_backend(&settings, None).unwrap())
}

pub(crate) fn failing_s3_settings() -> (Faults, S3) {
    let faults = Faults::default();
    let planned = faults.clone();
    let middleman = Middleman::in_front_of(Minio::shared().address(), move |head| planned.next(head));
    (faults, S3 { endpoint: Some(middleman.url()), ..s3_settings() })
}

pub(crate) fn azure_settings() -> Azure {
    let server = Azurite::shared();
    Azure {
        account: azurite::ACCOUNT.to_owned(),
        container: azurite::CONTAINER.to_owned(),
        endpoint: Some(server.url()),
        prefix: server.new_prefix(),
        access_key: Some(Secret::new(azurite::ACCESS_KEY)),
    }
}

pub(crate) fn azurite() -> Arc<dyn Backend> {
    azure_backend(&azure_settings(), None).unwrap()
}

/// The store that the environment names.
pub(crate) fn yours() -> Arc<dyn Backend> {
    let loaded = Settings::load(Sources { environment: env::vars().collect(), ..Sources::default() }).unwrap();
    let StorageSettings { s3, gcs, azure, .. } = loaded.settings.storage;
    let backend = s3.map(|s3| s3_backend(&s3, None)).or(gcs.map(|gcs| gcs_backend(&gcs)));
    let backend = backend.or(azure.map(|azure| azure_backend(&azure, None)));
    backend.expect("LONGSHORE_STORAGE__S3__BUCKET and its like name a store").unwrap()
}

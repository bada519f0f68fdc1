//! The `MinIO` that all tests share, with a prefix of its own for each backend.

use longshore_config::{S3, Secret};
use longshore_storage::{Backend, s3_backend};
use longshore_tests::minio::{ACCESS_KEY, BUCKET, Minio, SECRET_KEY};
use std::sync::Arc;

pub(crate) fn s3_settings() -> S3 {
    let server = Minio::shared();
    S3 {
        bucket: BUCKET.to_owned(),
        endpoint: Some(server.url()),
        prefix: server.new_prefix(),
        access_key_id: Some(ACCESS_KEY.to_owned()),
        secret_access_key: Some(Secret::new(SECRET_KEY)),
        ..S3::default()
    }
}

pub(crate) fn minio() -> Arc<dyn Backend> {
    s3_backend(&s3_settings(), None).unwrap()
}

//! Owns how our own server is started: `longshore serve` with its defaults, the access log among them.

use std::path::Path;

use anyhow::Result;

use super::{Bucket, Kind, Places, Started, Subject, postgres};
use crate::launch::{Launch, free_port};

pub(super) fn start_on_sqlite(name: &str, places: &Places, home: &Path) -> Result<Started> {
    start(name, places, home, None, None, &[])
}

pub(super) fn start_on_postgres(name: &str, places: &Places, home: &Path, bucket: Option<&Bucket>) -> Result<Started> {
    start_beside_postgres(name, places, home, bucket, &[])
}

/// With a folder that keeps what comes from the object store, and room for all of it.
pub(super) fn start_with_disk_cache(
    name: &str,
    places: &Places,
    home: &Path,
    bucket: Option<&Bucket>,
) -> Result<Started> {
    let folder = format!("storage.disk_cache.path={}", home.join("disk-cache").display());
    start_beside_postgres(name, places, home, bucket, &[folder, "storage.disk_cache.size=16GiB".to_owned()])
}

fn start_beside_postgres(
    name: &str,
    places: &Places,
    home: &Path,
    bucket: Option<&Bucket>,
    more: &[String],
) -> Result<Started> {
    let Some(programs) = postgres::find_programs() else {
        return Ok(Started::Missing("Postgres is not installed: apt-get install postgresql".to_owned()));
    };
    let (database, url) = postgres::start(&programs, home)?;
    let started = start(name, places, home, Some(&url), bucket, more)?;
    Ok(match started {
        Started::Running(mut subject) => {
            subject.companions.push(database);
            subject.database = Some(postgres::Psql::new(&programs, &url, home));
            Started::Running(subject)
        }
        Started::Missing(how) => Started::Missing(how),
    })
}

fn start(
    name: &str,
    places: &Places,
    home: &Path,
    database: Option<&str>,
    bucket: Option<&Bucket>,
    more: &[String],
) -> Result<Started> {
    let program = &places.longshore;
    if !program.is_file() {
        let how = format!("{} is missing: cargo build --release, or give --longshore", program.display());
        return Ok(Started::Missing(how));
    }
    let (port, data) = (free_port()?, home.join("data"));
    let mut settings = vec![format!("http.address=127.0.0.1:{port}"), format!("storage.path={}", data.display())];
    settings.extend(database.map(|url| format!("database.url={url}")));
    let mut launch = Launch::new(program, &home.join("output")).argument("serve");
    if let Some(bucket) = bucket {
        settings.push(format!("storage.s3.bucket={}", bucket.name));
        settings.push(format!("storage.s3.endpoint={}", bucket.endpoint()));
        settings.push(format!("storage.s3.access_key_id={}", bucket.access_key()));
        launch = launch.variable("LONGSHORE_STORAGE__S3__SECRET_ACCESS_KEY", bucket.secret_key());
    }
    // Last: what was asked for wins.
    for setting in settings.iter().chain(more).chain(&places.settings) {
        launch = launch.argument("--set").argument(setting);
    }
    let content = bucket.map_or(&data, |bucket| &bucket.folder);
    Subject::launched(name, Kind::Registry, launch, port, content).map(|subject| Started::Running(Box::new(subject)))
}

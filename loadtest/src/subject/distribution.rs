//! Owns how distribution is started: Debian's `docker-registry` (2.8) and a version 3 that was built from its module.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{Bucket, Kind, Places, Started, Subject};
use crate::launch::{Launch, find_program, free_port};

pub(super) fn start_packaged(name: &str, home: &Path) -> Result<Started> {
    match find_program("docker-registry", &[PathBuf::from("/usr/bin")]) {
        Some(program) => start_on_files(name, &program, home),
        None => Ok(Started::Missing("docker-registry is not installed: loadtest/install-peers".to_owned())),
    }
}

pub(super) fn start_built(name: &str, places: &Places, home: &Path) -> Result<Started> {
    match find_built(places) {
        Ok(program) => start_on_files(name, &program, home),
        Err(how) => Ok(Started::Missing(how)),
    }
}

/// The version 3 with its objects in a bucket, which it serves itself: redirects are off.
pub(super) fn start_on_s3(name: &str, places: &Places, home: &Path, bucket: Option<&Bucket>) -> Result<Started> {
    let bucket = bucket.context("a bucket is wanted")?;
    match find_built(places) {
        Ok(program) => start(name, &program, home, &s3_driver(bucket), &bucket.folder),
        Err(how) => Ok(Started::Missing(how)),
    }
}

/// The program, or how to get it.
fn find_built(places: &Places) -> Result<PathBuf, String> {
    let program = places.tools.join("registry");
    if program.is_file() {
        return Ok(program);
    }
    Err(format!("{} is missing: loadtest/install-peers, or give --tools", program.display()))
}

fn start_on_files(name: &str, program: &Path, home: &Path) -> Result<Started> {
    let data = home.join("data");
    start(name, program, home, &format!("  filesystem:\n    rootdirectory: {}\n", data.display()), &data)
}

fn start(name: &str, program: &Path, home: &Path, driver: &str, content: &Path) -> Result<Started> {
    let (port, file) = (free_port()?, home.join("config.yml"));
    std::fs::write(&file, configuration(port, driver)).with_context(|| format!("cannot write {}", file.display()))?;
    let launch = |verb: &str| {
        let launch = Launch::new(program, &home.join("output")).argument(verb).argument(&file);
        // Version 3 would look for a collector of traces on this machine.
        launch.variable("OTEL_TRACES_EXPORTER", "none")
    };
    let mut subject = Subject::launched(name, Kind::Registry, launch("serve"), port, content)?;
    subject.collector = Some(launch("garbage-collect"));
    Ok(Started::Running(Box::new(subject)))
}

/// Its S3 driver as it comes: parts of 10 MiB, copies of parts from 32 MiB on.
fn s3_driver(bucket: &Bucket) -> String {
    let (endpoint, name) = (bucket.endpoint(), &bucket.name);
    let (access_key, secret_key) = (bucket.access_key(), bucket.secret_key());
    format!(
        "  s3:
    region: us-east-1
    regionendpoint: {endpoint}
    forcepathstyle: true
    secure: false
    bucket: {name}
    accesskey: {access_key}
    secretkey: {secret_key}
  redirect:
    disable: true
"
    )
}

/// The configuration that both ship, without the access log, and with deletion as Debian has it.
fn configuration(port: u16, driver: &str) -> String {
    format!(
        "version: 0.1
log:
  level: error
  accesslog:
    disabled: true
storage:
  cache:
    blobdescriptor: inmemory
{driver}  delete:
    enabled: true
http:
  addr: 127.0.0.1:{port}
  secret: longshore-loadtest
"
    )
}

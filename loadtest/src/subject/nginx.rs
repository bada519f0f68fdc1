//! Owns nginx: how it is started, and the files that it serves under the very paths of a registry.
//!
//! It shows what the machine allows for reading: `sendfile`, no access log, no work for a request but to open a file.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::process::geteuid;

use super::{Kind, Started, Subject};
use crate::body::{Body, BodyRange, BodySource as _, Segment, Sha256Digest};
use crate::launch::{Launch, find_program, free_port};
use crate::setup;
use crate::{manifest, pull};

pub(super) fn start(name: &str, home: &Path) -> Result<Started> {
    let Some(program) = find_program("nginx", &[PathBuf::from("/usr/sbin")]) else {
        return Ok(Started::Missing("nginx is not installed: loadtest/install-peers".to_owned()));
    };
    let (port, file) = (free_port()?, home.join("nginx.conf"));
    let files = StaticFiles { root: home.join("static") };
    files.put_fixed_content()?;
    fs::write(&file, configuration(port, home, &files.root))
        .with_context(|| format!("cannot write {}", file.display()))?;
    let errors = home.join("errors");
    let launch = Launch::new(&program, &home.join("output"));
    let launch = launch.argument("-p").argument(home).argument("-e").argument(errors).argument("-c").argument(file);
    let content = files.root.clone();
    let subject = Subject::launched(name, Kind::StaticFiles(files), launch, port, &content)?;
    Ok(Started::Running(Box::new(subject)))
}

fn configuration(port: u16, home: &Path, root: &Path) -> String {
    let (home, root) = (home.display(), root.display());
    // Started by root, its workers would be somebody who may not read our folder.
    let user = if geteuid().is_root() { "user root root;\n" } else { "" };
    format!(
        "{user}daemon off;
pid {home}/pid;
worker_processes auto;
worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_timeout 600s;
  keepalive_requests 1000000000;
  open_file_cache max=16384 inactive=600s;
  open_file_cache_valid 600s;
  default_type application/octet-stream;
  client_body_temp_path {home}/body;
  proxy_temp_path {home}/proxy;
  fastcgi_temp_path {home}/fastcgi;
  uwsgi_temp_path {home}/uwsgi;
  scgi_temp_path {home}/scgi;
  server {{
    listen 127.0.0.1:{port};
    root {root};
    location = /v2/ {{ default_type application/json; return 200 '{{}}'; }}
  }}
}}
"
    )
}

/// Files that stand where a registry would answer.
#[derive(Debug)]
pub(crate) struct StaticFiles {
    root: PathBuf,
}

impl StaticFiles {
    /// Puts what the reading cases ask for, so that they find it there and push nothing.
    fn put_fixed_content(&self) -> Result<()> {
        for size in pull::BLOB_SIZES {
            self.put_blob(pull::REPOSITORY, Body::fixed(size), setup::fixed_digest(size))?;
        }
        for size in setup::layer_sizes() {
            self.put_blob(manifest::REPOSITORY, Body::fixed(size), setup::fixed_digest(size))?;
        }
        let config = Sha256Digest::of(setup::CONFIG);
        self.put_bytes(&format!("{}/blobs/{config}", manifest::REPOSITORY), setup::CONFIG)?;
        let manifest = setup::manifest_bytes(manifest::TAG);
        for reference in [manifest::TAG.to_owned(), Sha256Digest::of(&manifest).to_string()] {
            self.put_bytes(&format!("{}/manifests/{reference}", manifest::REPOSITORY), &manifest)?;
        }
        for index in 0..setup::MANY_TAGS {
            let path = format!("{}/manifests/{}", setup::MANY_TAGS_REPOSITORY, setup::tag_name(index));
            self.put_bytes(&path, &setup::many_tags_manifest(index))?;
        }
        Ok(())
    }

    /// Writes a blob and has it on the disk, so that nothing of it is written while a window runs.
    pub(crate) fn put_blob(&self, repository: &str, body: Body, digest: Sha256Digest) -> Result<()> {
        let path = self.path_of(&format!("{repository}/blobs/{digest}"))?;
        let write = || -> std::io::Result<()> {
            let mut file = File::create(&path)?;
            let mut segment = Segment::new();
            let mut range = BodyRange::whole(&mut segment, body);
            loop {
                let piece = range.next_piece();
                if piece.is_empty() {
                    return file.sync_data();
                }
                file.write_all(piece)?;
            }
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }

    fn put_bytes(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let path = self.path_of(path)?;
        fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))
    }

    fn path_of(&self, path: &str) -> Result<PathBuf> {
        let path = self.root.join("v2").join(path);
        let folder = path.parent().unwrap_or(&self.root);
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(path)
    }
}

//! Owns how distribution is started: Debian's `docker-registry` (2.8) and a version 3 that was built from its module.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{Kind, Places, Started, Subject};
use crate::launch::{Launch, find_program, free_port};

pub(super) fn start_packaged(name: &str, home: &Path) -> Result<Started> {
    match find_program("docker-registry", &[PathBuf::from("/usr/bin")]) {
        Some(program) => start(name, &program, home),
        None => Ok(Started::Missing("docker-registry is not installed: loadtest/install-peers".to_owned())),
    }
}

pub(super) fn start_built(name: &str, places: &Places, home: &Path) -> Result<Started> {
    let program = places.tools.join("registry");
    if !program.is_file() {
        let how = format!("{} is missing: loadtest/install-peers, or give --tools", program.display());
        return Ok(Started::Missing(how));
    }
    start(name, &program, home)
}

fn start(name: &str, program: &Path, home: &Path) -> Result<Started> {
    let (port, data, file) = (free_port()?, home.join("data"), home.join("config.yml"));
    std::fs::write(&file, configuration(port, &data)).with_context(|| format!("cannot write {}", file.display()))?;
    let launch = Launch::new(program, &home.join("output"))
        .argument("serve")
        .argument(&file)
        // Version 3 would look for a collector of traces on this machine.
        .variable("OTEL_TRACES_EXPORTER", "none");
    Subject::launched(name, Kind::Registry, launch, port, &data).map(|subject| Started::Running(Box::new(subject)))
}

/// The configuration that both ship, without the access log, and with deletion as Debian has it.
fn configuration(port: u16, data: &Path) -> String {
    format!(
        "version: 0.1
log:
  level: error
  accesslog:
    disabled: true
storage:
  cache:
    blobdescriptor: inmemory
  filesystem:
    rootdirectory: {}
  delete:
    enabled: true
http:
  addr: 127.0.0.1:{port}
  secret: longshore-loadtest
",
        data.display()
    )
}

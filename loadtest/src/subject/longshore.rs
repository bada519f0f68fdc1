//! Owns how our own server is started: `longshore serve` with its defaults, the access log among them.

use std::path::Path;

use anyhow::Result;

use super::{Kind, Places, Started, Subject, postgres};
use crate::launch::{Launch, free_port};

pub(super) fn start_on_sqlite(name: &str, places: &Places, home: &Path) -> Result<Started> {
    start(name, places, home, None)
}

pub(super) fn start_on_postgres(name: &str, places: &Places, home: &Path) -> Result<Started> {
    let Some(programs) = postgres::find_programs() else {
        return Ok(Started::Missing("Postgres is not installed: apt-get install postgresql".to_owned()));
    };
    let (database, url) = postgres::start(&programs, home)?;
    let started = start(name, places, home, Some(&url))?;
    Ok(match started {
        Started::Running(mut subject) => {
            subject.companions.push(database);
            Started::Running(subject)
        }
        Started::Missing(how) => Started::Missing(how),
    })
}

fn start(name: &str, places: &Places, home: &Path, database: Option<&str>) -> Result<Started> {
    let program = &places.longshore;
    if !program.is_file() {
        let how = format!("{} is missing: cargo build --release, or give --longshore", program.display());
        return Ok(Started::Missing(how));
    }
    let (port, data) = (free_port()?, home.join("data"));
    let mut launch = Launch::new(program, &home.join("output"))
        .argument("serve")
        .argument("--set")
        .argument(format!("http.address=127.0.0.1:{port}"))
        .argument("--set")
        .argument(format!("storage.path={}", data.display()));
    if let Some(url) = database {
        launch = launch.argument("--set").argument(format!("database.url={url}"));
    }
    Subject::launched(name, Kind::Registry, launch, port, &data).map(|subject| Started::Running(Box::new(subject)))
}

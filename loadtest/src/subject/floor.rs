//! Owns how the floor is started: this very program as `floor-server`, in a process of its own.

use std::path::Path;

use anyhow::{Context, Result};

use super::{Kind, Started, Subject};
use crate::floor_server::FloorMode;
use crate::launch::{Launch, free_port};

pub(super) fn start(name: &str, mode: FloorMode, home: &Path) -> Result<Started> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let (port, data) = (free_port()?, home.join("data"));
    std::fs::create_dir_all(&data).with_context(|| format!("cannot make {}", data.display()))?;
    let launch = Launch::new(&program, &home.join("output"))
        .argument("floor-server")
        .argument("--port")
        .argument(port.to_string())
        .argument("--folder")
        .argument(&data)
        .argument("--mode")
        .argument(mode.name());
    Subject::launched(name, Kind::Floor(mode), launch, port, &data).map(|subject| Started::Running(Box::new(subject)))
}

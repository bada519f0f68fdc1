//! Owns `longshore-loadtest floor`: a comparison of the three ways of the floor with one another.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::cell::StorageKind;
use super::{CompareArguments, OutputArguments, PlaceArguments, WindowArguments, compare};

/// What `floor` is told.
#[derive(Args)]
pub(crate) struct FloorArguments {
    #[command(flatten)]
    windows: WindowArguments,
    /// Numbers of connections
    #[arg(long, value_delimiter = ',', default_value = "1,8", value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=64))]
    connections: Vec<u16>,
    #[command(flatten)]
    places: PlaceArguments,
    #[command(flatten)]
    output: OutputArguments,
}

/// Runs it and prints the table.
pub(crate) fn floor(arguments: FloorArguments) -> Result<ExitCode> {
    let FloorArguments { windows, connections, places, output } = arguments;
    compare(&CompareArguments {
        subjects: ["floor-receive", "floor-hash", "floor"].map(str::to_owned).to_vec(),
        storage: StorageKind::Files,
        registry: Vec::new(),
        windows,
        cases: vec!["push-64MiB-put".to_owned()],
        connections,
        full: false,
        cold_blobs: 1,
        base: Some("floor".to_owned()),
        places,
        output,
    })
}

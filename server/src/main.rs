//! The `longshore` binary: an image registry in one process.

#![forbid(unsafe_code)]

mod access;
mod answer;
mod app;
mod cli;
mod client;
mod commands;
mod error;
mod health;
mod http;
mod oci;
mod telemetry;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    match commands::run(arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("longshore: {error:#}");
            ExitCode::FAILURE
        }
    }
}

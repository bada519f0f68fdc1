//! The README's tour, command for command: what it shows is what happens.

use std::fs;
use std::path::Path;

use longshore_tests::backends::Backend;
use longshore_tests::server::{Options, Server};

use crate::engine::Engine;

/// A command of the tour, and what the README shows of its output.
struct Step {
    command: String,
    shown: String,
}

#[test]
fn the_readme_shows_what_happens() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate lies in the workspace");
    let readme = fs::read_to_string(root.join("README.md")).expect("there is a README");
    let (server, engine) = (Server::start(Options::on(Backend::Sqlite)), Engine::start());
    let steps = steps(&readme);
    assert!(steps.len() >= 8, "the tour has {} steps: is it still written in console blocks?", steps.len());
    for step in steps.iter().filter(|step| !step.command.starts_with("cargo run")) {
        let command = step.command.replace("localhost:5000", server.address());
        let command = command.replace("target/release/longshore", &Server::binary().display().to_string());
        let output = engine.shell(root, &command);
        let shown = step.shown.replace("localhost:5000", server.address());
        assert_eq!(masked(&output), masked(&shown), "$ {command}");
    }
}

/// The steps in the README's console blocks.
fn steps(readme: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let blocks = readme.split("```console\n").skip(1).filter_map(|rest| rest.split("```").next());
    for line in blocks.flat_map(str::lines) {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(command), _) => steps.push(Step { command: command.to_owned(), shown: String::new() }),
            (None, Some(step)) => step.shown += &format!("{line}\n"),
            (None, None) => panic!("a console block begins with output: {line}"),
        }
    }
    steps
}

/// Text without what is another thing each time: digests, ids and dates.
fn masked(text: &str) -> String {
    let mut masked = String::new();
    for line in text.lines().map(str::trim_end) {
        let line = if line.starts_with("date: ") { "date: ..." } else { line };
        for word in line.split_inclusive(|character: char| !character.is_ascii_hexdigit()) {
            let hex = word.trim_end_matches(|character: char| !character.is_ascii_hexdigit());
            masked += if hex.len() >= 12 { "..." } else { hex };
            masked += &word[hex.len()..];
        }
        masked += "\n";
    }
    masked.trim_end().to_owned()
}

//! The house keeps its shape: arrows between crates point downward only, and what belongs into one room stands in that
//! room only (docs/architecture.md).

use serde_json::Value;
use std::collections::BTreeSet;
use std::process::Command;

/// The floors, top first. A crate may use those of lower floors, never one of its own.
const FLOORS: [&[&str]; 6] = [
    &["longshore-server", "longshore-loadtest", "longshore-tests"],
    &["longshore-registry"],
    &["longshore-auth", "longshore-gc"],
    &["longshore-metadata", "longshore-storage"],
    &["longshore-config"],
    &["longshore-oci"],
];

/// Libraries that stand in one crate only.
const ROOMS: [(&str, &str); 7] = [
    ("axum", "longshore-server"),
    ("hyper", "longshore-server"),
    ("tokio-rustls", "longshore-server"),
    ("prometheus-client", "longshore-server"),
    ("sqlx", "longshore-metadata"),
    ("bcrypt", "longshore-auth"),
    ("serde-saphyr", "longshore-config"),
];

/// A crate and what it is built with; what only its tests need does not count.
struct Package {
    name: String,
    dependencies: BTreeSet<String>,
}

fn packages() -> Vec<Package> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .output()
        .expect("cargo runs, for it runs this test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let packages = metadata["packages"].as_array().expect("cargo metadata lists packages");
    packages.iter().map(package).collect()
}

fn package(package: &Value) -> Package {
    let dependencies = package["dependencies"].as_array().expect("every package lists its dependencies");
    let built_with = dependencies.iter().filter(|dependency| dependency["kind"] != "dev");
    Package {
        name: package["name"].as_str().unwrap_or_default().to_owned(),
        dependencies: built_with.filter_map(|dependency| dependency["name"].as_str()).map(str::to_owned).collect(),
    }
}

fn floor(name: &str) -> Option<usize> {
    FLOORS.iter().position(|crates| crates.contains(&name))
}

#[test]
fn every_crate_has_its_floor() {
    for package in packages() {
        assert!(floor(&package.name).is_some(), "{} is on no floor: say in this test where it belongs", package.name);
    }
}

#[test]
fn arrows_point_downward() {
    for package in packages() {
        let own = floor(&package.name);
        for used in package.dependencies.iter().filter(|name| name.starts_with("longshore-")) {
            assert!(floor(used) > own, "{} uses {used}, which is not below it", package.name);
        }
    }
}

#[test]
fn what_belongs_into_one_room_stands_there_only() {
    let packages = packages();
    for (library, room) in ROOMS {
        let users: Vec<&str> = packages
            .iter()
            .filter(|package| package.dependencies.contains(library))
            .map(|user| user.name.as_str())
            .collect();
        assert_eq!(users, [room], "{library} belongs into {room} only");
    }
}

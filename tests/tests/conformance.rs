//! The official conformance program of the OCI distribution specification, everything switched on, nothing skipped.

use longshore_tests::backends::Backend;
use longshore_tests::balancer::Balancer;
use longshore_tests::on_both_blocking;
use longshore_tests::programs::program;
use longshore_tests::scratch::Scratch;
use longshore_tests::server::{Options, Server};

on_both_blocking!(nothing_fails_and_nothing_is_skipped);

/// Each request goes to the other one than the request before.
#[test]
fn nothing_fails_on_replicas() {
    let first = start(Options::on(Backend::S3));
    let second = first.replica();
    let replicas = [first.address(), second.address()];
    let balancer = Balancer::in_front_of(replicas);
    run("two replicas", balancer.address());
    let shares = replicas.map(|replica| balancer.passed_to(replica));
    assert!(shares.iter().all(|share| *share >= LEAST_PASSES / 2), "the replicas have answered {shares:?} requests");
}

/// Fewer passes than this mean that the program did not run everything. Its total varies a little with the answers.
const LEAST_PASSES: usize = 900;

fn nothing_fails_and_nothing_is_skipped(backend: Backend) {
    run(&format!("{backend:?}"), start(Options::on(backend)).address());
}

fn start(options: Options) -> Server {
    Server::start(options.set("manifests.sparse_indexes", "allow"))
}

/// Runs the program against the registry at `address`; it must find nothing amiss.
fn run(on: &str, address: &str) {
    let results = Scratch::new("conformance");
    let output = program("conformance")
        .current_dir(results.path())
        .env("OCI_REGISTRY", address)
        .env("OCI_TLS", "disabled")
        .env("OCI_REPO1", "conformance/repo1")
        .env("OCI_REPO2", "conformance/repo2")
        .env("OCI_VERSION", "dev")
        .env("OCI_DATA_SPARSE", "true")
        .env("OCI_RESULTS_DIR", results.path())
        .output()
        .expect("the conformance program starts");
    let said = String::from_utf8_lossy(&output.stdout);
    // Errors of configuration and set-up end the program with success: only its results and their count prove a run.
    assert!(results.join("results.yaml").is_file(), "no results: {said}{}", String::from_utf8_lossy(&output.stderr));

    let counts = ["Pass", "FAIL", "Error", "Skip"].map(|outcome| (outcome, count_of(&said, outcome)));
    println!("conformance on {on}: {counts:?}");
    let [(_, passed), amiss @ ..] = counts;
    let culprits: Vec<&str> = amiss.iter().flat_map(|(outcome, _)| lines_of(&said, outcome)).collect();
    assert!(amiss.iter().all(|(_, count)| *count == 0), "{counts:?}:\n{}", culprits.join("\n"));
    assert!(passed >= LEAST_PASSES, "only {passed} conformance tests ran:\n{said}");
    assert!(output.status.success(), "the conformance program ended with {}:\n{said}", output.status);
}

/// A number of the program's closing table, which has lines like `  Pass..........................:        980`.
fn count_of(report: &str, outcome: &str) -> usize {
    let number =
        |line: &str| line.trim().strip_prefix(outcome)?.trim_start_matches('.').strip_prefix(':')?.trim().parse().ok();
    report.lines().rev().find_map(number).unwrap_or_else(|| panic!("no number of {outcome} in {report}"))
}

/// The lines `PATH: OUTCOME` of the program's report on single tests.
fn lines_of<'a>(report: &'a str, outcome: &'a str) -> impl Iterator<Item = &'a str> {
    report.lines().filter(move |line| line.strip_suffix(outcome).is_some_and(|path| path.ends_with(": ")))
}

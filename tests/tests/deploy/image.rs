//! The Dockerfiles: what they promise, and that others say the same.

use crate::files::{read, service};

/// The instructions of a Dockerfile: lines joined, comments left out.
fn instructions(name: &str) -> Vec<String> {
    let text = read(name);
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let joined = lines.collect::<Vec<_>>().join("\n").replace("\\\n", " ");
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    joined.lines().map(words).filter(|line| !line.is_empty()).collect()
}

/// The instructions of the last stage, its FROM first.
fn last_stage(instructions: &[String]) -> &[String] {
    let from = instructions.iter().rposition(|line| line.starts_with("FROM ")).expect("a Dockerfile has a FROM");
    &instructions[from..]
}

/// What follows the only `keyword` among the instructions.
fn only<'a>(instructions: &'a [String], keyword: &str) -> &'a str {
    let mut found = instructions.iter().filter_map(|line| line.strip_prefix(keyword)?.strip_prefix(' '));
    let (Some(first), None) = (found.next(), found.next()) else { panic!("not one {keyword} in {instructions:#?}") };
    first
}

fn assert_runs_as_a_plain_user(stage: &[String]) {
    let user = only(stage, "USER").split(':').next().and_then(|user| user.parse::<u32>().ok());
    assert!(user.is_some_and(|user| user > 0), "a number that is not root's: {user:?}");
}

#[test]
fn the_image_holds_a_binary_a_volume_and_no_decision_on_logins() {
    let all = instructions("Dockerfile");
    let last = last_stage(&all);
    assert_eq!(only(last, "FROM"), "scratch");
    assert_runs_as_a_plain_user(last);
    assert_eq!(only(last, "ENTRYPOINT"), r#"["longshore"]"#);
    assert!(!last.iter().any(|line| line.starts_with("RUN ")), "nothing could run it");
    let check = only(last, "HEALTHCHECK").split_once(" CMD ").map(|(_, command)| command);
    assert_eq!(check, Some(r#"["longshore", "health"]"#));
    assert!(last.iter().any(|line| line.ends_with("/image/etc /etc")), "certificates, for S3 and Postgres by TLS");
    let environment = only(last, "ENV");
    assert!(environment.contains("LONGSHORE_HTTP__ADDRESS=0.0.0.0:5000"), "{environment}");
    assert!(!environment.contains("LONGSHORE_AUTH__"), "whoever starts it decides: {environment}");
    assert!(environment.contains(&format!("LONGSHORE_STORAGE__PATH={}", only(last, "VOLUME"))), "{environment}");
    assert_eq!(only(last, "EXPOSE"), "5000");
    let owner = only(last, "USER");
    assert!(
        last.iter().any(|line| line.starts_with(&format!("COPY --from=build --chown={owner} "))),
        "the volume is its"
    );
    assert!(last.contains(&format!("ARG VERSION={}", env!("CARGO_PKG_VERSION"))), "the version of Cargo.toml");
}

#[test]
fn the_readme_builds_the_binary_as_the_image_does() {
    let build = instructions("Dockerfile").into_iter().find(|line| line.contains("cargo build")).expect("it is built");
    let command = build.split("&&").next().and_then(|first| Some(&first[first.find("RUSTFLAGS=")?..]));
    let command = command
        .expect("flags, then cargo build")
        .trim()
        .replace(r#""$(uname -m)-"#, "x86_64-")
        .replace(r#"-gnu""#, "-gnu");
    let shown = read("README.md").lines().any(|line| line == command);
    assert!(shown, "README.md does not show: {command}");
}

#[test]
fn the_store_is_the_one_that_tests_use() {
    let all = instructions("deploy/minio/Dockerfile");
    assert_runs_as_a_plain_user(last_stage(&all));
    let tested = read("test");
    let version = tested.lines().find_map(|line| line.strip_prefix(r#"readonly MINIO="minio github.com/minio/minio "#));
    let version = version.expect("./test pins MinIO").trim_end_matches('"');
    assert!(all.iter().any(|line| line.ends_with(&format!("github.com/minio/minio@{version}"))), "{version}");
    let bucket = &service("longshore-1")["environment"]["LONGSHORE_STORAGE__S3__BUCKET"];
    let bucket = bucket.as_str().expect("the replicas have a bucket");
    assert!(all.iter().any(|line| line.ends_with(&format!("/drive/{bucket}"))), "the volume brings the bucket");
}

//! The compose file: what it promises about safety, and that the server takes every setting in it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use longshore_tests::programs::{path_of, run};
use longshore_tests::scratch::Scratch;
use longshore_tests::server::Server;
use serde_json::Value;

use crate::files::{compose, environment, path, read, service, texts, yaml};
use crate::stack::{PASSWORD, USER, make_secrets, replica_environment};

/// Every service with its name.
fn services() -> Vec<(String, Value)> {
    let compose = compose();
    let services = compose["services"].as_object().expect("there are services");
    assert!(services.len() >= 7, "two replicas, a balancer, a database, a store, Prometheus and Grafana");
    services.iter().map(|(name, service)| (name.clone(), service.clone())).collect()
}

/// By the library that Docker Compose reads it with: a key that it does not know fails.
#[test]
fn docker_compose_reads_the_file() {
    let understood = run(Command::new(path_of("cmd")).args(["-format", "json"]).arg(path("docker-compose.yml")));
    let understood: Value = serde_json::from_str(&understood).expect("it prints JSON");
    for (name, service) in services() {
        assert_eq!(understood["services"][&name]["image"], service["image"], "merge keys are read alike");
        assert_eq!(understood["services"][&name]["read_only"], service["read_only"], "merge keys are read alike");
    }
}

#[test]
fn nothing_is_published_beyond_this_machine() {
    for (name, service) in services() {
        for port in texts(&service["ports"]) {
            assert!(port.starts_with("127.0.0.1:"), "{name} publishes {port}");
        }
        assert!(service["network_mode"].is_null(), "{name} has a network of its own");
    }
}

#[test]
fn services_run_as_plain_users_on_read_only_files() {
    for (name, service) in services() {
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(texts(&service["cap_drop"]), ["ALL"], "{name}");
        assert_eq!(texts(&service["security_opt"]), ["no-new-privileges:true"], "{name}");
        assert!(service["privileged"].is_null() && service["cap_add"].is_null(), "{name}");
        // Images that we build say themselves who they run as: a test of theirs holds them to it.
        let is_ours = service["image"].as_str().is_some_and(|image| image.starts_with("longshore"));
        let user = service["user"].as_str().map(|user| user.split(':').next().unwrap_or_default().to_owned());
        let is_plain = user.as_deref().is_some_and(|user| user.parse::<u32>().is_ok_and(|user| user > 0));
        assert!(is_ours != is_plain, "{name} runs as {user:?}");
    }
}

#[test]
fn services_come_back_and_say_when_they_are_ready() {
    for (name, service) in services() {
        assert_eq!(service["restart"], "unless-stopped", "{name}");
        assert_eq!(service["healthcheck"]["test"][0], "CMD", "{name}");
    }
    let patience = service("longshore-1")["stop_grace_period"]
        .as_str()
        .and_then(|text| text.strip_suffix('s')?.parse::<u32>().ok());
    assert!(patience.is_some_and(|seconds| seconds > 30), "longer than http.drain_timeout: {patience:?}");
}

#[test]
fn images_have_versions() {
    for (name, service) in services() {
        let image = service["image"].as_str().unwrap_or_else(|| panic!("{name} has no image"));
        let tag = image.rsplit_once(':').map_or("", |(_, tag)| tag);
        assert!(
            tag.split(['.', '-']).next().is_some_and(|major| major.trim_start_matches('v').parse::<u32>().is_ok()),
            "{name}: {image}"
        );
    }
    assert_eq!(service("longshore-1")["image"], format!("longshore:{}", env!("CARGO_PKG_VERSION")));
    assert_eq!(service("longshore-2")["image"], service("longshore-1")["image"]);
}

#[test]
fn secrets_are_files_that_git_and_builds_never_see() {
    for (name, service) in services() {
        for (variable, value) in environment(&service) {
            let is_secret = ["PASSWORD", "SECRET", "DATABASE__URL"].iter().any(|word| variable.contains(word));
            assert!(!is_secret || value.starts_with("/run/secrets/"), "{name}: {variable}={value}");
            if let Some(secret) = value.strip_prefix("/run/secrets/") {
                assert!(texts(&service["secrets"]).iter().any(|given| given == secret), "{name} is not given {secret}");
            }
        }
    }
    let home = Scratch::new("secrets");
    let made = make_secrets(home.path());
    for (name, secret) in compose()["secrets"].as_object().expect("there are secrets") {
        assert_eq!(secret["file"], format!("deploy/secrets/{name}"));
        assert!(made.join(name).is_file(), "deploy/make-secrets makes no {name}");
    }
    assert!(read(".gitignore").lines().any(|line| line == "/deploy/secrets"));
    assert!(read(".dockerignore").lines().any(|line| line == "/deploy"));
}

#[test]
fn secrets_are_made_once_and_for_their_owner_only() {
    let home = Scratch::new("secrets");
    let made = make_secrets(home.path());
    let mode = |name: &str| fs::metadata(made.join(name)).expect("it was made").permissions().mode() & 0o777;
    assert_eq!(mode(""), 0o700);
    assert_eq!(mode("s3_secret_key"), 0o444, "containers read it as users of their own");
    let read = |name: &str| fs::read_to_string(made.join(name)).expect("it was made");
    let all = ["database_url", "grafana_password", "htpasswd", "postgres_password", "s3_secret_key"];
    let before = all.map(read);
    assert!(before[3].len() >= 32 && before[3] != before[4], "{before:?}");
    assert_eq!(before[0], format!("postgres://longshore:{}@postgres/longshore", before[3]));
    let (user, hash) = before[2].trim().split_once(':').expect("a line of htpasswd");
    assert_eq!(user, USER);
    assert!(bcrypt::verify(PASSWORD, hash).expect("a hash of bcrypt"));
    make_secrets(home.path());
    assert_eq!(all.map(read), before);
}

/// `longshore config check` with exactly what a replica is given, but for where the secrets are.
#[test]
fn the_server_takes_every_setting() {
    let home = Scratch::new("settings");
    make_secrets(home.path());
    for name in ["longshore-1", "longshore-2"] {
        let given = replica_environment(name, home.path(), "0.0.0.0", "minio");
        assert!(given.iter().all(|(variable, _)| variable.starts_with("LONGSHORE_")), "{given:?}");
        let longshore = |action: &str| {
            let mut command = Command::new(Server::binary());
            command.env_clear().envs(given.clone()).args(["config", action]).stdin(Stdio::null());
            run(&mut command)
        };
        assert_eq!(longshore("check"), "the settings are fine\n", "{name}");
        let shown = longshore("show");
        for (variable, _) in &given {
            assert!(shown.contains(variable), "{variable} has no effect: {shown}");
        }
    }
    assert_eq!(environment(&service("longshore-1")), environment(&service("longshore-2")));
}

#[test]
fn the_database_has_room_for_all_connections_of_the_replicas() {
    // Postgres's own default; nothing in the compose file changes it.
    let allowed = 100_u64;
    assert!(service("postgres")["command"].is_null());
    let replicas = services().iter().filter(|(name, _)| name.starts_with("longshore-")).count() as u64;
    let each = yaml("config/longshore.yaml")["database"]["max_connections"].as_u64().expect("a number") + 1;
    assert!(replicas * each < allowed - 3, "{replicas} replicas of {each}, and three are kept for the superuser");
}

#[test]
fn networks_are_declared_and_the_database_is_reached_by_replicas_only() {
    let declared = compose()["networks"].as_object().cloned().unwrap_or_default();
    for (name, service) in services() {
        let joined = texts(&service["networks"]);
        assert!(
            !joined.is_empty() && joined.iter().all(|network| declared.contains_key(network)),
            "{name}: {joined:?}"
        );
        let may_reach_data = name.starts_with("longshore-") || name == "postgres" || name == "minio";
        assert_eq!(joined.iter().any(|network| network == "data"), may_reach_data, "{name}");
    }
    assert_eq!(declared["data"]["internal"], true);
}

#[test]
fn mounted_files_are_there() {
    for (name, service) in services() {
        for volume in texts(&service["volumes"]) {
            if let Some(file) = volume.strip_prefix("./").and_then(|rest| rest.split(':').next()) {
                assert!(path(file).exists(), "{name} mounts {file}");
                assert!(volume.ends_with(":ro"), "{name} must not write {file}");
            } else {
                let named = volume.split(':').next().unwrap_or_default();
                assert!(
                    compose()["volumes"].as_object().is_some_and(|all| all.contains_key(named)),
                    "{name}: {volume}"
                );
            }
        }
    }
}

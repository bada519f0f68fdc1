//! Secrets: read from anywhere, shown nowhere; and what `show` shows instead.

use super::{SettingsFile, load_environment};
use crate::{Loaded, Secret, Settings, show};

const URL: &str = "postgres://longshore:hunter2@db/longshore";

/// Everything that prints loaded settings.
fn everything_shown(loaded: &Loaded) -> String {
    format!("{loaded:?}\n{}\n{}", show(loaded), serde_json::to_string(&loaded.settings).unwrap())
}

#[test]
fn a_secret_comes_from_the_file_itself_a_file_or_the_environment() {
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("database");
    std::fs::write(&secret, format!("{URL}\n")).unwrap();
    let secret = secret.to_str().unwrap();

    let in_the_file = SettingsFile::new(&format!("database:\n  url: {URL}\n")).load(&[], &[]);
    let beside_the_file = SettingsFile::new(&format!("database:\n  url: {{ file: {secret} }}\n")).load(&[], &[]);
    let variable = load_environment(&[("LONGSHORE_DATABASE__URL", URL)]);
    let file_variable = load_environment(&[("LONGSHORE_DATABASE__URL_FILE", secret)]);

    for loaded in [in_the_file, beside_the_file, variable, file_variable] {
        let loaded = loaded.unwrap();
        assert_eq!(loaded.settings.database_url(), URL);
        let shown = everything_shown(&loaded);
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("postgres://longshore:********@db/longshore"), "{shown}");
    }
}

#[test]
fn both_ways_in_the_environment_are_refused() {
    let environment = [("LONGSHORE_DATABASE__URL", URL), ("LONGSHORE_DATABASE__URL_FILE", "/run/secrets/database")];
    assert_eq!(
        load_environment(&environment).unwrap_err().to_string(),
        "environment LONGSHORE_DATABASE__URL_FILE: database.url is already set by LONGSHORE_DATABASE__URL: \
         keep one of the two"
    );
}

#[test]
fn a_secret_file_that_cannot_be_read_is_named() {
    let complaint = |path: &str| load_environment(&[("LONGSHORE_DATABASE__URL_FILE", path)]).unwrap_err().to_string();
    assert_eq!(
        complaint("/nowhere/secret"),
        "environment LONGSHORE_DATABASE__URL_FILE: database.url: cannot read the secret from /nowhere/secret: \
         No such file or directory (os error 2)"
    );
    let directory = tempfile::tempdir().unwrap();
    let empty = directory.path().join("empty");
    std::fs::write(&empty, "\n").unwrap();
    assert_eq!(
        complaint(empty.to_str().unwrap()),
        format!(
            "environment LONGSHORE_DATABASE__URL_FILE: database.url: cannot read the secret from {}: the file is empty",
            empty.display()
        )
    );
}

#[test]
fn a_copy_of_the_settings_is_equal_and_debug_masks_the_secrets_of_both() {
    let settings = load_environment(&[("LONGSHORE_DATABASE__URL", URL)]).unwrap().settings;
    let mut copy = settings.clone();
    assert_eq!(copy, settings);
    for settings in [&settings, &copy] {
        let shown = format!("{settings:?} {settings:#?}");
        assert!(shown.contains("********") && !shown.contains("hunter2"), "{shown}");
    }

    // Two secrets look the same when they are shown, and are not equal for that.
    copy.database.url = Some(Secret::new(URL.replace("hunter2", "hunter3")));
    assert_eq!(format!("{copy:?}"), format!("{settings:?}"));
    assert_ne!(copy, settings);
}

#[test]
fn no_message_holds_a_secret() {
    let error = load_environment(&[("LONGSHORE_DATABASE__URL", "mysql://u:hunter2@db/x")]).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}

#[test]
fn show_names_the_origin_of_every_value_that_was_set() {
    let file = SettingsFile::new("http:\n  idle_timeout: 90s\n  tls:\n    certificate: a.pem\n    key: b.pem\n");
    let environment = [("LONGSHORE_AUTH__REALM", "Dock: #1"), ("LONGSHORE_HTTP__PROXIES", "10.0.0.0/8, fd00::/8")];
    let loaded = file.load(&environment, &[("limits.page_size", "9")]).unwrap();
    let shown = show(&loaded).replace(&format!("{}/", file.directory.path().display()), "");
    let expected = "\
http:
  address: 127.0.0.1:5000
  tls:
    certificate: a.pem  # longshore.yaml:4
    key: b.pem  # longshore.yaml:5
  header_timeout: 1m15s
  idle_timeout: 1m30s  # longshore.yaml:2
  drain_delay: 0s
  drain_timeout: 30s
  max_connections: 10000
  proxies: [10.0.0.0/8, fd00::/8]  # environment LONGSHORE_HTTP__PROXIES
  client_header: x-forwarded-for
database:
  url: null
  max_connections: 16
  acquire_timeout: 5s
  cache_size: 32MiB
  pull_statistics: 1m
storage:
  path: ./data
  inline_max: 16KiB
  cache_size: 512MiB
  upload_memory: 256MiB
  disk_cache: null
  s3: null
  gcs: null
  azure: null
  redirects: null
auth:
  htpasswd: null
  open: false
  realm: \"Dock: #1\"  # environment LONGSHORE_AUTH__REALM
limits:
  manifest_size: 4MiB
  blob_size: null
  page_size: 9  # flag
  ranges: 1024
  tags_per_push: 64
  quotas: []
manifests:
  sparse_indexes: refuse
gc:
  interval: 1m
  promise: 24h
  upload_expiry: 24h
  object_delay: 1h
  undo: 7d
  tag_history: 365d
  breaker: 10
  retention_interval: 1h
  tag_breaker: 50
  share: 50
  scrub_period: 30d
  scrub_rate: 64MiB
retention: []
immutable_tags: []
log:
  level: info
  format: auto
  access: true
metrics:
  enabled: true
  address: null
";
    assert_eq!(shown, expected);
}

#[test]
fn what_show_prints_can_be_loaded() {
    let file = SettingsFile::new(
        "log:\n  level: 'info # \"quoted\"'\nstorage:\n  path: \"a\\nb: *c\"\n  s3: { bucket: x }\n  \
         redirects: { networks: ['::/0'], repositories: ['**', '*/a'] }\n",
    );
    let loaded = file.load(&[], &[]).unwrap();
    let again: Settings = SettingsFile::new(&show(&loaded)).load(&[], &[]).unwrap().settings;
    assert_eq!(again, loaded.settings);
}

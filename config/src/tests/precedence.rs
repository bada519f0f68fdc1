//! Defaults < file < environment < flags, and what an absent value means.

use super::{SettingsFile, load_environment, load_yaml};
use crate::{ByteSize, ClientHeader, LogFormat, Origin, Settings, SparsePolicy};
use std::time::Duration;

#[test]
fn nothing_set_is_all_defaults() {
    let loaded = load_environment(&[]).unwrap();
    assert_eq!(loaded.settings, Settings::default());
    assert!(loaded.origins.values().all(|origin| *origin == Origin::Default));
    assert_eq!(loaded.origins.keys().cloned().collect::<Vec<_>>(), super::leaf_names());
}

#[test]
fn an_empty_file_is_all_defaults() {
    for yaml in ["", "\n", "# only a comment\n", "---\n", "http:\n", "http:\n  # address: 1.2.3.4:5\nlog:\n", "{}"] {
        assert_eq!(load_yaml(yaml), Settings::default(), "{yaml:?}");
    }
}

#[test]
fn later_sources_win_key_by_key() {
    let file = SettingsFile::new(
        "http:\n  address: 127.0.0.1:1\n  idle_timeout: 1m\n  drain_delay: 1s\n  header_timeout: 7s\n",
    );
    let environment = [("LONGSHORE_HTTP__ADDRESS", "127.0.0.1:2"), ("LONGSHORE_HTTP__IDLE_TIMEOUT", "2m")];
    let loaded = file.load(&environment, &[("http.address", "127.0.0.1:3")]).unwrap();

    let http = &loaded.settings.http;
    assert_eq!(http.address.port(), 3);
    assert_eq!(http.idle_timeout, Duration::from_secs(120));
    assert_eq!(http.drain_delay, Duration::from_secs(1));
    assert_eq!(http.drain_timeout, Duration::from_secs(30));

    assert_eq!(loaded.origins["http.address"], Origin::Flag);
    assert_eq!(loaded.origins["http.idle_timeout"], Origin::Environment("LONGSHORE_HTTP__IDLE_TIMEOUT".into()));
    assert_eq!(loaded.origins["http.drain_delay"], Origin::File { path: file.path(), line: 4, column: 16 });
    assert_eq!(loaded.origins["http.drain_timeout"], Origin::Default);
}

#[test]
fn every_type_is_read_from_a_file() {
    let settings = load_yaml(
        "http: { address: '127.0.0.1:0', max_connections: 7, tls: { certificate: a.pem, key: b.pem } }\n\
         storage: { path: /srv, inline_max: 0 }\n\
         auth: { realm: no }\n\
         limits: { blob_size: 10GB, manifest_size: 4194304 }\n\
         manifests: { sparse_indexes: allow }\n\
         gc: { promise: 1h30m }\n\
         log: { level: 'info,longshore_gc=debug', format: json, access: false }\n\
         metrics: { address: '[::1]:9090' }\n",
    );
    assert_eq!(settings.http.max_connections, 7);
    assert_eq!(settings.http.tls.unwrap().key.to_str(), Some("b.pem"));
    assert_eq!(settings.storage.inline_max.bytes(), 0);
    assert_eq!(settings.auth.realm, "no");
    assert_eq!(settings.limits.blob_size.unwrap().bytes(), 10_000_000_000);
    assert_eq!(settings.limits.manifest_size.bytes(), 4 << 20);
    assert_eq!(settings.manifests.sparse_indexes, SparsePolicy::Allow);
    assert_eq!(settings.gc.promise, Duration::from_secs(5400));
    assert_eq!(settings.log.format, LogFormat::Json);
    assert!(!settings.log.access);
    assert!(settings.metrics.address.unwrap().is_ipv6());
}

#[test]
fn lists_are_read_from_a_file_in_any_form() {
    for proxies in ["[10.0.0.0/8, '::1']", "\n  - 10.0.0.0/8\n  - ::1", "10.0.0.0/8, ::1"] {
        let settings = load_yaml(&format!("http:\n  client_header: forwarded\n  proxies: {proxies}\n"));
        let shown: Vec<String> = settings.http.proxies.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["10.0.0.0/8", "::1/128"], "{proxies}");
        assert_eq!(settings.http.client_header, ClientHeader::Forwarded);
    }
    assert_eq!(load_yaml("http: { proxies: [] }"), Settings::default());
}

#[test]
fn redirects_are_read_from_all_sources() {
    let file = SettingsFile::new(
        "storage:\n  s3: { bucket: x }\n  redirects:\n    networks: [10.0.0.0/8]\n    repositories: ['**', ml/*]\n",
    );
    let environment =
        [("LONGSHORE_STORAGE__REDIRECTS__REPOSITORIES", "ml/**"), ("LONGSHORE_STORAGE__REDIRECTS__FROM_SIZE", "8MiB")];
    let loaded = file.load(&environment, &[("storage.redirects.lifetime", "5m")]).unwrap();
    let redirects = loaded.settings.storage.redirects.unwrap();
    assert_eq!(redirects.networks, ["10.0.0.0/8".parse().unwrap()]);
    assert_eq!(redirects.repositories, ["ml/**".parse().unwrap()]);
    assert_eq!((redirects.from_size, redirects.lifetime), (ByteSize::mib(8), Duration::from_secs(300)));
    assert_eq!(redirects.endpoint, None);
}

#[test]
fn null_takes_a_value_back() {
    let file = SettingsFile::new("limits:\n  blob_size: 1GiB\n");
    for nothing in ["null", "", "~"] {
        let loaded = file.load(&[("LONGSHORE_LIMITS__BLOB_SIZE", nothing)], &[]).unwrap();
        assert_eq!(loaded.settings.limits.blob_size, None);
    }
}

#[test]
fn half_of_a_section_may_come_from_elsewhere() {
    let file = SettingsFile::new("http:\n  tls:\n    certificate: /etc/tls.crt\n");
    let loaded = file.load(&[("LONGSHORE_HTTP__TLS__KEY", "/run/tls.key")], &[]).unwrap();
    let tls = loaded.settings.http.tls.unwrap();
    assert_eq!((tls.certificate.to_str(), tls.key.to_str()), (Some("/etc/tls.crt"), Some("/run/tls.key")));
}

#[test]
fn the_database_lies_in_the_storage_directory_unless_it_is_named() {
    assert_eq!(Settings::default().database_url(), "sqlite:./data/longshore.db");
    assert_eq!(load_yaml("storage: { path: /srv }").database_url(), "sqlite:/srv/longshore.db");
    assert_eq!(load_yaml("database: { url: 'postgres://db/x' }").database_url(), "postgres://db/x");
}
